//! Numbers as programs print them: decimal, with or without point and exponent.

/// Most digits of an integer that is compared without rounding.
const DIGITS: usize = 38;

/// A finite decimal number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number {
    /// As near as a double is.
    near: f64,
    /// Itself, where it is an integer of at most 38 digits.
    integer: Option<i128>,
}

impl Number {
    /// Reads one: an optional sign, digits with at most one point among them, an optional exponent. `nan`, `inf` and
    /// hexadecimal digits are words like others.
    pub(super) fn parse(token: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(token).ok()?;
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
            return None;
        }
        let near: f64 = text.parse().ok().filter(|near: &f64| near.is_finite())?;
        let is_integer = unsigned.len() <= DIGITS && unsigned.bytes().all(|byte| byte.is_ascii_digit());
        let integer = if is_integer { text.parse().ok() } else { None };
        Some(Self { near, integer })
    }

    /// How far apart two are.
    pub(super) fn distance(&self, other: &Self) -> f64 {
        match (self.integer, other.integer) {
            // Doubles do not tell large integers apart.
            #[allow(clippy::cast_precision_loss, reason = "what is lost is far below the distance itself")]
            (Some(one), Some(other)) => one.abs_diff(other) as f64,
            _ => (self.near - other.near).abs(),
        }
    }

    /// Its absolute value.
    pub(super) fn magnitude(&self) -> f64 {
        self.near.abs()
    }
}
