//! What a program could have git run outside, later: each way is shown to work where nobody is on guard.

use std::os::unix::fs::symlink;

use crate::common::skip;
use crate::ground::{Ground, err, out};

/// Makes of a directory a repository that has git run a program of its own, and of `.git` none.
const TURN: &str = r"
    rm -f .git/HEAD
    mkdir -p objects refs
    echo 'ref: refs/heads/main' > HEAD
    printf '[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = %s\n\tfsmonitor = ./evil\n' $PWD > config
    printf '#!/bin/sh\necho > %s/ran\n' $PWD > evil
    chmod +x evil
";
/// A hook that says that it was run.
const HOOK: &str = r"printf '#!/bin/sh\necho > ran\n' > $H/pre-commit && chmod +x $H/pre-commit";
const COMMIT: &str = "git -c user.name=a -c user.email=a@example.org commit -qm one --allow-empty";

/// A repository to work in; none without git.
fn repository() -> Option<Ground> {
    let ground = Ground::new();
    let made = ground.outside("git init -q . && git init -q ../by-hand && mkdir below");
    if !made.status.success() {
        skip("there is no git");
        return None;
    }
    Some(ground)
}

fn was_run(ground: &Ground, directory: &str) -> bool {
    ground.path(directory).join("ran").exists()
}

#[test]
fn a_directory_that_becomes_a_repository_is_told_of_and_how_to_undo_it() {
    let Some(ground) = repository() else { return };
    ground.outside(&format!("cd ../by-hand; {TURN} git status"));
    assert!(was_run(&ground, "home/by-hand"), "git does not run what this test is about");
    let output = ground.run(&[], TURN);
    let told = err(&output);
    assert!(told.contains("itself for a repository") && told.contains("no repository any more"), "{output:?}");
    // While it is so, the next one is told before it begins.
    assert!(err(&ground.run(&[], "true")).contains("itself for a repository"));
    let undo = told.lines().find_map(|line| line.split_once("rm -rf -- ")).unwrap().1;
    assert!(ground.outside(&format!("rm -rf -- {undo}; git status || true")).status.success());
    assert!(!was_run(&ground, "home/project"));
    assert!(ground.outside("echo ref: refs/heads/main > .git/HEAD; git status").status.success());
    assert!(!was_run(&ground, "home/project"));
}

#[test]
fn directories_below_that_become_repositories_are_told_of() {
    let Some(ground) = repository() else { return };
    ground.outside("mkdir -p vendor/old && git init -q vendor/old");
    let output = ground.run(&[], &format!("cd below; {TURN} git init -q ../vendor/new"));
    let told = err(&output);
    let below = ground.path("home/project/below").display().to_string();
    assert!(told.contains(&format!("git takes {below} itself")), "{output:?}");
    assert!(told.contains(&format!("rm -rf -- '{below}/HEAD'")) && told.contains("vendor/new/.git"), "{output:?}");
    ground.outside("cd below && git status");
    assert!(was_run(&ground, "home/project/below"));
}

#[test]
fn a_setting_of_git_closes_it_and_is_hinted_at_until_it_is_there() {
    let Some(ground) = repository() else { return };
    let hint = "git config --global safe.bareRepository explicit";
    assert!(err(&ground.run(&[], "true")).contains(hint));
    // Where there is no repository it would not help.
    ground.make("home/plain");
    let plain = ground.path("home/plain").display().to_string();
    assert!(!err(&ground.run(&["--workdir", &plain], "true")).contains(hint));
    assert!(ground.outside(hint).status.success());
    let output = ground.run(&[], TURN);
    assert!(!err(&output).contains(hint), "{output:?}");
    ground.outside("git status");
    assert!(!was_run(&ground, "home/project"));
    // A repository can't say so itself.
    ground.outside("git config --global --unset safe.bareRepository; rm HEAD; git init -q .; git config safe.bareRepository explicit");
    assert!(err(&ground.run(&[], "true")).contains(hint));
}

#[test]
fn a_directory_of_hooks_that_is_missing_can_not_be_made() {
    for setting in ["git config core.hooksPath .husky/_", "git config --global core.hooksPath .husky/_"] {
        let Some(ground) = repository() else { return };
        let make = format!("mkdir -p .husky/_; H=.husky/_; {HOOK}");
        ground.outside(&format!("{setting}; cd ../by-hand; git config core.hooksPath .husky/_; {make}; {COMMIT}"));
        assert!(was_run(&ground, "home/by-hand"), "git does not run what this test is about");
        for line in [&make, "mv .husky other", "rmdir .husky/_"] {
            let output = ground.run(&[], line);
            assert!(!output.status.success(), "{setting}: {line}: {output:?}");
        }
        assert!(ground.outside(COMMIT).status.success());
        assert!(!was_run(&ground, "home/project"));
        // Whoever wants it says so.
        ground.told(&["--write", ".husky/_"], &make);
    }
}

#[test]
fn hooks_that_are_reached_by_a_link_are_refused() {
    for (setting, link) in [(".hooks", ".hooks"), ("linked/hooks", "linked")] {
        let Some(ground) = repository() else { return };
        ground.make("home/project/tools/hooks");
        let target = if link == setting { "tools/hooks" } else { "tools" };
        symlink(target, ground.path("home/project").join(link)).unwrap();
        ground.outside(&format!("git config core.hooksPath {setting}"));
        let output = ground.run(&[], "true");
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(err(&output).contains(&format!("/{link} is a link")), "{output:?}");
        ground.outside("git config core.hooksPath tools/hooks");
        assert!(!ground.run(&[], "echo > tools/hooks/pre-commit").status.success());
        assert!(!ground.run(&[], "mv tools other").status.success());
    }
}

#[test]
fn files_that_configuration_is_included_from_are_held() {
    let Some(ground) = repository() else { return };
    ground.write("home/project/.gitconfig", "[core] hooksPath = tools/hooks\n");
    ground.write("home/project/other", "[core]\n\thooksPath = tools/others\n");
    ground.outside("git config include.path ../.gitconfig; git config includeIf.onbranch:other.path ../other");
    for line in [
        "echo > .gitconfig",
        "rm -f .gitconfig",
        "echo > x; mv -f x .gitconfig",
        "echo > other",
        "echo > tools/hooks/pre-commit",
        "echo > tools/others/pre-commit",
    ] {
        let output = ground.run(&[], line);
        assert!(!output.status.success(), "{line}: {output:?}");
    }
    // From a directory below it is the same.
    let tools = ground.path("home/project/tools").display().to_string();
    assert!(!ground.run(&["--workdir", &tools], "echo > hooks/pre-commit").status.success());
    // One that is not there could be made.
    ground.outside("rm .gitconfig");
    let output = ground.run(&[], "true");
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(err(&output).contains("/.gitconfig is not there") && out(&output).is_empty(), "{output:?}");
}
