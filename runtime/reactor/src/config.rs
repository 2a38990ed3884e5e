//! Settings of a back-end.

use std::str::FromStr;
use std::sync::Arc;

use scst_core::Nanos;
use scst_mem::Arenas;

/// Which back-end to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BackendChoice {
    /// io_uring where the kernel and its policy allow, else epoll.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll and a thread pool.
    Posix,
}

impl FromStr for BackendChoice {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "posix" => Ok(Self::Posix),
            _ => Err(format!("unknown back-end \"{s}\": use auto, uring or posix")),
        }
    }
}

/// Limits and tuning of one back-end. Everything it needs for them is set aside when it is opened.
#[derive(Clone, Debug)]
pub struct ReactorConfig {
    /// The memory that extents name: `pool.arenas().clone()`.
    pub arenas: Arc<Arenas>,
    /// Most storage operations in flight; `submit` says `QueueFull` above.
    pub io_depth: u32,
    /// Most open sockets (listeners and connections).
    pub sockets: u32,
    /// How long `wait` polls at most before it sleeps, while events come that soon. 0 (default) sleeps at once.
    pub spin: Nanos,
    /// Register command buffers with the kernel, for cheaper O_DIRECT transfers (`uring`). The pool keeps all memory then.
    pub register_buffers: bool,
}

impl ReactorConfig {
    /// Defaults, for a pool's arenas.
    pub fn new(arenas: Arc<Arenas>) -> Self {
        Self { arenas, io_depth: 1024, sockets: 4096, spin: Nanos(0), register_buffers: false }
    }
}
