//! What was found: tables, values by name, budgets; as text, as Markdown, as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use codesandbox::cli::bench::report::Machine;
use codesandbox::cli::bench::statistics::Summary;
use serde::Serialize;

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    command: String,
    machine: Machine,
    versions: Vec<(String, String)>,
    /// What could not be measured here, and why.
    skipped: Vec<String>,
    tables: Vec<Table>,
    pub(crate) latencies: Vec<Latency>,
    /// Every figure that a budget may be about, by name.
    values: BTreeMap<String, f64>,
    pub(crate) budgets: Vec<Budget>,
    load_at_end: f64,
}

/// One table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) notes: Vec<String>,
}

/// One program in one contender, for the plot.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Latency {
    pub(crate) program: String,
    pub(crate) contender: String,
    pub(crate) latency_ms: Summary,
}

/// One line of the issue's budgets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Budget {
    pub(crate) name: String,
    /// The most that it may be; the least, where `at_least`.
    pub(crate) limit: f64,
    pub(crate) at_least: bool,
    /// `None` where it was not measured.
    pub(crate) measured: Option<f64>,
}

impl Budget {
    fn verdict(&self) -> &'static str {
        match self.measured {
            None => "not measured",
            Some(measured) if (measured >= self.limit) == self.at_least || measured == self.limit => "ok",
            Some(_) => "MISSED",
        }
    }
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.into(), columns, rows: Vec::new(), notes: Vec::new() }
    }
}

impl Report {
    pub(crate) fn new(command: String, versions: Vec<(String, String)>) -> Self {
        Self {
            command,
            machine: Machine::here(),
            versions,
            skipped: Vec::new(),
            tables: Vec::new(),
            latencies: Vec::new(),
            values: BTreeMap::new(),
            budgets: Vec::new(),
            load_at_end: 0.0,
        }
    }

    /// Says at once, and at the end again, what is left out.
    pub(crate) fn skip(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.skipped.contains(&what) {
            eprintln!("peers: SKIPPED: {what}");
            self.skipped.push(what);
        }
    }

    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    pub(crate) fn value(&mut self, name: impl Into<String>, value: f64) {
        self.values.insert(name.into(), value);
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    pub(crate) fn end(&mut self) {
        self.load_at_end = Machine::here().load;
    }

    fn budget_table(&self) -> Table {
        let mut table = Table::new("Budgets", &["budget", "limit", "measured", "verdict"]);
        for budget in &self.budgets {
            let limit = format!("{} {}", if budget.at_least { "≥" } else { "≤" }, number(budget.limit));
            let measured = budget.measured.map_or("–".to_owned(), number);
            table.rows.push(vec![budget.name.clone(), limit, measured, budget.verdict().to_owned()]);
        }
        table
    }

    fn versions(&self) -> String {
        self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
    }

    fn render(&self, of_table: fn(&Table) -> String) -> String {
        let mut text = format!("{}\n\n{}\n", self.machine.line(), self.versions());
        for table in self.tables.iter().chain([&self.budget_table()]) {
            text.push_str(&of_table(table));
        }
        for skipped in &self.skipped {
            writeln!(text, "\nSKIPPED: {skipped}").unwrap();
        }
        writeln!(text, "\nLoad at the end: {:.2}", self.load_at_end).unwrap();
        text
    }

    /// For people at a terminal.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}", self.command, self.render(plain))
    }

    /// For `docs/PERFORMANCE.md`.
    pub(crate) fn markdown(&self) -> String {
        format!("```sh\n{}\n```\n\n{}", self.command, self.render(markdown))
    }
}

/// Three digits that mean something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn plain(table: &Table) -> String {
    let rows: Vec<&Vec<String>> = [&table.columns].into_iter().chain(&table.rows).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = format!("\n{}\n", table.title);
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            // Names to the left, numbers to the right.
            let cell = if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            write!(line, "{cell}  ").unwrap();
        }
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    table.notes.iter().for_each(|note| writeln!(text, "note: {note}").unwrap());
    text
}

fn markdown(table: &Table) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule: String = (0..table.columns.len()).map(|column| if column == 0 { "---|" } else { "--:|" }).collect();
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    let mut text = format!("\n### {}\n\n{}|{rule}\n{rows}", table.title, line(&table.columns));
    table.notes.iter().for_each(|note| write!(text, "\n{note}\n").unwrap());
    text
}
