//! A cell's whole outcome, for those who don't want it in pieces.

use serde::{Deserialize, Serialize};

use super::{Cell, Fault, Message, Output};

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Without an error.
    Ok,
    /// With one.
    Error,
    /// By an interrupt.
    Interrupted,
    /// With the kernel's own end.
    Died,
}

/// What came of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelOutcome {
    /// How it ended.
    pub status: Status,
    /// Its number, from 1; `None` where the kernel died.
    pub execution_count: Option<u64>,
    /// What it put out, in order; what was printed to one stream in a row is one piece.
    pub outputs: Vec<Output>,
    /// Whether there was more than the limit.
    pub truncated: bool,
}

impl Cell {
    /// Waits until it has ended, and keeps what it puts out as far as `most_bytes` go. An error is
    /// kept in any case.
    ///
    /// # Errors
    /// [`Fault::Broken`].
    pub async fn outcome(mut self, most_bytes: usize) -> Result<KernelOutcome, Fault> {
        let mut left = most_bytes;
        let mut outcome =
            KernelOutcome { status: Status::Died, execution_count: None, outputs: Vec::new(), truncated: false };
        loop {
            match self.next_sized().await {
                Ok((Message::Output(output), bytes)) => {
                    let is_error = matches!(output, Output::Error { .. });
                    if bytes > left && !is_error {
                        // What comes after a gap would seem to follow what is before it.
                        left = 0;
                        outcome.truncated = true;
                    } else {
                        left = left.saturating_sub(bytes);
                        add(&mut outcome.outputs, output);
                    }
                }
                Ok((Message::Idle(ended), _)) => {
                    outcome.execution_count = Some(ended.execution_count);
                    outcome.status = match ended {
                        _ if ended.interrupted => Status::Interrupted,
                        _ if ended.ok => Status::Ok,
                        _ => Status::Error,
                    };
                    return Ok(outcome);
                }
                Err(Fault::Died) => return Ok(outcome),
                Err(fault) => return Err(fault),
            }
        }
    }
}

fn add(outputs: &mut Vec<Output>, output: Output) {
    match (outputs.last_mut(), output) {
        (Some(Output::Stream { name, text }), Output::Stream { name: next, text: more }) if *name == next => {
            text.push_str(&more);
        }
        (_, output) => outputs.push(output),
    }
}
