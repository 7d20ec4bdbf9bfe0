//! Secrets of a sandbox: read for it from their files, and what it has in their place.
//!
//! The launcher alone reads them, anew for each sandbox, and hands them to the sandbox's uplink. What the sandbox
//! itself is given are placeholders, and the certificate of an authority that nobody else trusts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::config::secrets::{Source, Value, usable};
use crate::network::secrets::{Authority, Granted, Secret};
use crate::plan::{Additions, CERTIFICATES};
use crate::profile::AllowList;

/// How every placeholder begins, so that people know one when they see it.
const PREFIX: &str = "csb-secret-";
/// Shortest secret, in bytes: a shorter one would be found in headers that do not have it.
const LEAST_BYTES: usize = 8;
/// Longest secret, in bytes.
const MOST_BYTES: usize = 8 << 10;
/// Largest file of certificates, in bytes.
const CERTIFICATES_BYTES: u64 = 4 << 20;

/// Variables by which programs are told which certificates to trust.
const VARIABLES: [&str; 10] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// What a sandbox with secrets has, and what its uplink has.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) additions: Additions,
    pub(super) granted: Granted,
}

/// Why a secret can't be had; never what it is.
#[derive(Debug, thiserror::Error)]
enum SecretError {
    #[error("its file can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("its file is no regular file")]
    Irregular,
    #[error("its file may be read by others than its owner and group: mode {0:o}")]
    Open(u32),
    #[error("it is not from {LEAST_BYTES} to {MOST_BYTES} bytes long")]
    Length,
    #[error("it has a byte that can't stand in a header, such as a line feed")]
    Bytes,
}

/// What a sandbox gets that may reach this; none where it has no secret.
///
/// # Errors
/// One of its secrets can't be had.
pub(super) fn hand_out(list: &AllowList, config: &Config) -> Result<Option<Handed>, String> {
    if let Some(unknown) = list.secrets.values().find(|name| !config.secrets.contains_key(*name)) {
        return Err(format!("there is no secret {unknown:?} any more"));
    }
    let usable = usable(&config.secrets, list);
    if usable.is_empty() {
        return Ok(None);
    }
    let certificates = config.network.certificates();
    let mut trusted = Vec::new();
    let read = File::open(certificates).and_then(|file| file.take(CERTIFICATES_BYTES).read_to_end(&mut trusted));
    read.map_err(|error| format!("{}: {error}", certificates.display()))?;
    let mut secrets = Vec::with_capacity(usable.len());
    for (variable, name) in usable {
        let Some(found) = config.secrets.get(&name) else { continue };
        let value = match &found.source {
            Source::File(path) => read_secret(path),
            Source::Given(Value(value)) => usual(value.clone()),
        };
        let value = value.map_err(|error| format!("secret {name:?}: {error}"))?;
        secrets.push(Secret {
            variable,
            placeholder: format!("{PREFIX}{}", Uuid::new_v4().simple()),
            value,
            domains: found.domains.clone(),
            ports: found.ports.clone(),
            headers: found.headers.clone(),
        });
    }
    let domains: BTreeSet<_> = secrets.iter().flat_map(|secret| secret.domains.iter().cloned()).collect();
    let name = format!("codeSandbox {}", Uuid::new_v4().simple());
    let (authority, certificate) = Authority::new(name, &domains).map_err(|error| error.to_string())?;
    let mut variables: BTreeMap<String, String> =
        VARIABLES.map(|name| (name.to_owned(), CERTIFICATES.to_owned())).into();
    variables.extend(secrets.iter().map(|secret| (secret.variable.clone(), secret.placeholder.clone())));
    let certificates = [&trusted, "\n".as_bytes(), certificate.as_bytes()].concat();
    let additions = Additions { variables, certificates };
    Ok(Some(Handed { additions, granted: Granted { authority, trusted, secrets } }))
}

/// What a file says. One line feed at its end, as editors make them, is none of the secret.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    // Neither a link, which somebody else may turn, nor a FIFO, for which everybody would wait.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(SecretError::Irregular);
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(SecretError::Open(mode));
    }
    // All that it may grow to at once: what grows leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; MOST_BYTES + 2]);
    let mut length = 0;
    loop {
        match (&file).read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    usual(bytes)
}

/// The same, where a header can have it.
fn usual(bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    if !(LEAST_BYTES..=MOST_BYTES).contains(&bytes.len()) {
        return Err(SecretError::Length);
    }
    // RFC 9110, section 5.5, without the blanks that may not stand at either end.
    if bytes.iter().any(|byte| !matches!(byte, 0x20..=0x7e | 0x80..)) || bytes.trim_ascii().len() != bytes.len() {
        return Err(SecretError::Bytes);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(bytes: &[u8], mode: u32) -> Result<Vec<u8>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read_secret(&path).map(|bytes| bytes.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_is_what_its_file_says() {
        for mode in [0o400, 0o600, 0o440] {
            assert_eq!(read(b"correct horse\n", mode).as_deref(), Ok(&b"correct horse"[..]));
        }
        let longest = vec![b'x'; MOST_BYTES];
        assert_eq!(read(&longest, 0o400).as_deref(), Ok(&longest[..]));
        assert_eq!(read(&[&longest[..], b"\n"].concat(), 0o400).as_deref(), Ok(&longest[..]));
    }

    #[test]
    fn what_no_header_can_have_or_others_can_read_is_refused_and_not_told() {
        let longer = vec![b'x'; MOST_BYTES + 1];
        for (bytes, mode, reason) in [
            (&b"correct horse"[..], 0o604, "others"),
            (b"correct horse", 0o401, "others"),
            (b"short", 0o400, "bytes long"),
            (b"", 0o400, "bytes long"),
            (&longer, 0o400, "bytes long"),
            (b"correct\nhorse", 0o400, "line feed"),
            (b"correct horse\n\n", 0o400, "line feed"),
            (b"correct horse\r\n", 0o400, "line feed"),
            (b"correct\0horse", 0o400, "line feed"),
            (b" correct horse", 0o400, "line feed"),
        ] {
            let error = read(bytes, mode).unwrap_err();
            assert!(error.contains(reason) && !error.contains("horse"), "{error}");
        }
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "correct horse").unwrap();
        std::fs::set_permissions(path("file"), std::fs::Permissions::from_mode(0o400)).unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(read_secret(&path("file")).is_ok());
        for (name, error) in [("link", "Io"), ("fifo", "Irregular"), (".", "Irregular"), ("none", "Io")] {
            let said = format!("{:?}", read_secret(&path(name)).unwrap_err());
            assert!(said.starts_with(error), "{name}: {said}");
        }
    }
}
