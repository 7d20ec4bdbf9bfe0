//! Who may ask: tokens of files, told by a header or a parameter.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use sha2::{Digest, Sha256};
use tracing::error;

use crate::config::judge0::Judge0 as Settings;

/// Largest file of tokens, in bytes.
const FILE_BYTES: u64 = 64 << 10;
/// Before a token that is written as its SHA-256 in hexadecimal.
const HASHED: &str = "sha256:";

/// Whether a request may be made at all.
///
/// # Errors
/// The status that it gets, without a body.
pub(super) fn authenticate(
    settings: &Settings,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Result<(), StatusCode> {
    match &settings.authn_token_file {
        Some(file) if !has_token(file, &settings.authn_header, headers, query) => Err(StatusCode::UNAUTHORIZED),
        _ => Ok(()),
    }
}

/// Whether submissions of others may be seen and deleted. Where there is no file, nobody may.
///
/// # Errors
/// As of [`authenticate`].
pub(super) fn authorize(
    settings: &Settings,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Result<(), StatusCode> {
    match &settings.authz_token_file {
        Some(file) if has_token(file, &settings.authz_header, headers, query) => Ok(()),
        _ => Err(StatusCode::FORBIDDEN),
    }
}

/// Whether a request has one of the tokens of a file. It is read each time, so that a token that was taken out is of
/// no use from then on; one that can't be read has none.
fn has_token(file: &Path, header: &str, headers: &HeaderMap, query: &HashMap<String, String>) -> bool {
    let given = headers.get(header).map(hyper::header::HeaderValue::as_bytes);
    let Some(given) = given.or_else(|| query.get(header).map(String::as_bytes)) else { return false };
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(FILE_BYTES).read_to_string(&mut text));
    if let Err(error) = read {
        error!("{}: tokens can't be read, so nobody has one: {error}", file.display());
        return false;
    }
    let given = Sha256::digest(given);
    // All of them are compared, and by their hashes: how long that takes tells nothing of a token.
    text.split_whitespace().map(|token| hash_of(token).is_some_and(|hash| hash == given[..])).fold(false, |a, b| a | b)
}

fn hash_of(token: &str) -> Option<Vec<u8>> {
    match token.strip_prefix(HASHED) {
        None => Some(Sha256::digest(token).to_vec()),
        Some(hex) => {
            let digits: Option<Vec<u8>> = hex.chars().map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
            let digits = digits.filter(|digits| digits.len() == 64)?;
            Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_as_it_is_and_by_its_hash() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens");
        // printf beta | sha256sum
        let beta = "f44e64e75f3948e9f73f8dfa94721c4ce8cbb4f265c4790c702b2d41cfbf2753";
        std::fs::write(&file, format!("alpha\n{HASHED}{beta}\n{HASHED}00\n")).unwrap();
        let ask = |token: &str| {
            let headers = HeaderMap::from_iter([(hyper::header::AUTHORIZATION, token.parse().unwrap())]);
            let query = HashMap::from([("authorization".to_owned(), token.to_owned())]);
            let by_header = has_token(&file, "authorization", &headers, &HashMap::new());
            assert_eq!(by_header, has_token(&file, "authorization", &HeaderMap::new(), &query));
            by_header
        };
        assert!(ask("alpha") && ask("beta"));
        assert!(!ask("gamma") && !ask("") && !ask(beta) && !ask(&format!("{HASHED}{beta}")));
        std::fs::remove_file(&file).unwrap();
        assert!(!ask("alpha"));
    }
}
