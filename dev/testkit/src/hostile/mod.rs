//! Attacks on any portal, and what became of them.
//!
//! * [`Crowd`]: many connections that say nothing, garbage or half of something, held open.
//! * [`try_login`], [`login_flood`]: logins and how each ended, to be compared exactly.
//! * [`wrong_chap`], [`wrong_names`], [`oversized_texts`]: catalogues of bad logins, by name.
//! * [`Witness`]: a well-behaved verifying initiator that must make progress meanwhile.

mod crowd;
mod logins;
mod witness;

pub use crowd::{Crowd, CrowdState, Misbehaviour};
pub use logins::{LoginResult, endless_text, login_flood, oversized_texts, try_login, wrong_chap, wrong_names};
pub use witness::{Witness, WitnessReport};
