//! An agent on a terminal: its size, its keys, and the question at the end.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use codesandbox::sys::terminal::{Window, set_window};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::wait_for;
use crate::ground::Ground;

/// A terminal in which a command runs.
struct Screen {
    keys: File,
    seen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Screen {
    fn start(mut command: Command) -> Self {
        let pair = nix::pty::openpty(None, None).unwrap();
        set_window(pair.master.as_fd(), Window { rows: 30, columns: 90 }).unwrap();
        let copy = || pair.slave.try_clone().unwrap();
        command.stdin(copy()).stdout(copy()).stderr(copy()).env("TERM", "dumb");
        // A group of its own, as a shell would give it.
        command.process_group(0);
        let child = command.spawn().unwrap();
        drop(pair.slave);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut from = File::from(pair.master.try_clone().unwrap());
        let into = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { keys: File::from(pair.master), seen, child }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, part: &str) {
        wait_for(part, || self.text().contains(part));
    }

    fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }

    fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap().code();
        (status, self.text())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

#[test]
fn the_window_is_ours_and_stays_so() {
    for ground in Ground::each() {
        let line = "stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.01; done";
        let screen = Screen::start(ground.agent(&[], line));
        screen.wait_for("ready");
        assert!(screen.text().contains("30 90"), "{}", screen.text());
        set_window(screen.keys.as_fd(), Window { rows: 40, columns: 120 }).unwrap();
        // As the kernel would do for whoever has this as the controlling terminal.
        screen.signal(Signal::SIGWINCH);
        screen.wait_for("40 120");
        assert_eq!(screen.end().0, Some(4));
    }
}

#[test]
fn keys_are_the_programs() {
    let ground = Ground::new();
    let mut screen = Screen::start(ground.agent(&[], "trap 'echo interrupted' INT; echo ready; cat; echo end; exit 5"));
    screen.wait_for("ready");
    screen.press(b"hello\n");
    screen.wait_for("hello\r\nhello");
    screen.press(b"\x03");
    screen.wait_for("interrupted");
    assert_eq!(screen.end().0, Some(5));
    let mut screen = Screen::start(ground.agent(&[], "echo ready; cat; echo end; exit 6"));
    screen.wait_for("ready");
    screen.press(b"\x04");
    screen.wait_for("end");
    assert_eq!(screen.end().0, Some(6));
}

#[test]
fn jobs_are_controlled_as_on_any_terminal() {
    let ground = Ground::new();
    let mut screen = Screen::start({
        let mut command = ground.command(&["agent", "--", "bash", "--norc", "-i"]);
        command.env("PS1", "$ ");
        command
    });
    screen.press(b"echo re''ady\n");
    screen.wait_for("ready");
    assert!(!screen.text().contains("no job control"), "{}", screen.text());
    screen.press(b"sh -c 'echo be''gun; cat; echo o''ver'\n");
    screen.wait_for("begun");
    screen.press(b"typed\n");
    screen.wait_for("typed\r\ntyped");
    screen.press(b"\x1a");
    // The shell names a job when it is stopped and when it goes on, and echoed it when it was typed.
    let named = |screen: &Screen| screen.text().matches("sh -c 'echo be").count();
    wait_for("it to be stopped, and the prompt", || named(&screen) == 2 && screen.text().ends_with("$ "));
    screen.press(b"fg\n");
    wait_for("it to go on", || named(&screen) == 3);
    screen.press(b"more\n");
    screen.wait_for("more\r\nmore");
    screen.press(b"\x04");
    screen.wait_for("over");
    screen.press(b"exit 3\n");
    assert_eq!(screen.end().0, Some(3));
}

#[test]
fn a_terminal_that_is_gone_ends_the_program() {
    let ground = Ground::new();
    let screen = Screen::start(ground.agent(&[], "echo ready; sleep 1000"));
    screen.wait_for("ready");
    screen.signal(Signal::SIGHUP);
    assert_eq!(screen.end().0, Some(129));
}

#[test]
fn the_terminal_is_afterwards_as_it_was() {
    let ground = Ground::new();
    let screen = Screen::start(ground.agent(&[], "echo ready; sleep 0.1"));
    let keys = screen.keys.try_clone().unwrap();
    let flags = || nix::sys::termios::tcgetattr(&keys).unwrap().local_flags;
    screen.wait_for("ready");
    assert!(!flags().contains(nix::sys::termios::LocalFlags::ICANON));
    assert_eq!(screen.end().0, Some(0));
    assert!(flags().contains(nix::sys::termios::LocalFlags::ICANON | nix::sys::termios::LocalFlags::ECHO));
}

#[test]
fn a_program_can_not_type_for_its_user() {
    let ground = Ground::new();
    let line = "python3 -c 'import fcntl; fcntl.ioctl(0, 0x5412, b\"x\")' 2>&1 | tail -1; \
                python3 -c 'import os; print(os.ttyname(0))'";
    let screen = Screen::start(ground.agent(&[], line));
    let (_, text) = screen.end();
    assert!(text.contains("not permitted"), "{text}");
    // Its terminal is one of the sandbox's own.
    assert!(text.contains("/dev/pts/0"), "{text}");
}

#[cfg(feature = "nftables")]
#[test]
fn what_was_refused_is_added_to_the_file_where_the_user_says_so() {
    let ground = Ground::new();
    ground.write("rules.toml", "# mine\nallow = []\n");
    let rules = ground.path("rules.toml");
    let options = ["--allow-file", rules.to_str().unwrap()];
    let line = "getent hosts files.example.org; echo over";
    for (answer, expected) in [(&b"\n"[..], false), (b"n\n", false), (b"y\n", true)] {
        let mut screen = Screen::start(ground.agent(&options, line));
        screen.wait_for("[y/N]");
        screen.press(answer);
        let (status, text) = screen.end();
        assert_eq!(status, Some(0), "{text}");
        assert!(text.contains("--allow files.example.org"), "{text}");
        let after = fs::read_to_string(&rules).unwrap();
        assert!(after.starts_with("# mine\n"), "{after}");
        assert_eq!(after.contains("{ domain = \"files.example.org\" },"), expected, "{after}");
    }
}

#[test]
fn the_terminal_of_the_caller_is_not_in_the_sandbox() {
    let ground = Ground::new();
    let screen = Screen::start(ground.agent(&[], "ls -l /proc/self/fd | grep -c pts; ls /dev/pts; tty"));
    assert!(screen.keys.as_raw_fd() > 2);
    let (status, text) = screen.end();
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("/dev/pts/0"), "{text}");
}
