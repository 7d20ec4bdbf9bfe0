//! Section `tcp`: whether clients may come over TCP, and from where. They show a token, which
//! `clients.….tokens` knows.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::clients::Clients;

/// Most origins.
const MOST_ORIGINS: usize = 64;
/// Longest origin, in bytes.
const ORIGIN_BYTES: usize = 256;

/// Section `tcp`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// Where to listen; absent: nowhere, unless the command line or systemd says so.
    pub address: Option<SocketAddr>,
    /// Whether it may be another address than one of the loopback, though nothing is encrypted.
    pub allow_plain: bool,
    /// Pages that browsers may ask from, such as `https://judge.example.org`; requests from all others are refused.
    pub origins: Vec<String>,
}

/// A section `tcp` that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TcpError {
    /// Everybody on the way could read the tokens.
    #[error(
        "tcp.address: {0} is no address of the loopback, and nothing is encrypted: put a reverse proxy with TLS before \
         a loopback address, or set tcp.allow_plain where the network itself is encrypted"
    )]
    NotLoopback(SocketAddr),
    /// Nobody could ask for anything.
    #[error("tcp.address: no client has a token; codesandbox token new makes one")]
    NoTokens,
    /// No browser would ever send this.
    #[error(
        "tcp.origins[{0}]: an origin is a scheme and a host in small letters, and a port where it has one, without a \
         path: https://judge.example.org"
    )]
    Origin(usize),
    /// There are too many.
    #[error("tcp.origins: there are more than {MOST_ORIGINS}")]
    TooManyOrigins,
}

impl TcpError {
    /// The key at fault.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::NotLoopback(_) | Self::NoTokens => "tcp.address".to_owned(),
            Self::Origin(index) => format!("tcp.origins[{index}]"),
            Self::TooManyOrigins => "tcp.origins".to_owned(),
        }
    }
}

impl Tcp {
    pub(super) fn check(&self, clients: &Clients) -> Result<(), TcpError> {
        if self.origins.len() > MOST_ORIGINS {
            return Err(TcpError::TooManyOrigins);
        }
        if let Some(index) = self.origins.iter().position(|origin| !is_origin(origin)) {
            return Err(TcpError::Origin(index));
        }
        self.address.map_or(Ok(()), |address| self.permits(address, clients))
    }

    /// Whether the service may listen there.
    ///
    /// # Errors
    /// What is sent there could be read by others, or nobody has a token.
    pub fn permits(&self, address: SocketAddr, clients: &Clients) -> Result<(), TcpError> {
        if !self.allow_plain && !is_loopback(address.ip()) {
            return Err(TcpError::NotLoopback(address));
        }
        if !clients.have_tokens() {
            return Err(TcpError::NoTokens);
        }
        Ok(())
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    // ::ffff:127.0.0.1 is the loopback of IPv4.
    ip.to_canonical().is_loopback()
}

/// Whether a browser may send it in `Origin`; RFC 6454, section 6.2. `null` is what all pages have in common
/// that hide where they are from.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
        !host.is_empty() && text.len() <= ORIGIN_BYTES && host.bytes().all(is_plain)
    })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use serde_json::{Value, json};

    fn error(tcp: Value, tokens: Value) -> Option<String> {
        let client =
            json!({"users": [], "tokens": tokens, "weight": 1, "concurrency": 0, "queue_length": 1, "profiles": []});
        let text = json!({"tcp": tcp, "clients": {"remote": client}}).to_string();
        Config::parse(&text).err().map(|error| error.to_string())
    }

    fn token() -> Value {
        json!({"laptop": format!("sha256:{}", "a0".repeat(32))})
    }

    #[test]
    fn the_loopback_is_enough_for_a_token() {
        for address in ["127.0.0.1:8731", "127.8.9.1:1", "[::1]:8731", "[::ffff:127.0.0.1]:8731"] {
            assert_eq!(error(json!({"address": address}), token()), None, "{address}");
        }
    }

    #[test]
    fn elsewhere_tokens_could_be_read_on_the_way() {
        for address in ["0.0.0.0:8731", "192.0.2.1:8731", "[::]:8731", "[::ffff:192.0.2.1]:8731"] {
            let told = error(json!({"address": address}), token()).unwrap();
            assert!(told.contains("tcp.allow_plain"), "{told}");
            assert_eq!(error(json!({"address": address, "allow_plain": true}), token()), None, "{address}");
        }
    }

    #[test]
    fn nobody_listens_for_nobody() {
        let told = error(json!({"address": "127.0.0.1:8731"}), json!({})).unwrap();
        assert!(told.contains("no client has a token"), "{told}");
        assert_eq!(error(json!({}), json!({})), None);
    }

    #[test]
    fn origins_are_those_that_browsers_send() {
        for origin in ["https://judge.example.org", "http://localhost:3000", "http://[::1]:80"] {
            assert_eq!(error(json!({"origins": [origin]}), json!({})), None, "{origin}");
        }
        for origin in
            ["*", "null", "", "https://", "judge.example.org", "https://a.example.org/", "https://A.example.org"]
        {
            let told = error(json!({"origins": ["http://a", origin]}), json!({})).unwrap();
            assert!(told.contains("tcp.origins[1]"), "{told}");
        }
        let many = vec!["http://a"; 65];
        assert!(error(json!({"origins": many}), json!({})).unwrap().contains("more than 64"));
    }
}
