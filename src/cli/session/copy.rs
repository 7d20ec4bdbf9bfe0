//! `codesandbox session cp`: files and directories into a session, or out of it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::SessionError;
use super::archive::pack;
use super::extract::{Extracted, extract};
use super::link::{Link, escape};
use super::target::{Side, base_name, join, side};
use super::transfer::{Source, both, read_by, reading, to_file, to_stdout, written_by};
use crate::cli::{complain, exit};
use crate::client::ClientError;

/// Examples.
pub(super) const HELP: &str = "\
One side is ID:PATH, with a path below /workspace; the other is a path here, or - for standard input or output.
Where the target is a directory that exists, or ends with a slash, the copy is put into it under its own name.
A directory is copied with all in it; with - it is a tar stream. What comes out of a session is written below the
target only: links that lead outside, devices and the like are left out, each with a message.

Examples:
  codesandbox session cp main.py 3f2a:
  codesandbox session cp project 3f2a:src
  codesandbox session cp 3f2a:out/plot.png .
  codesandbox session cp 3f2a:out - | tar -t
  generate | codesandbox session cp - 3f2a:input.txt";

/// Arguments of `codesandbox session cp`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to copy
    #[arg(value_name = "SOURCE", value_parser = side, value_hint = clap::ValueHint::AnyPath)]
    source: Side,
    /// Where to
    #[arg(value_name = "TARGET", value_parser = side, value_hint = clap::ValueHint::AnyPath)]
    target: Side,
}

/// Copies.
pub(super) async fn run(link: &Link, arguments: &Arguments) -> Result<u8, SessionError> {
    match (&arguments.source, &arguments.target) {
        (Side::There { id, path }, Side::Stream) => fetch(link, id, path, None).await,
        (Side::There { id, path }, Side::Here(target)) => fetch(link, id, path, Some(target)).await,
        (Side::Stream, Side::There { id, path }) => {
            if path.is_empty() || path.ends_with('/') {
                return Err(SessionError::Said("standard input needs the name of a file to go to".to_owned()));
            }
            let session = link.session(id).await?;
            send_file(link, &session, path, Source::Stdin, false).await
        }
        (Side::Here(source), Side::There { id, path }) => send(link, source, id, path).await,
        _ => Err(SessionError::Said("one side must be ID:PATH, and the other a path here or -".to_owned())),
    }
}

/// What is at a path in a session.
#[derive(Debug, Deserialize)]
struct Entry {
    kind: String,
    #[serde(default)]
    mode: u32,
}

impl Entry {
    fn is_directory(&self) -> bool {
        self.kind == "directory"
    }
}

/// What is there; `None` where nothing is.
async fn look(link: &Link, session: &str, path: &str) -> Result<Option<Entry>, ClientError> {
    match link.get(&format!("{session}/fs/stat?path={}", escape(path))).await {
        Ok(entry) => Ok(Some(entry)),
        // The session itself is known by now; where it is not, writing will say so.
        Err(ClientError::Refused(refusal)) if refusal.status == 404 && names(&refusal.body, "no-such-file") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a problem is of this kind.
fn names(problem: &[u8], kind: &str) -> bool {
    let problem: Option<serde_json::Value> = serde_json::from_slice(problem).ok();
    problem.and_then(|problem| Some(problem.get("type")?.as_str()?.ends_with(kind))).unwrap_or(false)
}

/// Into a session.
async fn send(link: &Link, source: &Path, id: &str, path: &str) -> Result<u8, SessionError> {
    let known = fs::metadata(source).map_err(|error| SessionError::File { path: source.to_owned(), error })?;
    let session = link.session(id).await?;
    let into = path.is_empty()
        || path.ends_with('/')
        || look(link, &session, path).await?.is_some_and(|entry| entry.is_directory());
    let target = match (into, source.to_str().and_then(base_name)) {
        (true, Some(name)) => join(path, name),
        // What has no name of its own, such as `.`, is what is in it.
        (true, None) if known.is_dir() => path.trim_end_matches('/').to_owned(),
        (true, None) => return Err(SessionError::Said(format!("{}: its name is no UTF-8", source.display()))),
        (false, _) => path.to_owned(),
    };
    if known.is_dir() {
        return send_directory(link, &session, &target, source.to_owned()).await;
    }
    let executable = known.permissions().mode() & 0o100 != 0;
    send_file(link, &session, &target, Source::open(source)?, executable).await
}

async fn send_file(
    link: &Link,
    session: &str,
    path: &str,
    source: Source,
    executable: bool,
) -> Result<u8, SessionError> {
    let more = if executable { "&executable=true" } else { "" };
    let path = format!("{session}/fs/file?path={}{more}", escape(path));
    let (body, worker) = reading(source);
    let mut client = link.connect().await?;
    both(client.upload(Method::PUT, &path, "application/octet-stream", body), worker).await?;
    Ok(0)
}

async fn send_directory(link: &Link, session: &str, path: &str, source: PathBuf) -> Result<u8, SessionError> {
    if !path.is_empty() {
        link.call(Method::POST, &format!("{session}/fs/mkdir"), Some(&json!({"path": path}))).await?;
    }
    let path = format!("{session}/fs/archive?path={}", escape(path));
    let (body, worker) = written_by(move |writer| pack(&source, std::io::BufWriter::new(writer)));
    let mut client = link.connect().await?;
    both(client.upload(Method::PUT, &path, "application/x-tar", body), worker).await?;
    Ok(0)
}

/// Out of a session: into a file or directory, or to standard output.
async fn fetch(link: &Link, id: &str, path: &str, target: Option<&PathBuf>) -> Result<u8, SessionError> {
    let session = link.session(id).await?;
    let there = look(link, &session, path).await?;
    let entry = there.ok_or_else(|| SessionError::Said(format!("{id}:{path}: there is no such file")))?;
    let kind = if entry.is_directory() { "archive" } else { "file" };
    let mut client = link.connect().await?;
    let body = client.download(&format!("{session}/fs/{kind}?path={}", escape(path))).await?;
    let Some(target) = target else {
        to_stdout(body).await?;
        return Ok(0);
    };
    let target = place(target, path);
    if !entry.is_directory() {
        to_file(body, &target).await?;
        make_executable(&target, entry.mode)?;
        return Ok(0);
    }
    fs::create_dir_all(&target).map_err(|error| SessionError::File { path: target.clone(), error })?;
    let extracted = read_by(body, move |reader| {
        extract(reader, &target).map_err(|error| SessionError::File { path: target.clone(), error })
    })
    .await?;
    Ok(tell(&extracted))
}

/// Where something goes that is to be put at a path here.
fn place(target: &Path, source: &str) -> PathBuf {
    let into = target.is_dir() || target.as_os_str().to_string_lossy().ends_with('/');
    match base_name(source) {
        // The name is the one on the command line, which no sandbox has chosen.
        Some(name) if into => target.join(name),
        _ => target.to_owned(),
    }
}

/// Gives a file that can be executed in the session the same here, as far as it can be read here.
fn make_executable(path: &Path, mode: u32) -> Result<(), SessionError> {
    if mode & 0o100 == 0 {
        return Ok(());
    }
    let changed = File::open(path).and_then(|file| {
        let known = file.metadata()?;
        let mut permissions = known.permissions();
        permissions.set_mode(permissions.mode() & 0o777 | (permissions.mode() & 0o444) >> 2);
        if known.is_file() { file.set_permissions(permissions) } else { Ok(()) }
    });
    changed.map_err(|error| SessionError::File { path: path.to_owned(), error })
}

fn tell(extracted: &Extracted) -> u8 {
    for line in &extracted.omitted {
        complain(line);
    }
    if extracted.more > 0 {
        complain(&format!("{} more are left out", extracted.more));
    }
    if extracted.omitted.is_empty() { 0 } else { exit::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_there_gets_the_copy_under_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path();
        assert_eq!(place(here, "out/plot.png"), here.join("plot.png"));
        assert_eq!(place(here, ""), here);
        assert_eq!(place(&here.join("new"), "out/plot.png"), here.join("new"));
        assert_eq!(place(Path::new("new/"), "a"), Path::new("new/a"));
    }

    #[test]
    fn whoever_can_read_may_execute_and_nobody_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mode = || fs::metadata(file.path()).unwrap().permissions().mode() & 0o7777;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        make_executable(file.path(), 0o644).unwrap();
        assert_eq!(mode(), 0o640);
        make_executable(file.path(), 0o4755).unwrap();
        assert_eq!(mode(), 0o750);
    }

    #[test]
    fn a_problem_is_known_by_its_type() {
        assert!(names(br#"{"type":"urn:codesandbox:problem:no-such-file"}"#, "no-such-file"));
        assert!(!names(br#"{"type":"unknown-session"}"#, "no-such-file") && !names(b"<html>", "x"));
    }
}
