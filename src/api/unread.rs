//! Answers that wait for their reader: whoever asks for much and reads none of it fills its own share of memory, and
//! is answered no more.

use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::CONTENT_LENGTH;

use super::memory::Share;
use super::problem::Problem;
use super::{Client, State};

/// Answers up to this size are not counted, and larger ones are handed over in pieces of it.
const PIECE_BYTES: usize = 64 << 10;

/// Counts an answer that is there as a whole until its client has read it.
pub(super) async fn counted(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<Client>().cloned();
    let response = next.run(request).await;
    let size = response.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let (Some(bytes), Some(client)) = (size.filter(|bytes| *bytes > PIECE_BYTES), client) else {
        return response;
    };
    // Who was let in a moment ago and is no client any more has nothing to read.
    let quota = match client.quota(&state.config()) {
        Ok(quota) => quota,
        Err(problem) => return problem.into_response(),
    };
    let mut share = state.answers.share(&quota.client);
    if let Err(full) = share.take_whole(bytes) {
        return Problem::from(full).into_response();
    }
    let (mut head, body) = response.into_parts();
    // Nothing but a body that is there has an exact size.
    let Ok(whole) = body.collect().await else {
        return Problem::new(super::Kind::Internal, "the answer could not be written").into_response();
    };
    head.headers.entry(CONTENT_LENGTH).or_insert_with(|| bytes.into());
    Response::from_parts(head, Body::from_stream(pieces(whole.to_bytes(), share)))
}

/// Hands bytes over one piece after another; the share is given back with the last.
fn pieces(bytes: Bytes, share: Share) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::iter(std::iter::from_fn({
        let mut left = bytes;
        move || {
            let _ = &share;
            (!left.is_empty()).then(|| Ok(left.split_to(left.len().min(PIECE_BYTES))))
        }
    }))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::super::memory::Memory;
    use super::*;

    #[tokio::test]
    async fn memory_is_held_until_the_last_piece_is_taken() {
        let memory = Memory::new(1 << 20);
        let mut share = memory.share("one");
        share.take_whole(600_000).unwrap();
        let all: Vec<u8> = (0..300_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
        let mut pieces = Box::pin(pieces(all.clone().into(), share));
        let mut read = pieces.next().await.unwrap().unwrap().to_vec();
        assert_eq!(read.len(), PIECE_BYTES);
        assert!(memory.share("one").take_whole(1).is_err());
        while let Some(piece) = pieces.next().await {
            read.extend_from_slice(&piece.unwrap());
        }
        drop(pieces);
        assert!(read == all);
        memory.share("one").take_whole(1).unwrap();
    }
}
