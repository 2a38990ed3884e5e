//! Finds out what has a file, for an operator who is told that it is in use.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::identity::Identity;

/// Says which process has a lock on a file. The kernel names no process for locks of open file descriptions (l_pid is -1), so
/// the descriptors of all processes are asked; those of other users answer root only.
pub(crate) fn of_lock(file: &File) -> String {
    let locks = file.metadata().map(|meta| {
        let device = meta.dev();
        format!("{:02x}:{:02x}:{} ", libc::major(device), libc::minor(device), meta.ino())
    });
    let found = locks.ok().and_then(|lock| {
        let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok());
        let mut processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        processes.find(|process| has_lock(*process, &lock))
    });
    match found {
        Some(process) => format!("it is locked by {}", named(process)),
        None => "it is locked by another program (lsof(8) may tell which)".to_owned(),
    }
}

fn named(process: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    format!("{} (process {process})", name.trim())
}

/// A descriptor's file with `lock:` lines has those locks that were made by its description.
fn has_lock(process: u32, lock: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fdinfo")) else { return false };
    let infos = descriptors.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    infos
        .flat_map(|info| info.lines().map(str::to_owned).collect::<Vec<_>>())
        .any(|line| line.starts_with("lock:") && line.contains(lock))
}

/// Says what has a block device open for itself: where it is mounted, or which devices are made of it.
pub(crate) fn of_device(identity: Identity) -> String {
    let Identity::Device { number, .. } = identity else { return "it is in use".to_owned() };
    let number = format!("{}:{}", libc::major(number), libc::minor(number));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if let Some(place) = mounted_at(&mounts, &number) {
        return format!("it is in use: mounted at {place}");
    }
    let holders = fs::read_dir(Path::new("/sys/dev/block").join(&number).join("holders"));
    let names = holders.into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    match names.reduce(|all, name| format!("{all}, {name}")) {
        Some(names) => format!("it is in use: part of {names}"),
        None => "it is in use: another program has it open for itself (lsof(8) may tell which)".to_owned(),
    }
}

/// Field 3 of a line of mountinfo is the number of the device, field 5 the place (proc_pid_mountinfo(5)).
fn mounted_at<'m>(mounts: &'m str, number: &str) -> Option<&'m str> {
    let mut lines = mounts.lines().map(|line| line.split(' '));
    lines.find_map(|mut fields| (fields.nth(2)? == number).then(|| fields.nth(1)).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_device_is_found_by_its_number() {
        let mounts = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n30 22 7:3 / /mnt/a rw - ext4 /dev/loop3 rw\n";
        assert_eq!(mounted_at(mounts, "7:3"), Some("/mnt/a"));
        assert_eq!(mounted_at(mounts, "7:30"), None);
    }
}
