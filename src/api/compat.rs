//! Dialects of other systems, so that clients written for those find what they know.

pub mod judge0;
mod loose;
pub(super) mod piston;
