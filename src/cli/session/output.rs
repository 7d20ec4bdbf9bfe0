//! Output of a program in a session, from its log: nothing is lost or told twice when the connection
//! breaks, because every piece has its place.

use hyper::Method;

use super::SessionError;
use super::link::{Link, Patience, escape, is_passing, understood};
use super::wire::{Ending, OutputEvent, Stream};
use crate::api::wire::Encoding;
use crate::cli::complain;
use crate::cli::follow::{Sink, decode, write};
use crate::client::{ClientError, explain};

/// Arguments of `codesandbox session logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The session
    id: String,
    /// The program, as ps tells it
    exec: String,
    /// Go on until the program ends
    #[arg(short, long)]
    follow: bool,
    /// Begin at this byte of standard output, or of the terminal [default: the first that is kept]
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Begin at this byte of standard error
    #[arg(long, value_name = "SEQ")]
    stderr_from: Option<u64>,
}

/// Prints what a program has printed.
pub(super) async fn logs(link: &Link, arguments: &Arguments) -> Result<u8, SessionError> {
    let path = link.session(&arguments.id).await?;
    let path = format!("{path}/execs/{}", escape(&arguments.exec));
    let from = From { stdout: arguments.from, stderr: arguments.stderr_from };
    pass_on(link, &path, from, arguments.follow).await?;
    Ok(0)
}

/// The next byte of each stream; `None` is the first that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct From {
    /// Of standard output.
    pub(super) stdout: Option<u64>,
    /// Of standard error.
    pub(super) stderr: Option<u64>,
}

impl From {
    /// The very first byte of each.
    pub(super) const START: Self = Self { stdout: Some(0), stderr: Some(0) };

    fn of(&mut self, stream: Stream) -> &mut Option<u64> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn query(self, follow: bool) -> String {
        let mut query = format!("follow={follow}");
        for (name, next) in [("stdout", self.stdout), ("stderr", self.stderr)] {
            if let Some(next) = next {
                query.push_str(&format!("&{name}={next}"));
            }
        }
        query
    }
}

/// Passes a program's output on to ours, until it ends or, without `follow`, until there is no more.
/// Its ending, where it has ended. A daemon that goes away is waited for.
pub(super) async fn pass_on(
    link: &Link,
    exec: &str,
    mut from: From,
    follow: bool,
) -> Result<Option<Ending>, SessionError> {
    let mut patience = Patience::new();
    loop {
        let before = from;
        let broken = match connection(link, exec, &mut from, follow).await {
            Ok(ending) => return Ok(ending),
            Err(SessionError::Absent(error) | SessionError::Client(error)) if follow && is_passing(&error) => error,
            Err(error) => return Err(error),
        };
        if from != before {
            patience = Patience::new();
        }
        if !patience.wait().await {
            return Err(broken.into());
        }
    }
}

/// What one connection brings.
async fn connection(link: &Link, exec: &str, from: &mut From, follow: bool) -> Result<Option<Ending>, SessionError> {
    let path = format!("{exec}/output?{}", from.query(follow));
    let mut lines = link.connect().await?.lines(Method::GET, &path, Vec::new()).await?;
    while let Some(line) = lines.next().await? {
        if line.is_empty() {
            continue;
        }
        match understood(&line)? {
            OutputEvent::Output { stream, sequence, data, encoding } => {
                let bytes = decode(data, encoding)?;
                let after = sequence.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                show(stream, bytes).await?;
                *from.of(stream) = Some(after);
            }
            OutputEvent::Gap { stream, from: first, to } => {
                let name = match stream {
                    Stream::Stdout => "standard output",
                    Stream::Stderr => "standard error",
                };
                complain(&format!("{} bytes of {name} are not kept any more", to.saturating_sub(first)));
                *from.of(stream) = Some(to);
            }
            OutputEvent::Finished { result } => return Ok(Some(result)),
            // While the program goes on this is said where the daemon is stopped in order.
            OutputEvent::End if follow => break,
            OutputEvent::End => return Ok(None),
            OutputEvent::Failed { problem } => return Err(SessionError::Said(explain(&problem))),
            OutputEvent::Other => {}
        }
    }
    if follow { Err(ClientError::Lost("it ended before the program did".to_owned()).into()) } else { Ok(None) }
}

/// Writes bytes to the stream of ours that they belong to.
pub(super) async fn show(stream: Stream, bytes: Vec<u8>) -> Result<(), SessionError> {
    let sink = match stream {
        Stream::Stdout => Sink::Output,
        Stream::Stderr => Sink::Error,
    };
    write(sink, bytes).await.map_err(SessionError::Output)
}

/// Bytes in base64.
pub(super) fn from_base64(data: String) -> Result<Vec<u8>, ClientError> {
    decode(data, Encoding::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_asked_for_where_it_is_known() {
        assert_eq!(From::START.query(true), "follow=true&stdout=0&stderr=0");
        assert_eq!(From { stdout: Some(7), stderr: None }.query(false), "follow=false&stdout=7");
    }
}
