//! Where output may be cut without cutting a character of UTF-8 in two.

/// How many of these bytes come before a character at their end of which only the beginning is
/// there: all but at most three. What is no text at all is not held back.
#[must_use]
pub fn whole(bytes: &[u8]) -> usize {
    for length in 1..=bytes.len().min(3) {
        let (before, end) = bytes.split_at(bytes.len() - length);
        if end.first().is_some_and(|byte| !is_continuation(*byte)) {
            let is_beginning = std::str::from_utf8(end).is_err_and(|error| error.error_len().is_none());
            return if is_beginning { before.len() } else { bytes.len() };
        }
    }
    bytes.len()
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_beginning_of_a_character_is_held_back() {
        for (bytes, expected) in [
            (&b""[..], 0),
            (b"a", 1),
            (b"a\xe2", 1),
            (b"a\xe2\x82", 1),
            (b"a\xe2\x82\xac", 4),
            (b"\xf0\x9f\x8e", 0),
            (b"\xff", 1),
            (b"\x80\x80\x80\x80", 4),
            (b"\xe2\x82\x82\x82", 4),
            // No character begins with C0, or with E0 80.
            (b"a\xc0", 2),
            (b"a\xe0\x80", 3),
            // What comes before it may be anything.
            (b"\xff\xe2\x82", 1),
        ] {
            assert_eq!(whole(bytes), expected, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn text_that_is_cut_anywhere_stays_text(text in any::<String>(), place in any::<prop::sample::Index>()) {
            let cut = text.as_bytes().split_at(place.index(text.len() + 1)).0;
            let whole = whole(cut);
            prop_assert!(cut.len() - whole <= 3);
            prop_assert!(text.is_char_boundary(whole));
        }
    }
}
