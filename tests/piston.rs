//! Piston's dialect, through the real socket: messages and statuses one by one, what becomes of programs, and
//! those clients that people have.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

#[path = "piston/clients.rs"]
mod clients;
#[path = "piston/connect.rs"]
mod connect;

use common::{Answer, Service, wait_for};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");

fn post(service: &Service, path: &str, body: &Value) -> Answer {
    service.request("POST", &format!("/api/v2/{path}"), &[JSON], &body.to_string())
}

/// What becomes of a request that must be accepted.
fn execute(service: &Service, body: &Value) -> Value {
    let answer = post(service, "execute", body);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// A script of Bash, with more fields.
fn script(source: &str, more: Value) -> Value {
    let mut body = json!({"language": "bash", "version": "*", "files": [{"content": source}]});
    common::merge(&mut body, more);
    body
}

fn refused(service: &Service, body: &Value) -> (u16, Value) {
    let answer = post(service, "execute", body);
    assert_eq!(answer.headers["content-type"], "application/json");
    (answer.status, answer.json())
}

fn message(text: &str) -> (u16, Value) {
    (400, json!({"message": text}))
}

#[test]
fn lists_of_runtimes_and_packages_have_the_shape_of_piston() {
    let service = Service::start();
    let get = |path: &str| service.request("GET", path, &[], "").json();
    let runtimes = get("/api/v2/runtimes");
    for path in ["/api/v2/runtimes/", "/api/v2/piston/runtimes", "/api/v2/piston/runtimes/"] {
        assert_eq!(get(path), runtimes, "{path}");
    }
    let three_numbers = regex::Regex::new(r"^\d+\.\d+\.\d+$").unwrap();
    for runtime in runtimes.as_array().unwrap() {
        assert!(three_numbers.is_match(runtime["version"].as_str().unwrap()), "{runtime}");
        assert!(runtime["language"].is_string() && runtime["aliases"].is_array(), "{runtime}");
    }
    let bash = runtimes.as_array().unwrap().iter().find(|runtime| runtime["language"] == "bash").unwrap();
    assert_eq!(bash["aliases"], json!(["sh", "shell"]));
    let packages = get("/api/v2/packages/");
    assert_eq!(packages.as_array().unwrap().len(), runtimes.as_array().unwrap().len());
    let bash = json!({"language": "bash", "language_version": bash["version"], "installed": true});
    assert!(packages.as_array().unwrap().contains(&bash), "{packages}");
    // The list of our own stays where it was.
    assert!(get("/api/runtimes")["runtimes"].is_array());
}

#[test]
fn an_answer_has_the_shape_of_piston() {
    let service = Service::start();
    let source = "read line; echo \"out $line $1 $2 $PISTON_LANGUAGE $HOME\"; echo err >&2";
    let request = script(source, json!({"language": "sh", "stdin": "typed", "args": ["a b", "c"]}));
    let answer = post(&service, "execute", &request);
    assert_eq!(answer.headers["codesandbox-job"].len(), 36);
    let told = answer.json();
    assert_eq!((&told["language"], told.get("compile")), (&json!("bash"), None));
    assert!(told["version"].as_str().unwrap().split('.').count() == 3, "{told}");
    let run = &told["run"];
    assert_eq!(run["stdout"], "out typed a b c bash /tmp\n");
    assert_eq!(run["stderr"], "err\n");
    assert_eq!(
        (&run["code"], &run["signal"], &run["message"], &run["status"]),
        (&json!(0), &Value::Null, &Value::Null, &Value::Null)
    );
    assert!(run["memory"].is_u64() && run["cpu_time"].is_u64() && run["wall_time"].is_u64(), "{run}");
    // A newline is added where there is none, and only there.
    for (stdin, expected) in [(json!("a"), "2"), (json!("a\n"), "2"), (Value::Null, "1")] {
        let told = execute(&service, &script("wc -c", json!({"stdin": stdin})));
        assert_eq!(told["run"]["stdout"].as_str().unwrap().trim(), expected, "{told}");
    }
    // Each line is out before the next is written, so their order is that of the program.
    let lines = "import os\nfor i in range(9):\n    os.write(1 + i % 2, b'%d' % i)\n    import time; time.sleep(0.05)";
    let told = execute(&service, &json!({"language": "python", "version": "3.11", "files": [{"content": lines}]}));
    assert_eq!(told["run"]["output"], "012345678", "{told}");
    assert_eq!(told["run"]["stdout"], "02468");
}

#[test]
fn versions_are_ranges() {
    let service = Service::start();
    let major = |range: &str| {
        let body = json!({"language": "py", "version": range, "files": [{"content": "import sys; print(sys.version_info[1])"}]});
        let answer = post(&service, "execute", &body);
        match answer.status {
            200 => Ok(answer.json()["run"]["stdout"].as_str().unwrap().trim().to_owned()),
            _ => Err(answer.json()["message"].as_str().unwrap().to_owned()),
        }
    };
    assert_eq!(major("3.11"), Ok("11".to_owned()));
    assert_eq!(major(">=3.11.0 <3.12"), Ok("11".to_owned()));
    for range in ["2", "3.11.77", "latest", "../3", "3.11 foo", &"9".repeat(500)] {
        let told = major(range).unwrap_err();
        assert!(told.starts_with("py-") && told.ends_with(" runtime is unknown") && told.len() < 300, "{told}");
    }
}

#[test]
fn what_is_wrong_is_told_one_by_one_in_the_words_of_piston() {
    let service = Service::start_with(json!({"piston": {"run_timeout": 3000}}));
    let mut body = json!({});
    for (key, value, text) in [
        ("other", json!(1), "language is required as a string"),
        ("language", json!(["bash"]), "language is required as a string"),
        ("language", json!("nothing"), "version is required as a string"),
        ("version", json!("*"), "files is required as an array"),
        ("files", json!({"content": ""}), "files is required as an array"),
        ("files", json!([{"name": "a"}]), "files[0].content is required as a string"),
        ("files", json!([{"content": "", "encoding": "hex"}]), "nothing-* runtime is unknown"),
        ("language", json!("bash"), "files must include at least one utf8 encoded file"),
        ("files", json!([{"content": "echo $1"}]), ""),
        ("run_timeout", json!("1"), "If specified, run_timeout must be a number"),
        ("run_timeout", json!(3001), "run_timeout cannot exceed the configured limit of 3000"),
        ("run_timeout", json!(-1), "run_timeout must be non-negative"),
        ("run_timeout", json!(3000), ""),
        ("run_memory_limit", json!(1e100), "run_memory_limit cannot exceed the configured limit of 2147483648"),
        ("run_memory_limit", json!(-1), ""),
    ] {
        body[key] = value;
        match text {
            "" => assert_eq!(execute(&service, &body)["run"]["code"], 0, "{body}"),
            text => assert_eq!(refused(&service, &body), message(text), "{body}"),
        }
    }
}

#[test]
fn bodies_that_are_no_requests_are_refused_as_piston_does() {
    let service = Service::start();
    let send = |method: &str, path: &str, kind: Option<&str>, body: &str| {
        let headers: Vec<(&str, &str)> = kind.into_iter().map(|kind| ("content-type", kind)).collect();
        let answer = service.request(method, path, &headers, body);
        (answer.status, answer.json()["message"].as_str().unwrap_or_default().to_owned())
    };
    let wrong_type = (415, "requests must be of type application/json".to_owned());
    let good = script("true", json!({})).to_string();
    for kind in [None, Some("text/plain"), Some("Application/JSON"), Some("multipart/form-data; application/json")] {
        assert_eq!(send("POST", "/api/v2/execute", kind, &good), wrong_type, "{kind:?}");
        assert_eq!(send("DELETE", "/api/v2/piston/packages/", kind, "{}"), wrong_type, "{kind:?}");
        assert_eq!(send("PUT", "/api/v2/nothing", kind, "{}"), wrong_type, "{kind:?}");
    }
    for kind in ["application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"] {
        assert_eq!(send("POST", "/api/v2/execute", Some(kind), &good).0, 200, "{kind}");
    }
    let required = (400, "language is required as a string".to_owned());
    let nothing = (404, "Not Found".to_owned());
    for body in ["", "[]", "[1, 2]", "{}"] {
        assert_eq!(send("POST", "/api/v2/execute", Some("application/json"), body), required, "{body}");
    }
    // What only begins like JSON's type has no fields.
    assert_eq!(send("POST", "/api/v2/execute", Some("application/json-patch+json"), &good), required);
    let deep = format!(r#"{{"files": {}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(send("POST", "/api/v2/execute", Some("application/json"), &deep), required);
    for body in ["{", "nul", "3", "{}{}", r#"{"language": "\ud800"}"#, &"[".repeat(100_000)] {
        let answer = service.request("POST", "/api/v2/execute", &[JSON], body);
        assert_eq!(answer.status, 400, "{body:.20}");
        assert!(answer.json()["stack"].as_str().unwrap().starts_with("SyntaxError: "), "{body:.20}");
    }
    for (method, path) in [
        ("GET", "/api/v2"),
        ("GET", "/api/v2/nothing"),
        ("GET", "/api/v2/execute"),
        ("POST", "/api/v2/runtimes"),
        ("GET", "/api/v2/piston/piston/runtimes"),
    ] {
        assert_eq!(send(method, path, Some("application/json"), "{}"), nothing, "{method} {path}");
    }
    let (status, told) = send("GET", "/api/v2/connect", None, "");
    assert_eq!(status, 426, "{told}");
}

#[test]
fn a_body_may_be_of_any_type_where_that_is_configured_and_too_large_nowhere() {
    let service =
        Service::start_with(json!({"piston": {"any_content_type": true}, "service": {"body_bytes": 100_000}}));
    let good = script("echo ok", json!({}));
    let answer = service.request("POST", "/api/v2/execute", &[("content-type", "text/plain")], &good.to_string());
    assert_eq!(answer.json()["run"]["stdout"], "ok\n");
    assert_eq!(service.request("POST", "/api/v2/execute", &[], &good.to_string()).status, 200);
    let large = script(&"#".repeat(100_000), json!({}));
    let (status, told) = refused(&service, &large);
    assert_eq!((status, told["message"].is_string()), (413, true), "{told}");
    let large = script(&"#".repeat(90_000), json!({}));
    assert_eq!(execute(&service, &large)["run"]["code"], 0);
}

#[test]
fn without_the_dialect_its_paths_are_not_there() {
    let service = Service::start_with(json!({"piston": {"enable": false}}));
    for (method, path) in [("GET", "/api/v2/runtimes"), ("POST", "/api/v2/execute"), ("GET", "/api/v2/connect")] {
        let answer = service.request(method, path, &[JSON], "{}");
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["type"], "urn:codesandbox:problem:not-found", "{path}");
    }
    assert_eq!(service.run_source("bash", "echo ok")["run"]["stdout"], "ok\n");
    // A configuration that is read anew decides anew.
    service.configure(json!({"piston": {"enable": true}}));
    service.reload_daemon();
    wait_for("the dialect", || service.request("GET", "/api/v2/runtimes", &[], "").status == 200);
}

#[test]
fn every_end_of_a_program_has_its_status_and_message() {
    let service = Service::start_with(json!({"piston": {"output_max_size": 2000}}));
    let ended = |body: Value| {
        let run = execute(&service, &body)["run"].clone();
        (run["status"].clone(), run["code"].clone(), run["signal"].clone(), run["message"].clone())
    };
    let killed = |status: &str, message: &str| (json!(status), Value::Null, json!("SIGKILL"), json!(message));
    for (source, more, expected) in [
        ("true", json!({}), (Value::Null, json!(0), Value::Null, Value::Null)),
        ("exit 3", json!({}), (json!("RE"), json!(3), Value::Null, json!("Exited with error status 3"))),
        ("kill -SEGV $$", json!({}), (json!("SG"), Value::Null, json!("SIGSEGV"), json!("Caught fatal signal 11"))),
        ("sleep 60", json!({"run_timeout": 300}), killed("TO", "Time limit exceeded (wall clock)")),
        ("while :; do :; done", json!({"run_cpu_time": 300}), killed("TO", "Time limit exceeded")),
        ("head -c 3000 /dev/zero; sleep 60", json!({}), killed("OL", "stdout length exceeded")),
        ("head -c 3000 /dev/zero >&2; sleep 60", json!({}), killed("EL", "stderr length exceeded")),
        ("head -c 3000 /dev/zero", json!({}), killed("OL", "stdout length exceeded")),
        ("head -c 2000 /dev/zero", json!({}), (Value::Null, json!(0), Value::Null, Value::Null)),
    ] {
        assert_eq!(ended(script(source, more)), expected, "{source}");
    }
    let hungry = json!({"language": "python", "version": "3.11", "run_memory_limit": 64 << 20,
        "files": [{"content": "a = []\nwhile True: a.append(bytearray(1 << 20))"}]});
    let (status, code, signal, words) = ended(hungry);
    assert!(
        status == "SG" && code.is_null() && signal == "SIGKILL" || status == "RE" && code == 1,
        "{status} {code} {signal}"
    );
    assert!(words.as_str().unwrap().contains("memory") || status == "RE", "{words}");
}

#[test]
fn a_compiler_that_fails_is_told_of_in_both_stages() {
    let service = Service::start();
    let c = |source: &str| json!({"language": "c", "version": "12.x", "files": [{"content": source}]});
    let good = execute(&service, &c("int main(void) { return 7; }"));
    assert_eq!((&good["compile"]["code"], &good["run"]["code"]), (&json!(0), &json!(7)), "{good}");
    let bad = execute(&service, &c("int main(void) { return x; }"));
    assert_eq!(bad["run"], bad["compile"], "{bad}");
    assert_eq!((&bad["run"]["code"], &bad["run"]["status"]), (&json!(1), &json!("RE")));
    assert!(bad["run"]["output"].as_str().unwrap().contains("main.c"), "{bad}");
    // The same compile stage again is not run again, and told as it was.
    assert_eq!(execute(&service, &c("int main(void) { return 7; }"))["compile"]["code"], 0);
    let slow = c("#include \"/dev/zero\"\nint main(void) { return 0; }");
    let mut slow = slow;
    slow["compile_timeout"] = json!(500);
    let told = execute(&service, &slow);
    assert!(["TO", "SG", "RE"].contains(&told["compile"]["status"].as_str().unwrap()), "{told}");
    assert_eq!(told["run"], told["compile"]);
}

#[test]
fn files_are_written_where_and_as_they_should_be() {
    let service = Service::start();
    let files = json!([
        {"name": "data.bin", "content": "00ff0a", "encoding": "hex"},
        {"name": "d/e/text", "content": "aGVsbG8=", "encoding": "base64"},
        {"name": "/abs/x/../y", "content": "abs"},
        {"name": "main", "content": "od -An -tx1 data.bin; cat d/e/text; cat abs/y; cat odd; ls"},
        {"name": "odd", "content": "ZZ", "encoding": "latin1"},
    ]);
    // What runs is the first that is a text.
    let mut request = json!({"language": "bash", "version": "*", "files": files});
    request["files"].as_array_mut().unwrap().swap(2, 3);
    let told = execute(&service, &request);
    assert_eq!(told["run"]["stdout"], " 00 ff 0a\nhelloabsZZabs\nd\ndata.bin\nmain\nodd\n", "{told}");
    for (file, text) in [
        (json!({"name": "../x", "content": ""}), "File path \"../x\" tries to escape parent directory: ../x"),
        (
            json!({"name": "a/../../../etc/passwd", "content": ""}),
            "File path \"a/../../../etc/passwd\" tries to escape parent directory: ../../etc/passwd",
        ),
        (json!({"name": "d/", "content": ""}), "File path \"d/\" is that of a directory"),
        (json!({"name": "main", "content": ""}), "File path \"main\" is that of two files"),
    ] {
        let request = json!({"language": "bash", "version": "*", "files": [{"name": "main", "content": "ls"}, file]});
        assert_eq!(refused(&service, &request), message(text));
    }
    for (encoding, content) in [("hex", "0g"), ("hex", "012"), ("base64", "!!!!")] {
        let files = json!([{"content": "ls"}, {"content": content, "encoding": encoding}]);
        let (status, told) = refused(&service, &json!({"language": "bash", "version": "*", "files": files}));
        assert_eq!(status, 400);
        let expected = format!("files[1].content is not {encoding}");
        assert!(told["message"].as_str().unwrap().starts_with(&expected), "{told}");
    }
    let many = vec![json!({"content": ""}); 1025];
    let (status, told) = refused(&service, &json!({"language": "bash", "version": "*", "files": many}));
    assert_eq!(status, 400);
    assert_eq!(told["message"], "files: 1025 files are too many, there may be 1024");
}

#[test]
fn a_source_without_a_name_has_the_one_that_its_compiler_wants() {
    let service = Service::start();
    let java = "class Other { } public class Main { public static void main(String[] a) { System.out.println(1 + a.length); } }";
    let told =
        execute(&service, &json!({"language": "java", "version": "17", "files": [{"content": java}], "args": ["x"]}));
    assert_eq!(told["run"]["stdout"], "2\n", "{told}");
    let main = "int f(void); int main(void) { return f(); }";
    for files in [
        json!([{"content": main}, {"content": "int f(void) { return 5; }"}]),
        json!([{"content": main, "name": "code"}, {"content": "int f(void) { return 5; }", "name": "f.c"}]),
        json!([{"content": "AAAA", "encoding": "base64", "name": "data.c"}, {"content": "int main(void) { return 5; }"}]),
    ] {
        let told = execute(&service, &json!({"language": "gcc", "version": "12", "files": files}));
        assert_eq!(told["run"]["code"], 5, "{told}");
    }
}

#[test]
fn packages_are_declared_elsewhere() {
    let ask = |service: &Service, method: &str, body: Value| {
        let answer = service.request(method, "/api/v2/packages", &[JSON], &body.to_string());
        (answer.status, answer.json())
    };
    let python = json!({"language": "python", "version": "3.11.x"});
    let service = Service::start();
    assert_eq!(ask(&service, "POST", python.clone()), (500, json!({"message": "Already installed"})));
    let (status, told) = ask(&service, "DELETE", python.clone());
    assert_eq!(status, 500);
    assert!(told["message"].as_str().unwrap().starts_with("python-3.11."), "{told}");
    for (body, named) in [
        (json!({"language": "cobol", "version": "3.1.2"}), "cobol-3.1.2"),
        (json!({"language": "python", "version": "99"}), "python-99"),
        (json!({"language": "py", "version": "3.11"}), "py-3.11"),
        (json!({}), "undefined-undefined"),
    ] {
        for method in ["POST", "DELETE"] {
            let (status, told) = ask(&service, method, body.clone());
            assert_eq!((status, &told["message"]), (404, &json!(format!("Requested package {named} does not exist"))));
        }
    }
    drop(service);
    let service = Service::start_with(json!({"piston": {"packages": "confirm"}}));
    let (status, told) = ask(&service, "POST", python.clone());
    assert_eq!((status, &told["language"]), (200, &json!("python")), "{told}");
    assert!(told["version"].as_str().unwrap().starts_with("3.11."), "{told}");
    assert_eq!(ask(&service, "DELETE", python).0, 500);
}

#[test]
fn limits_are_configuration() {
    let service = Service::start_with(json!({
        "piston": {"run_timeout": 500, "limit_overrides": {"python": {"run_timeout": 400, "max_open_files": 9}}},
    }));
    let sleeps = script("sleep 60", json!({}));
    assert_eq!(execute(&service, &sleeps)["run"]["status"], "TO");
    let told = refused(&service, &script("true", json!({"run_timeout": 501})));
    assert_eq!(told, message("run_timeout cannot exceed the configured limit of 500"));
    let python = json!({"language": "python", "version": "3.11",
        "files": [{"content": "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"}]});
    assert_eq!(execute(&service, &python)["run"]["stdout"], "9\n");
    let mut longer = python;
    longer["run_timeout"] = json!(401);
    assert_eq!(refused(&service, &longer), message("run_timeout cannot exceed the configured limit of 400"));
}

#[test]
fn a_full_queue_is_told_in_the_shape_of_piston() {
    let service = Service::start_with(json!({"service": {"concurrency": 1, "queue_length": 1}}));
    let mut running = connect::Client::open(&service);
    running.says(&connect::init("bash", "echo begun; sleep 100"));
    running.wait_for("the program", |client| client.stdout.contains("begun"));
    let mut waiting = connect::Client::open(&service);
    waiting.says(&connect::init("bash", "true"));
    wait_for("the queue to be full", || service.request("GET", "/health", &[], "").json()["queued"] == 1);
    let answer = post(&service, "execute", &script("true", json!({})));
    assert_eq!(answer.status, 429);
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert!(answer.json()["message"].as_str().unwrap().contains("service.queue_length"), "{answer:?}");
    drop(running);
    waiting.wait_for_close(4999);
    assert_eq!(execute(&service, &script("echo ok", json!({})))["run"]["stdout"], "ok\n");
}

#[test]
fn hanging_up_ends_the_program() {
    use std::io::Write;
    let service = Service::start();
    let mut stream = std::os::unix::net::UnixStream::connect(service.socket()).unwrap();
    let body = script("sleep 100", json!({})).to_string();
    write!(
        stream,
        "POST /api/v2/execute HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    wait_for("the program", || service.request("GET", "/health", &[], "").json()["running"] == 1);
    drop(stream);
    wait_for("the program's end", || service.request("GET", "/health", &[], "").json()["running"] == 0);
}
