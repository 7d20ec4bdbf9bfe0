//! What of the host's files is there, and what may be changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use crate::common::skip;
use crate::ground::{Ground, err, out};

#[test]
fn files_are_written_in_place_and_are_the_callers() {
    for ground in Ground::each() {
        ground.write("home/project/before", "before\n");
        let told = ground.told(&[], "pwd; cat before; echo after > after; echo more >> before; mkdir d; rm -r d");
        assert_eq!(told, format!("{}\nbefore\n", ground.path("home/project").display()));
        assert_eq!(fs::read_to_string(ground.path("home/project/after")).unwrap(), "after\n");
        assert_eq!(fs::read_to_string(ground.path("home/project/before")).unwrap(), "before\nmore\n");
        assert!(ground.owns("home/project/after"));
    }
}

#[test]
fn what_was_not_chosen_is_absent() {
    for ground in Ground::each() {
        ground.write("home/secret/key", "secret\n");
        let key = ground.path("home/secret/key");
        let (look, key) = (format!("cat {}", key.display()), key.display().to_string());
        let output = ground.run(&[], &look);
        assert!(!output.status.success() && err(&output).contains("No such file"), "{output:?}");
        // The same is there for whoever chooses it.
        assert_eq!(ground.told(&["--read", &key], &look), "secret\n");
        let listing =
            ground.told(&[], "ls -A ~ ; ls -A /tmp | head -1; ls /var/lib /run /sys /boot /mnt /srv 2>/dev/null; true");
        // In /tmp there is the way to the working directory.
        assert!(listing.lines().all(|line| line.starts_with(".tmp")), "{listing}");
        for absent in ["/etc/shadow", "/etc/ssh", "/etc/ssl/private", "/root/.bashrc", "/run/systemd", "/dev/sda"] {
            assert!(!ground.run(&[], &format!("test -e {absent}")).status.success(), "{absent}");
        }
        // Nothing of the host's processes is seen: what there is are the shell and what it starts.
        let processes = ground.told(&[], "ls /proc | grep -c '^[0-9]'");
        assert!(processes.trim().parse::<usize>().unwrap() <= 4, "{processes}");
    }
}

#[test]
fn what_is_to_be_read_can_not_be_written() {
    for ground in Ground::each() {
        ground.make("shared");
        ground.write("shared/file", "shared\n");
        let shared = ground.path("shared").display().to_string();
        let change = format!("cat {shared}/file && echo changed > {shared}/file");
        let output = ground.run(&["--read", &shared], &change);
        assert!(!output.status.success() && out(&output) == "shared\n", "{output:?}");
        assert_eq!(fs::read_to_string(ground.path("shared/file")).unwrap(), "shared\n");
        ground.told(&["--write", &shared], &change);
        assert_eq!(fs::read_to_string(ground.path("shared/file")).unwrap(), "changed\n");
        // A part of the working directory can be taken out of what is written.
        ground.make("home/project/fixed");
        assert!(!ground.run(&["--read", "fixed"], "echo x > fixed/x").status.success());
        assert!(!ground.run(&["--read", "fixed"], "mv fixed other").status.success());
        ground.told(&[], "echo x > fixed/x");
    }
}

#[test]
fn the_system_can_not_be_changed() {
    let ground = Ground::new();
    for line in [
        "echo x > /etc/x",
        "echo x > /usr/x",
        "mkdir /x",
        "mount -t tmpfs none /mnt",
        "echo 1 > /proc/sys/vm/drop_caches",
    ] {
        assert!(!ground.run(&[], line).status.success(), "{line}");
    }
}

#[test]
fn hooks_and_configuration_of_a_repository_are_read_only() {
    for ground in Ground::each() {
        for name in
            ["home/project/.git", "home/project/.git/hooks", "home/project/.git/objects", "home/project/.git/refs"]
        {
            ground.make(name);
        }
        ground.write("home/project/.git/config", "[core]\n");
        ground.write("home/project/.git/HEAD", "ref: refs/heads/main\n");
        for line in [
            "echo evil > .git/hooks/pre-commit",
            "echo evil > .git/config",
            "rm -f .git/config",
            "mv .git/config .git/other",
            "mv .git other",
            "mv .git/hooks .git/other",
            "rmdir .git/hooks",
            "ln -sf ../evil .git/config",
            "echo x > x && mv -f x .git/config",
            "mkdir e && mv -T e .git/hooks",
            "rmdir .git/objects",
            "mv .git/objects other",
            "mv .git/refs other",
        ] {
            let output = ground.run(&[], line);
            assert!(!output.status.success(), "{line}: {output:?}");
        }
        assert_eq!(fs::read_to_string(ground.path("home/project/.git/config")).unwrap(), "[core]\n");
        assert_eq!(fs::read_dir(ground.path("home/project/.git/hooks")).unwrap().count(), 0);
        // Everything else of it is written as usual, and with a flag these are.
        ground.told(&[], "echo x > .git/objects/x && echo y > .git/HEAD.lock && mv .git/HEAD.lock .git/HEAD");
        ground.told(&["--write", ".git"], "echo fine > .git/hooks/pre-commit && echo fine > .git/config");
    }
}

#[test]
fn git_works_as_usual_and_a_new_repository_is_told_of() {
    let ground = Ground::new();
    if std::process::Command::new("git").arg("--version").output().is_err() {
        return skip("there is no git");
    }
    let output = ground.run(&[], "git init -q . && echo x > file && git add file");
    assert!(output.status.success() && err(&output).contains(".git is new"), "{output:?}");
    let line =
        "git -c user.name=a -c user.email=a@example.org commit -qm one && git log --format=%s && git status --short";
    assert_eq!(ground.told(&[], line), "one\n");
    ground.told(&[], "git branch other && git pack-refs --all && git gc -q && git fsck && git checkout -q other");
    assert!(!ground.run(&[], "git config core.fsmonitor ./evil").status.success());
}

#[test]
fn of_a_worktree_nothing_can_be_led_elsewhere() {
    let ground = Ground::new();
    ground.make("home/main/.git/worktrees/project");
    ground.write("home/main/.git/worktrees/project/commondir", "../..\n");
    let target = ground.path("home/main/.git/worktrees/project").display().to_string();
    ground.write("home/project/.git", &format!("gitdir: {target}\n"));
    assert!(!ground.run(&[], "echo gitdir: ../evil > .git").status.success());
    assert!(!ground.run(&[], "rm -f .git").status.success());
    // Where the repository is chosen as well, what the file leads to is held.
    let main = ground.path("home/main").display().to_string();
    assert!(!ground.run(&["--write", &main], &format!("echo x > {target}/commondir")).status.success());
    ground.told(&["--write", &main], &format!("echo x > {main}/file"));
}

#[test]
fn places_that_hold_too_much_are_refused() {
    for ground in Ground::each() {
        ground.make("home/.cache/codesandbox");
        let home = ground.path("home").display().to_string();
        for (options, part) in [
            (&["--workdir", "/"][..], "whole system"),
            (&["--workdir", &home], "home directory"),
            (&["--workdir", ".."], "home directory"),
            (&["--write", "../.cache"], "codesandbox itself"),
            (&["--read", &home], "home directory"),
            (&["--workdir", "/proc/self"], "/proc"),
            (&["--workdir", "missing"], "No such file"),
            (&["--read", "missing"], "No such file"),
        ] {
            let output = ground.run(options, "true");
            assert_eq!(output.status.code(), Some(125), "{options:?}: {output:?}");
            assert!(err(&output).contains(part), "{options:?}: {output:?}");
        }
    }
}

#[test]
fn links_that_lead_outside_lead_nowhere() {
    let ground = Ground::new();
    ground.write("home/secret/key", "secret\n");
    symlink(ground.path("home/secret/key"), ground.path("home/project/link")).unwrap();
    symlink("../secret", ground.path("home/project/up")).unwrap();
    ground.write("home/project/own", "own\n");
    symlink("own", ground.path("home/project/inner")).unwrap();
    assert!(!ground.run(&[], "cat link").status.success());
    assert!(!ground.run(&[], "cat up/key").status.success());
    assert!(!ground.run(&[], "echo x > link").status.success());
    assert_eq!(fs::read_to_string(ground.path("home/secret/key")).unwrap(), "secret\n");
    assert_eq!(ground.told(&[], "cat inner"), "own\n");
    // Nor does a name for the same file lead there by another way.
    assert!(!ground.run(&[], "ln ../secret/key hard").status.success());
}

#[test]
fn a_socket_of_the_hosts_can_not_be_connected_to() {
    for ground in Ground::each() {
        let path = ground.path("home/project/socket");
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let connect = "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"socket\")'";
        if std::process::Command::new("python3").arg("--version").output().is_err() {
            return skip("there is no python3");
        }
        let output = ground.run(&[], connect);
        assert!(err(&output).contains("Address family not supported"), "{output:?}");
        assert!(listener.accept().is_err());
        // Datagrams could be sent to an address without ever connecting.
        let datagram = "python3 -c 'import socket; a, b = socket.socketpair(); \
                        socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)'";
        assert!(err(&ground.run(&[], datagram)).contains("Operation not permitted"));
        ground.told(&["--unix-sockets"], connect);
        assert!(listener.accept().is_ok());
    }
}

#[test]
fn no_file_becomes_one_that_gives_the_callers_rights_away() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        return skip("there is no python3");
    }
    for ground in Ground::each() {
        ground.told(&[], "touch a && chmod 755 a && mkdir d");
        for line in [
            "chmod u+s a",
            "chmod g+s a",
            "chmod 6755 a",
            "python3 -c 'import os; os.close(os.open(\"b\", os.O_CREAT | os.O_WRONLY, 0o4755))'",
            "python3 -c 'import os; os.mknod(\"c\", 0o104755)'",
            "python3 -c 'import os; os.fchmod(os.open(\"a\", os.O_RDWR), 0o4755)'",
        ] {
            let output = ground.run(&[], line);
            assert!(!output.status.success(), "{line}: {output:?}");
        }
        for entry in fs::read_dir(ground.path("home/project")).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o6000, 0, "{mode:o}");
        }
    }
}

#[test]
fn what_others_are_refused_is_refused_here_as_well() {
    let ground = Ground::new();
    let status = ground.told(&[], "grep -E 'NoNewPrivs|Seccomp:|CapEff|CapBnd|CapPrm' /proc/self/status");
    for expected in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(status.contains(expected), "{status}");
    }
    for line in ["unshare -U true", "unshare -m true", "nsenter -t 1 -m true"] {
        assert!(!ground.run(&[], line).status.success(), "{line}");
    }
}
