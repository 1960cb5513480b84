//! The sweeper.

use super::*;

#[tokio::test]
async fn what_cannot_be_looked_through_keeps_nothing_else_from_being_swept() {
    let dirs = ["uploads", "parts", "data", "gone", "probe", "new", "attributes"];
    for dir in dirs {
        let store = Simulated::new();
        let (s, script, second) = two(&store, None).await;
        s.upload("abandoned").await;
        s.put(KEY, large(1)).await;
        // Data of nobody's.
        let head = store.names(&format!("{}/", s.bucket)).remove(0);
        store.remove(&head);
        let backend = sweeper(&store, Some(&script)).await;
        let failing = format!(".t2/{dir}/");
        script.plan(move |when, call, path| {
            let fails = (when, call) == (When::Before, Call::List) && path == failing;
            fails.then(|| ready(Err(stays())).boxed())
        });
        backend.sweep(DAY).await.unwrap_err();
        assert_eq!(store.names(".t2/data/").is_empty(), dir != "data", "{dir}");
        let uploads = second.list_multipart_uploads(second.all_uploads()).await.unwrap();
        assert_eq!(uploads.entries.is_empty(), dir != "uploads", "{dir}");
    }
}

#[tokio::test(start_paused = true)]
async fn behind_what_is_damaged_the_sweeper_goes_on() {
    let store = Simulated::new();
    let (s, _, _) = two(&store, None).await;
    let mut data = Vec::new();
    for key in ["damaged", "gone"] {
        let before = store.names(".t2/data/");
        s.put(key, large(1)).await;
        let mut own = store.names(".t2/data/");
        own.retain(|name| !before.contains(name));
        data.push(own);
    }
    let heads = store.names(&format!("{}/", s.bucket));
    store.set(&heads[0], b"rubbish".to_vec());
    store.remove(&heads[1]);
    sweeper(&store, None).await.sweep(DAY).await.unwrap();
    // Of whom the damaged header does not say, so they stay.
    assert_eq!(store.names(".t2/data/"), data[0]);
}

/// Which upload comes first is chance: there are some behind each that cannot be ended.
#[tokio::test(start_paused = true)]
async fn behind_uploads_of_damaged_keys_the_sweeper_goes_on() {
    let store = Simulated::new();
    let (s, _, _) = two(&store, None).await;
    for _ in 0..3 {
        s.upload("damaged").await;
        s.upload("whole").await;
    }
    s.put("damaged", "old").await;
    let head = store.names(&format!("{}/", s.bucket)).remove(0);
    store.set(&head, b"rubbish".to_vec());
    sweeper(&store, None).await.sweep(DAY).await.unwrap();
    let left = s.list_multipart_uploads(s.all_uploads()).await.unwrap();
    let left: Vec<_> = left
        .entries
        .iter()
        .map(|entry| match entry {
            UploadEntry::Upload(upload) => upload.key.as_str(),
            UploadEntry::CommonPrefix(common) => common,
        })
        .collect();
    assert_eq!(left, ["damaged"; 3]);
}

/// A bucket is deleted by one gateway while another makes an object of an upload there: an object without a bucket, but no
/// broken one.
#[tokio::test]
async fn a_bucket_that_goes_while_an_upload_becomes_an_object_breaks_none() {
    let store = Simulated::new();
    let (s, script, second) = two(&store, None).await;
    let upload = s.upload(KEY).await;
    let parts = vec![s.part(&upload, 1, large(1)).await];
    let came = script.once(
        |when, call, path| (when, call) == (When::Before, Call::Write) && is_head(path),
        || {
            async move {
                second.delete_bucket(&second.bucket).await.unwrap();
                Ok(())
            }
            .boxed()
        },
    );
    s.complete(&upload, parts).await.unwrap();
    assert_eq!(came.load(Ordering::SeqCst), 1);
    // What lies there like a bucket becomes one for who adopts it.
    let adopting = OpendalOptions {
        adoption: s.owner.clone().into(),
        ..store.options(None)
    };
    let adopted = Subject::of(
        Arc::new(OpendalBackend::open(adopting).await.unwrap()),
        s.bucket.clone(),
    )
    .await;
    assert_eq!(read(&adopted).await, large(1));
}
