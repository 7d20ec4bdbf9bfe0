//! Every ingredient makes another key, and no two lists of them are the same bytes.

use std::fs;

use super::*;
use crate::config::Config;
use crate::plan::FilePath;
use crate::profile::{DeniedSyscall, LimitChanges, Network};

/// Ingredients that own what they are made of.
#[derive(Debug, Clone)]
struct Mixed {
    client: Option<String>,
    runtime: String,
    closure: Vec<PathBuf>,
    stamps: Vec<Stamp>,
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    files: Vec<ArchivedFile>,
    profile: String,
    policy: Policy,
    limits: Limits,
    disk: (u64, u64),
    bounds: Vec<u64>,
}

impl Mixed {
    fn new() -> Self {
        let profile = Config::parse("{}").unwrap().profiles["default"].clone();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        Self {
            client: Some("1000".into()),
            runtime: "c-12".into(),
            closure: vec!["/nix/store/a".into(), "/nix/store/b".into()],
            stamps: vec![Stamp { path: "/usr/bin/gcc".into(), size: 5, modified: (6, 7), inode: 8 }],
            argv: words("gcc -O2 main.c"),
            env: BTreeMap::from([("PATH".into(), "/bin".into()), ("HOME".into(), "/tmp".into())]),
            files: vec![file("main.c", b"int", false), file("b.c", b"main", false)],
            profile: "default".into(),
            policy: profile.policy(),
            limits: profile.compile,
            disk: (100, 10),
            bounds: vec![1],
        }
    }

    fn key(&self) -> Key {
        let ingredients = Ingredients {
            client: self.client.as_deref(),
            runtime: &self.runtime,
            closure: &self.closure,
            stamps: &self.stamps,
            argv: &self.argv,
            env: &self.env,
            files: &self.files,
            profile: &self.profile,
            policy: &self.policy,
            limits: &self.limits,
            disk: self.disk,
            bounds: &self.bounds,
        };
        ingredients.key()
    }
}

fn file(path: &str, content: &[u8], executable: bool) -> ArchivedFile {
    ArchivedFile {
        path: FilePath::try_from(path.as_bytes().to_vec()).unwrap(),
        content: content.to_vec().into(),
        executable,
    }
}

/// Ways to change ingredients; no two lead to the same.
type Change = fn(&mut Mixed);

const CHANGES: &[(&str, Change)] = &[
    ("nothing", |_| {}),
    ("another bound", |mixed| mixed.bounds = vec![2]),
    ("one bound more", |mixed| mixed.bounds.push(1)),
    ("another client", |mixed| mixed.client = Some("1001".into())),
    ("a client without a name", |mixed| mixed.client = Some(String::new())),
    ("everybody", |mixed| mixed.client = None),
    ("another runtime", |mixed| mixed.runtime = "c-13".into()),
    ("another closure", |mixed| mixed.closure[1] = "/nix/store/c".into()),
    ("a smaller closure", |mixed| drop(mixed.closure.pop())),
    ("another program", |mixed| mixed.stamps[0].path = "/usr/bin/cc".into()),
    ("a program of another size", |mixed| mixed.stamps[0].size = 9),
    ("a program that changed a second later", |mixed| mixed.stamps[0].modified.0 = 9),
    ("a program that changed a nanosecond later", |mixed| mixed.stamps[0].modified.1 = 9),
    ("a program that was replaced", |mixed| mixed.stamps[0].inode = 9),
    ("no program", |mixed| mixed.stamps.clear()),
    ("another argument", |mixed| mixed.argv[1] = "-O3".into()),
    ("arguments in another order", |mixed| mixed.argv.swap(1, 2)),
    ("an argument that is two", |mixed| mixed.argv = vec!["gcc".into(), "-O2 main.c".into()]),
    ("an argument that is longer", |mixed| mixed.argv = vec!["gcc".into(), "-O2m".into(), "ain.c".into()]),
    ("an empty argument", |mixed| mixed.argv.push(String::new())),
    ("another variable", |mixed| drop(mixed.env.insert("PATH".into(), "/usr/bin".into()))),
    ("one variable more", |mixed| drop(mixed.env.insert("A".into(), "b".into()))),
    ("the last argument as a variable", |mixed| {
        let last = mixed.argv.pop().unwrap();
        mixed.env.insert(last, String::new());
    }),
    ("another content", |mixed| mixed.files[0].content = b"inT".to_vec().into()),
    ("another path", |mixed| mixed.files[0] = file("main.h", b"int", false)),
    ("an executable file", |mixed| mixed.files[0].executable = true),
    ("one file less", |mixed| drop(mixed.files.pop())),
    ("one file that has the bytes of both", |mixed| {
        mixed.files = vec![file("main.c", b"intb.cmain", false)];
    }),
    ("a byte that moved to the next file", |mixed| {
        mixed.files = vec![file("main.c", b"in", false), file("b.c", b"tmain", false)];
    }),
    ("a byte that moved from path to content", |mixed| {
        mixed.files = vec![file("main.c", b"int", false), file("b.", b"cmain", false)];
    }),
    ("another profile", |mixed| mixed.profile = "judge".into()),
    ("another network", |mixed| mixed.policy.network = Network::Loopback),
    ("another filter", |mixed| mixed.policy.seccomp = "other".into()),
    ("another answer to refused calls", |mixed| mixed.policy.denied_syscall = DeniedSyscall::Kill),
    ("a larger disk", |mixed| mixed.disk.0 = 101),
    ("a disk of more files", |mixed| mixed.disk.1 = 11),
];

#[test]
fn every_ingredient_changes_the_key() {
    let mut keys = BTreeMap::new();
    for (what, change) in CHANGES {
        let mut mixed = Mixed::new();
        change(&mut mixed);
        if let Some(other) = keys.insert(mixed.key(), *what) {
            panic!("the same key: {what}; {other}");
        }
    }
}

#[test]
fn every_limit_changes_the_key() {
    let before = Mixed::new();
    let mut keys = vec![before.key()];
    for field in Limits::FIELDS {
        let mut changes = LimitChanges::default();
        changes.set(field, 77).unwrap();
        let highest = Config::parse("{}").unwrap().profiles["build"].maximum;
        let limits = before.limits.changed(&changes, &highest);
        // The least of some limits is above that.
        let limits = limits.or_else(|error| {
            changes.set(field, error.least).unwrap();
            before.limits.changed(&changes, &highest)
        });
        keys.push(Mixed { limits: limits.unwrap(), ..before.clone() }.key());
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), Limits::FIELDS.len() + 1);
}

#[test]
fn the_same_ingredients_make_the_same_key() {
    assert_eq!(Mixed::new().key(), Mixed::new().key());
}

#[test]
fn a_program_that_is_replaced_has_another_stamp() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    // A link that is absolute leads to where it does for programs inside.
    std::os::unix::fs::symlink("/usr/bin/gcc-12", root.path().join("usr/bin/gcc")).unwrap();
    let toolchain = Toolchain { closure: vec![], root: root.path().into(), replaced: vec!["/usr/bin/gcc".into()] };
    assert!(stamps(&toolchain).is_err(), "there is no such program yet");
    let program = root.path().join("usr/bin/gcc-12");
    fs::write(&program, "old").unwrap();
    let old = stamps(&toolchain).unwrap();
    assert_eq!(stamps(&toolchain).unwrap(), old);
    fs::write(root.path().join("new"), "new").unwrap();
    fs::rename(root.path().join("new"), &program).unwrap();
    let new = stamps(&toolchain).unwrap();
    assert_ne!(new, old);
    fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
    fs::write(root.path().join("var/lib/dpkg/status"), "").unwrap();
    assert_ne!(stamps(&toolchain).unwrap(), new, "a package was installed");
}

#[test]
fn a_closure_needs_no_stamp() {
    let toolchain = Toolchain { closure: vec!["/nix/store/a".into()], root: "/nowhere".into(), replaced: vec![] };
    assert_eq!(stamps(&toolchain).unwrap(), []);
}
