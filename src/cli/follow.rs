//! Following a run while it happens: its output goes where it would go outside of a sandbox.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::spinner::Spinner;
use crate::api::wire::{Encoding, Output, RunRequest, RunResponse, StreamEvent};
use crate::client::{Client, ClientError, explain};
use crate::job::Stage;

/// Why a run could not be followed to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// The service.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Our own output can't be written.
    #[error("output: {0}")]
    Output(std::io::Error),
    /// The service failed in the middle.
    #[error("{0}")]
    Failed(String),
}

/// Runs a program and passes its output on while it runs; the whole result at the end.
pub(super) async fn follow(client: &Client, request: &RunRequest) -> Result<RunResponse, FollowError> {
    let mut spinner = Spinner::new();
    let mut events = spinner.during(client.run_streamed(request)).await?;
    while let Some(event) = spinner.during(events.next()).await? {
        match event {
            StreamEvent::Started { .. } => spinner.say("starting"),
            StreamEvent::Stage { stage: Stage::Prepare, .. } => spinner.say("installing packages"),
            StreamEvent::Stage { stage: Stage::Compile, .. } => spinner.say("compiling"),
            StreamEvent::Stage { stage: Stage::Run, .. } => spinner.clear(),
            StreamEvent::Stdout(output) => pass_on(&mut spinner, output, Sink::Output).await?,
            StreamEvent::Stderr(output) => pass_on(&mut spinner, output, Sink::Error).await?,
            // All of it stands in the result once more, added up.
            StreamEvent::Denied { .. } | StreamEvent::Case { .. } => {}
            StreamEvent::Finished(result) => return Ok(*result),
            StreamEvent::Failed { problem, .. } => {
                return Err(FollowError::Failed(explain(&problem)));
            }
        }
    }
    Err(ClientError::Strange("it ended before the program did".to_owned()).into())
}

/// Passes on what the program printed. What an installer or a compiler printed waits for the end:
/// it is of interest only where that fails.
async fn pass_on(spinner: &mut Spinner, output: Output, sink: Sink) -> Result<(), FollowError> {
    if output.stage != Stage::Run {
        return Ok(());
    }
    spinner.clear();
    let bytes = decode(output.data, output.encoding)?;
    write(sink, bytes).await.map_err(FollowError::Output)
}

/// The bytes that a JSON string stands for.
pub(super) fn decode(text: String, encoding: Encoding) -> Result<Vec<u8>, ClientError> {
    match encoding {
        Encoding::Utf8 => Ok(text.into_bytes()),
        Encoding::Base64 => STANDARD.decode(text).map_err(|error| ClientError::Strange(error.to_string())),
    }
}

/// A standard stream of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Writes all of it, and lets everything else go on meanwhile: whoever reads may be slow, while
/// the service in this process has deadlines to keep, and Ctrl-C must work.
pub(super) async fn write(sink: Sink, bytes: Vec<u8>) -> std::io::Result<()> {
    let work = move || match sink {
        Sink::Output => {
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush())
        }
        Sink::Error => std::io::stderr().lock().write_all(&bytes),
    };
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_give_bytes() {
        assert_eq!(decode("ä".to_owned(), Encoding::Utf8).unwrap(), "ä".as_bytes());
        assert_eq!(decode("/w==".to_owned(), Encoding::Base64).unwrap(), b"\xff");
        assert!(decode("?".to_owned(), Encoding::Base64).is_err());
    }
}
