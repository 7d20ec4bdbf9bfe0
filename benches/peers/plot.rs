//! A plot of the latencies: one bar a contender to its median, a whisker to its p95, logarithmic.

use std::fmt::Write;

use super::report::{Latency, number};

const WIDTH: f64 = 820.0;
/// Where bars begin and end.
const LEFT: f64 = 170.0;
const RIGHT: f64 = 740.0;
const ROW: f64 = 20.0;
const BAR: f64 = 12.0;
const HEAD: f64 = 34.0;

/// Readable on white and on black: the page's colours, not ours, decide.
const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 13px }
.tick { font-size: 10px; fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.bar { fill: #9aa7b4 }
.own { fill: #1f7a5c }
.whisker { stroke: #1f2328; stroke-width: 1.2 }
.page { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .tick { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .bar { fill: #656c76 }
  .own { fill: #3fb68b }
  .whisker { stroke: #e6edf3 }
  .page { fill: #0d1117 }
}
";

/// Maps milliseconds to a place on the axis.
struct Axis {
    /// Powers of ten at its ends.
    first: i32,
    last: i32,
}

impl Axis {
    fn of(latencies: &[Latency]) -> Self {
        let times = || latencies.iter().flat_map(|one| [one.latency_ms.p50, one.latency_ms.p95]);
        let (mut first, mut last) = (0, 1);
        for time in times().filter(|time| *time > 0.0) {
            while time < 10f64.powi(first) {
                first -= 1;
            }
            while time > 10f64.powi(last) {
                last += 1;
            }
        }
        Self { first, last }
    }

    fn at(&self, milliseconds: f64) -> f64 {
        let (first, last) = (f64::from(self.first), f64::from(self.last));
        let part = (milliseconds.max(1e-6).log10() - first) / (last - first);
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }
}

/// The plot, a panel for each program in the order in which they come.
pub(crate) fn svg(latencies: &[Latency]) -> String {
    let axis = Axis::of(latencies);
    let mut programs: Vec<&str> = Vec::new();
    for latency in latencies {
        if !programs.contains(&latency.program.as_str()) {
            programs.push(&latency.program);
        }
    }
    let mut body = String::new();
    let mut y = 30.0;
    for program in programs {
        let rows: Vec<&Latency> = latencies.iter().filter(|one| one.program == program).collect();
        y = panel(&mut body, &axis, program, &rows, y);
    }
    let height = y + 10.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>Latency by contender</title>\n<style>\n{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"tick\" x=\"{LEFT}\" y=\"18\">milliseconds, logarithmic; the bar ends at the median, the \
         whisker at p95</text>\n{body}</svg>\n"
    )
}

fn panel(body: &mut String, axis: &Axis, program: &str, rows: &[&Latency], top: f64) -> f64 {
    let begin = top + HEAD;
    let end = begin + ROW * f64::from(u32::try_from(rows.len()).unwrap_or(0));
    writeln!(body, "<text class=\"title\" x=\"12\" y=\"{:.1}\">{}</text>", top + 18.0, escape(program)).unwrap();
    for power in axis.first..=axis.last {
        let x = axis.at(10f64.powi(power));
        writeln!(body, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{end:.1}\"/>", begin - 4.0)
            .unwrap();
        let label = if power < 0 {
            format!("{:.*}", power.unsigned_abs() as usize, 10f64.powi(power))
        } else {
            format!("{:.0}", 10f64.powi(power))
        };
        writeln!(
            body,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            begin - 8.0
        )
        .unwrap();
    }
    for (index, row) in (0u32..).zip(rows) {
        bar(body, axis, row, begin + ROW * f64::from(index));
    }
    end + 14.0
}

fn bar(body: &mut String, axis: &Axis, row: &Latency, y: f64) {
    let class = if row.contender.starts_with("codeSandbox") { "own" } else { "bar" };
    let (p50, p95) = (axis.at(row.latency_ms.p50), axis.at(row.latency_ms.p95));
    let middle = y + ROW / 2.0;
    let name = escape(&row.contender);
    writeln!(body, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, middle + 4.0)
        .unwrap();
    let width = (p50 - LEFT).max(1.0);
    writeln!(
        body,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>",
        middle - BAR / 2.0
    )
    .unwrap();
    writeln!(
        body,
        "<path class=\"whisker\" fill=\"none\" d=\"M{p50:.1} {middle:.1}H{p95:.1}M{p95:.1} {:.1}v7\"/>",
        middle - 3.5
    )
    .unwrap();
    let label = number(row.latency_ms.p50);
    writeln!(body, "<text x=\"{:.1}\" y=\"{:.1}\">{label}</text>", p95.max(p50) + 6.0, middle + 4.0).unwrap();
}

/// Text as XML has it.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // XML has no way to write these.
            control if control.is_control() && !matches!(control, '\n' | '\t') => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
