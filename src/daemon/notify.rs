//! What the service manager is told: readiness, load, being alive, stopping; sd_notify(3).

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

use crate::scheduler::{Load, Scheduler};

/// How often the load is told where it changes.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Requests are taken from now on.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("ready")]);
}

/// The configuration is read anew; [`ready`] follows.
pub(super) fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    // Demanded by Type=notify-reload, to tell this reload from an earlier one; sd_notify(3).
    states.extend(NotifyState::monotonic_usec_now().ok());
    tell(&states);
}

/// No more requests are taken; those that run may take this long.
pub(super) fn stopping(longest: Duration) {
    let microseconds = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing what runs"),
        NotifyState::ExtendTimeoutUsec(microseconds),
    ]);
}

/// Tells the load, and that the event loop still turns, for as long as it does: it is this very
/// loop that sends the message.
pub(super) async fn keep(scheduler: Scheduler) {
    let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
    // Twice within the time, so that one late message is no reason to be killed.
    let interval = watchdog.map_or(STATUS_INTERVAL, |time| (time / 2).min(STATUS_INTERVAL));
    let mut ticks = tokio::time::interval(interval);
    let mut told = None;
    loop {
        ticks.tick().await;
        if watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        let now = (scheduler.load(), scheduler.is_available());
        if told != Some(now) {
            tell(&[NotifyState::Status(&status(now.0, now.1))]);
            told = Some(now);
        }
    }
}

fn status(load: Load, available: bool) -> String {
    let launcher = if available { "" } else { "; the launcher does not answer" };
    format!("{} of {} slots run, {} jobs wait{launcher}", load.running, load.slots, load.queued)
}

/// Where no service manager listens this does nothing.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("the service manager could not be told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_launcher_shows_in_the_status() {
        let load = Load { queued: 2, running: 1, slots: 4 };
        assert_eq!(status(load, true), "1 of 4 slots run, 2 jobs wait");
        assert!(status(load, false).contains("launcher"));
    }
}
