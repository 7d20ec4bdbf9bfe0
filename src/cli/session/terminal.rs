//! The terminal of whoever typed the command: raw while it is a program's, and as before afterwards.

use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::wire::Size;
use crate::sys::terminal;

/// What a program gets whose terminal has told no size.
const USUAL: Size = Size { rows: 24, columns: 80 };

/// Most rows, and most columns, that the service takes.
const MOST: u16 = 1000;

/// A terminal that passes on every byte as it is typed. Dropping it makes it what it was, also when a
/// panic unwinds.
#[derive(Debug)]
pub(in crate::cli) struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Makes it raw.
    ///
    /// # Errors
    /// It is no terminal, or no descriptor is left.
    pub(in crate::cli) fn enter(terminal: impl AsFd) -> std::io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let raw = Self { terminal, before };
        raw.again()?;
        Ok(raw)
    }

    /// Makes it raw once more: after a stop, a shell may have put it back.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(in crate::cli) fn again(&self) -> std::io::Result<()> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        // At once: to wait until all output is read could be to wait for ever.
        Ok(tcsetattr(&self.terminal, SetArg::TCSANOW, &raw)?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no care.
        tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before).ok();
    }
}

/// Whether somebody types into a terminal, rather than a pipe or a file being our input.
pub(in crate::cli) fn is_typed() -> bool {
    std::io::stdin().is_terminal()
}

/// Size of the window, from whichever of our streams is a terminal.
pub(super) fn size() -> Option<Size> {
    window().map(known)
}

/// Rows and columns, as the terminal tells them.
pub(in crate::cli) fn window() -> Option<(u16, u16)> {
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    [input.as_fd(), output.as_fd(), error.as_fd()]
        .into_iter()
        .find_map(|fd| terminal::window(fd).ok())
        .map(|window| (window.rows, window.columns))
}

/// The same, and the usual size where there is none.
pub(super) fn size_or_usual() -> Size {
    size().unwrap_or(USUAL)
}

fn known((rows, columns): (u16, u16)) -> Size {
    if rows == 0 || columns == 0 { USUAL } else { Size { rows: rows.min(MOST), columns: columns.min(MOST) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::termios::{InputFlags, LocalFlags};

    fn flags(terminal: &OwnedFd) -> (LocalFlags, InputFlags) {
        let now = tcgetattr(terminal).unwrap();
        (now.local_flags, now.input_flags)
    }

    #[test]
    fn a_terminal_is_raw_only_while_it_is_held() {
        let pair = nix::pty::openpty(None, None).unwrap();
        let before = flags(&pair.slave);
        let raw = Raw::enter(&pair.slave).unwrap();
        let (local, _) = flags(&pair.slave);
        assert!(!local.intersects(LocalFlags::ISIG | LocalFlags::ICANON | LocalFlags::ECHO));
        drop(raw);
        assert_eq!(flags(&pair.slave), before);
    }

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        let pair = nix::pty::openpty(None, None).unwrap();
        let before = flags(&pair.slave);
        let slave = pair.slave.try_clone().unwrap();
        let panicked = std::thread::spawn(move || {
            let _raw = Raw::enter(&slave).unwrap();
            panic!("as it may happen");
        });
        assert!(panicked.join().is_err());
        assert_eq!(flags(&pair.slave), before);
    }

    #[test]
    fn a_file_is_no_terminal() {
        assert!(Raw::enter(std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn a_window_without_a_size_gets_the_usual_one() {
        assert_eq!(known((0, 0)), USUAL);
        assert_eq!(known((50, 120)), Size { rows: 50, columns: 120 });
        assert_eq!(known((50, 1200)), Size { rows: 50, columns: 1000 });
    }
}
