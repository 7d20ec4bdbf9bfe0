//! `GET /openapi.json`: the description of every route, generated from its types.

use std::sync::LazyLock;

use axum::response::IntoResponse;
use hyper::header::CONTENT_TYPE;
use utoipa::OpenApi;

use super::sessions::{attach, contexts, execs, files, life, network, output, ports, snapshots};
use super::{checks, inquiry, run, sessions, wire};

#[derive(OpenApi)]
#[openapi(
    info(title = "codeSandbox", description = "Runs code nobody trusts. HTTP/1.1 on a Unix socket."),
    paths(
        run::run,
        run::cancel,
        inquiry::runtimes,
        checks::check,
        inquiry::profiles,
        inquiry::health,
        inquiry::metrics,
        document,
        life::create,
        life::list,
        life::show,
        life::update,
        life::remove,
        life::stop,
        life::pause,
        life::resume,
        life::promote,
        life::demote,
        network::show,
        network::replace,
        execs::create,
        execs::list,
        execs::show,
        execs::remove,
        execs::stdin,
        execs::signal,
        execs::resize,
        output::output,
        attach::attach,
        files::read,
        files::write,
        files::remove,
        files::stat,
        files::list,
        files::mkdir,
        files::rename,
        files::copy,
        files::search,
        files::watch,
        files::archive,
        files::extract,
        snapshots::create,
        snapshots::list,
        snapshots::remove,
        snapshots::rollback,
        snapshots::export,
        snapshots::fork,
        snapshots::import,
        contexts::create,
        contexts::list,
        contexts::remove,
        contexts::execute,
        contexts::interrupt,
        contexts::restart,
        ports::forward
    ),
    components(schemas(wire::StreamEvent, sessions::wire::AttachEvent, sessions::wire::AttachCommand))
)]
struct Description;

static TEXT: LazyLock<String> = LazyLock::new(text);

/// The description, as JSON for people to read.
#[must_use]
pub fn text() -> String {
    Description::openapi().to_pretty_json().expect("a description has only text keys")
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], TEXT.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(&super::text()).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn fields_of_requests_are_described() {
        let document: Value = serde_json::from_str(&super::text()).unwrap();
        let request = &document["components"]["schemas"]["RunRequest"];
        assert_eq!(request["required"], serde_json::json!(["runtime", "files"]));
        assert_eq!(request["additionalProperties"], false);
        assert!(request["properties"]["limits"].is_object());
        assert!(document["components"]["schemas"]["LimitChanges"]["properties"]["wall_time_ms"].is_object());
    }
}
