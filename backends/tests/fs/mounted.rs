//! File systems of a test's own, which only root may mount.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Mounted until this is dropped.
pub(crate) struct Mounted {
    dir: TempDir,
}

impl Mounted {
    /// By a shell script whose `$1` is a directory in which `mounted` is to become the file system, and `image` may be one.
    pub(crate) fn by(script: &str) -> Self {
        let mounted = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        // Tests may go on as somebody else.
        fs::set_permissions(mounted.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(mounted.path()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-e", "-c", script, "sh"]).arg(mounted.dir.path());
        let made = command.output().unwrap();
        assert!(made.status.success(), "{script}: {made:?}");
        mounted
    }

    /// In memory, with these options.
    pub(crate) fn tmpfs(options: &str) -> Self {
        Self::by(&format!("mount -t tmpfs -o {options} none \"$1/mounted\""))
    }

    /// In a file of so many bytes, as `truncate` understands them. With room for attributes, which a small ext4 has not unless
    /// it is told.
    pub(crate) fn image(kind: &str, size: &str) -> Self {
        let make = match kind {
            "ext4" => "mkfs.ext4 -b 4096".to_owned(),
            kind => format!("mkfs.{kind}"),
        };
        Self::by(&format!(
            "truncate -s {size} \"$1/image\"; {make} -q \"$1/image\"; mount -o loop \"$1/image\" \"$1/mounted\""
        ))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(umount(&self.path()));
    }
}

fn umount(path: &Path) -> std::io::Result<std::process::Output> {
    Command::new("umount").arg(path).output()
}
