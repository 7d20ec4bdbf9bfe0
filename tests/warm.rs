//! An interpreter that was started before its program was known runs it as the plain one does: every
//! program of `tests/warm/`, in both, with each byte compared that comes out.
//!
//! `tests/warm/<language>/<name>.<extension>` is the program; `<name>.toml` beside it may say more, see
//! [`About`].

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Service, skip};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long a program is run again until a warm interpreter has served it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a program needs, and what it shows.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct About {
    args: Vec<String>,
    stdin: String,
    env: BTreeMap<String, String>,
    /// Further files: path and text.
    files: BTreeMap<String, String>,
    /// Where the program is stored; the language's usual name where absent.
    main: Option<String>,
    /// It must not be served by a warm interpreter.
    cold: bool,
    /// No two runs may print the same, warm or plain; nothing else is compared.
    differs: bool,
    /// What it shows depends on the version: it runs in all of them. The other programs run in the last
    /// of this host alone, for the time that the rest would take; with `CODESANDBOX_WARM_ALL` set, in all.
    every_version: bool,
    /// Beginnings of the versions that it is for; all where empty.
    only: Vec<String>,
}

struct Program {
    name: String,
    source: Vec<u8>,
    about: About,
}

impl Program {
    /// How often each service runs it.
    fn runs(&self) -> usize {
        if self.about.differs { 2 } else { 1 }
    }

    fn is_for(&self, runtime: &Runtime) -> bool {
        let only = &self.about.only;
        only.is_empty() || only.iter().any(|version| is_of(&runtime.version, version))
    }
}

/// A runtime of this host whose interpreter is started beforehand.
struct Runtime {
    id: String,
    version: String,
}

/// The sandboxes that wait in one of the two services: those of one runtime, warm; or none.
fn pool(warm: Option<&Runtime>) -> Value {
    match warm {
        None => json!({"pool": {"warm": false, "ceiling": 0}}),
        Some(runtime) => {
            json!({"pool": {"warm": true, "ceiling": 8, "runtimes": {runtime.id.clone(): {"floor": 4}}}})
        }
    }
}

fn directory(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/warm").join(language)
}

fn programs(language: &str) -> Vec<Program> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(directory(language)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            continue;
        }
        let about = fs::read_to_string(path.with_extension("toml")).unwrap_or_default();
        let about = toml::from_str(&about).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        programs.push(Program { name, source: fs::read(&path).unwrap(), about });
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs
}

/// Versions of a language whose interpreter is never started beforehand.
fn cold_versions(language: &str) -> Vec<String> {
    let (_, text) = codesandbox::runtime::BUILT_IN.iter().find(|(name, _)| *name == language).unwrap();
    let data: toml::Table = toml::from_str(text).unwrap();
    let versions = data["versions"].as_array().unwrap().iter();
    let cold = versions.filter(|entry| entry.get("warm").and_then(toml::Value::as_bool) == Some(false));
    cold.filter_map(|entry| Some(entry.get("version")?.as_str()?.to_owned())).collect()
}

/// Runtimes of a language on this host whose interpreter is started beforehand.
fn runtimes(service: &Service, language: &str) -> Vec<Runtime> {
    let listing = service.request("GET", "/v1/runtimes", &[], "").json();
    let runtimes = listing["runtimes"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let cold = cold_versions(language);
    runtimes
        .filter(|runtime| runtime["language"] == language)
        .map(|runtime| {
            let version = text(&runtime["version"]);
            let id = if version.is_empty() { language.to_owned() } else { format!("{language}-{version}") };
            Runtime { id, version }
        })
        .filter(|runtime| !cold.contains(&runtime.version))
        .collect()
}

fn request(runtime: &Runtime, program: &Program) -> Value {
    let about = &program.about;
    let mut main = json!({"content_base64": STANDARD.encode(&program.source)});
    if let Some(path) = &about.main {
        main["path"] = path.clone().into();
    }
    let others = about.files.iter().map(|(path, text)| json!({"path": path, "content": text}));
    let files: Vec<Value> = std::iter::once(main).chain(others).collect();
    json!({
        "runtime": runtime.id.replacen('-', "@", 1), "files": files, "args": about.args, "stdin": about.stdin, "env": about.env,
        "outputs": ["**"], "limits": {"wall_time_ms": 60_000, "cpu_time_ms": 60_000},
    })
}

/// What of an answer must be the same.
fn essence(answer: &Value) -> Value {
    let run = &answer["run"];
    let keys = ["status", "exit_code", "signal", "stdout", "stderr", "reason", "denied"];
    let run: BTreeMap<&str, &Value> = keys.iter().map(|key| (*key, &run[*key])).collect();
    // In the order of their directory, which tells when they were made.
    let mut files = answer["files"].as_array().cloned().unwrap_or_default();
    files.sort_by_key(|file| file["path"].to_string());
    json!({"status": answer["status"], "run": run, "files": files, "omitted": answer["omitted"]})
}

/// What one of the two services made of a program: one answer, or two where they must differ.
type Answers = Result<Vec<Value>, String>;

fn run_plain(service: &Service, runtime: &Runtime, program: &Program) -> Answers {
    let request = request(runtime, program);
    let answers: Vec<Value> = (0..program.runs()).map(|_| service.run(&request)).collect();
    let is_plain = answers.iter().all(|answer| answer["path"] == "cold");
    if is_plain { Ok(answers) } else { Err("the plain service had a sandbox that waited".to_owned()) }
}

fn run_warm(service: &Service, runtime: &Runtime, program: &Program) -> Answers {
    let request = request(runtime, program);
    let began = Instant::now();
    let (mut answers, mut others) = (Vec::new(), Vec::new());
    while answers.len() < program.runs() {
        let answer = service.run(&request);
        let is_warm = answer["path"] == "warm";
        if program.about.cold {
            return if is_warm { Err("it was run warm".to_owned()) } else { Ok(vec![answer]) };
        }
        if is_warm {
            answers.push(answer);
            continue;
        }
        others.push(answer["path"].to_string());
        if began.elapsed() > PATIENCE {
            return Err(format!("not warm: {}", others.join(" ")));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(answers)
}

/// What is wrong, if anything.
fn compare(program: &Program, plain: Answers, warm: Answers) -> Result<(), String> {
    let (plain, warm) = (plain?, warm?);
    if program.about.differs {
        let mut printed: Vec<String> =
            plain.iter().chain(&warm).map(|answer| answer["run"]["stdout"].to_string()).collect();
        printed.sort();
        printed.dedup();
        let is_ok = plain.iter().chain(&warm).all(|answer| answer["status"] == "ok");
        let is_right = is_ok && printed.len() == plain.len() + warm.len();
        return if is_right { Ok(()) } else { Err(format!("of four runs only these differ: {printed:#?}")) };
    }
    let (expected, found) = (essence(&plain[0]), essence(&warm[0]));
    if expected == found { Ok(()) } else { Err(format!("plain {expected:#}\nwarm {found:#}")) }
}

/// Every program of a language in the last version of this host, and those that depend on versions in
/// all others.
fn as_plain(language: &str) {
    let programs = programs(language);
    let plain = Service::start_with(pool(None));
    let runtimes = runtimes(&plain, language);
    if runtimes.is_empty() {
        return skip(&format!("no {language} on this host that is started beforehand"));
    }
    let every_program = std::env::var_os("CODESANDBOX_WARM_ALL").is_some();
    let mut failures = Vec::new();
    for (place, runtime) in runtimes.iter().enumerate() {
        let with_all = every_program || place + 1 == runtimes.len();
        let programs: Vec<&Program> = programs
            .iter()
            .filter(|program| program.is_for(runtime) && (with_all || program.about.every_version))
            .collect();
        let warm = Service::start_with(pool(Some(runtime)));
        let run_all = |run: fn(&Service, &Runtime, &Program) -> Answers, service: &Service| -> Vec<Answers> {
            programs.iter().map(|program| run(service, runtime, program)).collect()
        };
        // Warm interpreters start while plain ones run.
        let (expected, found) = thread::scope(|scope| {
            let expected = scope.spawn(|| run_all(run_plain, &plain));
            let found = run_all(run_warm, &warm);
            (expected.join().unwrap(), found)
        });
        for ((program, expected), found) in programs.iter().zip(expected).zip(found) {
            if let Err(why) = compare(program, expected, found) {
                failures.push(format!("{} {}: {why}", runtime.id, program.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} programs:\n{}", failures.len(), failures.join("\n"));
}

/// Whether a version is another or one of its minor versions: 3.1 is no beginning of 3.11.
fn is_of(version: &str, beginning: &str) -> bool {
    version.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

macro_rules! languages {
    ($($test:ident: $language:literal;)+) => {
        $(#[test] fn $test() { as_plain($language); })+

        #[test]
        fn every_language_with_a_boot_program_is_here() {
            let mut known: Vec<&str> = codesandbox::runtime::BUILT_IN
                .iter()
                .filter(|(_, text)| text.lines().any(|line| line == "[warm]"))
                .map(|(name, _)| *name)
                .collect();
            known.sort_unstable();
            assert_eq!(known, [$($language),+]);
        }

        #[test]
        fn every_language_shows_that_two_warm_interpreters_share_no_randomness() {
            for language in [$($language),+] {
                let javascript_serves = language == "typescript";
                assert!(javascript_serves || programs(language).iter().any(|program| program.about.differs), "{language}");
            }
        }
    };
}

languages! {
    java: "java";
    javascript: "javascript";
    perl: "perl";
    python: "python";
    r: "r";
    ruby: "ruby";
    typescript: "typescript";
}
