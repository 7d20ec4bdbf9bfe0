//! What is to be judged, checked and complete.

use std::sync::Arc;

use super::compare::Comparison;
use crate::job::{Job, JobId};

/// A program, and what it is to be run on.
#[derive(Debug, Clone)]
pub struct Task {
    /// Names all of it, in answers and to cancel it.
    pub id: JobId,
    /// The program; its standard input is that of each case.
    pub program: Job,
    /// What decides.
    pub method: Method,
    /// At least one.
    pub cases: Vec<Case>,
    /// Each before those that need it; may be none.
    pub groups: Vec<Group>,
    /// When cases are no longer run.
    pub stop: Stop,
    /// Most bytes of a talk that are kept.
    pub transcript_bytes: usize,
}

/// What decides whether a case is passed.
#[derive(Debug, Clone)]
pub enum Method {
    /// We compare what was printed.
    Compare(Comparison),
    /// A program looks at what was printed.
    Checker(Box<Job>),
    /// A program talks to the one that is judged.
    Interactor(Box<Job>),
}

/// One run of the program.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its standard input; of an interactive one what the interactor is given.
    pub input: Arc<Vec<u8>>,
    /// What is expected; may be nothing where a program decides.
    pub expected: Arc<Vec<u8>>,
    /// What it is worth.
    pub points: f64,
    /// Its place among the groups.
    pub group: Option<usize>,
}

/// Cases that are worth something together.
#[derive(Debug, Clone)]
pub struct Group {
    /// How its points come about.
    pub scoring: Scoring,
    /// What it is worth.
    pub points: f64,
    /// Groups of which every case must be passed, those that these need included; all of their cases come before
    /// its own.
    pub needs: Vec<usize>,
}

/// How the points of a group come about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// All of them where every case is accepted, else none.
    #[default]
    All,
    /// As many of all as of those of its worst case.
    Minimum,
    /// As many of all as of those of its cases together.
    Sum,
}

/// When cases are no longer run because of one that was not accepted. It is always those that come after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// All are run.
    #[default]
    Never,
    /// Those of its group are not; those in no group are one group.
    InGroup,
    /// None is.
    AtFirst,
}

impl Task {
    /// Whether a case need not be run, where others were not accepted.
    ///
    /// Only those that come before it matter, and one of them that need not be run itself makes no difference: what
    /// makes that one superfluous makes this one so as well. So whatever has run at the same time, the same cases
    /// are left out in the end.
    #[must_use]
    pub fn is_superfluous(&self, index: usize, failed: &Failed) -> bool {
        let Some(case) = self.cases.get(index) else { return true };
        let is_before = |first: Option<usize>| first.is_some_and(|first| first < index);
        let stops = match self.stop {
            Stop::Never => false,
            Stop::InGroup => is_before(failed.of_group(case.group)),
            Stop::AtFirst => is_before(failed.first),
        };
        let group = case.group.and_then(|group| self.groups.get(group));
        let needs = group.map_or(&[][..], |group| &group.needs);
        stops || needs.iter().any(|needed| is_before(failed.of_group(Some(*needed))))
    }
}

/// The first of the cases that were not accepted, of all and of each group.
#[derive(Debug, Clone, Default)]
pub struct Failed {
    first: Option<usize>,
    by_group: std::collections::BTreeMap<Option<usize>, usize>,
}

impl Failed {
    /// One more was not accepted.
    pub fn note(&mut self, index: usize, group: Option<usize>) {
        let earlier = |first: usize| first.min(index);
        self.first = Some(self.first.map_or(index, earlier));
        let first = self.by_group.entry(group).or_insert(index);
        *first = earlier(*first);
    }

    fn of_group(&self, group: Option<usize>) -> Option<usize> {
        self.by_group.get(&group).copied()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A task with cases in these groups, whose group 1 needs group 0.
    pub(in crate::judge) fn task(groups: &[Option<usize>], stop: Stop) -> Task {
        let limits = crate::config::Config::parse("{}").unwrap().profiles["default"].run;
        let program = Job {
            id: JobId::random(),
            runtime: "bash".into(),
            profile: "default".into(),
            install: None,
            only_installs: false,
            compile: None,
            run: crate::job::StageRequest { argv: vec![], env: std::collections::BTreeMap::new(), limits },
            files: vec![],
            stdin: Arc::default(),
            outputs: vec![],
            basis: None,
            warm: false,
            fresh: false,
            network: None,
        };
        let case = |group: &Option<usize>| Case {
            input: Arc::default(),
            expected: Arc::default(),
            points: 1.0,
            group: *group,
        };
        let group = |needs: &[usize]| Group { scoring: Scoring::All, points: 10.0, needs: needs.to_vec() };
        Task {
            id: JobId::random(),
            program,
            method: Method::Compare(Comparison::Exact),
            cases: groups.iter().map(case).collect(),
            groups: vec![group(&[]), group(&[0])],
            stop,
            transcript_bytes: 0,
        }
    }

    /// The cases that are left out in the end, when all have run whose end is known in this order.
    fn left_out(task: &Task, fails: &[bool], order: &[usize]) -> Vec<bool> {
        let mut known = vec![None; fails.len()];
        let mut failed = Failed::default();
        // What is superfluous by then is not run, and one that fails is noted as it comes.
        for index in order {
            if !task.is_superfluous(*index, &failed) {
                known[*index] = Some(fails[*index]);
                if fails[*index] {
                    failed.note(*index, task.cases[*index].group);
                }
            }
        }
        let mut last = Failed::default();
        let mut out = Vec::new();
        for (index, known) in known.iter().enumerate() {
            let is_out = task.is_superfluous(index, &last);
            assert!(is_out || known.is_some(), "case {index} was never run");
            if !is_out && known.unwrap() {
                last.note(index, task.cases[index].group);
            }
            out.push(is_out);
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_left_out_does_not_depend_on_the_order_of_the_ends(
            (fails, order) in prop::collection::vec(prop::bool::weighted(0.2), 1..30).prop_flat_map(|fails| {
                let order: Vec<usize> = (0..fails.len()).collect();
                (Just(fails), Just(order).prop_shuffle())
            }),
            stop in prop::sample::select(vec![Stop::Never, Stop::InGroup, Stop::AtFirst]),
        ) {
            // Those of group 1, which needs group 0, are the last third.
            let groups: Vec<Option<usize>> = (0..fails.len())
                .map(|index| match (index * 3 / fails.len(), index % 3) {
                    (2, _) => Some(1),
                    (_, 0) => None,
                    _ => Some(0),
                })
                .collect();
            let task = task(&groups, stop);
            let in_turn: Vec<usize> = (0..fails.len()).collect();
            prop_assert_eq!(left_out(&task, &fails, &order), left_out(&task, &fails, &in_turn));
        }
    }

    #[test]
    fn each_way_of_stopping_leaves_out_what_it_says() {
        let groups = [Some(0), None, Some(0), None, Some(1)];
        let fails = [false, true, false, false, false];
        let in_turn = [0, 1, 2, 3, 4];
        let out = |stop, fails: &[bool]| left_out(&task(&groups, stop), fails, &in_turn);
        assert_eq!(out(Stop::Never, &fails), [false; 5]);
        assert_eq!(out(Stop::InGroup, &fails), [false, false, false, true, false]);
        assert_eq!(out(Stop::AtFirst, &fails), [false, false, true, true, true]);
        let needed = [false, false, true, false, false];
        assert_eq!(out(Stop::Never, &needed), [false, false, false, false, true]);
    }
}
