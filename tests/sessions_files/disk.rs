//! A session's disk has limits, which everybody is told of and nobody is stuck at.

use serde_json::{Value, json};

use super::{Session, assert_problem, text};
use crate::common::Service;

const MIB: u64 = 1 << 20;

fn disk(session: &Session<'_>) -> Value {
    session.done("GET", "", &Value::Null)["disk"].take()
}

#[test]
fn a_disk_without_bytes_is_told_and_is_of_use_again_once_something_goes() {
    let service = Service::start();
    let session = Session::with(&service, json!({"limits": {"disk_bytes": 16 * MIB}}));
    assert_eq!(disk(&session)["limit_bytes"], 16 * MIB);
    let full = "import errno\n\
        with open('fill', 'wb', buffering=0) as file:\n\
        \x20   try:\n\
        \x20       while True: file.write(bytes(1 << 16))\n\
        \x20   except OSError as error: print(errno.errorcode[error.errno])\n";
    assert_eq!(session.python(full), "ENOSPC\n");
    let used = disk(&session)["used_bytes"].as_u64().unwrap();
    assert!((15 * MIB..=16 * MIB).contains(&used), "{used}");
    assert_problem(&session.write("more", vec![1; 1 << 20]), 507, "disk-full");
    assert_problem(&session.call("PUT", "/fs/file?path=more2&append=true", &vec![1; 1 << 20]), 507, "disk-full");
    assert_problem(&session.post("/fs/copy", &json!({"from": "fill", "to": "copy"})), 507, "disk-full");
    // What takes no room goes on: reading, listing, and programs.
    assert_eq!(session.shell("echo still here"), "still here\n");
    assert!(session.names("").contains(&"fill".to_owned()));
    assert_eq!(session.get("/fs/stat?path=fill").status, 200);
    // A snapshot of a disk that is full fails with the same, or needs no room; it never breaks the session.
    let running = session.start(&json!({"argv": ["sleep", "1000"]}));
    let snapshot = session.post("/snapshots", &json!({}));
    assert_problem(&snapshot, 507, "disk-full");
    assert_eq!(session.exec_view(running)["state"], "running", "{}", text(&snapshot));
    assert_eq!(session.call("DELETE", &format!("/execs/{running}"), b"").status, 204);
    assert_eq!(session.call("DELETE", "/fs/file?path=fill", b"").status, 204);
    session.put("more", vec![1; 8 << 20]);
    assert_eq!(session.shell("head -c 4M /dev/zero > again && wc -c < again"), "4194304\n");
}

#[test]
fn a_disk_without_inodes_is_told_and_is_of_use_again_once_something_goes() {
    let service = Service::start();
    let session = Session::with(&service, json!({"limits": {"disk_files": 300}}));
    let full = "import errno, os\n\
        os.mkdir('many')\n\
        try:\n\
        \x20   for number in range(1000): open(f'many/{number}', 'w').close()\n\
        except OSError as error: print(errno.errorcode[error.errno])\n";
    assert_eq!(session.python(full), "ENOSPC\n");
    assert!(disk(&session)["used_files"].as_u64().unwrap() >= 250, "{}", disk(&session));
    assert_problem(&session.write("more", "x"), 507, "disk-full");
    assert_problem(&session.post("/fs/mkdir", &json!({"path": "directory"})), 507, "disk-full");
    assert_eq!(session.shell("ls many | wc -l > /dev/null; echo still here"), "still here\n");
    let gone = session.call("DELETE", "/fs/file?path=many&recursive=true", b"");
    assert_eq!(gone.status, 204, "{}", text(&gone));
    session.put("more", "x");
    session.done("POST", "/fs/mkdir", &json!({"path": "directory"}));
    assert_eq!(session.names(""), ["directory", "more"]);
}

#[test]
#[ignore = "known fault: what only a removed snapshot needed stays in a layer below the present files until layers are merged"]
fn what_snapshots_hold_counts_and_is_given_back_with_them() {
    let service = Service::start();
    let session = Session::with(&service, json!({"limits": {"disk_bytes": 16 * MIB}}));
    session.put("f", vec![1; 10 << 20]);
    // At rest it takes no room; while a worker ends it would be a copy.
    let snapshot = {
        let (mut made, mut attempts) = (Value::Null, 0);
        while made.is_null() {
            attempts += 1;
            assert!(attempts < 100, "it is never at rest");
            let answer = session.post("/snapshots", &json!({}));
            match answer.status {
                201 => made = answer.json(),
                _ => assert_problem(&answer, 507, "disk-full"),
            }
        }
        made["id"].as_u64().unwrap()
    };
    assert_eq!(session.call("DELETE", "/fs/file?path=f", b"").status, 204);
    assert_problem(&session.write("g", vec![1; 10 << 20]), 507, "disk-full");
    session.done("DELETE", &format!("/snapshots/{snapshot}"), &Value::Null);
    crate::common::wait_for("the room of the snapshot", || session.write("g", vec![1; 10 << 20]).status == 204);
}

#[test]
fn a_workspace_that_keeps_its_owner_out_is_told_and_can_be_opened_again() {
    let service = Service::start();
    let session = Session::with(&service, json!({"persistent": true}));
    session.put("f", "kept");
    session.shell("chmod 0 /workspace");
    assert_problem(&session.read("f"), 409, "wrong-file");
    session.done("POST", "/stop", &Value::Null);
    // The directory itself is made anew.
    assert_eq!(session.content("f"), b"kept");
}
