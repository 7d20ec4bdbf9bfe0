//! Every call about files does what it says, and says what it did not do.

use serde_json::{Value, json};

use super::{Lines, Session, assert_problem, encoded, request, tar_of, text};
use crate::common::Service;

#[test]
fn files_are_written_read_in_parts_appended_to_and_executed() {
    let service = Service::start();
    let session = Session::new(&service);
    session.put("a/b/letters", "abcdefghij");
    assert_eq!(session.content("a/b/letters"), b"abcdefghij");
    assert_eq!(session.shell("cat a/b/letters"), "abcdefghij");
    let part = |range: &str| {
        let path = session.at("/fs/file?path=a/b/letters");
        request(&service.socket(), "GET", &path, &[("range", range)], b"").unwrap()
    };
    for (range, wanted, place) in [
        ("bytes=0-3", "abcd", "bytes 0-3/10"),
        ("bytes=7-", "hij", "bytes 7-9/10"),
        ("bytes=-2", "ij", "bytes 8-9/10"),
        ("bytes=8-100", "ij", "bytes 8-9/10"),
        ("bytes=-100", "abcdefghij", "bytes 0-9/10"),
    ] {
        let answer = part(range);
        assert_eq!((answer.status, &answer.body[..]), (206, wanted.as_bytes()), "{range}");
        assert_eq!(answer.headers["content-range"], place, "{range}");
        assert_eq!(answer.headers["content-length"], wanted.len().to_string(), "{range}");
    }
    let several = part("bytes=0-1,4-5");
    assert_eq!((several.status, &several.body[..]), (200, b"abcdefghij".as_slice()));
    let beyond = part("bytes=10-");
    assert_problem(&beyond, 416, "range-not-satisfiable");
    assert_eq!(beyond.headers["content-range"], "bytes */10");
    assert_eq!(beyond.json()["allowed"]["size"], 10);
    for piece in ["1\n", "2\n", "3\n"] {
        assert_eq!(session.call("PUT", "/fs/file?path=log&append=true", piece.as_bytes()).status, 204);
    }
    assert_eq!(session.content("log"), b"1\n2\n3\n");
    let script = b"#!/bin/sh\necho executed\n";
    assert_eq!(session.call("PUT", "/fs/file?path=bin/hello&executable=true", script).status, 204);
    assert_eq!(session.printed(&json!({"argv": ["bin/hello"]})), "executed\n");
    session.put("bin/plain", script);
    assert_ne!(session.exec(&json!({"argv": ["bin/plain"]}))["exit_code"], 0);
    session.put("empty", "");
    assert_eq!(session.content("empty"), b"");
}

#[test]
fn entries_tell_what_is_there() {
    let service = Service::start();
    let session = Session::new(&service);
    session.shell("mkdir -p d/deep; echo 12345 > d/f; chmod 640 d/f; ln -s f d/link; mkfifo d/pipe; touch d/deep/x");
    let stat = |path: &str| session.done("GET", &format!("/fs/stat?path={path}"), &Value::Null);
    let file = stat("d/f");
    assert_eq!(
        (&file["path"], &file["kind"], &file["size"], &file["mode"]),
        (&json!("d/f"), &json!("file"), &json!(6), &json!(0o640)),
        "{file}"
    );
    assert!(file["modified_at"].as_str().unwrap().ends_with('Z'), "{file}");
    let link = stat("d/link");
    assert_eq!((&link["kind"], &link["target"]), (&json!("link"), &json!("f")), "{link}");
    assert_eq!(stat("d/pipe")["kind"], "other");
    assert_eq!(stat("d")["kind"], "directory");
    assert_eq!(session.done("GET", "/fs/stat", &Value::Null)["kind"], "directory");
    assert_eq!(session.names("d"), ["d/deep", "d/deep/x", "d/f", "d/link", "d/pipe"]);
    let flat = session.done("GET", "/fs/list?path=d", &Value::Null);
    assert_eq!(flat["entries"].as_array().unwrap().len(), 4, "{flat}");
    session.python("open(b'not\\xffutf8', 'w')");
    let listed = session.done("GET", "/fs/list", &Value::Null);
    let odd: Vec<_> = listed["entries"].as_array().unwrap().iter().filter(|entry| entry["path"].is_null()).collect();
    assert_eq!(odd.len(), 1, "{listed}");
    assert_eq!(odd[0]["path_base64"], "bm90/3V0Zjg=");
}

#[test]
fn files_are_moved_copied_and_removed() {
    let service = Service::start();
    let session = Session::new(&service);
    session.done("POST", "/fs/mkdir", &json!({"path": "a/b/c"}));
    session.done("POST", "/fs/mkdir", &json!({"path": "a/b/c"}));
    session.put("a/b/c/f", "one");
    session.put("g", "two");
    let transfer = |what: &str, from: &str, to: &str, replace: bool| {
        session.post(&format!("/fs/{what}"), &json!({"from": from, "to": to, "replace": replace}))
    };
    for what in ["move", "copy"] {
        assert_problem(&transfer(what, "a/b/c/f", "g", false), 409, "file-exists");
        assert_problem(&transfer(what, "nowhere", "h", false), 404, "no-such-file");
        assert_problem(&transfer(what, "a", "a/b/inside", false), 409, "wrong-file");
    }
    assert_eq!(transfer("copy", "a", "copy", false).status, 204);
    assert_eq!(session.content("copy/b/c/f"), b"one");
    assert_eq!(transfer("copy", "a/b/c/f", "g", true).status, 204);
    assert_eq!(session.content("g"), b"one");
    assert_eq!(transfer("move", "copy", "moved", false).status, 204);
    assert_eq!(
        session.names(""),
        ["a", "a/b", "a/b/c", "a/b/c/f", "g", "moved", "moved/b", "moved/b/c", "moved/b/c/f"]
    );
    assert_eq!(transfer("move", "moved", "a", true).status, 204);
    assert_eq!(session.names(""), ["a", "a/b", "a/b/c", "a/b/c/f", "g"]);
    assert_problem(&session.call("DELETE", "/fs/file?path=a", b""), 409, "wrong-file");
    assert_eq!(session.call("DELETE", "/fs/file?path=a&recursive=true", b"").status, 204);
    assert_eq!(session.call("DELETE", "/fs/file?path=g", b"").status, 204);
    assert_problem(&session.call("DELETE", "/fs/file?path=g", b""), 404, "no-such-file");
    assert!(session.names("").is_empty());
}

#[test]
fn what_is_looked_for_is_found() {
    let service = Service::start();
    let session = Session::new(&service);
    session.put("src/main.py", "import os\nneedle = 1\n");
    session.put("src/deep/other.py", "x = 'a needle'\n");
    session.put("notes.txt", "no such thing\nneedles\n");
    session.python("open('binary', 'wb').write(b'\\0\\1needle\\n')");
    let search = |asked: &Value| {
        let found = session.done("POST", "/fs/search", asked);
        let found = found["matches"].as_array().unwrap().clone();
        found.iter().map(|hit| format!("{}:{}", hit["path"].as_str().unwrap(), hit["line"])).collect::<Vec<_>>()
    };
    assert_eq!(search(&json!({"name": "*.py"})), ["src/deep/other.py:null", "src/main.py:null"]);
    assert_eq!(search(&json!({"name": "*.py", "content": "needle"})), ["src/deep/other.py:1", "src/main.py:2"]);
    assert_eq!(search(&json!({"path": "src", "content": "^needle", "regex": true})), ["src/main.py:2"]);
    assert!(search(&json!({"content": "^needle"})).is_empty());
    let limited = session.done("POST", "/fs/search", &json!({"content": "e", "limit": 1}));
    assert_eq!((limited["matches"].as_array().unwrap().len(), &limited["truncated"]), (1, &json!(true)));
    for wrong in
        [json!({}), json!({"content": "(", "regex": true}), json!({"name": "[", "limit": 1}), json!({"content": ""})]
    {
        assert_problem(&session.post("/fs/search", &wrong), 422, "invalid-field");
    }
}

#[test]
fn a_watch_tells_what_programs_do_meanwhile() {
    let service = Service::start();
    let session = Session::new(&service);
    session.put("d/old", "x");
    let mut watch = Lines::get(&service, &session.at("/fs/watch?path=d"));
    session.shell("echo 1 > d/new; echo 2 >> d/old; mv d/new d/named; rm d/old; mkdir d/sub; echo 3 > d/last");
    let mut seen = Vec::new();
    while !seen.iter().any(|event: &String| event.ends_with("d/last")) {
        let event = watch.next().expect("the watch goes on");
        let from = event["from"].as_str().map(|from| format!(" from {from}")).unwrap_or_default();
        seen.push(format!("{}{from} {}", event["event"].as_str().unwrap(), event["path"].as_str().unwrap()));
    }
    for wanted in ["created d/new", "modified d/old", "moved from d/new d/named", "removed d/old", "created d/sub"] {
        assert!(seen.iter().any(|event| event == wanted), "{wanted} is not among {seen:?}");
    }
    // What is made in a directory that was made meanwhile.
    session.put("d/sub/inner", "x");
    while !watch.next().expect("the watch goes on")["path"].as_str().unwrap_or_default().ends_with("d/sub/inner") {}
    // A session that is gone ends it.
    assert_eq!(session.call("DELETE", "", b"").status, 204);
    while let Some(event) = watch.next() {
        assert_ne!(event["event"], "created", "{event}");
    }
}

#[test]
fn archives_go_out_and_come_in() {
    let service = Service::start();
    let session = Session::new(&service);
    session.shell(
        "mkdir -p p/empty p/deep/er; echo hi > p/file; chmod 755 p/file; echo x > p/deep/er/x; chmod 600 p/deep/er/x; \
         ln -s ../file p/deep/up; ln -s /etc/passwd p/out; chmod 700 p/empty",
    );
    let archive = session.get("/fs/archive?path=p");
    assert_eq!(archive.status, 200, "{}", text(&archive));
    assert_eq!(archive.headers["content-type"], "application/x-tar");
    let answer = session.call("PUT", "/fs/archive?path=q", &archive.body);
    assert_eq!(answer.status, 204, "{}", text(&answer));
    let picture = |name: &str| {
        session.shell(&format!("cd {name}; find . -printf '%P %y %m %s %l\\n' | grep -v ' d ' | sort; find . -type d -printf '%P %m\\n' | sort"))
    };
    assert_eq!(picture("p"), picture("q"));
    assert!(picture("p").contains("deep/up l 777 7 ../file"), "{}", picture("p"));
    let damaged = session.call("PUT", "/fs/archive?path=r", &[b'x'; 2048]);
    assert_problem(&damaged, 422, "invalid-field");
    let whole = tar_of(&[("one", tar::EntryType::Regular, "1"), ("two", tar::EntryType::Regular, "2")]);
    let cut = session.call("PUT", "/fs/archive?path=r", &whole[..1024 + 100]);
    assert_problem(&cut, 422, "invalid-field");
}

#[test]
fn what_is_not_done_is_told_by_kind() {
    let service = Service::start();
    let session = Session::new(&service);
    session.shell("echo 1 > f; mkdir d; ln -s f link; echo 1 > closed; chmod 0 closed; mkdir shut; chmod 0 shut");
    for path in ["nowhere", "d/nowhere", "nowhere/deep"] {
        let place = encoded(path);
        for (method, rest) in [
            ("GET", "file"),
            ("GET", "stat"),
            ("GET", "list"),
            ("GET", "archive"),
            ("GET", "watch"),
            ("DELETE", "file"),
        ] {
            let at = session.at(&format!("/fs/{rest}?path={place}"));
            let headers: &[_] = if rest == "watch" { &[("accept", "application/x-ndjson")] } else { &[] };
            assert_problem(&request(&service.socket(), method, &at, headers, b"").unwrap(), 404, "no-such-file");
        }
    }
    for (path, why) in [
        ("", "empty"),
        ("..", "parent"),
        ("../x", "parent"),
        ("d/../../x", "parent"),
        ("/etc/passwd", "absolute"),
        ("d//f", "empty part"),
        ("./f", "dot"),
        ("d/.", "dot"),
        ("a\0b", "zero byte"),
        ("/", "root"),
        ("d/..", "parent at the end"),
    ] {
        assert_problem(&session.read(path), 422, "invalid-field");
        assert_problem(&session.write(path, "x"), 422, "invalid-field");
        assert_problem(&session.call("DELETE", &format!("/fs/file?path={}", encoded(path)), b""), 422, "invalid-field");
        for (call, body) in [
            ("mkdir", json!({"path": path})),
            ("move", json!({"from": "f", "to": path})),
            ("move", json!({"from": path, "to": "x"})),
            ("copy", json!({"from": "f", "to": path})),
            ("copy", json!({"from": path, "to": "x"})),
        ] {
            assert_problem(&session.post(&format!("/fs/{call}"), &body), 422, "invalid-field");
        }
        if path.is_empty() {
            continue;
        }
        for call in ["stat", "list", "archive"] {
            let answer = session.get(&format!("/fs/{call}?path={}", encoded(path)));
            assert_eq!(answer.status, 422, "{call} {path:?} ({why}): {}", text(&answer));
        }
    }
    assert_problem(&session.read("d"), 409, "wrong-file");
    assert_problem(&session.read("link"), 409, "wrong-file");
    assert_problem(&session.read("f/below"), 409, "wrong-file");
    assert_problem(&session.read("closed"), 409, "wrong-file");
    assert_problem(&session.read("shut/x"), 409, "wrong-file");
    assert_problem(&session.write("d", "x"), 409, "wrong-file");
    assert_problem(&session.write("f/below", "x"), 409, "wrong-file");
    assert_problem(&session.write("shut/x", "x"), 409, "wrong-file");
    assert_problem(&session.post("/fs/mkdir", &json!({"path": "f"})), 409, "wrong-file");
    assert_problem(&session.get("/fs/list?path=f"), 409, "wrong-file");
    for wrong in ["?depth=0", "?depth=33", "?depth=x", "?deep=1", "?path=d&path=d"] {
        assert_problem(&session.get(&format!("/fs/list{wrong}")), 422, "invalid-field");
    }
    assert_eq!(session.content("f"), b"1\n");
    // Names that are long, but not too long for a path of ours.
    let long = "n".repeat(255);
    session.put(&long, "x");
    let longer = "n".repeat(256);
    let answer = session.write(&longer, "x");
    assert!((400..500).contains(&answer.status), "{}", text(&answer));
}
