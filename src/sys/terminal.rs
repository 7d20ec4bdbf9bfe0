//! Pseudo-terminals without paths: ioctl_tty(2), pty(7).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Result, check};

/// Unlocks the other side of a terminal and opens it; TIOCSPTLCK, TIOCGPTPEER. It does not become the
/// caller's controlling terminal.
///
/// # Errors
/// ENOTTY where this is not the first side of one.
pub fn peer(first: BorrowedFd<'_>) -> Result<OwnedFd> {
    let locked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives until the call returns.
    let status = unsafe { libc::ioctl(first.as_raw_fd(), libc::TIOCSPTLCK, std::ptr::from_ref(&locked)) };
    check("ioctl", libc::c_long::from(status))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags by value and touches no memory of ours.
    let status = unsafe { libc::ioctl(first.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    check("ioctl", libc::c_long::from(status))?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(status) })
}

/// Makes a terminal the controlling one of the caller, who leads a session without one; TIOCSCTTY.
///
/// # Errors
/// EPERM where the caller leads no session, or has a terminal.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TIOCSCTTY takes an int by value and touches no memory of ours.
    let status = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    check("ioctl", libc::c_long::from(status)).map(drop)
}

/// A window in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Sets the size, and sends SIGWINCH to the group in the foreground where it is another than before;
/// TIOCSWINSZ. Either side of a pseudo-terminal will do.
///
/// # Errors
/// ENOTTY for what is no terminal.
pub fn set_window(terminal: BorrowedFd<'_>, window: Window) -> Result<()> {
    let size = libc::winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    let status = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(&size)) };
    check("ioctl", libc::c_long::from(status)).map(drop)
}

/// The size as it was set last; TIOCGWINSZ.
///
/// # Errors
/// ENOTTY for what is no terminal.
pub fn window(terminal: BorrowedFd<'_>) -> Result<Window> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which outlives the call.
    let status = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, std::ptr::from_mut(&mut size)) };
    check("ioctl", libc::c_long::from(status))?;
    Ok(Window { rows: size.ws_row, columns: size.ws_col })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::errno::Errno as Number;

    use super::*;

    #[test]
    fn a_size_set_on_one_side_is_seen_on_the_other() {
        let pair = nix::pty::openpty(None, None).unwrap();
        let size = Window { rows: 50, columns: 132 };
        set_window(pair.master.as_fd(), size).unwrap();
        assert_eq!(window(pair.slave.as_fd()), Ok(size));
    }

    #[test]
    fn a_pipe_has_no_window() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(window(reader.as_fd()).unwrap_err().errno, Number::ENOTTY);
        let size = Window { rows: 1, columns: 1 };
        assert_eq!(set_window(reader.as_fd(), size).unwrap_err().errno, Number::ENOTTY);
    }
}
