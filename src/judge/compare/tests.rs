//! Pairs that are alike and pairs that are not, in each way of looking.

use super::*;

const CLOSE: Comparison = Comparison::Numbers(Tolerance { absolute: 1e-6, relative: 1e-6 });
const STRICT: Comparison = Comparison::Numbers(Tolerance { absolute: 0.0, relative: 0.0 });

#[track_caller]
fn alike(how: Comparison, pairs: &[(&str, &str)]) {
    for (expected, printed) in pairs {
        assert_eq!(how.compare(expected.as_bytes(), printed.as_bytes()), Ok(()), "{expected:?} {printed:?}");
    }
}

#[track_caller]
fn differ(how: Comparison, pairs: &[(&str, &str, u64, &str)]) {
    for (expected, printed, line, reason) in pairs {
        let difference = how.compare(expected.as_bytes(), printed.as_bytes()).unwrap_err();
        assert_eq!((difference.line, &*difference.reason), (*line, *reason), "{expected:?} {printed:?}");
    }
}

#[test]
fn exact_is_byte_for_byte() {
    alike(Comparison::Exact, &[("", ""), ("a\n", "a\n"), ("\r\n\0", "\r\n\0")]);
    differ(
        Comparison::Exact,
        &[
            ("a\n", "a", 1, "it ends after 1 of 2 bytes"),
            ("a", "a\n", 1, "it goes on after the 1 bytes that were expected"),
            ("1\n2\n3", "1\n2\n4", 3, "byte 5 is \"4\", expected \"3\""),
            ("a\n", "a\r\n", 1, "byte 2 is \"\\r\", expected \"\\n\""),
        ],
    );
}

#[test]
fn lines_ignore_what_nobody_sees() {
    alike(
        Comparison::Lines,
        &[("", "\n\n"), ("a", "a\n"), ("a \nb", "a\t\r\nb\n\n \n"), ("\na", "\na"), ("", " \t\n")],
    );
    differ(
        Comparison::Lines,
        &[
            ("a\nb", "a", 2, "there is no line 2"),
            ("a", "a\nb", 2, "line 2 is one too many"),
            ("a b", "a  b", 1, "line 1 differs"),
            ("a", " a", 1, "line 1 differs"),
            ("a\n\nb", "a\nb", 2, "line 2 differs"),
            ("a", "", 1, "there is no line 1"),
        ],
    );
}

#[test]
fn tokens_ignore_all_white_space() {
    alike(Comparison::Tokens, &[("", " \n"), ("1 2\n3", "\n1\t2\x0b\x0c3  ")]);
    differ(
        Comparison::Tokens,
        &[
            ("1 2", "12", 1, "token 1 is \"12\", expected \"1\""),
            ("1 2", "1\n\n", 3, "it ends before token 2, expected \"2\""),
            ("1", "1\n2", 2, "token 2 is one too many: \"2\""),
            ("1.0", "1", 1, "token 1 is \"1\", expected \"1.0\""),
        ],
    );
}

#[test]
fn numbers_may_be_a_little_off() {
    alike(
        CLOSE,
        &[
            ("0.5", "5e-1"),
            ("1", "+1.0000009"),
            ("1000000", "1000001"),
            ("-0.0", "0"),
            ("x 1", "x 1.0"),
            ("nan inf", "nan inf"),
            (".5", "0.5"),
        ],
    );
    differ(
        CLOSE,
        &[
            ("1", "1.1", 1, "token 1 is \"1.1\", expected \"1\""),
            ("nan", "NaN", 1, "token 1 is \"NaN\", expected \"nan\""),
            ("inf", "1e999", 1, "token 1 is \"1e999\", expected \"inf\""),
            ("1", "nan", 1, "token 1 is \"nan\", expected \"1\""),
            ("16", "0x10", 1, "token 1 is \"0x10\", expected \"16\""),
            ("1", "1e", 1, "token 1 is \"1e\", expected \"1\""),
        ],
    );
}

#[test]
fn large_integers_are_not_rounded() {
    alike(STRICT, &[("1", "1.0"), ("007", "7"), ("9007199254740993", "9007199254740993.0")]);
    for (expected, printed) in [("9007199254740993", "9007199254740992"), ("1".repeat(38).as_str(), &"1".repeat(37))] {
        assert!(STRICT.compare(expected.as_bytes(), printed.as_bytes()).is_err(), "{expected} {printed}");
    }
    let off_by_one = Comparison::Numbers(Tolerance { absolute: 1.0, relative: 0.0 });
    alike(off_by_one, &[("9007199254740993", "9007199254740992")]);
}

#[test]
fn what_is_shown_is_bounded_and_begins_where_they_differ() {
    let long = vec![b'a'; 10_000];
    let mut other = long.clone();
    other[9_000] = b'b';
    let shown = Comparison::Exact.compare(&long, &other).unwrap_err();
    assert!(shown.expected.len() <= EXCERPT_BYTES && shown.printed.contains(&b'b'));
    let shown = Comparison::Lines.compare(&long, &other).unwrap_err();
    assert_eq!((shown.expected.len(), shown.printed.len()), (EXCERPT_BYTES, EXCERPT_BYTES));
    let shown = Comparison::Tokens.compare(&long, &other).unwrap_err();
    assert!(shown.reason.len() < 200, "{}", shown.reason);
    let shown = Comparison::Tokens.compare(b"1 2 3", b"1 5 3").unwrap_err();
    assert_eq!((&*shown.expected, &*shown.printed), (&b"2 3"[..], &b"5 3"[..]));
    let shown = Comparison::Tokens.compare(b"a", &[0xff, 0]).unwrap_err();
    assert_eq!(shown.reason, "token 1 is \"\\xff\\x00\", expected \"a\"");
}

proptest::proptest! {
    #[test]
    fn each_way_allows_what_the_stricter_one_does(
        expected in "[ 1-3.\n]{0,40}", printed in "[ 1-3.\n]{0,40}",
    ) {
        let (expected, printed) = (expected.as_bytes(), printed.as_bytes());
        let order = [Comparison::Exact, Comparison::Lines, Comparison::Tokens, STRICT, CLOSE];
        let results = order.map(|how| how.compare(expected, printed).is_ok());
        assert!(results.is_sorted(), "{results:?}");
        for how in order {
            assert_eq!(how.compare(expected, expected), Ok(()));
        }
    }
}
