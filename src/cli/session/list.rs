//! `codesandbox session ls`, `show` and `ps`.

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::link::{Link, understood};
use super::target::pair;
use super::time::{relative, words};
use super::wire::{Exec, Session};
use super::{SessionError, print, print_json};
use crate::cli::text::{harmless, table};
use crate::client::ClientError;

/// Characters of an id in a table: enough to be given to other commands.
const SHORT: usize = 12;
/// Characters of a command in a table.
const COMMAND: usize = 60;

/// Arguments of `codesandbox session ls`.
#[derive(Debug, clap::Args)]
pub(super) struct ListArguments {
    /// Only those with this label
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Only those in this status: active, paused or stopped
    #[arg(short, long)]
    status: Option<String>,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but whole ids
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

/// Arguments of `codesandbox session show`.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArguments {
    /// The session
    id: String,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `codesandbox session ps`.
#[derive(Debug, clap::Args)]
pub(super) struct ProgramArguments {
    /// The session
    id: String,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// Lists sessions.
pub(super) async fn sessions(link: &Link, arguments: &ListArguments) -> Result<u8, SessionError> {
    let found = link.list(&arguments.labels, arguments.status.as_deref()).await?;
    if arguments.json {
        print_json(json!({"sessions": found, "next": null}).to_string().as_bytes()).await?;
        return Ok(0);
    }
    let read = found.into_iter().map(serde_json::from_value).collect::<Result<Vec<Session>, _>>();
    let sessions = read.map_err(|error| ClientError::Strange(error.to_string()))?;
    if arguments.quiet {
        print(sessions.iter().map(|session| format!("{}\n", harmless(&session.id))).collect::<String>()).await?;
    } else {
        print(render(&sessions)).await?;
    }
    Ok(0)
}

fn render(sessions: &[Session]) -> String {
    let heading = ["ID", "STATUS", "RUNTIMES", "PROGRAMS", "DISK", "CREATED", "USED", "EXPIRES", "LABELS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(sessions.iter().map(row));
    table(&rows)
}

fn row(session: &Session) -> Vec<String> {
    let kept = if session.persistent { " (persistent)" } else { "" };
    vec![
        harmless(&session.id).chars().take(SHORT).collect(),
        format!("{}{kept}", harmless(&session.status)),
        harmless(&session.runtimes.join(" ")),
        session.execs_running.to_string(),
        session.disk.map(|disk| size(disk.used_bytes)).unwrap_or_else(|| "-".to_owned()),
        time(session.created_at.as_deref()),
        time(session.last_used_at.as_deref()),
        time(session.expires_at.as_deref()),
        labels(session),
    ]
}

fn labels(session: &Session) -> String {
    let pairs: Vec<String> = session.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    harmless(&pairs.join(" "))
}

/// Tells all about one.
pub(super) async fn show(link: &Link, arguments: &ShowArguments) -> Result<u8, SessionError> {
    let path = link.session(&arguments.id).await?;
    let body = link.call(Method::GET, &path, None).await?;
    if arguments.json {
        print_json(&body).await?;
    } else {
        print(describe(&understood(&body)?)).await?;
    }
    Ok(0)
}

fn describe(session: &Session) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![name.to_owned(), harmless(&value)]);
        }
    };
    add("id", session.id.clone());
    add("status", session.status.clone());
    add("persistent", if session.persistent { "yes" } else { "no" }.to_owned());
    add("runtimes", session.runtimes.join(" "));
    add("profile", session.profile.clone());
    add("labels", labels(session));
    add("created", time(session.created_at.as_deref()));
    add("used", time(session.last_used_at.as_deref()));
    add("expires", time(session.expires_at.as_deref()));
    add("idle time-out", session.idle_timeout_ms.map(words).unwrap_or_default());
    add("lifetime", session.lifetime_ms.map(words).unwrap_or_default());
    add("programs", session.execs_running.to_string());
    add("restarts", session.restarts.to_string());
    if let Some(disk) = session.disk {
        add("disk", format!("{} of {}", size(disk.used_bytes), size(disk.limit_bytes)));
        add("files", format!("{} of {}", disk.used_files, disk.limit_files));
    }
    let cpus = session.cpus.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
    add("processors", cpus.join(","));
    for (name, value) in &session.limits {
        add(&format!("limit {name}"), value.to_string());
    }
    table(&rows)
}

#[derive(Deserialize)]
struct Execs {
    execs: Vec<Exec>,
}

/// Lists the programs of a session.
pub(super) async fn programs(link: &Link, arguments: &ProgramArguments) -> Result<u8, SessionError> {
    let path = link.session(&arguments.id).await?;
    let body = link.call(Method::GET, &format!("{path}/execs"), None).await?;
    if arguments.json {
        print_json(&body).await?;
    } else {
        print(render_programs(&understood::<Execs>(&body)?.execs)).await?;
    }
    Ok(0)
}

/// The programs of a session, oldest first; `path` is the session's in the API.
pub(super) async fn execs(link: &Link, path: &str) -> Result<Vec<Exec>, SessionError> {
    Ok(link.get::<Execs>(&format!("{path}/execs")).await?.execs)
}

fn render_programs(execs: &[Exec]) -> String {
    let mut rows = vec![["EXEC", "STATE", "TERMINAL", "STARTED", "COMMAND"].map(str::to_owned).to_vec()];
    for exec in execs {
        let ended = exec.result.as_ref().map(|ending| format!("{} ({})", exec.state, ending.brief()));
        let command: String = exec.argv.join(" ").chars().take(COMMAND).collect();
        rows.push(vec![
            harmless(&exec.id.0),
            harmless(&ended.unwrap_or_else(|| exec.state.clone())),
            exec.terminal.map_or("no".to_owned(), |size| format!("{}x{}", size.columns, size.rows)),
            time(exec.started_at.as_deref()),
            harmless(&command),
        ]);
    }
    table(&rows)
}

/// A time in a cell.
pub(super) fn time(rfc3339: Option<&str>) -> String {
    harmless(&rfc3339.map_or_else(|| "-".to_owned(), relative))
}

/// A size in bytes, in the unit that fits.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(factor, _)| bytes >= *factor) {
        Some((factor, unit)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*factor);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let json = json!({"id": "0123456789abcdef0123456789abcdef", "status": "active", "persistent": true,
            "runtimes": ["python-3.12"], "profile": "session", "limits": {"memory_bytes": 1024}, "env": {},
            "labels": {"job": "7", "who": "\u{1b}[2J"}, "created_at": "2020-01-01T00:00:00Z", "last_used_at": "x",
            "expires_at": null, "idle_timeout_ms": 1_800_000, "lifetime_ms": 86_400_000, "restarts": 0,
            "execs_running": 2, "disk": {"used_bytes": 1_572_864, "limit_bytes": 1_073_741_824, "used_files": 3,
            "limit_files": 100}, "cpus": [0, 1]});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_row_has_an_id_that_can_be_copied() {
        let text = render(&[session()]);
        let row = text.lines().nth(1).unwrap();
        assert!(row.starts_with("0123456789ab  active (persistent)  python-3.12  2"), "{text}");
        assert!(row.contains("1.5 MiB") && row.contains("days ago") && row.contains("job=7"), "{text}");
        let column = text.find("STATUS").unwrap();
        assert_eq!(row.find("active"), Some(column), "{text}");
    }

    #[test]
    fn labels_can_not_drive_the_terminal() {
        assert!(!render(&[session()]).contains('\x1b') && !describe(&session()).contains('\x1b'));
    }

    #[test]
    fn all_about_one_is_a_line_each() {
        let text = describe(&session());
        for line in ["idle time-out       30m", "processors          0,1", "files               3 of 100"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("limit memory_bytes  1024"), "{text}");
    }

    #[test]
    fn programs_tell_how_they_ended() {
        let execs = json!([{"id": 1, "session": "x", "argv": ["sleep", "9"], "state": "running", "terminal": null},
            {"id": 2, "argv": ["bash"], "state": "finished", "terminal": {"rows": 24, "columns": 80},
             "result": {"status": "nonzero_exit", "exit_code": 4, "signal": null}}]);
        let text = render_programs(&serde_json::from_value::<Vec<Exec>>(execs).unwrap());
        assert!(text.contains("sleep 9") && text.contains("finished (exit 4)") && text.contains("80x24"), "{text}");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!((size(0), size(1023), size(1536)), ("0 B".into(), "1023 B".into(), "1.5 KiB".into()));
        assert_eq!(size(u64::MAX), "17179869183.9 GiB");
    }
}
