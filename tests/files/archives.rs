//! Archives out and in, and those that were made to do harm.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use codesandbox::plan::PathError;
use codesandbox::plan::files::{FileError, Irregularity};
use codesandbox::session::files::{self, FilesError};
use tar::{Builder, EntryType, Header};

use super::{Ground, body, place, refusal, run};

/// An entry, whatever its name.
fn add(tar: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o7777);
    let place = &mut header.as_old_mut().name;
    place[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

/// Kind, name, what a link says, and content.
type Member<'a> = (EntryType, &'a [u8], &'a [u8], &'a [u8]);

fn tar(entries: &[Member<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (kind, name, link, content) in entries {
        add(&mut tar, *kind, name, link, content);
    }
    tar.into_inner().unwrap()
}

fn unpack(ground: &Ground, archive: &[u8]) -> Result<(), FilesError> {
    run(async { files::extract(ground.worker(), place("in"), body(&[archive])).await })
}

#[test]
fn a_tree_comes_out_and_goes_in_again() {
    let ground = Ground::new();
    let long = format!("d/{}/{}", "long".repeat(40), "name".repeat(30));
    ground.put(&long, "long");
    ground.put("d/run", "code");
    std::fs::set_permissions(ground.path("d/run"), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::create_dir(ground.path("d/empty")).unwrap();
    symlink("/absolute//text", ground.path("d/link")).unwrap();
    symlink("t".repeat(300), ground.path("d/longlink")).unwrap();
    nix::unistd::mkfifo(&ground.path("d/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    run(async {
        let mut archive = files::archive(ground.worker(), place("d"), false).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(part) = archive.next().await.unwrap() {
            bytes.extend(part);
        }
        // In parts that end anywhere.
        let parts: Vec<&[u8]> = bytes.chunks(777).collect();
        files::extract(ground.worker(), place("other/place"), body(&parts)).await.unwrap();
        let mut archive = files::archive(ground.worker(), place("d/run"), false).await.unwrap();
        assert_eq!(&archive.next().await.unwrap().unwrap()[..4], b"run\0");
    });
    assert_eq!(ground.names("other/place"), ["empty", "link", "longlink", &"long".repeat(40), "run"]);
    let inside = |name: &str| ground.path("other/place").join(name);
    assert_eq!(std::fs::read(inside(long.strip_prefix("d/").unwrap())).unwrap(), b"long");
    assert_eq!(std::fs::metadata(inside("run")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(
        std::fs::metadata(inside("run")).unwrap().mtime(),
        std::fs::metadata(ground.path("d/run")).unwrap().mtime()
    );
    assert_eq!(std::fs::read_link(inside("link")).unwrap().as_os_str(), "/absolute//text");
    assert_eq!(std::fs::read_link(inside("longlink")).unwrap().as_os_str().len(), 300);
}

#[test]
fn what_an_archive_must_not_have_is_refused_by_name() {
    use EntryType as E;
    let name = |error| Irregularity::Name(error);
    let corpus: [(&[Member<'_>], &[u8], Irregularity); 15] = [
        (&[(E::Regular, b"/etc/x", b"", b"x")], b"/etc/x", name(PathError::Absolute)),
        (&[(E::Regular, b"../outside/x", b"", b"x")], b"../outside/x", name(PathError::Irregular)),
        (&[(E::Regular, b"a/../../outside/x", b"", b"x")], b"a/../../outside/x", name(PathError::Irregular)),
        (&[(E::Directory, b"../outside/d/", b"", b"")], b"../outside/d/", name(PathError::Irregular)),
        (
            &[(E::Symlink, b"l", b"../../outside", b""), (E::Regular, b"l/x", b"", b"x")],
            b"l/x",
            Irregularity::ThroughLink,
        ),
        (
            &[(E::Symlink, b"l", b"../../outside", b""), (E::Directory, b"l/d", b"", b"")],
            b"l/d",
            Irregularity::ThroughLink,
        ),
        (&[(E::Symlink, b"l", b"/", b""), (E::Directory, b"l", b"", b"")], b"l", Irregularity::ThroughLink),
        (&[(E::Link, b"h", b"../../outside/secret", b"")], b"h", Irregularity::Target),
        (&[(E::Link, b"h", b"/etc/passwd", b"")], b"h", Irregularity::Target),
        (
            &[(E::Symlink, b"l", b"../../outside", b""), (E::Link, b"h", b"l/secret", b"")],
            b"h",
            Irregularity::ThroughLink,
        ),
        (&[(E::Symlink, b"l", b"/etc/passwd", b""), (E::Link, b"h", b"l", b"")], b"h", Irregularity::Target),
        (&[(E::Char, b"null", b"", b"")], b"null", Irregularity::Kind),
        (&[(E::Block, b"disk", b"", b"")], b"disk", Irregularity::Kind),
        (&[(E::Fifo, b"pipe", b"", b"")], b"pipe", Irregularity::Kind),
        (&[(E::GNUSparse, b"giant", b"", b"")], b"giant", Irregularity::Sparse),
    ];
    for (entries, entry, why) in corpus {
        let ground = Ground::new();
        std::fs::write(ground.outside.join("secret"), "secret").unwrap();
        let refused = refusal(unpack(&ground, &tar(entries)));
        assert_eq!(refused, FileError::Irregular { entry: entry.to_vec(), why });
        assert_eq!(super::names(&ground.outside), ["secret"]);
        assert_eq!(std::fs::metadata(ground.outside.join("secret")).unwrap().nlink(), 1);
    }
}

#[test]
fn a_naive_reader_would_have_followed_a_link() {
    // The positive control: what the standard library makes of the same names.
    let ground = Ground::new();
    symlink(&ground.outside, ground.path("l")).unwrap();
    std::fs::write(ground.path("l/x"), "x").unwrap();
    assert_eq!(super::names(&ground.outside), ["x"]);
}

#[test]
fn a_later_entry_replaces_an_earlier_one_and_is_not_written_through_it() {
    use EntryType as E;
    let ground = Ground::new();
    let archive = tar(&[
        (E::Regular, b"f", b"", b"first"),
        (E::Link, b"hard", b"f", b""),
        (E::Regular, b"f", b"", b"second"),
        (E::Symlink, b"l", b"../../outside/new", b""),
        (E::Regular, b"l", b"", b"file"),
        (E::Link, b"f", b"f", b""),
        (E::Regular, b"./old/", b"", b""),
    ]);
    unpack(&ground, &archive).unwrap();
    let read = |name: &str| std::fs::read(ground.path(name)).unwrap();
    assert_eq!(
        (read("in/f"), read("in/hard"), read("in/l")),
        (b"second".to_vec(), b"first".to_vec(), b"file".to_vec())
    );
    assert!(super::names(&ground.outside).is_empty() && ground.path("in/old").is_dir());
    assert_eq!(std::fs::metadata(ground.path("in/f")).unwrap().mode() & 0o7777, 0o777, "no set-user-id");
    let conflict = refusal(unpack(&ground, &tar(&[(E::Regular, b"old", b"", b"x")])));
    assert_eq!(conflict, FileError::Irregular { entry: b"old".to_vec(), why: Irregularity::Conflict });
}

#[test]
fn extended_headers_have_a_limit_and_say_what_holds() {
    let ground = Ground::new();
    let pax = |records: &[(&str, &[u8])], content: &[u8]| {
        let mut tar = Builder::new(Vec::new());
        tar.append_pax_extensions(records.iter().copied()).unwrap();
        add(&mut tar, EntryType::Regular, b"short", b"", content);
        tar.into_inner().unwrap()
    };
    let name = "n".repeat(200);
    unpack(&ground, &pax(&[("path", name.as_bytes())], b"x")).unwrap();
    assert_eq!(ground.names("in"), [name]);
    let huge = vec![b'a'; 1 << 20];
    for (records, why) in [
        (vec![("path", b"../../outside/x".as_slice())], Irregularity::Name(PathError::Irregular)),
        (vec![("path", [b'n'; 300].as_slice())], Irregularity::Name(PathError::TooLong)),
        (vec![("path", b"a\0b".as_slice())], Irregularity::Name(PathError::Nul)),
        (vec![("size", b"0".as_slice())], Irregularity::Contradiction),
        (vec![("GNU.sparse.major", b"1".as_slice())], Irregularity::Sparse),
        (vec![("comment", huge.as_slice())], Irregularity::Header),
    ] {
        match refusal(unpack(&ground, &pax(&records, b"content"))) {
            FileError::Irregular { why: found, .. } => assert_eq!(found, why),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ground.names("in").len(), 1);
}

#[test]
fn a_damaged_archive_leaves_no_half_file() {
    let ground = Ground::new();
    let whole = tar(&[(EntryType::Regular, b"f", b"", &[b'x'; 5000])]);
    assert_eq!(refusal(unpack(&ground, &whole[..3000])), FileError::Damaged);
    assert_eq!(refusal(unpack(&ground, &[b'x'; 2000])), FileError::Damaged);
    let mut giant = Header::new_gnu();
    giant.set_size(u64::MAX / 2);
    giant.set_path("giant").unwrap();
    giant.set_cksum();
    assert_eq!(refusal(unpack(&ground, giant.as_bytes())), FileError::Damaged);
    let failed = run(async {
        let parts = [Ok(whole[..2000].to_vec()), Err(std::io::Error::other("the client is gone"))];
        let (stream, worker) = super::worker(&ground.workspace);
        let failed = files::extract(stream, place("in"), futures_util::stream::iter(parts)).await;
        worker.join().unwrap();
        failed
    });
    assert!(matches!(failed, Err(FilesError::Upload(_))));
    assert!(ground.names("in").is_empty());
    unpack(&ground, &[]).unwrap();
}

#[test]
fn random_archives_never_get_out() {
    // Every pair of kinds and names that could work together.
    let ground = Ground::new();
    std::fs::write(ground.outside.join("secret"), "secret").unwrap();
    let kinds = [EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link];
    let names: [&[u8]; 5] = [b"a", b"a/b", b"../outside/secret", b"./a", b"a/secret"];
    let links: [&[u8]; 4] = [b"../../outside", b"../../outside/secret", b"a", b"a/secret"];
    let mut archives = Vec::new();
    for first in kinds {
        for second in kinds {
            for name in names {
                for link in links {
                    archives.push(tar(&[(first, b"a", link, b"1"), (second, name, link, b"2")]));
                }
            }
        }
    }
    for archive in archives {
        drop(unpack(&ground, &archive));
        assert_eq!(std::fs::read(ground.outside.join("secret")).unwrap(), b"secret");
        assert_eq!(std::fs::metadata(ground.outside.join("secret")).unwrap().nlink(), 1);
        assert_eq!(super::names(&ground.outside), ["secret"]);
        std::fs::remove_dir_all(ground.path("in")).unwrap();
    }
}
