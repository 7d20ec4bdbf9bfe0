//! Answers as they come: in pieces, too long, cut off, of an older service.

use super::*;

/// Gives out so many bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        let (now, later) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\nx: y\r\n\r\nbody";

#[test]
fn an_answer_may_come_in_any_pieces() {
    for piece in [1, 3, 50, 4096] {
        let mut buffer = b"old".to_vec();
        let head = read_answer(&mut Trickle(ANSWER, piece), &mut buffer).unwrap();
        assert_eq!((head.status, &buffer[head.length..]), (429, &b"body"[..]), "{piece}");
    }
}

#[test]
fn an_answer_that_is_cut_off_is_none() {
    for length in [0, 10, ANSWER.len() - 1] {
        let error = read_answer(&mut Trickle(&ANSWER[..length], 7), &mut Vec::new()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
    }
    let endless = vec![b'a'; HEAD_BYTES * 2];
    assert!(read_answer(&mut Trickle(&endless, 4096), &mut Vec::new()).is_err());
    assert!(read_answer(&mut Trickle(b"HTTP/1.1 200 OK\r\n\r\n", 99), &mut Vec::new()).is_err());
}

fn reply(status: u16, body: &str) -> Result<Reply, String> {
    Reply::read(Answer { status, body: body.as_bytes() })
}

#[test]
fn an_older_service_says_less() {
    let old = reply(200, r#"{"status":"ok","runtime":{"path":"/usr/bin/x"},"compile":null,"run":{}}"#).unwrap();
    assert_eq!((old.path, old.overhead_ms, old.compile), (None, None, None));
    let new = reply(
        200,
        r#"{"status":"ok","runtime":{"path":"/usr/bin/x"},"path":"warm","compile":{"cached":true},
            "overhead_ms":{"queue":0.5,"total":2.0}}"#,
    )
    .unwrap();
    assert_eq!((new.path.as_deref(), new.compile.unwrap().cached), (Some("warm"), Some(true)));
    assert_eq!(new.overhead_ms.unwrap().total, 2.0);
}

#[test]
fn what_did_not_run_well_is_named() {
    assert_eq!(reply(429, "{}").unwrap_err(), "HTTP 429");
    assert_eq!(reply(200, r#"{"status":"nonzero_exit","runtime":{"path":"/x"}}"#).unwrap_err(), "nonzero_exit");
    assert!(reply(200, "hello").is_err());
}
