//! A copy into memory that may be gone: pages of a file that another program cuts.
//!
//! The touch of such a page is SIGBUS. The copy is a single instruction, so that the handler of the signal knows it by its
//! address and lets the program go on behind it; the processor has counted what was left to copy. Other instructions of this
//! crate touch no such memory, and a SIGBUS of anything else goes to the handler that was there before.

pub(super) use processor::{can, copy};

/// Whether the handler is in place; puts it there.
pub(super) fn prepare() -> bool {
    can() && handler::install()
}

#[cfg(target_arch = "x86_64")]
mod processor {
    use std::arch::naked_asm;

    pub(crate) const fn can() -> bool {
        true
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
    pub(super) fn step_over(context: &mut libc::ucontext_t) -> bool {
        let at = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
        let copies = *at == copy_bytes as *const () as i64;
        if copies {
            *at += INSTRUCTION_BYTES;
        }
        copies
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod processor {
    pub(crate) const fn can() -> bool {
        false
    }

    pub(crate) unsafe fn copy(_: *mut u8, _: &[u8]) -> bool {
        false
    }

    pub(super) fn step_over(_: &mut libc::ucontext_t) -> bool {
        false
    }
}

mod handler {
    use std::ffi::c_void;
    use std::mem;
    use std::ptr;
    use std::sync::OnceLock;

    /// What was there before.
    static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();

    pub(super) fn install() -> bool {
        BEFORE.get_or_init(exchange).is_some()
    }

    fn exchange() -> Option<libc::sigaction> {
        // SAFETY: all zeros is a valid sigaction, and an empty mask.
        let (mut ours, mut before) = unsafe { mem::zeroed::<(libc::sigaction, libc::sigaction)>() };
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
        ours.sa_sigaction = handler as libc::sighandler_t;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: the handler calls nothing that a handler may not call.
        (unsafe { libc::sigaction(libc::SIGBUS, &ours, &mut before) } == 0).then_some(before)
    }

    extern "C" fn on_sigbus(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel passes a ucontext_t to a handler with SA_SIGINFO, and it is this one's alone.
        if super::processor::step_over(unsafe { &mut *context.cast::<libc::ucontext_t>() }) {
            return;
        }
        // SAFETY: all zeros is the default action.
        let default = unsafe { mem::zeroed() };
        let before = BEFORE.get().and_then(Option::as_ref).unwrap_or(&default);
        // The instruction is repeated, and then it is that one's.
        // SAFETY: `before` is what sigaction returned.
        unsafe { libc::sigaction(libc::SIGBUS, before, ptr::null_mut()) };
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

    /// Tells a process that it is the one to die.
    const VICTIM: &str = "SCST_MEM_SIGBUS";

    #[test]
    fn another_sigbus_is_the_end_as_ever() {
        if std::env::var_os(VICTIM).is_some() {
            assert!(prepare());
            let file = tempfile::tempfile().unwrap();
            let fd = file.as_raw_fd();
            // SAFETY: a new mapping, of an empty file: to read it is SIGBUS, which is what is wanted.
            unsafe {
                let base = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, fd, 0);
                std::ptr::read_volatile(base.cast::<u8>());
            }
            return;
        }
        let victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mapping::guarded::tests::another_sigbus_is_the_end_as_ever"])
            .env(VICTIM, "")
            .output()
            .unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&victim.status);
        assert_eq!(signal, Some(libc::SIGBUS), "{victim:?}");
    }
}
