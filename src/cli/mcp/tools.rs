//! The tools: what each is called, what is said of it to models, and who carries it out.

use std::sync::{Arc, OnceLock};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::own::Own;
use super::progress::Progress;
use super::reply::{Reply, Trouble};
use super::server::Shared;
use crate::cli::network::Allowed;

mod background;
mod cells;
mod ending;
mod files;
mod program;
mod run;
mod runtimes;
mod session;
mod snapshots;

/// Those that need no session.
pub(super) const WITHOUT_SESSIONS: [&str; 2] = ["run_code", "list_runtimes"];

/// What a tool does to the world, as far as clients ask.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Only looks.
    Reads,
    /// Adds something.
    Adds,
    /// May change or take away what is there.
    Changes,
    /// Runs code, which may reach a network where it is allowed one.
    Runs,
}

/// A tool that takes `I` and gives `O`.
fn tool<I: JsonSchema, O: JsonSchema>(name: &'static str, title: &str, does: Does, about: &'static str) -> Tool {
    let (reads, destroys, open) = match does {
        Does::Reads => (true, false, false),
        Does::Adds => (false, false, false),
        Does::Changes => (false, true, false),
        // What it does is done in a sandbox, so that nothing is lost; but a program may talk to the world.
        Does::Runs => (false, false, true),
    };
    let hints = ToolAnnotations::with_title(title).read_only(reads).destructive(destroys).open_world(open);
    Tool::new(name, about, schema::<I>())
        .with_title(title)
        .with_raw_output_schema(schema::<O>())
        .with_annotations(hints)
}

/// A schema without references, which not all models follow, without formats that only Rust knows, and with one type for
/// each value: what may be null may as well be absent, here and in what we answer.
fn schema<T: JsonSchema>() -> Arc<JsonObject> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let made = settings.with_transform(RecursiveTransform(plain)).into_generator().into_root_schema_for::<T>();
    match made.to_value() {
        Value::Object(object) => Arc::new(object),
        _ => unreachable!("the schema of a struct is an object"),
    }
}

fn plain(schema: &mut schemars::Schema) {
    schema.remove("format");
    schema.remove("title");
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    let forms = schema.get_mut("anyOf").and_then(Value::as_array_mut);
    let one = forms.and_then(|forms| {
        forms.retain(|form| form.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(one)] = forms.as_slice() { Some(one.clone()) } else { None }
    });
    for (name, value) in one.into_iter().flatten() {
        schema.remove("anyOf");
        if schema.get(&name).is_none() {
            schema.insert(name, value);
        }
    }
}

/// All of them.
pub(super) fn all() -> &'static [Tool] {
    static TOOLS: OnceLock<Vec<Tool>> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let (runs, sessions) = (
            [run::tools(), runtimes::tools()],
            [session::tools(), program::tools(), background::tools(), cells::tools()],
        );
        [runs.concat(), sessions.concat(), files::tools(), snapshots::tools()].concat()
    })
}

/// The table for `docs/API.md`.
pub(in crate::cli) fn markdown() -> String {
    let mut table = String::from("| tool | what it does |\n|---|---|\n");
    for tool in all() {
        let about = tool.description.as_deref().unwrap_or_default();
        let first = about.split_once(". ").map_or(about, |(first, _)| first);
        table.push_str(&format!("| `{}` | {} |\n", tool.name, first.trim_end_matches('.')));
    }
    table
}

/// Whoever carries a call out has these.
struct Call<'a> {
    shared: &'a Shared,
    own: &'a Arc<Own>,
    progress: &'a mut Progress,
}

/// Carries a call out.
pub(super) async fn call(
    name: &str,
    given: JsonObject,
    shared: &Shared,
    own: &Arc<Own>,
    progress: &mut Progress,
) -> Result<rmcp::model::CallToolResult, Trouble> {
    let call = Call { shared, own, progress };
    let reply = match name {
        "run_code" => run::run(call, arguments(given)?).await,
        "list_runtimes" => runtimes::list(call, arguments(given)?).await,
        "session_create" => session::create(call, arguments(given)?).await,
        "session_list" => session::list(call, arguments(given)?).await,
        "session_close" => session::close(call, arguments(given)?).await,
        "session_exec" => program::exec(call, arguments(given)?).await,
        "session_output" => background::output(call, arguments(given)?).await,
        "session_input" => background::input(call, arguments(given)?).await,
        "session_code" => cells::execute(call, arguments(given)?).await,
        "file_read" => files::read(call, arguments(given)?).await,
        "file_write" => files::write(call, arguments(given)?).await,
        "file_list" => files::list(call, arguments(given)?).await,
        "session_snapshot" => snapshots::take(call, arguments(given)?).await,
        "session_rollback" => snapshots::rollback(call, arguments(given)?).await,
        "session_fork" => snapshots::fork(call, arguments(given)?).await,
        _ => Err(Trouble::said("there is no such tool")),
    };
    reply.map(Reply::result)
}

fn arguments<T: DeserializeOwned>(given: JsonObject) -> Result<T, Trouble> {
    serde_path_to_error::deserialize(Value::Object(given)).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!(" {path}") };
        Trouble::said(format!("the arguments are not those of the tool:{place}: {}", error.inner()))
    })
}

/// Packages to install before anything runs, in a sandbox of their own
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Dependencies {
    /// Requirements for Python, such as "requests==2.*" or "numpy"
    python: Option<Vec<String>>,
    /// Packages for Node.js, such as "lodash@4"
    npm: Option<Vec<String>>,
}

/// What run_code and session_create have in common, as a request of the API has it.
fn common(
    request: &mut Map<String, Value>,
    shared: &Shared,
    dependencies: Option<&Dependencies>,
    allow_hosts: Option<&[String]>,
) -> Result<(), Trouble> {
    if let Some(profile) = &shared.profile {
        request.insert("profile".to_owned(), json!(profile));
    }
    if let Some(asked) = dependencies {
        let listed = [("python", &asked.python), ("npm", &asked.npm)];
        let listed = listed.into_iter().filter_map(|(name, list)| Some((name.to_owned(), json!(list.as_ref()?))));
        let listed: Map<String, Value> = listed.collect();
        if !listed.is_empty() {
            request.insert("dependencies".to_owned(), Value::Object(listed));
        }
    }
    if let Some(hosts) = allow_hosts {
        let forms: Result<Vec<_>, _> = hosts.iter().map(|host| host.parse::<Allowed>()).collect();
        let forms = forms.map_err(|error| Trouble::said(format!("allow_hosts: {error}")))?;
        let forms: Vec<_> = forms.iter().map(Allowed::form).collect();
        request.insert("network".to_owned(), if forms.is_empty() { json!("none") } else { json!({ "allow": forms }) });
    }
    Ok(())
}

/// Limits as a request has them.
fn limits(request: &mut Map<String, Value>, timeout_ms: Option<u64>, memory_mb: Option<u64>) {
    let memory = memory_mb.map(|memory| memory.saturating_mul(1 << 20));
    let given = [("wall_time_ms", timeout_ms), ("memory_bytes", memory)];
    let given: Map<String, Value> =
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect();
    if !given.is_empty() {
        request.insert("limits".to_owned(), Value::Object(given));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_says_what_it_takes_and_gives_without_references() {
        for tool in all() {
            let input = Value::Object(tool.input_schema.as_ref().clone());
            let output = Value::Object(tool.output_schema.as_ref().unwrap().as_ref().clone());
            for schema in [&input, &output] {
                assert_eq!(schema["type"], "object", "{}", tool.name);
                let text = schema.to_string();
                for word in ["$ref", "format", "null", "anyOf"] {
                    assert!(!text.contains(&format!("\"{word}\"")), "{}: {word} in {text}", tool.name);
                }
            }
            assert_eq!(input["additionalProperties"], false, "{}", tool.name);
            for (name, argument) in input["properties"].as_object().into_iter().flatten() {
                assert!(argument["description"].is_string(), "{}: {name} is not described", tool.name);
            }
            assert!(tool.description.as_ref().unwrap().len() < 1200, "{} says too much", tool.name);
        }
    }

    #[test]
    fn all_tools_together_leave_room_for_a_conversation() {
        let bytes = serde_json::to_string(all()).unwrap().len();
        assert!(bytes < 32 << 10, "{bytes}");
    }

    #[test]
    fn an_argument_that_there_is_not_is_named() {
        let given = json!({"runtime": "python", "code": "1", "tmeout_ms": 5});
        let Value::Object(given) = given else { unreachable!() };
        let error = arguments::<run::RunCode>(given).unwrap_err().to_string();
        assert!(error.contains("tmeout_ms") && error.contains("timeout_ms"), "{error}");
    }
}
