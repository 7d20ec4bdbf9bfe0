//! What the service tells of itself in Judge0's words.

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::api::sessions::time::rfc3339;
use crate::profile::Network;

use super::languages::{self, Language};
use super::record::Status;
use super::reply::{self, Asked};
use super::{VERSION, now_ms};

const LICENSE: &str =
    concat!(include_str!("../../../../LICENSE-MIT"), "\n", include_str!("../../../../LICENSE-APACHE"));
const DAY_MS: u64 = 86_400_000;
/// Days of which statistics tell, besides today.
const DAYS: u64 = 30;

/// `GET /languages`: those that can be used.
pub(super) async fn languages(asked: Asked) -> Response {
    let all = languages::all(&asked.state.runtimes());
    let present = all.iter().filter(|language| language.found.is_some());
    ok(&present.map(|language| json!({ "id": language.id, "name": language.name })).collect())
}

/// `GET /languages/all`: those that could be used, too.
pub(super) async fn all_languages(asked: Asked) -> Response {
    let all = languages::all(&asked.state.runtimes());
    let shown = |language: &Language| json!({ "id": language.id, "name": language.name, "is_archived": language.found.is_none() });
    ok(&all.iter().map(shown).collect())
}

/// `GET /languages/{id}`
pub(super) async fn language(asked: Asked) -> Response {
    let found = asked.name.parse().ok().and_then(|id| languages::find(id, &asked.state.runtimes()));
    let Some(Language { id, name, found }) = found else { return reply::not_found() };
    let is_archived = found.is_none();
    let line = |of: fn(languages::Found) -> Option<String>| found.clone().and_then(of);
    ok(&json!({
        "id": id,
        "name": name,
        "is_archived": is_archived,
        "source_file": line(|found| found.source_file),
        "compile_cmd": line(|found| found.compile_cmd),
        "run_cmd": line(|found| found.run_cmd),
    }))
}

/// `GET /statuses`
pub(super) async fn statuses(_asked: Asked) -> Response {
    let shown = Status::ALL.map(|status| json!({ "id": status.id(), "description": status.description() }));
    ok(&shown.into_iter().collect())
}

/// `GET /about`
pub(super) async fn about(_asked: Asked) -> Response {
    ok(&json!({
        "version": VERSION,
        "homepage": null,
        "source_code": null,
        "maintainer": concat!("codeSandbox ", env!("CARGO_PKG_VERSION")),
    }))
}

/// `GET /version`
pub(super) async fn version(_asked: Asked) -> Response {
    VERSION.into_response()
}

/// `GET /isolate`: what isolates here.
pub(super) async fn isolate(_asked: Asked) -> Response {
    concat!("codeSandbox ", env!("CARGO_PKG_VERSION"), "\n").into_response()
}

/// `GET /license`
pub(super) async fn license(_asked: Asked) -> Response {
    LICENSE.into_response()
}

/// `GET /system_info`: as much as a client could measure by itself.
pub(super) async fn system(_asked: Asked) -> Response {
    let mut told = Map::new();
    told.insert("Architecture".to_owned(), std::env::consts::ARCH.into());
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    told.insert("CPU(s)".to_owned(), processors.to_string().into());
    if let Ok(system) = nix::sys::sysinfo::sysinfo() {
        let mebibytes = |bytes: u64| Value::from(format!("{}Mi", bytes >> 20));
        told.insert("Mem".to_owned(), mebibytes(system.ram_total()));
        told.insert("Swap".to_owned(), mebibytes(system.swap_total()));
    }
    ok(&told.into())
}

/// `GET /config_info`
pub(super) async fn config(asked: Asked) -> Response {
    let own = &asked.config.judge0;
    let profile = asked.config.profiles.get(&own.profile);
    let has_network = profile.is_some_and(|profile| matches!(profile.network, Network::Allow(_)));
    let mut told = json!({
        "maintenance_mode": own.maintenance_mode,
        "enable_wait_result": own.enable_wait_result,
        "enable_compiler_options": own.enable_compiler_options,
        "allowed_languages_for_compile_options": own.allowed_languages_for_compile_options,
        "enable_command_line_arguments": own.enable_command_line_arguments,
        "enable_submission_delete": own.enable_submission_delete,
        "enable_callbacks": own.enable_callbacks,
        "callbacks_max_tries": own.callbacks_max_tries,
        "callbacks_timeout": own.callbacks_timeout,
        "enable_additional_files": own.enable_additional_files,
        "max_extract_size": own.max_extract_size,
        "enable_batched_submissions": own.enable_batched_submissions,
        "max_submission_batch_size": own.max_submission_batch_size,
        "max_queue_size": own.max_queue_size,
        // What is asked is answered from what is known now.
        "submission_cache_duration": 0.0,
        "use_docs_as_homepage": false,
        "allow_enable_network": own.allow_enable_network && has_network,
        "enable_network": own.enable_network && own.allow_enable_network && has_network,
        "disable_implicit_base64_encoding": own.disable_implicit_base64_encoding,
    });
    let limits = json!({
        "cpu_time_limit": own.cpu_time_limit,
        "max_cpu_time_limit": own.max_cpu_time_limit,
        "cpu_extra_time": own.cpu_extra_time,
        "max_cpu_extra_time": own.max_cpu_extra_time,
        "wall_time_limit": own.wall_time_limit,
        "max_wall_time_limit": own.max_wall_time_limit,
        "memory_limit": own.memory_limit,
        "max_memory_limit": own.max_memory_limit,
        "stack_limit": own.stack_limit,
        "max_stack_limit": own.max_stack_limit,
        "max_processes_and_or_threads": own.max_processes_and_or_threads,
        "max_max_processes_and_or_threads": own.max_max_processes_and_or_threads,
        "enable_per_process_and_thread_time_limit": false,
        "allow_enable_per_process_and_thread_time_limit": true,
        "enable_per_process_and_thread_memory_limit": false,
        "allow_enable_per_process_and_thread_memory_limit": true,
        "max_file_size": own.max_file_size,
        "max_max_file_size": own.max_max_file_size,
        "number_of_runs": own.number_of_runs,
        "max_number_of_runs": own.max_number_of_runs,
        "redirect_stderr_to_stdout": own.redirect_stderr_to_stdout,
    });
    if let (Value::Object(told), Value::Object(limits)) = (&mut told, limits) {
        told.extend(limits);
    }
    ok(&told)
}

/// `GET /statistics`
pub(super) async fn statistics(asked: Asked) -> Response {
    let counts = match asked.judge0.shared.store.counts().await {
        Ok(counts) => counts,
        Err(error) => {
            tracing::error!("submissions can't be counted: {error}");
            return reply::rails(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let name = |id: u64| languages::find(id, &asked.state.runtimes()).map(|language| language.name);
    let of_languages: Vec<Value> = counts
        .languages
        .iter()
        .map(|(id, count)| json!({ "language": { "id": id, "name": name(*id) }, "count": count }))
        .collect();
    let of_statuses: Vec<Value> = counts
        .statuses
        .iter()
        .filter_map(|(id, count)| Some((Status::of(*id)?, count)))
        .map(|(status, count)| json!({ "status": { "id": status.id(), "name": status.description() }, "count": count }))
        .collect();
    let now = now_ms();
    let today = now / DAY_MS;
    let of_day = |day: u64| counts.days.iter().find(|(known, _)| *known == day).map_or(0, |(_, count)| *count);
    let days: Map<String, Value> = (1..=DAYS)
        .map(|before| today.saturating_sub(before))
        .map(|day| (rfc3339(day * DAY_MS)[..10].to_owned(), of_day(day).into()))
        .collect();
    ok(&json!({
        "created_at": rfc3339(now),
        "cached_until": rfc3339(now),
        "submissions": { "total": counts.total, "today": of_day(today), "last_30_days": days },
        "languages": of_languages,
        "statuses": of_statuses,
        "database": { "size_pretty": format!("{} kB", counts.bytes / 1024), "size_in_bytes": counts.bytes },
    }))
}

/// `GET /workers`
pub(super) async fn workers(asked: Asked) -> Response {
    let load = asked.state.scheduler.load();
    ok(&json!([{
        "queue": VERSION,
        "size": load.queued,
        "available": load.slots,
        "idle": load.slots.saturating_sub(load.running),
        "working": load.running,
        "paused": 0,
    }]))
}

/// `POST /authenticate`: whoever comes this far is.
pub(super) async fn authenticate(_asked: Asked) -> Response {
    reply::empty(StatusCode::OK)
}

/// `POST /authorize`
pub(super) async fn authorize(asked: Asked) -> Response {
    asked.authorized().err().unwrap_or_else(|| reply::empty(StatusCode::OK))
}

fn ok(value: &Value) -> Response {
    reply::json(StatusCode::OK, value)
}
