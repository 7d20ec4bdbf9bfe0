//! `list_runtimes`: what can be run here.

use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Call, Does, tool};
use crate::cli::mcp::reply::{Reply, Trouble};
use crate::runtime::{Health, Listing, Manifest};

/// Most runtimes in one result.
const LISTED: usize = 200;

/// Arguments of the tool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListRuntimes {
    /// Part of a language's name or of a version, such as "python" or "c++"
    filter: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Runtimes {
    /// The runtimes, as run_code and session_create take them
    runtimes: Vec<Runtime>,
    /// Whether there are more than are listed
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Runtime {
    /// What to give as `runtime`
    runtime: String,
    /// Other names of the language
    aliases: Vec<String>,
    /// Standards that can be selected in place of the language, such as c++20
    standards: Vec<String>,
    /// works, not tested, or what is broken
    health: String,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![tool::<ListRuntimes, Runtimes>(
        "list_runtimes",
        "List languages and versions",
        Does::Reads,
        "List the languages and versions that programs can be written in here. You need it only if a runtime was refused \
         or a certain version matters: the name of a language alone, such as \"python\", always takes the newest.",
    )]
}

pub(super) async fn list(call: Call<'_>, asked: ListRuntimes) -> Result<Reply, Trouble> {
    let manifest: Manifest = call.shared.way.get("/v1/runtimes").await?;
    let wanted = asked.filter.as_deref().unwrap_or_default().trim().to_lowercase();
    let mut found: Vec<Runtime> =
        manifest.runtimes.into_iter().filter(|listing| fits(listing, &wanted)).map(Runtime::from).collect();
    let truncated = found.len() > LISTED;
    found.truncate(LISTED);
    let data = Runtimes { runtimes: found, truncated };
    let mut reply = Reply::of(&data);
    if data.runtimes.is_empty() {
        reply.line("No runtime fits; call it without a filter to see all.");
    }
    for runtime in &data.runtimes {
        let mut line = runtime.runtime.clone();
        if !runtime.standards.is_empty() {
            line.push_str(&format!(" (standards: {})", runtime.standards.join(", ")));
        }
        if runtime.health != WORKS {
            line.push_str(&format!(": {}", runtime.health));
        }
        reply.line(line);
    }
    if truncated {
        reply.line("There are more; use a filter.");
    }
    Ok(reply)
}

fn fits(listing: &Listing, wanted: &str) -> bool {
    let names = [&listing.language, &listing.title].into_iter().chain(&listing.aliases).chain(&listing.variants);
    names.chain(&listing.version).any(|name| name.to_lowercase().contains(wanted)) || selector(listing).contains(wanted)
}

fn selector(listing: &Listing) -> String {
    match &listing.version {
        Some(version) => format!("{}@{version}", listing.language),
        None => listing.language.clone(),
    }
}

const WORKS: &str = "works";

impl From<Listing> for Runtime {
    fn from(listing: Listing) -> Self {
        let health = match &listing.health {
            Health::Working => WORKS.to_owned(),
            Health::Unchecked => "not tested".to_owned(),
            Health::Broken { reason } => {
                format!("broken: {}", reason.lines().next().unwrap_or_default().chars().take(200).collect::<String>())
            }
        };
        Self { runtime: selector(&listing), aliases: listing.aliases, standards: listing.variants, health }
    }
}
