//! Moving bytes from pipes into memory files: splice(2), memfd_create(2), fallocate(2), lseek(2); and what is
//! left in a pipe: ioctl(2).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, lseek};

use super::{Call, Result, check};

/// A memory file that can grow, with a name for `/proc`; memfd_create(2).
///
/// # Errors
/// ENOMEM, EMFILE.
pub fn memory_file(name: &std::ffi::CStr) -> Result<OwnedFd> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC).call("memfd_create")
}

/// Moves at most `most` bytes, of which one side is a pipe, each side at its own offset; splice(2)
/// with SPLICE_F_NONBLOCK. A file's offset advances within the call: whoever shares the open file
/// sees bytes and offset together, even where the caller is killed. 0 is the end of the input.
///
/// # Errors
/// EAGAIN where there is nothing, or no room in the pipe that is written. Of a terminal's master: EIO
/// where nobody holds the other side; EINVAL where the other descriptor is no pipe.
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> Result<usize> {
    let (none, flags) = (std::ptr::null_mut(), libc::SPLICE_F_NONBLOCK);
    // SAFETY: null offsets are allowed and mean those of the files; the rest are integers.
    let status = unsafe { libc::splice(from.as_raw_fd(), none, to.as_raw_fd(), none, most, flags) };
    let moved = check("splice", libc::c_long::try_from(status).expect("ssize_t is a long on Linux"))?;
    Ok(usize::try_from(moved).expect("negative values are errors"))
}

/// How many bytes were written to a pipe and not read yet; either end may ask. ioctl(2) with FIONREAD, pipe(7).
///
/// # Errors
/// ENOTTY for what is no pipe.
pub fn unread(pipe: BorrowedFd<'_>) -> Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int to the address that it is given, which is that of a live one of ours.
    let status = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    check("ioctl", status.into())?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Gives back the memory of a range of a file, which reads as zeros from then on; whole pages only.
/// The file's size stays. fallocate(2) with FALLOC_FL_PUNCH_HOLE.
///
/// # Errors
/// As fallocate(2).
pub fn punch_hole(file: BorrowedFd<'_>, start: u64, length: u64) -> Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, start.cast_signed(), length.cast_signed()).call("fallocate")
}

/// Where the next byte is written that has no place of its own; lseek(2) with SEEK_CUR.
///
/// There is no wrapper of SEEK_DATA: it would move the offset, which is shared, and be fatal if the
/// caller were killed before it put it back.
///
/// # Errors
/// ESPIPE for what has no offset.
pub fn offset(file: BorrowedFd<'_>) -> Result<u64> {
    lseek(file, 0, Whence::SeekCur).call("lseek").map(i64::cast_unsigned)
}

/// How many bytes of memory a memory file takes; fstat(2), `st_blocks`.
///
/// # Errors
/// None for an open descriptor.
pub fn occupied(file: BorrowedFd<'_>) -> Result<u64> {
    let status = nix::sys::stat::fstat(file).call("fstat")?;
    Ok(status.st_blocks.cast_unsigned() * 512)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use nix::errno::Errno as Number;

    use super::*;

    #[test]
    fn the_offset_is_shared_and_counts_what_was_moved() {
        let file = memory_file(c"test").unwrap();
        let duplicate = file.try_clone().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"four").unwrap();
        assert_eq!(splice(reader.as_fd(), file.as_fd(), 3), Ok(3));
        assert_eq!(splice(reader.as_fd(), duplicate.as_fd(), 3), Ok(1));
        assert_eq!(offset(file.as_fd()), Ok(4));
        assert_eq!(splice(reader.as_fd(), file.as_fd(), 3).unwrap_err().errno, Number::EAGAIN);
        drop(writer);
        assert_eq!(splice(reader.as_fd(), file.as_fd(), 3), Ok(0));
    }

    #[test]
    fn either_end_of_a_pipe_tells_what_is_unread() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        assert_eq!(unread(writer.as_fd()), Ok(0));
        writer.write_all(b"four").unwrap();
        assert_eq!((unread(writer.as_fd()), unread(reader.as_fd())), (Ok(4), Ok(4)));
        reader.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(unread(writer.as_fd()), Ok(1));
        drop(reader);
        assert_eq!(unread(writer.as_fd()), Ok(1));
    }

    #[test]
    fn a_hole_takes_no_memory_and_leaves_the_offset() {
        let file = memory_file(c"test").unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&[1; 12 << 10]).unwrap();
        assert_eq!(splice(reader.as_fd(), file.as_fd(), 12 << 10), Ok(12 << 10));
        assert_eq!(occupied(file.as_fd()), Ok(12 << 10));
        punch_hole(file.as_fd(), 0, 8 << 10).unwrap();
        assert_eq!((occupied(file.as_fd()), offset(file.as_fd())), (Ok(4 << 10), Ok(12 << 10)));
    }

    #[test]
    fn a_terminal_goes_into_a_pipe_but_not_into_a_file() {
        let nix::pty::OpenptyResult { master, slave } = nix::pty::openpty(None, None).unwrap();
        nix::unistd::write(&slave, b"x").unwrap();
        let file = memory_file(c"test").unwrap();
        assert_eq!(splice(master.as_fd(), file.as_fd(), 1).unwrap_err().errno, Number::EINVAL);
        let (_reader, writer) = std::io::pipe().unwrap();
        assert_eq!(splice(master.as_fd(), writer.as_fd(), 1), Ok(1));
        drop(slave);
        assert_eq!(splice(master.as_fd(), writer.as_fd(), 1).unwrap_err().errno, Number::EIO);
    }
}
