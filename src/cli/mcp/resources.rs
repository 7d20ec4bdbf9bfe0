//! Resources: runtimes, files and logs of sessions, and what the latest runs printed, by URI.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use rmcp::ErrorData;
use rmcp::model::{MetaObject, ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};

use super::own::Own;
use super::pictures::media;
use super::reply::Trouble;
use super::server::Shared;
use super::way::{Way, part};
use crate::client::{ClientError, escape};

/// Most bytes of text in one answer; the next part is asked for by its offset.
const TEXT_BYTES: usize = 256 << 10;
/// Most bytes of anything else, which is of use as a whole only.
const BLOB_BYTES: usize = 4 << 20;
/// Where the list of runtimes is.
const RUNTIMES: &str = "codesandbox://runtimes";

/// The URIs.
pub(super) mod uri {
    use crate::client::escape;

    /// Of a part of a run.
    pub(in crate::cli::mcp) fn run(id: &str, part: &str) -> String {
        format!("codesandbox://runs/{}/{}", escape(id), path(part))
    }

    /// Of a file of a session.
    pub(in crate::cli::mcp) fn file(session: &str, file: &str) -> String {
        format!("codesandbox://sessions/{}/files/{}", escape(session), path(file))
    }

    /// Of the output of a program of a session.
    pub(in crate::cli::mcp) fn log(session: &str, exec: u64) -> String {
        format!("codesandbox://sessions/{}/execs/{exec}/log", escape(session))
    }

    fn path(path: &str) -> String {
        path.split('/').map(escape).collect::<Vec<_>>().join("/")
    }
}

/// Those that can be listed: everything else is named by results of tools.
pub(super) async fn list(own: &Own) -> Result<Vec<Resource>, ErrorData> {
    let mut found = vec![
        Resource::new(RUNTIMES, "runtimes").with_title("Languages and versions").with_mime_type("application/json"),
    ];
    // A service without sessions has none to list.
    for session in own.list().await.unwrap_or_default() {
        if let Some(id) = session.get("id").and_then(Value::as_str) {
            let files = Resource::new(uri::file(id, ""), format!("files of session {id}"));
            found.push(files.with_title("Files of a session").with_mime_type("application/json"));
        }
    }
    Ok(found)
}

/// The forms of URIs that there are.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let template = |uri: &str, name: &str, about: &str| ResourceTemplate::new(uri, name).with_description(about);
    vec![
        template(
            "codesandbox://sessions/{session}/files/{+path}{?offset}",
            "file",
            "A file of a session, below /workspace; of a directory, its list",
        ),
        template(
            "codesandbox://sessions/{session}/execs/{exec}/log{?offset}",
            "log",
            "What a program of a session printed, as far as it is kept: standard output and then standard error",
        ),
        template(
            "codesandbox://runs/{run}/{+part}{?offset}",
            "run",
            "What a run printed (stdout, stderr, build) or left behind (files/NAME), while it is kept",
        ),
    ]
}

/// The content of one.
pub(super) async fn read(uri: &str, shared: &Shared, own: &Own) -> Result<ReadResourceResult, ErrorData> {
    let unknown = || ErrorData::resource_not_found("there is no such resource", None);
    let rest = uri.strip_prefix("codesandbox://").ok_or_else(unknown)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let offset = match query.split_once('=') {
        Some(("offset", number)) => {
            number.parse().map_err(|_| ErrorData::invalid_params("offset is no number", None))?
        }
        _ if query.is_empty() => 0,
        _ => return Err(unknown()),
    };
    let words: Option<Vec<String>> = path.split('/').map(unescape).collect();
    let words = words.ok_or_else(unknown)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let way = &shared.way;
    let told = |content: Content| Ok(ReadResourceResult::new(vec![content.told(uri)]));
    match words.as_slice() {
        ["runtimes"] => {
            told(Content::json(&way.ask(Method::GET, "/v1/runtimes", None).await.map_err(refused)?, offset))
        }
        ["runs", run, part @ ..] => {
            let part = part.join("/");
            told(Content::of(&part, &shared.kept.part(run, &part).ok_or_else(unknown)?, offset))
        }
        ["sessions", session, "execs", exec, "log"] => {
            let exec: u64 = exec.parse().map_err(|_| unknown())?;
            let path = format!("{}/execs/{exec}", own.path(session).map_err(named)?);
            told(log(way, &path, offset).await.map_err(refused)?)
        }
        ["sessions", session, "files", path @ ..] => {
            let path = path.join("/");
            let session = own.path(session).map_err(named)?;
            told(file(way, &session, path.trim_end_matches('/'), offset).await.map_err(refused)?)
        }
        _ => Err(unknown()),
    }
}

/// What a resource has, from an offset on, as much as is told at one time.
struct Content {
    path: String,
    /// Of the whole.
    size: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl Content {
    /// Of something that is there as a whole.
    fn of(path: &str, whole: &[u8], offset: u64) -> Self {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
        let rest = whole.get(from..).unwrap_or_default();
        let bytes = rest.get(..rest.len().min(BLOB_BYTES)).unwrap_or_default().to_vec();
        Self { path: path.to_owned(), size: whole.len() as u64, offset, bytes }
    }

    fn json(value: &Value, offset: u64) -> Self {
        Self::of("list.json", &serde_json::to_vec_pretty(value).expect("it was JSON"), offset)
    }

    fn told(self, uri: &str) -> ResourceContents {
        let text = self.text_bytes().and_then(|end| std::str::from_utf8(self.bytes.get(..end)?).ok());
        let kind = media(&self.path, text.map_or(&self.bytes, str::as_bytes));
        let (contents, end) = match text {
            Some(text) => (ResourceContents::text(text, uri), text.len()),
            None => (ResourceContents::blob(STANDARD.encode(&self.bytes), uri), self.bytes.len()),
        };
        let (contents, next) = (contents.with_mime_type(kind), self.offset.saturating_add(end as u64));
        if next >= self.size {
            return contents;
        }
        let base = uri.split_once('?').map_or(uri, |(base, _)| base);
        let more = [
            ("codesandbox/size".to_owned(), json!(self.size)),
            ("codesandbox/next".to_owned(), json!(format!("{base}?offset={next}"))),
        ];
        contents.with_meta(MetaObject(more.into_iter().collect()))
    }

    /// How many of the bytes are told as text; none where they are no text.
    fn text_bytes(&self) -> Option<usize> {
        let part = self.bytes.get(..self.bytes.len().min(TEXT_BYTES)).unwrap_or_default();
        match std::str::from_utf8(part) {
            Ok(text) => (!text.contains('\0')).then_some(part.len()),
            // A character of which the end was cut off is left for the next part.
            Err(error) if error.error_len().is_none() && self.offset + (part.len() as u64) < self.size => {
                Some(error.valid_up_to())
            }
            Err(_) => None,
        }
    }
}

async fn file(way: &Way, session: &str, path: &str, offset: u64) -> Result<Content, ClientError> {
    let escaped = escape(if path.is_empty() { "." } else { path });
    let entry = way.ask(Method::GET, &format!("{session}/fs/stat?path={escaped}"), None).await?;
    if entry.get("kind").and_then(Value::as_str) == Some("directory") {
        let listed = way.ask(Method::GET, &format!("{session}/fs/list?path={escaped}"), None).await?;
        return Ok(Content::json(&listed, offset));
    }
    let size = entry.get("size").and_then(Value::as_u64).unwrap_or_default();
    let body = way.download(&format!("{session}/fs/file?path={escaped}")).await?;
    let bytes = part(body, offset, BLOB_BYTES).await?;
    Ok(Content { path: path.to_owned(), size, offset, bytes })
}

/// Standard output and then standard error, as the API tells both of a program that has ended, or what there is of them.
async fn log(way: &Way, path: &str, offset: u64) -> Result<Content, ClientError> {
    let mut events = way.follow::<Value>(Method::GET, &format!("{path}/output"), None).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(event) = events.next().await? {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("event") == "output" {
            let into = if text("stream") == "stderr" { &mut stderr } else { &mut stdout };
            match text("encoding") {
                "base64" => into.extend(STANDARD.decode(text("data")).unwrap_or_default()),
                _ => into.extend_from_slice(text("data").as_bytes()),
            }
        }
    }
    stdout.append(&mut stderr);
    Ok(Content::of("log", &stdout, offset))
}

/// A word of a URI with its escapes undone.
fn unescape(word: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok().filter(|digits| !digits.starts_with('+'))?;
                u8::from_str_radix(digits, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn named(trouble: Trouble) -> ErrorData {
    ErrorData::resource_not_found(trouble.to_string(), None)
}

fn refused(error: ClientError) -> ErrorData {
    match &error {
        ClientError::Refused(refusal) if (400..500).contains(&refusal.status) => {
            ErrorData::resource_not_found(error.to_string(), None)
        }
        _ => ErrorData::internal_error(error.to_string(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(contents: &ResourceContents) -> Option<(&str, Option<String>)> {
        match contents {
            ResourceContents::TextResourceContents { text, meta, .. } => {
                let next = meta.as_ref().and_then(|meta| meta.0.get("codesandbox/next")?.as_str().map(str::to_owned));
                Some((text, next))
            }
            _ => None,
        }
    }

    #[test]
    fn a_long_text_is_told_in_parts_that_fit_together() {
        let whole = "ä".repeat(TEXT_BYTES);
        let (mut found, mut offset) = (String::new(), 0);
        loop {
            let contents = Content::of("a.txt", whole.as_bytes(), offset).told("codesandbox://runs/1/stdout?offset=0");
            let (part, next) = text(&contents).expect("text");
            assert!(part.len() <= TEXT_BYTES && !part.is_empty());
            found.push_str(part);
            match next {
                Some(next) => offset = next.rsplit_once('=').unwrap().1.parse().unwrap(),
                None => break,
            }
        }
        assert!(found == whole);
    }

    #[test]
    fn what_is_no_text_is_a_blob_and_has_a_bound() {
        let contents = Content::of("a.png", &vec![0xff; BLOB_BYTES + 1], 0).told("codesandbox://runs/1/files/a.png");
        let ResourceContents::BlobResourceContents { blob, meta, .. } = contents else { panic!("no blob") };
        assert_eq!(STANDARD.decode(blob).unwrap().len(), BLOB_BYTES);
        assert!(meta.is_some());
    }

    #[test]
    fn an_offset_behind_the_end_gives_nothing() {
        let contents = Content::of("a", b"abc", u64::MAX).told("codesandbox://runs/1/stdout");
        assert_eq!(text(&contents), Some(("", None)));
    }

    #[test]
    fn uris_are_read_as_they_are_written() {
        assert_eq!(uri::file("s", "a b/ü%.txt"), "codesandbox://sessions/s/files/a%20b/%C3%BC%25.txt");
        assert_eq!(unescape("%C3%BC%25.txt").as_deref(), Some("ü%.txt"));
        for wrong in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(unescape(wrong), None, "{wrong}");
        }
    }
}
