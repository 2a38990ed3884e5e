//! Section `storage_errors`: what the storage of each device failed to do.

use std::fmt::{self, Write};

use super::{Statistics, word};

/// Prints a row for each device with storage.
pub(super) fn print(statistics: &Statistics, out: &mut String) -> fmt::Result {
    writeln!(out, "device reads read_errno writes write_errno flushes flush_errno")?;
    for (device, errors) in &statistics.storage {
        write!(out, "{}", word(device))?;
        for (_, error) in errors {
            write!(out, " {} {}", error.count, error.errno)?;
        }
        writeln!(out)?;
    }
    Ok(())
}
