//! Every key on every file system: on the one that the tests have, and on ext4, XFS and tmpfs.

use std::process::Command;

use crate::{any_keys, dir_in_memory, mounted::Mounted, open_at};

#[test]
fn keys_of_all_kinds_are_kept_as_in_memory() {
    any_keys::check(|| {
        let root = dir_in_memory();
        (std::sync::Arc::new(open_at(root.path()).unwrap()), root)
    });
}

#[test]
#[ignore = "mounts file systems: needs root, loop devices, mkfs.ext4 and mkfs.xfs"]
fn hostile_keys_on_ext4_xfs_and_tmpfs() {
    for (kind, mounted) in [
        ("ext4", Mounted::image("ext4", "300M")),
        ("xfs", Mounted::image("xfs", "400M")),
        ("tmpfs", Mounted::tmpfs("size=300m")),
    ] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["hostile", "keys::", "keys_of_all_kinds", "every_file_of_others"])
            .args(["--skip", "overlay::", "--skip", "shared::"])
            .env("TMPDIR", mounted.path())
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{kind}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for ran in [
            "keys_of_all_kinds_are_kept_as_in_memory ... ok",
            "every_file_of_others_is_one_object_and_every_key_one_file ... ok",
            "a_hostile_key_alone_works_in_every_operation ... ok",
        ] {
            assert!(said.contains(ran), "{kind}: {said}");
        }
    }
}
