//! Every transition, and every time-out.

use proptest::prelude::*;

use super::Change::{Delete, Demote, HostRestarted, LauncherLost, Pause, Promote, Resume, Stop, Wake};
use super::Status::{Active, Ending, Paused, Stopped};
use super::*;
use crate::session::record::tests::record;

/// What is asked for, and what becomes of a session that is active, paused, stopped, ending.
type Row = (Change, [Result<Status, Refusal>; 4]);

const STOPPED: Result<Status, Refusal> = Err(Refusal::Stopped);
const ENDING: Result<Status, Refusal> = Err(Refusal::Ending);

const PERSISTENT: [Row; 9] = [
    (Pause, [Ok(Paused), Ok(Paused), STOPPED, ENDING]),
    (Resume, [Ok(Active), Ok(Active), STOPPED, ENDING]),
    (Wake, [Ok(Active), Ok(Active), Ok(Active), ENDING]),
    (Stop, [Ok(Stopped), Ok(Stopped), Ok(Stopped), Ok(Ending)]),
    (Delete, [Ok(Ending), Ok(Ending), Ok(Ending), Ok(Ending)]),
    (Promote, [Ok(Active), Ok(Active), Ok(Active), ENDING]),
    (Demote, [Ok(Active), Ok(Paused), Ok(Stopped), ENDING]),
    (LauncherLost, [Ok(Stopped), Ok(Stopped), Ok(Stopped), Ok(Ending)]),
    (HostRestarted, [Ok(Stopped), Ok(Stopped), Ok(Stopped), Ok(Ending)]),
];

/// The same without `stopped`, which an ephemeral one never is.
const EPHEMERAL: [(Change, [Result<Status, Refusal>; 3]); 9] = [
    (Pause, [Ok(Paused), Ok(Paused), ENDING]),
    (Resume, [Ok(Active), Ok(Active), ENDING]),
    (Wake, [Ok(Active), Ok(Active), ENDING]),
    (Stop, [Ok(Ending), Ok(Ending), Ok(Ending)]),
    (Delete, [Ok(Ending), Ok(Ending), Ok(Ending)]),
    (Promote, [Ok(Active), Ok(Active), ENDING]),
    (Demote, [Ok(Active), Ok(Paused), ENDING]),
    (LauncherLost, [Ok(Ending), Ok(Ending), Ok(Ending)]),
    (HostRestarted, [Ok(Ending), Ok(Ending), Ok(Ending)]),
];

#[test]
fn a_persistent_session_goes_where_the_diagram_says() {
    assert_eq!(PERSISTENT.map(|(change, _)| change), Change::ALL);
    for (change, expected) in PERSISTENT {
        assert_eq!(Status::ALL.map(|status| after(status, true, change)), expected, "{change:?}");
    }
}

#[test]
fn an_ephemeral_session_goes_where_the_diagram_says() {
    assert_eq!(EPHEMERAL.map(|(change, _)| change), Change::ALL);
    for (change, expected) in EPHEMERAL {
        assert_eq!([Active, Paused, Ending].map(|status| after(status, false, change)), expected, "{change:?}");
    }
}

#[test]
fn a_change_that_can_be_asked_for_twice_changes_nothing_the_second_time() {
    for persistent in [true, false] {
        for status in Status::ALL {
            for change in Change::ALL {
                if let Ok(next) = after(status, persistent, change) {
                    assert_eq!(after(next, persistent, change), Ok(next), "{status:?} {change:?}");
                }
            }
        }
    }
}

#[test]
fn every_status_has_its_word() {
    for status in Status::ALL {
        assert_eq!(Status::by_name(status.name()), Some(status));
    }
    assert_eq!(Status::by_name("Active"), None);
}

proptest! {
    #[test]
    fn no_sequence_of_changes_leaves_the_diagram(
        persistent: bool,
        changes in prop::collection::vec(prop::sample::select(Change::ALL.to_vec()), 0..60),
    ) {
        let mut status = Active;
        for change in changes {
            let before = status;
            match after(status, persistent, change) {
                Ok(next) => status = next,
                // What is refused is so for a reason that holds.
                Err(Refusal::Stopped) => prop_assert_eq!(before, Stopped),
                Err(Refusal::Ending) => prop_assert_eq!(before, Ending),
            }
            prop_assert!(persistent || status != Stopped, "{change:?} stopped what has no files on disk");
            prop_assert!(before != Ending || status == Ending, "{change:?} brought back what was ending");
            prop_assert!((before, status) != (Stopped, Paused), "{change:?} paused what has no programs");
            prop_assert!(change != Delete || status == Ending, "what was deleted is still there");
        }
    }

    #[test]
    fn what_is_due_can_be_done_and_is_not_due_again(
        persistent: bool, paused: bool, used in 0..50_u64, lifetime in 1..50_u64, idle in 1..50_u64,
        pause_after in 0..50_u64, active in prop::collection::vec(0..50_u64, 0..3), now in 0..200_u64,
    ) {
        let mut record = record();
        record.persistent = persistent;
        record.status = if paused { Paused } else { Active };
        (record.last_used_ms, record.idle_timeout_ms, record.expires_at_ms) = (used, idle, lifetime);
        let running: Vec<Running> =
            active.into_iter().map(|last_active_ms| Running { attached: false, last_active_ms }).collect();
        // Each time-out is done at most once, the pause before the end: two steps lead to rest.
        for _ in 0..2 {
            if let Some(due) = due(&record, &running, pause_after, now) {
                record.status = after(record.status, persistent, due.change()).unwrap();
            }
        }
        prop_assert_eq!(due(&record, &running, pause_after, now), None);
    }
}

/// A session that was used at 1000, may be idle for 500 and may live until 5000.
fn idle(persistent: bool, status: Status) -> SessionRecord {
    let times = (1_000, 500, 5_000);
    let mut record = record();
    (record.persistent, record.status) = (persistent, status);
    (record.last_used_ms, record.idle_timeout_ms, record.expires_at_ms) = times;
    record
}

const fn seen(last_active_ms: u64) -> Running {
    Running { attached: false, last_active_ms }
}

const fn attached(last_active_ms: u64) -> Running {
    Running { attached: true, last_active_ms }
}

#[test]
fn time_outs_demand_what_they_should_when_they_should() {
    for (record, running, pause_after_ms, expected) in [
        (idle(false, Active), &[][..], 0, Some((Due::Delete, 1_500))),
        (idle(true, Active), &[], 0, Some((Due::Stop, 1_500))),
        (idle(false, Active), &[], 60, Some((Due::Pause, 1_060))),
        (idle(true, Active), &[], 60, Some((Due::Pause, 1_060))),
        // A paused session's idle time goes on from its last use, not from the pause.
        (idle(false, Paused), &[], 60, Some((Due::Delete, 1_500))),
        (idle(true, Paused), &[], 60, Some((Due::Stop, 1_500))),
        // What ends need not be paused.
        (idle(true, Active), &[], 500, Some((Due::Stop, 1_500))),
        (idle(true, Active), &[], 501, Some((Due::Stop, 1_500))),
        // Programs count by what they do.
        (idle(false, Active), &[seen(900)], 60, Some((Due::Pause, 1_060))),
        (idle(false, Active), &[seen(1_200), seen(1_100)], 60, Some((Due::Pause, 1_260))),
        (idle(false, Paused), &[seen(1_200)], 60, Some((Due::Delete, 1_700))),
        // Who is attached keeps it from being idle, and does not make it live longer.
        (idle(false, Active), &[seen(10), attached(10)], 60, Some((Due::Delete, 5_000))),
        (idle(true, Paused), &[attached(10)], 60, Some((Due::Stop, 5_000))),
        (idle(true, Active), &[seen(4_900)], 200, Some((Due::Stop, 5_000))),
        // There is nothing that could time out.
        (idle(true, Stopped), &[], 60, None),
        (idle(true, Ending), &[], 60, None),
        (idle(false, Ending), &[attached(1)], 60, None),
    ] {
        assert_eq!(next_due(&record, running, pause_after_ms), expected, "{record:?} {running:?} {pause_after_ms}");
        if let Some((what, at_ms)) = expected {
            assert_eq!(due(&record, running, pause_after_ms, at_ms - 1), None);
            assert_eq!(due(&record, running, pause_after_ms, at_ms), Some(what));
        }
    }
}

#[test]
fn a_clock_that_was_set_back_ends_nothing() {
    assert_eq!(due(&idle(false, Active), &[], 60, 0), None);
    let mut record = idle(false, Active);
    (record.last_used_ms, record.expires_at_ms) = (u64::MAX, u64::MAX);
    assert_eq!(due(&record, &[], 60, u64::MAX - 1), None);
}
