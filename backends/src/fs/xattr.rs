//! Extended attributes in the `user.` namespace, which a process without privileges may set.

use rustix::{fd::AsFd, fs, io::Errno};

use super::crash::{self, Call};

/// Sets one, in place of what has this name.
pub(super) fn set(file: impl AsFd, name: &str, value: &[u8]) -> Result<(), Errno> {
    crash::xattr_fault(value.len())?;
    fs::fsetxattr(file, name, value, fs::XattrFlags::empty())
}

/// Reads one into the room that `bytes` has, behind what it holds. RANGE where that is too little, NODATA where there is
/// none.
pub(super) fn get(file: impl AsFd, name: &str, bytes: &mut Vec<u8>) -> Result<usize, Errno> {
    crash::xattr_fault(0)?;
    crash::fault(Call::Look)?;
    fs::fgetxattr(file, name, rustix::buffer::spare_capacity(bytes))
}

pub(super) fn is_there(file: impl AsFd, name: &str) -> bool {
    crash::xattr_fault(0).is_ok() && crash::fault(Call::Look).is_ok() && fs::fgetxattr_query(file, name).is_ok()
}

pub(super) fn remove(file: impl AsFd, name: &str) -> Result<(), Errno> {
    crash::xattr_fault(0)?;
    fs::fremovexattr(file, name)
}
