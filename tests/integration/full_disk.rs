//! Disks that are full or cannot be written: what is said, what stays readable, and what the next command makes of it.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::cli::{FAILED, GOOD, Shop};

/// A file system of a few megabytes, for as long as the value lives.
pub(crate) struct TinyDisk(TempDir);

impl TinyDisk {
    pub(crate) fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        let is_mounted = mount.is_ok_and(|status| status.success());
        if !is_mounted {
            println!("skipped: only root can mount a tiny disk to fill");
        }
        is_mounted.then_some(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        Command::new("umount")
            .arg("-l")
            .arg(self.path())
            .status()
            .ok();
    }
}

#[test]
fn a_full_disk_fails_the_build_and_leaves_the_last_version() {
    let Some(disk) = TinyDisk::mount() else {
        return;
    };
    let shop = with_warehouse_on(&disk);
    let model = |rows: usize| {
        format!(
            "{{{{ config(materialized='table') }}}}\nselect value as n, md5(cast(value as varchar)) as word from generate_series(1, {rows})\n"
        )
    };
    shop.write("models/words.sql", &model(10));
    shop.good(&["build"]);
    shop.write("models/words.sql", &model(400_000));
    let said = shop.run(&["build"]);
    assert_eq!(said.code, FAILED, "{}", said.err);
    assert!(said.err.contains("error[E0903]"), "{}", said.err);
    assert_eq!(shop.query("select count(*) from words"), ["10"]);
    shop.write("models/words.sql", &model(20));
    shop.good(&["build"]);
    assert_eq!(shop.query("select count(*) from words"), ["20"]);
}

#[test]
fn facts_that_find_the_disk_full_say_so_and_leave_nothing() {
    let Some(disk) = TinyDisk::mount() else {
        return;
    };
    let shop = with_warehouse_on(&disk);
    let append = |rows: usize| {
        let query = format!(
            "select value as id, value % 100 as unit, to_timestamp_micros(1767225600000000 + value * 60000000) as at, \
             md5(cast(value as varchar)) as word from generate_series(1, {rows})"
        );
        let columns = [
            "--unit",
            "unit",
            "--time",
            "at",
            "--id",
            "id",
            "--buckets",
            "2",
        ];
        shop.run(&[&["facts", "append", "things", query.as_str()][..], &columns].concat())
    };
    assert_eq!(append(10).code, GOOD);
    let said = append(400_000);
    assert_eq!(said.code, FAILED, "{}", said.err);
    assert!(said.err.contains("error[E0903]"), "{}", said.err);
    assert!(!said.err.contains("panicked"), "{}", said.err);
    let unfinished = walkdir::WalkDir::new(disk.path()).into_iter().flatten();
    let unfinished =
        unfinished.filter(|entry| entry.file_name().to_string_lossy().contains(".parquet"));
    assert_eq!(
        unfinished.count(),
        2,
        "a file for each bucket, of the first append"
    );
    assert_eq!(append(20).code, GOOD);
    assert_eq!(shop.query("select count(*) from clustered.things"), ["20"]);
}

fn with_warehouse_on(disk: &TinyDisk) -> Shop {
    let shop = Shop::empty();
    let warehouse = disk.path().display();
    shop.write(
        "project.yml",
        &format!("name: shop\ntargets:\n  dev: {{warehouse: \"{warehouse}\"}}\n"),
    );
    shop
}

/// A project whose `target` lies on a disk of its own, which is not that of the warehouse.
fn with_target_on(disk: &TinyDisk) -> Shop {
    let shop = Shop::empty();
    std::os::unix::fs::symlink(disk.path(), shop.folder.path().join("target")).expect("a link");
    shop.write(
        "project.yml",
        "name: shop\ntargets:\n  dev: {warehouse: warehouse}\n",
    );
    shop.write("models/words.sql", &words(10));
    shop
}

fn words(rows: usize) -> String {
    format!(
        "{{{{ config(materialized='table') }}}}\nselect value as n from generate_series(1, {rows})\n"
    )
}

#[test]
fn what_stands_beside_the_warehouse_and_finds_the_disk_full_says_so_with_its_name() {
    let Some(disk) = TinyDisk::mount() else {
        return;
    };
    let shop = with_target_on(&disk);
    shop.good(&["build"]);
    let filler = disk.path().join("filler");
    let fill = |bytes: &[u8]| std::fs::write(&filler, bytes).is_err();
    assert!(fill(&vec![1; 4 << 20]), "the disk holds less");
    // A new file has no room any more, and one that is there keeps what it has.
    shop.write("models/more.sql", &words(20));
    let said = shop.run(&["build"]);
    assert_eq!(said.code, FAILED, "{}", said.err);
    assert!(
        said.err.contains("error[E0903]: cannot write target/"),
        "{}",
        said.err
    );
    assert!(said.err.contains("hint: "), "{}", said.err);
    let said = shop.run(&["compile", "--log-format", "json"]);
    let told: serde_json::Value =
        serde_json::from_str(said.err.lines().last().expect("a line")).expect("JSON");
    assert_eq!(told["diagnostic"]["code"], "E0903");
    assert_eq!(shop.query("select count(*) from words"), ["10"]);
    std::fs::remove_file(&filler).expect("it is there");
    shop.good(&["build"]);
    assert_eq!(shop.query("select count(*) from more"), ["20"]);
}

#[test]
fn a_build_that_cannot_write_what_came_of_it_says_that_it_published() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    shop.write("models/words.sql", &words(10));
    // No file takes the place of a folder.
    shop.write("target/run_results.json/in_the_way", "");
    let said = shop.run(&["build", "--quiet"]);
    assert_eq!(said.code, FAILED);
    let expected = "error[E0901]: cannot write target/run_results.json, after `dev` was published as version 1: ";
    assert!(said.err.starts_with(expected), "{}", said.err);
    assert_eq!(shop.query("select count(*) from words"), ["10"]);
}

#[test]
fn a_lock_that_cannot_be_had_is_named() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    shop.write("target/warehouse/clustered/things.lock/in_the_way", "");
    let query = "select 1 as unit, timestamp '2026-01-01' as at, 2 as id";
    let columns = ["--unit", "unit", "--time", "at", "--id", "id"];
    let said = shop.run(&[&["facts", "append", "things", query][..], &columns].concat());
    assert_eq!(said.code, FAILED);
    assert!(
        said.err.starts_with("error[E0901]: cannot lock `") && said.err.contains("things.lock"),
        "{}",
        said.err
    );
}

#[test]
fn a_table_of_facts_that_cannot_be_written_is_named() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    // A file stands where the table's folder would.
    shop.write("target/warehouse/clustered/things", "");
    let query = "select 1 as unit, timestamp '2026-01-01' as at, 2 as id";
    let columns = ["--unit", "unit", "--time", "at", "--id", "id"];
    let said = shop.run(&[&["facts", "append", "things", query][..], &columns].concat());
    assert_eq!(said.code, FAILED);
    assert!(
        said.err
            .starts_with("error[E0901]: cannot create the folder `")
            && said.err.contains("clustered/things`: "),
        "{}",
        said.err
    );
}
