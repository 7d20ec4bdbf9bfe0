//! What `benches/peers` prints and draws: its parts are compiled here, as a bench has no tests.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]
#![allow(dead_code, unreachable_pub, reason = "only what prints and draws is used here")]

use codesandbox::cli::bench::statistics::Summary;

#[path = "../benches/peers/budgets.rs"]
mod budgets;
#[path = "../benches/peers/plot.rs"]
mod plot;
#[path = "../benches/peers/report.rs"]
mod report;

use report::{Latency, Report, Table, number};

fn latency(program: &str, contender: &str, p50: f64, p95: f64) -> Latency {
    let latency_ms = Summary { p50, p95, ..Summary::default() };
    Latency { program: program.to_owned(), contender: contender.to_owned(), latency_ms }
}

fn report() -> Report {
    Report::new("cargo bench --bench peers -- --quick".to_owned(), vec![("runc".to_owned(), "1.1".to_owned())])
}

#[test]
fn a_plot_escapes_what_xml_reserves() {
    assert_eq!(plot::escape("a<b> & \"c\" 'd'\u{1b}"), "a&lt;b&gt; &amp; &quot;c&quot; &apos;d&apos;\u{fffd}");
    let svg = plot::svg(&[latency("<x>", "a & b", 1.0, 2.0)]);
    assert!(svg.contains("&lt;x&gt;") && svg.contains("a &amp; b") && !svg.contains("<x>"), "{svg}");
}

#[test]
fn a_plot_is_logarithmic_and_fits_light_and_dark() {
    let svg = plot::svg(&[
        latency("true", "bare", 1.0, 2.0),
        latency("true", "codeSandbox", 10.0, 20.0),
        latency("true", "runsc", 100.0, 1000.0),
    ]);
    let widths: Vec<f64> = svg
        .lines()
        .filter(|line| line.starts_with("<rect class=\"bar\"") || line.starts_with("<rect class=\"own\""))
        .map(|line| line.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
        .collect();
    let [first, second, third] = widths.try_into().unwrap();
    // The first begins where the axis does, and is still to be seen.
    assert!(first == 1.0 && (third - 2.0 * second).abs() < 0.2, "{first} {second} {third}");
    assert!(svg.contains("prefers-color-scheme: dark") && svg.contains("class=\"own\""));
    assert!(svg.contains(">1000</text>"), "the axis reaches what is measured: {svg}");
    assert!(plot::svg(&[]).ends_with("</svg>\n"), "a plot of nothing is a plot");
}

#[test]
fn budgets_are_kept_missed_or_not_measured() {
    let mut report = report();
    for (name, value) in [
        ("latency/python/codeSandbox", 5.0),
        ("latency/python/bare", 20.0),
        ("latency/true/codeSandbox, cold", 4.0),
        ("latency/true/bubblewrap", 5.0),
        ("throughput/8/codeSandbox", 0.4),
        ("burst/succeeded/codeSandbox", 1.0),
        ("closures/400", 0.0),
        ("closures/40", 0.0),
    ] {
        report.value(name, value);
    }
    budgets::check(&mut report);
    let text = report.text();
    let verdict = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
        line.rsplit("  ").next().unwrap().to_owned()
    };
    assert_eq!(verdict("warm Python × bare"), "ok");
    assert_eq!(verdict("warm Node × bare"), "not measured");
    assert_eq!(verdict("40 to 400 closure paths"), "not measured");
    assert_eq!(verdict("cold true × bubblewrap"), "MISSED");
    assert_eq!(verdict("throughput × bare, 8 clients"), "MISSED");
    assert_eq!(verdict("100 at once: share that succeeds"), "ok");
}

#[test]
fn tables_are_for_terminals_and_for_markdown() {
    let mut report = report();
    let mut table = Table::new("Latency of true", &["contender", "p50"]);
    table.rows.push(vec!["bare".to_owned(), "1.25".to_owned()]);
    table.notes.push("mind this".to_owned());
    report.table(table);
    report.skip("nsjail: not installed");
    let markdown = report.markdown();
    for part in [
        "```sh\ncargo bench --bench peers -- --quick\n```",
        "### Latency of true\n\n| contender | p50 |\n|---|--:|\n| bare | 1.25 |\n",
        "mind this",
        "SKIPPED: nsjail: not installed",
        "runc 1.1",
    ] {
        assert!(markdown.contains(part), "{part:?} is not in {markdown}");
    }
    assert!(report.text().contains("contender   p50\nbare       1.25\n"), "{}", report.text());
}

#[test]
fn json_has_this_shape() {
    let mut report = report();
    report.latencies.push(latency("true", "bare", 1.0, 2.0));
    report.value("latency/true/bare", 1.0);
    budgets::check(&mut report);
    let json = serde_json::to_value(&report).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&json), "budgets command latencies load_at_end machine skipped tables values versions");
    assert_eq!(keys(&json["latencies"][0]), "contender latency_ms program");
    assert_eq!(keys(&json["budgets"][0]), "at_least limit measured name");
}

#[test]
fn numbers_have_the_digits_that_mean_something() {
    assert_eq!([0.123, 9.876, 12.34, 1234.5].map(number), ["0.12", "9.88", "12.3", "1234"]);
}
