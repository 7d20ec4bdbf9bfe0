//! Judges: runs one program on many inputs, and decides of each run what it is worth.
//!
//! ```text
//!  Task ─▶ build the program, and what decides ─▶ run the cases, some at a time ─▶ Report
//!                │ it does not compile              │ compare · checker · interactor
//!                ▼                                  ▼
//!              Report without cases               one Verdict each
//! ```
//!
//! [`task`] has what is asked for, [`verdict`] what can be said of a case, [`compare`] five ways of looking at what
//! was printed, [`helper`] what a checker's or an interactor's end means, [`score`] what comes of all cases together,
//! and [`work`] has all of it happen. Everything that runs is a job of the scheduler, as any other of the client.

pub mod compare;
pub mod helper;
pub mod score;
pub mod task;
pub mod verdict;
pub mod work;

pub use crate::cache::uploads::{FileId, Upload, UploadError, Uploads};
pub use score::{GroupScore, Total};
pub use task::{Case, Group, Method, Scoring, Stop, Task};
pub use verdict::{CaseResult, Verdict};
pub use work::{Event, Judging, Part, Report};
