//! `codesandbox runtimes --sizes`: what each runtime takes on disk, what it adds to the others, and
//! how often it is used; who wants to prune sees where that pays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Serialize;

use super::service::Place;
use super::text::{harmless, table};
use crate::config::Config;
use crate::runtime::{Listing, Manifest, StoreManifest, Version};

/// The configuration of a daemon that was set up as documented.
const CONFIG: &str = "/etc/codesandbox/config.json";
/// What the daemon counts runs under.
const RUNS: &str = "codesandbox_runs_total{";

/// What all runtimes take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    runtimes: Vec<Size>,
    /// What all closures take together, each path counted once; null where one could not be read.
    total_bytes: Option<u64>,
    /// The part of it that more than one runtime has; null where one could not be read.
    shared_bytes: Option<u64>,
}

/// What one runtime takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Size {
    language: String,
    version: Option<String>,
    source: String,
    path: String,
    /// Its whole closure; null where it has none, or where a part of it could not be read.
    closure_bytes: Option<u64>,
    /// The paths that no other runtime has; this much is free without it.
    added_bytes: Option<u64>,
    /// Its runs since the daemon started; null where no daemon has counted any.
    runs: Option<u64>,
}

/// The manifest of store paths: the one that is named, else that of the configuration; `None` where
/// there is none, and so no store path.
///
/// # Errors
/// What could not be read, and why.
pub(super) fn manifest(named: Option<&Path>, place: &Place) -> Result<Option<StoreManifest>, String> {
    let path = match named {
        Some(path) => Some(path.to_owned()),
        None => configured(place)?,
    };
    let Some(path) = path else {
        return Ok(None);
    };
    serde_json::from_str(&read(&path)?).map(Some).map_err(|error| format!("{}: {error}", path.display()))
}

fn configured(place: &Place) -> Result<Option<PathBuf>, String> {
    let config = match &place.config {
        Some(config) => config.clone(),
        None if !place.embedded && Path::new(CONFIG).exists() => CONFIG.into(),
        None => return Ok(None),
    };
    let text = read(&config)?;
    let parsed = Config::parse(&text).map_err(|error| error.located(Some(&config), &text).to_string())?;
    Ok(parsed.runtimes.manifest)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Adds up what the closures take on disk. `metrics` is what the daemon counts; `complain` is told
/// of every path that could not be read.
pub(super) fn report(
    list: &Manifest,
    store: Option<&StoreManifest>,
    metrics: &str,
    complain: &mut dyn FnMut(&str),
) -> Report {
    let closures: Vec<Option<BTreeSet<&Path>>> =
        list.runtimes.iter().map(|listing| store.and_then(|store| closure(listing, store))).collect();
    let mut owners: BTreeMap<&Path, usize> = BTreeMap::new();
    for path in closures.iter().flatten().flatten() {
        *owners.entry(path).or_default() += 1;
    }
    let sizes: BTreeMap<&Path, Option<u64>> = owners
        .keys()
        .map(|path| {
            let measured = measure(path).map_err(|error| complain(&format!("{}: {error}", path.display())));
            (*path, measured.ok())
        })
        .collect();
    let sum = |wanted: &dyn Fn(&Path) -> bool| {
        sizes.iter().filter(|(path, _)| wanted(path)).map(|(_, size)| *size).sum::<Option<u64>>()
    };
    let owners_of = |path: &Path| owners.get(path).copied().unwrap_or(0);
    let mut runs = runs(metrics, &list.runtimes).into_iter();
    let runtimes = list.runtimes.iter().zip(&closures).map(|(listing, closure)| Size {
        language: listing.language.clone(),
        version: listing.version.clone(),
        source: listing.source.clone(),
        path: listing.path.clone(),
        closure_bytes: closure.as_ref().and_then(|closure| sum(&|path| closure.contains(path))),
        added_bytes: closure.as_ref().and_then(|closure| sum(&|path| closure.contains(path) && owners_of(path) == 1)),
        runs: runs.next().flatten(),
    });
    Report { runtimes: runtimes.collect(), total_bytes: sum(&|_| true), shared_bytes: sum(&|path| owners_of(path) > 1) }
}

/// The closure of a runtime, where it is made of store paths.
fn closure<'a>(listing: &Listing, store: &'a StoreManifest) -> Option<BTreeSet<&'a Path>> {
    let is_it = listing.source == "store";
    let entry = store.runtimes.iter().filter(|_| is_it).find(|entry| {
        entry.language == listing.language && entry.programs.values().any(|path| *path == *listing.path)
    })?;
    Some(entry.closure.iter().map(PathBuf::as_path).collect())
}

/// Bytes of all files at a path and below, as the closure's size counts them: links are not followed,
/// and a file with two names counts for both.
fn measure(path: &Path) -> std::io::Result<u64> {
    let (mut pending, mut bytes) = (vec![path.to_owned()], 0);
    while let Some(path) = pending.pop() {
        let found = std::fs::symlink_metadata(&path)?;
        if found.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        } else {
            bytes += found.len();
        }
    }
    Ok(bytes)
}

/// The runs of each runtime by the daemon's metrics; `None` for all where it has counted none at all.
fn runs(metrics: &str, runtimes: &[Listing]) -> Vec<Option<u64>> {
    let label = Regex::new(r#"(language|version)="([^"\\]*)""#).expect("a constant that a test uses");
    let mut counts = vec![0; runtimes.len()];
    let mut counted = false;
    for line in metrics.lines().filter_map(|line| line.strip_prefix(RUNS)) {
        let Some((labels, count)) = line.rsplit_once("} ") else {
            continue;
        };
        let (mut language, mut version) = ("", "");
        for found in label.captures_iter(labels) {
            let (_, [name, value]) = found.extract();
            *(if name == "language" { &mut language } else { &mut version }) = value;
        }
        counted = true;
        if let (Some(index), Ok(count)) = (run_by(language, version, runtimes), count.parse::<u64>())
            && let Some(sum) = counts.get_mut(index)
        {
            *sum += count;
        }
    }
    counts.into_iter().map(|count| counted.then_some(count)).collect()
}

/// Which runtime the daemon meant: before a self-test has told the exact version it counts under
/// what was known then.
fn run_by(language: &str, version: &str, runtimes: &[Listing]) -> Option<usize> {
    let of_language = |listing: &Listing| listing.language == language;
    let exactly = |listing: &Listing| of_language(listing) && listing.version.as_deref().unwrap_or_default() == version;
    let refines = |listing: &Listing| {
        let exact = listing.version.clone().and_then(|text| Version::try_from(text).ok());
        let known = Version::try_from(version.to_owned());
        let fits = match (exact, known) {
            (Some(exact), Ok(known)) => exact.refines(&known),
            _ => version.is_empty(),
        };
        of_language(listing) && fits
    };
    runtimes.iter().position(exactly).or_else(|| runtimes.iter().position(refines))
}

/// The report as a table for people.
pub(super) fn render(report: &Report) -> String {
    let with_runs = report.runtimes.iter().any(|size| size.runs.is_some());
    let mut heading = vec!["RUNTIME", "SOURCE", "SIZE", "ADDS", "OF ALL"];
    heading.extend(with_runs.then_some("RUNS"));
    let mut rows = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for size in &report.runtimes {
        let selector = match &size.version {
            Some(version) => format!("{}@{version}", size.language),
            None => size.language.clone(),
        };
        let share = part(size.added_bytes, report.total_bytes);
        let mut row =
            vec![harmless(&selector), size.source.clone(), bytes(size.closure_bytes), bytes(size.added_bytes), share];
        row.extend(with_runs.then(|| size.runs.map_or("-".to_owned(), |runs| runs.to_string())));
        rows.push(row);
    }
    let has_store = report.runtimes.iter().any(|size| size.source == "store");
    if has_store {
        let sum = |name: &str, sum| {
            vec![name.to_owned(), String::new(), bytes(sum), String::new(), part(sum, report.total_bytes)]
        };
        rows.push(sum("shared by several", report.shared_bytes));
        rows.push(sum("all together", report.total_bytes));
    }
    for column in 2..6 {
        align_right(&mut rows, column);
    }
    table(&rows)
}

/// Makes the cells of a column of numbers equally wide.
fn align_right(rows: &mut [Vec<String>], column: usize) {
    let width = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(column)) {
        *cell = format!("{cell:>width$}");
    }
}

fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or("-".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)))
}

fn part(bytes: Option<u64>, whole: Option<u64>) -> String {
    match (bytes, whole) {
        (Some(bytes), Some(whole)) if whole > 0 => format!("{:.0} %", 100.0 * bytes as f64 / whole as f64),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests;
