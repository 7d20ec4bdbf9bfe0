//! Limits as people write them: `memory=256M`, `wall=5s`, `cpus=1.5`.

use std::str::FromStr;

use crate::profile::{LimitChanges, Limits};

/// One `--limit NAME=VALUE`, in the unit of the request's field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Field of the request.
    pub field: &'static str,
    /// Value in the field's unit.
    pub value: u64,
}

/// What a value counts, and so which units it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Bytes: `B`, `K`, `M`, `G`, binary.
    Bytes,
    /// Milliseconds: `ms`, `s`, `m`.
    Time,
    /// Processors, in thousandths.
    Processors,
    /// A plain number.
    Count,
}

/// Short name, field of the request, what it counts, and what it holds.
const LIMITS: &[(&str, &str, Kind, &str)] = &[
    ("wall", "wall_time_ms", Kind::Time, "time by the clock"),
    ("cpu", "cpu_time_ms", Kind::Time, "processor time of all processes together"),
    ("cpus", "cpu_millis", Kind::Processors, "share of processors"),
    ("memory", "memory_bytes", Kind::Bytes, "memory of all processes and files together"),
    ("processes", "processes", Kind::Count, "processes and threads at one time"),
    ("open-files", "open_files", Kind::Count, "descriptors that one process may have open"),
    ("file-size", "file_size_bytes", Kind::Bytes, "size of one file"),
    ("disk", "disk_bytes", Kind::Bytes, "size of all files together"),
    ("disk-files", "disk_files", Kind::Count, "number of files and directories"),
    ("output", "output_bytes", Kind::Bytes, "standard output, and as much again of standard error"),
    ("stack", "stack_bytes", Kind::Bytes, "stack of the main thread"),
];

/// Why a limit can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// There is no equals sign.
    #[error("write it as NAME=VALUE, such as memory=256M")]
    NoValue,
    /// No limit has this name.
    #[error("no limit is called {name:?}; there are {}", allowed())]
    UnknownName {
        /// What was given.
        name: String,
    },
    /// The value is no number with a fitting unit.
    #[error("{value:?} is no value for {name}: {expected}")]
    Value {
        /// Name of the limit as given.
        name: String,
        /// What was given.
        value: String,
        /// What is possible.
        expected: &'static str,
    },
}

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let (name, value) = text.split_once('=').ok_or(LimitError::NoValue)?;
        let (name, value) = (name.trim(), value.trim());
        let short = name.to_lowercase().replace('_', "-");
        let known = LIMITS.iter().find(|(alias, field, _, _)| *alias == short || field.replace('_', "-") == short);
        let (alias, field, kind, _) = known.ok_or_else(|| LimitError::UnknownName { name: name.to_owned() })?;
        // `wall=5` could mean seconds as well as milliseconds; `wall_time_ms=5` could not, and
        // neither could `cpu_millis=500`.
        let is_field = *alias != short;
        let value = kind.parse(value, is_field).ok_or_else(|| LimitError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: kind.expected(),
        })?;
        Ok(Self { field, value })
    }
}

impl Kind {
    /// The number in the field's unit; `is_field` tells that the name itself has the unit.
    fn parse(self, text: &str, is_field: bool) -> Option<u64> {
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let thousandths = thousandths(number)?;
        let unit = unit.trim().to_lowercase();
        let factor = match (self, unit.as_str()) {
            (Self::Bytes, "" | "b") | (Self::Count, "") | (Self::Time, "ms") => 1,
            (Self::Time | Self::Processors, "") if is_field => 1,
            (Self::Bytes, "k" | "kib") => 1 << 10,
            (Self::Bytes, "m" | "mib") => 1 << 20,
            (Self::Bytes, "g" | "gib") => 1 << 30,
            (Self::Time, "s") | (Self::Processors, "") => 1_000,
            (Self::Time, "m" | "min") => 60_000,
            _ => return None,
        };
        let product = thousandths.checked_mul(factor)?;
        // Half a byte or a tenth of a process is a slip, not a limit.
        product.is_multiple_of(1_000).then_some(product / 1_000)
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Bytes => "give a number with B, K, M or G, such as 256M",
            Self::Time => "give a number with ms, s or m, such as 500ms or 5s",
            Self::Processors => "give a number of processors, such as 1 or 0.5",
            Self::Count => "give a whole number",
        }
    }
}

/// A decimal number with at most three digits after the point, in thousandths.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(fraction)
}

/// The changes that several limits make; the last of each name counts.
#[must_use]
pub fn changes(limits: &[Limit]) -> LimitChanges {
    let mut changes = LimitChanges::default();
    for limit in limits {
        changes.set(limit.field, limit.value).expect("a test holds the table to the fields of requests");
    }
    changes
}

fn allowed() -> String {
    names().collect::<Vec<_>>().join(", ")
}

/// The table for the help text and the manual page.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("Limits:\n");
    for (alias, field, _, meaning) in LIMITS {
        text.push_str(&format!("  {alias:<11} {meaning} ({field})\n"));
    }
    text
}

/// The table for `docs/CLI.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| name | field of the request | value | holds |\n|---|---|---|---|\n");
    for (alias, field, kind, meaning) in LIMITS {
        let value = match kind {
            Kind::Bytes => "`256M`",
            Kind::Time => "`500ms`, `5s`, `1m`",
            Kind::Processors => "`1`, `0.5`",
            Kind::Count => "`64`",
        };
        text.push_str(&format!("| `{alias}` | `{field}` | {value} | {meaning} |\n"));
    }
    text
}

/// Short names of all limits.
fn names() -> impl Iterator<Item = &'static str> {
    LIMITS.iter().map(|(alias, ..)| *alias)
}

// Every field of a request has a name here; one more field is one more line.
const _: () = assert!(LIMITS.len() == Limits::FIELDS.len(), "LIMITS must have a line for every limit of a profile");

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<(&'static str, u64), LimitError> {
        text.parse::<Limit>().map(|limit| (limit.field, limit.value))
    }

    #[test]
    fn units_are_understood() {
        for (text, expected) in [
            ("memory=256M", ("memory_bytes", 256 << 20)),
            ("memory=1.5GiB", ("memory_bytes", 3 << 29)),
            ("memory=4096", ("memory_bytes", 4096)),
            ("output=64k", ("output_bytes", 64 << 10)),
            ("wall=5s", ("wall_time_ms", 5_000)),
            ("wall=0.25s", ("wall_time_ms", 250)),
            ("cpu=1m", ("cpu_time_ms", 60_000)),
            ("cpu=30ms", ("cpu_time_ms", 30)),
            ("cpus=1.5", ("cpu_millis", 1_500)),
            ("processes=8", ("processes", 8)),
            ("open-files=64", ("open_files", 64)),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn full_names_have_their_own_unit() {
        assert_eq!(value("wall_time_ms=1500"), Ok(("wall_time_ms", 1_500)));
        assert_eq!(value("cpu_millis=500"), Ok(("cpu_millis", 500)));
        assert_eq!(value("memory-bytes=1M"), Ok(("memory_bytes", 1 << 20)));
    }

    #[test]
    fn a_time_without_a_unit_is_refused() {
        let error = value("wall=5").unwrap_err().to_string();
        assert!(error.contains("5s"), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "memory",
            "memory=",
            "memory=M",
            "memory=-1",
            "memory=1.2.3",
            "memory=5s",
            "processes=1.5",
            "processes=2K",
            "memory=99999999999999999999",
            "memory=18446744073709551615G",
            "cpus=0.0001",
            "wall=1h",
            "memory=.5M",
        ] {
            assert!(value(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_names() {
        let error = value("ram=1G").unwrap_err().to_string();
        assert!(names().all(|name| error.contains(name)), "{error}");
    }

    #[test]
    fn every_limit_of_a_profile_has_a_name() {
        for field in Limits::FIELDS {
            assert!(LIMITS.iter().any(|(_, known, _, _)| known == field), "{field}");
        }
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let limits: Vec<Limit> = ["memory=1M", "memory_bytes=2M"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(changes(&limits).memory_bytes, Some(2 << 20));
    }

    #[test]
    fn the_document_has_this_table() {
        let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CLI.md")).unwrap();
        assert!(document.contains(&markdown()), "docs/CLI.md must contain:\n{}", markdown());
    }
}
