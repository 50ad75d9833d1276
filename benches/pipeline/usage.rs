//! What a process has used, as the kernel counts it.

use std::{
    fs::{self, DirEntry},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};

/// Ticks of processor time a second, the same on every Linux that this program runs on.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time of a process so far, in user and kernel mode, all threads.
pub(crate) fn processor_time(process: u32) -> Duration {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux tells about a process that runs");
    // The second field is a name that may hold anything; what follows its closing bracket does not.
    let (_, fields) = line.rsplit_once(')').expect("the name is in brackets");
    let ticks = |place: usize| -> u64 {
        let field = fields.split_whitespace().nth(place).expect("the line has more than 20 fields");
        field.parse().expect("it counts ticks")
    };
    Duration::from_millis((ticks(11) + ticks(12)) * 1_000 / TICKS_PER_SECOND)
}

/// Forgets the highest memory of this process so far, if the kernel lets it.
pub(crate) fn reset_peak() {
    if let Err(error) = fs::write("/proc/self/clear_refs", "5") {
        eprintln!("peaks of memory include what was measured before: {error}");
    }
}

/// What the files below a folder take on the disk, in MiB.
pub(crate) fn disk_mebibytes(folder: &Path) -> u64 {
    fn blocks(folder: &Path) -> u64 {
        let entries = fs::read_dir(folder).expect("a folder of the benchmark can be read");
        let one = |entry: DirEntry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => blocks(&entry.path()),
            Ok(metadata) => metadata.blocks(),
            // Gone since it was listed.
            Err(_) => 0,
        };
        entries.filter_map(Result::ok).map(one).sum()
    }
    // Of 512 bytes, whatever the file system's own are.
    blocks(folder) / 2048
}

/// Highest resident memory of this process since the last reset, in MiB.
pub(crate) fn peak_mebibytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("Linux tells about this process");
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts memory");
    let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
    kibibytes / 1024
}
