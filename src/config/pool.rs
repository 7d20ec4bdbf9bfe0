//! Section `pool`: sandboxes that wait for requests.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// Section `pool`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Whether interpreters are started before their program is known.
    pub warm: bool,
    /// Sandboxes that wait of each runtime, under the profile `default`, whether or not anybody asks.
    pub floor: usize,
    /// Most that wait of one runtime and profile.
    pub ceiling: usize,
    /// Memory that all of them may hold together, in bytes; 0 means an eighth of the host's memory.
    pub memory_bytes: u64,
    /// Memory of the host that must stay available, in bytes; below it fewer wait.
    pub reserve_bytes: u64,
    /// How long they wait for a runtime that nobody asks for any more, in milliseconds.
    pub idle_ms: u64,
    /// Bounds of single runtimes, by id.
    pub runtimes: BTreeMap<String, RuntimePool>,
}

/// Bounds of one runtime; what is absent is as for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimePool {
    /// As [`Pool::floor`].
    pub floor: Option<usize>,
    /// As [`Pool::ceiling`].
    pub ceiling: Option<usize>,
}

impl Pool {
    /// Fewest that wait for a runtime under a profile.
    #[must_use]
    pub fn floor_of(&self, runtime: &str, profile: &str) -> usize {
        if profile != "default" {
            return 0;
        }
        self.runtimes.get(runtime).and_then(|own| own.floor).unwrap_or(self.floor)
    }

    /// Most that wait for a runtime under one profile.
    #[must_use]
    pub fn ceiling_of(&self, runtime: &str) -> usize {
        self.runtimes.get(runtime).and_then(|own| own.ceiling).unwrap_or(self.ceiling)
    }

    /// How long they wait for a runtime that nobody asks for any more.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    /// The same with numbers in place of what stands for the host's.
    #[must_use]
    pub fn resolved(self) -> Self {
        let an_eighth = || nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total() / 8);
        let memory_bytes = if self.memory_bytes == 0 { an_eighth() } else { self.memory_bytes };
        Self { memory_bytes, ..self }
    }

    /// Numbers that contradict one another.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let all = [("pool".to_owned(), self.floor, self.ceiling)];
        let own = self.runtimes.iter().map(|(id, own)| {
            (format!("pool.runtimes.{id}"), own.floor.unwrap_or(self.floor), own.ceiling.unwrap_or(self.ceiling))
        });
        for (key, floor, ceiling) in all.into_iter().chain(own) {
            if floor > ceiling {
                return Err((format!("{key}.floor"), format!("{floor} can't wait where ceiling is {ceiling}")));
            }
        }
        Ok(())
    }
}
