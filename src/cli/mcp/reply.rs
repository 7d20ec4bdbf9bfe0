//! Results of tools, written for a model: text that says first what it is about, the same as data, and images.

use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::Value;

use super::excerpt::Told;
use crate::client::ClientError;

/// Most bytes of each stream in a result where the call does not say otherwise.
pub(super) const USUAL_OUTPUT: usize = 16 << 10;
/// Most that a call may ask for.
pub(super) const MOST_OUTPUT: usize = 256 << 10;

/// What went wrong, in words by which a model can mend it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The service.
    #[error("{}", in_our_words(.0))]
    Service(#[from] ClientError),
    /// The call itself.
    #[error("{0}")]
    Said(String),
}

impl Trouble {
    /// In these words.
    pub(super) fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }

    /// As a result.
    pub(super) fn result(&self) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text(format!("The call was not carried out: {self}"))])
    }
}

/// Fields of the API, and the arguments that become them.
const ARGUMENTS: &[(&str, &str)] = &[
    ("limits.wall_time_ms", "timeout_ms"),
    ("limits.memory_bytes", "memory_mb"),
    ("files[0].content", "code"),
    ("network.allow", "allow_hosts"),
    ("argv", "command"),
];

fn in_our_words(error: &ClientError) -> String {
    if error.is_absent() {
        return format!(
            "the sandbox service does not answer ({error}); tell the user, there is nothing that you can do"
        );
    }
    let mut text = error.to_string();
    for (field, argument) in ARGUMENTS {
        if text.contains(&format!("field: {field}")) {
            text.push_str(&format!("\n  (that is the argument {argument})"));
        }
    }
    text
}

/// A result as it grows.
#[derive(Debug, Default)]
pub(super) struct Reply {
    lines: Vec<String>,
    blocks: Vec<ContentBlock>,
    data: Value,
}

impl Reply {
    /// With this as data.
    pub(super) fn of(data: &impl Serialize) -> Self {
        let mut data = serde_json::to_value(data).expect("results have only text keys");
        without_null(&mut data);
        Self { data, ..Self::default() }
    }

    /// A line.
    pub(super) fn line(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// An output under a heading; nothing where there is none.
    pub(super) fn output(&mut self, name: &str, told: &Told, rest: Option<&str>) {
        if told.total == 0 {
            return;
        }
        let whole = match (told.cut, rest) {
            (false, _) => String::new(),
            (true, Some(uri)) => format!(", cut; all that is kept is the resource {uri}"),
            (true, None) => ", cut; the rest is not kept, so print less or write it into a file".to_owned(),
        };
        self.lines.push(format!("--- {name}: {} bytes{whole} ---\n{}", told.total, told.text.trim_end_matches('\n')));
    }

    /// What stands behind the text.
    pub(super) fn blocks(&mut self, blocks: Vec<ContentBlock>) {
        self.blocks.extend(blocks);
    }

    /// As a result.
    pub(super) fn result(self) -> CallToolResult {
        let mut content = vec![ContentBlock::text(self.lines.join("\n"))];
        content.extend(self.blocks);
        let mut result = CallToolResult::success(content);
        result.structured_content = Some(self.data);
        result
    }
}

/// What is null is left out, as the schemas have it.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(without_null);
        }
        Value::Array(members) => members.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// How much of each stream is told.
pub(super) fn most(asked: Option<u32>) -> usize {
    asked.map_or(USUAL_OUTPUT, |most| usize::try_from(most).unwrap_or(MOST_OUTPUT).min(MOST_OUTPUT))
}

#[cfg(test)]
mod tests {
    use super::super::excerpt::Excerpt;
    use super::*;
    use crate::client::Refusal;

    #[test]
    fn a_refusal_names_the_argument_at_fault() {
        let body = br#"{"type":"x","title":"x","status":422,"detail":"too much","field":"limits.wall_time_ms","allowed":{"maximum":5}}"#;
        let trouble = Trouble::from(ClientError::Refused(Refusal { status: 422, body: body.as_slice().into() }));
        let result = trouble.result();
        assert_eq!(result.is_error, Some(true));
        let text = &result.content[0].as_text().unwrap().text;
        assert!(text.contains("too much") && text.contains("maximum 5") && text.contains("timeout_ms"), "{text}");
    }

    #[test]
    fn what_is_cut_says_where_the_rest_is() {
        let mut reply = Reply::of(&Value::Null);
        reply.line("status: ok");
        reply.output("stdout", &Excerpt::of(b"", 9), None);
        reply.output("stdout", &Excerpt::of(&[b'x'; 100], 9), Some("codesandbox://runs/1/stdout"));
        reply.output("stderr", &Excerpt::of(&[b'x'; 100], 9), None);
        let result = reply.result();
        let text = &result.content[0].as_text().unwrap().text;
        assert!(text.starts_with("status: ok\n--- stdout: 100 bytes, cut;"), "{text}");
        assert!(text.contains("codesandbox://runs/1/stdout") && text.contains("not kept"), "{text}");
    }

    #[test]
    fn nobody_gets_more_than_the_most() {
        assert_eq!((most(None), most(Some(5)), most(Some(u32::MAX))), (USUAL_OUTPUT, 5, MOST_OUTPUT));
    }
}
