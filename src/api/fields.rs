//! From bytes to a request: JSON errors as problems that name line and column, or the field.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::problem::{Kind, Problem};

/// Most characters of a parser's message that are passed on, since it may quote the client's text.
const MESSAGE_CHARS: usize = 300;

/// Reads a JSON text of one object.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    // Serde would take an array for an object without names, which nobody means.
    if text.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::field("body", "the body is an array").allowing("an object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        problem(error.inner(), path)
    })?;
    reader.end().map_err(|error| problem(&error, ".".to_owned()))?;
    Ok(value)
}

fn problem(error: &serde_json::Error, path: String) -> Problem {
    let message = clip(&error.to_string());
    match error.classify() {
        Category::Data => {
            let field = field_of(&message, path);
            let problem = Problem::field(field, without_place(&message));
            match message.split_once("expected one of ") {
                Some((_, names)) => problem.allowing(quoted(names)),
                None => problem,
            }
        }
        Category::Syntax | Category::Eof | Category::Io => Problem::new(Kind::MalformedJson, message),
    }
}

/// The path of the field that is meant. A parser stops at the object around a missing field and
/// names the field in its message only.
fn field_of(message: &str, path: String) -> String {
    let path = if path == "." { String::new() } else { path };
    let named = ["missing field `", "duplicate field `", "unknown field `"].iter().find_map(|start| {
        let (name, _) = message.strip_prefix(start)?.split_once('`')?;
        Some(name)
    });
    match named {
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) if path != name && !path.ends_with(&format!(".{name}")) => {
            format!("{path}.{name}")
        }
        _ if path.is_empty() => "body".to_owned(),
        _ => clip(&path),
    }
}

fn without_place(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(before, _)| before)
}

fn quoted(names: &str) -> Vec<&str> {
    names.split('`').skip(1).step_by(2).collect()
}

fn clip(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS).collect()
}

/// Reads a map and refuses a key that stands in it twice, of which another reader might see the
/// other value.
pub(super) fn unique_keys<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    struct Unique;

    impl<'de> Visitor<'de> for Unique {
        type Value = Option<BTreeMap<String, String>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry::<String, String>()? {
                if map.contains_key(&key) {
                    return Err(A::Error::custom(format_args!("the key {key:?} stands here twice")));
                }
                map.insert(key, value);
            }
            Ok(Some(map))
        }
    }

    deserializer.deserialize_any(Unique)
}

/// An object of named fields. Serde would take an array for one whose names are left out, and a request would mean
/// another thing when a field is added.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        deserializer.deserialize_any(Named(PhantomData)).map(Self)
    }
}

/// Reads an object or null, and no array in its place.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

/// Reads a list of objects, and no array in place of one.
pub(super) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(deserializer)?.into_iter().map(|Object(value)| value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::RunRequest;

    fn refusal(json: &str) -> Problem {
        parse::<RunRequest>(json.as_bytes()).unwrap_err()
    }

    #[test]
    fn every_field_of_the_wrong_kind_is_named() {
        for (json, field) in [
            ("[]", "body"),
            ("3", "body"),
            ("{}", "runtime"),
            (r#"{"runtime":"x"}"#, "files"),
            (r#"{"runtime":null,"files":[]}"#, "runtime"),
            (r#"{"runtime":"x","files":[],"filez":1}"#, "filez"),
            (r#"{"runtime":"x","runtime":"y","files":[]}"#, "runtime"),
            (r#"{"runtime":"x","files":{}}"#, "files"),
            (r#"{"runtime":"x","files":[{},{"path":5}]}"#, "files[1].path"),
            (r#"{"runtime":"x","files":[{"content":"","content":""}]}"#, "files[0].content"),
            (r#"{"runtime":"x","files":[{"name":"a"}]}"#, "files[0].name"),
            (r#"{"runtime":"x","files":[],"args":["a",1]}"#, "args[1]"),
            (r#"{"runtime":"x","files":[],"args":"a"}"#, "args"),
            (r#"{"runtime":"x","files":[],"stdin":[104]}"#, "stdin"),
            (r#"{"runtime":"x","files":[],"env":["A=1"]}"#, "env"),
            (r#"{"runtime":"x","files":[],"env":{"A":1}}"#, "env.A"),
            (r#"{"runtime":"x","files":[],"limits":{"wall_time_ms":-1}}"#, "limits.wall_time_ms"),
            (r#"{"runtime":"x","files":[],"limits":{"wall_time_ms":1.5}}"#, "limits.wall_time_ms"),
            (r#"{"runtime":"x","files":[],"limits":{"wall_time_ms":1e40}}"#, "limits.wall_time_ms"),
            (r#"{"runtime":"x","files":[],"limits":{"time":1}}"#, "limits.time"),
            (r#"{"runtime":"x","files":[],"compile_limits":7}"#, "compile_limits"),
            (r#"{"runtime":"x","files":[],"limits":[1000]}"#, "limits"),
            (r#"{"runtime":"x","files":[["main.py",""]]}"#, "files[0]"),
            (r#"{"runtime":"x","files":[],"dependencies":[null]}"#, "dependencies"),
            (r#"{"runtime":"x","files":[],"outputs":[null]}"#, "outputs[0]"),
        ] {
            let problem = refusal(json);
            assert_eq!(problem.kind, Kind::InvalidField, "{json}");
            assert_eq!(problem.field.as_deref(), Some(field), "{json}: {}", problem.detail);
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let problem = refusal(r#"{"runtime":"x","files":[],"env":{"A":"1","A":"2"}}"#);
        assert!(problem.field.unwrap().starts_with("env"));
    }

    #[test]
    fn an_unknown_limit_is_answered_with_all_names() {
        let problem = refusal(r#"{"runtime":"x","files":[],"limits":{"time":1}}"#);
        let names: Vec<String> = serde_json::from_value(*problem.allowed.unwrap()).unwrap();
        assert_eq!(names, crate::profile::Limits::FIELDS);
    }

    #[test]
    fn what_is_no_json_is_named_by_line_and_column() {
        for json in [
            "",
            "{",
            "{\n\"runtime\": }",
            "nul",
            r#"{"runtime":"x","files":[]} {}"#,
            r#"{"runtime":"\ud800","files":[]}"#,
        ] {
            let problem = refusal(json);
            assert_eq!(problem.kind, Kind::MalformedJson, "{json}");
            assert!(problem.detail.contains("line ") && problem.detail.contains("column "), "{}", problem.detail);
        }
        assert_eq!(parse::<RunRequest>(b"{\"runtime\":\"\xff\"}").unwrap_err().kind, Kind::MalformedJson);
        assert_eq!(refusal(&"[".repeat(100_000)).field.as_deref(), Some("body"));
    }

    #[test]
    fn null_counts_as_absent() {
        let json = r#"{"runtime":"x","files":[{"path":null,"content":"","content_base64":null,"executable":null}],
            "stdin":null,"stdin_base64":null,"args":null,"env":null,"profile":null,"limits":{"processes":null},
            "compile_limits":null,"outputs":null}"#;
        let request: RunRequest = parse(json.as_bytes()).unwrap();
        assert_eq!(request.args, None);
        assert_eq!(request.limits.unwrap().processes, None);
    }

    #[test]
    fn a_long_name_is_not_sent_back_whole() {
        let problem = refusal(&format!(r#"{{"{}":1}}"#, "x".repeat(1 << 20)));
        assert!(problem.detail.len() + problem.field.unwrap().len() < 2000);
    }
}
