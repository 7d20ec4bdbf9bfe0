//! What a request asks to reach, held to what its profile allows.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::config::secrets::usable;
use crate::profile::{AllowForm, AllowList, Closed, DESTINATIONS, DestinationForm, Network, NetworkForm, NotCovered};

use super::problem::Problem;

/// What a request gets that asks for this where so much is allowed; none where that is all of it.
///
/// # Errors
/// What is asked for is malformed or more than is allowed: the first such thing, with its field.
pub(super) fn narrowed(field: &str, asked: Option<NetworkForm>, allowed: &Network) -> Result<Option<Network>, Problem> {
    let asked = match asked {
        None => return Ok(None),
        Some(NetworkForm::Closed(Closed::None)) => Network::None,
        Some(NetworkForm::Closed(Closed::Loopback)) => Network::Loopback,
        Some(NetworkForm::Open(form)) => {
            let list = list(field, form)?;
            match allowed {
                // Who asks for nothing beyond what is there in any case need not know what that is.
                Network::None | Network::Loopback if list.allow.is_empty() => return Ok(None),
                _ => Network::Allow(Box::new(list)),
            }
        }
    };
    let destinations = if let Network::Allow(list) = &asked { list.allow.clone() } else { Vec::new() };
    let narrowed = asked.narrowed(allowed).map_err(|error| {
        let field = match &error {
            NotCovered::Destination(one) => match destinations.iter().position(|other| *other == **one) {
                Some(index) => format!("{field}.allow[{index}]"),
                None => format!("{field}.allow"),
            },
            NotCovered::Private(_) => format!("{field}.allow_private"),
            NotCovered::Secret(_) => format!("{field}.secrets"),
            NotCovered::Bound { field: bound, .. } => format!("{field}.{bound}"),
            NotCovered::Loopback | NotCovered::Closed => field.to_owned(),
        };
        let problem = Problem::field(field, error.to_string());
        match error {
            NotCovered::Bound { most, .. } => problem.allowing(serde_json::json!({ "minimum": 1, "maximum": most })),
            _ => problem.allowing("what the profile allows, as GET /v1/profiles tells it, or less"),
        }
    })?;
    Ok((narrowed != *allowed).then_some(narrowed))
}

/// The same with the secrets that a request wants by their variables: all that it can use where it names none.
/// A secret of a host that is not reached is of no use, and not handed out.
///
/// # Errors
/// As [`narrowed`], and where it names one that its profile does not have or that it can't use.
pub(super) fn with_secrets(
    asked: Option<NetworkForm>,
    variables: Option<Vec<String>>,
    allowed: &Network,
    config: &Config,
) -> Result<Option<Network>, Problem> {
    let network = narrowed("network", asked, allowed)?;
    let Network::Allow(mut list) = network.clone().unwrap_or_else(|| allowed.clone()) else {
        return match variables {
            Some(variables) if !variables.is_empty() => Err(no_secret(0, &variables[0], &BTreeMap::new())),
            _ => Ok(network),
        };
    };
    let usable = usable(&config.secrets, &list);
    list.secrets = match variables {
        None => usable,
        Some(variables) => {
            let known = |(index, name): (usize, &String)| match usable.get(name) {
                Some(secret) => Ok((name.clone(), secret.clone())),
                None => Err(no_secret(index, name, &usable)),
            };
            variables.iter().enumerate().map(known).collect::<Result<_, _>>()?
        }
    };
    let network = Network::Allow(list);
    Ok((network != *allowed).then_some(network))
}

fn no_secret(index: usize, variable: &str, usable: &BTreeMap<String, String>) -> Problem {
    let detail = format!("{variable:?} stands for no secret of the profile whose host the network allows");
    let variables: BTreeSet<&String> = usable.keys().collect();
    Problem::field(format!("secrets[{index}]"), detail).allowing(serde_json::json!(variables))
}

/// A list as data, of which each part is looked at by itself, so that what is wrong can be named.
fn list(field: &str, form: AllowForm) -> Result<AllowList, Problem> {
    if !form.allow_private.is_empty() {
        return Err(Problem::field(
            format!("{field}.allow_private"),
            "private networks are excepted by profiles alone",
        ));
    }
    if !form.secrets.is_empty() {
        let detail = "which secret a variable stands for, profiles alone say: a request names variables, in its field \"secrets\"";
        return Err(Problem::field(format!("{field}.secrets"), detail));
    }
    if form.allow.len() > DESTINATIONS {
        let detail = format!("{} destinations are too many", form.allow.len());
        return Err(
            Problem::field(format!("{field}.allow"), detail).allowing(serde_json::json!({ "maximum": DESTINATIONS }))
        );
    }
    for (index, one) in form.allow.iter().enumerate() {
        destination(&format!("{field}.allow[{index}]"), one)?;
    }
    let bounds = [
        ("connections", form.connections.map(u64::from)),
        ("bytes", form.bytes),
        ("bytes_per_second", form.bytes_per_second),
    ];
    if let Some((bound, _)) = bounds.into_iter().find(|(_, value)| *value == Some(0)) {
        return Err(Problem::field(format!("{field}.{bound}"), "0 would allow nothing: an empty list says that")
            .allowing(serde_json::json!({ "minimum": 1 })));
    }
    // What is wrong now is so of several together.
    AllowList::try_from(form).map_err(|error| Problem::field(format!("{field}.allow"), error))
}

fn destination(field: &str, form: &DestinationForm) -> Result<(), Problem> {
    let hosts = [("domain", form.domain.is_some()), ("suffix", form.suffix.is_some()), ("cidr", form.cidr.is_some())];
    let mut named = hosts.into_iter().filter(|(_, is_there)| *is_there);
    let (Some((part, _)), None) = (named.next(), named.next()) else {
        let detail = "a destination has exactly one of domain, suffix and cidr";
        return Err(Problem::field(field, detail).allowing(&["domain", "suffix", "cidr"][..]));
    };
    let checked = |form: DestinationForm| {
        let one = AllowForm {
            allow: vec![form],
            allow_private: Vec::new(),
            connections: None,
            bytes: None,
            bytes_per_second: None,
            secrets: BTreeMap::new(),
        };
        AllowList::try_from(one).map(drop)
    };
    let without_ports = DestinationForm { ports: None, ..form.clone() };
    checked(without_ports).map_err(|error| Problem::field(format!("{field}.{part}"), error))?;
    checked(form.clone()).map_err(|error| {
        Problem::field(format!("{field}.ports"), error)
            .allowing(serde_json::json!({ "minimum": 1, "maximum": u16::MAX }))
    })
}

/// Whether something beyond the sandbox can be reached.
pub(super) fn leads_outside(network: &Network) -> bool {
    matches!(network, Network::Allow(list) if !list.allow.is_empty())
}

#[cfg(test)]
mod tests;
