//! Writes an outcome down as the answer that a client gets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::job::{
    Denial, DeniedFlow, JobId, OmittedFile, Outcome, OutputFile, Overhead, StageResult, Usage, signal_name,
};
use crate::plan::tree::Ecosystem;
use crate::profile::Limits;

use super::wire::{
    Denied, Encoding, FileResponse, LimitsInForce, OmittedResponse, OverheadResponse, RunResponse, RuntimeUsed,
    StageResponse, UsageResponse,
};

/// What an answer says that an outcome does not know.
#[derive(Debug, Clone)]
pub struct About {
    /// Names the job.
    pub id: JobId,
    /// What ran it.
    pub runtime: RuntimeUsed,
    /// Name of its profile.
    pub profile: String,
    /// Limits of its run stage.
    pub limits: Limits,
    /// Variables that hold placeholders of secrets; none where its profile has no secrets.
    pub secrets: Option<Vec<String>>,
    /// What its prepare stage installs.
    pub installs: Option<Ecosystem>,
}

/// The answer that tells of an outcome.
#[must_use]
pub fn response(about: &About, outcome: Outcome) -> RunResponse {
    RunResponse {
        id: about.id.to_string(),
        status: outcome.status(),
        path: outcome.path,
        retries: outcome.retries,
        overhead_ms: overhead(outcome.overhead),
        runtime: about.runtime.clone(),
        profile: about.profile.clone(),
        secrets: about.secrets.clone(),
        prepare: outcome.prepare.map(made),
        compile: outcome.compile.map(made),
        run: outcome.run.map(stage),
        limits: LimitsInForce { limits: about.limits, enforced_by: outcome.enforced_by },
        files: outcome.files.into_iter().map(file).collect(),
        omitted: outcome.omitted.into_iter().map(omitted).collect(),
        tests: None,
    }
}

/// Bytes as a JSON string, and how they are written there.
#[must_use]
pub fn text(bytes: Vec<u8>) -> (String, Encoding) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, Encoding::Utf8),
        Err(error) => (STANDARD.encode(error.as_bytes()), Encoding::Base64),
    }
}

/// A stage that makes something for the next, and need not run where that is there.
pub(super) fn made(result: StageResult) -> StageResponse {
    StageResponse { cached: Some(result.cached), ..stage(result) }
}

pub(super) fn stage(result: StageResult) -> StageResponse {
    let (stdout, stdout_encoding) = text(result.stdout);
    let (stderr, stderr_encoding) = text(result.stderr);
    StageResponse {
        status: result.status,
        exit_code: result.exit_code,
        signal: result.signal.map(signal_name),
        reason: result.reason,
        stdout,
        stdout_encoding,
        stderr,
        stderr_encoding,
        usage: usage(result.usage),
        denied: denied(result.denied, result.flows),
        network_error: result.network_error,
        cached: None,
    }
}

/// What was refused: system calls first.
pub(super) fn denied(calls: Vec<Denial>, flows: Vec<DeniedFlow>) -> Vec<Denied> {
    calls.into_iter().map(Denied::Syscall).chain(flows.into_iter().map(Denied::Flow)).collect()
}

fn overhead(overhead: Overhead) -> OverheadResponse {
    let milliseconds = |microseconds: u64| microseconds as f64 / 1000.0;
    OverheadResponse {
        queue: milliseconds(overhead.queue_us),
        prepare: milliseconds(overhead.prepare_us),
        start: milliseconds(overhead.start_us),
        collect: milliseconds(overhead.collect_us),
        total: milliseconds(overhead.total_us()),
    }
}

pub(super) fn usage(usage: Usage) -> UsageResponse {
    let milliseconds = |microseconds: u64| microseconds as f64 / 1000.0;
    UsageResponse {
        wall_time_ms: milliseconds(usage.wall_time_us),
        cpu_time_ms: milliseconds(usage.cpu_time_us),
        memory_peak_bytes: usage.memory_peak_bytes,
        processes_peak: usage.processes_peak,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
    }
}

fn file(file: OutputFile) -> FileResponse {
    let size = file.content.len() as u64;
    let (path, path_base64) = either(file.path);
    let (content, content_base64) = either(file.content);
    FileResponse { path, path_base64, content, content_base64, size }
}

fn omitted(file: OmittedFile) -> OmittedResponse {
    let (path, path_base64) = either(file.path);
    OmittedResponse { path, path_base64, reason: file.reason }
}

/// Bytes as text in the first place, or as base64 in the second.
pub(super) fn either(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match text(bytes) {
        (text, Encoding::Utf8) => (Some(text), None),
        (base64, Encoding::Base64) => (None, Some(base64)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::job::{DenialReason, EnforcedBy, Protocol, Status};

    /// A job under the default profile.
    pub(in crate::api) fn about() -> About {
        let config = crate::config::Config::parse("{}").unwrap();
        About {
            id: JobId::random(),
            runtime: RuntimeUsed {
                language: "python".into(),
                version: Some("3.12.4".into()),
                variant: None,
                path: "/usr/bin/python3.12".into(),
            },
            profile: "default".into(),
            limits: config.profiles["default"].run,
            secrets: None,
            installs: None,
        }
    }

    /// Something that the network refused.
    pub(in crate::api) fn flow() -> DeniedFlow {
        DeniedFlow {
            name: Some("example.com".into()),
            address: None,
            port: None,
            protocol: Protocol::Dns,
            reason: DenialReason::NotListed,
            count: 3,
        }
    }

    /// An outcome with something in every field.
    pub(in crate::api) fn outcome(limits: Limits) -> Outcome {
        let run = StageResult {
            status: Status::Signalled,
            exit_code: None,
            signal: Some(11),
            reason: Some("SIGSEGV".into()),
            stdout: b"\xffx".to_vec(),
            stderr: "ä".into(),
            usage: Usage { wall_time_us: 11_200, cpu_time_us: 9_800, memory_peak_bytes: u64::MAX, ..Usage::default() },
            denied: vec![Denial { syscall: "mount".into(), argument: None, count: 2 }],
            flows: vec![flow()],
            network_error: Some("no uplink".into()),
            limits,
            cached: false,
        };
        Outcome {
            prepare: None,
            trees: vec![],
            compile: None,
            run: Some(run),
            files: vec![OutputFile { path: b"a.png".to_vec(), content: vec![0x89, b'P'], executable: false }],
            omitted: vec![OmittedFile { path: b"\xfe".to_vec(), reason: "too large".into() }],
            path: crate::job::Path::Warm,
            retries: 0,
            overhead: crate::job::Overhead { queue_us: 1, prepare_us: 20, start_us: 300, collect_us: 4000 },
            enforced_by: EnforcedBy::Cgroup2,
        }
    }

    #[test]
    fn an_answer_has_the_documented_shape() {
        let about = about();
        let json = serde_json::to_value(response(&about, outcome(about.limits))).unwrap();
        assert_eq!(json["status"], "signalled");
        assert_eq!(json["compile"], serde_json::Value::Null);
        assert_eq!(json["runtime"]["version"], "3.12.4");
        assert_eq!(json["run"]["signal"], "SIGSEGV");
        assert_eq!(json["run"]["exit_code"], serde_json::Value::Null);
        assert_eq!((&json["run"]["stdout"], &json["run"]["stdout_encoding"]), (&"/3g=".into(), &"base64".into()));
        assert_eq!((&json["run"]["stderr"], &json["run"]["stderr_encoding"]), (&"ä".into(), &"utf-8".into()));
        assert_eq!(json["run"]["usage"]["wall_time_ms"], 11.2);
        assert_eq!(json["run"]["usage"]["read_bytes"], serde_json::Value::Null);
        assert_eq!(json["run"]["denied"][0], serde_json::json!({ "syscall": "mount", "argument": null, "count": 2 }));
        assert_eq!(
            json["run"]["denied"][1],
            serde_json::json!({
                "name": "example.com", "address": null, "port": null, "protocol": "dns", "reason": "not_listed", "count": 3
            })
        );
        assert_eq!(json["run"]["network_error"], "no uplink");
        assert_eq!(json["limits"]["wall_time_ms"], 10_000);
        assert_eq!(json["limits"]["enforced_by"], "cgroup2");
        assert_eq!(json["files"][0], serde_json::json!({ "path": "a.png", "content_base64": "iVA=", "size": 2 }));
        assert_eq!(json["omitted"][0], serde_json::json!({ "path_base64": "/g==", "reason": "too large" }));
    }

    #[test]
    fn an_answer_can_be_read_back() {
        let about = about();
        let response = response(&about, outcome(about.limits));
        let json = serde_json::to_string(&response).unwrap();
        assert_eq!(serde_json::from_str::<RunResponse>(&json).unwrap(), response);
    }

    #[test]
    fn a_failed_compilation_has_no_run_stage() {
        let about = about();
        let outcome = outcome(about.limits);
        let failed = Outcome { compile: outcome.run, run: None, ..outcome };
        let response = response(&about, failed);
        assert_eq!((response.status, response.run), (Status::CompileFailed, None));
    }

    #[test]
    fn a_compile_stage_always_tells_whether_it_is_cached() {
        let about = about();
        for cached in [false, true] {
            let outcome = outcome(about.limits);
            let compile = outcome.run.clone().map(|run| StageResult { cached, ..run });
            let json = serde_json::to_value(response(&about, Outcome { compile, ..outcome })).unwrap();
            assert_eq!(json["compile"]["cached"], cached);
            assert_eq!(json["run"].get("cached"), None);
        }
    }
}
