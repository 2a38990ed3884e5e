//! Stories of CDBs through a shard.

mod any;
mod block;
mod rig;
mod tape;
mod wrapper;
