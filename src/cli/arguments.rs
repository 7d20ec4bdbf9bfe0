//! Arguments of `codesandbox run`.

use std::path::PathBuf;

use clap::ValueHint;

use super::dependencies::Packages;
use super::judge::Tests;
use super::limit::Limit;
use super::network::Reach;
use super::service::Place;

/// Arguments of `codesandbox run`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The program's source; its extension tells the language
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) file: PathBuf,
    /// Language and version, such as python, python@3.12, c++@20 or "node@>=18 <22"
    #[arg(short, long, value_name = "SELECTOR")]
    pub(super) runtime: Option<String>,
    /// An argument for the program; those after -- come behind
    #[arg(short, long = "arg", value_name = "ARG", allow_hyphen_values = true)]
    args: Vec<String>,
    /// Arguments for the program
    #[arg(last = true, value_name = "ARGS")]
    trailing: Vec<String>,
    /// A variable for the program's environment
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(super) env: Vec<(String, String)>,
    /// A further file for the program, under its own relative path or under NAME
    #[arg(short, long = "file", value_name = "PATH[=NAME]", value_hint = ValueHint::FilePath)]
    pub(super) files: Vec<PathBuf>,
    /// The program's standard input [default: what is piped in, nothing from a terminal]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) stdin: Option<PathBuf>,
    /// Fetch files that the program leaves behind, by pattern such as "*.png" or "out/**"
    #[arg(short, long = "output", value_name = "GLOB")]
    pub(super) outputs: Vec<String>,
    /// Where fetched files go [default: the current directory; with --json, nowhere]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) output_dir: Option<PathBuf>,
    /// Let fetched files replace files that are there
    #[arg(long)]
    pub(super) force: bool,
    /// Change a limit, such as memory=256M, wall=5s or cpus=2; --help lists all
    #[arg(short, long = "limit", value_name = "NAME=VALUE")]
    pub(super) limits: Vec<Limit>,
    /// Change a limit of the compiler
    #[arg(long = "compile-limit", value_name = "NAME=VALUE")]
    pub(super) compile_limits: Vec<Limit>,
    /// Named set of limits and rules to run under, such as judge or build
    #[arg(short, long)]
    pub(super) profile: Option<String>,
    #[command(flatten)]
    pub(super) tests: Tests,
    #[command(flatten)]
    pub(super) reach: Reach,
    #[command(flatten)]
    pub(super) packages: Packages,
    /// Compile anew, and keep nothing of it
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Print the whole result as JSON instead of the program's output
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) place: Place,
}

impl Arguments {
    /// Arguments of the program, in order.
    pub(super) fn program_arguments(&self) -> Vec<String> {
        self.args.iter().chain(&self.trailing).cloned().collect()
    }
}

/// `NAME=VALUE` of an environment.
pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        // Never a variable of ours: what the program sees is what the command line says.
        None => Err("write it as NAME=VALUE; variables of this shell are not passed on".to_owned()),
        Some(("", _)) => Err("the name is empty".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_needs_a_name_and_a_value() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(variable("A="), Ok(("A".to_owned(), String::new())));
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
