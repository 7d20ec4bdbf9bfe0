//! Looks for files by their name and for lines by what is in them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use globset::{GlobBuilder, GlobMatcher};
use nix::sys::stat::SFlag;
use regex::bytes::{Regex, RegexBuilder};

use super::Stop;
use super::tree::{Go, Met, Walk, kind_of, open_directory, open_regular};
use super::wire::{Answers, Wire};
use crate::plan::files::{Content, FileError, FileReply, Hit, LINE_BYTES, Line, Place, SearchLimits, TREE_DEPTH};

/// Largest compiled pattern, in bytes.
const PATTERN_BYTES: usize = 1 << 20;
/// Longest sentence about a pattern that is none, in characters.
const SENTENCE: usize = 1000;
/// Longest line that is looked at as one, in bytes; what is longer is taken apart.
const LONGEST_LINE: u64 = 1 << 20;
/// A file that has a NUL byte among its first bytes is none of text.
const LOOKED_AT: usize = 8 << 10;

pub(super) fn search(
    workspace: BorrowedFd<'_>,
    path: &Place,
    name: Option<&str>,
    content: Option<&Content>,
    limits: SearchLimits,
    wire: &Wire,
) -> Result<FileReply, Stop> {
    let name = name.map(name_pattern).transpose()?;
    let content = content.map(content_pattern).transpose()?;
    let directory = open_directory(workspace, path.as_path())?;
    let mut search = Search {
        name,
        content,
        deadline: Instant::now() + Duration::from_millis(limits.time_ms),
        left: limits,
        answers: wire.answers(),
    };
    // Patterns are about what lies below the directory, paths in answers about the workspace.
    let prefix = path.as_bytes();
    let go = Walk::new(TREE_DEPTH, false, &mut |met| search.visit(met, prefix)).run(directory.as_fd(), &mut Vec::new());
    search.answers.flush()?;
    match go {
        Ok(go) => Ok(FileReply::End { complete: go == Go::On }),
        Err(Stop::Refused(FileError::TooMany)) => Ok(FileReply::End { complete: false }),
        Err(stop) => Err(stop),
    }
}

fn name_pattern(text: &str) -> Result<GlobMatcher, FileError> {
    // As in lists of files to ignore: a pattern without a slash is about names in any directory.
    let text = if text.contains('/') { text.to_owned() } else { format!("**/{text}") };
    let built = GlobBuilder::new(&text).literal_separator(true).build();
    built.map(|glob| glob.compile_matcher()).map_err(|error| no_pattern(&error))
}

fn content_pattern(content: &Content) -> Result<Regex, FileError> {
    let text = match content {
        Content::Text(text) => regex::escape(text),
        Content::Regex(text) => text.clone(),
    };
    let built = RegexBuilder::new(&text).unicode(false).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build();
    built.map_err(|error| no_pattern(&error))
}

/// Such an error quotes the pattern, and an answer has a limit.
fn no_pattern(error: &dyn std::error::Error) -> FileError {
    FileError::Pattern(error.to_string().chars().take(SENTENCE).collect())
}

struct Search<'a> {
    name: Option<GlobMatcher>,
    content: Option<Regex>,
    deadline: Instant,
    left: SearchLimits,
    answers: Answers<'a>,
}

impl Search<'_> {
    fn visit(&mut self, met: &Met<'_>, prefix: &[u8]) -> Result<Go, Stop> {
        if Instant::now() >= self.deadline {
            return Ok(Go::Stop);
        }
        let path = Path::new(OsStr::from_bytes(met.path));
        let matches = match &self.name {
            Some(name) => name.is_match(path),
            None => kind_of(&met.found) == SFlag::S_IFREG,
        };
        if !matches {
            return Ok(Go::On);
        }
        let slash: &[u8] = if prefix.is_empty() { b"" } else { b"/" };
        let path = [prefix, slash, met.path].concat();
        match self.content.clone() {
            None => self.hit(Hit { path, line: None }),
            Some(_) if kind_of(&met.found) != SFlag::S_IFREG => Ok(Go::On),
            Some(pattern) => self.look_into(met, &path, &pattern),
        }
    }

    fn hit(&mut self, hit: Hit) -> Result<Go, Stop> {
        if self.left.hits == 0 {
            return Ok(Go::Stop);
        }
        self.left.hits -= 1;
        self.answers.put(FileReply::Hit(hit))?;
        Ok(Go::On)
    }

    fn look_into(&mut self, met: &Met<'_>, path: &[u8], pattern: &Regex) -> Result<Go, Stop> {
        if self.left.files == 0 {
            return Ok(Go::Stop);
        }
        self.left.files -= 1;
        // A file that can't be opened has nothing to show.
        let Ok((file, _)) = open_regular(met.directory, met.name) else { return Ok(Go::On) };
        let mut reader = BufReader::with_capacity(64 << 10, file);
        let Ok(start) = reader.fill_buf() else { return Ok(Go::On) };
        if start.iter().take(LOOKED_AT).any(|byte| *byte == 0) {
            return Ok(Go::On);
        }
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let most = LONGEST_LINE.min(self.left.bytes);
            let Ok(count) = reader.by_ref().take(most).read_until(b'\n', &mut line) else { return Ok(Go::On) };
            if count == 0 {
                // Either the file is at its end, or nothing more may be looked at.
                return Ok(if self.left.bytes == 0 { Go::Stop } else { Go::On });
            }
            self.left.bytes -= count as u64;
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if let Some(found) = pattern.find(text) {
                let line = line_of(text, number, found.start());
                if self.hit(Hit { path: path.to_vec(), line: Some(line) })? == Go::Stop {
                    return Ok(Go::Stop);
                }
            }
            if number % 256 == 0 && Instant::now() >= self.deadline {
                return Ok(Go::Stop);
            }
        }
        Ok(Go::On)
    }
}

fn line_of(text: &[u8], number: u64, start: usize) -> Line {
    // Every byte of UTF-8 that does not go on with a character begins one.
    let before = text.iter().take(start).filter(|byte| (**byte & 0xc0) != 0x80).count();
    let shown = text.iter().copied().take(LINE_BYTES).collect();
    Line { number, column: before as u64 + 1, text: shown }
}
