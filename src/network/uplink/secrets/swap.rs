//! A secret in the place of its placeholder and back, in headers.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::network::secrets::Secret;

/// Most bytes of all headers of a request together once secrets are in them.
const MOST: usize = 64 << 10;
/// How credentials of user and password begin; RFC 7617.
const BASIC: &[u8] = b"basic ";
/// Programs write it with padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// With the secrets the headers are larger than any that are passed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Puts secrets in the place of their placeholders, in those headers in which each may stand.
pub(super) fn reveal<'a>(headers: &mut HeaderMap, secrets: impl Iterator<Item = &'a Secret>) -> Result<(), TooLarge> {
    for secret in secrets {
        for (_, value) in headers.iter_mut().filter(|(name, _)| secret.headers.contains(name.as_str())) {
            put(value, secret.placeholder.as_bytes(), &secret.value)?;
        }
    }
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > MOST { Err(TooLarge) } else { Ok(()) }
}

/// Puts placeholders in the place of secrets that a host sends back, in whatever header.
pub(super) fn conceal<'a>(headers: &mut HeaderMap, secrets: impl Iterator<Item = &'a Secret>) {
    for secret in secrets {
        for value in headers.values_mut() {
            if put(value, &secret.value, secret.placeholder.as_bytes()).is_err() {
                *value = HeaderValue::from_static("");
            }
        }
    }
}

fn put(value: &mut HeaderValue, this: &[u8], other: &[u8]) -> Result<(), TooLarge> {
    let Some(mut changed) = within(value.as_bytes(), this, other)? else { return Ok(()) };
    let changed = Bytes::from(std::mem::take(&mut *changed));
    // Secrets and placeholders have no byte that a header can't have.
    let mut new = HeaderValue::from_maybe_shared(changed).map_err(|_| TooLarge)?;
    // Not shown in what is printed for debugging.
    new.set_sensitive(true);
    *value = new;
    Ok(())
}

type Changed = Option<Zeroizing<Vec<u8>>>;

/// The value with `other` wherever it has `this`, also in what is base64 in it; none where it has not.
fn within(value: &[u8], this: &[u8], other: &[u8]) -> Result<Changed, TooLarge> {
    if let Some(changed) = replaced(value, this, other)? {
        return Ok(Some(changed));
    }
    let Some((scheme, rest)) = value.split_at_checked(BASIC.len()) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(BASIC) {
        return Ok(None);
    }
    let Ok(credentials) = BASE64.decode(rest.trim_ascii()).map(Zeroizing::new) else { return Ok(None) };
    let Some(changed) = replaced(&credentials, this, other)? else { return Ok(None) };
    let encoded = Zeroizing::new(BASE64.encode(&*changed));
    Ok(Some(Zeroizing::new([scheme, encoded.as_bytes()].concat())))
}

fn replaced(text: &[u8], this: &[u8], other: &[u8]) -> Result<Changed, TooLarge> {
    let (mut places, mut from) = (Vec::new(), 0);
    while let Some(at) = text[from..].windows(this.len().max(1)).position(|part| part == this) {
        places.push(from + at);
        from += at + this.len();
    }
    // Known before it is made: a header may be all placeholders.
    let size = text.len() - places.len() * this.len() + places.len() * other.len();
    match places.len() {
        0 => return Ok(None),
        _ if size > MOST => return Err(TooLarge),
        _ => {}
    }
    // At once: what grows leaves copies behind.
    let mut all = Zeroizing::new(Vec::with_capacity(size));
    let mut from = 0;
    for at in places {
        all.extend_from_slice(&text[from..at]);
        all.extend_from_slice(other);
        from = at + this.len();
    }
    all.extend_from_slice(&text[from..]);
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use hyper::header::{AUTHORIZATION, COOKIE, HeaderName};
    use proptest::prelude::*;

    use super::*;

    const PLACEHOLDER: &str = "csb-secret-0123456789abcdef";
    const VALUE: &str = "correct horse battery staple";

    fn secret() -> Secret {
        Secret {
            variable: "TOKEN".to_owned(),
            placeholder: PLACEHOLDER.to_owned(),
            value: Zeroizing::new(VALUE.into()),
            domains: ["a.example".parse().unwrap()].into(),
            ports: [443].into(),
            headers: ["authorization", "x-api-key"].map(str::to_owned).into(),
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn texts(headers: &HeaderMap) -> Vec<String> {
        headers.values().map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_placeholder_is_replaced_in_the_headers_that_are_named_and_in_no_other() {
        let bearer = format!("Bearer {PLACEHOLDER}");
        let mut all =
            headers(&[("authorization", &bearer), ("x-api-key", PLACEHOLDER), ("cookie", &bearer), ("x", &bearer)]);
        reveal(&mut all, [secret()].iter()).unwrap();
        assert_eq!(texts(&all), [&format!("Bearer {VALUE}"), VALUE, &bearer, &bearer]);
        assert_eq!((all[AUTHORIZATION].is_sensitive(), all[COOKIE].is_sensitive()), (true, false));
        conceal(&mut all, [secret()].iter());
        assert_eq!(texts(&all), [&bearer, PLACEHOLDER, &bearer, &bearer]);
    }

    #[test]
    fn a_placeholder_is_replaced_within_basic_credentials() {
        let basic = |password: &str| format!("Basic {}", BASE64.encode(format!("user:{password}")));
        for written in [basic(PLACEHOLDER), basic(PLACEHOLDER).replace("Basic ", "bAsIc ").replace('=', "")] {
            let mut all = headers(&[("authorization", &written), ("cookie", &written)]);
            reveal(&mut all, [secret()].iter()).unwrap();
            assert_eq!(texts(&all)[0][6..], basic(VALUE)[6..]);
            assert_eq!(texts(&all)[1], written);
            conceal(&mut all, [secret()].iter());
            assert_eq!(texts(&all)[0][6..], basic(PLACEHOLDER)[6..]);
        }
    }

    #[test]
    fn headers_grow_no_larger_than_their_bound() {
        let many = PLACEHOLDER.repeat(MOST / VALUE.len() + 1);
        let mut all = headers(&[("authorization", &many)]);
        assert_eq!(reveal(&mut all, [secret()].iter()), Err(TooLarge));
        let mut few = headers(&[("authorization", &PLACEHOLDER.repeat(3))]);
        assert_eq!(reveal(&mut few, [secret()].iter()), Ok(()));
        // One that is large by itself and has no placeholder is none of ours.
        let long = Secret { value: Zeroizing::new(vec![b'x'; 8 << 10]), ..secret() };
        let mut large = headers(&[("authorization", &"y".repeat(30 << 10))]);
        assert_eq!(reveal(&mut large, [long].iter()), Ok(()));
    }

    proptest! {
        #[test]
        fn what_is_put_in_and_taken_out_again_is_what_it_was(
            parts in proptest::collection::vec("[ -~]{0,20}", 1..6),
            basic: bool,
        ) {
            let text = parts.join(PLACEHOLDER);
            let written = if basic { format!("Basic {}", BASE64.encode(&text)) } else { text.clone() };
            let mut all = headers(&[("authorization", written.trim()), ("other", written.trim())]);
            let before = all.clone();
            reveal(&mut all, [secret()].iter()).unwrap();
            prop_assert_eq!(&all["other"], &before["other"]);
            let shown = all[AUTHORIZATION].as_bytes().to_vec();
            let shown = if basic { BASE64.decode(shown.get(BASIC.len()..).unwrap_or_default()).unwrap() } else { shown };
            let expected = parts.join(VALUE);
            let expected = if basic { expected.as_str() } else { expected.trim() };
            prop_assert_eq!(String::from_utf8(shown).unwrap(), expected);
            conceal(&mut all, [secret()].iter());
            prop_assert_eq!(all, before);
        }

        #[test]
        fn nothing_is_revealed_to_who_has_no_placeholder(value in "[ -~]{0,200}") {
            let mut all = headers(&[("authorization", value.trim())]);
            reveal(&mut all, [secret()].iter()).unwrap();
            prop_assert_eq!(&texts(&all)[0], value.trim());
        }
    }
}
