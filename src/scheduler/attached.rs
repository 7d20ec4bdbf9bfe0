//! A client that stays with the program of its job: what it types while that runs, and the signals that it sends.

use tokio::sync::mpsc;

/// Pieces of input, and signals, that wait for a program that takes none; then the client waits too.
const WAITING: usize = 16;

/// The client's end. Dropping [`Self::input`] ends the program's standard input.
#[derive(Debug)]
pub struct Attachment {
    /// Takes bytes for standard input.
    pub input: mpsc::Sender<Vec<u8>>,
    /// Takes numbers of signals for the program's process group; signal(7).
    pub signals: mpsc::Sender<i32>,
}

/// The program's end.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) input: mpsc::Receiver<Vec<u8>>,
    pub(super) signals: mpsc::Receiver<i32>,
    /// Whether some of the input has gone to a program: no other can have all of it then.
    pub(super) has_taken: bool,
    /// Whether another program sends the input: it is told at once when nobody reads any more.
    pub(super) is_a_programs: bool,
}

/// Both ends.
pub(super) fn pair() -> (Attachment, Attached) {
    let ((input, inputs), (signals, receiver)) = (mpsc::channel(WAITING), mpsc::channel(WAITING));
    (
        Attachment { input, signals },
        Attached { input: inputs, signals: receiver, has_taken: false, is_a_programs: false },
    )
}
