//! The keys that leave a program running: seen among everything else that is typed.

use std::str::FromStr;

/// Most keys in a row.
const MOST: usize = 8;

/// A row of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    row: Vec<u8>,
}

impl FromStr for Keys {
    type Err = String;

    /// Reads `ctrl-p,ctrl-q`, or single characters; an empty text is no keys at all.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self { row: Vec::new() });
        }
        let row = text.split(',').map(key).collect::<Option<Vec<u8>>>();
        match row {
            Some(row) if row.len() <= MOST => Ok(Self { row }),
            _ => Err(format!(
                "write at most {MOST} keys as ctrl-p,ctrl-q; a key is one character, or ctrl- and a letter or one of @[\\]^_"
            )),
        }
    }
}

fn key(text: &str) -> Option<u8> {
    let (name, is_control) = match text.strip_prefix("ctrl-") {
        Some(name) => (name, true),
        None => (text, false),
    };
    let [byte] = name.as_bytes() else { return None };
    match (is_control, byte.to_ascii_uppercase()) {
        (true, upper @ b'@'..=b'_') => Some(upper & 0x1f),
        (false, _) if byte.is_ascii_graphic() => Some(*byte),
        _ => None,
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub(super) struct Watch {
    keys: Keys,
    /// What may be the beginning of the keys, and so is not passed on yet.
    held: Vec<u8>,
}

impl Watch {
    /// For these keys.
    pub(super) fn new(keys: Keys) -> Self {
        Self { keys, held: Vec::new() }
    }

    /// Takes what was typed: what is to be passed on of it, and whether the keys were among it. What
    /// follows them is dropped.
    pub(super) fn pass(&mut self, typed: Vec<u8>) -> (Vec<u8>, bool) {
        if self.keys.row.is_empty() {
            return (typed, false);
        }
        let mut passed = Vec::with_capacity(typed.len() + self.held.len());
        for byte in typed {
            self.held.push(byte);
            while !self.keys.row.starts_with(&self.held) {
                passed.push(self.held.remove(0));
            }
            if self.held.len() == self.keys.row.len() {
                self.held.clear();
                return (passed, true);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut watch = Watch::new(keys.parse().unwrap());
        let mut all = Vec::new();
        for piece in pieces {
            let (passed, left) = watch.pass(piece.to_vec());
            all.extend(passed);
            if left {
                return (all, true);
            }
        }
        (all, false)
    }

    #[test]
    fn keys_are_control_characters_or_plain_ones() {
        assert_eq!("ctrl-p,ctrl-Q".parse(), Ok(Keys { row: vec![0x10, 0x11] }));
        assert_eq!("~,.".parse(), Ok(Keys { row: b"~.".to_vec() }));
        assert_eq!("ctrl-],ctrl-@".parse(), Ok(Keys { row: vec![0x1d, 0] }));
        assert_eq!("".parse(), Ok(Keys { row: vec![] }));
        for text in ["ctrl-", "ctrl-pp", "ab", ",", "ctrl-ä", "ctrl-1", "a,b,c,d,e,f,g,h,i", "ctrl p"] {
            assert!(text.parse::<Keys>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_keys_are_found_however_they_arrive() {
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"ls\n\x10\x11more"]), (b"ls\n".to_vec(), true));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"a\x10", b"\x11"]), (b"a".to_vec(), true));
        assert_eq!(typed("ctrl-p,ctrl-p,ctrl-q", &[b"\x10\x10\x10\x11"]), (b"\x10".to_vec(), true));
    }

    #[test]
    fn a_beginning_that_is_none_is_passed_on() {
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"\x10", b"x\x11"]), (b"\x10x\x11".to_vec(), false));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"\x10\x10x"]), (b"\x10\x10x".to_vec(), false));
        assert_eq!(typed("", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }
}
