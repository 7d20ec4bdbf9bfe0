//! A run as a stream of events: NDJSON or server-sent events.

use axum::body::{Body, Bytes};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, stream};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use crate::job::{Event, Stage, text};
use crate::scheduler::Fault;

use super::answer::{self, About};
use super::negotiate::Form;
use super::problem::{JOB_HEADER, Problem, job_header};
use super::run::Followed;
use super::wire::{Encoding, Output, StreamEvent};

/// An answer that goes on for as long as the job. `first` has already happened.
pub(super) fn response(followed: Followed, first: Event, form: Form) -> Response {
    let id = job_header(&followed.about.id);
    let writer = Writer::new(followed.about.clone());
    let events = stream::unfold(Some((followed, writer, Some(first))), move |state| async move {
        let (mut followed, mut writer, mut pending) = state?;
        loop {
            let happened = match pending.take() {
                Some(event) => Ok(event),
                None => followed.next().await,
            };
            let is_last = matches!(happened, Err(_) | Ok(Event::Finished(_)));
            let mut chunk = Vec::new();
            for event in writer.write(happened) {
                encode(&mut chunk, &event, form);
            }
            if is_last {
                return Some((chunk, None));
            }
            if !chunk.is_empty() {
                return Some((chunk, Some((followed, writer, None))));
            }
        }
    });
    let mut response = answer_in_pieces(events, form);
    response.headers_mut().insert(JOB_HEADER, id);
    response
}

/// An answer whose body comes as it happens.
pub(super) fn answer_in_pieces(chunks: impl Stream<Item = Vec<u8>> + Send + 'static, form: Form) -> Response {
    let body = futures_util::StreamExt::map(chunks, |chunk| Ok::<_, std::convert::Infallible>(Bytes::from(chunk)));
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn encode(to: &mut Vec<u8>, event: &StreamEvent, form: Form) {
    encode_as(to, name(event), event, form);
}

/// Writes an event down in the form of a stream.
pub(super) fn encode_as(to: &mut Vec<u8>, name: &str, event: &impl Serialize, form: Form) {
    let json = serde_json::to_vec(event).expect("an event has only text keys");
    if form == Form::ServerSent {
        to.extend_from_slice(b"event: ");
        to.extend_from_slice(name.as_bytes());
        to.extend_from_slice(b"\ndata: ");
        to.extend_from_slice(&json);
        to.extend_from_slice(b"\n\n");
    } else {
        to.extend_from_slice(&json);
        to.push(b'\n');
    }
}

fn name(event: &StreamEvent) -> &'static str {
    match event {
        StreamEvent::Started { .. } => "started",
        StreamEvent::Stage { .. } => "stage",
        StreamEvent::Stdout(_) => "stdout",
        StreamEvent::Stderr(_) => "stderr",
        StreamEvent::Denied { .. } => "denied",
        StreamEvent::Case { .. } => "case",
        StreamEvent::Finished(_) => "finished",
        StreamEvent::Failed { .. } => "failed",
    }
}

/// Turns what happens into events for the client.
#[derive(Debug)]
pub(super) struct Writer {
    about: About,
    stage: Stage,
    stdout: Characters,
    stderr: Characters,
}

impl Writer {
    pub(super) fn new(about: About) -> Self {
        Self { about, stage: Stage::Run, stdout: Characters::default(), stderr: Characters::default() }
    }

    pub(super) fn write(&mut self, happened: Result<Event, Fault>) -> Vec<StreamEvent> {
        let id = self.about.id.to_string();
        let stage = self.stage;
        let output = |(data, encoding)| Output { id: id.clone(), stage, data, encoding };
        match happened {
            Ok(Event::Started) => vec![StreamEvent::Started { id }],
            Ok(Event::Stdout(bytes)) => {
                self.stdout.push(&bytes).into_iter().map(|piece| StreamEvent::Stdout(output(piece))).collect()
            }
            Ok(Event::Stderr(bytes)) => {
                self.stderr.push(&bytes).into_iter().map(|piece| StreamEvent::Stderr(output(piece))).collect()
            }
            Ok(Event::Denied(flows)) if flows.is_empty() => Vec::new(),
            Ok(Event::Denied(flows)) => vec![StreamEvent::Denied { id, stage, denied: answer::denied(vec![], flows) }],
            Ok(Event::Stage(next)) => self.begin(next, (next != Stage::Run).then_some(false)),
            Ok(Event::Cached(stage)) => self.begin(stage, Some(true)),
            Ok(Event::Finished(outcome)) => {
                let mut events = self.rest();
                events.push(StreamEvent::Finished(Box::new(answer::response(&self.about, *outcome))));
                events
            }
            Err(fault) => {
                let mut events = self.rest();
                let problem = Problem::from(&fault).of_job(&self.about.id);
                events.push(StreamEvent::Failed { id, problem: Box::new(problem.details()) });
                events
            }
        }
    }

    /// A stage begins; whether it is cached, where it is one that can be.
    fn begin(&mut self, stage: Stage, cached: Option<bool>) -> Vec<StreamEvent> {
        let mut events = self.rest();
        self.stage = stage;
        events.push(StreamEvent::Stage { id: self.about.id.to_string(), stage, cached });
        events
    }

    /// What a stage that is over printed last and has not been sent.
    fn rest(&mut self) -> Vec<StreamEvent> {
        let (id, stage) = (self.about.id.to_string(), self.stage);
        let output = |(data, encoding)| Output { id: id.clone(), stage, data, encoding };
        let stdout = self.stdout.finish().map(|piece| StreamEvent::Stdout(output(piece)));
        let stderr = self.stderr.finish().map(|piece| StreamEvent::Stderr(output(piece)));
        stdout.into_iter().chain(stderr).collect()
    }
}

/// Keeps characters whole: a pipe may cut one in two, and each half alone would be no text.
#[derive(Debug, Default)]
pub(super) struct Characters {
    /// The beginning of a character whose rest has not come yet; at most three bytes.
    held: Vec<u8>,
}

impl Characters {
    /// What can be sent now that these bytes have come.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<(String, Encoding)> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        self.held = all.split_off(text::whole(&all));
        (!all.is_empty()).then(|| answer::text(all))
    }

    /// How many bytes wait for the rest of their character.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// What is left when nothing more comes: half a character, and so no text.
    pub(super) fn finish(&mut self) -> Option<(String, Encoding)> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then(|| (STANDARD.encode(held), Encoding::Base64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded((data, encoding): (String, Encoding)) -> Vec<u8> {
        match encoding {
            Encoding::Utf8 => data.into_bytes(),
            Encoding::Base64 => STANDARD.decode(data).unwrap(),
        }
    }

    #[test]
    fn a_character_in_two_pieces_stays_text() {
        let mut characters = Characters::default();
        assert_eq!(characters.push(b"a\xe2\x82"), Some(("a".into(), Encoding::Utf8)));
        assert_eq!(characters.push(b"\xac!"), Some(("€!".into(), Encoding::Utf8)));
        assert_eq!(characters.push(b"\xf0"), None);
        assert_eq!(characters.finish(), Some(("8A==".into(), Encoding::Base64)));
        assert_eq!(characters.finish(), None);
    }

    #[test]
    fn what_is_no_text_is_sent_at_once() {
        let mut characters = Characters::default();
        assert_eq!(characters.push(b"\xff\xfea"), Some(("//5h".into(), Encoding::Base64)));
        assert_eq!(characters.push(b"b"), Some(("b".into(), Encoding::Utf8)));
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_moved(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..20)) {
            let mut characters = Characters::default();
            let mut sent: Vec<u8> = Vec::new();
            for piece in &pieces {
                sent.extend(characters.push(piece).map(decoded).unwrap_or_default());
                prop_assert!(characters.held.len() <= 3);
            }
            sent.extend(characters.finish().map(decoded).unwrap_or_default());
            prop_assert_eq!(sent, pieces.concat());
        }

        #[test]
        fn text_stays_text_wherever_it_is_cut(text in any::<String>(), size in 1_usize..5) {
            let mut characters = Characters::default();
            for piece in text.as_bytes().chunks(size) {
                if let Some((_, encoding)) = characters.push(piece) {
                    prop_assert_eq!(encoding, Encoding::Utf8);
                }
            }
            prop_assert_eq!(characters.finish(), None);
        }
    }

    #[test]
    fn half_a_character_does_not_reach_into_the_next_stage() {
        let mut writer = Writer::new(answer::tests::about());
        assert_eq!(writer.write(Ok(Event::Stage(Stage::Compile))).len(), 1);
        assert!(writer.write(Ok(Event::Stderr(vec![0xe2]))).is_empty());
        let events = writer.write(Ok(Event::Stage(Stage::Run)));
        let [StreamEvent::Stderr(output), StreamEvent::Stage { stage, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!((output.stage, output.encoding, *stage), (Stage::Compile, Encoding::Base64, Stage::Run));
    }

    #[test]
    fn a_compile_stage_tells_at_its_beginning_whether_it_is_cached() {
        let mut writer = Writer::new(answer::tests::about());
        for (event, tells) in [
            (Event::Stage(Stage::Compile), serde_json::json!({"event": "stage", "stage": "compile", "cached": false})),
            (Event::Cached(Stage::Compile), serde_json::json!({"event": "stage", "stage": "compile", "cached": true})),
            (Event::Stage(Stage::Run), serde_json::json!({"event": "stage", "stage": "run"})),
        ] {
            let mut told = serde_json::to_value(&writer.write(Ok(event))[0]).unwrap();
            told.as_object_mut().unwrap().remove("id");
            assert_eq!(told, tells);
        }
    }

    #[test]
    fn what_the_network_refuses_is_told_with_its_stage() {
        let mut writer = Writer::new(answer::tests::about());
        assert!(writer.write(Ok(Event::Denied(vec![]))).is_empty());
        writer.write(Ok(Event::Stage(Stage::Compile)));
        let mut told = serde_json::to_value(&writer.write(Ok(Event::Denied(vec![answer::tests::flow()])))[0]).unwrap();
        told.as_object_mut().unwrap().remove("id");
        let flow = serde_json::to_value(answer::tests::flow()).unwrap();
        assert_eq!(told, serde_json::json!({ "event": "denied", "stage": "compile", "denied": [flow] }));
    }

    #[test]
    fn every_event_can_be_read_back_and_is_one_line() {
        let about = answer::tests::about();
        let outcome = answer::tests::outcome(about.limits);
        let mut writer = Writer::new(about);
        for happened in [
            Ok(Event::Started),
            Ok(Event::Cached(Stage::Prepare)),
            Ok(Event::Stage(Stage::Run)),
            Ok(Event::Stdout(b"a\nb\r\n".to_vec())),
            Ok(Event::Stderr(vec![0xff])),
            Ok(Event::Denied(vec![answer::tests::flow()])),
            Ok(Event::Finished(Box::new(outcome))),
            Err(Fault::Internal("secret".into())),
        ] {
            for event in writer.write(happened) {
                let mut line = Vec::new();
                encode(&mut line, &event, Form::Lines);
                assert_eq!(serde_json::from_slice::<StreamEvent>(&line).unwrap(), event);
                assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
                let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
                assert_eq!(json["event"], name(&event));
                assert!(!String::from_utf8(line).unwrap().contains("secret"));
            }
        }
    }
}
