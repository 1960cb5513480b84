//! Keys that storage layers stumble over.

use super::Subject;
use crate::{BackendError, ObjectBody};

/// Keys of every kind that has ever been folded, trimmed, resolved, unescaped or refused somewhere.
pub fn hostile() -> Vec<String> {
    let mut keys: Vec<String> = [
        // A key that is also a directory, and what sorts around it.
        "a",
        "a/b",
        "a/b/c",
        "a-",
        "a.b",
        "a0",
        "a/",
        "a//",
        "a//b",
        "a/b/",
        "/a",
        "/",
        "//",
        "///",
        "/a/",
        "//a//b//",
        // What a path would resolve.
        ".",
        "..",
        "./",
        "../",
        "./a",
        "../a",
        "../../../../etc/passwd",
        "a/.",
        "a/..",
        "a/./b",
        "a/../b",
        "...",
        "a/...",
        ".a",
        "/../a",
        "/./",
        "..a",
        "a..",
        // White space and controls.
        " ",
        "  ",
        " a",
        "a ",
        "a /b ",
        " /",
        "\t",
        "a\nb",
        "\r\n",
        "a\r",
        "\u{1}",
        "\u{7f}",
        "\u{a0}",
        "a\u{85}",
        "\u{feff}a",
        // Names that a backend may want for itself.
        ".t2",
        ".t2/",
        ".t2/a",
        ".t2=",
        ".t2=x",
        ".t2x",
        ".t2=a/b",
        "a/.t2",
        "a/.t2=x/b",
        ".t2/uploads/x",
        ".t2.2e",
        ".T2",
        ".T2=x",
        ".t2!",
        ".t2!a",
        ".t2!a/b",
        ".t2+",
        ".t2+a",
        ".t2+a/b",
        ".T2!a",
        ".t2=.",
        ".t2=..",
        ".t2=a=3D",
        ".t2=%2F",
        ".t2==",
        ".tmp",
        ".nfs0000",
        "lost+found",
        ".DS_Store",
        "#x#",
        "x~",
        // Other people's escapes and separators.
        "%",
        "%2F",
        "a%2Fb",
        "%2f",
        "%00",
        "%252F",
        "a\\b",
        "\\",
        "C:\\a",
        "a:b",
        "CON",
        "nul.txt",
        "a.",
        "a|b",
        "a*b",
        "?",
        "a?b=c&d",
        "#",
        "a#b",
        "=",
        "a=b",
        "=3D",
        "+",
        "a+b",
        "a b",
        "&amp;",
        "<a>",
        "\"",
        "'",
        "`",
        "$HOME",
        "~",
        "~root",
        "-",
        "--",
        "-rf",
        "{}",
        "@",
        "!",
        ";",
        ",",
        "^",
        "[a]",
        // Letters: composed and decomposed, cases, the far ends of Unicode.
        "\u{e9}",
        "e\u{301}",
        "\u{c9}",
        "K",
        "\u{212a}",
        "k",
        "A",
        "A/b",
        "A/B",
        "a/B",
        "stra\u{df}e",
        "STRASSE",
        "\u{fb01}",
        "fi",
        "\u{130}",
        "i\u{307}",
        "日本語/キー",
        "\u{1f980}",
        "\u{10ffff}",
        "\u{fffd}",
        "\u{ffff}",
        "\u{200b}",
        "\u{202e}a",
        "\u{e000}",
        "\u{d7ff}",
    ]
    .map(str::to_owned)
    .into();
    keys.extend([
        "s".repeat(1024),
        "s".repeat(1023),
        "n".repeat(255),
        "n".repeat(256),
        format!("{}/{}", "n".repeat(255), "n".repeat(256)),
        "é".repeat(512),
        "\u{1f980}".repeat(64),
        vec!["d"; 512].join("/"),
        format!("{}/", vec!["e"; 511].join("/")),
        "/".repeat(1024),
        "../".repeat(341),
        "%".repeat(1024),
        "\n".repeat(255),
        ".".repeat(255),
        ".t2=".repeat(64),
        format!(".t2!{}", "x".repeat(251)),
        format!(".t2={}", "x".repeat(252)),
        format!("{}/x", "p".repeat(300)),
        format!("{}/x", "p".repeat(255)),
        format!("{}=", "p".repeat(251)),
    ]);
    keys
}

/// `false` where the backend refuses the key, as it may.
async fn put(s: &Subject, key: &str, bytes: String) -> bool {
    match s.put_body(key, ObjectBody::from_bytes(bytes)).await {
        Ok(info) => {
            assert_eq!(info.key.as_str(), key);
            true
        }
        Err(BackendError::UnsupportedKey(_)) => false,
        Err(other) => panic!("{key:?}: {other:?}"),
    }
}

/// Puts all, gives those that the backend holds, sorted.
pub(super) async fn put_all(s: &Subject, keys: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut held = Vec::new();
    for key in keys {
        if put(s, &key, format!("bytes of {key}")).await {
            held.push(key);
        }
    }
    held.sort_unstable();
    held
}

async fn assert_holds(s: &Subject, keys: &[String]) {
    assert_eq!(s.all_keys().await, keys);
    for key in keys {
        let bytes = s.get(key).await;
        assert_eq!(bytes.as_deref(), Some(format!("bytes of {key}").as_bytes()), "{key:?}");
    }
}

pub async fn a_hostile_key_alone_works_in_every_operation(s: Subject) {
    for key in hostile() {
        if !put(&s, &key, "first".into()).await {
            assert!(s.all_keys().await.is_empty(), "{key:?} was refused, and is there");
            continue;
        }
        assert_eq!(s.info(&key).await.key.as_str(), key);
        assert_eq!(s.all_keys().await, std::slice::from_ref(&key));
        assert!(put(&s, &key, "second".into()).await);
        assert_eq!(s.get(&key).await.unwrap(), "second", "{key:?}");
        let page = s
            .list_objects(crate::ListObjects {
                prefix: key.clone().into(),
                ..s.everything()
            })
            .await
            .unwrap();
        assert_eq!(page.entries.len(), 1, "{key:?} as a prefix");
        assert!(s.delete(&key).await.existed, "{key:?}");
        assert!(s.get(&key).await.is_none(), "{key:?}");
        assert!(s.all_keys().await.is_empty(), "{key:?}");
    }
    s.delete_emptied_bucket().await;
}

pub async fn hostile_keys_live_together(s: Subject) {
    let keys = put_all(&s, hostile()).await;
    assert_holds(&s, &keys).await;
}

pub async fn hostile_keys_live_together_in_whatever_order_they_come(s: Subject) {
    let mut backwards = hostile();
    backwards.sort_unstable_by(|a, b| b.cmp(a));
    let keys = put_all(&s, backwards).await;
    assert_holds(&s, &keys).await;
    let twice = put_all(&s, keys.clone()).await;
    assert_eq!(twice, keys);
    assert_holds(&s, &keys).await;
}

pub async fn deleting_one_hostile_key_leaves_the_others(s: Subject) {
    let mut keys = put_all(&s, hostile()).await;
    for step in [3, 2, 1] {
        let mut index = 0;
        let (deleted, kept) = keys.into_iter().partition::<Vec<_>, _>(|_| {
            index += 1;
            index % step == 0
        });
        for key in &deleted {
            assert!(s.delete(key).await.existed, "{key:?}");
            assert!(s.get(key).await.is_none(), "{key:?}");
        }
        assert_holds(&s, &kept).await;
        keys = kept;
    }
    s.delete_emptied_bucket().await;
}

pub async fn a_key_may_be_the_directory_of_another(s: Subject) {
    for order in [["a", "a/b", "a/b/c"], ["a/b/c", "a/b", "a"], ["a/b", "a/b/c", "a"]] {
        let keys = put_all(&s, order.map(str::to_owned)).await;
        assert_holds(&s, &keys).await;
        for key in order {
            assert!(s.delete(key).await.existed);
            let rest: Vec<String> = keys.iter().filter(|k| order_after(&order, key, k)).cloned().collect();
            assert_holds(&s, &rest).await;
        }
    }
}

/// Whether `other` comes after `key` in `order`.
fn order_after(order: &[&str], key: &str, other: &str) -> bool {
    let place = |k: &str| order.iter().position(|o| *o == k);
    place(other) > place(key)
}

pub async fn a_key_that_ends_in_a_slash_holds_bytes(s: Subject) {
    let keys = put_all(&s, ["dir/", "dir", "dir/x", "dir//"].map(str::to_owned)).await;
    assert_holds(&s, &keys).await;
    s.delete("dir/x").await;
    s.delete("dir").await;
    let slashed: Vec<String> = keys.into_iter().filter(|key| key.ends_with('/')).collect();
    assert_holds(&s, &slashed).await;
}

pub async fn keys_that_fold_together_stay_apart(s: Subject) {
    let groups = [
        ["key", "KEY", "Key"],
        ["\u{e9}/x", "e\u{301}/x", "\u{c9}/x"],
        ["dir/x", "DIR/x", "dir/X"],
        ["k", "\u{212a}", "K"],
    ];
    for group in groups {
        let keys = put_all(&s, group.map(str::to_owned)).await;
        assert_holds(&s, &keys).await;
        for key in &keys {
            assert!(s.delete(key).await.existed);
        }
    }
    assert!(s.all_keys().await.is_empty());
}

pub async fn hostile_keys_can_be_uploaded_in_parts(s: Subject) {
    for key in hostile() {
        let upload_id = match s.create_multipart_upload(s.create_upload_request(&key)).await {
            Ok(upload_id) => upload_id,
            Err(BackendError::UnsupportedKey(_)) => continue,
            Err(other) => panic!("{key:?}: {other:?}"),
        };
        let upload = s.upload_ref(&key, upload_id);
        let parts = vec![s.part(&upload, 1, "one").await, s.part(&upload, 2, "two").await];
        let page = s.list_multipart_uploads(s.all_uploads()).await.unwrap();
        let [crate::UploadEntry::Upload(listed)] = &page.entries[..] else {
            panic!("{key:?}: {page:?}");
        };
        assert_eq!(listed.key.as_str(), key);
        match s.complete(&upload, parts).await {
            Ok(info) => {
                assert_eq!(info.key.as_str(), key);
                assert_eq!(s.get(&key).await.unwrap(), "onetwo");
                assert_eq!(s.all_keys().await, std::slice::from_ref(&key));
                s.delete(&key).await;
            }
            Err(BackendError::UnsupportedKey(_)) => s.abort_multipart_upload(&upload).await.unwrap(),
            Err(other) => panic!("{key:?}: {other:?}"),
        }
    }
    s.delete_emptied_bucket().await;
}
