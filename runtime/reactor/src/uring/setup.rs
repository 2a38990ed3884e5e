//! Making a ring with the best flags the kernel takes, and checking that it can do what is needed.

use std::io;

use io_uring::{IoUring, Probe, opcode};

/// Why io_uring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UringError {
    /// The kernel says no: it lacks io_uring, or a policy forbids it.
    #[error("{}", cause(.0))]
    Setup(#[source] io::Error),
    /// The kernel's io_uring is too old.
    #[error("this kernel's io_uring lacks {0}")]
    Lacks(&'static str),
    /// No eventfd.
    #[error("no eventfd: {0}")]
    Doorbell(#[source] io::Error),
}

fn cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel has no io_uring, or a seccomp filter hides it".into(),
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden: by sysctl kernel.io_uring_disabled or by a container's seccomp filter".into()
        }
        Some(libc::ENOMEM) => "not enough locked memory for the ring: raise RLIMIT_MEMLOCK".into(),
        _ => format!("io_uring_setup: {error}"),
    }
}

pub(crate) struct Ring {
    pub(crate) ring: IoUring,
    pub(crate) disabled: bool,
    pub(crate) features: String,
}

/// Sets of flags from best to plainest: (single issuer with deferred task work, no submission array, cooperative task
/// running with submit-all). A kernel that does not know a flag answers EINVAL.
const TIERS: [(bool, bool, bool); 4] =
    [(true, true, true), (true, false, true), (false, false, true), (false, false, false)];

pub(crate) fn build(sq: u32, cq: u32) -> Result<Ring, UringError> {
    let mut last = io::Error::from_raw_os_error(libc::ENOSYS);
    for (defer, no_array, coop) in TIERS {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(cq.next_power_of_two().max(sq)).setup_clamp().dontfork();
        let mut features = vec!["CLAMP"];
        if defer {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_r_disabled();
            features.extend(["SINGLE_ISSUER", "DEFER_TASKRUN"]);
        } else if coop {
            builder.setup_coop_taskrun().setup_taskrun_flag();
            features.push("COOP_TASKRUN");
        }
        if no_array {
            builder.setup_no_sqarray();
            features.push("NO_SQARRAY");
        }
        if coop {
            builder.setup_submit_all();
            features.push("SUBMIT_ALL");
        }
        match builder.build(sq) {
            Ok(ring) => {
                check(&ring)?;
                return Ok(Ring { ring, disabled: defer, features: features.join("|") });
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(UringError::Setup(error)),
        }
    }
    Err(UringError::Setup(last))
}

fn check(ring: &IoUring) -> Result<(), UringError> {
    let params = ring.params();
    if !params.is_feature_nodrop() {
        return Err(UringError::Lacks("NODROP (Linux 5.5)"));
    }
    if !params.is_feature_fast_poll() {
        return Err(UringError::Lacks("FAST_POLL (Linux 5.7)"));
    }
    if !params.is_feature_ext_arg() {
        return Err(UringError::Lacks("EXT_ARG (Linux 5.11)"));
    }
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(UringError::Setup)?;
    let needed = [
        (opcode::Read::CODE, "READ"),
        (opcode::Write::CODE, "WRITE"),
        (opcode::Readv::CODE, "READV"),
        (opcode::Writev::CODE, "WRITEV"),
        (opcode::Fsync::CODE, "FSYNC"),
        (opcode::Fallocate::CODE, "FALLOCATE"),
        (opcode::Fadvise::CODE, "FADVISE"),
        (opcode::SendMsg::CODE, "SENDMSG"),
        (opcode::RecvMsg::CODE, "RECVMSG"),
        (opcode::Accept::CODE, "ACCEPT"),
        (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
        (opcode::Timeout::CODE, "TIMEOUT"),
        (opcode::TimeoutRemove::CODE, "TIMEOUT_REMOVE"),
    ];
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(UringError::Lacks(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_likely_cause_and_the_remedy() {
        let text = |errno| UringError::Setup(io::Error::from_raw_os_error(errno)).to_string();
        assert_eq!(
            text(libc::EPERM),
            "io_uring is forbidden: by sysctl kernel.io_uring_disabled or by a container's seccomp filter"
        );
        assert_eq!(text(libc::ENOSYS), "the kernel has no io_uring, or a seccomp filter hides it");
        assert_eq!(UringError::Lacks("SENDMSG").to_string(), "this kernel's io_uring lacks SENDMSG");
    }
}
