//! What comes of all cases together: points, and one verdict.

use super::task::{Scoring, Task};
use super::verdict::{CaseResult, Verdict};

/// What all cases are worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Total {
    /// One verdict for all: that of the first case that was not accepted. Where the checker or the interactor has
    /// failed in any of them, it is that.
    pub verdict: Verdict,
    /// Points of groups, and of cases in none.
    pub points: f64,
    /// Most that there could be.
    pub possible: f64,
    /// How many cases were accepted.
    pub accepted: usize,
    /// What each group is worth.
    pub groups: Vec<GroupScore>,
}

/// What a group is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupScore {
    /// As of all cases, of those of the group.
    pub verdict: Verdict,
    /// Its points.
    pub points: f64,
}

/// Adds up.
#[must_use]
pub fn total(task: &Task, results: &[CaseResult]) -> Total {
    let cases = || task.cases.iter().zip(results);
    let groups: Vec<GroupScore> = task
        .groups
        .iter()
        .enumerate()
        .map(|(index, group)| {
            let own: Vec<(f64, &CaseResult)> = cases()
                .filter(|(case, _)| case.group == Some(index))
                .map(|(case, result)| (case.points, result))
                .collect();
            let fraction = match group.scoring {
                Scoring::All if own.iter().all(|(_, result)| result.verdict == Verdict::Accepted) => 1.0,
                Scoring::All => 0.0,
                Scoring::Minimum => own.iter().map(|(_, result)| result.fraction).fold(1.0, f64::min),
                Scoring::Sum => sum(&own),
            };
            let verdict = verdict(own.iter().map(|(_, result)| *result));
            GroupScore { verdict, points: group.points * fraction }
        })
        .collect();
    let loose = || cases().filter(|(case, _)| case.group.is_none());
    let of_loose = loose().map(|(case, result)| case.points * result.fraction).sum::<f64>();
    let possible_of_loose = loose().map(|(case, _)| case.points).sum::<f64>();
    Total {
        verdict: verdict(results.iter()),
        points: of_loose + groups.iter().map(|group| group.points).sum::<f64>(),
        possible: possible_of_loose + task.groups.iter().map(|group| group.points).sum::<f64>(),
        accepted: results.iter().filter(|result| result.verdict == Verdict::Accepted).count(),
        groups,
    }
}

/// What part of the points of these cases they have together; where they have none, all count alike.
fn sum(own: &[(f64, &CaseResult)]) -> f64 {
    let weight = own.iter().map(|(points, _)| points).sum::<f64>();
    let parts = own.iter().map(|(points, result)| (if weight > 0.0 { *points } else { 1.0 }, result.fraction));
    let (weights, gained) =
        parts.fold((0.0, 0.0), |(all, gained), (weight, fraction)| (all + weight, gained + weight * fraction));
    if weights > 0.0 { gained / weights } else { 0.0 }
}

fn verdict<'a>(results: impl Iterator<Item = &'a CaseResult>) -> Verdict {
    let mut first = None;
    for verdict in results.map(|result| result.verdict) {
        match verdict {
            Verdict::JudgeError | Verdict::Cancelled => return verdict,
            Verdict::Accepted => {}
            other => first = first.or(Some(other)),
        }
    }
    first.unwrap_or(Verdict::Accepted)
}

#[cfg(test)]
mod tests {
    use super::super::task::{Stop, tests::task};
    use super::*;

    fn results(fractions: &[f64]) -> Vec<CaseResult> {
        let result = |fraction: &f64| {
            let verdict = match *fraction {
                1.0 => Verdict::Accepted,
                0.0 => Verdict::WrongAnswer,
                _ => Verdict::Partial,
            };
            CaseResult { fraction: *fraction, ..CaseResult::of(verdict, None) }
        };
        fractions.iter().map(result).collect()
    }

    #[test]
    fn cases_in_no_group_are_added_up_by_their_points() {
        let mut task = task(&[None; 3], Stop::Never);
        task.groups.clear();
        task.cases[1].points = 5.0;
        let total = total(&task, &results(&[1.0, 0.5, 0.0]));
        assert_eq!((total.points, total.possible, total.accepted), (3.5, 7.0, 1));
        assert_eq!(total.verdict, Verdict::Partial);
    }

    #[test]
    fn each_way_of_scoring_a_group_gives_its_points() {
        let mut task = task(&[Some(0), Some(0), None], Stop::Never);
        task.groups.truncate(1);
        for (scoring, fractions, points) in [
            (Scoring::All, [1.0, 1.0, 1.0], 10.0),
            (Scoring::All, [1.0, 0.9, 1.0], 0.0),
            (Scoring::Minimum, [1.0, 0.5, 0.0], 5.0),
            (Scoring::Sum, [1.0, 0.5, 0.0], 7.5),
            (Scoring::Sum, [0.0, 0.0, 1.0], 0.0),
        ] {
            task.groups[0].scoring = scoring;
            let total = total(&task, &results(&fractions));
            assert_eq!(total.groups[0].points, points, "{scoring:?} {fractions:?}");
            assert_eq!((total.points, total.possible), (points + fractions[2], 11.0));
        }
    }

    #[test]
    fn the_first_failure_names_all_and_a_judges_failure_comes_first() {
        let task = task(&[None; 3], Stop::Never);
        let mut results = results(&[1.0, 0.0, 0.5]);
        assert_eq!(total(&task, &results).verdict, Verdict::WrongAnswer);
        results[2] = CaseResult::of(Verdict::JudgeError, None);
        assert_eq!(total(&task, &results).verdict, Verdict::JudgeError);
    }
}
