//! Packages of a session: installed before it is made, as those of a job are, in the client's turn.

use std::sync::Arc;

use crate::api::dependencies;
use crate::api::problem::{Kind, Problem};
use crate::job::{Event, Install, Outcome};
use crate::plan::tree::TreeAt;

use super::asked::Asked;

/// Has packages be there. Dropping this cancels it.
///
/// # Errors
/// They can't be installed: what the installer said goes with the problem.
pub(super) async fn install(asked: &Asked, installs: &[Arc<Install>]) -> Result<Vec<TreeAt>, Problem> {
    let mut trees = Vec::with_capacity(installs.len());
    for install in installs {
        let outcome = outcome(asked, install).await?;
        if let Some(stage) = &outcome.prepare {
            asked.state.metrics.prepared(install.ecosystem, stage);
        }
        if outcome.trees.is_empty() {
            return Err(failed(install, outcome));
        }
        trees.extend(outcome.trees);
    }
    Ok(trees)
}

async fn outcome(asked: &Asked, install: &Arc<Install>) -> Result<Outcome, Problem> {
    let job = dependencies::job(install);
    let id = job.id.clone();
    let mut ticket = asked.state.scheduler.submit(job, &asked.quota)?;
    loop {
        match ticket.next().await {
            Some(Ok(Event::Finished(outcome))) => return Ok(*outcome),
            Some(Ok(_)) => {}
            Some(Err(fault)) => return Err(Problem::from(&fault).of_job(&id)),
            None => return Err(Problem::new(Kind::Internal, "the scheduler let go of the job").of_job(&id)),
        }
    }
}

fn failed(install: &Install, outcome: Outcome) -> Problem {
    let prepare = outcome.prepare.map(crate::api::answer::made);
    let reason = prepare.as_ref().and_then(|prepare| prepare.reason.clone()).unwrap_or_default();
    let field = Some(format!("dependencies.{}", install.ecosystem.name()));
    let detail = format!("the packages could not be installed: {reason}");
    Problem { field, prepare: prepare.map(Box::new), ..Problem::new(Kind::PrepareFailed, detail) }
}
