//! Base64 as Judge0 writes and reads it: in lines of 60 characters, each with its end.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

/// Bytes of one line.
const LINE_BYTES: usize = 45;
/// Takes what has padding and what has none.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes as text.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + bytes.len() / LINE_BYTES + 8);
    for line in bytes.chunks(LINE_BYTES) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text
}

/// Text as bytes, wherever its lines end. Judge0 leaves out every character that has no meaning; then a program
/// that was sent as it is would become another one, so nothing but white space is left out here.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let dense: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    LENIENT.decode(dense).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_60_characters_and_an_end() {
        assert_eq!(encode(b""), "");
        assert_eq!(encode(b"hello\n"), "aGVsbG8K\n");
        let text = encode(&[b'x'; 46]);
        assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [60, 4]);
        assert!(text.ends_with("==\n"));
    }

    #[test]
    fn lines_and_padding_are_as_may_be_and_other_characters_are_not() {
        for text in ["aGVsbG8h", "aGVs\nbG8h\n", " aGVs\r\n bG8h", "aGVsbG8h\n\n"] {
            assert_eq!(decode(text).as_deref(), Some(&b"hello!"[..]), "{text:?}");
        }
        assert_eq!(decode("aGk"), decode("aGk="));
        assert_eq!(decode("").as_deref(), Some(&b""[..]));
        for text in ["print(1)", "aGk-", "a", "aGk=aGk="] {
            assert_eq!(decode(text), None, "{text:?}");
        }
        let long: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        assert_eq!(decode(&encode(&long)), Some(long));
    }
}
