//! Files as clients of Piston name and encode them, as requests of our own have them.

use std::collections::HashSet;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use data_encoding::HEXLOWER_PERMISSIVE;

use super::asked::File;
use crate::api::compat::loose::{Fields, List, Scalar};
use crate::api::problem::Problem;
use crate::api::wire::FileRequest;
use crate::plan::FilePath;
use crate::runtime::Language;

/// As lenient with the end of a text as Node.js is.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A file whose content is a text.
#[derive(Debug, Clone)]
pub(super) struct Read {
    index: usize,
    name: Scalar,
    content: String,
    encoding: Encoding,
}

/// How the content of a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    /// Something that Piston does not know, which it reads as UTF-8 and does not count as such.
    Unknown,
    Base64,
    Hex,
}

/// The files of a request, the one that is run first.
#[derive(Debug)]
pub(super) struct Chosen {
    /// As requests of our own have them.
    pub(super) files: Vec<FileRequest>,
    /// Names of those that no compiler is given.
    pub(super) data: Vec<String>,
}

/// Files that all have a text for their content.
pub(super) fn read(files: List<Fields<File>>, most: usize) -> Result<Vec<Read>, Problem> {
    let (files, count) = match files {
        List::Items(files, count) => (files, count),
        List::Nothing | List::Other => return Err(refused("files is required as an array")),
    };
    let files = files
        .into_iter()
        .enumerate()
        .map(|(index, Fields(File { name, content, encoding }))| match content {
            Scalar::Text(content) => Ok(Read { index, name, content, encoding: encoding_of(&encoding) }),
            _ => Err(refused(format!("files[{index}].content is required as a string"))),
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    if count > most {
        return Err(refused(format!("files: {count} files are too many, there may be {most}")));
    }
    Ok(files)
}

/// Whether there is one that can be run.
pub(super) fn has_source(files: &[Read]) -> bool {
    files.iter().any(|file| file.encoding == Encoding::Utf8)
}

/// The files with their names and bytes; what is run is the first that is a text.
pub(super) fn choose(mut files: Vec<Read>, language: &Language) -> Result<Chosen, Problem> {
    if let Some(main) = files.iter().position(|file| !file.is_data()) {
        files[..=main].rotate_right(1);
    }
    let mut names = Vec::with_capacity(files.len());
    for (place, file) in files.iter().enumerate() {
        names.push(file.path(place == 0, language)?);
    }
    let mut seen = HashSet::with_capacity(names.len());
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(refused(format!("File path \"{}\" is that of two files", clipped(twice))));
    }
    let data = files.iter().zip(&names).filter(|(file, _)| file.is_data()).map(|(_, name)| name.clone()).collect();
    let files = files.into_iter().zip(names).map(|(file, name)| file.request(name)).collect::<Result<_, _>>()?;
    Ok(Chosen { files, data })
}

impl Read {
    fn is_data(&self) -> bool {
        matches!(self.encoding, Encoding::Base64 | Encoding::Hex)
    }

    /// Its path below the workspace.
    fn path(&self, is_main: bool, language: &Language) -> Result<String, Problem> {
        let index = self.index;
        let name = match &self.name {
            name if name.is_falsy() && is_main => return Ok(language.main.clone()),
            name if name.is_falsy() => format!("file{index}.code"),
            Scalar::Text(name) => normal(name)?,
            _ => return Err(refused(format!("files[{index}].name must be a string"))),
        };
        // Compilers go by the ending; Piston's own packages add it, too.
        let names_source = is_main || (self.name.is_falsy() && !self.is_data());
        let ending = name.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
        let is_known = ending.is_some_and(|ending| language.extensions.iter().any(|known| known == ending));
        let name = match language.extensions.first() {
            Some(ending) if names_source && !is_known && language.compile.is_some() => format!("{name}.{ending}"),
            _ => name,
        };
        match FilePath::try_from(name.clone().into_bytes()) {
            Ok(_) => Ok(name),
            Err(error) => Err(refused(format!("files[{index}].name: {error}"))),
        }
    }

    fn request(self, path: String) -> Result<FileRequest, Problem> {
        let index = self.index;
        let bytes = match self.encoding {
            Encoding::Utf8 | Encoding::Unknown => {
                return Ok(FileRequest { path: Some(path), content: Some(self.content), ..FileRequest::default() });
            }
            Encoding::Base64 => BASE64
                .decode(plain(&self.content))
                .map_err(|error| refused(format!("files[{index}].content is not base64: {error}")))?,
            Encoding::Hex => HEXLOWER_PERMISSIVE
                .decode(self.content.as_bytes())
                .map_err(|error| refused(format!("files[{index}].content is not hex: {error}")))?,
        };
        let (content, content_base64) = match String::from_utf8(bytes) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        Ok(FileRequest { path: Some(path), content, content_base64, ..FileRequest::default() })
    }
}

fn encoding_of(given: &Scalar) -> Encoding {
    match given {
        given if given.is_falsy() => Encoding::Utf8,
        Scalar::Text(name) => match name.as_str() {
            "utf8" => Encoding::Utf8,
            "base64" => Encoding::Base64,
            "hex" => Encoding::Hex,
            _ => Encoding::Unknown,
        },
        _ => Encoding::Unknown,
    }
}

/// Base64 without line breaks, and in the usual alphabet where it is in that of addresses.
fn plain(text: &str) -> Vec<u8> {
    let usual = |byte: u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    };
    text.bytes().filter(|byte| !byte.is_ascii_whitespace()).map(usual).collect()
}

/// A path without `.`, `..` and empty parts; an absolute one is below the workspace as well.
fn normal(name: &str) -> Result<String, Problem> {
    let mut parts: Vec<&str> = Vec::new();
    let mut above = 0;
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => above += 1,
            ".." => {}
            part => parts.push(part),
        }
    }
    if above > 0 {
        let relative = format!("{}{}", "../".repeat(above), parts.join("/"));
        let relative = clipped(relative.trim_end_matches('/'));
        return Err(refused(format!("File path \"{}\" tries to escape parent directory: {relative}", clipped(name))));
    }
    // The last part is that of the file.
    if parts.is_empty() || name.ends_with('/') || name.ends_with("/.") || name.ends_with("/..") {
        return Err(refused(format!("File path \"{}\" is that of a directory", clipped(name))));
    }
    Ok(parts.join("/"))
}

/// As much of a client's text as is sent back.
pub(super) fn clipped(text: &str) -> String {
    const CHARS: usize = 200;
    text.chars().take(CHARS).collect()
}

/// A refusal in words that clients of Piston know.
pub(super) fn refused(message: impl Into<String>) -> Problem {
    Problem::new(crate::api::problem::Kind::InvalidField, message)
}

#[cfg(test)]
mod tests;
