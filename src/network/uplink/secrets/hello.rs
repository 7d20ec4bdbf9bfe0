//! For whom the first bytes of a connection are: the name in a ClientHello of TLS (RFC 6066, section 3).
//!
//! What is not told from a bounded number of bytes in a bounded time is passed on as it is: no secret is ever in
//! it. A ClientHello that is encrypted names somebody else.

use std::io;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::network::uplink::relay::Cut;

/// Most bytes that are looked at: a ClientHello with the largest keys in use has a few thousand.
const MOST: usize = 32 << 10;
/// Longest that is waited for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first byte of a handshake; RFC 8446, section 5.1.
const HANDSHAKE: u8 = 22;

/// What a program has said first.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::network::uplink) struct Heard {
    /// All of it.
    pub(in crate::network::uplink) bytes: Vec<u8>,
    /// The name in it, where it is a ClientHello that has one.
    pub(in crate::network::uplink) name: Option<String>,
}

/// Reads until it is known, or known that it can't be. A host that speaks first ends that as well.
pub(in crate::network::uplink) async fn hear(
    inside: &TcpStream,
    outside: &TcpStream,
    first: Vec<u8>,
) -> Result<Heard, Cut> {
    let mut listening = Listening { bytes: Vec::new(), acceptor: Acceptor::default() };
    let mut told = listening.take(&first);
    let until = Instant::now() + PATIENCE;
    let mut byte = [0];
    while told == Told::Nothing && listening.bytes.len() < MOST {
        tokio::select! {
            // A host that has said nothing yet is one that waits for us.
            _ = outside.peek(&mut byte) => break,
            readable = timeout_at(until, inside.readable()) => match readable {
                Ok(ready) => ready.map_err(|_| Cut::Reset)?,
                Err(_) => break,
            },
        }
        let mut part = [0; 4096];
        match inside.try_read(&mut part) {
            Ok(0) => break,
            Ok(read) => told = listening.take(&part[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Cut::Reset),
        }
    }
    let name = if let Told::Name(name) = told { Some(name) } else { None };
    Ok(Heard { bytes: listening.bytes, name })
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// It is something else, or names nobody.
    Nobody,
    Name(String),
}

struct Listening {
    bytes: Vec<u8>,
    acceptor: Acceptor,
}

impl Listening {
    fn take(&mut self, mut part: &[u8]) -> Told {
        self.bytes.extend_from_slice(part);
        if self.bytes.first().is_some_and(|first| *first != HANDSHAKE) {
            return Told::Nobody;
        }
        while !part.is_empty() {
            if !matches!(self.acceptor.read_tls(&mut part), Ok(1..)) {
                return Told::Nobody;
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(str::to_owned);
                    return name.map_or(Told::Nobody, Told::Name);
                }
                Err(_) => return Told::Nobody,
            }
        }
        Told::Nothing
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello(name: &'static str) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut bytes = Vec::new();
        let mut connection = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn told(parts: &[&[u8]]) -> Told {
        let mut listening = Listening { bytes: Vec::new(), acceptor: Acceptor::default() };
        let mut all = parts.iter().map(|part| listening.take(part));
        all.find(|told| *told != Told::Nothing).unwrap_or(Told::Nothing)
    }

    #[test]
    fn a_name_is_found_however_its_bytes_come() {
        let bytes = hello("api.example.org");
        let name = Told::Name("api.example.org".to_owned());
        assert_eq!(told(&[&bytes]), name);
        assert_eq!(told(&bytes.chunks(1).collect::<Vec<_>>()), name);
        assert_eq!(told(&[&bytes[..bytes.len() - 1]]), Told::Nothing);
    }

    #[test]
    fn what_names_nobody_is_known_at_once() {
        assert_eq!(told(&[&hello("192.0.2.1")]), Told::Nobody);
        assert_eq!(told(&[b"G"]), Told::Nobody);
        assert_eq!(told(&[b"\x16\x09\x09\xff\xff\xff\xff"]), Told::Nobody);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>, at in 0usize..200, with: u8) {
            told(&[&bytes]);
            let mut changed = hello("api.example.org");
            changed[at] = with;
            told(&[&changed]);
        }
    }
}
