//! Dialects of other systems, so that clients written for those find what they know.

pub mod judge0;
pub(super) mod piston;
