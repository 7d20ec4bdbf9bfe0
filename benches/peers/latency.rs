//! One run at a time: every program on every side, all in turns.

use std::time::Duration;

use codesandbox::cli::bench::bare::Start;
use codesandbox::cli::bench::program::{Case, Program};

use super::ours::{Ours, catalogue};
use super::peers;
use super::report::{Latency, Report, Table, number};
use super::turns::{Side, one_after_another, take_turns};

const PROGRAMS: [Program; 7] = [
    Program::True,
    Program::Python,
    Program::Node,
    Program::C,
    Program::CUncached,
    Program::Java,
    Program::JavaUncached,
];

pub(crate) fn measure(report: &mut Report, ours: &[Ours], quick: bool) {
    for program in PROGRAMS {
        let scratch = tempfile::tempdir().unwrap();
        match case(program, &scratch) {
            Ok(case) => one(report, ours, &case, &scratch, quick),
            Err(why) => report.skip(why),
        }
    }
}

/// A program with both of its sides.
pub(crate) fn case(program: Program, scratch: &tempfile::TempDir) -> Result<Case, String> {
    let (config, catalogue) = catalogue();
    let case = Case::draw_up(program, &catalogue, &config.profiles["default"], scratch.path());
    let case = case.map_err(|why| format!("{}: {why}", program.name()))?;
    if case.bare.is_none() {
        return Err(format!("{}: {}", program.name(), case.notes.join("; ")));
    }
    Ok(case)
}

fn one(report: &mut Report, ours: &[Ours], case: &Case, scratch: &tempfile::TempDir, quick: bool) {
    let bare = case.bare.as_ref().expect("checked when it was drawn up");
    let (peers, skipped) = peers::all(bare, scratch.path());
    skipped.into_iter().for_each(|reason| report.skip(reason));
    let mut sides = vec![Side::new("bare", vec![bare.worker(Start::Spawn)])];
    if case.program == Program::True {
        sides.push(Side::new("bare, by fork", vec![bare.worker(Start::Fork)]));
    }
    sides.extend(ours.iter().map(|one| Side::new(one.name, one.workers(&case.body, 1)).settled_by(|| one.settle())));
    sides.extend(peers.iter().map(|peer| Side::new(peer.name, vec![peer.worker()])));
    let (rounds, mut sides) = rounds(report, case.program.name(), sides, quick);
    take_turns(&mut sides, rounds, 1, &one_after_another());
    tell(report, case, rounds, sides);
}

/// As many as there is time for; a side that does not work at all is left out.
fn rounds<'a>(report: &mut Report, program: &str, sides: Vec<Side<'a>>, quick: bool) -> (usize, Vec<Side<'a>>) {
    let (least, most, time) = if quick { (3, 20, Duration::from_secs(8)) } else { (15, 150, Duration::from_secs(150)) };
    let mut round = Duration::ZERO;
    let mut working = Vec::new();
    for mut side in sides {
        match side.trial().and_then(|_| side.trial()) {
            Ok(took) => {
                round += took + Duration::from_millis(8);
                working.push(side);
            }
            Err(why) => report.skip(format!("{}: {program}: {why}", side.name)),
        }
    }
    let fit = time.as_millis() / round.as_millis().max(1);
    (usize::try_from(fit).unwrap_or(most).clamp(least, most), working)
}

fn tell(report: &mut Report, case: &Case, rounds: usize, mut sides: Vec<Side<'_>>) {
    let program = case.program.name();
    let title = format!("Latency of {program}, {rounds} rounds, in milliseconds");
    let columns = ["contender", "p50", "p95", "p99", "× bare", "× bubblewrap", "sandboxes"];
    let mut table = Table::new(title, &columns);
    sides.retain(|side| !side.sample().is_empty());
    let median = |name: &str| sides.iter().find(|side| side.name == name).map(|side| side.sample().summary().p50);
    let (bare, bubblewrap) = (median("bare"), median("bubblewrap"));
    let mut rows: Vec<_> = sides.iter().map(|side| (side, side.sample().summary())).collect();
    rows.sort_by(|(_, a), (_, b)| a.p50.total_cmp(&b.p50));
    for (side, latency) in rows {
        let against = |other: Option<f64>| other.map_or("–".to_owned(), |other| number(latency.p50 / other));
        let [p50, p95, p99] = [latency.p50, latency.p95, latency.p99].map(number);
        table.rows.push(vec![side.name.clone(), p50, p95, p99, against(bare), against(bubblewrap), side.paths()]);
        table.notes.extend(side.failures());
        if matches!(case.program, Program::C | Program::Java) && !side.is_cached() {
            table.notes.push(format!("{}: compiled for each run, as its answers tell of no cache", side.name));
        }
        report.value(format!("latency/{program}/{}", side.name), latency.p50);
        report.latencies.push(Latency {
            program: program.to_owned(),
            contender: side.name.clone(),
            latency_ms: latency,
        });
    }
    table.notes.extend(case.notes.clone());
    report.table(table);
}
