//! What clients write: the fields that Judge0 knows, each of whatever kind, and nothing else, so that a body takes
//! no more memory read than it has bytes, and a little for each of its submissions.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::api::compat::loose::{AtMost, Fields, List, Scalar};

/// Fields of a submission.
const NAMES: [&str; 20] = [
    "source_code",
    "language_id",
    "stdin",
    "expected_output",
    "additional_files",
    "compiler_options",
    "command_line_arguments",
    "number_of_runs",
    "cpu_time_limit",
    "cpu_extra_time",
    "wall_time_limit",
    "memory_limit",
    "stack_limit",
    "max_processes_and_or_threads",
    "enable_per_process_and_thread_time_limit",
    "enable_per_process_and_thread_memory_limit",
    "max_file_size",
    "redirect_stderr_to_stdout",
    "enable_network",
    "callback_url",
];

/// What is said of a submission; of a field that stands twice the last.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Given(BTreeMap<&'static str, Scalar>);

/// Several of them: the first, and how many there are.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Batch {
    pub(super) kept: Vec<Given>,
    pub(super) count: usize,
}

impl Given {
    /// Reads a submission. What is JSON and no object says nothing.
    pub(super) fn parse(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text).map(|Fields(given)| given)
    }

    /// A field that [`NAMES`] has.
    pub(super) fn get(&self, field: &str) -> Option<&Scalar> {
        debug_assert!(NAMES.contains(&field), "{field} is never read");
        self.0.get(field)
    }
}

impl Batch {
    /// Reads submissions, of which at most so many are kept.
    pub(super) fn parse(text: &[u8], most: usize) -> serde_json::Result<Self> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let Fields(batch) = Fields::read_by(Several(most), &mut reader)?;
        reader.end()?;
        Ok(batch)
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(GivenVisitor)
    }
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a submission")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Given, A::Error> {
        let mut given = Given::default();
        while let Some(key) = entries.next_key::<String>()? {
            match NAMES.into_iter().find(|name| *name == key) {
                Some(name) => drop(given.0.insert(name, entries.next_value()?)),
                None => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(given)
    }
}

/// Reads the submissions of an object.
struct Several(usize);

impl<'de> DeserializeSeed<'de> for Several {
    type Value = Batch;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Batch, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Several {
    type Value = Batch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("submissions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Batch, A::Error> {
        let mut batch = Batch::default();
        while let Some(key) = entries.next_key::<String>()? {
            if key != "submissions" {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            batch = match entries.next_value_seed(AtMost::<Fields<Given>>::new(self.0))? {
                List::Items(kept, count) => {
                    Batch { kept: kept.into_iter().map(|Fields(given)| given).collect(), count }
                }
                List::Nothing | List::Other => Batch::default(),
            };
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(fields: &[(&'static str, Scalar)]) -> Given {
        Given(fields.iter().cloned().collect())
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }

    #[test]
    fn what_is_not_known_and_what_is_nested_is_not_kept() {
        let json = br#"{"x": [{"": 0}, {"": 0}], "": {"stdin": "a"}, "source_code": "b", "stdin": [{"": 0}],
            "expected_output": {"": 0}, "language_id": 71, "cpu_time_limit": 0.5, "enable_network": null}"#;
        let expected = given(&[
            ("source_code", text("b")),
            ("stdin", Scalar::Compound),
            ("expected_output", Scalar::Compound),
            ("language_id", Scalar::Number(71.into())),
            ("cpu_time_limit", Scalar::Number(serde_json::Number::from_f64(0.5).unwrap())),
            ("enable_network", Scalar::Nothing),
        ]);
        assert_eq!(Given::parse(json).unwrap(), expected);
    }

    #[test]
    fn of_what_stands_twice_the_last_counts() {
        let one = Given::parse(br#"{"stdin": "a", "stdin": "b"}"#).unwrap();
        assert_eq!(one, given(&[("stdin", text("b"))]));
        let batch = Batch::parse(br#"{"submissions": [{}], "submissions": [{"stdin": "a"}, {}]}"#, 9).unwrap();
        assert_eq!((&batch.kept[0], batch.count), (&given(&[("stdin", text("a"))]), 2));
        assert_eq!(Batch::parse(br#"{"submissions": [{}], "submissions": 3}"#, 9).unwrap(), Batch::default());
    }

    #[test]
    fn of_a_batch_that_is_too_long_the_rest_is_counted() {
        let json =
            br#"{"x": [{}], "submissions": [{"stdin": "a", "x": {}}, 3, [{"stdin": "b"}], {"stdin": "c"}, null]}"#;
        let batch = Batch::parse(json, 2).unwrap();
        assert_eq!(batch, Batch { kept: vec![given(&[("stdin", text("a"))]), Given::default()], count: 5 });
        let all = Batch::parse(json, 5).unwrap();
        assert_eq!((all.kept.len(), all.count, &all.kept[3]), (5, 5, &given(&[("stdin", text("c"))])));
    }

    #[test]
    fn what_is_no_object_says_nothing_and_what_is_no_json_is_refused() {
        for json in ["[]", "[{\"stdin\": 1}]", "3", "-1", "0.5", "\"a\"", "true", "null", "{}"] {
            assert_eq!(Given::parse(json.as_bytes()).unwrap(), Given::default(), "{json}");
            assert_eq!(Batch::parse(json.as_bytes(), 9).unwrap(), Batch::default(), "{json}");
        }
        for json in ["{", "{} {}", "{\"stdin\": \"a}", "nul", "{\"stdin\": \"\\ud800\"}", "{\"submissions\": [{}}"] {
            assert!(Given::parse(json.as_bytes()).is_err(), "{json}");
            assert!(Batch::parse(json.as_bytes(), 9).is_err() || json.contains("stdin"), "{json}");
        }
    }
}
