//! What clients write: the fields of a request, each of whatever kind.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::api::compat::loose::{Fields, List, Scalar};
use crate::api::fields;
use crate::api::problem::{Kind, Problem};

/// Body of `POST /execute`, and the message that begins a run over a WebSocket.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    pub(super) language: Scalar,
    pub(super) version: Scalar,
    pub(super) files: List<Fields<File>>,
    pub(super) stdin: Scalar,
    pub(super) args: List<Scalar>,
    pub(super) compile_timeout: Scalar,
    pub(super) run_timeout: Scalar,
    pub(super) compile_cpu_time: Scalar,
    pub(super) run_cpu_time: Scalar,
    pub(super) compile_memory_limit: Scalar,
    pub(super) run_memory_limit: Scalar,
}

/// One of its files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct File {
    pub(super) name: Scalar,
    pub(super) content: Scalar,
    pub(super) encoding: Scalar,
}

/// Body of a request about a package.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Package {
    pub(super) language: Scalar,
    pub(super) version: Scalar,
}

/// What a client says over a WebSocket; that which begins a run has the fields of [`Asked`] as well.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    #[serde(rename = "type")]
    pub(super) kind: Scalar,
    pub(super) stream: Scalar,
    pub(super) data: Scalar,
    pub(super) signal: Scalar,
}

/// Reads a JSON text. An array is an object without fields, and so is nothing at all.
pub(super) fn parse<T: DeserializeOwned + Default>(text: &[u8]) -> Result<T, Problem> {
    match text.trim_ascii_start().first() {
        Some(b'{') => fields::parse(text),
        Some(b'[') => {
            serde_json::from_slice::<IgnoredAny>(text).map(|_| T::default()).map_err(|error| malformed(&error))
        }
        None => Ok(T::default()),
        Some(_) => Err(Problem::new(Kind::MalformedJson, "the body is neither an object nor an array")),
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(Kind::MalformedJson, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_wrong_kind_do_not_end_the_reading() {
        let asked: Asked =
            parse(br#"{"language": 3, "files": [null, "x", {"content": "y"}], "other": {"a": [1]}}"#).unwrap();
        assert_eq!(asked.language, Scalar::Number(3.into()));
        let List::Items(files, 3) = asked.files else { panic!() };
        assert_eq!(files[2].0.content, Scalar::Text("y".to_owned()));
        assert_eq!(files[0].0.content, Scalar::Nothing);
    }

    #[test]
    fn what_has_no_fields_is_read_and_what_is_no_json_is_not() {
        for text in ["", "  ", "[]", "[1, 2]", "{}"] {
            assert_eq!(parse::<Asked>(text.as_bytes()).unwrap().language, Scalar::Nothing, "{text}");
        }
        let deep = "[".repeat(200_000);
        for text in ["nul", "3", "\"a\"", "{", "[1", "{} {}", r#"{"language": "\ud800"}"#, &deep] {
            assert_eq!(parse::<Asked>(text.as_bytes()).unwrap_err().kind, Kind::MalformedJson, "{text:.20}");
        }
        let deep = format!(r#"{{"files": {}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        // Nothing of it is kept, so its depth takes no room.
        assert!(matches!(parse::<Asked>(deep.as_bytes()).unwrap().files, List::Items(_, 1)));
    }
}
