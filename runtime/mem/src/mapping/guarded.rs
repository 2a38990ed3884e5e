//! A copy into memory that may be gone: pages of a file that another program cuts.
//!
//! The touch of such a page is SIGBUS. The copy is a single instruction, so that the handler of the signal knows it by its
//! address and lets the program go on behind it; the processor has counted what was left to copy. No other instruction of this
//! program touches such memory, and any other SIGBUS ends the process, as it does by default.

pub(super) use processor::copy;
use processor::{is_possible, step_over};

/// Whether the handler is in place; puts it there.
pub(super) fn prepare() -> bool {
    is_possible() && handler::install()
}

#[cfg(target_arch = "x86_64")]
mod processor {
    use std::arch::naked_asm;

    /// Old processors have the instruction, but are slow at it.
    pub(super) fn is_possible() -> bool {
        std::arch::is_x86_feature_detected!("ermsb")
    }

    /// Length of `rep movsb`.
    const INSTRUCTION_BYTES: i64 = 2;

    /// Its address is that of the copying instruction: the calling convention has the arguments where that wants them.
    ///
    /// # Safety
    /// `from` is valid for `len` bytes, and `to` is memory that nobody has a reference to, or was.
    #[unsafe(naked)]
    unsafe extern "sysv64" fn copy_bytes(to: *mut u8, from: *const u8, unused: usize, len: usize) -> usize {
        naked_asm!("rep movsb", "mov rax, rcx", "ret")
    }

    /// Copies; false when not all of `to` was there.
    ///
    /// # Safety
    /// `to` is in a mapping of a file that is as long as `from`, and nobody has a reference to the memory. The handler is in
    /// place ([`prepare`](super::prepare)).
    pub(crate) unsafe fn copy(to: *mut u8, from: &[u8]) -> bool {
        // SAFETY: as the caller says; that the pages can be gone is what the handler is for.
        unsafe { copy_bytes(to, from.as_ptr(), 0, from.len()) == 0 }
    }

    /// Steps over the copying instruction, when that is where the program is.
    ///
    /// # Safety
    /// `context` is what the kernel has passed to a handler.
    pub(super) unsafe fn step_over(context: *mut libc::ucontext_t) -> bool {
        // SAFETY: as the caller says.
        let at = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize] };
        let copies = *at == copy_bytes as *const () as i64;
        if copies {
            *at += INSTRUCTION_BYTES;
        }
        copies
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod processor {
    pub(super) fn is_possible() -> bool {
        false
    }

    pub(crate) unsafe fn copy(_: *mut u8, _: &[u8]) -> bool {
        false
    }

    pub(super) unsafe fn step_over(_: *mut libc::ucontext_t) -> bool {
        false
    }
}

mod handler {
    use std::ffi::c_void;
    use std::mem;
    use std::ptr;
    use std::sync::OnceLock;

    static INSTALLED: OnceLock<bool> = OnceLock::new();

    pub(super) fn install() -> bool {
        *INSTALLED.get_or_init(|| {
            // SAFETY: all zeros is a valid sigaction, with an empty mask.
            let mut action: libc::sigaction = unsafe { mem::zeroed() };
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            // SAFETY: the handler calls nothing that a handler may not call. The one that it replaces is that of Rust's runtime, whose
            // business is a stack that overflows; on Linux that is SIGSEGV.
            unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) == 0 }
        })
    }

    extern "C" fn on_sigbus(signal: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: with SA_SIGINFO the kernel passes a ucontext_t, and it is this handler's alone. The default action needs nothing,
        // and is taken when the handler returns: the signal is blocked until then.
        unsafe {
            if !super::step_over(context.cast()) {
                libc::signal(libc::SIGBUS, libc::SIG_DFL);
                libc::raise(signal);
            }
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_copy_ends_where_the_memory_does() {
        assert!(prepare() && prepare());
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * 4096).unwrap();
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: a new mapping.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), 3 * 4096, protection, libc::MAP_SHARED, fd, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let (base, data) = (base.cast::<u8>(), [9; 5000]);
        // SAFETY: within the mapping.
        let copied = |offset, len| unsafe { copy(base.add(offset), &data[..len]) };
        assert!(copied(4000, 5000) && copied(0, 0));
        file.set_len(4096).unwrap();
        assert!(!copied(4096, 1) && !copied(4000, 5000) && !copied(4000, 97));
        assert!(copied(4000, 96));
        let mut found = vec![0; 4096];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, 0).unwrap();
        assert!(found[4000..] == [9; 96] && found[..4000] == [0; 4000]);
        // SAFETY: the mapping of above.
        unsafe { libc::munmap(base.cast(), 3 * 4096) };
    }

    /// Tells a process that it is the one to die, and of what.
    const VICTIM: &str = "SCST_MEM_SIGBUS";

    #[test]
    fn any_other_sigbus_ends_the_process() {
        if let Ok(how) = std::env::var(VICTIM) {
            assert!(prepare());
            let file = tempfile::tempfile().unwrap();
            let fd = file.as_raw_fd();
            // SAFETY: a new mapping, of an empty file: to read it is SIGBUS, which is what is wanted, as is the signal by itself.
            unsafe {
                let base = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, fd, 0);
                match how.as_str() {
                    "sent" => libc::kill(libc::getpid(), libc::SIGBUS),
                    _ => i32::from(std::ptr::read_volatile(base.cast::<u8>())),
                };
            }
            return;
        }
        for how in ["sent", "touched"] {
            let victim = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "mapping::guarded::tests::any_other_sigbus_ends_the_process"])
                .env(VICTIM, how)
                .output()
                .unwrap();
            let signal = std::os::unix::process::ExitStatusExt::signal(&victim.status);
            assert_eq!(signal, Some(libc::SIGBUS), "{how}: {victim:?}");
        }
    }
}
