//! `codesandbox runtimes`: what can be run here, and whether it works.

use std::path::PathBuf;
use std::process::ExitCode;

use super::spinner::Spinner;
use super::text::{harmless, table};
use super::{complain, fail, print, service, sizes};
use crate::api::checks::CheckRequest;
use crate::client::{Client, ClientError};
use crate::runtime::{Health, Listing, Manifest};

/// Arguments of `codesandbox runtimes`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
    /// Run self-tests now, of all runtimes or of one; the exit status is 1 where one does not work
    #[arg(long, value_name = "SELECTOR", num_args = 0..=1)]
    check: Option<Option<String>>,
    /// Tell what each runtime takes on disk, and what it adds to the others
    #[arg(long, conflicts_with = "check")]
    sizes: bool,
    /// Manifest of the store paths whose sizes to tell [default: that of the configuration]
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath, requires = "sizes")]
    manifest: Option<PathBuf>,
    #[command(flatten)]
    place: service::Place,
}

/// Lists, tests, or tells sizes.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.sizes {
        return tell_sizes(arguments);
    }
    let asked = service::with(&arguments.place, async |client| match &arguments.check {
        None => client.runtimes().await,
        Some(selector) => check(client, selector.clone()).await,
    });
    let manifest = match asked {
        Ok(Ok(manifest)) => manifest,
        Ok(Err(error)) => return fail(&error),
        Err(error) => return fail(&error),
    };
    let status = ExitCode::from(exit_status(&manifest, arguments.check.is_some()));
    if arguments.json {
        let json = serde_json::to_string_pretty(&manifest).expect("a list has only text keys");
        return print(format!("{json}\n").as_bytes(), status);
    }
    print(render(&manifest).as_bytes(), status)
}

fn tell_sizes(arguments: &Arguments) -> ExitCode {
    let store = match sizes::manifest(arguments.manifest.as_deref(), &arguments.place) {
        Ok(store) => store,
        Err(error) => return fail(&error),
    };
    let asked = service::with(&arguments.place, async |client| {
        Ok::<_, ClientError>((client.runtimes().await?, client.metrics().await?))
    });
    let (list, metrics) = match asked {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => return fail(&error),
        Err(error) => return fail(&error),
    };
    let report = sizes::report(&list, store.as_ref(), &metrics, &mut |what| complain(&what));
    let text = if arguments.json {
        serde_json::to_string_pretty(&report).expect("a report has only text keys") + "\n"
    } else {
        sizes::render(&report)
    };
    print(text.as_bytes(), ExitCode::SUCCESS)
}

async fn check(client: &Client, runtime: Option<String>) -> Result<Manifest, ClientError> {
    let mut spinner = Spinner::new();
    spinner.say("testing");
    spinner.during(client.check(&CheckRequest { runtime })).await
}

/// 1 where a runtime is broken or, after a test of them all, not known to work.
fn exit_status(manifest: &Manifest, checked: bool) -> u8 {
    let is_fault = |listing: &Listing| match listing.health {
        Health::Working => false,
        Health::Unchecked => checked,
        Health::Broken { .. } => true,
    };
    u8::from(manifest.runtimes.iter().any(is_fault))
}

fn render(manifest: &Manifest) -> String {
    if manifest.runtimes.is_empty() {
        return "no runtimes are found here; codesandbox doctor tells what to do\n".to_owned();
    }
    let heading = ["RUNTIME", "LANGUAGE", "STANDARDS", "SOURCE", "PATH", "SUPPORT", "HEALTH"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(manifest.runtimes.iter().map(row));
    table(&rows)
}

fn row(listing: &Listing) -> Vec<String> {
    let selector = match &listing.version {
        Some(version) => format!("{}@{version}", listing.language),
        None => listing.language.clone(),
    };
    let health = match &listing.health {
        Health::Unchecked => "not tested".to_owned(),
        Health::Working => "works".to_owned(),
        // The reason may quote what a program printed.
        Health::Broken { reason } => format!("BROKEN: {}", harmless(reason)),
    };
    let deprecated = listing.deprecated_since.as_ref();
    vec![
        harmless(&selector),
        harmless(&listing.title),
        listing.variants.join(" "),
        listing.source.clone(),
        harmless(&listing.path),
        deprecated.map(|month| format!("ended {month}")).unwrap_or_default(),
        health,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(version: Option<&str>, health: Health) -> Listing {
        Listing {
            language: "python".to_owned(),
            title: "Python".to_owned(),
            aliases: vec![],
            version: version.map(str::to_owned),
            variants: vec![],
            path: "/usr/bin/python3".to_owned(),
            source: "host".to_owned(),
            closure_bytes: None,
            deprecated_since: Some("2024-10".to_owned()),
            health,
            baseline: None,
        }
    }

    #[test]
    fn a_row_can_be_copied_as_a_selector() {
        let manifest =
            Manifest { runtimes: vec![listing(Some("3.8"), Health::Working), listing(None, Health::Unchecked)] };
        let text = render(&manifest);
        assert!(
            text.contains("python@3.8  ") && text.contains("\npython  ") && text.contains("ended 2024-10"),
            "{text}"
        );
    }

    #[test]
    fn what_a_broken_runtime_printed_can_not_drive_the_terminal() {
        let broken = Health::Broken { reason: "\x1b[2Jboo\n".to_owned() };
        let text = render(&Manifest { runtimes: vec![listing(None, broken)] });
        assert!(!text.contains('\x1b') && text.lines().count() == 2, "{text}");
    }

    #[test]
    fn broken_is_1_and_untested_only_after_a_test() {
        let status = |health, checked| exit_status(&Manifest { runtimes: vec![listing(None, health)] }, checked);
        assert_eq!(status(Health::Broken { reason: String::new() }, false), 1);
        assert_eq!((status(Health::Unchecked, false), status(Health::Unchecked, true)), (0, 1));
        assert_eq!(status(Health::Working, true), 0);
    }
}
