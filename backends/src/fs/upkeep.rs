//! What is done from time to time: uploads that nobody goes on with are ended, and what a crash left of completed ones;
//! what other processes leave when they are killed is removed.

use std::{
    sync::{
        Arc, Weak,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use rustix::io::Errno;

use super::{
    Store,
    bucket::Bucket,
    dir::{self, Meta},
    error::Error,
    multipart::{Upload, claimed, load_upload},
};
use crate::{BackendError, Timestamp, UploadId, UploadRef};

/// The time between two rounds, and before the first, so that a start is not slowed down by it.
const INTERVAL: Duration = Duration::from_mins(1);
/// In each round what processes have left that have ended; in the first of so many abandoned uploads too.
const ROUNDS: usize = 60;

/// Goes on as long as this is held.
#[derive(Debug)]
pub(super) struct Upkeep {
    #[expect(dead_code, reason = "held, never used: the thread ends when it goes")]
    end: mpsc::Sender<()>,
}

impl Upkeep {
    /// Starts the thread that does it.
    pub(super) fn start(store: &Arc<Store>) -> Result<Self, std::io::Error> {
        let (end, ended) = mpsc::channel();
        let store = Arc::downgrade(store);
        thread::Builder::new()
            .name("t2gate-upkeep".to_owned())
            .spawn(move || run(&store, &ended))?;
        Ok(Self { end })
    }
}

fn run(store: &Weak<Store>, ended: &mpsc::Receiver<()>) {
    for round in 0_usize.. {
        if ended.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let Some(store) = store.upgrade() else {
            return;
        };
        match store.sweep_peers() {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "cleared what processes left that have ended"),
            Err(error) => tracing::warn!(%error, "could not clear what processes left that have ended"),
        }
        if round % ROUNDS > 0 {
            continue;
        }
        match store.sweep_uploads() {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "ended multipart uploads that were abandoned"),
            Err(error) => tracing::warn!(%error, "could not look for abandoned multipart uploads"),
        }
    }
}

impl Store {
    /// How many uploads were ended.
    pub(super) fn sweep_uploads(&self) -> Result<usize, Error> {
        self.durable.check_writable()?;
        let mut swept = 0;
        for bucket in self.all_buckets()? {
            let uploads = match self.uploads_of(&bucket.name) {
                Err(Errno::NOENT) => continue,
                outcome => outcome.and_then(|uploads| Ok((dir::names(&uploads)?, uploads))),
            };
            let (ids, uploads) = match uploads {
                Ok(uploads) => uploads,
                // One that cannot be read must not keep the others.
                Err(error) => {
                    tracing::warn!(%error, bucket = %bucket.name, "could not list multipart uploads");
                    continue;
                }
            };
            for id in ids {
                let Ok(id) = UploadId::parse(id) else {
                    continue;
                };
                let info = match load_upload(&uploads, &id) {
                    Ok(upload) => upload.info,
                    Err(Error::Answer(BackendError::NoSuchUpload)) => continue,
                    Err(error) => {
                        tracing::warn!(%error, upload = id.as_str(), "could not look at a multipart upload");
                        continue;
                    }
                };
                let upload = UploadRef {
                    bucket: bucket.name.clone(),
                    key: info.key,
                    upload_id: id,
                };
                match self.sweep_upload(&bucket, &upload, info.initiated) {
                    Ok(true) => swept += 1,
                    Ok(false) | Err(Error::Answer(BackendError::NoSuchUpload | BackendError::NoSuchBucket)) => {}
                    // Nothing may be changed any more.
                    Err(error @ Error::Answer(BackendError::ReadOnly)) => return Err(error),
                    Err(error) => {
                        let upload = upload.upload_id.as_str();
                        tracing::warn!(%error, upload, "could not look whether a multipart upload is abandoned");
                    }
                }
            }
        }
        Ok(swept)
    }

    fn sweep_upload(&self, bucket: &Bucket, upload: &UploadRef, initiated: Timestamp) -> Result<bool, Error> {
        let lock = self.upload_locks.of(&upload.upload_id);
        // What is busy is not abandoned.
        let Some(mut alone) = self.try_alone(&lock, upload)? else {
            return Ok(false);
        };
        let there = self.open_upload(upload)?;
        let claimed = claimed(&there.dir, &lock).map_err(Error::io("could not look at an upload"))?;
        // One that has ended is there still where it could not be removed.
        if !claimed.is_empty() {
            return Ok(false);
        }
        let is_done = self.completed(bucket, upload)?.is_some();
        if !is_done && !self.is_abandoned(&there, initiated)? {
            return Ok(false);
        }
        if is_done {
            // Perhaps before the object was durable, whose parts go now.
            self.durable.after_all_that_is_visible(&self.root)?;
        }
        *alone.ended = true;
        self.drop_upload(upload)?;
        Ok(!is_done)
    }

    /// Whether no part has come for so long.
    fn is_abandoned(&self, there: &Upload, initiated: Timestamp) -> Result<bool, Error> {
        let failed = || Error::io("could not look at an upload");
        let Some(age) = self.abandoned_upload_age else {
            return Ok(false);
        };
        let mut last = initiated.max(Meta::of(&there.dir).map_err(failed())?.last_modified());
        for name in dir::names(&there.dir).map_err(failed())? {
            match Meta::in_dir(&there.dir, &name) {
                Ok(meta) => last = last.max(meta.last_modified()),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(failed()(error)),
            }
        }
        let since = i128::from(self.clock.now().unix_nanos()) - i128::from(last.unix_nanos());
        Ok(u128::try_from(since).is_ok_and(|since| since > age.as_nanos()))
    }
}
