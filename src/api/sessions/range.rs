//! Parts of a file that a client asks for: the header Range, RFC 9110, section 14. One range of bytes is
//! served; of several, of other units and of what is no range the standard lets the whole be given.

use hyper::header::{HeaderMap, RANGE};

/// What a client wants of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// From this byte on, to this one or to the end.
    From(u64, Option<u64>),
    /// As many bytes at the end.
    Last(u64),
}

/// A part that a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Its first byte.
    pub(super) offset: u64,
    /// Its bytes; never 0.
    pub(super) length: u64,
}

/// The file has no such part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsatisfiable;

/// What a request wants.
pub(super) fn wanted(headers: &HeaderMap) -> Wanted {
    let mut values = headers.get_all(RANGE).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(value), None) => one(value).unwrap_or(Wanted::Whole),
        _ => Wanted::Whole,
    }
}

fn one(value: &str) -> Option<Wanted> {
    let (unit, range) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    match (first, last) {
        ("", last) => Some(Wanted::Last(position(last)?)),
        (first, "") => Some(Wanted::From(position(first)?, None)),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(Wanted::From(first, Some(last)))
        }
    }
}

/// A number as the grammar has it: digits. One of more than 64 bits is beyond every file.
fn position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

impl Wanted {
    /// Which part of a file of this size that is; `None` for the whole.
    pub(super) fn of(self, size: u64) -> Result<Option<Part>, Unsatisfiable> {
        match self {
            Self::Whole => Ok(None),
            Self::From(first, _) if first >= size => Err(Unsatisfiable),
            Self::From(offset, last) => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                Ok(Some(Part { offset, length: end - offset }))
            }
            Self::Last(length) if length == 0 || size == 0 => Err(Unsatisfiable),
            Self::Last(length) => {
                let length = length.min(size);
                Ok(Some(Part { offset: size - length, length }))
            }
        }
    }
}

impl Part {
    /// The header Content-Range of an answer with this part of a file of this size.
    pub(super) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.offset, self.offset + self.length - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(value: &str, size: u64) -> Result<Option<(u64, u64)>, Unsatisfiable> {
        let headers = HeaderMap::from_iter([(RANGE, value.parse().unwrap())]);
        wanted(&headers).of(size).map(|part| part.map(|part| (part.offset, part.length)))
    }

    #[test]
    fn the_examples_of_the_standard_are_understood() {
        for (value, part) in [
            ("bytes=0-499", (0, 500)),
            ("bytes=500-999", (500, 500)),
            ("bytes=-500", (9500, 500)),
            ("bytes=9500-", (9500, 500)),
            ("bytes=0-0", (0, 1)),
            ("bytes=-1", (9999, 1)),
            ("Bytes=9999-99999999999999999999999", (9999, 1)),
            ("bytes=-20000", (0, 10_000)),
        ] {
            assert_eq!(of(value, 10_000), Ok(Some(part)), "{value}");
        }
    }

    #[test]
    fn what_is_no_single_range_of_bytes_gets_the_whole() {
        for value in ["bytes=0-0,-1", "lines=1-2", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-", "bytes=+1-", "0-1", ""]
        {
            assert_eq!(of(value, 10), Ok(None), "{value}");
        }
        assert_eq!(wanted(&HeaderMap::new()), Wanted::Whole);
        let twice = HeaderMap::from_iter([(RANGE, "bytes=0-".parse().unwrap())]);
        let mut twice: HeaderMap = twice;
        twice.append(RANGE, "bytes=1-".parse().unwrap());
        assert_eq!(wanted(&twice), Wanted::Whole);
    }

    #[test]
    fn a_part_that_a_file_does_not_have_is_refused() {
        for (value, size) in
            [("bytes=10-", 10), ("bytes=10-11", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)]
        {
            assert_eq!(of(value, size), Err(Unsatisfiable), "{value}");
        }
    }

    #[test]
    fn an_answer_says_which_part_it_has() {
        assert_eq!(Part { offset: 500, length: 500 }.content_range(1234), "bytes 500-999/1234");
    }

    proptest! {
        #[test]
        fn a_part_lies_within_its_file(value in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in any::<u64>()) {
            if let Ok(Some((offset, length))) = of(&value, size) {
                prop_assert!(length > 0 && offset.checked_add(length).is_some_and(|end| end <= size));
            }
        }
    }
}
