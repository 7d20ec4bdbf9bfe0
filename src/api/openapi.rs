//! `GET /openapi.json`: the description of every route, generated from its types.

use std::sync::LazyLock;

use axum::response::IntoResponse;
use hyper::header::CONTENT_TYPE;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, KnownFormat, OpenApi as Document, Ref, RefOr, Required, ResponseBuilder, Schema, SchemaFormat,
};
use utoipa::{Modify, OpenApi};

use super::sessions::{attach, contexts, execs, files, life, network, output, ports, snapshots};
use super::{checks, inquiry, run, sessions, uploads, wire};

#[derive(OpenApi)]
#[openapi(
    info(title = "codeSandbox", description = "Runs code nobody trusts. HTTP/1.1 on a Unix socket; over TCP with a token."),
    paths(
        run::run,
        run::cancel,
        uploads::upload,
        uploads::list,
        uploads::read,
        uploads::remove,
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
    components(schemas(wire::StreamEvent, sessions::wire::AttachEvent, sessions::wire::AttachCommand)),
    security((), ("token" = [])),
    modifiers(&Tokens, &OptionalBodies, &Extended, &Unsigned)
)]
struct Description;

/// What every route has where it is asked over TCP; see [`super::bearer`].
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("Over TCP only")).build();
        if let Some(components) = &mut document.components {
            components.add_security_scheme("token", SecurityScheme::Http(scheme));
        }
        let problem = || ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemDetails"))).build();
        let told = |text: &str| {
            ResponseBuilder::new().description(text).content("application/problem+json", problem()).build().into()
        };
        for operation in operations(document).map(|(_, operation)| operation) {
            let responses = &mut operation.responses.responses;
            responses.entry("401".to_owned()).or_insert_with(|| told("Over TCP: no token, or one that nobody has"));
            responses
                .entry("403".to_owned())
                .or_insert_with(|| told("Over TCP: a page of another origin, or not there"));
        }
    }
}

/// Bodies that need not be there: each of their fields, or all of their bytes, may be absent.
struct OptionalBodies;

const OPTIONAL_BODIES: [&str; 6] = [
    "/v1/files",
    "/v1/sessions/{id}/execs/{exec}/stdin",
    "/v1/sessions/{id}/fork",
    "/v1/sessions/{id}/fs/archive",
    "/v1/sessions/{id}/promote",
    "/v1/sessions/{id}/snapshots",
];

impl Modify for OptionalBodies {
    fn modify(&self, document: &mut Document) {
        let optional = operations(document).filter(|(path, _)| OPTIONAL_BODIES.contains(path));
        for body in optional.filter_map(|(_, operation)| operation.request_body.as_mut()) {
            body.required = Some(Required::False);
        }
    }
}

/// What stands within larger objects, as fields beside theirs: limits are told only so, and what a program has
/// printed where it is told at all.
struct Extended;

impl Modify for Extended {
    fn modify(&self, document: &mut Document) {
        let Some(components) = &mut document.components else { return };
        if let Some(RefOr::T(Schema::Object(limits))) = components.schemas.get_mut("Limits") {
            limits.additional_properties = None;
        }
        if let Some(RefOr::T(Schema::Object(printed))) = components.schemas.get_mut("Printed") {
            printed.required.clear();
        }
    }
}

/// Numbers in queries and paths have no sign, and go beyond those that have one.
struct Unsigned;

impl Modify for Unsigned {
    fn modify(&self, document: &mut Document) {
        let parameters = operations(document).filter_map(|(_, operation)| operation.parameters.as_mut()).flatten();
        for schema in parameters.filter_map(|parameter| parameter.schema.as_mut()) {
            if let RefOr::T(Schema::Object(number)) = schema
                && matches!(number.format, Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            {
                number.format = Some(SchemaFormat::Custom("uint64".to_owned()));
            }
        }
    }
}

fn operations(document: &mut Document) -> impl Iterator<Item = (&str, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        let of_path = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        of_path.into_iter().flatten().map(move |operation| (path.as_str(), operation))
    })
}

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
