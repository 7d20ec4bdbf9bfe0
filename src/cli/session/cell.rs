//! `codesandbox session run-code`: code in a context, which keeps its variables from one piece to the next.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde::Deserialize;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::link::{Link, escape, understood};
use super::output::show;
use super::transfer::Source;
use super::wire::{Key, Session, Stream};
use super::{SessionError, print};
use crate::api::problem::ProblemDetails;
use crate::cli::text::harmless;
use crate::cli::{complain, exit};
use crate::client::{ClientError, explain};
use crate::sys::fs::{open_beneath, open_directory};

/// Examples.
pub(super) const HELP: &str = "\
Without --context the latest context of the language is used, and one is made where there is none. The language is
that of the session's first runtime where none is given. Ctrl-C interrupts the code; a second one leaves it.
Exit status: 0, 1 where the code raised an error, 125 where codesandbox failed.

Examples:
  codesandbox session run-code 3f2a analysis.py
  echo 'x = 6 * 7' | codesandbox session run-code 3f2a -
  codesandbox session run-code 3f2a plot.py --save-images plots";
/// Most bytes of code.
const CODE: u64 = 16 << 20;
/// Forms of a result that are images, and the ends of the names of their files.
const IMAGES: [(&str, &str); 5] = [
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("image/svg+xml", "svg"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
];

/// Arguments of `codesandbox session run-code`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The session
    id: String,
    /// File with the code; - is standard input
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// The context
    #[arg(short, long)]
    context: Option<String>,
    /// The language
    #[arg(short, long, conflicts_with = "context")]
    language: Option<String>,
    /// Make a new context, and tell its name on standard error
    #[arg(long, conflicts_with = "context")]
    new: bool,
    /// Directory that images are written into
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    save_images: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Contexts {
    contexts: Vec<Context>,
}

#[derive(Debug, Deserialize)]
struct Context {
    id: Key,
    #[serde(default)]
    language: String,
    #[serde(default)]
    state: String,
}

/// What the code says.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Stream {
        name: Stream,
        text: String,
    },
    DisplayData {
        data: BTreeMap<String, String>,
    },
    ExecuteResult {
        data: BTreeMap<String, String>,
    },
    Error {
        ename: String,
        evalue: String,
        traceback: Vec<String>,
    },
    Finished {
        status: String,
    },
    Failed {
        problem: Box<ProblemDetails>,
    },
    #[serde(other)]
    Other,
}

/// Runs a piece of code.
pub(super) async fn run(link: &Link, arguments: &Arguments) -> Result<u8, SessionError> {
    let code = read(&arguments.file)?;
    let session = link.session(&arguments.id).await?;
    let context = match &arguments.context {
        Some(context) => context.clone(),
        None => context(link, &session, arguments).await?,
    };
    let path = format!("{session}/contexts/{}", escape(&context));
    let images = arguments.save_images.as_deref().map(Images::open).transpose()?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| SessionError::Said(format!("signals: {error}")))?;
    let mut told = std::pin::pin!(execute(link, &path, &code, images));
    tokio::select! {
        status = &mut told => return status,
        _ = interrupt.recv() => {}
    }
    let (link, path) = (link.clone(), path.clone());
    tokio::spawn(async move {
        if let Err(error) = link.call(Method::POST, &format!("{path}/interrupt"), Some(&json!({}))).await {
            complain(&error);
        }
    });
    tokio::select! {
        status = &mut told => status,
        _ = interrupt.recv() => Ok(exit::INTERRUPTED),
    }
}

fn read(file: &Path) -> Result<String, SessionError> {
    let mut code = String::new();
    let read = match Source::open(file)? {
        Source::Stdin => std::io::stdin().lock().take(CODE + 1).read_to_string(&mut code),
        Source::File(_, file) => file.take(CODE + 1).read_to_string(&mut code),
    };
    let read = read.map_err(|error| SessionError::File { path: file.to_owned(), error })?;
    if u64::try_from(read).unwrap_or(u64::MAX) > CODE {
        return Err(SessionError::Said(format!("{} is larger than {CODE} bytes", file.display())));
    }
    Ok(code)
}

/// The latest context of the language that is not dead, or a new one.
async fn context(link: &Link, session: &str, arguments: &Arguments) -> Result<String, SessionError> {
    let language = match &arguments.language {
        Some(language) => language.clone(),
        None => {
            let known: Session = link.get(session).await?;
            known.runtimes.first().map(|runtime| language_of(runtime).to_owned()).unwrap_or_default()
        }
    };
    let path = format!("{session}/contexts");
    if !arguments.new {
        let known: Contexts = link.get(&path).await?;
        let mut fitting = known.contexts.into_iter().filter(|one| one.language == language && one.state != "dead");
        if let Some(context) = fitting.next_back() {
            return Ok(context.id.0);
        }
    }
    let made: Context = link.post(&path, &json!({"language": language})).await?;
    if arguments.new {
        complain(&format!("context {}", harmless(&made.id.0)));
    }
    Ok(made.id.0)
}

/// Language of a runtime such as `python-3.11` or `c++`.
fn language_of(runtime: &str) -> &str {
    match runtime.rsplit_once(['-', '@']) {
        Some((language, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => language,
        _ => runtime,
    }
}

/// Executes code and shows what it says.
async fn execute(link: &Link, path: &str, code: &str, images: Option<Images>) -> Result<u8, SessionError> {
    let body = json!({"code": code}).to_string().into_bytes();
    let mut lines = link.connect().await?.lines(Method::POST, &format!("{path}/execute"), body).await?;
    let mut images = images;
    while let Some(line) = lines.next().await? {
        if line.is_empty() {
            continue;
        }
        match understood(&line)? {
            Event::Stream { name, text } => show(name, text.into_bytes()).await?,
            Event::DisplayData { data } | Event::ExecuteResult { data } => {
                let saved = match &mut images {
                    Some(images) => images.save(&data)?,
                    None => Vec::new(),
                };
                print(shown(&data, &saved)).await?;
            }
            Event::Error { ename, evalue, traceback } => {
                let text = if traceback.is_empty() { format!("{ename}: {evalue}") } else { traceback.join("\n") };
                show(Stream::Stderr, format!("{}\n", text.trim_end()).into_bytes()).await?;
            }
            Event::Finished { status } if status == "ok" => return Ok(0),
            Event::Finished { status } => {
                if status != "error" {
                    complain(&format!("the code ended: {}", harmless(&status)));
                }
                return Ok(if status == "interrupted" { exit::INTERRUPTED } else { 1 });
            }
            Event::Failed { problem } => return Err(SessionError::Said(explain(&problem))),
            Event::Other => {}
        }
    }
    Err(ClientError::Strange("it ended before the code did".to_owned()).into())
}

/// A result in words: its text where it has one, and the files that its images are in.
fn shown(data: &BTreeMap<String, String>, saved: &[PathBuf]) -> String {
    let mut text = String::new();
    for form in ["text/plain", "text/markdown", "application/json"] {
        if let Some(value) = data.get(form) {
            text.push_str(value);
            break;
        }
    }
    if text.is_empty() && saved.is_empty() {
        let forms: Vec<String> = data.keys().map(|form| harmless(form)).collect();
        text = format!("[{}]", forms.join(", "));
    }
    for path in saved {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&path.display().to_string());
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Where images go, under names of ours.
struct Images {
    directory: PathBuf,
    opened: std::os::fd::OwnedFd,
    next: u32,
}

impl Images {
    fn open(directory: &Path) -> Result<Self, SessionError> {
        let failed = |error| SessionError::File { path: directory.to_owned(), error };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let opened = open_directory(directory).map_err(|error| failed(error.errno.into()))?;
        Ok(Self { directory: directory.to_owned(), opened, next: 1 })
    }

    /// Writes every image among the forms of one result; what is there is never replaced.
    fn save(&mut self, data: &BTreeMap<String, String>) -> Result<Vec<PathBuf>, SessionError> {
        let mut saved = Vec::new();
        for (form, end) in IMAGES {
            let Some(value) = data.get(form) else { continue };
            let bytes = if form == "image/svg+xml" {
                value.clone().into_bytes()
            } else {
                let compact: String = value.split_ascii_whitespace().collect();
                STANDARD.decode(compact).map_err(|error| ClientError::Strange(error.to_string()))?
            };
            saved.push(self.write(&bytes, end)?);
        }
        Ok(saved)
    }

    fn write(&mut self, bytes: &[u8], end: &str) -> Result<PathBuf, SessionError> {
        use std::io::Write;
        loop {
            let name = format!("image-{}.{end}", self.next);
            let path = self.directory.join(&name);
            self.next = self.next.checked_add(1).ok_or_else(|| SessionError::Said("too many images".to_owned()))?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            match open_beneath(self.opened.as_fd(), Path::new(&name), flags, Mode::from_bits_truncate(0o644)) {
                Err(error) if error.errno == nix::errno::Errno::EEXIST => {}
                Err(error) => return Err(SessionError::File { path, error: error.errno.into() }),
                Ok(file) => {
                    let written = std::fs::File::from(file).write_all(bytes);
                    return written.map(|()| path.clone()).map_err(|error| SessionError::File { path, error });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(form, value)| ((*form).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn images_get_names_that_are_free() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("image-1.png"), "mine").unwrap();
        let mut images = Images::open(directory.path()).unwrap();
        let saved = images.save(&forms(&[("image/png", "aGk=\n"), ("text/plain", "x"), ("image/svg+xml", "<svg/>")]));
        assert_eq!(saved.unwrap(), ["image-2.png", "image-3.svg"].map(|name| directory.path().join(name)));
        assert_eq!(std::fs::read(directory.path().join("image-1.png")).unwrap(), b"mine");
        assert_eq!(std::fs::read(directory.path().join("image-2.png")).unwrap(), b"hi");
    }

    #[test]
    fn a_result_is_told_by_its_text() {
        assert_eq!(shown(&forms(&[("text/plain", "42"), ("text/html", "<b>42</b>")]), &[]), "42\n");
        assert_eq!(shown(&forms(&[("image/png", "x")]), &[]), "[image/png]\n");
        assert_eq!(shown(&forms(&[("image/png", "x")]), &["a/image-1.png".into()]), "a/image-1.png\n");
    }

    #[test]
    fn a_runtime_tells_its_language() {
        for (runtime, language) in
            [("python-3.11", "python"), ("c++-20", "c++"), ("bash", "bash"), ("python@3", "python")]
        {
            assert_eq!(language_of(runtime), language);
        }
    }
}
