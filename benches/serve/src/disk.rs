//! How long fdatasync takes, which bounds events that are acknowledged one by one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use super::{CONNECTIONS, in_memory, median, on_disk};

/// About what 64 single events take in the log.
const BYTES: usize = 32 << 10;
const WRITES: u64 = 300;

/// Overwrites zeros, as the log does, and syncs after each write.
pub fn measure() {
    println!(
        "\n{:<42} {:>12} {:>12} {:>12}",
        "write of 32 KiB and fdatasync", "median us", "p99 us", "bound, ev/s"
    );
    for (name, folder) in [("disk", on_disk()), ("tmpfs", in_memory())] {
        let mut micros = latencies(folder.path());
        micros.sort_by(f64::total_cmp);
        let middle = median(micros.iter().copied());
        let bound = CONNECTIONS as f64 / middle * 1e6;
        println!(
            "{name:<42} {middle:>12.0} {:>12.0} {bound:>12.0}",
            micros[micros.len() * 99 / 100]
        );
    }
}

fn latencies(folder: &Path) -> Vec<f64> {
    let file = File::create(folder.join("probe")).expect("the folder is ours");
    file.write_all_at(&vec![0; BYTES * WRITES as usize], 0)
        .expect("there is room");
    file.sync_data().expect("the disk works");
    let write = |index: u64| {
        let started = Instant::now();
        file.write_all_at(&[1; BYTES], index * BYTES as u64)
            .expect("there is room");
        file.sync_data().expect("the disk works");
        started.elapsed().as_secs_f64() * 1e6
    };
    (0..WRITES).map(write).collect()
}
