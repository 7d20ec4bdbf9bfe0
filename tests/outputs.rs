//! Files that programs leave behind: only regular ones come out, whole, under their own names, and
//! never more than the limits say.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;
mod payloads;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use base64::Engine;
use common::Service;
use payloads::{Outside, assert_status, assert_unaffected, job_with, stdout};
use serde_json::{Value, json};

fn leave(service: &Service, args: &[&str], outputs: Value, limits: Value) -> Value {
    service.run(&job_with("leaves.py", args, json!({"outputs": outputs, "limits": limits})))
}

/// The bytes of a field, which is there as text or as base64.
fn either(value: &Value, name: &str) -> Vec<u8> {
    match value[name].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let text = value[format!("{name}_base64")].as_str().unwrap_or_else(|| panic!("no {name} in {value}"));
            base64::engine::general_purpose::STANDARD.decode(text).unwrap()
        }
    }
}

fn files(answer: &Value) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let files = answer["files"].as_array().unwrap();
    files.iter().map(|file| (either(file, "path"), either(file, "content"))).collect()
}

fn names(answer: &Value) -> Vec<String> {
    files(answer).into_keys().map(|name| String::from_utf8(name).unwrap()).collect()
}

fn omitted(answer: &Value) -> BTreeMap<String, String> {
    let list = answer["omitted"].as_array().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    list.iter().map(|file| (text(either(file, "path")), file["reason"].as_str().unwrap().to_owned())).collect()
}

fn planted() -> tempfile::NamedTempFile {
    let secret = tempfile::Builder::new().prefix("planted").tempfile_in("/var/tmp").unwrap();
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    secret
}

#[test]
fn links_are_never_followed() {
    let secret = planted();
    let target = secret.path().to_str().unwrap();
    let outside = Outside::new();
    outside.stdout("leaves.py", &["links", target]);
    // The control: whoever opens these names gets the host's files.
    assert_eq!(fs::read_to_string(outside.path().join("secret.txt")).unwrap(), "secret");
    assert!(fs::read_to_string(outside.path().join("absolute.txt")).unwrap().contains("root"));
    let service = Service::start();
    let answer = leave(&service, &["links", target], json!(["**/*.txt", "etc/*", "linked/*", "up/**"]), json!({}));
    assert_status(&answer, "ok");
    assert_eq!(names(&answer), ["real.txt", "real/file.txt"]);
    let omitted = omitted(&answer);
    for name in ["absolute.txt", "relative.txt", "loop.txt", "secret.txt", "inner.txt"] {
        assert_eq!(omitted.get(name).map(String::as_str), Some("not a regular file"), "{name}: {omitted:?}");
    }
    assert!(!answer.to_string().contains("root:"), "{answer}");
}

#[test]
fn special_files_are_left_out_and_nobody_waits_for_them() {
    let outside = Outside::new();
    outside.stdout("leaves.py", &["special"]);
    // The control: whoever opens the FIFO as it is waits for ever.
    let control = outside.shell("timeout 0.2 cat fifo.txt");
    assert_eq!(control.status.code(), Some(124));
    let service = Service::start();
    let began = Instant::now();
    let answer = leave(&service, &["special"], json!(["*.txt"]), json!({}));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_status(&answer, "ok");
    assert_eq!(names(&answer), ["hard.txt", "real.txt"]);
    let omitted = omitted(&answer);
    assert_eq!(omitted.keys().collect::<Vec<_>>(), ["fifo.txt", "socket.txt"], "{omitted:?}");
    assert!(omitted.values().all(|reason| reason == "not a regular file"), "{omitted:?}");
}

#[test]
fn a_directory_is_no_file() {
    let service = Service::start();
    let answer = leave(&service, &["tree", "a/b.txt"], json!(["a", "a/b.txt"]), json!({}));
    assert_eq!(names(&answer), ["a/b.txt"]);
}

#[test]
fn deep_directories_are_walked_as_far_as_the_limit() {
    let outside = Outside::new();
    outside.stdout("leaves.py", &["deep", "1000"]);
    let service = Service::start();
    let answer = leave(&service, &["deep", "1000"], json!(["**/*.txt"]), json!({}));
    assert_status(&answer, "ok");
    assert_eq!(names(&answer).len(), 17, "the working directory and 16 below it");
    assert!(omitted(&answer).values().any(|reason| reason.contains("too deep")), "{answer}");
    assert_unaffected(&service);
}

#[test]
fn many_files_are_handed_out_as_far_as_the_limit() {
    let service = Service::start();
    let answer = leave(&service, &["many", "10000"], json!(["*.txt"]), json!({"disk_files": 20_000}));
    assert_status(&answer, "ok");
    assert_eq!(answer["files"].as_array().unwrap().len(), 64);
    let left_out = answer["omitted"].as_array().unwrap();
    assert!((1..=200).contains(&left_out.len()), "{}", left_out.len());
    assert!(left_out.iter().all(|file| file["reason"] == "more files than the limit"), "{}", left_out[0]);
    for (path, content) in files(&answer) {
        let number: usize = String::from_utf8(path).unwrap().strip_suffix(".txt").unwrap().parse().unwrap();
        assert_eq!(content, number.to_string().as_bytes());
    }
}

#[test]
fn more_entries_than_can_be_looked_at_are_told() {
    let service = Service::start_with(json!({"service": {"outputs": {"entries": 100}}}));
    let answer = leave(&service, &["many", "500"], json!(["00499.nothing", "00001.txt"]), json!({}));
    assert_status(&answer, "ok");
    assert!(omitted(&answer).values().any(|reason| reason.contains("in time")), "{answer}");
}

#[test]
fn sparse_giants_are_left_out() {
    let outside = Outside::new();
    assert_eq!(outside.stdout("leaves.py", &["sparse", "1099511627776"]), "made\n");
    let service = Service::start();
    // Where the limit of file size lets it be made at all.
    let answer = leave(&service, &["sparse", "1099511627776"], json!(["*.txt"]), json!({}));
    assert_eq!(stdout(&answer), "File too large\n");
    let answer = leave(&service, &["sparse", "500000000"], json!(["*.txt"]), json!({"file_size_bytes": 536_870_912}));
    assert_eq!(stdout(&answer), "made\n");
    assert_eq!(names(&answer), ["small.txt"]);
    assert_eq!(omitted(&answer)["giant.txt"], "larger than what is left of the limit");
}

#[test]
fn names_survive_byte_for_byte() {
    let outside = Outside::new();
    outside.stdout("leaves.py", &["names"]);
    let expected: BTreeMap<Vec<u8>, Vec<u8>> = fs::read_dir(outside.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = std::os::unix::ffi::OsStringExt::into_vec(entry.file_name());
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    assert_eq!(expected.len(), 12);
    let service = Service::start();
    let answer = leave(&service, &["names"], json!(["*.txt"]), json!({}));
    assert_status(&answer, "ok");
    assert_eq!(files(&answer), expected);
}

#[test]
fn modes_do_not_matter() {
    let service = Service::start();
    let answer = leave(&service, &["modes"], json!(["**/*.txt"]), json!({}));
    assert_status(&answer, "ok");
    assert_eq!(names(&answer), ["0000.txt", "0111.txt", "0200.txt", "0600.txt", "4755.txt", "closed/file.txt"]);
}

#[test]
fn bytes_are_handed_out_as_far_as_the_limit() {
    let service = Service::start_with(json!({"service": {"outputs": {"bytes": 1000}}}));
    let answer = leave(&service, &["sizes", "a=1000"], json!(["*"]), json!({}));
    assert_eq!(files(&answer)[&b"a"[..]].len(), 1000);
    let answer = leave(&service, &["sizes", "a=1001", "b=0"], json!(["a", "b"]), json!({}));
    assert_eq!(names(&answer), ["b"]);
    assert_eq!(omitted(&answer)["a"], "larger than what is left of the limit");
    let answer = leave(&service, &["sizes", "a=600", "b=600", "c=400"], json!(["a", "b", "c"]), json!({}));
    let total: usize = files(&answer).values().map(Vec::len).sum();
    assert!(total <= 1000 && names(&answer).len() + omitted(&answer).len() == 3, "{answer}");
}

#[test]
fn the_largest_file_of_all_comes_out_whole() {
    let service = Service::start();
    let answer = leave(&service, &["sizes", "a=16777216"], json!(["a"]), json!({}));
    assert_eq!(answer["files"][0]["size"], 16_777_216, "{}", answer["omitted"]);
    assert_eq!(files(&answer)[&b"a"[..]].len(), 16_777_216);
}

#[test]
fn patterns_mean_what_they_say() {
    let service = Service::start();
    let tree = ["tree", "a.png", "b.txt", "d/a.png", "d/e/a.png", ".hidden", "x{y}.txt", "c1", "c2", "c3"];
    for (pattern, wanted) in [
        ("*.png", &["a.png"][..]),
        ("**/*.png", &["a.png", "d/a.png", "d/e/a.png"]),
        ("d/*", &["d/a.png"]),
        ("d/**", &["d/a.png", "d/e/a.png"]),
        ("?.txt", &["b.txt"]),
        ("c[12]", &["c1", "c2"]),
        ("{a.png,b.txt}", &["a.png", "b.txt"]),
        (".hidden", &[".hidden"]),
        ("*.PNG", &[]),
        ("nothing", &[]),
    ] {
        let answer = leave(&service, &tree, json!([pattern]), json!({}));
        assert_eq!(names(&answer), wanted, "{pattern}");
        assert_eq!(answer["omitted"], json!([]), "{pattern}");
    }
}

#[test]
fn no_pattern_hands_out_nothing() {
    let service = Service::start();
    for outputs in [json!([]), Value::Null] {
        let answer = leave(&service, &["tree", "a.png"], outputs, json!({}));
        assert_eq!((&answer["files"], &answer["omitted"]), (&json!([]), &json!([])));
    }
}

#[test]
fn files_of_a_program_that_was_ended_come_out() {
    let service = Service::start();
    let answer = leave(&service, &["busy"], json!(["*.txt"]), json!({"wall_time_ms": 2000}));
    assert_status(&answer, "wall_time_exceeded");
    assert_eq!(names(&answer), ["done.txt"]);
}

#[test]
fn nobody_swaps_a_file_while_it_is_handed_out() {
    let secret = planted();
    let target = secret.path().to_str().unwrap();
    let service = Service::start();
    for _ in 0..5 {
        let answer = leave(&service, &["racer", target], json!(["swap.txt"]), json!({}));
        assert_status(&answer, "ok");
        assert!(files(&answer).values().all(|content| content == b"real" || content.is_empty()), "{answer}");
        assert!(answer["files"].as_array().unwrap().len() + answer["omitted"].as_array().unwrap().len() <= 1);
    }
}

#[test]
fn input_files_land_where_they_should_and_nowhere_else() {
    let service = Service::start();
    let answer = service.run(&json!({
        "runtime": "python@3.11",
        "files": [
            {"content": "import os; print(open('a/b/c.txt').read(), oct(os.stat('x').st_mode), os.stat('a/b/c.txt').st_uid)"},
            {"path": "a/b/c.txt", "content": "deep"},
            {"path": "x", "content": "", "executable": true},
        ],
    }));
    assert_eq!(stdout(&answer), "deep 0o100755 1000\n");
    for (path, field) in [
        ("../x", "files[1].path"),
        ("/etc/x", "files[1].path"),
        ("a/../../x", "files[1].path"),
        ("a\0b", "files[1].path"),
        ("", "files[1].path"),
        ("a/", "files[1].path"),
        ("main.py", "files[1].path"),
        ("main.py/x", "files[1].path"),
    ] {
        let request = json!({"runtime": "python@3.11", "files": [{"content": ""}, {"path": path, "content": ""}]});
        let refused = service.post(&request);
        assert_eq!((refused.status, &refused.json()["field"]), (422, &json!(field)), "{path:?}: {}", refused.json());
    }
}
