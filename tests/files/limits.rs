//! Full disks, deep trees, and bytes that make no sense.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use codesandbox::jail::worker::{serve_connect, serve_files};
use codesandbox::plan::files::{FileAnswer, FileError, FileReply, FileRequest, Span, to_frame};
use codesandbox::session::files::{self, FilesError};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Ground, body, path, place, read_all, refusal, run};

/// Puts a small file system where the workspace is, for this thread and those that it starts.
fn make_small(ground: &Ground) -> bool {
    let none = None::<&str>;
    let made = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(none, &ground.workspace, Some("tmpfs"), MsFlags::empty(), Some("size=1m,nr_inodes=40")));
    if let Err(errno) = made {
        eprintln!("skipped: a small file system can't be mounted here: {errno}");
    }
    made.is_ok()
}

#[test]
fn a_full_disk_is_told_and_can_be_used_afterwards() {
    let ground = Ground::new();
    if !make_small(&ground) {
        return;
    }
    run(async {
        let large = vec![b'x'; 2 << 20];
        for length in [None, Some(large.len() as u64)] {
            let full = files::write(ground.worker(), path("large"), false, false, length, body(&[&large])).await;
            assert_eq!(refusal(full), FileError::DiskFull);
        }
        assert!(ground.names("").is_empty());
        let half = vec![b'x'; 600 << 10];
        files::write(ground.worker(), path("half"), false, false, None, body(&[&half])).await.unwrap();
        assert_eq!(refusal(files::copy(ground.worker(), path("half"), path("copy"), false).await), FileError::DiskFull);
        assert_eq!(ground.names(""), ["half"]);
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(half.len() as u64);
        tar.append_data(&mut header, "unpacked", half.as_slice()).unwrap();
        let full = files::extract(ground.worker(), place("d"), body(&[&tar.into_inner().unwrap()])).await;
        assert_eq!(refusal(full), FileError::DiskFull);
        assert!(ground.names("d").is_empty());
        let mut many = Vec::new();
        for number in 0..60 {
            many.push(files::mkdir(ground.worker(), path(&format!("many/{number}"))).await);
        }
        assert_eq!(refusal(many.pop().unwrap()), FileError::DiskFull);
        files::remove(ground.worker(), path("many"), true).await.unwrap();
        files::write(ground.worker(), path("small"), false, false, None, body(&[b"x"])).await.unwrap();
        assert_eq!(read_all(&ground, "small").await.unwrap(), b"x");
    });
}

#[test]
fn a_tree_that_is_too_deep_is_refused_and_stops_nothing() {
    let ground = Ground::new();
    let mut at = std::fs::File::open(&ground.workspace).unwrap();
    for _ in 0..300 {
        nix::sys::stat::mkdirat(&at, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        at = nix::fcntl::openat(&at, "d", flags, nix::sys::stat::Mode::empty()).unwrap().into();
    }
    run(async {
        assert_eq!(refusal(files::remove(ground.worker(), path("d"), true).await), FileError::TooDeep);
        assert_eq!(refusal(files::copy(ground.worker(), path("d"), path("e"), false).await), FileError::TooDeep);
        assert!(files::list(ground.worker(), place(""), 1000, 1000).await.unwrap().found.len() < 300);
        let mut archive = files::archive(ground.worker(), place(""), false).await.unwrap();
        let failed = loop {
            match archive.next().await {
                Ok(part) => assert!(part.is_some(), "it is told as complete"),
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, FilesError::Refused(FileError::TooDeep)));
    });
    assert_eq!(ground.names(""), ["d"]);
}

#[test]
fn a_worker_that_lies_is_an_error_and_no_more() {
    let frame = |answer: FileAnswer| to_frame(&answer).unwrap();
    let entry = || {
        let kind = codesandbox::plan::files::Kind::File;
        codesandbox::plan::files::Entry { path: vec![], kind, size: 4, mode: 0, modified_ms: 0, target: None }
    };
    let content = frame(Ok(FileReply::Content { entry: entry(), from: 0, length: 4 }));
    let done = frame(Ok(FileReply::Done));
    let chunk = |length: u32, bytes: &[u8]| [length.to_le_bytes().as_slice(), bytes].concat();
    for (lie, what) in [
        (vec![0xff; 4], "a length beyond the limit"),
        (vec![4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "no answer"),
        (done.clone(), "another answer"),
        ([content.clone(), chunk(0, b""), done.clone()].concat(), "fewer bytes than were told"),
        ([content.clone(), chunk(5, b"12345"), chunk(0, b""), done].concat(), "more bytes than were told"),
        ([content.clone(), chunk(u32::MAX, b"")].concat(), "a chunk beyond the limit"),
        ([content, chunk(4, b"12")].concat(), "an end in the middle"),
    ] {
        run(async {
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            theirs.write_all(&lie).await.unwrap();
            let told = async {
                let mut request = [0; 16];
                theirs.read_exact(&mut request[..4]).await.unwrap();
                drop(theirs);
            };
            let failed = async {
                let mut read = files::read(ours, path("f"), Span::From(0, None)).await?;
                while read.content.next().await?.is_some() {}
                Ok::<(), FilesError>(())
            };
            let ((), failed) = tokio::join!(told, failed);
            assert!(matches!(failed, Err(FilesError::Unreadable | FilesError::Broken(_))), "{what}: {failed:?}");
        });
    }
    run(async {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(&frame(Ok(FileReply::Entry(entry()))).repeat(3)).await.unwrap();
        let listed = files::list(ours, place(""), 1, 2).await;
        assert!(matches!(listed, Err(FilesError::Unreadable)), "more than was asked for");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn bytes_that_make_no_sense_leave_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        framed in any::<bool>(),
    ) {
        let ground = Ground::new();
        let workspace = std::fs::File::open(&ground.workspace).unwrap();
        let (mut ours, socket) = std::os::unix::net::UnixStream::pair().unwrap();
        let prefix = if framed { u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec() } else { Vec::new() };
        ours.write_all(&[prefix, bytes.clone()].concat()).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let code = serve_files(workspace.as_fd(), socket);
        prop_assert!(code <= 2);
        let mut answer = Vec::new();
        drop(ours.read_to_end(&mut answer));
        // What is a request by chance may be served: one that makes something says so itself.
        let lucky = matches!(
            postcard::from_bytes::<FileRequest>(&bytes),
            Ok(FileRequest::Mkdir { .. } | FileRequest::Write { append: true, .. } | FileRequest::Extract { .. })
        );
        prop_assert!(lucky || ground.names("").is_empty());
    }

    #[test]
    fn no_answer_makes_the_client_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        run(async {
            let (ours, mut theirs) = tokio::io::duplex(1 << 12);
            theirs.write_all(&bytes).await.unwrap();
            theirs.shutdown().await.unwrap();
            if let Ok(mut read) = files::read(ours, path("f"), Span::Last(5)).await {
                while let Ok(Some(_)) = read.content.next().await {}
            }
        });
    }
}

#[test]
fn a_port_is_reached_and_a_closed_one_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ask = |port: u16| {
        let (mut ours, socket) = std::os::unix::net::UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            codesandbox::sys::seccomp::no_new_privileges().unwrap();
            let filter = codesandbox::jail::filter::Filter::of_worker().unwrap();
            codesandbox::sys::seccomp::install_plain(filter.program()).unwrap();
            serve_connect(socket)
        });
        ours.write_all(&port.to_le_bytes()).unwrap();
        let mut answer = [0; 16];
        let message = codesandbox::sys::socket::receive(ours.as_fd(), &mut answer).unwrap();
        (answer[..message.length].to_vec(), message.descriptors, thread.join().unwrap())
    };
    let (answer, mut descriptors, code) = ask(port);
    assert_eq!((answer, descriptors.len(), code), (vec![0], 1, 0));
    let connection = std::net::TcpStream::from(descriptors.pop().unwrap());
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.write_all(b"hello").unwrap();
    connection.set_nonblocking(false).unwrap();
    let mut hello = [0; 5];
    (&connection).read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    drop(listener);
    let (answer, descriptors, code) = ask(port);
    let refused = [[1].as_slice(), &libc::ECONNREFUSED.to_le_bytes()].concat();
    assert_eq!((answer, descriptors.len(), code), (refused, 0, 1));
}
