//! The lines that go to and come from a kernel. Whatever runs in a session can write such lines too,
//! so nothing in them is believed that is not checked here.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use uuid::Uuid;

use super::Output;

/// Longest line, with its end: an image in base64 is one.
pub(super) const LINE_BYTES: usize = 16 << 20;
/// How much room is kept between lines.
const KEPT_BYTES: usize = 64 << 10;

/// What a kernel says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "msg_type", content = "content", rename_all = "snake_case")]
pub(super) enum Said {
    Stream { name: super::StreamName, text: String },
    DisplayData { data: super::Forms, metadata: super::Forms },
    ExecuteResult { data: super::Forms, metadata: super::Forms },
    Error { ename: String, evalue: String, traceback: Vec<String> },
    ExecuteReply { status: Reply },
    Status { execution_state: State },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reply {
    Ok,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Busy,
    Idle,
}

impl Said {
    /// What it adds to what a cell has put out, if anything.
    pub(super) fn output(self, execution_count: u64) -> Option<Output> {
        match self {
            Self::Stream { name, text } => Some(Output::Stream { name, text }),
            Self::DisplayData { data, metadata } => Some(Output::DisplayData { data, metadata }),
            Self::ExecuteResult { data, metadata } => Some(Output::ExecuteResult { data, metadata, execution_count }),
            Self::Error { ename, evalue, traceback } => Some(Output::Error { ename, evalue, traceback }),
            Self::ExecuteReply { .. } | Self::Status { .. } => None,
        }
    }
}

#[derive(Serialize)]
struct Request<'a> {
    msg_type: &'static str,
    msg_id: String,
    content: Content<'a>,
}

#[derive(Serialize)]
struct Content<'a> {
    code: &'a str,
    execution_count: u64,
}

/// The line that asks for a cell to be run.
pub(super) fn request(id: Uuid, code: &str, execution_count: u64) -> Vec<u8> {
    let content = Content { code, execution_count };
    let request = Request { msg_type: "execute_request", msg_id: id.simple().to_string(), content };
    let mut line = serde_json::to_vec(&request).expect("it has only text keys");
    line.push(b'\n');
    line
}

/// The line that asks a kernel to end a cell, where its signal alone does not.
pub(super) fn interrupt(id: Uuid) -> Vec<u8> {
    format!("{{\"msg_type\":\"interrupt_request\",\"content\":{{\"msg_id\":\"{}\"}}}}\n", id.simple()).into_bytes()
}

#[derive(Deserialize)]
struct Address<'a> {
    #[serde(borrow)]
    parent_id: Option<std::borrow::Cow<'a, str>>,
}

/// What a line says about a cell; `None` where it is about another one.
pub(super) fn read(line: &[u8], id: Uuid) -> Result<Option<Said>, serde_json::Error> {
    let address: Address<'_> = serde_json::from_slice(line)?;
    if address.parent_id.as_deref() != Some(id.simple().encode_lower(&mut Uuid::encode_buffer())) {
        return Ok(None);
    }
    serde_json::from_slice(line).map(Some)
}

/// Why no line could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("a line is longer than {LINE_BYTES} bytes")]
    TooLong,
    #[error("a line has no end")]
    Unfinished,
    #[error("reading from the kernel: {0}")]
    Io(#[from] io::Error),
}

/// Reads lines, none longer than [`LINE_BYTES`].
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    is_whole: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), is_whole: false }
    }

    /// The next line without its end; `None` after the last one. What was read is kept where the
    /// caller stops waiting.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, LineError> {
        if std::mem::take(&mut self.is_whole) {
            self.line.clear();
            self.line.shrink_to(KEPT_BYTES);
        }
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return if self.line.is_empty() { Ok(None) } else { Err(LineError::Unfinished) };
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let (piece, used) = end.map_or((available, available.len()), |end| (&available[..end], end + 1));
            if self.line.len() + used > LINE_BYTES {
                return Err(LineError::TooLong);
            }
            self.line.extend_from_slice(piece);
            self.reader.consume(used);
            if end.is_some() {
                self.is_whole = true;
                return Ok(Some(&self.line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        block_on(async {
            let fits = [vec![b'x'; LINE_BYTES - 1], b"\ny\n".to_vec()].concat();
            let mut lines = Lines::new(&fits[..]);
            assert_eq!(lines.next().await.unwrap().unwrap().len(), LINE_BYTES - 1);
            assert_eq!(lines.next().await.unwrap(), Some(&b"y"[..]));
            assert!(lines.next().await.unwrap().is_none());
            let too_long = vec![b'x'; LINE_BYTES + 1];
            assert!(matches!(Lines::new(&too_long[..]).next().await, Err(LineError::TooLong)));
            assert!(matches!(Lines::new(&b"x"[..]).next().await, Err(LineError::Unfinished)));
        });
    }

    #[test]
    fn what_is_said_to_another_cell_is_not_read() {
        let (id, other) = (Uuid::new_v4(), Uuid::new_v4());
        let line = format!(
            r#"{{"parent_id":"{}","msg_type":"stream","content":{{"name":"stdout","text":"a"}}}}"#,
            id.simple()
        );
        assert!(matches!(read(line.as_bytes(), id), Ok(Some(Said::Stream { .. }))));
        assert!(matches!(read(line.as_bytes(), other), Ok(None)));
        assert!(matches!(read(br#"{"parent_id":null,"msg_type":"?"}"#, id), Ok(None)));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in any::<Vec<u8>>(), kind in "[a-z_]{0,14}", content in ".{0,40}") {
            let id = Uuid::new_v4();
            read(&line, id).ok();
            let forged = format!(r#"{{"parent_id":"{}","msg_type":"{kind}","content":{content}}}"#, id.simple());
            read(forged.as_bytes(), id).ok();
        }

        #[test]
        fn lines_come_out_as_they_went_in(texts in prop::collection::vec("[^\n]{0,80}", 0..20), size in 1_usize..40) {
            let bytes = texts.iter().map(|text| format!("{text}\n")).collect::<String>();
            let reader = tokio::io::BufReader::with_capacity(size, bytes.as_bytes());
            let read = block_on(async {
                let (mut lines, mut read) = (Lines::new(reader), Vec::new());
                while let Some(line) = lines.next().await.unwrap() {
                    read.push(String::from_utf8(line.to_vec()).unwrap());
                }
                read
            });
            prop_assert_eq!(read, texts);
        }
    }
}
