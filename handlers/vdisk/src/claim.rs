//! Which device may write which file: one of one daemon, unless the file is only read or shared on purpose (`share_rw`).
//!
//! Devices of this process are compared here, by what the file is and not by its path. Programs that lock files are kept out by a
//! lock of an open file description, and whatever opens block devices for itself (mount, LVM, another daemon) by O_EXCL. Both are
//! on a description that is used for nothing else and that no ring knows, so that they end with the process in whatever way it
//! ends. When a device is opened anew, two openings of it hold the file for a moment: they share the lock.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scst_reactor::lock::{LockKind, lock};
use scst_reactor::storage;
use tracing::warn;

use crate::config::{ConfigError, Kind, VdiskConfig};
use crate::holder;
use crate::identity::Identity;

const REMEDY: &str =
    "end that, or set share_rw 1 (in a cluster, on every DEVICE over the file) if all of them may write";

/// All claims of the process.
static CLAIMS: Mutex<Claims> = Mutex::new(Claims { files: Vec::new(), last: 0 });

/// See the module.
struct Claims {
    files: Vec<Claimed>,
    /// The number of the last claim.
    last: u64,
}

/// A file with claims on it.
struct Claimed {
    identity: Identity,
    holders: Vec<Holder>,
    /// None where the file system has no locks.
    hold: Option<Hold>,
    kind: LockKind,
}

/// An opening of a device that claims a file.
struct Holder {
    number: u64,
    device: String,
    kind: LockKind,
    /// Its device is about to go or to be replaced.
    yields: bool,
}

/// The description that the lock is on.
struct Hold {
    file: File,
    /// It was opened with O_EXCL, which cannot be weakened.
    exclusive_open: bool,
}

/// The right of one opening of a device to use its file; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    identity: Identity,
    number: u64,
}

fn claims() -> MutexGuard<'static, Claims> {
    // Each change of the list is one step.
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kind_of(config: &VdiskConfig) -> LockKind {
    if config.read_only || config.share_rw { LockKind::Shared } else { LockKind::Exclusive }
}

impl Claim {
    /// Claims an open file for a device. May block for as long as the file system does.
    ///
    /// # Errors
    /// Another device or another process has it; the error says which, as far as that can be found out.
    pub(crate) fn new(config: &VdiskConfig, file: &File, identity: Identity) -> Result<Arc<Self>, ConfigError> {
        let kind = kind_of(config);
        let mut claims = claims();
        claims.last += 1;
        let number = claims.last;
        let at = claims.files.iter().position(|claimed| claimed.identity == identity);
        if let Some(other) = at.and_then(|at| claims.files[at].in_the_way(&config.name, kind)) {
            let problem = format!("device {other} uses the same file");
            return Err(refused(config, &problem, "remove one of them, or set share_rw 1 on both if both may write"));
        }
        let at = match at {
            // What is held is enough, or is given up for more: for this process nothing comes in between.
            Some(at) => {
                if claims.files[at].kind < kind {
                    let weaker = claims.files[at].hold.take();
                    drop(weaker);
                    let stronger = acquire(config, file, identity, kind);
                    if stronger.is_err() {
                        claims.files[at].hold = acquire(config, file, identity, LockKind::Shared).ok().flatten();
                    }
                    claims.files[at].hold = stronger?;
                    claims.files[at].kind = kind;
                }
                at
            }
            None => {
                let hold = acquire(config, file, identity, kind)?;
                claims.files.push(Claimed { identity, holders: Vec::new(), hold, kind });
                claims.files.len() - 1
            }
        };
        claims.files[at].holders.push(Holder { number, device: config.name.clone(), kind, yields: false });
        Ok(Arc::new(Self { identity, number }))
    }

    /// Lets other devices of this process claim the file already now, because this one is about to go; or takes that back. Returns
    /// the device that has claimed it meanwhile.
    pub(crate) fn set_yields(&self, yields: bool) -> Option<String> {
        let mut claims = claims();
        let claimed = claims.files.iter_mut().find(|claimed| claimed.identity == self.identity)?;
        let own = claimed.holders.iter_mut().find(|holder| holder.number == self.number)?;
        own.yields = yields;
        let (device, kind) = (own.device.clone(), own.kind);
        claimed.in_the_way(&device, kind)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = claims();
        let Some(at) = claims.files.iter().position(|claimed| claimed.identity == self.identity) else { return };
        let claimed = &mut claims.files[at];
        claimed.holders.retain(|holder| holder.number != self.number);
        match claimed.holders.iter().map(|holder| holder.kind).max() {
            None => drop(claims.files.swap_remove(at)),
            Some(kind) => claimed.weaken(kind),
        }
    }
}

impl Claimed {
    /// The device that keeps another one from using the file like this. An opening of the same device never does.
    fn in_the_way(&self, device: &str, kind: LockKind) -> Option<String> {
        let conflicts = |holder: &&Holder| {
            !holder.yields && holder.device != device && kind.max(holder.kind) == LockKind::Exclusive
        };
        self.holders.iter().find(conflicts).map(|holder| holder.device.clone())
    }

    /// Holds no more than what is left of it needs.
    fn weaken(&mut self, kind: LockKind) {
        if kind == self.kind {
            return;
        }
        self.kind = kind;
        let Some(hold) = &mut self.hold else { return };
        if hold.exclusive_open {
            // By its descriptor: no path is needed.
            match storage::open_again(&hold.file, "/nowhere".as_ref(), false, 0) {
                Ok(file) => *hold = Hold { file, exclusive_open: false },
                Err(error) => warn!(%error, "a block device stays exclusively open although it is only read now"),
            }
        }
        if let Err(error) = lock(&hold.file, kind) {
            warn!(%error, "a file stays locked for writing although it is only read now");
        }
    }
}

/// Locks the file against other processes. None where it cannot be locked at all.
fn acquire(config: &VdiskConfig, file: &File, identity: Identity, kind: LockKind) -> Result<Option<Hold>, ConfigError> {
    let writable = kind == LockKind::Exclusive;
    let exclusive_open = writable && identity.is_block_device();
    let open = |exclusive: bool| {
        let flags = if exclusive { libc::O_EXCL } else { 0 };
        storage::open_again(file, &config.filename, writable, flags)
    };
    let in_use = |error: &io::Error| error.raw_os_error() == Some(libc::EBUSY);
    if config.kind == Kind::Block && !writable && !config.share_rw && open(true).is_err_and(|error| in_use(&error)) {
        return Err(refused(config, &holder::of_device(identity), REMEDY));
    }
    let own = match open(exclusive_open) {
        Err(error) if in_use(&error) => return Err(refused(config, &holder::of_device(identity), REMEDY)),
        Err(error) => return Ok(without_lock(config, &error)),
        Ok(own) => own,
    };
    match lock(&own, kind) {
        Ok(()) => Ok(Some(Hold { file: own, exclusive_open })),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Err(refused(config, &holder::of_lock(&own), REMEDY))
        }
        Err(error) => {
            without_lock(config, &error);
            // Of a block device O_EXCL is what counts.
            Ok(exclusive_open.then_some(Hold { file: own, exclusive_open }))
        }
    }
}

fn without_lock(config: &VdiskConfig, error: &io::Error) -> Option<Hold> {
    let file = config.filename.display();
    warn!(
        device = config.name, %file,
        "the file cannot be locked: {error}; nothing keeps other programs from writing it, see to it that none does"
    );
    None
}

fn refused(config: &VdiskConfig, problem: &str, remedy: &str) -> ConfigError {
    config.error("filename", &config.filename.to_string_lossy(), problem, remedy)
}
