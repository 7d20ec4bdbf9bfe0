//! What a client says over a WebSocket, and the codes by which it learns that this was wrong.

use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use nix::sys::signal::Signal;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::api::compat::loose::Scalar;
use crate::api::compat::piston::asked::{Said, parse};
use crate::api::compat::piston::message;
use crate::api::websocket::Socket;

/// How a connection ends: a code and its reason.
pub(super) type Close = (u16, &'static str);

pub(super) const ALREADY_INITIALIZED: Close = (4000, "Already Initialized");
pub(super) const INIT_TIMEOUT: Close = (4001, "Initialization Timeout");
pub(super) const NOTIFIED_ERROR: Close = (4002, "Notified Error");
pub(super) const NOT_INITIALIZED: Close = (4003, "Not yet initialized");
const ONLY_STDIN: Close = (4004, "Can only write to stdin");
const INVALID_SIGNAL: Close = (4005, "Invalid signal");
pub(super) const JOB_COMPLETED: Close = (4999, "Job Completed");
/// RFC 6455, section 7.4.1.
const TOO_LARGE: Close = (1009, "The message is too large");

/// What was heard last.
#[derive(Debug)]
pub(super) enum Heard {
    /// What is to run.
    Init(Vec<u8>),
    /// Something that makes no sense, and why.
    Wrong(String),
    /// Something that has its own code.
    Refused(Close),
    /// The client's farewell.
    Farewell,
}

/// The next text of a client's.
pub(super) async fn next(source: &mut SplitStream<Socket>) -> Result<Vec<u8>, Heard> {
    loop {
        match source.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_bytes().to_vec()),
            // Piston reads either.
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes.to_vec()),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(Error::Capacity(_))) => return Err(Heard::Refused(TOO_LARGE)),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Heard::Farewell),
        }
    }
}

/// What a text says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    Init,
    Data(String),
    Signal(Signal),
    /// Something that Piston passes over.
    Other,
}

pub(super) fn said(text: &[u8]) -> Result<Word, Heard> {
    let said: Said = parse(text).map_err(|problem| Heard::Wrong(message(&problem)))?;
    let is = |given: &Scalar, word: &str| matches!(given, Scalar::Text(text) if text == word);
    if is(&said.kind, "init") {
        return Ok(Word::Init);
    }
    if is(&said.kind, "data") {
        return match said.data {
            _ if !is(&said.stream, "stdin") => Err(Heard::Refused(ONLY_STDIN)),
            Scalar::Text(data) => Ok(Word::Data(data)),
            _ => Err(Heard::Wrong("data must be a string".to_owned())),
        };
    }
    if is(&said.kind, "signal") {
        let signal = match &said.signal {
            Scalar::Text(name) => name.parse().ok(),
            _ => None,
        };
        return signal.map(Word::Signal).ok_or(Heard::Refused(INVALID_SIGNAL));
    }
    Ok(Word::Other)
}

/// Whether a text is about a program, which must run before it matters what else is wrong with it.
pub(super) fn is_about_a_run(text: &[u8]) -> bool {
    parse(text).is_ok_and(|said: Said| matches!(&said.kind, Scalar::Text(kind) if kind == "data" || kind == "signal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        said(text.as_bytes()).unwrap()
    }

    fn refusal(text: &str) -> u16 {
        match said(text.as_bytes()).unwrap_err() {
            Heard::Refused((code, _)) => code,
            Heard::Wrong(_) => NOTIFIED_ERROR.0,
            heard => panic!("{heard:?}"),
        }
    }

    #[test]
    fn messages_are_those_of_piston() {
        assert_eq!(word(r#"{"type": "init", "language": 3}"#), Word::Init);
        assert_eq!(word(r#"{"type": "data", "stream": "stdin", "data": "a"}"#), Word::Data("a".to_owned()));
        assert_eq!(word(r#"{"type": "signal", "signal": "SIGTERM"}"#), Word::Signal(Signal::SIGTERM));
        for text in ["{}", "[]", r#"{"type": "else"}"#, r#"{"type": 3}"#] {
            assert_eq!(word(text), Word::Other, "{text}");
        }
    }

    #[test]
    fn every_wrong_message_has_its_code() {
        for (text, code) in [
            (r#"{"type": "data", "stream": "stdout", "data": "a"}"#, 4004),
            (r#"{"type": "data", "data": "a"}"#, 4004),
            (r#"{"type": "data", "stream": "stdin"}"#, 4002),
            (r#"{"type": "signal"}"#, 4005),
            (r#"{"type": "signal", "signal": 15}"#, 4005),
            (r#"{"type": "signal", "signal": "TERM"}"#, 4005),
            (r#"{"type": "signal", "signal": "SIGNONE"}"#, 4005),
            ("null", 4002),
            ("nothing", 4002),
            (r#"{"type""#, 4002),
        ] {
            assert_eq!(refusal(text), code, "{text}");
        }
    }
}
