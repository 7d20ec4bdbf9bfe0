//! Messages of netlink(7), and of its family netfilter: written, and read without trust in their lengths.

/// Flags of a header; netlink(7).
pub(super) const REQUEST: u16 = 0x1;
/// As [`REQUEST`].
pub(super) const ACK: u16 = 0x4;
/// As [`REQUEST`].
pub(super) const CREATE: u16 = 0x400;
/// As [`REQUEST`].
pub(super) const APPEND: u16 = 0x800;
/// As [`REQUEST`].
pub(super) const DUMP: u16 = 0x300;
/// What was dumped changed meanwhile.
pub(super) const DUMP_INTERRUPTED: u16 = 0x10;
/// Type of a message that tells an errno, or none.
pub(super) const ERROR: u16 = 0x2;
/// Type of the message behind a dump.
pub(super) const DONE: u16 = 0x3;

/// Length of a header.
const HEADER: usize = 16;
/// Length of what every message of netfilter has behind its header: family, version, a number.
const NETFILTER: usize = 4;
const NESTED: u16 = 0x8000;
/// What of an attribute's kind is no flag.
const KIND: u16 = 0x3fff;

/// A message that is being written.
#[derive(Debug, Clone)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A message of netfilter: subsystem and kind, family, and the number that some have.
    pub(super) fn netfilter(kind: u16, flags: u16, family: u8, number: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend([family, 0]);
        bytes.extend(number.to_be_bytes());
        Self(bytes)
    }

    /// A message with this behind its header.
    pub(super) fn plain(kind: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
        bytes.extend(body);
        Self(bytes)
    }

    /// A message that somebody else wrote.
    pub(super) fn whole(bytes: Vec<u8>, flags: u16) -> Self {
        let mut message = Self(bytes);
        message.0[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        message
    }

    /// Sets further flags.
    pub(super) fn also(mut self, flags: u16) -> Self {
        for (byte, flag) in self.0[6..8].iter_mut().zip(flags.to_ne_bytes()) {
            *byte |= flag;
        }
        self
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// Adds a name: bytes up to a NUL.
    pub(super) fn named(self, kind: u16, name: &str) -> Self {
        self.with(kind, &[name.as_bytes(), &[0]].concat())
    }

    /// Adds an attribute made of attributes.
    pub(super) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.put(kind | NESTED, &[]);
        let mut filled = fill(self);
        let length = u16::try_from(filled.0.len() - start).expect("callers put less than 64 KiB into one");
        filled.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled
    }

    /// Its bytes, with a number by which answers name it.
    pub(super) fn numbered(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("attributes are less than 64 KiB, and few");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("callers put less than 64 KiB into one");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// A message that was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received<'a> {
    /// Subsystem and kind.
    pub(super) kind: u16,
    /// Flags.
    pub(super) flags: u16,
    /// Number of the message that it answers.
    pub(super) sequence: u32,
    /// All of it.
    pub(super) whole: &'a [u8],
}

impl<'a> Received<'a> {
    /// The errno that it tells; 0 for an acknowledgement.
    pub(super) fn errno(&self) -> Option<i32> {
        let number = self.whole.get(HEADER..HEADER + 4)?;
        Some(i32::from_ne_bytes(number.try_into().ok()?).saturating_neg())
    }

    /// Family of a message of netfilter.
    pub(super) fn family(&self) -> u8 {
        self.whole.get(HEADER).copied().unwrap_or_default()
    }

    /// Attributes of a message of netfilter.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        attributes(self.whole.get(HEADER + NETFILTER..).unwrap_or_default())
    }
}

/// The messages of a datagram, as far as they are whole; the last can be cut.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = usize::try_from(word(0)).ok()?.clamp(HEADER, bytes.len());
        let received = Received { kind: half(4), flags: half(6), sequence: word(8), whole: &bytes[..length] };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(received)
    })
}

/// The attributes in a piece of a message, as far as they are whole.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let half = |at: usize| Some(u16::from_ne_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let (length, kind) = (usize::from(half(0)?), half(2)?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & KIND, value))
    })
}

/// A name: bytes up to a NUL.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let message = Message::netfilter(0x0a06, CREATE, 1, 7)
            .named(1, "table")
            .nest(4, |message| message.with(1, &[1, 2, 3]).with(2, &[4]));
        let bytes = [message.clone().numbered(5), message.numbered(6)].concat();
        let read: Vec<Received<'_>> = messages(&bytes).collect();
        assert_eq!(read.iter().map(|one| one.sequence).collect::<Vec<_>>(), [5, 6]);
        assert_eq!((read[0].kind, read[0].flags, read[0].family()), (0x0a06, CREATE | REQUEST, 1));
        let parts: Vec<(u16, &[u8])> = read[1].attributes().collect();
        assert_eq!((parts[0].0, text(parts[0].1)), (1, "table".to_owned()));
        assert_eq!(attributes(parts[1].1).collect::<Vec<_>>(), [(1, &[1u8, 2, 3][..]), (2, &[4][..])]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for message in messages(&bytes) {
                message.errno();
                for (_, value) in message.attributes() {
                    prop_assert!(text(value).len() <= value.len() * 3);
                    prop_assert!(attributes(value).count() <= value.len());
                }
            }
        }
    }
}
