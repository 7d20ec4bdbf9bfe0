//! Standard input, piece by piece, read by a thread of its own: a read of a terminal can't be broken off.

use std::io::Read;

use tokio::sync::mpsc;

/// Longest piece.
const PIECE: usize = 16 << 10;
/// Pieces that wait for somebody to take them; then reading waits.
const WAITING: usize = 8;

/// Begins to read; the channel ends with the input.
pub(in crate::cli) fn pieces() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || read(std::io::stdin(), &sender));
    receiver
}

fn read(mut source: impl Read, sender: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; PIECE];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let piece = buffer.get(..count).unwrap_or_default().to_vec();
                if sender.blocking_send(piece).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // A terminal that is gone, as well as anything else that gives no more.
            Err(_) => return,
        }
    }
}
