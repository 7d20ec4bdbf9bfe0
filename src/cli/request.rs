//! From the command line to a request of the API: files are read, the language is told.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::arguments::Arguments;
use super::dependencies::PackagesError;
use super::limit;
use crate::api::wire::{FileRequest, RunRequest};
use crate::daemon::{self, DaemonError};
use crate::profile::LimitChanges;

/// Most bytes of one file or of standard input. The service has its own, lower limit on the
/// request; this one keeps an endless file from filling our memory.
const INPUT_BYTES: u64 = 256 << 20;

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// A file can't be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file or standard input is too large to send.
    #[error("{0} is larger than {INPUT_BYTES} bytes")]
    TooLarge(String),
    /// A path has no usable name for inside.
    #[error("{}: has no name that is UTF-8; give one as PATH=NAME", .0.display())]
    NoName(PathBuf),
    /// The extension tells no language.
    #[error("{}: its extension tells no language; give one by --runtime (known: {known})", file.display())]
    UnknownExtension {
        /// The source file.
        file: PathBuf,
        /// Every extension that is known.
        known: String,
    },
    /// A lock file can't be sent.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] DaemonError),
}

/// Draws up the request.
pub(super) fn draw_up(arguments: &Arguments) -> Result<RunRequest, RequestError> {
    let runtime = match &arguments.runtime {
        Some(runtime) => runtime.clone(),
        None => language_of(&arguments.file, arguments.place.config.as_deref())?,
    };
    // The first file is the one that is run. It goes by its own name, as that can matter (Java).
    let main_name = arguments.file.file_name().and_then(|name| name.to_str());
    let main_name = main_name.ok_or_else(|| RequestError::NoName(arguments.file.clone()))?;
    let mut files = vec![read_file(&arguments.file, main_name.to_owned())?];
    for given in &arguments.files {
        let (path, name) = source_and_name(given)?;
        files.push(read_file(&path, name)?);
    }
    let tests = arguments.tests.form()?;
    // Each of the tests has its own.
    let input = if tests.is_some() { None } else { read_stdin(arguments.stdin.as_deref())? };
    let (stdin, stdin_base64) = either(input);
    let program_arguments = arguments.program_arguments();
    let outputs = arguments.outputs.clone();
    Ok(RunRequest {
        tests,
        runtime,
        files,
        stdin,
        stdin_base64,
        args: (!program_arguments.is_empty()).then_some(program_arguments),
        env: (!arguments.env.is_empty()).then(|| arguments.env.iter().cloned().collect()),
        profile: arguments.profile.clone(),
        limits: changes(&arguments.limits),
        compile_limits: changes(&arguments.compile_limits),
        network: arguments.reach.form(),
        secrets: arguments.reach.secrets(),
        dependencies: arguments.packages.form()?,
        outputs: (!outputs.is_empty()).then_some(outputs),
        cache: arguments.no_cache.then_some(false),
        ..RunRequest::default()
    })
}

fn changes(limits: &[limit::Limit]) -> Option<LimitChanges> {
    (!limits.is_empty()).then(|| limit::changes(limits))
}

/// The language that a file's extension tells.
fn language_of(file: &Path, config: Option<&Path>) -> Result<String, RequestError> {
    let (config, _) = daemon::load(config)?;
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let all = config.languages.iter().flat_map(|language| language.extensions.iter().map(move |one| (one, language)));
    if let Some((_, language)) = all.clone().find(|(known, _)| *known == extension) {
        return Ok(language.name.clone());
    }
    let mut known: Vec<String> = all.map(|(known, _)| format!(".{known}")).collect();
    known.sort_unstable();
    Err(RequestError::UnknownExtension { file: file.to_owned(), known: known.join(" ") })
}

/// What `--file PATH[=NAME]` means. A relative path that stays below the current directory keeps
/// its directories, so that `--file lib/util.py` can be imported as it can outside.
fn source_and_name(given: &Path) -> Result<(PathBuf, String), RequestError> {
    if let Some((path, name)) = given.to_str().and_then(|text| text.rsplit_once('=')) {
        return Ok((path.into(), name.to_owned()));
    }
    let stays = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let name = if given.components().all(|part| stays(&part)) {
        given.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>()
    } else {
        given.file_name().map(PathBuf::from).unwrap_or_default()
    };
    match name.to_str() {
        Some(name) if !name.is_empty() => Ok((given.to_owned(), name.to_owned())),
        _ => Err(RequestError::NoName(given.to_owned())),
    }
}

fn read_file(path: &Path, name: String) -> Result<FileRequest, RequestError> {
    let failed = |error| RequestError::Read { path: path.to_owned(), error };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let content = read(file, &path.display().to_string()).map_err(|error| error.at(path))?;
    let (content, content_base64) = either(Some(content));
    let executable = (mode & 0o100 != 0).then_some(true);
    Ok(FileRequest { path: Some(name), content, content_base64, executable, ..FileRequest::default() })
}

/// What the program gets as its input. From a terminal nothing: there is no way yet to type into
/// a program that runs.
fn read_stdin(given: Option<&Path>) -> Result<Option<Vec<u8>>, RequestError> {
    if let Some(path) = given {
        return read_bytes(path).map(Some);
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let bytes = read(stdin.lock(), "standard input").map_err(|error| error.at(Path::new("standard input")))?;
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// The bytes of a file.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, RequestError> {
    let file = File::open(path).map_err(|error| RequestError::Read { path: path.to_owned(), error })?;
    read(file, &path.display().to_string()).map_err(|error| error.at(path))
}

/// Why bytes could not be read.
enum ReadError {
    System(std::io::Error),
    TooLarge(String),
}

impl ReadError {
    fn at(self, path: &Path) -> RequestError {
        match self {
            Self::System(error) => RequestError::Read { path: path.to_owned(), error },
            Self::TooLarge(name) => RequestError::TooLarge(name),
        }
    }
}

fn read(source: impl Read, name: &str) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let read = source.take(INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(ReadError::System)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > INPUT_BYTES {
        return Err(ReadError::TooLarge(name.to_owned()));
    }
    Ok(bytes)
}

/// Bytes as text where they are text, else as base64.
fn either(bytes: Option<Vec<u8>>) -> (Option<String>, Option<String>) {
    match bytes.map(String::from_utf8) {
        None => (None, None),
        Some(Ok(text)) => (Some(text), None),
        Some(Err(error)) => (None, Some(STANDARD.encode(error.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(given: &str) -> Option<(String, String)> {
        let (path, name) = source_and_name(Path::new(given)).ok()?;
        Some((path.to_str()?.to_owned(), name))
    }

    #[test]
    fn a_file_keeps_its_relative_path() {
        for (given, path, inside) in [
            ("data.csv", "data.csv", "data.csv"),
            ("./lib/util.py", "./lib/util.py", "lib/util.py"),
            ("/etc/hostname", "/etc/hostname", "hostname"),
            ("../other/x.py", "../other/x.py", "x.py"),
            ("/tmp/a=b.txt", "/tmp/a", "b.txt"),
            ("x=lib/y.py", "x", "lib/y.py"),
        ] {
            assert_eq!(name(given), Some((path.to_owned(), inside.to_owned())), "{given}");
        }
        assert_eq!(name(".."), None);
    }

    #[test]
    fn extensions_tell_languages() {
        for (file, language) in [("a.py", "python"), ("dir/a.b.cpp", "c++"), ("a.js", "javascript"), ("x.rs", "rust")] {
            assert_eq!(language_of(Path::new(file), None).unwrap(), language);
        }
    }

    #[test]
    fn an_unknown_extension_is_answered_with_those_that_are_known() {
        for file in ["a.xyz", "Makefile", ".py"] {
            let error = language_of(Path::new(file), None).unwrap_err().to_string();
            assert!(error.contains("--runtime") && error.contains(".py"), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_travel_as_base64() {
        assert_eq!(either(Some(b"hi".to_vec())), (Some("hi".to_owned()), None));
        assert_eq!(either(Some(b"\xff".to_vec())), (None, Some("/w==".to_owned())));
        assert_eq!(either(None), (None, None));
    }

    #[test]
    fn a_directory_is_no_file() {
        let error = read_file(Path::new("/tmp"), "x".to_owned()).unwrap_err().to_string();
        assert!(error.contains("/tmp"), "{error}");
    }
}
