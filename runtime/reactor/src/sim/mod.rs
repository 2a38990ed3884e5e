//! A simulated world: virtual time, a network and disks with seeded faults, and a back-end per reactor.
//!
//! One [`SimWorld`] is shared by everything of a run, in one thread. Each reactor gets a [`SimBackend`], whose `wait`
//! never blocks: it reports what has happened by now. Simulated initiators are [`SimPeer`]s, storage is [`SimDisk`]s.
//! A driver decides who runs and when time goes on:
//!
//! ```text
//! loop {
//!     while let Some(n) = world.pick() { reactor[n].turn(); }   // everybody who has something to do, in seeded order
//!     look at the peers, inject load and faults
//!     if world.step().is_none() { break }                       // next event or deadline; None: nothing will happen
//! }
//! ```
//!
//! All randomness comes from the seed and nothing depends on addresses or hash order, so the same seed gives the same
//! run: [`SimWorld::fingerprint`] is the same number, and [`SimWorld::trace`] the same lines.

mod backend;
mod config;
mod disk;
mod image;
mod net;
mod peer;
mod rng;
mod storage;
mod world;

pub use backend::SimBackend;
pub use config::{DiskFaults, NetFaults, SimConfig};
pub use disk::SimDisk;
pub use peer::{PeerState, SimPeer};
pub use rng::SimRng;
pub use world::{Crash, SimWorld};
