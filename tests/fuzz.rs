//! Bytes that make no sense, for whoever reads bytes: the launcher's protocol, init's files, and
//! what comes out of the pipe of handed out files. Inputs that once failed stay in
//! `proptest-regressions/`.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::os::fd::{AsFd, OwnedFd};

use codesandbox::jail::init::{Command, Report};
use codesandbox::launcher::protocol::{Opening, Reach, Reply, Request};
use codesandbox::plan::{Archive, Cause, FilePath, Found, Mark, Spec, Wanted};
use codesandbox::profile::{BUILT_IN, Profile};
use codesandbox::sys::{fs, socket};
use common::Service;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_reader_of_messages_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        // Whatever is read is within the types' own rules: a path that was read never leaves.
        prop_assert!(postcard::from_bytes::<Archive>(&bytes).is_ok_and(leaves).eq(&false));
        drop((
            postcard::from_bytes::<Request>(&bytes),
            postcard::from_bytes::<Reply>(&bytes),
            postcard::from_bytes::<Command>(&bytes),
            postcard::from_bytes::<Report>(&bytes),
            Spec::decode(&bytes),
            Mark::read_all(&bytes),
            postcard::from_bytes::<Wanted>(&bytes),
            postcard::from_bytes::<Found>(&bytes),
        ));
    }

    #[test]
    fn a_path_that_is_accepted_stays_below_its_start(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(path) = FilePath::try_from(bytes) {
            let path = path.as_bytes();
            prop_assert!(!path.is_empty() && path[0] != b'/' && !path.contains(&0));
            prop_assert!(path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b"..")));
        }
    }
}

fn leaves(archive: Archive) -> bool {
    archive.files.iter().any(|file| file.path.as_bytes().split(|byte| *byte == b'/').any(|part| part == b".."))
}

/// A request of the launcher's protocol, sensible or not.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let profile: Profile = toml::from_str(BUILT_IN.iter().find(|(name, _)| *name == "default").unwrap().1).unwrap();
    let lease = 0..4u64;
    let names = prop::sample::select(vec!["bash", "default", "", "nobody", "../../etc/passwd", "\0"]);
    // What is given comes with a memory file, which is not there.
    let reach = prop::sample::select(vec![Reach::AsProfile, Reach::Given, Reach::Nothing]);
    let sensible = prop_oneof![
        (lease.clone(), names.clone(), names, any::<u64>(), any::<[bool; 3]>(), reach).prop_map(
            |(lease, runtime, profile, size, [warm, fresh, renewable], reach)| Request::Open {
                lease,
                sandbox: Opening {
                    runtime: runtime.to_owned(),
                    profile: profile.to_owned(),
                    disk_bytes: size,
                    disk_files: size,
                    warm,
                    fresh,
                    renewable,
                    trees: Vec::new(),
                    installer: None,
                },
                reach,
            }
        ),
        lease.clone().prop_map(move |lease| Request::Execute { lease, limits: profile.run }),
        lease.clone().prop_map(move |lease| Request::Execute { lease, limits: profile.maximum }),
        lease.clone().prop_map(|lease| Request::Kill { lease, cause: Cause::Output }),
        lease.clone().prop_map(|lease| Request::Collect { lease }),
        lease.clone().prop_map(|lease| Request::Renew { lease }),
        lease.prop_map(|lease| Request::Close { lease }),
    ];
    prop_oneof![
        4 => sensible.prop_map(|request| postcard::to_allocvec(&request).unwrap()),
        1 => prop::collection::vec(any::<u8>(), 1..256),
    ]
}

/// Messages with descriptors of files that hold anything: the launcher may hang up, must not end,
/// and gives everything back.
#[test]
fn the_launcher_survives_a_daemon_that_was_taken_over() {
    let service = Service::start();
    let launcher = service.launcher_pid();
    let path = service.socket().with_file_name("launcher.sock");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(150));
    let message = (requests(), 0..=4usize, prop::collection::vec(any::<u8>(), 0..64));
    runner
        .run(&prop::collection::vec(message, 1..12), |messages| {
            let connection = socket::connect_seqpacket(&path).unwrap();
            for (bytes, count, content) in messages {
                let file: OwnedFd = fs::sealed_memory(c"anything", &content).unwrap();
                let descriptors = vec![file.as_fd(); count];
                // The error is that the launcher has hung up, as it may.
                if socket::send(connection.as_fd(), &bytes, &descriptors).is_err() {
                    break;
                }
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(service.launcher_pid(), launcher, "it is the same process");
    service.assert_no_sandbox();
    let result = service.run_source("bash", "echo fine");
    assert_eq!(result["run"]["stdout"], "fine\n", "{result:#}");
}
