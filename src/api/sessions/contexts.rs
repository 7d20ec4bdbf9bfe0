//! Contexts of a session: interpreters that keep their variables from one piece of code to the next.

use axum::body::Body;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use hyper::StatusCode;
use tokio::sync::mpsc;

use super::asked::{Asked, Problems, json, nothing, problem};
use super::wire::{
    ContextEvent, ContextRequest, ContextResponse, ContextsResponse, ExecuteRequest, ExecuteResponse, Forms,
};
use super::{answer, check};
use crate::api::events::{answer_in_pieces, encode_as};
use crate::api::negotiate::{self, Form};
use crate::api::problem::{Problem, ProblemDetails};
use crate::session::kernel::{Ended, Message};
use crate::session::types::SessionError;

/// Most bytes of what a piece of code says that one answer tells.
const SAID_BYTES: usize = 8 << 20;

/// Makes a context.
#[utoipa::path(post, path = "/v1/sessions/{id}/contexts", params(("id" = String, Path, description = "The session's id")),
    request_body = ContextRequest,
    responses((status = 201, description = "The context", body = ContextResponse), Problems))]
pub async fn create(asked: Asked, body: Body) -> Result<Response, Problem> {
    let request: ContextRequest = asked.json(body).await?;
    let view = asked.sessions.find(asked.client(), asked.id()).map_err(problem)?;
    let (language, program) = check::context(&request, &view, &asked.state.runtimes())?;
    let made = |asked: Asked| async move {
        asked.sessions.create_context(asked.client(), asked.id(), &language, &program).await
    };
    Ok(json(StatusCode::CREATED, &answer::context(asked.whole(made).await?)))
}

/// Lists the contexts of a session.
#[utoipa::path(get, path = "/v1/sessions/{id}/contexts", params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "The contexts, oldest first", body = ContextsResponse), Problems))]
pub async fn list(asked: Asked) -> Result<Response, Problem> {
    let views = asked.sessions.contexts(asked.client(), asked.id()).await.map_err(problem)?;
    let contexts = views.into_iter().map(answer::context).collect();
    Ok(json(StatusCode::OK, &ContextsResponse { contexts }))
}

/// Ends a context.
#[utoipa::path(delete, path = "/v1/sessions/{id}/contexts/{context}",
    params(("id" = String, Path, description = "The session's id"), ("context" = u64, Path, description = "The context's id")),
    responses((status = 204, description = "It is gone"), Problems))]
pub async fn remove(asked: Asked) -> Result<Response, Problem> {
    let context = number(&asked)?;
    let removed =
        |asked: Asked| async move { asked.sessions.delete_context(asked.client(), asked.id(), context).await };
    asked.whole(removed).await?;
    Ok(nothing())
}

/// Executes code in a context, and answers when it has ended, or streams what it says.
///
/// The header `Accept` chooses as in `POST /v1/run`. Closing the connection leaves the code alone.
#[utoipa::path(post, path = "/v1/sessions/{id}/contexts/{context}/execute",
    params(("id" = String, Path, description = "The session's id"), ("context" = u64, Path, description = "The context's id")),
    request_body = ExecuteRequest,
    responses(
        (status = 200, description = "What the code said", content(
            (ExecuteResponse = "application/json"), (ContextEvent = "application/x-ndjson"), (ContextEvent = "text/event-stream"))),
        (status = 406, description = "No acceptable form", body = ProblemDetails, content_type = "application/problem+json"),
        Problems))]
pub async fn execute(asked: Asked, body: Body) -> Result<Response, Problem> {
    let form = negotiate::form(&asked.headers)?;
    let context = number(&asked)?;
    let ExecuteRequest { code } = asked.json(body).await?;
    let messages =
        |asked: Asked| async move { asked.sessions.execute(asked.client(), asked.id(), context, code).await };
    let messages = asked.whole(messages).await?;
    if form != Form::Single {
        let events = events(messages, form);
        return Ok(answer_in_pieces(events.take_until(asked.connection.stopping()), form));
    }
    tokio::select! {
        biased;
        answer = gathered(messages) => Ok(json(StatusCode::OK, &answer)),
        () = asked.connection.stopping() => Err(problem(SessionError::Stopping)),
    }
}

/// Interrupts the code that a context executes.
#[utoipa::path(post, path = "/v1/sessions/{id}/contexts/{context}/interrupt",
    params(("id" = String, Path, description = "The session's id"), ("context" = u64, Path, description = "The context's id")),
    responses((status = 204, description = "It is interrupted, or executed nothing"), Problems))]
pub async fn interrupt(asked: Asked) -> Result<Response, Problem> {
    let context = number(&asked)?;
    asked.sessions.interrupt_context(asked.client(), asked.id(), context).await.map_err(problem)?;
    Ok(nothing())
}

/// Ends a context's interpreter and starts another; its variables are gone.
#[utoipa::path(post, path = "/v1/sessions/{id}/contexts/{context}/restart",
    params(("id" = String, Path, description = "The session's id"), ("context" = u64, Path, description = "The context's id")),
    responses((status = 200, description = "The context", body = ContextResponse), Problems))]
pub async fn restart(asked: Asked) -> Result<Response, Problem> {
    let context = number(&asked)?;
    let restarted =
        |asked: Asked| async move { asked.sessions.restart_context(asked.client(), asked.id(), context).await };
    Ok(json(StatusCode::OK, &answer::context(asked.whole(restarted).await?)))
}

fn number(asked: &Asked) -> Result<u64, Problem> {
    asked.number("context", SessionError::UnknownContext)
}

/// What a context says, as a stream.
fn events(messages: mpsc::Receiver<Message>, form: Form) -> impl futures_util::Stream<Item = Vec<u8>> + Send + 'static {
    stream::unfold(Some(messages), move |messages| async move {
        let mut messages = messages?;
        let (event, is_last) = match messages.recv().await {
            Some(Message::Output(output)) => (answer::output(output), false),
            Some(Message::Idle(ended)) => (finished(Some(ended)), true),
            None => (finished(None), true),
        };
        let mut chunk = Vec::new();
        encode_as(&mut chunk, name(&event), &event, form);
        Some((chunk, (!is_last).then_some(messages)))
    })
}

fn finished(ended: Option<Ended>) -> ContextEvent {
    let (status, execution_count) = answer::ending(ended);
    ContextEvent::Finished { status, execution_count }
}

/// All that a context says, in one answer.
async fn gathered(mut messages: mpsc::Receiver<Message>) -> ExecuteResponse {
    let (mut outputs, mut left, mut truncated) = (Vec::new(), SAID_BYTES, false);
    let ended = loop {
        match messages.recv().await {
            Some(Message::Output(output)) => {
                let output = answer::output(output);
                match left.checked_sub(size(&output)) {
                    Some(rest) if !truncated => {
                        left = rest;
                        push(&mut outputs, output);
                    }
                    _ => truncated = true,
                }
            }
            Some(Message::Idle(ended)) => break Some(ended),
            None => break None,
        }
    };
    let (status, execution_count) = answer::ending(ended);
    ExecuteResponse { status, execution_count, outputs, truncated }
}

/// Adds an output; text that goes on is one with that before it.
fn push(outputs: &mut Vec<ContextEvent>, output: ContextEvent) {
    if let (Some(ContextEvent::Stream { name: last, text }), ContextEvent::Stream { name, text: more }) =
        (outputs.last_mut(), &output)
        && last == name
    {
        text.push_str(more);
    } else {
        outputs.push(output);
    }
}

/// About how many bytes an output takes; none takes nothing, so that their number is limited too.
fn size(output: &ContextEvent) -> usize {
    const HEAD: usize = 64;
    let forms = |forms: &Forms| serde_json::to_vec(forms).map_or(SAID_BYTES, |json| json.len());
    HEAD + match output {
        ContextEvent::Stream { text, .. } => text.len(),
        ContextEvent::DisplayData { data, metadata } | ContextEvent::ExecuteResult { data, metadata, .. } => {
            forms(data) + forms(metadata)
        }
        ContextEvent::Error { ename, evalue, traceback } => {
            ename.len() + evalue.len() + traceback.iter().map(String::len).sum::<usize>()
        }
        ContextEvent::Finished { .. } => 0,
    }
}

fn name(event: &ContextEvent) -> &'static str {
    match event {
        ContextEvent::Stream { .. } => "stream",
        ContextEvent::DisplayData { .. } => "display_data",
        ContextEvent::ExecuteResult { .. } => "execute_result",
        ContextEvent::Error { .. } => "error",
        ContextEvent::Finished { .. } => "finished",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::kernel::{Output, StreamName};

    async fn said(messages: Vec<Message>) -> mpsc::Receiver<Message> {
        let (sender, receiver) = mpsc::channel(messages.len().max(1));
        for message in messages {
            sender.send(message).await.unwrap();
        }
        receiver
    }

    fn printed(text: &str) -> Message {
        Message::Output(Output::Stream { name: StreamName::Stdout, text: text.to_owned() })
    }

    fn idle(ok: bool, interrupted: bool) -> Message {
        Message::Idle(Ended { ok, interrupted, execution_count: 3 })
    }

    #[tokio::test]
    async fn what_was_printed_in_pieces_is_one_output() {
        let data = Forms::from_iter([("text/plain".to_owned(), "42".into())]);
        let value = Message::Output(Output::ExecuteResult { data, metadata: Forms::new(), execution_count: 3 });
        let messages = vec![printed("a"), printed("b\n"), value, printed("c"), idle(true, false)];
        assert_eq!(
            serde_json::to_value(gathered(said(messages).await).await).unwrap(),
            serde_json::json!({
                "status": "ok", "execution_count": 3, "truncated": false,
                "outputs": [
                    { "event": "stream", "name": "stdout", "text": "ab\n" },
                    { "event": "execute_result", "data": { "text/plain": "42" }, "metadata": {}, "execution_count": 3 },
                    { "event": "stream", "name": "stdout", "text": "c" },
                ],
            })
        );
    }

    #[tokio::test]
    async fn more_than_an_answer_tells_is_left_out() {
        let messages = vec![printed(&"x".repeat(SAID_BYTES)), printed("y"), idle(true, false)];
        let answer = gathered(said(messages).await).await;
        assert!(answer.truncated && answer.outputs.is_empty());
    }

    #[tokio::test]
    async fn how_code_ends_is_told() {
        for (messages, status) in [
            (vec![idle(true, false)], "ok"),
            (vec![idle(false, false)], "error"),
            (vec![idle(false, true)], "interrupted"),
            (vec![printed("a")], "dead"),
        ] {
            assert_eq!(gathered(said(messages.clone()).await).await.status, status);
            let chunks: Vec<Vec<u8>> = events(said(messages).await, Form::Lines).collect().await;
            let last: serde_json::Value = serde_json::from_slice(chunks.last().unwrap()).unwrap();
            assert_eq!((&last["event"], &last["status"]), (&"finished".into(), &status.into()));
        }
    }

    #[tokio::test]
    async fn every_message_is_an_event_of_its_name() {
        let error = Output::Error { ename: "E".into(), evalue: "v".into(), traceback: vec!["a\nb".into()] };
        let display = Output::DisplayData { data: Forms::new(), metadata: Forms::new() };
        let messages = vec![printed("a"), Message::Output(display), Message::Output(error), idle(true, false)];
        let chunks: Vec<Vec<u8>> = events(said(messages).await, Form::ServerSent).collect().await;
        let names: Vec<&str> =
            chunks.iter().map(|chunk| str::from_utf8(chunk).unwrap().lines().next().unwrap()).collect();
        assert_eq!(names, ["event: stream", "event: display_data", "event: error", "event: finished"]);
    }
}
