//! Arguments and environment of the program: what it is given by name, and little else.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::pieces::Chosen;
use crate::network::PROXY_PORT;
use crate::plan::{SPEC_BYTES, Spec};

/// What every program has of the caller's variables: how it is to show things.
const PASSED: [&str; 6] = ["TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "TZ"];
/// And all that begin like this.
const PASSED_BEGINNING: &str = "LC_";
/// Where programs are looked for, where the caller's variable names nothing that is there.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why the program can't be given what it was to have.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvironmentError {
    /// No such variable.
    #[error("--env {}: this shell has no such variable; --env NAME=VALUE gives one a value", .0.display())]
    Unset(OsString),
    /// No name of one.
    #[error("--env {}: that is no name of a variable", .0.display())]
    Name(OsString),
    /// Too much.
    #[error("arguments and environment take more than {SPEC_BYTES} bytes")]
    TooLong,
    /// There is no program.
    #[error("{0}")]
    Program(String),
}

/// Who runs it.
#[derive(Debug)]
pub(super) struct Owner {
    /// Name.
    pub(super) name: String,
    /// Home directory, without links.
    pub(super) home: Option<PathBuf>,
}

impl Owner {
    /// Whoever we are.
    pub(super) fn find() -> Self {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let is_plain = |name: &String| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        // Inside there are a root and a nobody already, and it is neither.
        let is_own = |name: &String| !["root", "nobody"].contains(&name.as_str());
        let name = user.as_ref().map(|user| user.name.clone()).filter(|name| is_plain(name) && is_own(name));
        let named = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let home = named.or_else(|| user.map(|user| user.dir));
        Self {
            name: name.unwrap_or_else(|| "agent".to_owned()),
            home: home.map(|home| home.canonicalize().unwrap_or(home)),
        }
    }
}

/// All that the program is started with.
pub(super) fn spec(
    command: &[OsString],
    chosen_variables: &[OsString],
    proxy: bool,
    chosen: &Chosen,
) -> Result<Spec, EnvironmentError> {
    let path = search_path(std::env::var_os("PATH").as_deref(), chosen);
    let mut env: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let passed = std::env::vars_os().filter(|(name, _)| {
        PASSED.iter().any(|known| name == known) || name.as_bytes().starts_with(PASSED_BEGINNING.as_bytes())
    });
    env.extend(passed.map(|(name, value)| (name.into_vec(), value.into_vec())));
    let own = Owner::find().name;
    for (name, value) in [
        ("HOME", chosen.home.as_os_str()),
        ("PATH", path.as_os_str()),
        ("PWD", chosen.workdir.as_os_str()),
        ("SHELL", OsStr::new("/bin/sh")),
        ("USER", OsStr::new(&own)),
        ("LOGNAME", OsStr::new(&own)),
    ] {
        env.insert(name.into(), value.as_bytes().to_vec());
    }
    if proxy {
        let address = format!("http://127.0.0.1:{PROXY_PORT}");
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            env.insert(name.into(), address.clone().into_bytes());
        }
        for name in ["NO_PROXY", "no_proxy"] {
            env.insert(name.into(), b"localhost,127.0.0.1,::1".to_vec());
        }
    }
    for variable in chosen_variables {
        let (name, value) = named(variable)?;
        env.insert(name, value);
    }
    let search = env.get(&b"PATH"[..]).cloned().unwrap_or_default();
    let mut argv: Vec<Vec<u8>> = command.iter().map(|word| word.as_bytes().to_vec()).collect();
    if let (Some(first), Some(word)) = (argv.first_mut(), command.first()) {
        *first = program(word, OsStr::from_bytes(&search), chosen)?.into_os_string().into_vec();
    }
    let directory = Some(chosen.workdir.as_os_str().as_bytes().to_vec());
    let spec = Spec { argv, env, directory };
    if spec.encode().len() >= SPEC_BYTES { Err(EnvironmentError::TooLong) } else { Ok(spec) }
}

/// `NAME=VALUE`, or the caller's own of this name.
fn named(text: &OsStr) -> Result<(Vec<u8>, Vec<u8>), EnvironmentError> {
    let bytes = text.as_bytes();
    let is_name = |name: &[u8]| {
        !name.is_empty()
            && !name.first().is_some_and(u8::is_ascii_digit)
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (bytes.get(..at).unwrap_or_default(), Some(bytes.get(at + 1..).unwrap_or_default().to_vec())),
        None => (bytes, None),
    };
    if !is_name(name) {
        return Err(EnvironmentError::Name(OsStr::from_bytes(name).to_owned()));
    }
    let own = || std::env::var_os(text).map(OsStringExt::into_vec);
    let value = value.or_else(own).ok_or_else(|| EnvironmentError::Unset(text.to_owned()))?;
    Ok((name.to_vec(), value))
}

/// Of the directories in which the caller looks for programs, those that are there for this one.
fn search_path(path: Option<&OsStr>, chosen: &Chosen) -> OsString {
    let directories = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    let there = directories.into_iter().filter(|directory| directory.is_absolute()).filter_map(|directory| {
        let real = directory.canonicalize().ok().filter(|real| chosen.shows(real))?;
        // By its usual name, if that leads there inside as well.
        Some(if chosen.shows(&directory) { directory } else { real })
    });
    let mut kept: Vec<PathBuf> = Vec::new();
    for directory in there {
        if !kept.contains(&directory) {
            kept.push(directory);
        }
    }
    match std::env::join_paths(&kept) {
        Ok(path) if !kept.is_empty() => path,
        _ => USUAL_PATH.into(),
    }
}

/// Where the program is that this word names.
fn program(word: &OsStr, path: &OsStr, chosen: &Chosen) -> Result<PathBuf, EnvironmentError> {
    let lost = |text: String| EnvironmentError::Program(text);
    let shown = Path::new(word).display();
    if word.as_bytes().contains(&b'/') {
        let file = chosen.workdir.join(word);
        return match file.canonicalize() {
            Ok(real) if !chosen.shows(&real) => Err(lost(hidden(&real))),
            Err(error) => Err(lost(format!("{shown}: {error}"))),
            Ok(_) => Ok(word.into()),
        };
    }
    let find =
        |path: &OsStr| std::env::split_paths(path).map(|directory| directory.join(word)).find(|file| is_program(file));
    if let Some(found) = find(path) {
        return match found.canonicalize() {
            Ok(real) if chosen.shows(&real) => Ok(found),
            Ok(real) => Err(lost(hidden(&real))),
            Err(error) => Err(lost(format!("{}: {error}", found.display()))),
        };
    }
    let elsewhere = std::env::var_os("PATH").and_then(|path| find(&path)).and_then(|found| found.canonicalize().ok());
    match elsewhere {
        Some(real) => Err(lost(hidden(&real))),
        None => Err(lost(format!("{shown}: there is no such program in {}", Path::new(path).display()))),
    }
}

fn hidden(real: &Path) -> String {
    let directory = real.parent().unwrap_or(real).display();
    format!("{} is not there for the program: --read {directory} shows it", real.display())
}

fn is_program(file: &Path) -> bool {
    file.is_file() && access(file, AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(workdir: &str) -> Chosen {
        let pieces = vec![crate::plan::real::Piece { path: workdir.into(), identity: (0, 0), writable: true }];
        Chosen { workdir: workdir.into(), home: "/home/agent".into(), pieces, watched: Vec::new() }
    }

    #[test]
    fn variables_have_a_name_and_a_value() {
        assert_eq!(named(OsStr::new("A=b=c")).unwrap(), (b"A".to_vec(), b"b=c".to_vec()));
        assert_eq!(named(OsStr::new("A=")).unwrap(), (b"A".to_vec(), Vec::new()));
        for wrong in ["=b", "", "1A=b", "A-B=c"] {
            assert!(matches!(named(OsStr::new(wrong)), Err(EnvironmentError::Name(_))), "{wrong}");
        }
        let unset = named(OsStr::new("NOBODY_HAS_SET_THIS_ONE"));
        assert!(matches!(unset, Err(EnvironmentError::Unset(_))));
    }

    #[test]
    fn nothing_but_names_and_what_shows_things_is_in_the_environment() {
        let spec = spec(&["/bin/sh".into()], &["A=1".into()], false, &chosen("/srv/x")).unwrap();
        let known = |name: &str| {
            ["A", "HOME", "LOGNAME", "PATH", "PWD", "SHELL", "USER"].contains(&name)
                || PASSED.contains(&name)
                || name.starts_with(PASSED_BEGINNING)
        };
        for name in spec.env.keys() {
            assert!(known(std::str::from_utf8(name).unwrap()), "{name:?}");
        }
        assert_eq!(spec.directory.as_deref(), Some(&b"/srv/x"[..]));
    }

    #[test]
    fn the_proxy_is_named_only_where_that_is_wanted() {
        let names = |proxy| {
            let spec = spec(&["/bin/sh".into()], &[], proxy, &chosen("/srv/x")).unwrap();
            spec.env.into_keys().filter(|name| name.to_ascii_lowercase().ends_with(b"_proxy")).count()
        };
        assert_eq!((names(false), names(true)), (0, 6));
    }

    #[test]
    fn only_what_is_there_is_searched() {
        let path = search_path(Some(OsStr::new("/usr/bin:relative:/root/bin:/usr/bin:/srv/none")), &chosen("/srv/x"));
        assert_eq!(path, "/usr/bin");
        assert_eq!(search_path(None, &chosen("/srv/x")), USUAL_PATH);
    }

    #[test]
    fn a_program_that_is_not_there_is_told_with_what_shows_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().canonicalize().unwrap().join("tool");
        std::fs::write(&file, "").unwrap();
        let error = program(file.as_os_str(), OsStr::new("/usr/bin"), &chosen("/srv/x")).unwrap_err().to_string();
        assert!(error.contains("--read"), "{error}");
        assert!(program(OsStr::new("nobody-has-this"), OsStr::new("/usr/bin"), &chosen("/srv/x")).is_err());
        assert_eq!(
            program(OsStr::new("env"), OsStr::new("/usr/bin"), &chosen("/srv/x")).unwrap(),
            Path::new("/usr/bin/env")
        );
    }
}
