//! Where events are logged: the journal where standard error leads there, else standard error.

use std::os::unix::fs::MetadataExt;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging: from `info` upwards, or as `RUST_LOG` says.
pub(super) fn start() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let subscriber = tracing_subscriber::registry().with(filter);
    let journal = is_journal().then(tracing_journald::layer).and_then(Result::ok);
    let started = match journal {
        // Without the usual prefix, the field job_id of an event is the journal's JOB_ID=.
        Some(journal) => subscriber.with(journal.with_field_prefix(None)).try_init(),
        None => subscriber.with(fmt::layer().with_writer(std::io::stderr).with_target(false)).try_init(),
    };
    // The error is that somebody has started logging already, which is as good.
    drop(started);
}

/// Whether standard error leads to the journal: systemd.exec(5) on $JOURNAL_STREAM.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    // The variable is inherited by children whose standard error leads elsewhere.
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}
