//! Section `network`: what sandboxes need of the host that may reach something.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Most name servers.
const NAME_SERVERS: usize = 8;
/// Where most systems have the certificates of authorities that they trust.
const HOST_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Section `network`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Name servers that are asked; absent: those of the host's `/etc/resolv.conf`.
    pub name_servers: Option<Vec<IpAddr>>,
    /// File of certificates of authorities that sandboxes see; absent: the host's, where it has one.
    pub ca_certificates: Option<PathBuf>,
}

/// A section `network` that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Too many, or none at all.
    #[error("network.name_servers: there must be from 1 to {NAME_SERVERS}; leave it out for those of the host")]
    Count,
    /// Nobody answers there.
    #[error("network.name_servers: {0} is the address of no host")]
    NameServer(IpAddr),
    /// The file would depend on where the launcher was started.
    #[error("network.ca_certificates: {0:?} is not an absolute path")]
    Certificates(PathBuf),
}

impl NetworkError {
    /// The key at fault.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Count | Self::NameServer(_) => "network.name_servers",
            Self::Certificates(_) => "network.ca_certificates",
        }
    }
}

impl Network {
    /// The file of certificates that is configured, or else where the host's would be.
    #[must_use]
    pub fn certificates(&self) -> &Path {
        self.ca_certificates.as_deref().unwrap_or(Path::new(HOST_CERTIFICATES))
    }

    pub(super) fn check(&self) -> Result<(), NetworkError> {
        if let Some(servers) = &self.name_servers {
            if !(1..=NAME_SERVERS).contains(&servers.len()) {
                return Err(NetworkError::Count);
            }
            if let Some(none) = servers.iter().find(|server| server.is_unspecified() || server.is_multicast()) {
                return Err(NetworkError::NameServer(*none));
            }
        }
        match self.ca_certificates.as_deref().filter(|path| !path.is_absolute()) {
            Some(path) => Err(NetworkError::Certificates(path.to_owned())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn name_servers_and_certificates_are_checked() {
        let config = Config::parse(r#"{"network":{"name_servers":["192.0.2.1","2001:db8::1"]}}"#).unwrap();
        assert_eq!(config.network.name_servers.map(|servers| servers.len()), Some(2));
        assert_eq!(Config::parse("{}").unwrap().network.name_servers, None);
        for (json, key) in [
            (r#"{"network":{"name_servers":[]}}"#, "network.name_servers"),
            (r#"{"network":{"name_servers":["0.0.0.0"]}}"#, "network.name_servers"),
            (r#"{"network":{"name_servers":["dns.example.org"]}}"#, "network.name_servers"),
            (r#"{"network":{"ca_certificates":"here"}}"#, "network.ca_certificates"),
            (r#"{"network":{"else":1}}"#, "network.else"),
        ] {
            let error = Config::parse(json).unwrap_err();
            assert!(error.to_string().starts_with(key), "{error}");
            assert_eq!(error.line_in(json), Some(1), "{error}");
        }
    }
}
