//! Which form of answer a client wants: the header Accept, RFC 9110 section 12.5.1.

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap};

use super::problem::{Kind, Problem};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON object, when all is over.
    Single,
    /// One JSON object a line, as it happens.
    Lines,
    /// Server-sent events, as it happens.
    ServerSent,
}

impl Form {
    const ALL: [Self; 3] = [Self::Single, Self::Lines, Self::ServerSent];

    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Single => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::ServerSent => "text/event-stream",
        }
    }
}

/// The form that a client likes best; a single answer where it does not care.
pub(super) fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    best_of(&Form::ALL, headers)
}

/// The form of a stream that a client likes best, where there is no single answer; lines where it does
/// not care.
pub(super) fn stream_form(headers: &HeaderMap) -> Result<Form, Problem> {
    best_of(&[Form::Lines, Form::ServerSent], headers)
}

fn best_of(forms: &[Form], headers: &HeaderMap) -> Result<Form, Problem> {
    let not_acceptable = || {
        let types: Vec<&str> = forms.iter().map(|form| form.media_type()).collect();
        Problem {
            field: Some("Accept".to_owned()),
            ..Problem::new(Kind::NotAcceptable, "no form of answer is accepted")
        }
        .allowing(types)
    };
    if !headers.contains_key(ACCEPT) {
        return forms.first().copied().ok_or_else(not_acceptable);
    }
    let mut best: Option<(f32, Form)> = None;
    for &form in forms {
        let quality = quality(headers, form.media_type());
        if quality > best.map_or(0.0, |(quality, _)| quality) {
            best = Some((quality, form));
        }
    }
    best.map(|(_, form)| form).ok_or_else(not_acceptable)
}

/// What the most exact range that fits says of a media type; 0 where none fits.
fn quality(headers: &HeaderMap, media_type: &str) -> f32 {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = values.flat_map(|value| value.split(','));
    let fitting = ranges.filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let exactness = exactness(&parts.next()?.to_ascii_lowercase(), media_type)?;
        let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        Some((exactness, quality))
    });
    fitting.max_by_key(|(exactness, _)| *exactness).map_or(0.0, |(_, quality)| quality)
}

fn exactness(range: &str, media_type: &str) -> Option<u8> {
    let (kind, _) = media_type.split_once('/')?;
    match range {
        "*/*" => Some(0),
        range if range.strip_suffix("/*") == Some(kind) => Some(1),
        range if range == media_type => Some(2),
        _ => None,
    }
}

/// Refuses a body that is not declared to be JSON. A form that a web page could send without
/// asking first is never taken for a request.
pub(super) fn must_be_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem {
        field: Some("Content-Type".to_owned()),
        ..Problem::new(Kind::UnsupportedMediaType, "the body's media type is not JSON")
    }
    .allowing("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<Form> {
        form(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())])).ok()
    }

    #[test]
    fn the_form_with_the_best_quality_is_chosen() {
        for (accept, expected) in [
            ("*/*", Some(Form::Single)),
            ("application/*", Some(Form::Single)),
            ("text/*", Some(Form::ServerSent)),
            ("application/x-ndjson", Some(Form::Lines)),
            ("Application/X-NDJSON", Some(Form::Lines)),
            ("text/event-stream", Some(Form::ServerSent)),
            ("application/json;q=0.5, application/x-ndjson", Some(Form::Lines)),
            ("text/html, */*;q=0.1", Some(Form::Single)),
            ("*/*, application/json;q=0", Some(Form::Lines)),
            ("text/html", None),
            ("application/json;q=0", None),
            ("", None),
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
        assert_eq!(form(&HeaderMap::new()).unwrap(), Form::Single);
    }

    #[test]
    fn what_only_streams_has_no_single_answer() {
        let chosen = |accept: &str| stream_form(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())])).ok();
        assert_eq!(stream_form(&HeaderMap::new()).unwrap(), Form::Lines);
        assert_eq!(chosen("*/*"), Some(Form::Lines));
        assert_eq!(chosen("text/event-stream"), Some(Form::ServerSent));
        assert_eq!(chosen("application/json, text/event-stream;q=0.1"), Some(Form::ServerSent));
        assert_eq!(chosen("application/json"), None);
    }

    #[test]
    fn only_json_is_taken() {
        let given = |value: &str| must_be_json(&HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]));
        assert!(given("application/json").is_ok());
        assert!(given("application/JSON; charset=utf-8").is_ok());
        assert!(given("text/plain").is_err());
        assert!(must_be_json(&HeaderMap::new()).is_err());
    }
}
