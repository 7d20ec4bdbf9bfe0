//! Times as people write and read them: `30m` on a command line, "3 min ago" in a table.

use std::time::{SystemTime, UNIX_EPOCH};

/// Units of a duration, and what each is in milliseconds.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `90s`, `30m`, `12h` or `2d`, in milliseconds.
///
/// # Errors
/// What is expected, in words.
pub(in crate::cli) fn duration(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let product = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    match product {
        Some(0) => Err("it must be longer than nothing".to_owned()),
        Some(milliseconds) => Ok(milliseconds),
        None => Err("give a whole number with s, m, h or d, such as 90s, 30m, 12h or 2d".to_owned()),
    }
}

/// A duration in the largest unit that leaves nothing over.
pub(super) fn words(milliseconds: u64) -> String {
    let fitting = UNITS.iter().rev().find(|(_, factor)| milliseconds.is_multiple_of(*factor));
    let (unit, factor) = fitting.copied().unwrap_or(("ms", 1));
    if milliseconds == 0 { "0s".to_owned() } else { format!("{}{unit}", milliseconds / factor) }
}

/// A time of the API, told from now: `3 min ago`, `in 2 h`. What is no time stays as it is.
pub(super) fn relative(rfc3339: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    match seconds(rfc3339) {
        Some(then) => told(then, i64::try_from(now).unwrap_or(i64::MAX)),
        None => rfc3339.to_owned(),
    }
}

fn told(then: i64, now: i64) -> String {
    let distance = then.abs_diff(now);
    let (count, unit) = match distance {
        0..5 => return "now".to_owned(),
        5..60 => (distance, "s"),
        60..3_600 => (distance / 60, "min"),
        3_600..172_800 => (distance / 3_600, "h"),
        _ => (distance / 86_400, "days"),
    };
    if then < now { format!("{count} {unit} ago") } else { format!("in {count} {unit}") }
}

/// Seconds since 1970 of a time in UTC, such as `2026-03-01T12:00:00.5Z`.
fn seconds(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (date, clock) = text.split_once('T')?;
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(clock, ':')?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    valid.then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn three(text: &str, divider: char) -> Option<[i64; 3]> {
    let mut parts = text.split(divider).map(|part| part.parse::<u16>().ok().map(i64::from));
    let all = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(all)
}

/// Days since 1970 in the Gregorian calendar. The year begins in March here, so that the day that a
/// leap year has more is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, expected) in
            [("90s", 90_000), ("30m", 1_800_000), ("12h", 43_200_000), ("2d", 172_800_000), ("250ms", 250)]
        {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for text in ["", "30", "m", "1.5h", "-3s", "0s", "3w", "99999999999999999d", "3 m"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_told_as_they_are_written() {
        for text in ["90s", "30m", "12h", "2d", "1500ms"] {
            assert_eq!(words(duration(text).unwrap()), text);
        }
        assert_eq!(words(0), "0s");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:30:15.25Z"), Some(951_827_415));
        assert_eq!(seconds("2026-11-21T13:38:00Z"), Some(1_795_268_280));
        for text in ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+01:00", "2026-01-01"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_told_from_now() {
        assert_eq!(told(100, 102), "now");
        assert_eq!(told(100, 280), "3 min ago");
        assert_eq!(told(100 + 7_300, 100), "in 2 h");
        assert_eq!(told(0, 86_400 * 3), "3 days ago");
        assert_eq!(relative("whenever"), "whenever");
    }
}
