//! What was refused to the program, and what would allow it.

use std::collections::HashMap;

use ipnet::IpNet;

use super::rules;
use crate::cli::network::{line, written};
use crate::cli::text::table;
use crate::job::{DenialReason, DeniedFlow, Protocol};
use crate::profile::{DestinationForm, Name};

/// Most different refusals that are kept apart; what comes after them is counted.
const KEPT: usize = 4096;
/// Most that are shown.
const SHOWN: usize = 50;

/// All refusals so far.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Each without its count, which stands beside it.
    flows: HashMap<DeniedFlow, u64>,
    /// How often something was refused for which there was no room.
    others: u64,
}

impl Refused {
    /// Takes more.
    pub(super) fn gather(&mut self, flows: Vec<DeniedFlow>) {
        for flow in flows {
            let (count, key) = (flow.count, DeniedFlow { count: 1, ..flow });
            if self.flows.len() >= KEPT && !self.flows.contains_key(&key) {
                self.others = self.others.saturating_add(count);
            } else {
                let known = self.flows.entry(key).or_default();
                *known = known.saturating_add(count);
            }
        }
    }

    /// The most frequent first.
    fn sorted(&self) -> Vec<DeniedFlow> {
        let mut flows: Vec<DeniedFlow> =
            self.flows.iter().map(|(flow, count)| DeniedFlow { count: *count, ..flow.clone() }).collect();
        flows.sort_by_cached_key(|flow| (std::cmp::Reverse(flow.count), line(flow)));
        flows
    }

    /// What would allow what was refused, each once.
    pub(super) fn remedies(&self) -> Vec<DestinationForm> {
        let mut all = Vec::new();
        for form in self.sorted().iter().filter_map(remedy) {
            if !all.contains(&form) {
                all.push(form);
            }
        }
        all
    }

    /// The lines that tell all of it; `file` is the allow-file. Nothing where nothing was refused.
    pub(super) fn summary(&self, file: Option<&str>) -> Vec<String> {
        let flows = self.sorted();
        if flows.is_empty() {
            return Vec::new();
        }
        let mut lines = vec!["refused by the network:".to_owned()];
        let rows: Vec<Vec<String>> = flows.iter().take(SHOWN).map(row).collect();
        lines.extend(table(&rows).lines().map(|row| format!("  {row}")));
        let rest = flows.len().saturating_sub(SHOWN) as u64 + self.others;
        if rest > 0 {
            lines.push(format!("  and {rest} more"));
        }
        let remedies = self.remedies();
        if let Some(file) = file.filter(|_| !remedies.is_empty()) {
            lines.push(format!("lines for allow in {file}, where they are in force at once:"));
            lines.extend(remedies.iter().take(SHOWN).map(|form| format!("  {}", rules::line(form))));
        }
        lines
    }
}

fn row(flow: &DeniedFlow) -> Vec<String> {
    let text = line(flow);
    let text = text.strip_prefix("refused: ").unwrap_or(&text).to_owned();
    vec![protocol(flow.protocol).to_owned(), text, advice(flow)]
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Dns => "dns",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
        Protocol::Proxy => "proxy",
        Protocol::Other => "other",
    }
}

/// What would allow it, in words.
fn advice(flow: &DeniedFlow) -> String {
    match (flow.reason, remedy(flow)) {
        (_, Some(form)) => format!("--allow {}", written(&form)),
        (DenialReason::Private, None) => match flow.address {
            Some(address) => {
                format!("in an allow-file: allow_private = [\"{}\"], and the address itself", IpNet::from(address))
            }
            None => "in an allow-file: allow_private with its network".to_owned(),
        },
        (DenialReason::Bound, None) => "in an allow-file: more connections or bytes".to_owned(),
        (DenialReason::Unreachable, None) => "it is allowed, and does not answer".to_owned(),
        (DenialReason::Certificate, None) => "it is allowed, and its certificate is not valid".to_owned(),
        (DenialReason::Misdirected, None) => "it is allowed, and a request to it named another host".to_owned(),
        (DenialReason::NotListed | DenialReason::Port, None) => "nothing allows that".to_owned(),
    }
}

/// What would allow it, where a destination does.
fn remedy(flow: &DeniedFlow) -> Option<DestinationForm> {
    let is_carried = matches!(flow.protocol, Protocol::Dns | Protocol::Tcp | Protocol::Proxy);
    let is_missing = matches!(flow.reason, DenialReason::NotListed | DenialReason::Port);
    if !is_carried || !is_missing {
        return None;
    }
    let ports = flow.port.filter(|_| flow.protocol != Protocol::Dns).map(|port| vec![port]);
    let form = DestinationForm { ports, ..DestinationForm::default() };
    match (&flow.name, flow.address) {
        // Names are the program's own words, and only one that is a name is repeated.
        (Some(name), _) => {
            let name: Name = name.parse().ok()?;
            Some(DestinationForm { domain: Some(name.to_string()), ..form })
        }
        (None, Some(address)) => Some(DestinationForm { cidr: Some(IpNet::from(address)), ..form }),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(name: Option<&str>, port: Option<u16>, protocol: Protocol, reason: DenialReason) -> DeniedFlow {
        let address = name.is_none().then(|| "198.51.100.7".parse().unwrap());
        DeniedFlow { name: name.map(str::to_owned), address, port, protocol, reason, count: 2 }
    }

    #[test]
    fn each_refusal_is_told_with_what_allows_it() {
        use DenialReason::{NotListed, Port, Private};
        for (flow, expected) in [
            (flow(Some("a.example.org"), None, Protocol::Dns, NotListed), "--allow a.example.org"),
            (flow(Some("a.example.org"), Some(8080), Protocol::Tcp, Port), "--allow a.example.org:8080"),
            (flow(None, Some(443), Protocol::Tcp, NotListed), "--allow 198.51.100.7/32:443"),
            (flow(None, Some(443), Protocol::Udp, NotListed), "nothing allows that"),
            (flow(None, None, Protocol::Icmp, NotListed), "nothing allows that"),
            (flow(None, Some(443), Protocol::Tcp, Private), "allow_private = [\"198.51.100.7/32\"]"),
        ] {
            let advice = advice(&flow);
            assert!(advice.contains(expected), "{advice}: {expected}");
        }
    }

    #[test]
    fn what_is_the_same_is_counted_together() {
        let mut refused = Refused::default();
        let one = flow(Some("a.example.org"), Some(443), Protocol::Tcp, DenialReason::NotListed);
        refused.gather(vec![one.clone(), DeniedFlow { count: 5, ..one }]);
        let summary = refused.summary(Some("rules.toml")).join("\n");
        assert!(summary.contains("7 times") && summary.contains("--allow a.example.org:443"), "{summary}");
        assert!(summary.contains("{ domain = \"a.example.org\", ports = [443] },"), "{summary}");
        assert!(Refused::default().summary(None).is_empty());
    }

    #[test]
    fn a_name_that_is_none_is_shown_and_never_repeated_as_a_flag() {
        let mut refused = Refused::default();
        refused.gather(vec![flow(Some("a\u{1b}]0;x"), None, Protocol::Dns, DenialReason::NotListed)]);
        assert!(refused.remedies().is_empty());
        assert!(!refused.summary(None).join("\n").contains('\u{1b}'));
    }

    #[test]
    fn there_is_a_limit_to_what_is_kept() {
        let mut refused = Refused::default();
        for number in 0..2 * KEPT {
            let name = format!("h{number}.example.org");
            refused.gather(vec![flow(Some(&name), None, Protocol::Dns, DenialReason::NotListed)]);
        }
        assert_eq!((refused.flows.len(), refused.others), (KEPT, 2 * KEPT as u64));
        assert!(refused.summary(None).len() < SHOWN + 5);
    }
}
