//! The JSON of a session's files, as types. A path that is no UTF-8 is told in base64, under another name.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryResponse {
    /// Path below `/workspace`, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path as base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// `file`, `directory`, `link` or `other`.
    pub kind: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its permissions, such as 420, which is 0o644.
    pub mode: u32,
    /// When it was last changed; RFC 3339, UTC.
    pub modified_at: String,
    /// Where it leads, if it is a link and that is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Where it leads, as base64, if it is a link and that is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_base64: Option<String>,
}

/// Answer of `GET …/fs/list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListResponse {
    /// What is in the directory, and below it as deep as was asked for.
    pub entries: Vec<EntryResponse>,
    /// Whether there is more than is told.
    pub truncated: bool,
}

/// Body of `POST …/fs/mkdir`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRequest {
    /// The directory; those above it are made, too.
    pub path: String,
}

/// Body of `POST …/fs/move` and `POST …/fs/copy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// What to move or copy, with all that is below it.
    pub from: String,
    /// Its new path.
    pub to: String,
    /// Whether a file that is there already is replaced; false where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
}

/// Body of `POST …/fs/search`. At least one of `name` and `content` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// Where to look; all of `/workspace` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Pattern of paths below that: `*` stays within a directory, `**` does not; at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Text in files; at most 1024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Whether `content` is a regular expression; false where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<bool>,
    /// Most that is found, from 1 to 10000; 1000 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MatchResponse {
    /// Path below `/workspace`, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path as base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// Number of the line, from 1, where a text was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The line, as far as it is told and is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The line as base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_base64: Option<String>,
}

/// Answer of `POST …/fs/search`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchResponse {
    /// What was found.
    pub matches: Vec<MatchResponse>,
    /// Whether there is more than is told.
    pub truncated: bool,
}

/// Something that happened to a file: a line of NDJSON, or the data of a server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeEvent {
    /// `created`, `modified`, `removed`, `moved`, or `overflow`: more happened than could be told. The last
    /// may be `failed`.
    pub event: String,
    /// Path below `/workspace`, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path as base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// The path that something which was moved had before, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// That path as base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_base64: Option<String>,
}
