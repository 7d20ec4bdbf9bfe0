//! Bearer tokens: made of random bits, known to the service by their hashes alone.
//!
//! A token has 256 random bits, so whoever reads its hash can neither guess nor search it: one round of
//! SHA-256 is as good here as a slow hash, which is for what people think up, and costs no time in each request.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What every token begins with, so that those who look for leaked ones find it.
const PREFIX: &str = "csb_";
/// Random bytes of a token.
const RANDOM_BYTES: usize = 32;
/// What every hash begins with.
const ALGORITHM: &str = "sha256:";

/// A token, as only its holder has it.
pub struct Token(Zeroizing<String>);

impl Token {
    /// One that nobody else has.
    ///
    /// # Errors
    /// The kernel gives no random bits; getrandom(2).
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        getrandom::fill(bytes.as_mut()).map_err(std::io::Error::from)?;
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        Ok(Self(Zeroizing::new(format!("{PREFIX}{}", &*encoded))))
    }

    /// Its text, which opens the service to whoever reads it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the configuration knows it by.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What the configuration knows a token by: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// That of a token.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether it is this one; takes the same time whichever of their bytes differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.strip_prefix(ALGORITHM)?.as_bytes()).ok()?;
        bytes.try_into().map(Self).ok()
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The text is not told: it may be the token itself, by mistake.
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom("a token is \"sha256:\" and 64 hexadecimal digits; codesandbox token new makes one")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_is_like_another() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert!(one.hash().is(&TokenHash::of(one.reveal().as_bytes())) && !one.hash().is(&other.hash()));
        assert_eq!(one.reveal().len(), PREFIX.len() + 43);
        assert!(!format!("{one:?}").contains(one.reveal()));
    }

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = TokenHash::of(b"abc");
        // FIPS 180-2, appendix B.1.
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert_eq!(TokenHash::parse(text), Some(hash));
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_told() {
        let token = Token::random().unwrap();
        let signed = format!("sha256:{}", "+1".repeat(32));
        for text in [token.reveal(), "", "sha256:", &signed, "md5:d41d8cd98f00b204e9800998ecf8427e"] {
            let error = serde_json::from_value::<TokenHash>(text.into()).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
            assert!(text.is_empty() || !error.contains(text) || text == "sha256:", "{error}");
        }
    }
}
