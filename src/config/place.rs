//! Where in the text of a configuration a key stands, so that an error can name the line.

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

/// JSON as RFC 8259 has it; the parser's own default is far more lenient.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// The line, from 1, of a key such as `profiles.default.run.wall_time_ms` or
/// `runtimes.trees[2].root`; of the innermost thing around it where the key itself is not there.
/// `None` where the text is no JSON, or does not have even the first part of the key.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICT).ok()?;
    let mut value = &parsed.value?;
    let (mut rest, mut found) = (key, None);
    while !rest.is_empty() {
        let next = match value {
            Value::Object(object) => property(object, rest),
            Value::Array(array) => {
                let (index, after) = rest.trim_start_matches('[').split_once(']').unwrap_or((rest, ""));
                index
                    .parse()
                    .ok()
                    .and_then(|index: usize| array.elements.get(index))
                    .map(|one| (one.start(), one, after))
            }
            _ => None,
        };
        let Some((start, inner, after)) = next else {
            break;
        };
        found = Some(start);
        value = inner;
        rest = after.trim_start_matches('.');
    }
    found.map(|start| line_at(text, start))
}

/// The property whose name `key` begins with, where it starts, and what is left of the key. A name
/// may have dots in it, as versions do; the longest that fits is meant.
fn property<'a, 'b, 'c>(object: &'b Object<'a>, key: &'c str) -> Option<(usize, &'b Value<'a>, &'c str)> {
    let fits = |name: &str| {
        let rest = key.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
    };
    object
        .properties
        .iter()
        .filter_map(|property| Some((property, fits(property.name.as_str())?)))
        .min_by_key(|(_, rest)| rest.len())
        .map(|(property, rest)| (property.start(), &property.value, rest))
}

/// The first key that stands twice in one object: parsers take the last and say nothing, so that
/// what a person reads first is not what holds.
pub(super) fn repeated(text: &str) -> Option<(String, usize)> {
    let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICT).ok()?;
    let (key, start) = repeated_in(&parsed.value?, "")?;
    Some((key, line_at(text, start)))
}

/// The line, from 1, of a byte of the text.
fn line_at(text: &str, start: usize) -> usize {
    1 + text.get(..start).unwrap_or_default().matches('\n').count()
}

fn repeated_in(value: &Value<'_>, place: &str) -> Option<(String, usize)> {
    match value {
        Value::Object(object) => {
            let mut names = Vec::new();
            for property in &object.properties {
                let name = property.name.as_str();
                let key = if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
                if names.contains(&name) {
                    return Some((key, property.start()));
                }
                names.push(name);
                if let Some(found) = repeated_in(&property.value, &key) {
                    return Some(found);
                }
            }
            None
        }
        Value::Array(array) => {
            array.elements.iter().enumerate().find_map(|(index, one)| repeated_in(one, &format!("{place}[{index}]")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
  "runtimes": {
    "defaults": {"python": {
      "3.1": 1,
      "3.12": 90
    }},
    "trees": [
      {"language": "c"},
      {"language": "cobol"}
    ]
  }
}"#;

    #[test]
    fn a_key_is_found_with_dots_in_its_name() {
        assert_eq!(line_of(TEXT, "runtimes.defaults.python.3.12"), Some(5));
        assert_eq!(line_of(TEXT, "runtimes.defaults.python.3.1"), Some(4));
    }

    #[test]
    fn an_element_of_a_list_is_found() {
        assert_eq!(line_of(TEXT, "runtimes.trees[1].language"), Some(9));
    }

    #[test]
    fn a_key_that_is_missing_has_the_line_of_what_is_around_it() {
        assert_eq!(line_of(TEXT, "runtimes.trees[0].root"), Some(8));
        assert_eq!(line_of(TEXT, "profiles.default"), None);
    }

    #[test]
    fn a_key_that_stands_twice_is_found() {
        let text = "{\n\"a\": [{\"b\": 1,\n \"b\": 2}]}";
        assert_eq!(repeated(text), Some(("a[0].b".to_owned(), 3)));
        assert_eq!(repeated(TEXT), None);
    }
}
