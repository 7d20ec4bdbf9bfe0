//! The typed client on a Unix socket: every call, against a daemon and a launcher as in service.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use codesandbox::api::checks::CheckRequest;
use codesandbox::api::sessions::files_wire::{DirectoryRequest, TransferRequest};
use codesandbox::api::sessions::wire::{
    ExecEvent, ExecRequest, ForkRequest, PromoteRequest, SessionChanges, SessionRequest, SignalName, SignalRequest,
    SnapshotRequest,
};
use codesandbox::api::wire::{FileRequest, RunRequest, StreamEvent};
use codesandbox::client::{Client, ClientError, Session};
use codesandbox::job::Status;
use common::{Service, wait_for};
use futures_util::TryStreamExt;

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn bash(source: &str) -> RunRequest {
    let file = FileRequest { content: Some(source.to_owned()), ..FileRequest::default() };
    RunRequest { runtime: "bash".to_owned(), files: vec![file], ..RunRequest::default() }
}

fn shell(line: &str) -> ExecRequest {
    ExecRequest { shell: Some(line.to_owned()), ..ExecRequest::default() }
}

async fn new_session(client: &Client) -> Session {
    let request = SessionRequest { runtime: Some("bash".to_owned()), ..SessionRequest::default() };
    client.session(&client.create_session(&request).await.unwrap().id)
}

#[test]
fn runs_are_answered_streamed_and_cancelled() {
    let service = Service::start();
    let client = Client::unix(service.socket());
    wait(async {
        let answer = client.run(&bash("echo hi; exit 3")).await.unwrap();
        assert_eq!((answer.status, answer.run.unwrap().stdout.as_str()), (Status::NonzeroExit, "hi\n"));

        let events: Vec<StreamEvent> =
            client.run_streamed(&bash("echo hi")).await.unwrap().into_stream().try_collect().await.unwrap();
        assert!(matches!(events.first(), Some(StreamEvent::Started { .. })), "{events:?}");
        assert!(matches!(events.last(), Some(StreamEvent::Finished(_))), "{events:?}");

        let mut events = client.run_streamed(&bash("echo hi; sleep 600")).await.unwrap();
        let mut ended = None;
        while let Some(event) = events.next().await.unwrap() {
            match event {
                StreamEvent::Stdout(output) => client.cancel(&output.id).await.unwrap(),
                StreamEvent::Finished(answer) => ended = Some(answer.status),
                _ => {}
            }
        }
        assert_eq!(ended, Some(Status::Cancelled));
    });
}

#[test]
fn events_that_nobody_wants_any_more_end_a_run_that_says_nothing() {
    let service = Service::start();
    let client = Client::unix(service.socket());
    wait(async {
        let mut events = client.run_streamed(&bash("sleep 600")).await.unwrap();
        while !matches!(events.next().await.unwrap().unwrap(), StreamEvent::Stage { .. }) {}
        assert_eq!(client.health().await.unwrap().running, 1);
        drop(events);
        let begun = std::time::Instant::now();
        while client.health().await.unwrap().running > 0 {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "it runs though nobody listens");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_refusal_tells_the_field_and_what_would_be_allowed() {
    let service = Service::start();
    let client = Client::unix(service.socket());
    let mut request = bash("true");
    request.limits = Some(Default::default());
    request.limits.as_mut().unwrap().processes = Some(100_000);
    let Err(ClientError::Refused(refusal)) = wait(client.run(&request)) else { panic!("it was not refused") };
    let problem = refusal.problem().unwrap();
    assert_eq!((refusal.status, problem.field.as_deref()), (422, Some("limits.processes")));
    assert!(problem.allowed.unwrap()["maximum"].is_u64());
    assert!(matches!(wait(client.cancel("no such run")), Err(ClientError::Refused(refusal)) if refusal.status == 404));
}

#[test]
fn what_there_is_can_be_asked_for() {
    let mut service = Service::start();
    let client = Client::unix(service.socket());
    wait(async {
        assert!(client.runtimes().await.unwrap().runtimes.iter().any(|runtime| runtime.language == "bash"));
        let one = CheckRequest { runtime: Some("bash".to_owned()) };
        assert_eq!(client.check(&one).await.unwrap().runtimes.len(), 1);
        assert!(client.profiles().await.unwrap().profiles.iter().any(|profile| profile.name == "default"));
        assert!(client.metrics().await.unwrap().contains("codesandbox_"));
        assert_eq!(client.health().await.unwrap().status, "ok");
    });
    service.kill_launcher();
    // An answer as well, though its status is 503.
    wait_for("the loss to be noticed", || wait(client.health()).unwrap().status == "unavailable");
    service.restart_launcher();
    wait_for("the launcher", || wait(client.health()).unwrap().status == "ok");
}

#[test]
fn a_session_lives_as_it_is_told() {
    let service = Service::start();
    let client = Client::unix(service.socket());
    wait(async {
        let session = new_session(&client).await;
        let labels = Some([("job".to_owned(), "42 & more".to_owned())].into());
        let changed = session.change(&SessionChanges { labels, ..SessionChanges::default() }).await.unwrap();
        let found = client.sessions(&[("job".to_owned(), "42 & more".to_owned())], None).await.unwrap();
        assert_eq!(found.sessions.iter().map(|one| &one.id).collect::<Vec<_>>(), [&changed.id]);
        assert!(client.sessions(&[], Some(&changed.id)).await.unwrap().sessions.is_empty());

        session.write_file("a file", b"one".to_vec()).await.unwrap();
        let kept = session.snapshot(&SnapshotRequest::default()).await.unwrap();
        session.write_file("a file", b"two".to_vec()).await.unwrap();
        let from = ForkRequest { snapshot: Some(kept.id), ..ForkRequest::default() };
        let fork = client.session(&session.fork(&from).await.unwrap().id);
        assert_eq!(fork.read_file("a file").await.unwrap(), "one");
        fork.delete().await.unwrap();
        session.rollback(kept.id).await.unwrap();
        assert_eq!(session.read_file("a file").await.unwrap(), "one");
        assert_eq!(session.snapshots().await.unwrap().snapshots.len(), 1);
        session.delete_snapshot(kept.id).await.unwrap();

        assert_eq!(session.pause().await.unwrap().status, "paused");
        assert_eq!(session.resume().await.unwrap().status, "active");
        assert!(session.promote(&PromoteRequest::default()).await.unwrap().persistent);
        assert_eq!(session.stop().await.unwrap().status, "stopped");
        assert!(!session.demote().await.is_ok_and(|session| session.persistent));
        session.delete().await.unwrap();
        assert!(matches!(session.show().await, Err(ClientError::Refused(refusal)) if refusal.status == 404));
    });
}

#[test]
fn programs_of_a_session_are_fed_followed_and_ended() {
    let service = Service::start();
    let client = Client::unix(service.socket());
    wait(async {
        let session = new_session(&client).await;
        let done = session.exec(&shell("echo out; echo err >&2")).await.unwrap().result.unwrap();
        assert_eq!((done.status, done.printed.unwrap().stderr.as_str()), (Status::Ok, "err\n"));

        let mut events = session.exec_streamed(&shell("echo out")).await.unwrap();
        let mut printed = String::new();
        while let Some(event) = events.next().await.unwrap() {
            if let ExecEvent::Output { data, .. } = event {
                printed.push_str(&data);
            }
        }
        assert_eq!(printed, "out\n");

        let cat = ExecRequest { detach: Some(true), keep_stdin: Some(true), ..shell("cat") };
        let exec = session.exec(&cat).await.unwrap().id;
        session.write_stdin(exec, b"fed".to_vec(), true).await.unwrap();
        let told: Vec<ExecEvent> = session.output(exec, true).await.unwrap().into_stream().try_collect().await.unwrap();
        assert!(told.iter().any(|event| matches!(event, ExecEvent::Output { data, .. } if data == "fed")), "{told:?}");
        assert!(session.show_exec(exec).await.unwrap().result.is_some());

        let sleep = session.exec(&ExecRequest { detach: Some(true), ..shell("sleep 600") }).await.unwrap().id;
        session.signal(sleep, &SignalRequest { signal: SignalName::Name("SIGTERM".to_owned()) }).await.unwrap();
        while session.show_exec(sleep).await.unwrap().result.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(session.execs().await.unwrap().execs.len(), 4);
        session.delete_exec(sleep).await.unwrap();
        assert_eq!(session.execs().await.unwrap().execs.len(), 3);
        session.delete().await.unwrap();
    });
}

#[test]
fn files_of_a_session_are_written_moved_and_removed() {
    let service = Service::start();
    let client = Client::unix(service.socket());
    wait(async {
        let session = new_session(&client).await;
        session.make_directory(&DirectoryRequest { path: "a/b".to_owned() }).await.unwrap();
        // Whatever a name has in it.
        let name = "a/b/x &?#=%20ä";
        session.write_file(name, vec![0, 255, b'\n']).await.unwrap();
        assert_eq!(session.read_file(name).await.unwrap(), vec![0, 255, b'\n']);
        assert_eq!(session.stat(name).await.unwrap().size, 3);
        let transfer =
            |from: &str, to: &str| TransferRequest { from: from.to_owned(), to: to.to_owned(), replace: None };
        session.copy_file(&transfer(name, "copy")).await.unwrap();
        session.move_file(&transfer("copy", "a/moved")).await.unwrap();
        let listed = session.list_files(Some("a"), 2).await.unwrap().entries;
        let paths: Vec<_> = listed.iter().filter_map(|entry| entry.path.as_deref()).collect();
        assert!(paths.contains(&"a/moved") && paths.contains(&name), "{paths:?}");
        assert!(
            matches!(session.remove_file("a", false).await, Err(ClientError::Refused(refusal)) if refusal.status == 409)
        );
        session.remove_file("a", true).await.unwrap();
        assert!(
            session.list_files(None, 1).await.unwrap().entries.iter().all(|entry| entry.path.as_deref() != Some("a"))
        );
        session.delete().await.unwrap();
    });
}

#[test]
fn uploaded_files_are_named_in_runs_listed_and_removed() {
    let service = Service::start();
    wait(async {
        let client = Client::unix(service.socket());
        let kept = client.upload(b"what is kept".to_vec()).await.unwrap();
        assert_eq!(kept.bytes, 12);
        let run = RunRequest { stdin_file: Some(kept.id.clone()), ..bash("cat") };
        assert_eq!(client.run(&run).await.unwrap().run.unwrap().stdout, "what is kept");
        let listed = client.uploads().await.unwrap().files;
        assert_eq!(listed.iter().map(|file| &file.id).collect::<Vec<_>>(), [&kept.id]);
        assert_eq!(client.uploaded(&kept.id).await.unwrap(), b"what is kept"[..]);
        client.remove_upload(&kept.id).await.unwrap();
        let gone = client.uploaded(&kept.id).await;
        assert!(matches!(gone, Err(ClientError::Refused(refusal)) if refusal.status == 404));
    });
}
