//! What an agent reaches. The internet is a network namespace of the test's own, with servers at addresses that
//! would be public elsewhere, and a name server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;

use crate::common::internet::{self, serve};
use crate::ground::{Ground, err, out};

const LISTED: &str = "198.35.26.96";
const OTHER: &str = "198.35.26.97";
const PORT: u16 = 80;

/// Leads the test to both servers and a name server; `false` where that is not allowed here.
fn internet() -> bool {
    internet::lead_to(&[LISTED, OTHER], || {
        [LISTED, OTHER].into_iter().for_each(|address| serve(SocketAddr::new(address.parse().unwrap(), PORT)));
        name_server();
    })
}

/// Answers each question for an address of IPv4 with the listed one, and any other with nothing.
fn name_server() {
    let socket = UdpSocket::bind((OTHER, 53)).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let end = 12 + query[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_address = query[end - 4..end - 2] == [0, 1];
            let mut answer = query[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
            if is_address {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 35, 26, 96]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
}

/// Grounds with a configuration that names the name server.
fn each() -> Vec<Ground> {
    if !internet() {
        return Vec::new();
    }
    let all = Ground::each();
    for ground in &all {
        ground.write("config.json", &format!("{{\"network\": {{\"name_servers\": [\"{OTHER}\"]}}}}"));
    }
    all
}

/// An option with the path of a file of the ground.
fn file(ground: &Ground, option: &str, name: &str) -> [String; 2] {
    [option.to_owned(), ground.path(name).display().to_string()]
}

fn options(ground: &Ground, more: &[&str]) -> Vec<String> {
    let config = file(ground, "--config", "config.json");
    config.into_iter().chain(more.iter().map(|option| (*option).to_owned())).collect()
}

fn words(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

fn connects(host: &str) -> String {
    format!("exec 3<>/dev/tcp/{host}/{PORT} && read -r line <&3 && echo $line")
}

#[test]
fn what_is_listed_is_reached_and_nothing_else() {
    for ground in each() {
        let listed = format!("{LISTED}:{PORT}");
        let options = options(&ground, &["--allow", &listed]);
        assert_eq!(ground.told(&words(&options), &connects(LISTED)), format!("{LISTED}\n"));
        let output = ground.run(&words(&options), &connects(OTHER));
        assert!(!output.status.success() && out(&output).is_empty(), "{output:?}");
        let told = err(&output);
        let expected = format!("--allow {OTHER}/32:{PORT}");
        assert!(told.contains("refused by the network") && told.contains(&expected), "{told}");
        // The flag that it names is the one that does it.
        let more = [words(&options), vec!["--allow", &expected["--allow ".len()..]]].concat();
        assert_eq!(ground.told(&more, &connects(OTHER)), format!("{OTHER}\n"));
    }
}

#[test]
fn names_are_reached_by_name_and_refused_by_name() {
    for ground in each() {
        let options = options(&ground, &["--allow", "packages.example.org"]);
        assert_eq!(ground.told(&words(&options), &connects("packages.example.org")), format!("{LISTED}\n"));
        let output = ground.run(&words(&options), &connects("files.example.org"));
        assert!(!output.status.success(), "{output:?}");
        assert!(err(&output).contains("--allow files.example.org"), "{output:?}");
        // Without anything allowed nothing is reached, and what was tried is told.
        let output = ground.run(&[], &connects("packages.example.org"));
        assert!(!output.status.success(), "{output:?}");
        assert!(err(&output).contains("--allow packages.example.org"), "{output:?}");
    }
}

#[test]
fn the_proxy_is_named_where_that_is_wanted_and_holds_the_same_list() {
    for ground in each() {
        let line = format!(
            "echo $HTTPS_PROXY $https_proxy $NO_PROXY; exec 3<>/dev/tcp/127.0.0.1/2; \
             printf 'CONNECT %s:{PORT} HTTP/1.1\\r\\n\\r\\n' packages.example.org >&3; read -r a b c <&3; echo $b"
        );
        let options = options(&ground, &["--allow", "packages.example.org", "--proxy"]);
        let told = ground.told(&words(&options), &line);
        let proxy = "http://127.0.0.1:2";
        assert_eq!(told, format!("{proxy} {proxy} localhost,127.0.0.1,::1\n200\n"));
        let other = line.replace("packages.example.org", "files.example.org");
        assert!(ground.told(&words(&options), &other).ends_with("403\n"));
    }
}

/// An agent that tries for as long as it takes, and says so for each line that it is told.
fn trying(ground: &Ground, rules: &str) -> std::process::Child {
    let [option, path] = file(ground, "--allow-file", rules);
    let options = options(ground, &[&option, &path]);
    let line = format!(
        "while read -r word; do if (exec 3<>/dev/tcp/packages.example.org/{PORT}) 2>/dev/null; \
         then echo reached; else echo refused; fi; done"
    );
    let mut command = ground.agent(&words(&options), &line);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn tries(child: &mut std::process::Child, output: &mut impl BufRead) -> String {
    child.stdin.as_mut().unwrap().write_all(b"try\n").unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn next(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line
}

#[test]
fn a_changed_allow_file_is_in_force_at_once_and_a_broken_one_changes_nothing() {
    for ground in each() {
        ground.write("rules.toml", "allow = []\n");
        let mut child = trying(&ground, "rules.toml");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut told = BufReader::new(child.stderr.take().unwrap());
        assert_eq!(tries(&mut child, &mut output), "refused");
        let path = ground.path("rules.toml").display().to_string();
        let added =
            ground.command(&["agent", "allow", "packages.example.org", "--allow-file", &path]).output().unwrap();
        assert!(added.status.success(), "{added:?}");
        assert!(next(&mut told).contains("in force, 1 destinations"));
        assert_eq!(tries(&mut child, &mut output), "reached");
        ground.write("rules.toml", "allow = [\n");
        let line = next(&mut told);
        assert!(line.contains("rules.toml"), "{line}");
        assert_eq!(tries(&mut child, &mut output), "reached");
        // Another file in its place counts as well, and what it does not name is not reached any more.
        ground.write("new.toml", "allow = [{ domain = \"files.example.org\" }]\n");
        fs::rename(ground.path("new.toml"), ground.path("rules.toml")).unwrap();
        while !next(&mut told).contains("in force, 1 destinations") {}
        assert_eq!(tries(&mut child, &mut output), "refused");
        drop(child.stdin.take());
        let mut rest = String::new();
        told.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("{ domain = \"packages.example.org\" }"), "{rest}");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn an_allow_file_where_the_program_writes_can_be_changed_by_nobody_inside() {
    for ground in each() {
        ground.write("home/project/rules.toml", "allow = []\n");
        let evil = "allow = [{ domain = \\\"packages.example.org\\\" }]";
        let options = options(&ground, &["--allow-file", "rules.toml"]);
        for line in [
            format!("echo \"{evil}\" > rules.toml"),
            format!("echo \"{evil}\" > x && mv -f x rules.toml"),
            "rm -f rules.toml".to_owned(),
            "mv rules.toml other".to_owned(),
            "ln rules.toml other && echo x >> other".to_owned(),
        ] {
            let output = ground.run(&words(&options), &line);
            assert!(!output.status.success(), "{line}: {output:?}");
        }
        assert_eq!(fs::read_to_string(ground.path("home/project/rules.toml")).unwrap(), "allow = []\n");
        // Whoever is outside changes it in place, and that counts.
        let mut child = trying(&ground, "home/project/rules.toml");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut told = BufReader::new(child.stderr.take().unwrap());
        assert_eq!(tries(&mut child, &mut output), "refused");
        let path = ground.path("home/project/rules.toml").display().to_string();
        let add = |host: &str| {
            let added = ground.command(&["agent", "allow", host, "--allow-file", &path]).output().unwrap();
            assert!(added.status.success(), "{added:?}");
        };
        add("packages.example.org");
        assert!(next(&mut told).contains("in force, 1 destinations"));
        assert_eq!(tries(&mut child, &mut output), "reached");
        // Another in its place could be one that the program has put there.
        ground.write("home/project/new", "allow = [{ suffix = \".example.org\" }]\n");
        fs::rename(ground.path("home/project/new"), ground.path("home/project/rules.toml")).unwrap();
        assert!(next(&mut told).contains("is another file now"));
        assert_eq!(tries(&mut child, &mut output), "reached");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        // Nor is a link taken that the program could replace.
        std::os::unix::fs::symlink("../rules.toml", ground.path("home/project/link.toml")).unwrap();
        ground.write("home/rules.toml", "allow = []\n");
        let output = ground.run(&["--allow-file", "link.toml"], "true");
        assert_eq!(output.status.code(), Some(125), "{output:?}");
    }
}

#[test]
fn an_allow_file_that_can_not_be_used_is_told_before_anything_runs() {
    let ground = Ground::new();
    for (text, part) in [
        ("allow = [", "rules.toml"),
        ("allow = [{ domain = \"*.example.org\" }]", "wildcard"),
        ("allow = [{ cidr = \"10.0.0.0/8\" }]", "private"),
        ("other = 1", "rules.toml"),
    ] {
        ground.write("rules.toml", text);
        let [option, path] = file(&ground, "--allow-file", "rules.toml");
        let output = ground.run(&[&option, &path], "touch ran");
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(err(&output).contains(part), "{output:?}");
    }
    let output = ground.run(&["--allow-file", "missing.toml"], "touch ran");
    assert!(err(&output).contains("codesandbox agent allow"), "{output:?}");
    assert!(!ground.path("home/project/ran").exists());
}

#[test]
fn hosts_are_added_to_a_file_and_what_is_there_is_kept() {
    for ground in Ground::each() {
        let path = ground.path("home/rules.toml").display().to_string();
        let allow = |hosts: &[&str]| {
            let all = [&["agent", "allow"][..], hosts, &["--allow-file", &path]].concat();
            ground.command(&all).output().unwrap()
        };
        assert!(allow(&["packages.example.org"]).status.success());
        let text = fs::read_to_string(&path).unwrap();
        ground.write("home/rules.toml", &format!("# why\n{text}bytes = 5000 # few\n"));
        let output = allow(&[".example.net:443", "packages.example.org", "203.0.113.0/24:22"]);
        // Documentation networks lead nowhere, and a file that can't be used is not written.
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(allow(&[".example.net:443", "packages.example.org", "198.35.26.0/24:22"]).status.success());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "# why\nallow = [\n  { domain = \"packages.example.org\" },\n  { suffix = \".example.net\", ports = [443] },\n  \
             { cidr = \"198.35.26.0/24\", ports = [22] },\n]\nbytes = 5000 # few\n"
        );
        assert!(ground.owns("home/rules.toml"));
    }
}
