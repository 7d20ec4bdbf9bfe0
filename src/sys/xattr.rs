//! Extended attributes of open files: xattr(7).

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno as Number;

use super::{Errno, Result, check};

/// Most bytes of all names, and of one value; limits of the kernel (linux/limits.h).
const MOST_BYTES: usize = 65536;

/// Names of all attributes of a file; flistxattr(2). A file system without attributes has none.
///
/// # Errors
/// As flistxattr(2).
pub fn list(file: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let none: *mut libc::c_char = std::ptr::null_mut();
    // Most files have none: this first call then is the only one.
    // SAFETY: a null buffer of length 0 asks for the length alone.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), none, 0) };
    match check("flistxattr", length as libc::c_long) {
        Ok(0) | Err(Errno { errno: Number::EOPNOTSUPP, .. }) => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = vec![0u8; MOST_BYTES];
    // SAFETY: the buffer has the length that is given.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    let length = check("flistxattr", length as libc::c_long)?;
    names.truncate(usize::try_from(length).unwrap_or_default());
    Ok(names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
        .collect())
}

/// The value of an attribute, or `None` where the file has none of this name; fgetxattr(2).
///
/// # Errors
/// As fgetxattr(2).
pub fn get(file: BorrowedFd<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    let none: *mut libc::c_void = std::ptr::null_mut();
    // SAFETY: the name is NUL-terminated; a null buffer of length 0 asks for the length alone.
    let length = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), none, 0) };
    match check("fgetxattr", length as libc::c_long) {
        Err(Errno { errno: Number::ENODATA | Number::EOPNOTSUPP, .. }) => return Ok(None),
        other => other?,
    };
    let mut value = vec![0u8; MOST_BYTES];
    // SAFETY: the name is NUL-terminated, and the buffer has the length that is given.
    let length = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let length = check("fgetxattr", length as libc::c_long)?;
    value.truncate(usize::try_from(length).unwrap_or_default());
    Ok(Some(value))
}

/// Sets an attribute; fsetxattr(2).
///
/// # Errors
/// ENOSPC where the file system is full, EOPNOTSUPP where it has no such attributes.
pub fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: the name is NUL-terminated, and the value has the length that is given.
    let status = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check("fsetxattr", libc::c_long::from(status)).map(drop)
}
