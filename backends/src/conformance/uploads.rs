//! ListParts and ListMultipartUploads, page by page.

use super::{Subject, subject::part_number};
use crate::{ListMultipartUploads, ListParts, MultipartUpload, ObjectBody, Part, UploadEntry, UploadId, UploadRef};

fn list(upload: &UploadRef, part_number_marker: u16, max_parts: usize) -> ListParts {
    ListParts {
        upload: upload.clone(),
        part_number_marker,
        max_parts,
    }
}

pub async fn parts_are_listed_by_number(s: Subject) {
    let upload = s.upload("key").await;
    let mut parts: Vec<Part> = Vec::new();
    for (number, bytes) in [(10_000, "last"), (2, "two"), (10, ""), (1, "one")] {
        let body = ObjectBody::from_bytes(bytes);
        parts.push(s.upload_part(&upload, part_number(number), body).await.unwrap());
    }
    parts.sort_by_key(|part| part.part_number);
    let page = s.list_parts(list(&upload, 0, 100)).await.unwrap();
    assert_eq!(page.parts, parts);
    assert!(!page.is_truncated);
    let first = s.list_parts(list(&upload, 0, 4)).await.unwrap();
    assert!(!first.is_truncated);
    let after = s.list_parts(list(&upload, 9, 100)).await.unwrap();
    assert_eq!(after.parts, parts[2..]);
    let none = s.list_parts(list(&upload, 10_000, 100)).await.unwrap();
    assert!(none.parts.is_empty() && !none.is_truncated);
    let nothing = s.list_parts(list(&upload, 0, 0)).await.unwrap();
    assert!(nothing.parts.is_empty() && !nothing.is_truncated);
}

pub async fn pages_of_parts_of_any_size_give_each_once(s: Subject) {
    let upload = s.upload("key").await;
    let numbers = [1, 2, 3, 5, 8, 13, 21];
    for number in numbers {
        s.part(&upload, number, format!("part {number}")).await;
    }
    for size in 1..=numbers.len() + 1 {
        let mut seen: Vec<u16> = Vec::new();
        loop {
            let marker = seen.last().copied().unwrap_or(0);
            let page = s.list_parts(list(&upload, marker, size)).await.unwrap();
            assert!(page.parts.len() == size || !page.is_truncated);
            seen.extend(page.parts.iter().map(|part| part.part_number.get()));
            if !page.is_truncated {
                break;
            }
        }
        assert_eq!(seen, numbers, "pages of {size}");
    }
}

/// What stands in a listing for an entry: a key with an upload id, or a common prefix.
type Name = (String, Option<UploadId>);

fn name(entry: &UploadEntry) -> Name {
    match entry {
        UploadEntry::Upload(upload) => (upload.key.as_str().to_owned(), Some(upload.upload_id.clone())),
        UploadEntry::CommonPrefix(prefix) => (prefix.to_string(), None),
    }
}

/// All entries, read in pages of `size`.
async fn pages(s: &Subject, request: &ListMultipartUploads, size: usize) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    let mut next = ListMultipartUploads {
        max_uploads: size,
        ..request.clone()
    };
    loop {
        let page = s.list_multipart_uploads(next.clone()).await.unwrap();
        assert!(page.entries.len() <= size);
        assert!(page.entries.len() == size || !page.is_truncated);
        names.extend(page.entries.iter().map(name));
        if !page.is_truncated {
            return names;
        }
        let (key, id) = names.last().cloned().expect("a truncated page has entries");
        next.key_marker = Some(key.into());
        next.upload_id_marker = id;
    }
}

/// Several uploads of several keys, in the order that a listing has.
async fn some_uploads(s: &Subject) -> Vec<MultipartUpload> {
    let mut uploads = Vec::new();
    let keys = [
        "b",
        "a/2",
        "a",
        "dir/x",
        "a/1",
        "a/1",
        "dir/sub/y",
        "a/1",
        "dir//z",
        "b",
        "a-",
    ];
    for key in s.held(keys).await {
        let upload = s.upload(key).await;
        uploads.push(s.head_multipart_upload(&upload).await.unwrap());
    }
    uploads.sort_by(|a, b| (&a.key, a.initiated, &a.upload_id).cmp(&(&b.key, b.initiated, &b.upload_id)));
    uploads
}

fn names_of(uploads: &[MultipartUpload]) -> Vec<Name> {
    uploads
        .iter()
        .cloned()
        .map(|upload| name(&UploadEntry::Upload(upload)))
        .collect()
}

pub async fn uploads_are_listed_by_key_then_time(s: Subject) {
    let uploads = some_uploads(&s).await;
    let page = s.list_multipart_uploads(s.all_uploads()).await.unwrap();
    let expected: Vec<UploadEntry> = uploads.into_iter().map(UploadEntry::Upload).collect();
    assert_eq!(page.entries, expected);
    assert!(!page.is_truncated);
}

pub async fn uploads_are_rolled_up_by_delimiter(s: Subject) {
    let uploads = some_uploads(&s).await;
    let of = |key: &str| {
        names_of(
            &uploads
                .iter()
                .filter(|u| u.key.as_str() == key)
                .cloned()
                .collect::<Vec<_>>(),
        )
    };
    // Of what the backend holds.
    let common = |prefix: &str| -> Vec<Name> {
        let there = uploads.iter().any(|u| u.key.as_str().starts_with(prefix));
        there.then(|| (prefix.to_owned(), None)).into_iter().collect()
    };
    let cases = [
        (
            "",
            "/",
            [of("a"), of("a-"), common("a/"), of("b"), common("dir/")].concat(),
        ),
        ("a", "/", [of("a"), of("a-"), common("a/")].concat()),
        ("a/", "/", [of("a/1"), of("a/2")].concat()),
        ("dir/", "/", [common("dir//"), common("dir/sub/"), of("dir/x")].concat()),
        ("dir", "//", [common("dir//"), of("dir/sub/y"), of("dir/x")].concat()),
        ("nothing", "/", vec![]),
    ];
    for (prefix, delimiter, expected) in cases {
        let request = ListMultipartUploads {
            prefix: prefix.into(),
            delimiter: Some(delimiter.into()),
            ..s.all_uploads()
        };
        for size in [1, 2, 3, 100] {
            assert_eq!(
                pages(&s, &request, size).await,
                expected,
                "pages of {size}, {request:?}"
            );
        }
    }
}

pub async fn pages_of_uploads_of_any_size_give_each_once(s: Subject) {
    let expected = names_of(&some_uploads(&s).await);
    for size in 1..=expected.len() + 1 {
        assert_eq!(pages(&s, &s.all_uploads(), size).await, expected, "pages of {size}");
    }
}

pub async fn a_key_marker_alone_leaves_out_all_uploads_of_the_key(s: Subject) {
    let uploads = names_of(&some_uploads(&s).await);
    for marker in ["", "a", "a-", "a/", "a/1", "a/15", "b", "dir/", "zzz"] {
        let request = ListMultipartUploads {
            key_marker: Some(marker.into()),
            ..s.all_uploads()
        };
        let expected: Vec<Name> = uploads
            .iter()
            .filter(|(key, _)| key.as_str() > marker)
            .cloned()
            .collect();
        assert_eq!(pages(&s, &request, 100).await, expected, "after {marker:?}");
    }
}

pub async fn an_upload_id_marker_without_a_key_marker_is_ignored(s: Subject) {
    let uploads = names_of(&some_uploads(&s).await);
    let request = ListMultipartUploads {
        upload_id_marker: uploads[3].1.clone(),
        ..s.all_uploads()
    };
    assert_eq!(pages(&s, &request, 100).await, uploads);
}

pub async fn aborting_page_by_page_reaches_every_upload(s: Subject) {
    for _ in 0..5 {
        s.upload("key").await;
    }
    s.upload("other").await;
    let mut request = ListMultipartUploads {
        max_uploads: 2,
        ..s.all_uploads()
    };
    loop {
        let page = s.list_multipart_uploads(request.clone()).await.unwrap();
        for entry in &page.entries {
            let UploadEntry::Upload(upload) = entry else {
                panic!("{entry:?}");
            };
            let upload_ref = s.upload_ref(upload.key.as_str(), upload.upload_id.clone());
            s.abort_multipart_upload(&upload_ref).await.unwrap();
            request.key_marker = Some(upload.key.as_str().into());
            request.upload_id_marker = Some(upload.upload_id.clone());
        }
        if !page.is_truncated {
            break;
        }
    }
    assert!(pages(&s, &s.all_uploads(), 100).await.is_empty());
}

pub async fn a_page_of_uploads_is_truncated_only_where_more_follows(s: Subject) {
    let count = some_uploads(&s).await.len();
    for (max_uploads, truncated) in [(count - 1, true), (count, false), (count + 1, false), (0, false)] {
        let request = ListMultipartUploads {
            max_uploads,
            ..s.all_uploads()
        };
        let page = s.list_multipart_uploads(request).await.unwrap();
        assert_eq!(page.is_truncated, truncated, "{max_uploads}");
        assert_eq!(page.entries.len(), max_uploads.min(count));
    }
}
