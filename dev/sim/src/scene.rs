//! What everybody in a run shares: the plan, the world, what is known of the disks, and logical time.

use scst_core::Nanos;
use scst_reactor::sim::{SimRng, SimWorld};

use crate::medium::{Complaint, Medium, Tick};
use crate::plan::Plan;

/// A function that may have aborted commands of others without an answer.
#[derive(Clone, Copy, Debug)]
pub struct Reset {
    /// The disk.
    pub disk: usize,
    /// Its answer came then; None: not yet, or it never will.
    pub end: Option<Tick>,
}

/// What a run has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Commands that were sent.
    pub commands: u64,
    /// Of these, ended GOOD.
    pub good: u64,
    /// Ended by a task management function, or with their session.
    pub lost: u64,
    /// Task management functions answered.
    pub functions: u64,
    /// Logins.
    pub logins: u64,
    /// Crashes.
    pub crashes: u64,
    /// Changes by the control plane.
    pub changes: u64,
    /// The same only if everything happened alike.
    pub fingerprint: u64,
}

impl Counters {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.commands += other.commands;
        self.good += other.good;
        self.lost += other.lost;
        self.functions += other.functions;
        self.logins += other.logins;
        self.crashes += other.crashes;
        self.changes += other.changes;
        self.fingerprint ^= other.fingerprint;
    }
}

/// See the module.
pub struct Scene {
    /// What the seed stands for.
    pub plan: Plan,
    /// Network, storage, time.
    pub world: SimWorld,
    /// Chance of everything outside of the world.
    pub rng: SimRng,
    /// What is known of each disk.
    pub media: Vec<Medium>,
    /// Functions that may have dropped commands.
    pub resets: Vec<Reset>,
    /// Commands that may still be sent in this stretch.
    pub budget: u32,
    /// What was done.
    pub counters: Counters,
    trace: bool,
    tick: Tick,
    next_write: u64,
}

impl Scene {
    /// A scene at its beginning.
    pub fn new(plan: Plan, seed: u64, trace: bool) -> Self {
        let world = SimWorld::new(plan.sim);
        let media =
            plan.disks.iter().map(|d| Medium::new(u64::from(d.blocks) * u64::from(d.block_size / 512))).collect();
        Self {
            plan,
            world,
            rng: SimRng::new(seed ^ 0x5ce4e),
            media,
            resets: Vec::new(),
            budget: 0,
            counters: Counters::default(),
            trace,
            tick: 1,
            next_write: 1,
        }
    }

    /// The next moment of logical time.
    pub fn tick(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    /// A number for a write.
    pub fn write_number(&mut self) -> u64 {
        self.next_write += 1;
        self.next_write
    }

    /// Virtual time.
    pub fn now(&self) -> Nanos {
        self.world.now()
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len() as u64) as usize]
    }

    /// Whether anybody wants to see what happens.
    pub fn is_traced(&self) -> bool {
        self.trace
    }

    /// Says what happens, when somebody wants to see it.
    pub fn log(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>14} {:>6} {}", self.world.now().0, self.tick, what());
        }
    }

    /// A function has begun that may drop commands of others; its number.
    pub fn reset_begins(&mut self, disk: usize) -> usize {
        self.resets.push(Reset { disk, end: None });
        self.resets.len() - 1
    }

    /// Whether a command may have been dropped without an answer.
    pub fn may_be_dropped(&self, disk: usize, start: Tick) -> bool {
        self.resets.iter().any(|r| r.disk == disk && r.end.is_none_or(|end| end > start))
    }

    /// Adds who and when to a complaint.
    pub fn blame(&self, who: &str, what: impl std::fmt::Display) -> Complaint {
        format!("{who} at {} ns, tick {}: {what}", self.world.now().0, self.tick)
    }
}
