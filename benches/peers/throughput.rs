//! Many clients: load shapes, jobs a second, and a hundred at once.

use codesandbox::cli::bench::bare::{Bare, Start};
use codesandbox::cli::bench::load::{Arrivals, Worker};
use codesandbox::cli::bench::program::{Case, Program};
use codesandbox::cli::bench::schedule::Shape;

use super::latency::case;
use super::ours::Ours;
use super::peers::{Peer, bubblewrap_for};
use super::report::{Report, Table, number};
use super::turns::{Side, closed, take_turns};

const CLIENTS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// How many come at once.
const BURST: usize = 100;

/// Sides for so many clients: bare, ours, and bubblewrap where it works.
fn sides<'a>(ours: &'a [Ours], case: &Case, bare: &'a Bare, peer: Option<&'a Peer>, clients: usize) -> Vec<Side<'a>> {
    let many = |worker: &dyn Fn() -> Worker<'a>| (0..clients).map(|_| worker()).collect();
    let mut sides = vec![Side::new("bare", many(&|| bare.worker(Start::Spawn)))];
    sides.extend(
        ours.iter().map(|one| Side::new(one.name, one.workers(&case.body, clients)).settled_by(|| one.settle())),
    );
    sides.extend(peer.map(|peer| Side::new(peer.name, many(&|| peer.worker()))));
    sides.sort_by(|a, b| a.name.cmp(&b.name));
    sides
}

fn with_sides(report: &mut Report, program: Program, work: impl FnOnce(&mut Report, &Case, &Bare, Option<&Peer>)) {
    let scratch = tempfile::tempdir().unwrap();
    let case = match case(program, &scratch) {
        Ok(case) => case,
        Err(why) => return report.skip(why),
    };
    let bare = case.bare.clone().expect("checked when it was drawn up");
    let peer = bubblewrap_for(&bare).map_err(|reason| report.skip(reason)).ok();
    work(report, &case, &bare, peer.as_ref());
}

pub(crate) fn shapes(report: &mut Report, ours: &[Ours], quick: bool) {
    let (rounds, requests) = if quick { (2, 32) } else { (10, 64) };
    for program in [Program::True, Program::Python] {
        with_sides(report, program, |report, case, bare, peer| {
            let title = format!("Load shapes, {}, in milliseconds", program.name());
            let mut table = Table::new(title, &["shape and contender", "p50", "p95", "p99", "× bare", "sandboxes"]);
            for (shape, clients) in [(Shape::Sequential, 1), (Shape::Staggered, 8), (Shape::Burst, 8)] {
                let mut sides = sides(ours, case, bare, peer, clients);
                // Beginnings are spread over about as long as one request of the slowest takes.
                let slowest = sides.iter_mut().filter_map(|side| side.trial().ok()).max().unwrap_or_default();
                take_turns(&mut sides, rounds, requests, &closed(shape, slowest));
                let median = |side: &Side<'_>| side.sample().summary().p50;
                let basis = sides.iter().find(|side| side.name == "bare").map(&median);
                sides.sort_by(|a, b| median(a).total_cmp(&median(b)));
                for side in &sides {
                    let latency = side.sample().summary();
                    let ratio = basis.map_or("–".to_owned(), |basis| number(latency.p50 / basis));
                    let name = format!("{}, {clients}: {}", shape.name(), side.name);
                    let [p50, p95, p99] = [latency.p50, latency.p95, latency.p99].map(number);
                    table.rows.push(vec![name, p50, p95, p99, ratio, side.paths()]);
                    table.notes.extend(side.failures());
                }
            }
            report.table(table);
        });
    }
}

pub(crate) fn clients(report: &mut Report, ours: &[Ours], quick: bool) {
    with_sides(report, Program::True, |report, case, bare, peer| {
        let columns =
            ["clients and contender", "jobs a second", "× bare", "p50 ms", "p99 ms", "p99 / p50", "sandboxes"];
        let mut table = Table::new("Throughput, true", &columns);
        for clients in CLIENTS {
            let (rounds, requests) = if quick { (2, 100) } else { (8, 250) };
            let mut sides = sides(ours, case, bare, peer, clients);
            take_turns(&mut sides, rounds, requests.max(clients * 4), &closed(Shape::Sequential, Default::default()));
            sides.sort_by(|a, b| b.per_second().total_cmp(&a.per_second()));
            let basis = sides.iter().find(|side| side.name == "bare").map(Side::per_second);
            for side in &sides {
                let (latency, per_second) = (side.sample().summary(), side.per_second());
                let share = basis.map(|basis| per_second / basis).unwrap_or_default();
                let spread = latency.p99 / latency.p50;
                let [rate, share_text, p50, p99, spread_text] =
                    [per_second, share, latency.p50, latency.p99, spread].map(number);
                let name = format!("{clients}: {}", side.name);
                table.rows.push(vec![name, rate, share_text, p50, p99, spread_text, side.paths()]);
                table.notes.extend(side.failures());
                report.value(format!("throughput/{clients}/{}", side.name), share);
                report.value(format!("spread/{clients}/{}", side.name), spread);
            }
        }
        report.table(table);
    });
}

pub(crate) fn burst(report: &mut Report, ours: &[Ours], quick: bool) {
    let rounds = if quick { 2 } else { 12 };
    with_sides(report, Program::True, |report, case, bare, peer| {
        let columns = ["contender", "succeeded", "p50 ms", "p95 ms", "last ms", "all done in ms", "sandboxes"];
        let mut table = Table::new(format!("{BURST} at once, true, {rounds} times"), &columns);
        let mut sides = sides(ours, case, bare, peer, BURST);
        let arrivals: Arrivals = closed(Shape::Burst, Default::default());
        take_turns(&mut sides, rounds, BURST, &arrivals);
        sides.sort_by_key(|side| side.sample().median());
        for side in &sides {
            let latency = side.sample().summary();
            let succeeded = f64::from(latency.count) / f64::from(u32::try_from(side.batch.done.len()).unwrap());
            let all = side.batch.elapsed.as_secs_f64() * 1e3 / f64::from(u32::try_from(rounds).unwrap());
            let [p50, p95, max, all] = [latency.p50, latency.p95, latency.max, all].map(number);
            let share = format!("{:.0} %", succeeded * 100.0);
            table.rows.push(vec![side.name.clone(), share, p50, p95, max, all, side.paths()]);
            table.notes.extend(side.failures());
            report.value(format!("burst/succeeded/{}", side.name), succeeded);
            report.value(format!("burst/p50/{}", side.name), latency.p50);
        }
        report.table(table);
    });
}
