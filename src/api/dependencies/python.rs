//! Requirements of Python: names, extras, versions and markers, and nothing else that a file of requirements can say.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::{LISTED, LOCKED, PythonDependencies, REQUIREMENT_BYTES, Written, Wrong, too_many};

/// Name, extras, versions, marker; <https://peps.python.org/pep-0508/> without addresses.
static REQUIREMENT: LazyLock<Regex> = LazyLock::new(|| {
    let name = "[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?";
    let clause = "(?:===|==|~=|!=|<=|>=|<|>) *[A-Za-z0-9][A-Za-z0-9.*+!_-]*";
    let quoted = r#"'[A-Za-z0-9 ._+*!-]*'|"[A-Za-z0-9 ._+*!-]*""#;
    let marker = format!(r"(?: *(?:[a-z_]+|{quoted}|===|==|~=|!=|<=|>=|<|>|\(|\)))+");
    let pattern = format!(
        r"^ *({name}) *(?:\[ *({name}(?: *, *{name})*) *\])? *({clause}(?: *, *{clause})*|\( *{clause}(?: *, *{clause})* *\))? *(?:; *({marker}))? *$"
    );
    Regex::new(&pattern).expect("a fixed pattern")
});
/// A version without anything open.
static EXACT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("^== *[A-Za-z0-9][A-Za-z0-9.+!_-]*$").expect("a fixed pattern"));
static HASH: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("^--hash=sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$").expect("a fixed pattern")
});

/// A requirement, taken apart.
struct Requirement {
    text: String,
    versions: String,
}

/// What is to be written into a file of requirements.
pub(super) fn written(asked: PythonDependencies) -> Result<Written, Wrong> {
    let (lines, floats) = match asked {
        PythonDependencies::Listed(listed) => (listed_lines(&listed)?, true),
        PythonDependencies::Locked(locked) => (locked_lines(&locked.lock)?, false),
    };
    if lines.is_empty() {
        return Ok(Written { files: Vec::new(), floats });
    }
    // In one order, so that the same packages are the same however they were listed.
    let text = lines.into_iter().map(|line| line + "\n").collect();
    Ok(Written { files: vec![("requirements.txt", text)], floats })
}

fn listed_lines(listed: &[String]) -> Result<BTreeSet<String>, Wrong> {
    if listed.len() > LISTED {
        return Err(too_many("", listed.len(), LISTED));
    }
    let line = |(index, text): (usize, &String)| {
        requirement(text).map(|found| found.text).map_err(|why| (format!("[{index}]"), why))
    };
    listed.iter().enumerate().map(line).collect()
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let wrong = || "this is no name with extras, versions and a marker, such as requests[socks]==2.*".to_owned();
    if text.len() > REQUIREMENT_BYTES {
        return Err(format!("it is longer than {REQUIREMENT_BYTES} bytes"));
    }
    // Nothing that ends a requirement and begins an option.
    let found = REQUIREMENT.captures(text).filter(|_| !text.contains("--")).ok_or_else(wrong)?;
    let part = |index: usize| found.get(index).map_or("", |part| part.as_str());
    let squeezed = |text: &str| text.chars().filter(|c| !matches!(c, ' ' | '(' | ')')).collect::<String>();
    let mut name = part(1).to_ascii_lowercase().replace(['_', '.'], "-");
    while name.contains("--") {
        // Runs of these are one; PEP 503.
        name = name.replace("--", "-");
    }
    let versions = squeezed(part(3));
    let mut text = name;
    if !part(2).is_empty() {
        text = format!("{text}[{}]", squeezed(part(2)).to_ascii_lowercase());
    }
    text.push_str(&versions);
    if !part(4).is_empty() {
        text = format!("{text} ; {}", part(4).trim());
    }
    Ok(Requirement { text, versions })
}

/// A lock file line by line: a version and hashes for each, and no option but those.
fn locked_lines(lock: &str) -> Result<BTreeSet<String>, Wrong> {
    let at = |number: usize, why: String| (".lock".to_owned(), format!("line {number}: {why}"));
    let mut lines = BTreeSet::new();
    let mut pending = String::new();
    let mut begun = 1;
    for (number, line) in (1..).zip(lock.lines().chain([""])) {
        let line = without_comment(line.trim_end_matches('\r'));
        if pending.is_empty() {
            begun = number;
        }
        if let Some(more) = line.strip_suffix('\\') {
            pending.push_str(more);
            pending.push(' ');
            continue;
        }
        pending.push_str(line);
        let whole = std::mem::take(&mut pending);
        if !whole.trim().is_empty() {
            lines.insert(locked(&whole).map_err(|why| at(begun, why))?);
        }
    }
    if !pending.trim().is_empty() {
        return Err(at(begun, "it does not end".to_owned()));
    }
    if lines.is_empty() {
        return Err((".lock".to_owned(), "there is no package in it".to_owned()));
    }
    if lines.len() > LOCKED {
        return Err(too_many(".lock", lines.len(), LOCKED));
    }
    Ok(lines)
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "";
    }
    line.split_once(" #").map_or(line, |(before, _)| before)
}

fn locked(line: &str) -> Result<String, String> {
    let (head, hashes) = line.split_at(line.find("--").unwrap_or(line.len()));
    let found = requirement(head.trim())?;
    if !EXACT.is_match(&found.versions) {
        return Err("a lock file names one version of each package: name==version".to_owned());
    }
    let mut kept = BTreeSet::new();
    for word in hashes.split_ascii_whitespace() {
        if !HASH.is_match(word) {
            return Err("no option but --hash=sha256:… is allowed".to_owned());
        }
        kept.insert(word);
    }
    if kept.is_empty() {
        return Err("a lock file has a hash of each package: uv pip compile --generate-hashes".to_owned());
    }
    Ok(kept.into_iter().fold(found.text, |line, hash| line + " " + hash))
}
