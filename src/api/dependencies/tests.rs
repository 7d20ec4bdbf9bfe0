//! What may be asked for, and what may not.

use super::*;

fn python(listed: &[&str]) -> Result<String, Wrong> {
    let listed = listed.iter().map(|text| (*text).to_owned()).collect();
    python::written(PythonDependencies::Listed(listed)).map(|written| written.files[0].1.clone())
}

fn npm(listed: &[&str]) -> Result<String, Wrong> {
    let listed = listed.iter().map(|text| (*text).to_owned()).collect();
    npm::written(NpmDependencies::Listed(listed), "").map(|written| written.files[0].1.clone())
}

#[test]
fn requirements_are_put_together_again() {
    for (asked, written) in [
        ("requests", "requests"),
        ("Requests == 2.*", "requests==2.*"),
        ("zope.interface (>=5, <7)", "zope-interface>=5,<7"),
        ("a__b", "a-b"),
        ("requests[Socks, security]>=2,!=2.5", "requests[socks,security]>=2,!=2.5"),
        ("torch===1.0+cpu", "torch===1.0+cpu"),
        (
            "a~=1.0 ; python_version < '3.9' and (sys_platform == \"linux\")",
            "a~=1.0 ; python_version < '3.9' and (sys_platform == \"linux\")",
        ),
    ] {
        assert_eq!(python(&[asked]), Ok(format!("{written}\n")), "{asked}");
    }
    assert_eq!(python(&["b", "A", "b"]).unwrap(), "a\nb\n");
}

#[test]
fn whatever_else_an_installer_takes_is_refused() {
    for asked in [
        "",
        "-r /etc/passwd",
        "-e .",
        "--index-url=http://packages.example.org",
        "a --index-url http://packages.example.org",
        "a --hash=sha256:00",
        "a ; --pre",
        "a ; 'x' --pre",
        "a @ http://packages.example.org/a.whl",
        "a@file:///etc/passwd",
        "http://packages.example.org/a.whl",
        "git+https://packages.example.org/a",
        "./a",
        "../a",
        "/tmp/a",
        "a.whl/",
        "a\nb",
        "a\r-r b",
        "a\\",
        "a # b",
        "a==${HOME}",
        "$(id)",
        "a==1 b",
        "a==1,",
        "a=1",
        "a[",
        "a[b]]",
        "ä",
        "a==1\0",
        &"a".repeat(300),
    ] {
        assert_eq!(python(&[asked]).unwrap_err().0, "[0]", "{asked:?}");
    }
    assert_eq!(python(&["a"; 65]).unwrap_err().0, "");
}

#[test]
fn packages_are_names_with_ranges() {
    for (asked, name, range) in [
        ("lodash", "lodash", "latest"),
        ("lodash@4", "lodash", "4"),
        ("@types/node@^20.1.0-beta.2", "@types/node", "^20.1.0-beta.2"),
        ("@types/node", "@types/node", "latest"),
        ("a@>=1.2 <2 || 3.x", "a", ">=1.2 <2 || 3.x"),
        ("a@1.2 - 2", "a", "1.2 - 2"),
        ("a@next", "a", "next"),
        ("a@*", "a", "*"),
    ] {
        let written = npm(&[asked]).unwrap();
        let package: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(package["dependencies"], serde_json::json!({ name: range }), "{asked}");
    }
    assert_eq!(npm(&["a@1", "b"]), npm(&["b", "a@1", "a@1"]));
    assert_eq!(npm(&["a@1", "a@2"]).unwrap_err().0, "[1]");
}

#[test]
fn whatever_else_npm_takes_is_refused() {
    for asked in [
        "",
        "@",
        "-g",
        "--registry=http://registry.example.org",
        "a@--x",
        "a@npm:b@1",
        "a@file:/etc",
        "a@file:..",
        "a@../b",
        "a@./b",
        "a@/b",
        "a@~/b",
        "a@b/c",
        "b/c",
        "a@github:b/c",
        "a@git+ssh://registry.example.org/b",
        "a@http://registry.example.org/b.tgz",
        "a@b.tgz",
        "a@workspace:*",
        "a@link:b",
        "a@1 ; id",
        "a@$(id)",
        "a@1\n",
        "a b",
        "../a",
        ".a",
        "node_modules",
        "a@",
        &"a".repeat(300),
    ] {
        if asked != "a@1\n" {
            assert_eq!(npm(&[asked]).unwrap_err().0, "[0]", "{asked:?}");
        }
    }
    assert_eq!(npm(&["a"; 65]).unwrap_err().0, "");
}

const HASH: &str = "--hash=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn python_lock(lock: &str) -> Result<Written, Wrong> {
    python::written(PythonDependencies::Locked(PythonLock { lock: lock.to_owned() }))
}

#[test]
fn a_lock_file_of_python_is_versions_and_hashes() {
    let lock = format!(
        "# made by uv\nB==2 \\\n    {HASH} \\\n    {HASH}\n    # via a\na==1.0 ; python_version > '3' {HASH}\r\n\n"
    );
    let written = python_lock(&lock).unwrap();
    assert!(!written.floats);
    assert_eq!(written.files[0].1, format!("a==1.0 ; python_version > '3' {HASH}\nb==2 {HASH}\n"));
    for (bad, line) in [
        ("a==1\n".to_owned(), "line 1: "),
        (format!("a>=1 {HASH}\n"), "line 1: "),
        (format!("a==1.* {HASH}\n"), "line 1: "),
        (format!("a {HASH}\n"), "line 1: "),
        (format!("\n--index-url http://packages.example.org\na==1 {HASH}\n"), "line 2: "),
        (format!("a==1 {HASH} --pre\n"), "line 1: "),
        (format!("a==1 \\\n --index-url=x \\\n {HASH}\n"), "line 1: "),
        (format!("a @ http://packages.example.org/a.whl {HASH}\n"), "line 1: "),
        (format!("-e . {HASH}\n"), "line 1: "),
        (format!("a==1 {HASH}\nhttp://packages.example.org/a.whl {HASH}"), "line 2: "),
        ("a==1 --hash=md5:00".to_owned(), "line 1: "),
        ("# nothing".to_owned(), "there is no"),
        (String::new(), "there is no"),
    ] {
        let (place, why) = python_lock(&bad).unwrap_err();
        assert!(place == ".lock" && why.starts_with(line), "{bad:?}: {why}");
    }
}

fn npm_lock(package: &serde_json::Value, lock: &serde_json::Value) -> Result<Written, Wrong> {
    let locked = NpmLock { package: package.to_string(), lock: lock.to_string() };
    npm::written(NpmDependencies::Locked(locked), "https://registry.example.org/npm")
}

#[test]
fn a_lock_file_of_npm_is_versions_and_hashes_of_the_registry() {
    let package = || serde_json::json!({"name": "x", "scripts": {"postinstall": "id"}, "dependencies": {"a": "^1"}});
    let entry = |changes: serde_json::Value| {
        let mut entry = serde_json::json!({
            "version": "1.0.0", "resolved": "https://registry.example.org/npm/a/-/a-1.0.0.tgz", "integrity": "sha512-AAAA=="
        });
        for (key, value) in changes.as_object().unwrap() {
            entry[key] = value.clone();
        }
        entry
    };
    let lock = |place: &str, entry: serde_json::Value| serde_json::json!({"lockfileVersion": 3, "packages": {"": {"dependencies": {"a": "^1"}}, place: entry}});
    let none = || serde_json::json!({});
    let written = npm_lock(&package(), &lock("node_modules/a/node_modules/@b/c", entry(none()))).unwrap();
    assert!(!written.floats && !written.files[0].1.contains("postinstall"), "{written:?}");
    let unresolved = serde_json::json!({"version": "1.0.0", "integrity": "sha512-AAAA=="});
    npm_lock(&package(), &lock("node_modules/a", unresolved)).unwrap();
    for bad in [
        serde_json::json!({"resolved": "https://registry.example.com/a.tgz"}),
        serde_json::json!({"resolved": "https://registry.example.org/npm.evil/a.tgz"}),
        serde_json::json!({"resolved": "https://registry.example.org/npm/../a.tgz"}),
        serde_json::json!({"resolved": "https://registry.example.org/npm/a.tgz?x"}),
        serde_json::json!({"resolved": "git+ssh://registry.example.org/npm/a"}),
        serde_json::json!({"resolved": "file:../a"}),
        serde_json::json!({"resolved": 1}),
        serde_json::json!({"link": true}),
        serde_json::json!({"version": "file:a"}),
        serde_json::json!({"integrity": "md5-AAAA"}),
        serde_json::json!({"name": "../a"}),
    ] {
        let refused = npm_lock(&package(), &lock("node_modules/a", entry(bad.clone()))).unwrap_err();
        assert_eq!(refused.0, ".lock", "{bad}");
    }
    let no_hash = serde_json::json!({"version": "1.0.0"});
    assert_eq!(npm_lock(&package(), &lock("node_modules/a", no_hash)).unwrap_err().0, ".lock");
    for place in ["a", "../a", "node_modules/../a", "node_modules/a/../b", "packages/a"] {
        assert_eq!(npm_lock(&package(), &lock(place, entry(none()))).unwrap_err().0, ".lock", "{place}");
    }
    for bad in [
        serde_json::json!({"dependencies": {"a": "file:.."}}),
        serde_json::json!({"devDependencies": {"a": "npm:b@1"}}),
        serde_json::json!({"dependencies": {"../a": "1"}}),
        serde_json::json!({"workspaces": ["a"]}),
        serde_json::json!({"overrides": {}}),
        serde_json::json!([]),
    ] {
        assert_eq!(npm_lock(&bad, &lock("node_modules/a", entry(none()))).unwrap_err().0, ".package", "{bad}");
    }
    let old = serde_json::json!({"lockfileVersion": 1, "dependencies": {}});
    assert_eq!(npm_lock(&package(), &old).unwrap_err().0, ".lock");
}

#[test]
fn programs_find_packages_behind_what_they_were_told() {
    let mut env = BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]);
    add_to_environment(&mut env, Ecosystem::Python);
    assert_eq!((&*env["PATH"], &*env["PYTHONPATH"]), ("/bin:/dependencies/python/bin", "/dependencies/python"));
    add_to_environment(&mut env, Ecosystem::Npm);
    assert_eq!(env["PATH"], "/bin:/dependencies/python/bin:/node_modules/.bin");
}

proptest::proptest! {
    #[test]
    fn what_is_written_is_one_plain_line(asked in ".{0,80}") {
        if let Ok(text) = python(&[&asked]) {
            let line = text.strip_suffix('\n').unwrap();
            proptest::prop_assert!(!line.contains(['\n', '\r', '@', '/', ':', '\\', '$', '#']) && !line.contains("--"));
            proptest::prop_assert!(!line.starts_with(['-', '.', ' ']));
        }
    }
}
