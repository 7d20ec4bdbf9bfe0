//! Whether what a program printed is what was expected, by five ways of looking at it.
//!
//! What is compared is bytes: neither side need be text. White space is that of ASCII, as for isspace(3) in
//! the C locale: space, tab, line feed, vertical tab, form feed, carriage return.

use std::fmt;

mod number;

use number::Number;

/// Most bytes of either side that a difference shows.
pub const EXCERPT_BYTES: usize = 256;
/// Longest token that is named in a sentence, in bytes.
const NAMED_BYTES: usize = 40;

/// How the two are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Comparison {
    /// Byte for byte.
    Exact,
    /// Line by line, without white space at the ends of lines and without empty lines at the end.
    Lines,
    /// Word by word, whatever white space is between them.
    Tokens,
    /// As tokens, of which those that are numbers on both sides may differ by so much.
    Numbers(Tolerance),
}

/// How far a number may be from the expected one: by the larger of the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// At most so much.
    pub absolute: f64,
    /// At most so much of the expected number's absolute value.
    pub relative: f64,
}

/// Where the two differ first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Line of what was printed, from 1.
    pub line: u64,
    /// What is the matter, in a sentence without a full stop.
    pub reason: String,
    /// What was expected there, cut to [`EXCERPT_BYTES`].
    pub expected: Vec<u8>,
    /// What was printed there, cut alike.
    pub printed: Vec<u8>,
}

impl Comparison {
    /// Compares.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(&self, expected: &[u8], printed: &[u8]) -> Result<(), Difference> {
        match self {
            Self::Exact => exact(expected, printed),
            Self::Lines => lines(expected, printed),
            Self::Tokens => tokens(expected, printed, |expected, printed| expected == printed),
            Self::Numbers(tolerance) => tokens(expected, printed, |expected, printed| {
                expected == printed || tolerance.allows(expected, printed)
            }),
        }
    }
}

impl Tolerance {
    fn allows(&self, expected: &[u8], printed: &[u8]) -> bool {
        match (Number::parse(expected), Number::parse(printed)) {
            (Some(expected), Some(printed)) => {
                expected.distance(&printed) <= self.absolute.max(self.relative * expected.magnitude())
            }
            _ => false,
        }
    }
}

fn exact(expected: &[u8], printed: &[u8]) -> Result<(), Difference> {
    if expected == printed {
        return Ok(());
    }
    let same = expected.iter().zip(printed).take_while(|(one, other)| one == other).count();
    let reason = match (expected.get(same), printed.get(same)) {
        (Some(_), None) => format!("it ends after {same} of {} bytes", expected.len()),
        (None, _) => format!("it goes on after the {same} bytes that were expected"),
        (Some(wanted), Some(found)) => {
            format!("byte {} is {}, expected {}", same + 1, Shown(&[*found]), Shown(&[*wanted]))
        }
    };
    // From the beginning of the line, so that one sees where it is.
    let start = printed.get(..same).and_then(|before| before.iter().rposition(|byte| *byte == b'\n'));
    let start = start.map_or(0, |newline| newline + 1).max(same.saturating_sub(EXCERPT_BYTES / 2));
    Err(Difference {
        line: 1 + newlines(printed.get(..same).unwrap_or_default()),
        reason,
        expected: excerpt(expected, start),
        printed: excerpt(printed, start),
    })
}

fn lines(expected: &[u8], printed: &[u8]) -> Result<(), Difference> {
    let (mut wanted, mut found) = (trimmed_lines(expected), trimmed_lines(printed));
    for line in 1.. {
        let (wanted, found) = (wanted.next(), found.next());
        if wanted.is_none() && found.is_none() {
            return Ok(());
        }
        if wanted == found {
            continue;
        }
        let reason = match (wanted, found) {
            (Some(_), None) => format!("there is no line {line}"),
            (None, _) => format!("line {line} is one too many"),
            _ => format!("line {line} differs"),
        };
        let cut = |line: Option<&[u8]>| excerpt(line.unwrap_or_default(), 0);
        return Err(Difference { line, reason, expected: cut(wanted), printed: cut(found) });
    }
    Ok(())
}

/// Lines without white space at their ends, and without those at the end that are empty then.
fn trimmed_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = trim_end(bytes);
    // Nothing has no line, and not an empty one.
    let lines = (!whole.is_empty()).then(|| whole.split(|byte| *byte == b'\n'));
    lines.into_iter().flatten().map(trim_end)
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !is_space(*byte)).map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or_default()
}

fn tokens(expected: &[u8], printed: &[u8], same: impl Fn(&[u8], &[u8]) -> bool) -> Result<(), Difference> {
    let (mut wanted, mut found) = (Tokens::of(expected), Tokens::of(printed));
    for number in 1_u64.. {
        let reason = match (wanted.next(), found.next()) {
            (None, None) => return Ok(()),
            (Some(wanted), Some(found)) if same(wanted, found) => continue,
            (Some(wanted), Some(found)) => {
                format!("token {number} is {}, expected {}", Shown(found), Shown(wanted))
            }
            (Some(wanted), None) => format!("it ends before token {number}, expected {}", Shown(wanted)),
            (None, Some(found)) => format!("token {number} is one too many: {}", Shown(found)),
        };
        return Err(Difference {
            line: 1 + newlines(found.before()),
            reason,
            expected: excerpt(expected, wanted.start),
            printed: excerpt(printed, found.start),
        });
    }
    Ok(())
}

/// The words of a text.
struct Tokens<'a> {
    text: &'a [u8],
    /// Where the last one began.
    start: usize,
    end: usize,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { text, start: 0, end: 0 }
    }

    /// What is before the last one.
    fn before(&self) -> &'a [u8] {
        self.text.get(..self.start).unwrap_or_default()
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.text.get(self.end..)?;
        let Some(skipped) = rest.iter().position(|byte| !is_space(*byte)) else {
            (self.start, self.end) = (self.text.len(), self.text.len());
            return None;
        };
        let rest = rest.get(skipped..)?;
        let length = rest.iter().position(|byte| is_space(*byte)).unwrap_or(rest.len());
        self.start = self.end + skipped;
        self.end = self.start + length;
        rest.get(..length)
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn excerpt(bytes: &[u8], start: usize) -> Vec<u8> {
    bytes.get(start..).unwrap_or_default().iter().take(EXCERPT_BYTES).copied().collect()
}

/// Bytes in a sentence: in quotation marks, with escapes, and cut.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.0.get(..NAMED_BYTES).unwrap_or(self.0);
        let more = if cut.len() < self.0.len() { "…" } else { "" };
        match std::str::from_utf8(cut) {
            Ok(text) => write!(f, "\"{}{more}\"", text.escape_debug()),
            Err(_) => write!(f, "\"{}{more}\"", cut.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests;
