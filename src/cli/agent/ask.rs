//! The question at the end: whether what was refused is to be allowed from the next run on.

use nix::sys::termios::{FlushArg, tcflush};
use tokio::sync::mpsc;

use super::refused::Refused;
use super::rules::{self, Rules};
use crate::cli::complain;
use crate::cli::follow::{Sink, write};

/// Asks, and adds to the allow-file what is wanted. Whoever says nothing has said no.
pub(super) async fn offer(refused: &Refused, rules: &Rules, input: &mut mpsc::Receiver<Vec<u8>>) {
    let remedies = refused.remedies();
    if remedies.is_empty() {
        return;
    }
    // What was typed before the question is no answer to it.
    tcflush(std::io::stdin(), FlushArg::TCIFLUSH).ok();
    while input.try_recv().is_ok() {}
    let path = rules.path().display();
    let question = format!("codesandbox: add {} to {path} for the next run? [y/N] ", counted(remedies.len()));
    if write(Sink::Error, question.into_bytes()).await.is_err() {
        return;
    }
    let answer = input.recv().await.unwrap_or_default();
    if !is_yes(&answer) {
        return;
    }
    match rules::add(rules.place(), &remedies) {
        Ok(added) => complain(&format!("{path}: {added} added")),
        Err(error) => complain(&error),
    }
}

fn counted(count: usize) -> String {
    if count == 1 { "this one destination".to_owned() } else { format!("these {count} destinations") }
}

fn is_yes(answer: &[u8]) -> bool {
    let answer = answer.trim_ascii().to_ascii_lowercase();
    answer == b"y" || answer == b"yes"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes(b"y\n") && is_yes(b" YES \n"));
        assert!([&b""[..], b"\n", b"n\n", b"yy", b"y y\n"].iter().all(|answer| !is_yes(answer)));
    }
}
