//! Secrets of the program's: variables of this shell that it may use towards a host, and never sees.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::cli::network::Allowed;
use crate::config::secrets::{DEFAULT_PORT, Value, of_tls};
use crate::launcher::GrantedSecret;
use crate::profile::{DestinationForm, Name};

/// One `--secret`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    variable: String,
    domain: Name,
    ports: BTreeSet<u16>,
}

/// Why one can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SecretError {
    /// It is not written as it should be.
    #[error("write it as NAME@HOST or NAME@HOST:PORT, such as API_TOKEN@api.example.org")]
    Form,
    /// What is before the host is no name of a variable.
    #[error("{0:?} is no name of a variable")]
    Variable(String),
    /// What is behind it is not one host.
    #[error("{0:?} is not one host by its whole name: a secret is for that alone")]
    Host(String),
    /// The ports.
    #[error("{0}")]
    Ports(String),
    /// This shell has none.
    #[error("--secret {0}: this shell has no such variable")]
    Unset(String),
    /// The program would see it.
    #[error("--secret {0}: --env gives it the variable itself; it can't have both")]
    Shown(String),
    /// Two for one variable.
    #[error("--secret {0}: a variable is for one host")]
    Twice(String),
}

impl Wanted {
    /// What the program reaches for it.
    pub(super) fn form(&self) -> DestinationForm {
        let ports = Some(self.ports.iter().copied().collect());
        DestinationForm { domain: Some(self.domain.to_string()), ports, ..DestinationForm::default() }
    }
}

impl FromStr for Wanted {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let (variable, host) = text.split_once('@').ok_or(SecretError::Form)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if variable.is_empty() || !variable.bytes().all(is_plain) || variable.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(SecretError::Variable(variable.to_owned()));
        }
        let form = host.parse::<Allowed>().map_err(|error| SecretError::Ports(error.to_string()))?.form();
        let named = form.domain.and_then(|name| name.parse::<Name>().ok());
        let domain = named.ok_or_else(|| SecretError::Host(host.to_owned()))?;
        let ports: BTreeSet<u16> =
            form.ports.map_or_else(|| [DEFAULT_PORT].into(), |ports| ports.into_iter().collect());
        of_tls(&ports).map_err(SecretError::Ports)?;
        Ok(Self { variable: variable.to_owned(), domain, ports })
    }
}

/// The secrets themselves, out of this shell's variables.
pub(super) fn find(wanted: &[Wanted], shown: &[OsString]) -> Result<BTreeMap<String, GrantedSecret>, SecretError> {
    let mut found = BTreeMap::new();
    for Wanted { variable, domain, ports } in wanted {
        let name =
            |text: &OsString| text.as_encoded_bytes().split(|byte| *byte == b'=').next() == Some(variable.as_bytes());
        if shown.iter().any(name) {
            return Err(SecretError::Shown(variable.clone()));
        }
        let value = std::env::var_os(OsStr::new(variable)).ok_or_else(|| SecretError::Unset(variable.clone()))?;
        let value = Value(Zeroizing::new(value.into_vec()));
        let granted = GrantedSecret { value, domain: domain.clone(), ports: ports.clone() };
        if found.insert(variable.clone(), granted).is_some() {
            return Err(SecretError::Twice(variable.clone()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_names_a_variable_and_one_host() {
        let wanted: Wanted = "API_TOKEN@API.example.org".parse().unwrap();
        assert_eq!((wanted.variable.as_str(), wanted.domain.as_str()), ("API_TOKEN", "api.example.org"));
        assert_eq!(wanted.form().ports, Some(vec![443]));
        assert_eq!("T@a.example.org:8443,443".parse::<Wanted>().unwrap().ports, [443, 8443].into());
        for (text, error) in [
            ("API_TOKEN", SecretError::Form),
            ("1@a.example.org", SecretError::Variable("1".to_owned())),
            ("@a.example.org", SecretError::Variable(String::new())),
            ("A B@a.example.org", SecretError::Variable("A B".to_owned())),
            ("A@.example.org", SecretError::Host(".example.org".to_owned())),
            ("A@192.0.2.1", SecretError::Host("192.0.2.1".to_owned())),
            ("A@a.example.org:80", SecretError::Ports("port 80 is none of TLS".to_owned())),
        ] {
            assert_eq!(text.parse::<Wanted>(), Err(error), "{text}");
        }
    }

    #[test]
    fn what_the_program_would_see_or_nobody_has_is_refused() {
        let wanted = |text: &str| text.parse::<Wanted>().unwrap();
        // Every test has it.
        let path = wanted("PATH@a.example.org");
        assert_eq!(find(std::slice::from_ref(&path), &["HOME".into()]).unwrap().len(), 1);
        for shown in ["PATH", "PATH=x"] {
            assert_eq!(find(std::slice::from_ref(&path), &[shown.into()]), Err(SecretError::Shown("PATH".to_owned())));
        }
        let unset = wanted("NOBODY_HAS_SET_THIS_ONE@a.example.org");
        assert!(matches!(find(&[unset], &[]), Err(SecretError::Unset(_))));
        assert_eq!(
            find(&[path.clone(), wanted("PATH@b.example.org")], &[]),
            Err(SecretError::Twice("PATH".to_owned()))
        );
        assert!(!format!("{:?}", find(&[path], &[]).unwrap()).contains("/bin"));
    }
}
