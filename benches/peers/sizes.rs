//! What input and output cost, from 1 KiB to 10 MiB.

use serde_json::{Value, json};

use super::ours::Ours;
use super::report::{Report, Table, number};
use super::turns::{Side, one_after_another, take_turns};

const SIZES: [(usize, &str); 4] = [(1 << 10, "1 KiB"), (32 << 10, "32 KiB"), (1 << 20, "1 MiB"), (10 << 20, "10 MiB")];

/// What is large.
#[derive(Clone, Copy)]
enum What {
    Stdin,
    InputFile,
    Stdout,
    OutputFile,
}

const ALL: [(What, &str); 4] = [
    (What::Stdin, "standard input"),
    (What::InputFile, "a file that goes in"),
    (What::Stdout, "standard output"),
    (What::OutputFile, "a file that comes out"),
];

impl What {
    fn request(self, bytes: usize) -> Value {
        let large = || "x".repeat(bytes);
        // One builtin of the shell writes it in one go; what it takes is the same on any side.
        let script = |more: &str| format!("printf %{bytes}s x{more}\n");
        match self {
            Self::Stdin => json!({"runtime": "wc", "args": ["-c"], "files": [{"content": ""}], "stdin": large()}),
            Self::InputFile => {
                json!({"runtime": "true", "files": [{"content": ""}, {"path": "large", "content": large()}]})
            }
            Self::Stdout => {
                json!({"runtime": "bash", "files": [{"content": script("")}], "limits": {"output_bytes": 16 << 20}})
            }
            Self::OutputFile => {
                json!({"runtime": "bash", "files": [{"content": script(" > large")}], "outputs": ["large"]})
            }
        }
    }
}

pub(crate) fn measure(report: &mut Report, ours: &[Ours], quick: bool) {
    let rounds = if quick { 5 } else { 40 };
    for one in ours {
        let columns: Vec<&str> =
            ["median in ms"].into_iter().chain(SIZES.map(|(_, name)| name)).chain(["MiB a second"]).collect();
        let mut table = Table::new(format!("Input and output, {}, {rounds} rounds", one.name), &columns);
        for (what, name) in ALL {
            let side = |(bytes, size): &(usize, &str)| {
                Side::new(*size, one.workers(&what.request(*bytes), 1)).settled_by(|| one.settle())
            };
            let mut sides: Vec<_> = SIZES.iter().map(side).collect();
            take_turns(&mut sides, rounds, 1, &one_after_another());
            let medians = SIZES.map(|(_, size)| {
                sides.iter().find(|side| side.name == size).map(|side| side.sample().summary().p50).unwrap_or_default()
            });
            // From what ten MiB take more than one KiB.
            let [first, .., last] = medians;
            let rate = 10.0 * 1e3 / (last - first).max(0.001);
            let cells = medians.into_iter().chain([rate]).map(number);
            table.rows.push([name.to_owned()].into_iter().chain(cells).collect());
            table.notes.extend(sides.iter().filter_map(Side::failures));
        }
        report.table(table);
    }
}
