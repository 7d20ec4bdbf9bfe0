//! Reads a request's body, within its limits of size, time and memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Kind, Problem};

/// Time that a body has to arrive. On a Unix socket even the largest takes a fraction of a second.
const BODY_TIME: Duration = Duration::from_secs(30);

/// A body, and the share of memory that it takes until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// Its share, kept until the job that came of it is over.
    pub(super) share: OwnedSemaphorePermit,
}

/// Reads a body of at most `most` bytes, each of which takes a permit of `memory`.
pub(super) async fn read(body: Body, most: usize, memory: &Arc<Semaphore>) -> Result<Held, Problem> {
    // A declared length is believed only for refusing early: what counts is what arrives.
    if body.size_hint().lower() > most as u64 {
        return Err(too_large(most));
    }
    tokio::time::timeout(BODY_TIME, collect(body, most, memory)).await.unwrap_or_else(|_| {
        Err(Problem::new(Kind::SlowBody, format!("it must arrive within {} s", BODY_TIME.as_secs())))
    })
}

async fn collect(mut body: Body, most: usize, memory: &Arc<Semaphore>) -> Result<Held, Problem> {
    let full = |_| Problem {
        retry_after: Some(Duration::from_secs(1)),
        ..Problem::new(Kind::BodiesFull, "the requests that wait and run take as much memory as they may")
    };
    let mut share = Arc::clone(memory).try_acquire_many_owned(0).map_err(full)?;
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(Kind::BrokenBody, "the body could not be read to its end"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > most {
            return Err(too_large(most));
        }
        let permits = u32::try_from(data.len()).map_err(|_| too_large(most))?;
        share.merge(Arc::clone(memory).try_acquire_many_owned(permits).map_err(full)?);
        bytes.extend_from_slice(&data);
    }
    Ok(Held { bytes, share })
}

fn too_large(most: usize) -> Problem {
    Problem::new(Kind::BodyTooLarge, "the body is larger than the service takes")
        .allowing(serde_json::json!({ "maximum": most }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(bytes))
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_read_and_one_byte_more_refused() {
        let memory = memory(100);
        let held = read(Body::from("x".repeat(10)), 10, &memory).await.unwrap();
        assert_eq!((held.bytes.len(), memory.available_permits()), (10, 90));
        drop(held);
        let problem = read(Body::from("x".repeat(11)), 10, &memory).await.unwrap_err();
        assert_eq!((problem.kind, memory.available_permits()), (Kind::BodyTooLarge, 100));
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_held_to_the_limit() {
        let pieces = tokio_stream::iter(["x".repeat(6), "x".repeat(6)].map(Ok::<_, std::io::Error>));
        let problem = read(Body::from_stream(pieces), 10, &memory(100)).await.unwrap_err();
        assert_eq!(problem.kind, Kind::BodyTooLarge);
    }

    #[tokio::test]
    async fn full_memory_refuses() {
        let problem = read(Body::from("xx"), 10, &memory(1)).await.unwrap_err();
        assert_eq!(problem.kind, Kind::BodiesFull);
        assert!(problem.retry_after.is_some());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let pieces = tokio_stream::iter(vec![Ok("x"), Err(std::io::Error::other("gone"))]);
        assert_eq!(read(Body::from_stream(pieces), 10, &memory(9)).await.unwrap_err().kind, Kind::BrokenBody);
    }
}
