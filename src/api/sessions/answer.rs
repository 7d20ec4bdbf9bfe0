//! Writes down what the manager knows as the answers that clients get.

use super::time::rfc3339;
use super::wire::{
    ContextEvent, ContextResponse, DiskResponse, ExecResponse, ExecResult, KeptResponse, NetworkResponse, Printed,
    SessionResponse, SizeRequest, SnapshotResponse,
};
use crate::api::answer;
use crate::job::{self, signal_name};
use crate::session::{kernel, types};

/// Most bytes of each stream that one answer tells.
pub const PRINTED_BYTES: usize = 1 << 20;

/// A session.
#[must_use]
pub fn session(view: types::View) -> SessionResponse {
    SessionResponse {
        id: view.id.to_string(),
        status: view.status.name().to_owned(),
        persistent: view.persistent,
        runtimes: view.runtimes,
        profile: view.profile,
        limits: view.limits,
        env: view.env,
        labels: view.labels,
        created_at: rfc3339(view.created_at_ms),
        last_used_at: rfc3339(view.last_used_ms),
        expires_at: rfc3339(view.expires_at_ms),
        idle_timeout_ms: view.idle_timeout_ms,
        lifetime_ms: view.lifetime_ms,
        restarts: view.restarts,
        execs_running: view.execs_running,
        disk: view.disk.map(|disk| DiskResponse {
            used_bytes: disk.used_bytes,
            limit_bytes: disk.limit_bytes,
            used_files: disk.used_files,
            limit_files: disk.limit_files,
        }),
        cpus: view.cpus,
    }
}

/// The network of a session.
#[must_use]
pub fn network(view: types::NetworkView) -> NetworkResponse {
    NetworkResponse { network: (&view.network).into(), denied: view.denied, network_error: view.error }
}

/// A program of a session.
#[must_use]
pub fn exec(session: &str, view: types::ExecView) -> ExecResponse {
    let kept = |range: types::Range| KeptResponse { first: range.first, next: range.next };
    ExecResponse {
        id: view.id,
        session: session.to_owned(),
        argv: view.argv,
        state: if view.result.is_some() { "finished" } else { "running" }.to_owned(),
        started_at: rfc3339(view.started_at_ms),
        detached: view.detached,
        terminal: view.terminal.map(|size| SizeRequest { rows: size.rows, columns: size.columns }),
        stdout: kept(view.stdout),
        stderr: view.stderr.map(kept),
        result: view.result.map(result),
    }
}

/// What became of a program, without what it printed.
#[must_use]
pub fn result(result: types::ExecResult) -> ExecResult {
    ExecResult {
        status: result.status,
        exit_code: result.exit_code,
        signal: result.signal.map(signal_name),
        limit: limit(result.status).map(str::to_owned),
        reason: result.reason,
        denied: answer::denied(result.denied, result.flows),
        network_error: result.network_error,
        usage: answer::usage(result.usage),
        printed: None,
    }
}

/// Name of the limit that a status tells of.
fn limit(status: job::Status) -> Option<&'static str> {
    match status {
        job::Status::WallTimeExceeded => Some("wall_time_ms"),
        job::Status::CpuTimeExceeded => Some("cpu_time_ms"),
        job::Status::MemoryExceeded => Some("memory_bytes"),
        job::Status::OutputExceeded => Some("output_bytes"),
        job::Status::ProcessesExceeded => Some("processes"),
        job::Status::FileSizeExceeded => Some("file_size_bytes"),
        job::Status::DiskExceeded => Some("disk_bytes"),
        job::Status::Ok
        | job::Status::NonzeroExit
        | job::Status::Signalled
        | job::Status::SyscallDenied
        | job::Status::Cancelled
        | job::Status::CompileFailed
        | job::Status::PrepareFailed => None,
    }
}

/// Gathers what a program prints, up to [`PRINTED_BYTES`] of each stream.
#[derive(Debug, Default)]
pub struct Gathered {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

impl Gathered {
    /// Takes what happened into account.
    pub fn note(&mut self, happening: &types::Happening) {
        match happening {
            types::Happening::Output { stream, bytes, .. } => {
                let to = match stream {
                    types::Stream::Stdout => &mut self.stdout,
                    types::Stream::Stderr => &mut self.stderr,
                };
                let fitting = bytes.len().min(PRINTED_BYTES - to.len());
                to.extend_from_slice(&bytes[..fitting]);
                self.truncated |= fitting < bytes.len();
            }
            types::Happening::Gap { .. } => self.truncated = true,
            types::Happening::Denied(_) | types::Happening::Finished(_) | types::Happening::End => {}
        }
    }

    /// All of it; `begins_late` tells that bytes were lost before the first.
    #[must_use]
    pub fn printed(self, begins_late: bool) -> Printed {
        let (stdout, stdout_encoding) = answer::text(self.stdout);
        let (stderr, stderr_encoding) = answer::text(self.stderr);
        let truncated = self.truncated || begins_late;
        Printed { stdout, stdout_encoding, stderr, stderr_encoding, truncated }
    }
}

/// A snapshot.
#[must_use]
pub fn snapshot(view: types::SnapshotView) -> SnapshotResponse {
    SnapshotResponse {
        id: view.id,
        created_at: rfc3339(view.created_at_ms),
        label: view.label,
        bytes: view.bytes,
        files: view.files,
    }
}

/// A context.
#[must_use]
pub fn context(view: types::ContextView) -> ContextResponse {
    ContextResponse {
        id: view.id,
        language: view.language,
        state: view.state.name().to_owned(),
        executions: view.executions,
        created_at: rfc3339(view.created_at_ms),
    }
}

/// What a piece of code put out.
#[must_use]
pub fn output(output: kernel::Output) -> ContextEvent {
    match output {
        kernel::Output::Stream { name, text } => {
            let name = match name {
                kernel::StreamName::Stdout => "stdout",
                kernel::StreamName::Stderr => "stderr",
            };
            ContextEvent::Stream { name: name.to_owned(), text }
        }
        kernel::Output::DisplayData { data, metadata } => ContextEvent::DisplayData { data, metadata },
        kernel::Output::ExecuteResult { data, metadata, execution_count } => {
            ContextEvent::ExecuteResult { data, metadata, execution_count }
        }
        kernel::Output::Error { ename, evalue, traceback } => ContextEvent::Error { ename, evalue, traceback },
    }
}

/// How a piece of code ended: `ok`, `error` or `interrupted`; `dead` where its interpreter ended before it.
#[must_use]
pub fn ending(ended: Option<kernel::Ended>) -> (String, Option<u64>) {
    let status = match ended {
        None => "dead",
        Some(kernel::Ended { interrupted: true, .. }) => "interrupted",
        Some(kernel::Ended { ok: true, .. }) => "ok",
        Some(kernel::Ended { ok: false, .. }) => "error",
    };
    (status.to_owned(), ended.map(|ended| ended.execution_count))
}
