//! What can go wrong, and how often. Rates are per million.

use scst_core::Nanos;

/// The simulated network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetFaults {
    /// Least and most delay of a segment; one in a hundred takes ten times the most.
    pub latency: (Nanos, Nanos),
    /// Bytes in flight and unread, per direction: a sender waits above.
    pub window: u32,
    /// A receive that gets only a part of what is there, or a segment that carries only a part of what may go.
    pub fragment: u32,
    /// A segment after which the sender stalls for `stall_time`.
    pub stall: u32,
    /// How long.
    pub stall_time: Nanos,
    /// A segment at which the connection is reset, both ways.
    pub reset: u32,
}

/// Simulated disks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskFaults {
    /// Least and most time of an operation; one in a hundred takes ten times the most. Operations overtake each other.
    pub latency: (Nanos, Nanos),
    /// A transfer whose bytes move in two steps at different times.
    pub split: u32,
    /// An operation that fails with EIO; a failed write may have been carried out in part.
    pub eio: u32,
    /// A write that fails with ENOSPC.
    pub enospc: u32,
    /// A transfer that ends early.
    pub short: u32,
    /// A `submit` that is answered with `QueueFull`.
    pub queue_full: u32,
    /// A read or write that `try_now` does at once.
    pub cached: u32,
    /// An operation that does not end for a time of seconds to a minute, whatever asks it to.
    pub hang: u32,
}

/// A run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SimConfig {
    /// Decides everything.
    pub seed: u64,
    /// The network.
    pub net: NetFaults,
    /// The disks.
    pub disk: DiskFaults,
    /// A `wait` that reports only a part of what has happened.
    pub partial_wait: u32,
    /// Lines of trace to keep.
    pub trace: usize,
}

impl SimConfig {
    /// Delays and reordering as they always occur, but no faults.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            net: NetFaults {
                latency: (Nanos(10_000), Nanos(200_000)),
                window: 256 << 10,
                fragment: 0,
                stall: 0,
                stall_time: Nanos::from_millis(50),
                reset: 0,
            },
            disk: DiskFaults {
                latency: (Nanos(20_000), Nanos(2_000_000)),
                split: 0,
                eio: 0,
                enospc: 0,
                short: 0,
                queue_full: 0,
                cached: 300_000,
                hang: 0,
            },
            partial_wait: 0,
            trace: 0,
        }
    }

    /// Everything that is allowed to happen without being an error: fragments, stalls, reordering, partial waits.
    pub fn rough(seed: u64) -> Self {
        let mut config = Self::calm(seed);
        config.net.fragment = 300_000;
        config.net.stall = 2_000;
        config.net.window = 32 << 10;
        config.disk.split = 300_000;
        config.partial_wait = 200_000;
        config
    }

    /// Rough, and things break: resets, I/O errors, full queues.
    pub fn faulty(seed: u64) -> Self {
        let mut config = Self::rough(seed);
        config.net.reset = 200;
        config.disk.eio = 2_000;
        config.disk.enospc = 1_000;
        config.disk.short = 2_000;
        config.disk.queue_full = 2_000;
        config
    }
}
