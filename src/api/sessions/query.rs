//! The query of a request, checked as fields are: what is unknown, stands twice or is no number is refused.

use axum::extract::Query as Pairs;
use hyper::Uri;

use crate::api::problem::Problem;

/// Names and values, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads a query of which nothing but these names is known.
    pub(super) fn parse(text: &str, names: &[&str]) -> Result<Self, Problem> {
        let broken = || Problem::field("query", "the query cannot be decoded");
        let uri: Uri = format!("/?{text}").parse().map_err(|_| broken())?;
        let Pairs(pairs) = Pairs::<Vec<(String, String)>>::try_from_uri(&uri).map_err(|_| broken())?;
        match pairs.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, _)) => {
                let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
                Err(Problem::field(name, "the query has nothing of this name").allowing(names))
            }
            None => Ok(Self { pairs }),
        }
    }

    /// All values of a name, in order.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a name.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = values.next();
        if values.next().is_some() {
            return Err(Problem::field(name, "it stands in the query twice"));
        }
        Ok(value)
    }

    /// The value of a name, as a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let number = |text: &str| {
            let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok())
        };
        match self.text(name)? {
            Some(text) => number(text)
                .map(Some)
                .ok_or_else(|| Problem::field(name, "this is no number").allowing("digits, up to 64 bits")),
            None => Ok(None),
        }
    }

    /// The value of a name, as yes or no; no where it is absent.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => {
                Err(Problem::field(name, "this is neither true nor false").allowing(["true", "false"].as_slice()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["path", "limit", "append", "label"];

    fn field(text: &str, ask: fn(&Query) -> Result<(), Problem>) -> Option<String> {
        Query::parse(text, NAMES).and_then(|query| ask(&query)).unwrap_err().field
    }

    #[test]
    fn values_are_decoded() {
        let query = Query::parse("path=a%20b%2Fc&limit=7&append=true&label=a%3Db&label=c", NAMES).unwrap();
        assert_eq!(query.text("path").unwrap(), Some("a b/c"));
        assert_eq!((query.number("limit").unwrap(), query.flag("append").unwrap()), (Some(7), true));
        assert_eq!(query.all("label").collect::<Vec<_>>(), ["a=b", "c"]);
        let empty = Query::parse("", NAMES).unwrap();
        assert_eq!((empty.text("path").unwrap(), empty.flag("append").unwrap()), (None, false));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(field("pth=x", |_| Ok(())).as_deref(), Some("pth"));
        assert_eq!(field("path=a&path=b", |query| query.text("path").map(drop)).as_deref(), Some("path"));
        for number in ["-1", "+1", "x", "", "99999999999999999999"] {
            let text = format!("limit={number}");
            assert_eq!(field(&text, |query| query.number("limit").map(drop)).as_deref(), Some("limit"), "{number}");
        }
        assert_eq!(field("append=1", |query| query.flag("append").map(drop)).as_deref(), Some("append"));
    }
}
