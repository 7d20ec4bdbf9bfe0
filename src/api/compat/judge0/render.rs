//! Submissions as JSON: which fields, and how each is written.

use serde_json::{Map, Value, json};

use super::base64;
use super::record::{Submission, Texts};
use crate::api::sessions::time::rfc3339;

/// Every field, in the order of Judge0's.
const FIELDS: [&str; 33] = [
    "source_code",
    "language_id",
    "stdin",
    "expected_output",
    "stdout",
    "status_id",
    "created_at",
    "finished_at",
    "time",
    "memory",
    "stderr",
    "token",
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
    "compile_output",
    "exit_code",
    "exit_signal",
    "message",
    "wall_time",
    "compiler_options",
    "command_line_arguments",
    "redirect_stderr_to_stdout",
    "callback_url",
    "additional_files",
    "enable_network",
];
/// Fields that newer programs have, and which are to be asked for by their names: the official client fails where an answer
/// has what it does not know. Hosts are nobody's business, and null.
const LATER: [&str; 5] = ["started_at", "queued_at", "updated_at", "queue_host", "execution_host"];
/// Fields that are made of others.
const MADE: [&str; 2] = ["status", "language"];
/// Fields where a request names none.
const DEFAULT: [&str; 8] = ["token", "time", "memory", "stdout", "stderr", "compile_output", "message", "status"];

/// Fields that a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields(Vec<&'static str>);

/// A text that is wanted as it is, and is no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotText;

impl Fields {
    /// Those that a parameter names.
    ///
    /// # Errors
    /// Those that do not exist.
    pub(super) fn parse(parameter: &str) -> Result<Self, Vec<String>> {
        let all = || FIELDS.iter().chain(&MADE).copied();
        let (mut wanted, mut invalid) = (Vec::new(), Vec::new());
        let mut everything = false;
        for name in parameter.split(',').filter(|name| !name.is_empty()) {
            match all().chain(LATER).find(|known| *known == name) {
                Some(known) if !wanted.contains(&known) => wanted.push(known),
                Some(_) => {}
                None if name == "*" => everything = true,
                None => invalid.push(name.to_owned()),
            }
        }
        match (invalid.is_empty(), everything, wanted.is_empty()) {
            (false, ..) => Err(invalid),
            (true, true, _) => Ok(Self(all().collect())),
            (true, false, true) => Ok(Self::default()),
            (true, false, false) => Ok(Self(wanted)),
        }
    }

    /// Whether one is among them.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self(DEFAULT.to_vec())
    }
}

/// A submission; `language` is the name of its language.
pub(super) fn submission(
    submission: &Submission,
    fields: &Fields,
    in_base64: bool,
    language: &str,
) -> Result<Value, NotText> {
    let mut object = Map::with_capacity(fields.0.len());
    for name in &fields.0 {
        object.insert((*name).to_owned(), field(submission, name, in_base64, language)?);
    }
    Ok(Value::Object(object))
}

fn field(submission: &Submission, name: &str, in_base64: bool, language: &str) -> Result<Value, NotText> {
    let (settings, result) = (&submission.details.settings, &submission.details.result);
    let time = |at: Option<u64>| at.map_or(Value::Null, |at| rfc3339(at).into());
    if let Some(place) = Texts::NAMES.iter().position(|text| *text == name) {
        // An archive is never text.
        return text(submission.texts.as_array()[place], in_base64 || name == "additional_files");
    }
    Ok(match name {
        "token" => submission.token.clone().into(),
        "language_id" => submission.language_id.into(),
        "language" => json!({ "id": submission.language_id, "name": language }),
        "status_id" => submission.status.id().into(),
        "status" => json!({ "id": submission.status.id(), "description": submission.status.description() }),
        "created_at" | "queued_at" => time(Some(submission.created_at)),
        "finished_at" => time(submission.finished_at),
        "started_at" => time(submission.details.started_at),
        "updated_at" => time(submission.details.updated_at),
        "time" => result.time.map_or(Value::Null, decimal),
        "wall_time" => result.wall_time.map_or(Value::Null, decimal),
        "memory" => json!(result.memory),
        "exit_code" => json!(result.exit_code),
        "exit_signal" => json!(result.exit_signal),
        "message" => return text(result.message.as_deref().map(str::as_bytes), in_base64),
        "number_of_runs" => settings.number_of_runs.into(),
        "cpu_time_limit" => decimal(settings.cpu_time_limit),
        "cpu_extra_time" => decimal(settings.cpu_extra_time),
        "wall_time_limit" => decimal(settings.wall_time_limit),
        "memory_limit" => settings.memory_limit.into(),
        "stack_limit" => settings.stack_limit.into(),
        "max_processes_and_or_threads" => settings.max_processes_and_or_threads.into(),
        "enable_per_process_and_thread_time_limit" => settings.enable_per_process_and_thread_time_limit.into(),
        "enable_per_process_and_thread_memory_limit" => settings.enable_per_process_and_thread_memory_limit.into(),
        "max_file_size" => settings.max_file_size.into(),
        "compiler_options" => json!(settings.compiler_options),
        "command_line_arguments" => json!(settings.command_line_arguments),
        "redirect_stderr_to_stdout" => settings.redirect_stderr_to_stdout.into(),
        "callback_url" => json!(settings.callback_url),
        "enable_network" => settings.enable_network.into(),
        _ => Value::Null,
    })
}

fn text(bytes: Option<&[u8]>, in_base64: bool) -> Result<Value, NotText> {
    match bytes {
        None => Ok(Value::Null),
        Some(bytes) if in_base64 => Ok(base64::encode(bytes).into()),
        Some(bytes) => str::from_utf8(bytes).map(Value::from).map_err(|_| NotText),
    }
}

/// A number as text, without zeros that say nothing: `"0.001"`, `"5.0"`.
pub(super) fn decimal(number: f64) -> Value {
    let text = format!("{number:.6}");
    let text = text.trim_end_matches('0');
    Value::from(if text.ends_with('.') { format!("{text}0") } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_named_and_a_star_is_all() {
        assert_eq!(Fields::parse("stdout,x, y").unwrap_err(), ["x", " y"]);
        assert_eq!(Fields::parse("*,x").unwrap_err(), ["x"]);
        assert_eq!(Fields::parse("*").unwrap().0.len(), 35);
        assert_eq!(Fields::parse("started_at").unwrap().0, ["started_at"]);
        assert_eq!(Fields::parse("").unwrap(), Fields::default());
        assert_eq!(Fields::parse("time,status,time").unwrap().0, ["time", "status"]);
    }

    #[test]
    fn numbers_are_written_as_decimals() {
        for (number, text) in [(0.001, "0.001"), (5.0, "5.0"), (0.0, "0.0"), (0.0105, "0.0105"), (10.0, "10.0")] {
            assert_eq!(decimal(number), text);
        }
    }
}
