//! `file_read`, `file_write` and `file_list`: the files of a session.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use rmcp::model::{ContentBlock, Resource, Tool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Call, Does, tool};
use crate::cli::mcp::excerpt::Told;
use crate::cli::mcp::pictures::{Pictures, kind, media};
use crate::cli::mcp::reply::{Reply, Trouble, most};
use crate::cli::mcp::resources::uri;
use crate::cli::mcp::way::part;
use crate::client::escape;

/// Largest image that is looked at.
const IMAGE_BYTES: usize = 1 << 20;
/// Most entries of a directory in one result.
const ENTRIES: usize = 500;

/// Arguments of `file_read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    /// Id of the session
    session: String,
    /// Path below /workspace, such as "src/main.py"
    path: String,
    /// How many bytes to leave out at the beginning
    #[serde(default)]
    offset: u64,
    /// Most bytes in the result: 16384 where absent, at most 262144
    max_output: Option<u32>,
}

/// Arguments of `file_write`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Write {
    /// Id of the session
    session: String,
    /// Path below /workspace; directories on the way are made
    path: String,
    /// Content, as text
    content: Option<String>,
    /// Content in base64, in place of `content`
    content_base64: Option<String>,
    /// Write behind what is there, in place of replacing it
    #[serde(default)]
    append: bool,
    /// Let it be executed
    #[serde(default)]
    executable: bool,
}

/// Arguments of `file_list`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// Id of the session
    session: String,
    /// Directory below /workspace; /workspace itself where absent
    path: Option<String>,
    /// How many levels of directories, 1 to 32; 1 where absent
    depth: Option<u8>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Content {
    /// Its path
    path: String,
    /// Size of the whole file in bytes
    size: u64,
    /// The text that was read; null where it is none
    content: Option<String>,
    /// Where to read on; null where that was the end
    next_offset: Option<u64>,
    /// Resource that has the file
    uri: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Written {
    /// Its path
    path: String,
    /// How many bytes were written
    bytes: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    /// What is there
    entries: Vec<Entry>,
    /// Whether there is more than is told
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Entry {
    /// Path below /workspace
    path: String,
    /// file, directory, link or other
    kind: String,
    /// Its size in bytes
    size: u64,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![
        tool::<Read, Content>(
            "file_read",
            "Read a file",
            Does::Reads,
            "Read a file of a session: text as text, an image as an image. Of a long file a part is told, and the offset to \
             go on from.",
        ),
        tool::<Write, Written>(
            "file_write",
            "Write a file",
            Does::Changes,
            "Write a file of a session; what was there is replaced, unless `append` is true.",
        ),
        tool::<List, Listed>("file_list", "List files", Does::Reads, "List the files and directories of a session."),
    ]
}

pub(super) async fn read(call: Call<'_>, asked: Read) -> Result<Reply, Trouble> {
    let (session, file) = (call.own.path(&asked.session)?, escape(&asked.path));
    let way = &call.shared.way;
    let entry = way.ask(Method::GET, &format!("{session}/fs/stat?path={file}"), None).await?;
    let size = entry.get("size").and_then(Value::as_u64).unwrap_or_default();
    let uri = uri::file(&asked.session, &asked.path);
    let body = way.download(&format!("{session}/fs/file?path={file}")).await?;
    // An image is an image as a whole only, and so more is read of it than of a text.
    let most = most(asked.max_output);
    let whole = if asked.offset == 0 { most.max(IMAGE_BYTES) } else { most };
    let mut bytes = part(body, asked.offset, whole).await?;
    if asked.offset == 0 && (kind(&bytes).is_some() || media(&asked.path, &bytes) == "image/svg+xml") {
        let mut pictures = Pictures::default();
        if bytes.len() as u64 >= size && pictures.add(&uri, &asked.path, &bytes) {
            let mut reply = Reply::of(&Content { path: asked.path, size, content: None, next_offset: None, uri });
            reply.line(format!("an image of {size} bytes is below"));
            reply.blocks(pictures.blocks());
            return Ok(reply);
        }
    }
    bytes.truncate(most);
    let text = text_of(&mut bytes);
    let end = asked.offset + bytes.len() as u64;
    let next_offset = (text.is_some() && end < size).then_some(end);
    let mut reply =
        Reply::of(&Content { path: asked.path.clone(), size, content: text.clone(), next_offset, uri: uri.clone() });
    match text {
        None => {
            reply.line(format!("{} has {size} bytes and is no text", asked.path));
            let link = Resource::new(uri, asked.path).with_size(size).with_mime_type("application/octet-stream");
            reply.blocks(vec![ContentBlock::resource_link(link)]);
        }
        Some(text) => {
            let part = if asked.offset > 0 || next_offset.is_some() {
                format!("{} of {size} bytes, from {} on", bytes.len(), asked.offset)
            } else {
                format!("{size} bytes")
            };
            reply.line(format!("{}: {part}", asked.path));
            reply.output("content", &Told { text, total: bytes.len() as u64, cut: false }, None);
            if let Some(next) = next_offset {
                reply.line(format!("next: there is more; read on with offset {next}"));
            }
        }
    }
    Ok(reply)
}

/// The text that bytes are. A character of which the end is not there any more is left for the next part.
fn text_of(bytes: &mut Vec<u8>) -> Option<String> {
    if let Err(error) = std::str::from_utf8(bytes) {
        if error.error_len().is_some() || (error.valid_up_to() == 0 && !bytes.is_empty()) {
            return None;
        }
        bytes.truncate(error.valid_up_to());
    }
    String::from_utf8(bytes.clone()).ok().filter(|text| !text.contains('\0'))
}

pub(super) async fn write(call: Call<'_>, asked: Write) -> Result<Reply, Trouble> {
    let session = call.own.path(&asked.session)?;
    let bytes = match (asked.content, asked.content_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => {
            STANDARD.decode(text).map_err(|error| Trouble::said(format!("content_base64 is no base64: {error}")))?
        }
        _ => return Err(Trouble::said("give one of `content` and `content_base64`")),
    };
    let mut path = format!("{session}/fs/file?path={}", escape(&asked.path));
    for (name, wanted) in [("append", asked.append), ("executable", asked.executable)] {
        if wanted {
            path.push_str(&format!("&{name}=true"));
        }
    }
    let data = Written { path: asked.path, bytes: bytes.len() as u64 };
    call.shared.way.upload(Method::PUT, &path, bytes).await?;
    let mut reply = Reply::of(&data);
    reply.line(format!("{} bytes are written to {}", data.bytes, data.path));
    Ok(reply)
}

pub(super) async fn list(call: Call<'_>, asked: List) -> Result<Reply, Trouble> {
    let session = call.own.path(&asked.session)?;
    let directory = asked.path.as_deref().filter(|path| !path.is_empty()).unwrap_or(".");
    let path = format!("{session}/fs/list?path={}&depth={}", escape(directory), asked.depth.unwrap_or(1));
    let told = call.shared.way.ask(Method::GET, &path, None).await?;
    let entries = told.get("entries").and_then(Value::as_array).into_iter().flatten();
    let mut found: Vec<Entry> = entries
        .map(|entry| {
            let text = |name: &str| entry.get(name).and_then(Value::as_str);
            let path = text("path").map_or_else(|| "(a name that is no UTF-8)".to_owned(), str::to_owned);
            let size = entry.get("size").and_then(Value::as_u64).unwrap_or_default();
            Entry { path, kind: text("kind").unwrap_or_default().to_owned(), size }
        })
        .collect();
    let more = told.get("truncated").and_then(Value::as_bool).unwrap_or_default() || found.len() > ENTRIES;
    found.truncate(ENTRIES);
    let data = Listed { entries: found, truncated: more };
    let mut reply = Reply::of(&data);
    if data.entries.is_empty() {
        reply.line("There is nothing.");
    }
    for entry in &data.entries {
        match entry.kind.as_str() {
            "directory" => reply.line(format!("{}/", entry.path)),
            "file" => reply.line(format!("{} ({} bytes)", entry.path, entry.size)),
            kind => reply.line(format!("{} ({kind})", entry.path)),
        }
    }
    if more {
        reply.line("There is more; list a directory further down.");
    }
    Ok(reply)
}
