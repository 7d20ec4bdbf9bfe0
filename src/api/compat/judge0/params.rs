//! What a request for a submission says, read as loosely as Judge0 reads it, and what about it is not allowed, in
//! Judge0's words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::api::compat::loose::Scalar;
use crate::config::judge0::Judge0 as Limits;
use crate::runtime::Catalogue;

use super::callback::Target;
use super::given::Given;
use super::languages::{self, Found, Kind};
use super::record::{Settings, Texts};
use super::{archive, base64};

/// Longest options and arguments, in characters.
const WORDS: usize = 512;
/// What a shell would take for more than a word; Judge0 leaves it out.
const META: [char; 7] = ['$', '&', ';', '<', '>', '|', '`'];
const BLANK: &str = "can't be blank";
const INVALID: &str = "is invalid";

/// What is wrong, by field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Errors(BTreeMap<String, Vec<String>>);

/// A request that is as it should be.
#[derive(Debug)]
pub(super) struct Checked {
    /// Id of the language.
    pub(super) language_id: u64,
    /// What runs it.
    pub(super) found: Found,
    /// What it may use.
    pub(super) settings: Settings,
    /// What was sent.
    pub(super) texts: Texts,
    /// What came out of the archive.
    pub(super) files: Vec<archive::Extracted>,
    /// Options of the compiler.
    pub(super) options: Vec<String>,
    /// Arguments of the program.
    pub(super) arguments: Vec<String>,
}

/// What a request is held to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) limits: &'a Limits,
    pub(super) catalogue: &'a Catalogue,
    /// Whether the profile has a network that may be used.
    pub(super) has_network: bool,
    /// Most files.
    pub(super) input_files: usize,
}

impl Errors {
    /// With one that is wrong.
    pub(super) fn one(field: &str, message: impl Into<String>) -> Self {
        let mut errors = Self::default();
        errors.add(field, message);
        errors
    }

    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.entry(field.to_owned()).or_default().push(message.into());
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::json!(self.0)
    }
}

/// Checks a request.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn check(given: &Given, in_base64: bool, held: Held<'_>) -> Result<Checked, Errors> {
    let mut errors = Errors::default();
    let mut read = Read { given, errors: &mut errors };
    let texts = Texts {
        source_code: read.bytes("source_code", in_base64),
        stdin: read.bytes("stdin", in_base64),
        expected_output: read.bytes("expected_output", in_base64),
        additional_files: read.bytes("additional_files", true),
        ..Texts::default()
    };
    let language_id = read.text("language_id");
    let settings = read.settings(held.limits);
    let found = language(language_id.as_deref(), held.catalogue, &mut errors);
    let (language_id, name, found) =
        found.map_or((0, String::new(), None), |(id, name, found)| (id, name, Some(found)));
    check_texts(&texts, found.as_ref(), held, &mut errors);
    check_allowed(&settings, &name, found.as_ref(), held, &mut errors);
    let options = words("compiler_options", settings.compiler_options.as_deref(), &mut errors);
    let arguments = words("command_line_arguments", settings.command_line_arguments.as_deref(), &mut errors);
    let bounds = archive::Bounds { entries: held.input_files, bytes: held.limits.max_extract_size * 1024 };
    let may_extract = held.limits.enable_additional_files;
    let archived = texts.additional_files.as_deref().filter(|archive| may_extract && !archive.is_empty());
    let files = match archived.map(|archive| archive::extract(archive, bounds)) {
        None => Vec::new(),
        Some(Ok(files)) => files,
        Some(Err(error)) => {
            errors.add("additional_files", error.to_string());
            Vec::new()
        }
    };
    match found {
        Some(found) if errors.0.is_empty() => {
            Ok(Checked { language_id, found, settings, texts, files, options, arguments })
        }
        _ => Err(errors),
    }
}

fn language(given: Option<&str>, catalogue: &Catalogue, errors: &mut Errors) -> Option<(u64, String, Found)> {
    let given = given.unwrap_or_default().trim();
    if given.is_empty() {
        errors.add("language_id", BLANK);
    }
    let known = given.parse().ok().and_then(|id| languages::find(id, catalogue));
    match known {
        None => {
            let id: String = given.chars().take(32).collect();
            errors.add("language_id", format!("language with id {id} doesn't exist"));
            None
        }
        Some(languages::Language { id, found: None, .. }) => {
            errors.add("language_id", format!("language with id {id} is archived and cannot be used anymore"));
            None
        }
        Some(languages::Language { id, name, found: Some(found) }) => Some((id, name, found)),
    }
}

fn check_texts(texts: &Texts, found: Option<&Found>, held: Held<'_>, errors: &mut Errors) {
    let is_blank = |text: &Option<Vec<u8>>| text.as_ref().is_none_or(|text| text.trim_ascii().is_empty());
    let is_told = |errors: &Errors, field: &str| errors.0.contains_key(field);
    if found.is_some_and(|found| found.entry.kind == Kind::Project) {
        if !is_blank(&texts.source_code) {
            errors.add("source_code", "must be blank");
        }
        if is_blank(&texts.additional_files) && !is_told(errors, "additional_files") {
            errors.add("additional_files", BLANK);
        }
    } else if is_blank(&texts.source_code) && !is_told(errors, "source_code") {
        errors.add("source_code", BLANK);
    }
    if !held.limits.enable_additional_files && !is_blank(&texts.additional_files) {
        errors.add("additional_files", "setting additional files is not allowed");
    }
}

fn check_allowed(settings: &Settings, language: &str, found: Option<&Found>, held: Held<'_>, errors: &mut Errors) {
    let limits = held.limits;
    let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
    if is_given(&settings.compiler_options) {
        let allowed = &limits.allowed_languages_for_compile_options;
        if !limits.enable_compiler_options {
            errors.add("compiler_options", "setting compiler options is not allowed");
        } else if found.is_some_and(|found| found.compile_cmd.is_none()) {
            errors.add("compiler_options", "setting compiler options is only allowed for compiled languages");
        } else if found.is_some()
            && !allowed.is_empty()
            && !allowed.iter().any(|name| language.starts_with(&format!("{name} ")))
        {
            let names = match allowed.split_last() {
                Some((last, [])) => last.clone(),
                Some((last, others)) => format!("{} and {last}", others.join(", ")),
                None => String::new(),
            };
            errors.add("compiler_options", format!("setting compiler options is only allowed for {names}"));
        }
    }
    if is_given(&settings.command_line_arguments) && !limits.enable_command_line_arguments {
        errors.add("command_line_arguments", "setting command line arguments is not allowed");
    }
    if let Some(url) = &settings.callback_url {
        if !limits.enable_callbacks {
            errors.add("callback_url", "setting callback is not allowed");
        } else {
            match Target::parse(url).map(|target| target.address()) {
                None => errors.add("callback_url", INVALID),
                Some(Some(address)) if !may_be_called(address, limits) => {
                    errors.add("callback_url", "setting callback to a private address is not allowed");
                }
                Some(_) => {}
            }
        }
    }
    if settings.enable_network && !(limits.allow_enable_network && held.has_network) {
        errors.add("enable_network", "enabling network is not allowed");
    }
}

fn may_be_called(address: IpAddr, limits: &Limits) -> bool {
    limits.callbacks_allow_private || super::callback::is_public(address)
}

/// The words of options or arguments, as a shell would part them that knows quotes and nothing else.
fn words(field: &str, text: Option<&str>, errors: &mut Errors) -> Vec<String> {
    let text: String = text.unwrap_or_default().trim().chars().filter(|c| !META.contains(c)).collect();
    match shlex::split(&text) {
        Some(words) if !text.contains('\0') => words,
        _ => {
            errors.add(field, INVALID);
            Vec::new()
        }
    }
}

/// Reads fields of a request, and notes what is wrong with them.
struct Read<'a> {
    given: &'a Given,
    errors: &'a mut Errors,
}

impl Read<'_> {
    /// A field as text. What is neither text nor number nor truth counts as absent.
    fn text(&self, field: &str) -> Option<String> {
        match self.given.get(field)? {
            Scalar::Text(text) => Some(text.clone()),
            Scalar::Number(number) => Some(number.to_string()),
            Scalar::Bool(truth) => Some(truth.to_string()),
            Scalar::Nothing | Scalar::Compound => None,
        }
    }

    fn bytes(&mut self, field: &str, in_base64: bool) -> Option<Vec<u8>> {
        let text = self.text(field)?;
        if !in_base64 {
            return Some(text.into_bytes());
        }
        let bytes = base64::decode(&text);
        if bytes.is_none() {
            self.errors.add(field, "is not valid base64");
        }
        bytes
    }

    fn settings(&mut self, limits: &Limits) -> Settings {
        let whole = |most: u64| Range { least: Bound::From(0), most: Most::Whole(most) };
        let time = |least: f64, most: f64| Range { least: Bound::Float(least), most: Most::Float(most) };
        let above_zero = |most: u64| Range { least: Bound::Above(0), most: Most::Whole(most) };
        Settings {
            number_of_runs: self.count("number_of_runs", limits.number_of_runs, above_zero(limits.max_number_of_runs)),
            cpu_time_limit: self.number("cpu_time_limit", limits.cpu_time_limit, time(0.0, limits.max_cpu_time_limit)),
            cpu_extra_time: self.number("cpu_extra_time", limits.cpu_extra_time, time(0.0, limits.max_cpu_extra_time)),
            wall_time_limit: self.number(
                "wall_time_limit",
                limits.wall_time_limit,
                time(1.0, limits.max_wall_time_limit),
            ),
            memory_limit: self.count(
                "memory_limit",
                limits.memory_limit,
                Range { least: Bound::From(2048), most: Most::Whole(limits.max_memory_limit) },
            ),
            stack_limit: self.count("stack_limit", limits.stack_limit, whole(limits.max_stack_limit)),
            max_processes_and_or_threads: self.count(
                "max_processes_and_or_threads",
                limits.max_processes_and_or_threads,
                above_zero(limits.max_max_processes_and_or_threads),
            ),
            enable_per_process_and_thread_time_limit: self.truth("enable_per_process_and_thread_time_limit", false),
            enable_per_process_and_thread_memory_limit: self.truth("enable_per_process_and_thread_memory_limit", false),
            max_file_size: self.count("max_file_size", limits.max_file_size, whole(limits.max_max_file_size)),
            compiler_options: self.line("compiler_options"),
            command_line_arguments: self.line("command_line_arguments"),
            redirect_stderr_to_stdout: self.truth("redirect_stderr_to_stdout", limits.redirect_stderr_to_stdout),
            enable_network: self.truth("enable_network", limits.enable_network),
            callback_url: self.text("callback_url").filter(|url| !url.trim().is_empty()),
        }
    }

    fn line(&mut self, field: &str) -> Option<String> {
        let text = self.text(field)?;
        if text.chars().count() > WORDS {
            self.errors.add(field, format!("is too long (maximum is {WORDS} characters)"));
            return None;
        }
        Some(text)
    }

    fn truth(&self, field: &str, usual: bool) -> bool {
        match self.text(field).as_deref().map(str::trim) {
            None | Some("") => usual,
            Some("false" | "FALSE" | "f" | "F" | "0" | "off" | "OFF") => false,
            Some(_) => true,
        }
    }

    /// A number within its range; the usual one where there is none.
    fn number(&mut self, field: &str, usual: f64, range: Range) -> f64 {
        let given = match self.given.get(field) {
            Some(Scalar::Bool(_)) => Some(None),
            _ => self.text(field).filter(|text| !text.trim().is_empty()).map(|text| text.trim().parse::<f64>().ok()),
        };
        let number = match given {
            None => return usual,
            Some(number) => number.filter(|number| number.is_finite()),
        };
        match number.map(|number| (number, range.wrong(number))) {
            Some((number, None)) => number,
            Some((_, Some(message))) => {
                self.errors.add(field, message);
                usual
            }
            None => {
                self.errors.add(field, "is not a number");
                usual
            }
        }
    }

    /// The same of whole numbers: what is behind the point is left out.
    #[allow(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in a range of whole numbers")]
    fn count(&mut self, field: &str, usual: u64, range: Range) -> u64 {
        self.number(field, usual as f64, range) as u64
    }
}

/// What a number may be.
#[derive(Debug, Clone, Copy)]
struct Range {
    least: Bound,
    most: Most,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    From(u32),
    Above(u32),
    Float(f64),
}

#[derive(Debug, Clone, Copy)]
enum Most {
    Whole(u64),
    Float(f64),
}

impl Range {
    /// What is wrong with a number.
    #[allow(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
    fn wrong(self, number: f64) -> Option<String> {
        match self.least {
            Bound::From(least) if number < f64::from(least) => {
                return Some(format!("must be greater than or equal to {least}"));
            }
            // Those of times are written without a point there, as they are in its source.
            Bound::Float(least) if number < least => return Some(format!("must be greater than or equal to {least}")),
            Bound::Above(least) if number <= f64::from(least) => return Some(format!("must be greater than {least}")),
            _ => {}
        }
        match self.most {
            Most::Whole(most) if number > most as f64 => Some(format!("must be less than or equal to {most}")),
            Most::Float(most) if number > most => Some(format!("must be less than or equal to {most:?}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
