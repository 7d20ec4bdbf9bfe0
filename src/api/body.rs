//! Reads a request's body, within its limits of size, time and memory.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::memory::Share;
use super::problem::{Kind, Problem};

/// Time that a body has to arrive. On a Unix socket even the largest takes a fraction of a second.
const BODY_TIME: Duration = Duration::from_secs(30);

/// A body, and the share of memory that it takes until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// Its share, kept until the job that came of it is over.
    pub(super) share: Share,
}

/// Reads a body of at most `most` bytes, which the client's share grows by.
pub(super) async fn read(body: Body, most: usize, share: Share) -> Result<Held, Problem> {
    // A declared length is believed only for refusing early: what counts is what arrives.
    if body.size_hint().lower() > most as u64 {
        return Err(too_large(most));
    }
    tokio::time::timeout(BODY_TIME, collect(body, most, share)).await.unwrap_or_else(|_| {
        Err(Problem::new(Kind::SlowBody, format!("it must arrive within {} s", BODY_TIME.as_secs())))
    })
}

async fn collect(mut body: Body, most: usize, mut share: Share) -> Result<Held, Problem> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(Kind::BrokenBody, "the body could not be read to its end"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > most {
            return Err(too_large(most));
        }
        share.take(data.len())?;
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
    use super::super::memory::Memory;
    use super::*;

    fn share(bytes: usize) -> Share {
        Memory::new(2 * bytes).share("one")
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_read_and_one_byte_more_refused() {
        let held = read(Body::from("x".repeat(10)), 10, share(100)).await.unwrap();
        assert_eq!((held.bytes.len(), held.share.bytes()), (10, 10));
        let problem = read(Body::from("x".repeat(11)), 10, share(100)).await.unwrap_err();
        assert_eq!(problem.kind, Kind::BodyTooLarge);
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_held_to_the_limit() {
        let pieces = tokio_stream::iter(["x".repeat(6), "x".repeat(6)].map(Ok::<_, std::io::Error>));
        let problem = read(Body::from_stream(pieces), 10, share(100)).await.unwrap_err();
        assert_eq!(problem.kind, Kind::BodyTooLarge);
    }

    #[tokio::test]
    async fn full_memory_refuses() {
        let problem = read(Body::from("xx"), 10, share(1)).await.unwrap_err();
        assert_eq!(problem.kind, Kind::BodiesFull);
        assert!(problem.retry_after.is_some());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let pieces = tokio_stream::iter(vec![Ok("x"), Err(std::io::Error::other("gone"))]);
        assert_eq!(read(Body::from_stream(pieces), 10, share(9)).await.unwrap_err().kind, Kind::BrokenBody);
    }
}
