//! Zero-copy READ (`zero_copy_read`): the answer is the page cache itself, and the socket copies it from there.
//!
//! What a READ that is answered like this sees is the file at the moment at which its data go out, between its execution
//! and the arrival of its response. That is as good as any other moment between command and response: whoever must not
//! be seen (an ORDERED task behind it, COMPARE AND WRITE, RESERVE, ...) is held back by the mid-level until then.
//! `docs/zero-copy.md` has the whole argument.

use std::sync::Arc;

use scst_core::buffer::Extent;
use scst_core::handler::ExecCommand;
use scst_core::io::{FileId, IoQueue};
use scst_mem::FilePages;
use tracing::warn;

use crate::backing::Backing;
use crate::config::VdiskConfig;
use crate::plan::Bytes;
use crate::shared::{Medium, OpenFile, Shared};

/// The pages of a READ, when it may be answered with them and all are there.
pub(crate) fn pages(
    shared: &Shared,
    cmd: &ExecCommand<'_>,
    bytes: Bytes,
    file: FileId,
    io: &mut dyn IoQueue,
) -> Option<Extent> {
    let Medium::File { mapped: true, .. } = shared.medium else { return None };
    if !cmd.takes_mapped {
        return None;
    }
    io.cached_pages(file, bytes.offset, u32::try_from(bytes.len).ok()?)
}

/// A file that has just been opened, with its pages if they are wanted and can be had. Without them data are copied by the
/// system.
pub(crate) fn open_file(backing: Backing, config: &VdiskConfig) -> OpenFile {
    let Backing { open, bytes } = backing;
    if !config.zero_copy_read {
        return open;
    }
    let pages = FilePages::new(Arc::clone(&open.file), bytes)
        .inspect_err(|error| {
            let file = config.filename.display();
            warn!(device = config.name, %file, "zero_copy_read has no effect: {error}");
        })
        .ok();
    OpenFile { pages: pages.map(Arc::new), ..open }
}
