//! Our own side: the same service under as many configurations as there are ways to a sandbox.

use std::time::{Duration, Instant};

use codesandbox::cli::bench::client::{Client, Connector, request};
use codesandbox::cli::bench::load::Worker;
use codesandbox::cli::bench::program::language_of_one_program;
use codesandbox::config::Config;
use codesandbox::runtime::Catalogue;
use serde_json::{Value, json};

use super::common::{Service, merge};

/// What a service that waits for a sandbox to be gone, or made, waits at most.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(2);

/// A service, and what is special about it.
pub(crate) struct Ours {
    pub(crate) name: &'static str,
    pub(crate) service: Service,
    pub(crate) fresh: [(&'static str, super::memory::Memory); 3],
}

impl Ours {
    /// As configured by default; without warm interpreters; with nothing that waits.
    pub(crate) fn start_all() -> Vec<Self> {
        // Services of tests have none that wait unless they say so.
        vec![
            Self::start("codeSandbox", json!({"pool": {"warm": true, "ceiling": 32}})),
            Self::start("codeSandbox, parked", json!({"pool": {"warm": false, "ceiling": 32}})),
            Self::cold(json!({})),
        ]
    }

    /// The one in which nothing waits.
    pub(crate) fn cold(changes: Value) -> Self {
        let mut config = json!({"pool": {"warm": false, "floor": 0, "ceiling": 0}});
        merge(&mut config, changes);
        Self::start("codeSandbox, cold", config)
    }

    pub(crate) fn start(name: &'static str, changes: Value) -> Self {
        let mut config = configuration();
        merge(&mut config, changes);
        let service = Service::start_with(config);
        let fresh = super::memory::of_service(&service);
        Self { name, service, fresh }
    }

    /// Workers that post this body, each request on a connection of its own.
    pub(crate) fn workers(&self, body: &Value, count: usize) -> Vec<Worker<'static>> {
        let request = request("POST", "/v1/run", body.to_string().as_bytes(), false);
        let worker = || -> Worker<'static> {
            let mut client = Client::new(Connector::Path(self.service.socket()), false);
            let request = request.clone();
            Box::new(move || client.attempt(&request))
        };
        (0..count).map(|_| worker()).collect()
    }

    /// Waits until sandboxes neither come nor go, and those that wait sleep.
    pub(crate) fn settle(&self) {
        let began = Instant::now();
        let mut before = None;
        while began.elapsed() < PATIENCE {
            let mut now = self.service.sandbox_processes();
            now.sort_unstable();
            let busy = now.iter().chain([&self.service.launcher_pid()]).any(|pid| !sleeps(*pid));
            if !busy && before.as_ref() == Some(&now) {
                return;
            }
            before = Some(now);
            std::thread::sleep(LOOK);
        }
    }
}

/// proc(5), `stat`: the state stands after the name, which is in parentheses.
fn sleeps(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'))
}

/// The host's runtimes, and programs that are languages of their own.
fn configuration() -> Value {
    let language = |name: &str| (name.to_owned(), language_of_one_program(name, &format!("/usr/bin/{name}")));
    let languages: serde_json::Map<String, Value> = ["true", "sleep", "wc"].map(language).into_iter().collect();
    // The runtimes of root trees have no counterpart outside.
    json!({"runtimes": {"trees": []}, "languages": languages})
}

/// What the configuration comes to.
pub(crate) fn catalogue() -> (Config, Catalogue) {
    let config = Config::parse(&configuration().to_string()).unwrap();
    let catalogue = config.catalogue(None, &|path| path.exists()).unwrap();
    (config, catalogue)
}
