//! Names and encodings that pass, and some that do not.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::Config;

fn chosen(language: &str, files: Value) -> Result<Chosen, Problem> {
    let config = Config::parse("{}").unwrap();
    let language = config.languages.iter().find(|known| known.name == language).unwrap();
    choose(read(serde_json::from_value(files).unwrap(), 8)?, language)
}

fn names(language: &str, files: Value) -> Vec<String> {
    chosen(language, files).unwrap().files.into_iter().map(|file| file.path.unwrap()).collect()
}

fn refusal(files: Value) -> String {
    chosen("python", files).unwrap_err().detail
}

#[test]
fn files_without_names_have_those_that_the_language_needs() {
    let two = json!([{"content": ""}, {"content": "", "name": ""}]);
    assert_eq!(names("python", two.clone()), ["main.py", "file1.code"]);
    assert_eq!(names("java", two.clone()), ["Main.java", "file1.code.java"]);
    assert_eq!(names("c", two), ["main.c", "file1.code.c"]);
    assert_eq!(names("c", json!([{"content": "", "name": "a"}, {"content": "", "name": "b"}])), ["a.c", "b"]);
    assert_eq!(names("c++", json!([{"content": "", "name": "d/a.cc"}])), ["d/a.cc"]);
    assert_eq!(names("python", json!([{"content": "", "name": "script"}])), ["script"]);
}

#[test]
fn the_first_text_is_what_runs_and_the_rest_is_data() {
    let files = json!([
        {"content": "00", "encoding": "hex", "name": "a.c"},
        {"content": "AA==", "encoding": "base64"},
        {"content": "x", "encoding": "latin1", "name": "m.c"},
        {"content": "y", "encoding": "utf8", "name": "n.c"},
    ]);
    let chosen = chosen("c", files.clone()).unwrap();
    assert_eq!(chosen.data, ["a.c", "file1.code"]);
    assert_eq!(names("c", files), ["m.c", "a.c", "file1.code", "n.c"]);
}

#[test]
fn a_path_is_made_plain_and_does_not_escape() {
    for (name, path) in [
        ("a.py", "a.py"),
        ("./a.py", "a.py"),
        ("d//e/../a.py", "d/a.py"),
        ("/etc/passwd", "etc/passwd"),
        ("..a", "..a"),
        ("d/..a", "d/..a"),
        ("-x", "-x"),
    ] {
        assert_eq!(names("python", json!([{"content": "", "name": name}])), [path]);
    }
    for (name, relative) in [
        ("..", ".."),
        ("../a.py", "../a.py"),
        ("d/../../a.py", "../a.py"),
        ("/../../etc/passwd", "../../etc/passwd"),
        ("d/../..", ".."),
    ] {
        let expected = format!("File path \"{name}\" tries to escape parent directory: {relative}");
        assert_eq!(refusal(json!([{"content": "", "name": name}])), expected);
    }
    for name in ["/", ".", "d/", "a/b/..", "a/."] {
        assert!(refusal(json!([{"content": "", "name": name}])).ends_with("is that of a directory"), "{name}");
    }
    assert!(refusal(json!([{"content": "", "name": "a\0"}])).starts_with("files[0].name: "));
    assert!(refusal(json!([{"content": "", "name": "a/".repeat(600) + "b"}])).starts_with("files[0].name: "));
    assert_eq!(refusal(json!([{"content": "", "name": 5}])), "files[0].name must be a string");
    let twice = json!([{"content": "", "name": "a"}, {"content": "", "name": "./a"}]);
    assert_eq!(refusal(twice), "File path \"a\" is that of two files");
}

proptest! {
    #[test]
    fn no_name_leads_out(name in r"([a./]{1,20}|\PC{1,40})") {
        if let Ok(path) = normal(&name) {
            prop_assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)), "{path}");
        }
    }
}

#[test]
fn encodings_are_those_of_piston() {
    let bytes = |content: &str, encoding: &str| {
        let file = json!([{"content": content, "encoding": encoding, "name": "a"}]);
        let file = chosen("python", file)?.files.remove(0);
        let decoded = file.content_base64.map(|text| STANDARD.decode(text).unwrap());
        Ok::<_, Problem>(decoded.unwrap_or_else(|| file.content.unwrap().into_bytes()))
    };
    assert_eq!(bytes("Zm9v", "base64").unwrap(), b"foo");
    assert_eq!(bytes("Zm\r\n8\n", "base64").unwrap(), b"fo");
    assert_eq!(bytes("_-8", "base64").unwrap(), [0xff, 0xef]);
    assert_eq!(bytes("00fFa0", "hex").unwrap(), [0, 0xff, 0xa0]);
    assert_eq!(bytes("Zm9v", "rot13").unwrap(), b"Zm9v");
    assert!(bytes("0", "hex").unwrap_err().detail.starts_with("files[0].content is not hex"));
    assert!(bytes("zz", "hex").unwrap_err().detail.starts_with("files[0].content is not hex"));
    assert!(bytes("?!", "base64").unwrap_err().detail.starts_with("files[0].content is not base64"));
}

#[test]
fn files_are_refused_in_the_words_of_piston() {
    assert_eq!(refusal(json!(null)), "files is required as an array");
    assert_eq!(refusal(json!({})), "files is required as an array");
    let second = json!([{"content": ""}, {"content": 3}]);
    assert_eq!(refusal(second), "files[1].content is required as a string");
    assert_eq!(refusal(json!(["text"])), "files[0].content is required as a string");
    let many = vec![json!({"content": ""}); 9];
    assert_eq!(refusal(json!(many)), "files: 9 files are too many, there may be 8");
}
