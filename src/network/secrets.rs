//! Secrets on their way from the launcher to an uplink, and the authority that a sandbox trusts for their hosts.
//!
//! A program has a placeholder. It speaks TLS with its uplink, which shows a certificate of an authority that was
//! made for this sandbox; the uplink speaks TLS with the host, and puts the secret in the place of the placeholder.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::profile::Name;

/// Years in which certificates of an authority are good. It is gone with its sandbox, and clocks may be wrong.
const YEARS: [i32; 2] = [2000, 2100];

/// What an uplink has to put secrets into requests.
#[derive(Debug, Serialize, Deserialize)]
pub struct Granted {
    /// Who says to the sandbox's programs that the uplink is the host.
    pub authority: Authority,
    /// Certificates by which hosts are known, in PEM.
    pub trusted: Vec<u8>,
    /// The secrets.
    pub secrets: Vec<Secret>,
}

/// A secret, and where it may go.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secret {
    /// The variable of programs that holds the placeholder.
    pub variable: String,
    /// What programs have in its place.
    pub placeholder: String,
    /// What hosts get.
    pub value: Zeroizing<Vec<u8>>,
    /// Hosts that get it.
    pub domains: BTreeSet<Name>,
    /// At which ports.
    pub ports: BTreeSet<u16>,
    /// In which headers of a request, in lower case.
    pub headers: BTreeSet<String>,
}

/// Says all but what it is.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, domains, ports, headers, .. } = self;
        let mut said = f.debug_struct("Secret");
        said.field("variable", variable).field("domains", domains).field("ports", ports).field("headers", headers);
        said.finish_non_exhaustive()
    }
}

/// An authority for the domains of one sandbox's secrets.
#[derive(Serialize, Deserialize)]
pub struct Authority {
    name: String,
    /// In PKCS#8.
    key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A certificate that an authority has signed, and its key in PKCS#8.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// The key.
    pub key: Zeroizing<Vec<u8>>,
}

/// A certificate as text; RFC 7468, section 5.
#[must_use]
pub fn pem(certificate: &[u8]) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    // Base64 is ASCII alone.
    for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

impl Authority {
    /// A new one with this name, and its certificate in PEM, which is good for these domains and those below them.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(name: String, domains: &BTreeSet<Name>) -> Result<(Self, String), rcgen::Error> {
        let mut key = KeyPair::generate()?;
        let mut parameters = parameters(&name);
        let permitted_subtrees = domains.iter().map(|domain| GeneralSubtree::DnsName(domain.to_string())).collect();
        parameters.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        let certificate = pem(parameters.self_signed(&key)?.der());
        let serialized = Zeroizing::new(key.serialize_der());
        key.zeroize();
        Ok((Self { name, key: serialized }, certificate))
    }

    /// Signs that whoever has the leaf's key is this host.
    ///
    /// # Errors
    /// The key is none, or the system has no random numbers.
    pub fn sign(&self, domain: &Name) -> Result<Leaf, rcgen::Error> {
        let issuer = Issuer::new(parameters(&self.name), KeyPair::try_from(self.key.as_slice())?);
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named(domain.as_str());
        parameters.subject_alt_names = vec![SanType::DnsName(Ia5String::try_from(domain.as_str())?)];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        in_force(&mut parameters);
        let certificate = parameters.signed_by(&key, &issuer)?.der().clone();
        Ok(Leaf { certificate, key: Zeroizing::new(key.serialize_der()) })
    }
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = named(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    in_force(&mut parameters);
    parameters
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    // A domain may be longer than a common name may, which nobody looks at there.
    names.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    names
}

fn in_force(parameters: &mut CertificateParams) {
    let [from, to] = YEARS.map(|year| date_time_ymd(year, 1, 1));
    (parameters.not_before, parameters.not_after) = (from, to);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{CertificateError, RootCertStore};

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// What a client says that trusts `pem` alone.
    fn verified(pem: &str, leaf: &Leaf, host: &'static str) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let host = ServerName::try_from(host).unwrap();
        verifier.verify_server_cert(&leaf.certificate, &[], &host, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn an_authority_is_believed_about_its_domains_by_who_trusts_it() {
        let domains = [name("api.example.org")].into();
        let (authority, pem) = Authority::new("one".to_owned(), &domains).unwrap();
        let (_, other) = Authority::new("one".to_owned(), &domains).unwrap();
        let leaf = authority.sign(&name("api.example.org")).unwrap();
        verified(&pem, &leaf, "api.example.org").unwrap();
        assert!(verified(&other, &leaf, "api.example.org").is_err());
        assert!(verified(&pem, &leaf, "www.example.org").is_err());
        let beyond = authority.sign(&name("www.example.org")).unwrap();
        let error = verified(&pem, &beyond, "www.example.org").unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(_))), "{error}");
    }

    #[test]
    fn an_authority_survives_the_way() {
        let (authority, pem) = Authority::new("one".to_owned(), &[name("a.example")].into()).unwrap();
        let bytes = postcard::to_allocvec(&authority).unwrap();
        let authority: Authority = postcard::from_bytes(&bytes).unwrap();
        verified(&pem, &authority.sign(&name("a.example")).unwrap(), "a.example").unwrap();
    }

    #[test]
    fn nobody_reads_a_secret_in_what_is_printed_of_it() {
        let secret = Secret {
            variable: "TOKEN".to_owned(),
            placeholder: "placeholder".to_owned(),
            value: Zeroizing::new(b"correct horse".to_vec()),
            domains: [name("a.example")].into(),
            ports: [443].into(),
            headers: ["authorization".to_owned()].into(),
        };
        let (authority, _) = Authority::new("one".to_owned(), &secret.domains).unwrap();
        let granted = Granted { authority, trusted: Vec::new(), secrets: vec![secret] };
        let said = format!("{granted:?}");
        let numbers = format!("{:?}", b"correct horse");
        assert!(said.contains("TOKEN") && !said.contains("horse") && !said.contains(&numbers), "{said}");
        assert!(!said.contains(&format!("{:?}", granted.authority.key.as_slice())));
    }
}
