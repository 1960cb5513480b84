//! Directories that were under the root before the gateway.

use rustix::io::Errno;

use super::{
    Store,
    dir::{self, Meta},
    error::Error,
};
use crate::{Adoption, BucketInfo, BucketName, CannedAcl};

impl Store {
    /// Looks for directories that are nobody's bucket and could be one. Those that have an owner become private
    /// buckets of that account. The names of the others are given back, in order: nobody sees them.
    pub(super) fn adopt(&self, adoption: &Adoption) -> Result<Vec<BucketName>, Error> {
        let failed = |source: Errno| Error::io("could not look for directories under the root")(source);
        // What another process is just making is no directory from before.
        let _serial = self.administer()?;
        let mut unclaimed = Vec::new();
        for name in dir::names(&self.root).map_err(failed)? {
            let Ok(name) = BucketName::parse(name) else { continue };
            if self.bucket(&name).is_ok() {
                continue;
            }
            match Meta::in_dir(&self.root, name.as_str()) {
                Ok(meta) if meta.is_dir() => unclaimed.push(name),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        unclaimed.sort();
        let mut nobodys = Vec::new();
        for bucket in unclaimed {
            let Some(owner) = adoption.owner(&bucket) else {
                nobodys.push(bucket);
                continue;
            };
            let info = BucketInfo {
                bucket,
                owner: owner.clone(),
                created: self.clock.now(),
                acl: CannedAcl::Private,
                versioning: None,
            };
            self.put_leftovers_away(&info.bucket)?;
            self.make(&info)?;
            tracing::info!(bucket = %info.bucket, %owner, "a directory that was there is a bucket now");
        }
        Ok(nobodys)
    }
}
