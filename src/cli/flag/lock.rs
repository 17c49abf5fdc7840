//! `flag lock`: the only writer of `allocations.lock`.

use std::path::Path;

use anyhow::Context as _;

use super::super::failure::CannotWrite;
use super::super::{Exit, output};
use crate::compile::{ProjectFlags, lock_file};
use crate::flags::Lock;

/// The flags were checked against the lock when they were read, so this only adds.
pub fn run(root: &Path, read: &ProjectFlags) -> anyhow::Result<Exit> {
    let file = &read.project.flag_lock;
    let known = lock_file(file).value.lock;
    let new = known.changes(&read.flags).new.len();
    let lock = Lock::of(&read.flags);
    if lock.0.is_empty() {
        output::print("there is nothing to lock: no allocation, slot or holdout\n")?;
        return Ok(Exit::Good);
    }
    let text = lock.to_string();
    if *text != *file.text {
        let path = root.join(&*file.path);
        let folder = path
            .parent()
            .expect("the lock lies in the folder of the flags");
        std::fs::create_dir_all(folder)
            .and_then(|()| crate::project::replace(&path, &text))
            .with_context(|| CannotWrite(format!("`{}`", file.path)))?;
    }
    let all = lock.0.len();
    output::print(&format!(
        "{}: {all} definitions locked, {new} of them new\n",
        file.path
    ))?;
    Ok(Exit::Good)
}
