//! Long output in few bytes: its beginning and its end, with a line between that says what is missing.

use std::collections::VecDeque;

/// Of what may be told, the part that is of the beginning; the end of an output is where errors stand.
const HEAD_SHARE: usize = 3;

/// Bytes as they come, of which only the beginning and the end are kept.
#[derive(Debug)]
pub(super) struct Excerpt {
    head: Vec<u8>,
    head_most: usize,
    tail: VecDeque<u8>,
    tail_most: usize,
    total: u64,
    lost: u64,
}

/// What is told of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// The text; where bytes were no UTF-8, with a sign in their place.
    pub(super) text: String,
    /// How many bytes there were.
    pub(super) total: u64,
    /// Whether something is missing.
    pub(super) cut: bool,
}

impl Excerpt {
    /// Of at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        let head_most = most / HEAD_SHARE;
        Self { head: Vec::new(), head_most, tail: VecDeque::new(), tail_most: most - head_most, total: 0, lost: 0 }
    }

    /// Of something that is there as a whole.
    pub(super) fn of(bytes: &[u8], most: usize) -> Told {
        let mut excerpt = Self::new(most);
        excerpt.push(bytes);
        excerpt.told()
    }

    /// More bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = (self.head_most - self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        // Only what can stay is copied, however long the piece.
        let kept = rest.get(rest.len().saturating_sub(self.tail_most)..).unwrap_or_default();
        let over = (self.tail.len() + kept.len()).saturating_sub(self.tail_most);
        self.tail.drain(..over);
        self.tail.extend(kept);
    }

    /// So many bytes were there, and nobody has them any more.
    pub(super) fn lose(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// The text.
    pub(super) fn told(mut self) -> Told {
        let kept = (self.head.len() + self.tail.len()) as u64;
        let missing = self.total - kept + self.lost;
        let tail = self.tail.make_contiguous();
        let text = if missing == 0 {
            self.head.extend_from_slice(tail);
            lossy(&self.head)
        } else {
            let (head, tail) = (whole_end(&self.head), whole_start(tail));
            format!("{}\n[... {missing} bytes are left out here ...]\n{}", lossy(head), lossy(tail))
        };
        Told { text, total: self.total + self.lost, cut: missing > 0 }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Without a character at the end of which only a part is there.
fn whole_end(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.get(..error.valid_up_to()).unwrap_or_default(),
        _ => bytes,
    }
}

/// Without the rest of a character whose beginning is not there.
fn whole_start(bytes: &[u8]) -> &[u8] {
    let rest = bytes.iter().take(3).take_while(|byte| (0x80..0xc0).contains(*byte)).count();
    bytes.get(rest..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_told_as_it_is() {
        let told = Excerpt::of("größe".as_bytes(), 7);
        assert_eq!(told, Told { text: "größe".to_owned(), total: 7, cut: false });
        assert_eq!(Excerpt::of(b"", 0).text, "");
    }

    #[test]
    fn of_what_does_not_fit_both_ends_are_told() {
        let text: String = (0..1000).map(|number| format!("line {number}\n")).collect();
        let told = Excerpt::of(text.as_bytes(), 90);
        assert!(told.cut && told.total == text.len() as u64);
        assert!(told.text.starts_with("line 0\n") && told.text.ends_with("line 999\n"), "{}", told.text);
        let missing = format!("[... {} bytes are left out here ...]", text.len() - 90);
        assert!(told.text.contains(&missing), "{}", told.text);
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..5000_u32).map(|number| b'a' + u8::try_from(number % 26).unwrap()).collect();
        for most in [0, 1, 2, 100, 4999, 5000, 9000] {
            let whole = Excerpt::of(&bytes, most);
            for piece in [1, 7, 64, 4096] {
                let mut excerpt = Excerpt::new(most);
                bytes.chunks(piece).for_each(|piece| excerpt.push(piece));
                assert_eq!(excerpt.told(), whole, "{most} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn characters_are_not_cut_in_two() {
        for most in 0..64 {
            let told = Excerpt::of("äöü€😀".repeat(20).as_bytes(), most);
            assert!(!told.text.contains('\u{fffd}'), "{most}: {}", told.text);
        }
    }

    #[test]
    fn what_was_lost_before_it_came_is_missing_too() {
        let mut excerpt = Excerpt::new(100);
        excerpt.lose(5);
        excerpt.push(b"end");
        let told = excerpt.told();
        assert!(told.cut && told.total == 8 && told.text.contains("5 bytes"), "{told:?}");
    }
}
