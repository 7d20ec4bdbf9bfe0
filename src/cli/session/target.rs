//! Words of the command line that name two things at once: `KEY=VALUE`, `ID:PATH`, `PORT:LOCAL`.

use std::path::PathBuf;

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    /// Standard input or output.
    Stream,
    /// A file or directory here.
    Here(PathBuf),
    /// One in a session.
    There {
        /// The session, as given.
        id: String,
        /// Path below `/workspace`; empty is `/workspace` itself.
        path: String,
    },
}

/// Reads one side of a copy. A path of this machine that has a colon in its first part is written
/// with `./` before it.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn side(text: &str) -> Result<Side, String> {
    if text == "-" {
        return Ok(Side::Stream);
    }
    match text.split_once(':') {
        Some((id, path)) if !id.contains('/') && !id.starts_with('.') => {
            let path = path
                .strip_prefix("/workspace")
                .filter(|rest| rest.is_empty() || rest.starts_with('/'))
                .map_or(path, |rest| rest.trim_start_matches('/'));
            if path.starts_with('/') {
                return Err(format!("{path}: only /workspace of a session can be reached"));
            }
            Ok(Side::There { id: id.to_owned(), path: path.to_owned() })
        }
        _ if text.is_empty() => Err("the path is empty".to_owned()),
        _ => Ok(Side::Here(text.into())),
    }
}

/// `KEY=VALUE`, as of a label.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// A port in a session, and one here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    /// In the session.
    pub(super) inside: u16,
    /// Here; 0 is any that is free.
    pub(super) local: u16,
}

/// `PORT` or `PORT:LOCAL`.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn ports(text: &str) -> Result<Ports, String> {
    let (inside, local) = text.split_once(':').unwrap_or((text, text));
    match (inside.parse(), local.parse()) {
        (Ok(1u16..), Ok(local)) => Ok(Ports { inside: inside.parse().unwrap_or_default(), local }),
        _ => Err("write it as PORT or PORT:LOCAL, such as 8000 or 8000:18000".to_owned()),
    }
}

/// Last part of a path: the name that a copy gets where its directory is given.
pub(super) fn base_name(path: &str) -> Option<&str> {
    path.trim_end_matches('/').rsplit('/').next().filter(|name| !matches!(*name, "" | "." | ".."))
}

/// A path below a directory, both of a session.
pub(super) fn join(directory: &str, name: &str) -> String {
    match directory.trim_end_matches('/') {
        "" | "." => name.to_owned(),
        directory => format!("{directory}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(id: &str, path: &str) -> Result<Side, String> {
        Ok(Side::There { id: id.to_owned(), path: path.to_owned() })
    }

    #[test]
    fn a_colon_tells_a_session_from_this_machine() {
        assert_eq!(side("abcd:src/a.py"), there("abcd", "src/a.py"));
        assert_eq!(side("abcd:"), there("abcd", ""));
        assert_eq!(side("abcd:a:b"), there("abcd", "a:b"));
        assert_eq!(side("abcd:/workspace/a"), there("abcd", "a"));
        assert_eq!(side("abcd:/workspace"), there("abcd", ""));
        for here in ["a.py", "./abcd:x", "/tmp/a:b", "dir/x:y", ".:x"] {
            assert_eq!(side(here), Ok(Side::Here(here.into())), "{here}");
        }
        assert_eq!(side("-"), Ok(Side::Stream));
        assert!(side("").is_err() && side("abcd:/etc/passwd").is_err() && side("abcd:/workspaces").is_err());
    }

    #[test]
    fn ports_are_numbers_that_there_are() {
        assert_eq!(ports("8000"), Ok(Ports { inside: 8000, local: 8000 }));
        assert_eq!(ports("80:8080"), Ok(Ports { inside: 80, local: 8080 }));
        assert_eq!(ports("80:0"), Ok(Ports { inside: 80, local: 0 }));
        for text in ["", "0", "65536", "80:", ":80", "80:80:80", "http", "-1"] {
            assert!(ports(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_the_last_part_that_is_one() {
        assert_eq!(base_name("a/b.txt"), Some("b.txt"));
        assert_eq!(base_name("a/b/"), Some("b"));
        for none in ["", "/", "..", "a/..", "."] {
            assert_eq!(base_name(none), None, "{none}");
        }
        assert_eq!((join("", "x"), join("a/", "x"), join(".", "x")), ("x".into(), "a/x".into(), "x".into()));
    }

    #[test]
    fn a_label_needs_a_key() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }
}
