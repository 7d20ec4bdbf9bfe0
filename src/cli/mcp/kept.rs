//! What the latest runs printed and left behind, for whoever wants to see more than their results told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Most runs that are kept.
const RUNS: usize = 32;
/// Most bytes of all that is kept.
const BYTES: usize = 32 << 20;

/// The latest runs of all clients. A run is known by its id, which is random: who knows it was told it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    runs: Mutex<VecDeque<(String, Parts)>>,
}

/// Parts of a run by name: `stdout`, `stderr`, `files/plot.png`.
pub(super) type Parts = BTreeMap<String, Arc<[u8]>>;

impl Kept {
    /// Keeps a run, and forgets older ones where there is no room; whether it was kept.
    pub(super) fn keep(&self, id: &str, parts: Parts) -> bool {
        if size(&parts) > BYTES {
            return false;
        }
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.push_back((id.to_owned(), parts));
        while runs.len() > RUNS || runs.iter().map(|(_, parts)| size(parts)).sum::<usize>() > BYTES {
            runs.pop_front();
        }
        true
    }

    /// A part of a run.
    pub(super) fn part(&self, id: &str, name: &str) -> Option<Arc<[u8]>> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.iter().find(|(kept, _)| kept == id)?.1.get(name).cloned()
    }
}

fn size(parts: &Parts) -> usize {
    parts.iter().map(|(name, bytes)| name.len() + bytes.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(bytes: usize) -> Parts {
        Parts::from([("stdout".to_owned(), vec![0; bytes].into())])
    }

    #[test]
    fn the_latest_runs_are_kept() {
        let kept = Kept::default();
        for number in 0..=RUNS {
            assert!(kept.keep(&number.to_string(), parts(1)));
        }
        assert!(kept.part("0", "stdout").is_none() && kept.part("1", "stdout").is_some());
        assert!(kept.part("1", "stderr").is_none());
    }

    #[test]
    fn bytes_have_a_bound() {
        let kept = Kept::default();
        assert!(!kept.keep("large", parts(BYTES)));
        assert!(kept.keep("a", parts(BYTES / 2)) && kept.keep("b", parts(BYTES / 2 - 100)));
        assert!(kept.part("a", "stdout").is_some());
        assert!(kept.keep("c", parts(1000)));
        assert!(kept.part("a", "stdout").is_none() && kept.part("b", "stdout").is_some());
    }
}
