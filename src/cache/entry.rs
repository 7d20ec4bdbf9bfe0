//! An entry: what a compile stage made, and how that is written down.
//!
//! ```text
//!  "CSBXcmp\n"  version  key  length of the body  SHA-256 of the body   body
//!      8           4      32          8                   32            postcard
//! ```

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::Key;
use crate::job::{Denial, Usage};
use crate::plan::Archive;

const MAGIC: &[u8; 8] = b"CSBXcmp\n";
/// Changes with every change of what is written, or how.
const VERSION: u32 = 2;

/// What a compile stage or an installer made that ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it printed on standard error.
    pub stderr: Vec<u8>,
    /// What it used.
    pub usage: Usage,
    /// System calls that it was refused.
    pub denied: Vec<Denial>,
    /// All that stood below `/workspace` when it had ended; nothing of an installer.
    pub files: Archive,
    /// What an installer made, in the form of [`crate::plan::tree`]; nothing of a compile stage.
    #[serde(with = "whole")]
    pub tree: Vec<u8>,
}

/// Bytes in one piece: one by one takes too long for so many.
mod whole {
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

impl Entry {
    /// Bytes of its parts, which is nearly what it takes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let files = self.files.files.iter().map(|file| file.content.len() + file.path.as_bytes().len());
        (self.stdout.len() + self.stderr.len() + self.tree.len() + files.sum::<usize>()) as u64
    }

    /// Writes it down.
    pub(super) fn encode(&self, key: &Key) -> Vec<u8> {
        let body = postcard::to_allocvec(self).expect("plain data can be written to memory");
        let length = (body.len() as u64).to_le_bytes();
        let header = [MAGIC, &VERSION.to_le_bytes()[..], key.as_bytes(), &length, &Sha256::digest(&body)];
        let mut bytes = header.concat();
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads it; `None` where a single byte is not what was written under this key by this version.
    pub(super) fn decode(bytes: &[u8], key: &Key) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let rest = rest.strip_prefix(&VERSION.to_le_bytes())?;
        let rest = rest.strip_prefix(key.as_bytes())?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (hash, body) = rest.split_first_chunk::<32>()?;
        if u64::from_le_bytes(*length) != body.len() as u64 || Sha256::digest(body)[..] != hash[..] {
            return None;
        }
        postcard::from_bytes(body).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::{ArchivedFile, FilePath};

    pub(in crate::cache) fn key(first: u8) -> Key {
        let mut bytes = [7; Key::BYTES];
        bytes[0] = first;
        Key::from_bytes(bytes)
    }

    /// An entry with one file of this size.
    pub(in crate::cache) fn entry(size: usize) -> Entry {
        let path = FilePath::try_from(b"program".to_vec()).unwrap();
        Entry {
            stdout: b"said".to_vec(),
            stderr: b"warned".to_vec(),
            usage: Usage { wall_time_us: 9, ..Usage::default() },
            denied: vec![Denial { syscall: "mount".into(), argument: None, count: 2 }],
            files: Archive { files: vec![ArchivedFile { path, content: Arc::new(vec![1; size]), executable: true }] },
            tree: b"tree".to_vec(),
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let (key, entry) = (key(1), entry(100));
        assert_eq!(Entry::decode(&entry.encode(&key), &key), Some(entry));
    }

    #[test]
    fn a_change_of_any_byte_is_seen() {
        let key = key(1);
        let written = entry(20).encode(&key);
        for place in 0..written.len() {
            let mut spoilt = written.clone();
            spoilt[place] ^= 1;
            assert_eq!(Entry::decode(&spoilt, &key), None, "byte {place} of {}", written.len());
        }
    }

    #[test]
    fn an_entry_of_any_other_length_is_none() {
        let key = key(1);
        let written = entry(20).encode(&key);
        for length in 0..written.len() {
            assert_eq!(Entry::decode(&written[..length], &key), None, "{length} of {}", written.len());
        }
        assert_eq!(Entry::decode(&[&written[..], b"\0"].concat(), &key), None);
    }

    #[test]
    fn another_key_or_version_is_another_entry() {
        let written = entry(20).encode(&key(1));
        assert_eq!(Entry::decode(&written, &key(2)), None);
        let mut newer = written.clone();
        newer[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        assert_eq!(Entry::decode(&newer, &key(1)), None);
        assert!(Entry::decode(&written, &key(1)).is_some());
    }
}
