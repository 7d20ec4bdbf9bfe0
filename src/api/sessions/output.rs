//! What a program of a session prints, as a stream of events: from any sequence number, and for as long as it runs.

use axum::response::Response;
use futures_util::future::BoxFuture;
use futures_util::stream;

use super::answer;
use super::asked::{Asked, Problems, problem};
use super::execs::Hold;
use super::wire::{ExecEvent, ExecResponse};
use crate::api::answer::denied;
use crate::api::events::{Characters, answer_in_pieces, encode_as};
use crate::api::negotiate::{self, Form};
use crate::api::problem::{Kind, Problem};
use crate::api::wire::Encoding;
use crate::session::Attachment;
use crate::session::types::{From, Happening, Stream};

/// Tells what a program has printed, and with `follow=true` what it prints until its end.
#[utoipa::path(get, path = "/v1/sessions/{id}/execs/{exec}/output",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("exec" = u64, Path, description = "The program's id"),
        ("stdout" = Option<u64>, Query, description = "Sequence number to begin at; the first byte that is kept where absent"),
        ("stderr" = Option<u64>, Query, description = "The same in standard error"),
        ("follow" = Option<bool>, Query, description = "Whether to wait for what is not printed yet; false where absent"),
    ),
    responses(
        (status = 200, description = "Events", content(
            (ExecEvent = "application/x-ndjson"), (ExecEvent = "text/event-stream"))),
        (status = 406, description = "No acceptable form", body = crate::api::problem::ProblemDetails, content_type = "application/problem+json"),
        Problems))]
pub async fn output(asked: Asked) -> Result<Response, Problem> {
    let form = negotiate::stream_form(&asked.headers)?;
    let exec = asked.exec()?;
    let query = asked.query(&["stdout", "stderr", "follow"])?;
    let from = From { stdout: query.number("stdout")?, stderr: query.number("stderr")?, follow: query.flag("follow")? };
    let attachment = asked.sessions.follow(asked.client(), asked.id(), exec, from).await.map_err(problem)?;
    Ok(Followed::new(&asked, exec, attachment).response(None, form))
}

/// A program that somebody follows.
pub(super) struct Followed {
    asked: Asked,
    exec: u64,
    attachment: Attachment,
    stopping: BoxFuture<'static, ()>,
    writer: Writer,
    hold: Option<Hold>,
}

impl Followed {
    pub(super) fn new(asked: &Asked, exec: u64, attachment: Attachment) -> Self {
        Self {
            asked: asked.clone(),
            exec,
            attachment,
            stopping: Box::pin(asked.connection.stopping()),
            writer: Writer::default(),
            hold: None,
        }
    }

    /// The same, with a hold on the program that is let go when its end has been told.
    pub(super) fn holding(self, hold: Hold) -> Self {
        Self { hold: Some(hold), ..self }
    }

    /// An answer that goes on for as long as there is something to tell.
    pub(super) fn response(self, started: Option<ExecResponse>, form: Form) -> Response {
        let first = started.map(|exec| ExecEvent::Started { exec: Box::new(exec) });
        let events = stream::unfold((Some(self), first), move |(followed, first)| async move {
            let mut followed = followed?;
            let (events, is_last) = match first {
                Some(first) => (vec![first], false),
                None => followed.next().await,
            };
            let mut chunk = Vec::new();
            for event in &events {
                encode_as(&mut chunk, name(event), event, form);
            }
            Some((chunk, ((!is_last).then_some(followed), None)))
        });
        answer_in_pieces(events, form)
    }

    /// What to tell next, which is never nothing, and whether it is the last.
    async fn next(&mut self) -> (Vec<ExecEvent>, bool) {
        loop {
            let happening = tokio::select! {
                // A program that prints without end must not keep the service from its own.
                biased;
                () = &mut self.stopping => Some(Happening::End),
                happening = self.attachment.next() => happening,
            };
            let is_last =
                !matches!(happening, Some(Happening::Output { .. } | Happening::Gap { .. } | Happening::Denied(_)));
            let events = match happening {
                Some(happening) => {
                    // Neither an end nor a stop of the service is a client that hung up.
                    if let Some(hold) = self.hold.take_if(|_| is_last) {
                        hold.release();
                    }
                    self.writer.write(happening)
                }
                None => {
                    let mut events = self.writer.rest();
                    let problem = broken_off(&self.asked, self.exec).await;
                    events.push(ExecEvent::Failed { problem: Box::new(problem.details()) });
                    events
                }
            };
            if is_last || !events.is_empty() {
                return (events, is_last);
            }
        }
    }
}

/// Why nothing more can be told of a program, though it has not ended.
async fn broken_off(asked: &Asked, exec: u64) -> Problem {
    match asked.sessions.exec_view(asked.client(), asked.id(), exec).await {
        Ok(_) => Problem::new(Kind::Internal, "the program's output can no longer be followed"),
        Err(error) => problem(error),
    }
}

fn name(event: &ExecEvent) -> &'static str {
    match event {
        ExecEvent::Started { .. } => "started",
        ExecEvent::Output { .. } => "output",
        ExecEvent::Gap { .. } => "gap",
        ExecEvent::Denied { .. } => "denied",
        ExecEvent::Finished { .. } => "finished",
        ExecEvent::End => "end",
        ExecEvent::Failed { .. } => "failed",
    }
}

/// Turns what happens into events for the client.
#[derive(Debug, Default)]
struct Writer {
    stdout: Text,
    stderr: Text,
}

impl Writer {
    fn write(&mut self, happening: Happening) -> Vec<ExecEvent> {
        match happening {
            Happening::Output { stream, sequence, bytes } => {
                self.of(stream).push(stream, sequence, &bytes).into_iter().collect()
            }
            Happening::Gap { stream, from, to } => {
                let rest = self.of(stream).finish(stream);
                let gap = ExecEvent::Gap { stream: stream.name().to_owned(), from, to };
                rest.into_iter().chain([gap]).collect()
            }
            Happening::Denied(flows) if flows.is_empty() => Vec::new(),
            Happening::Denied(flows) => vec![ExecEvent::Denied { denied: denied(vec![], flows) }],
            Happening::Finished(result) => {
                let mut events = self.rest();
                events.push(ExecEvent::Finished { result: Box::new(answer::result(*result)) });
                events
            }
            Happening::End => {
                let mut events = self.rest();
                events.push(ExecEvent::End);
                events
            }
        }
    }

    /// What was printed last and has not been sent.
    fn rest(&mut self) -> Vec<ExecEvent> {
        let stdout = self.stdout.finish(Stream::Stdout);
        stdout.into_iter().chain(self.stderr.finish(Stream::Stderr)).collect()
    }

    fn of(&mut self, stream: Stream) -> &mut Text {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// One stream, in pieces that are whole characters.
#[derive(Debug, Default)]
struct Text {
    characters: Characters,
    /// Sequence number of the byte that comes next.
    next: u64,
}

impl Text {
    fn push(&mut self, stream: Stream, sequence: u64, bytes: &[u8]) -> Option<ExecEvent> {
        let begin = sequence - self.characters.held() as u64;
        self.next = sequence + bytes.len() as u64;
        self.characters.push(bytes).map(|piece| event(stream, begin, piece))
    }

    fn finish(&mut self, stream: Stream) -> Option<ExecEvent> {
        let begin = self.next - self.characters.held() as u64;
        self.characters.finish().map(|piece| event(stream, begin, piece))
    }
}

fn event(stream: Stream, sequence: u64, (data, encoding): (String, Encoding)) -> ExecEvent {
    ExecEvent::Output { stream: stream.name().to_owned(), sequence, data, encoding }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn printed(stream: Stream, sequence: u64, bytes: &[u8]) -> Happening {
        Happening::Output { stream, sequence, bytes: Bytes::copy_from_slice(bytes) }
    }

    fn told(events: &[ExecEvent]) -> serde_json::Value {
        serde_json::to_value(events).unwrap()
    }

    fn result() -> Box<crate::session::types::ExecResult> {
        Box::new(crate::session::types::ExecResult {
            status: crate::job::Status::WallTimeExceeded,
            exit_code: None,
            signal: Some(9),
            reason: Some("more than 5 ms by the clock".to_owned()),
            denied: vec![],
            flows: vec![],
            network_error: None,
            usage: crate::job::Usage::default(),
        })
    }

    #[test]
    fn events_have_the_documented_shape() {
        let mut writer = Writer::default();
        assert_eq!(
            told(&writer.write(printed(Stream::Stdout, 7, b"hi\n"))),
            serde_json::json!([
                { "event": "output", "stream": "stdout", "sequence": 7, "data": "hi\n", "encoding": "utf-8" }
            ])
        );
        assert_eq!(
            told(&writer.write(printed(Stream::Stderr, 0, b"\xff"))),
            serde_json::json!([
                { "event": "output", "stream": "stderr", "sequence": 0, "data": "/w==", "encoding": "base64" }
            ])
        );
        assert_eq!(
            told(&writer.write(Happening::Gap { stream: Stream::Stdout, from: 10, to: 20 })),
            serde_json::json!([{ "event": "gap", "stream": "stdout", "from": 10, "to": 20 }])
        );
        let flow = crate::api::answer::tests::flow();
        assert_eq!(
            told(&writer.write(Happening::Denied(vec![flow.clone()]))),
            serde_json::json!([{ "event": "denied", "denied": [flow] }])
        );
        assert!(writer.write(Happening::Denied(vec![])).is_empty());
        assert_eq!(told(&writer.write(Happening::End)), serde_json::json!([{ "event": "end" }]));
        let finished = told(&writer.write(Happening::Finished(result())));
        assert_eq!(finished[0]["event"], "finished");
        let result = &finished[0]["result"];
        assert_eq!((&result["status"], &result["limit"]), (&"wall_time_exceeded".into(), &"wall_time_ms".into()));
        assert_eq!((&result["signal"], result.get("stdout")), (&"SIGKILL".into(), None));
    }

    #[test]
    fn a_character_in_two_pieces_has_the_number_of_its_first_byte() {
        let mut writer = Writer::default();
        assert!(writer.write(printed(Stream::Stdout, 5, b"\xe2\x82")).is_empty());
        let events = writer.write(printed(Stream::Stdout, 7, b"\xac!"));
        assert_eq!(told(&events)[0]["sequence"], 5);
        assert_eq!(told(&events)[0]["data"], "€!");
    }

    #[test]
    fn half_a_character_is_told_before_a_gap() {
        let mut writer = Writer::default();
        assert!(writer.write(printed(Stream::Stdout, 5, b"\xe2\x82")).is_empty());
        let events = told(&writer.write(Happening::Gap { stream: Stream::Stdout, from: 7, to: 100 }));
        assert_eq!((&events[0]["sequence"], &events[0]["encoding"]), (&5.into(), &"base64".into()));
        assert_eq!(events[1]["event"], "gap");
        assert_eq!(told(&writer.write(printed(Stream::Stdout, 100, b"x")))[0]["sequence"], 100);
    }

    #[test]
    fn every_event_can_be_read_back_and_is_one_line() {
        let mut writer = Writer::default();
        for happening in [
            printed(Stream::Stdout, 0, b"a\nb\r\n"),
            Happening::Gap { stream: Stream::Stderr, from: 0, to: 1 },
            Happening::Denied(vec![crate::api::answer::tests::flow()]),
            Happening::Finished(result()),
            Happening::End,
        ] {
            for event in writer.write(happening) {
                let mut line = Vec::new();
                encode_as(&mut line, name(&event), &event, Form::Lines);
                assert_eq!(serde_json::from_slice::<ExecEvent>(&line).unwrap(), event);
                assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
                assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap()["event"], name(&event));
                let mut sent = Vec::new();
                encode_as(&mut sent, name(&event), &event, Form::ServerSent);
                assert!(sent.starts_with(format!("event: {}\ndata: {{", name(&event)).as_bytes()));
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_count_bytes(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..8), 0..20)) {
            let mut writer = Writer::default();
            let (mut events, mut sequence) = (Vec::new(), 3);
            for piece in &pieces {
                events.extend(writer.write(printed(Stream::Stdout, sequence, piece)));
                sequence += piece.len() as u64;
            }
            events.extend(writer.write(Happening::End));
            let mut expected = 3;
            for event in events {
                if let ExecEvent::Output { sequence, data, encoding, .. } = event {
                    prop_assert_eq!(sequence, expected);
                    expected += match encoding {
                        Encoding::Utf8 => data.len(),
                        Encoding::Base64 => STANDARD.decode(data).unwrap().len(),
                    } as u64;
                }
            }
            prop_assert_eq!(expected, sequence);
        }
    }
}
