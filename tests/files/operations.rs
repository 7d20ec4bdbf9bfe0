//! Every operation, from the client to the disk and back.

use std::os::unix::fs::{PermissionsExt, symlink};

use codesandbox::plan::files::{Content, FileError, Kind, SearchLimits, Span};
use codesandbox::session::files::{self, FilesError};

use super::{Ground, body, path, place, read_all, refusal, run};

#[test]
fn what_is_written_is_read_and_told() {
    let ground = Ground::new();
    run(async {
        let content = vec![b'x'; 200_000];
        let wrote = files::write(ground.worker(), path("a/b/run.sh"), true, false, None, body(&[&content, b"end"]));
        let entry = wrote.await.unwrap();
        assert_eq!((entry.size, entry.mode, entry.kind), (200_003, 0o755, Kind::File));
        assert_eq!(read_all(&ground, "a/b/run.sh").await.unwrap().len(), 200_003);
        let stat = files::stat(ground.worker(), place("a/b/run.sh")).await.unwrap();
        assert_eq!(stat, entry);
        assert_eq!(files::stat(ground.worker(), place("")).await.unwrap().kind, Kind::Directory);
        let wrote = files::write(ground.worker(), path("a/b/run.sh"), false, true, None, body(&[b"more"]));
        assert_eq!(wrote.await.unwrap().size, 200_007);
        let wrote = files::write(ground.worker(), path("a/b/run.sh"), false, false, Some(3), body(&[b"new"]));
        assert_eq!(
            (wrote.await.unwrap().mode, read_all(&ground, "a/b/run.sh").await.unwrap()),
            (0o644, b"new".to_vec())
        );
        assert_eq!(ground.names("a/b"), ["run.sh"]);
    });
}

#[test]
fn a_part_of_a_file_comes_with_the_size_of_all() {
    let ground = Ground::new();
    ground.put("f", "0123456789");
    run(async {
        for (span, from, part) in [
            (Span::From(2, Some(3)), 2, "234"),
            (Span::From(8, Some(100)), 8, "89"),
            (Span::Last(3), 7, "789"),
            (Span::Last(100), 0, "0123456789"),
            (Span::From(10, None), 10, ""),
        ] {
            let mut read = files::read(ground.worker(), path("f"), span).await.unwrap();
            assert_eq!((read.entry.size, read.from, read.length), (10, from, part.len() as u64));
            let bytes = read.content.next().await.unwrap().unwrap_or_default();
            assert_eq!(bytes, part.as_bytes());
            assert!(read.content.next().await.unwrap().is_none());
        }
        let refused = files::read(ground.worker(), path("f"), Span::From(11, None)).await;
        assert_eq!(refusal(refused), FileError::OutOfRange { size: 10 });
    });
}

#[test]
fn a_file_that_shrinks_meanwhile_is_an_error() {
    let ground = Ground::new();
    // More than the socket holds, so that the worker waits in the middle.
    ground.put("f", vec![b'x'; 8 << 20]);
    run(async {
        let mut read = files::read(ground.worker(), path("f"), Span::From(0, None)).await.unwrap();
        read.content.next().await.unwrap().unwrap();
        std::fs::write(ground.path("f"), "short").unwrap();
        let failed = loop {
            match read.content.next().await {
                Ok(part) => assert!(part.is_some(), "it is told as complete"),
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, FilesError::Refused(FileError::Changed)), "{failed:?}");
    });
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let ground = Ground::new();
    ground.put("old", "old");
    run(async {
        for name in ["old", "new", "d/new"] {
            let parts = [Ok(b"half".to_vec()), Err(std::io::Error::other("the client is gone"))];
            let (stream, worker) = super::worker(&ground.workspace);
            let body = futures_util::stream::iter(parts);
            let failed = files::write(stream, path(name), false, false, None, body).await;
            assert!(matches!(failed, Err(FilesError::Upload(_))));
            worker.join().unwrap();
            let wrote = files::write(ground.worker(), path(name), false, false, Some(5), body_of("four")).await;
            assert_eq!(refusal(wrote), FileError::Incomplete);
        }
    });
    assert_eq!(ground.names(""), ["old"]);
    assert_eq!(std::fs::read(ground.path("old")).unwrap(), b"old");
}

fn body_of(text: &str) -> impl futures_util::Stream<Item = std::io::Result<Vec<u8>>> + Unpin + use<> {
    body(&[text.as_bytes()])
}

#[test]
fn a_directory_is_listed_in_order_and_to_a_depth() {
    let ground = Ground::new();
    for name in ["b/x", "b/c/deep", "a"] {
        ground.put(name, "12");
    }
    symlink("/etc/passwd", ground.path("link")).unwrap();
    run(async {
        let paths = |depth, most| {
            let listed = files::list(ground.worker(), place(""), depth, most);
            async {
                let listed = listed.await.unwrap();
                let paths: Vec<_> =
                    listed.found.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect();
                (paths.join(" "), listed.complete)
            }
        };
        assert_eq!(paths(1, 100).await, ("a b link".to_owned(), true));
        assert_eq!(paths(9, 100).await, ("a b b/c b/c/deep b/x link".to_owned(), true));
        assert_eq!(paths(9, 2).await, ("a b".to_owned(), false));
        let listed = files::list(ground.worker(), place("b"), 1, 9).await.unwrap();
        assert_eq!(listed.found[1].path, b"b/x");
        let link = files::stat(ground.worker(), place("link")).await.unwrap();
        assert_eq!((link.kind, link.target.unwrap()), (Kind::Link, b"/etc/passwd".to_vec()));
        assert_eq!(refusal(files::list(ground.worker(), place("a"), 1, 9).await), FileError::NotDirectory);
        assert_eq!(refusal(files::list(ground.worker(), place("link"), 1, 9).await), FileError::Link);
    });
}

#[test]
fn names_change_and_are_replaced_only_when_asked() {
    let ground = Ground::new();
    for name in ["a", "d/in", "full/old"] {
        ground.put(name, name);
    }
    run(async {
        files::mkdir(ground.worker(), path("x/y/z")).await.unwrap();
        files::mkdir(ground.worker(), path("x/y/z")).await.unwrap();
        assert_eq!(refusal(files::mkdir(ground.worker(), path("a")).await), FileError::NotDirectory);
        files::mv(ground.worker(), path("a"), path("x/a"), false).await.unwrap();
        assert_eq!(refusal(files::mv(ground.worker(), path("x/a"), path("d/in"), false).await), FileError::Exists);
        assert_eq!(refusal(files::mv(ground.worker(), path("no"), path("n"), false).await), FileError::Missing);
        assert_eq!(refusal(files::mv(ground.worker(), path("x"), path("x/y/in"), true).await), FileError::Overlap);
        assert_eq!(refusal(files::mv(ground.worker(), path("x/y"), path("x"), true).await), FileError::Overlap);
        files::mv(ground.worker(), path("x/a"), path("d/in"), true).await.unwrap();
        assert_eq!(std::fs::read(ground.path("d/in")).unwrap(), b"a");
        files::mv(ground.worker(), path("d"), path("full"), true).await.unwrap();
        assert_eq!(ground.names("full"), ["in"]);
    });
    assert_eq!(ground.names(""), ["full", "x"]);
}

#[test]
fn trees_are_copied_with_their_links_and_modes() {
    let ground = Ground::new();
    ground.put("d/run", "code");
    std::fs::set_permissions(ground.path("d/run"), PermissionsExt::from_mode(0o750)).unwrap();
    symlink("../../outside", ground.path("d/link")).unwrap();
    nix::unistd::mkfifo(&ground.path("d/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    run(async {
        files::copy(ground.worker(), path("d"), path("copy"), false).await.unwrap();
        files::copy(ground.worker(), path("d/link"), path("other"), false).await.unwrap();
        assert_eq!(refusal(files::copy(ground.worker(), path("d"), path("copy"), false).await), FileError::Exists);
        assert_eq!(
            refusal(files::copy(ground.worker(), path("d/fifo"), path("f"), false).await),
            FileError::NotRegular
        );
        files::copy(ground.worker(), path("d/run"), path("copy"), true).await.unwrap();
        assert_eq!(read_all(&ground, "copy").await.unwrap(), b"code");
        files::copy(ground.worker(), path("d"), path("copy"), true).await.unwrap();
    });
    assert_eq!(ground.names("copy"), ["link", "run"]);
    assert_eq!(std::fs::metadata(ground.path("copy/run")).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(std::fs::read_link(ground.path("other")).unwrap().to_str(), Some("../../outside"));
    assert_eq!(ground.names(""), ["copy", "d", "other"]);
}

#[test]
fn a_link_is_removed_and_not_what_it_leads_to() {
    let ground = Ground::new();
    std::fs::write(ground.outside.join("kept"), "kept").unwrap();
    ground.put("d/e/f", "");
    symlink(&ground.outside, ground.path("d/link")).unwrap();
    run(async {
        assert_eq!(refusal(files::remove(ground.worker(), path("d"), false).await), FileError::NotEmpty);
        assert_eq!(refusal(files::remove(ground.worker(), path("d/link/kept"), true).await), FileError::Link);
        files::remove(ground.worker(), path("d"), true).await.unwrap();
        assert_eq!(refusal(files::remove(ground.worker(), path("d"), true).await), FileError::Missing);
    });
    assert!(ground.names("").is_empty());
    assert_eq!(super::names(&ground.outside), ["kept"]);
}

#[test]
fn what_is_no_file_is_neither_waited_for_nor_read() {
    let ground = Ground::new();
    nix::unistd::mkfifo(&ground.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(ground.path("socket")).unwrap();
    std::fs::create_dir(ground.path("d")).unwrap();
    symlink("fifo", ground.path("link")).unwrap();
    run(async {
        for (name, error) in [
            ("fifo", FileError::NotRegular),
            ("socket", FileError::NotRegular),
            ("d", FileError::IsDirectory),
            ("link", FileError::Link),
            ("none", FileError::Missing),
            ("fifo/x", FileError::NotDirectory),
        ] {
            assert_eq!(refusal(read_all(&ground, name).await), error, "{name}");
        }
        let append = files::write(ground.worker(), path("fifo"), false, true, None, body(&[b"x"])).await;
        assert_eq!(refusal(append), FileError::NotRegular);
        let write = files::write(ground.worker(), path("d"), false, false, None, body(&[b"x"])).await;
        assert_eq!(refusal(write), FileError::IsDirectory);
        files::write(ground.worker(), path("link"), false, false, None, body(&[b"x"])).await.unwrap();
    });
    assert_eq!(std::fs::read(ground.path("link")).unwrap(), b"x");
}

const LIMITS: SearchLimits = SearchLimits { hits: 100, files: 100, bytes: 1 << 20, time_ms: 60_000 };

#[test]
fn files_are_found_by_name_and_lines_by_what_is_in_them() {
    let ground = Ground::new();
    ground.put("src/a.py", "one\ndéf needle(x):\n  needle\n");
    ground.put("src/b.txt", "needle");
    ground.put("binary.py", b"needle\0");
    symlink("src/a.py", ground.path("link.py")).unwrap();
    run(async {
        let find = |name: Option<&str>, content: Option<Content>, limits| {
            files::search(ground.worker(), place("src"), name.map(str::to_owned), content, limits)
        };
        let text = || Some(Content::Text("needle".to_owned()));
        let found = find(Some("*.py"), None, LIMITS).await.unwrap();
        assert_eq!(found.found.iter().map(|hit| hit.path.as_slice()).collect::<Vec<_>>(), [b"src/a.py"]);
        let found = find(None, text(), LIMITS).await.unwrap();
        assert!(found.complete && found.found.len() == 3, "{found:?}");
        let line = found.found[0].line.clone().unwrap();
        assert_eq!((line.number, line.column, line.text.as_slice()), (2, 5, "déf needle(x):".as_bytes()));
        let regex = Some(Content::Regex(r"^\s+n\w+$".to_owned()));
        assert_eq!(find(None, regex, LIMITS).await.unwrap().found[0].line.clone().unwrap().number, 3);
        for limits in [
            SearchLimits { hits: 1, ..LIMITS },
            SearchLimits { files: 1, ..LIMITS },
            SearchLimits { bytes: 20, ..LIMITS },
            SearchLimits { time_ms: 0, ..LIMITS },
        ] {
            let found = find(None, text(), limits).await.unwrap();
            assert!(!found.complete && found.found.len() < 3, "{limits:?}: {found:?}");
        }
        let everywhere = files::search(ground.worker(), place(""), None, text(), LIMITS).await.unwrap();
        assert_eq!(everywhere.found.len(), 3, "neither binary files nor links are looked into");
        for content in [Content::Regex("(".to_owned()), Content::Regex("a{1000}{1000}".to_owned())] {
            assert!(matches!(refusal(find(None, Some(content), LIMITS).await), FileError::Pattern(_)));
        }
        assert!(matches!(refusal(find(Some("["), None, LIMITS).await), FileError::Pattern(_)));
    });
}
