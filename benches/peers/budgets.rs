//! What is promised, and whether it was kept in this run.

use super::report::{Budget, Report};

/// Checks every budget against the values that were measured.
pub(crate) fn check(report: &mut Report) {
    let ratio = |report: &Report, one: &str, other: &str| Some(report.get(one)? / report.get(other)?);
    let mut budgets = Vec::new();
    let mut at_most = |name: &str, limit: f64, measured: Option<f64>| {
        budgets.push(Budget { name: name.to_owned(), limit, at_least: false, measured });
    };
    // Where nothing waits in this version, what is asked of parked and warm sandboxes is asked of
    // the cold ones: that they miss it is to be seen.
    let own = |report: &Report, program: &str, ways: &[&str]| {
        let mut names = ways.iter().map(|way| format!("latency/{program}/{way}"));
        names.find(|name| report.get(name).is_some()).unwrap_or_default()
    };
    const ANY: [&str; 2] = ["codeSandbox", "codeSandbox, cold"];
    const PARKED: [&str; 2] = ["codeSandbox, parked", "codeSandbox, cold"];
    for (program, title) in [("python", "warm Python × bare"), ("node", "warm Node × bare")] {
        let own = own(report, program, &ANY);
        at_most(title, 0.5, ratio(report, &own, &format!("latency/{program}/bare")));
    }
    let parked = own(report, "true", &PARKED);
    at_most("parked true × bare (posix_spawn)", 2.5, ratio(report, &parked, "latency/true/bare"));
    at_most("parked true × bare (fork and exec)", 2.5, ratio(report, &parked, "latency/true/bare, by fork"));
    at_most("cold true × bubblewrap", 0.6, ratio(report, "latency/true/codeSandbox, cold", "latency/true/bubblewrap"));
    let first = |report: &Report, prefix: &str| ANY.iter().find_map(|name| report.get(&format!("{prefix}/{name}")));
    at_most("p99 / p50 at 32 clients", 5.0, first(report, "spread/32"));
    at_most("100 at once: median, ms", 100.0, first(report, "burst/p50"));
    at_most("idle parked jail, private KiB", 300.0, report.get("memory/parked"));
    let warm = ["python3", "python3.11", "python3.12", "python3.13", "python"];
    let warm = warm.iter().find_map(|name| report.get(&format!("memory/warm: {name}")));
    at_most("warm Python, private MiB", 8.0, warm.map(|kib| kib / 1024.0));
    at_most("daemon and launcher, resident MiB", 20.0, report.get("memory/service_mib"));
    let most = [1000, 300, 100].into_iter().find(|live| report.get(&format!("live/{live}")).is_some());
    let name = format!("1 to {} live sandboxes: growth", most.unwrap_or(1000));
    let growth = most.and_then(|most| ratio(report, &format!("live/{most}"), "live/1"));
    at_most(&name, 1.2, growth);
    at_most("40 to 400 closure paths: growth", 1.2, ratio(report, "closures/400", "closures/40"));
    let of = |name: &str| format!("sessions/{name}");
    at_most("session: create × parked run", 1.5, ratio(report, &of("create"), &of("run, parked")));
    at_most("session: exec × bare (fork and exec)", 2.0, ratio(report, &of("exec"), &of("bare, by fork")));
    at_most("terminal: a key's echo, ms", 2.0, report.get(&of("terminal: a key's echo")));
    for what in ["snapshot", "roll back", "fork"] {
        let [small, large] = ["1 MiB", "1 GiB in 10 000 files"].map(|size| of(&format!("{what} of {size}")));
        at_most(&format!("{what} of 1 GiB, ms"), 50.0, report.get(&large));
        at_most(&format!("{what}: 1 GiB × 1 MiB"), 1.3, ratio(report, &large, &small));
    }
    let held = [1000, 300].into_iter().find(|held| report.get(&of(&format!("exec beside {held}"))).is_some());
    for what in ["create", "exec"] {
        let beside = |held: usize| of(&format!("{what} beside {held}"));
        let growth = held.and_then(|held| ratio(report, &beside(held), &beside(1)));
        at_most(&format!("{what} beside 1 to {} sessions: growth", held.unwrap_or(1000)), 1.2, growth);
    }
    let network = |name: &str| report.get(&format!("network/{name}"));
    let more = |one: &str, other: &str| Some(network(one)? - network(other)?);
    at_most("start of a sandbox with a network: what it adds, ms", 15.0, more("cold, network", "cold"));
    at_most("connect through the relay: what it adds, ms", 1.0, more("connect/relay", "connect/host"));
    at_most("idle session, private MiB", 1.0, report.get("sessions/private_mib"));
    at_most("judging 1000 cases of 1 ms × bare loop", 3.0, report.get("judge/one loop"));
    let mut at_least = |name: &str, limit: f64, measured: Option<f64>| {
        budgets.push(Budget { name: name.to_owned(), limit, at_least: true, measured });
    };
    at_least("throughput × bare, 8 clients", 0.5, first(report, "throughput/8"));
    at_least(
        "transfer through the relay × bare",
        0.5,
        ratio(report, "network/transfer/relay", "network/transfer/host"),
    );
    at_least("100 at once: share that succeeds", 1.0, first(report, "burst/succeeded"));
    // Where all runs of one side failed there is nothing to divide by.
    budgets.iter_mut().for_each(|budget| budget.measured = budget.measured.filter(|measured| measured.is_finite()));
    report.budgets = budgets;
}
