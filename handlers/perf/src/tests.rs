//! Stories of CDBs through a shard.

mod block;
mod rig;
mod tape;
mod wrapper;
