//! What a build rested on, so that the next one knows in milliseconds that nothing has changed since.
//! In: the folder and the command; after a build, what it read and left behind. Out: a [`Receipt`], or none. A receipt that
//! cannot be written, read or believed only costs the time of a build that finds nothing to do.
//!
//! Files are told apart by size, times and inode, not by content; they are looked at before the build and again after it.
//! Left out are hidden files and `target`. No receipt is given to a build that said anything about the project or asked for
//! the time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use super::plan::RunPlan;
use super::prepare::Prepared;
use crate::engine::sources::{FileState, Format, SourceFiles, TOO_FRESH, states};
use crate::metrics::Sla;
use crate::warehouse::Warehouse;

/// To be raised when a receipt means something else.
const FORMAT: u32 = 2;

/// Folders with more files are not watched this way.
const MOST_FILES: usize = 50_000;

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Command {
    pub root: PathBuf,
    /// All options that decide what a build does, in any fixed form.
    pub options: String,
    pub environment_variables: BTreeMap<String, String>,
}

/// The program, the command and every file of the project's folder, in one hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness(String);

/// What a build said at its end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Summary {
    pub relations: usize,
    pub tests: usize,
    /// The text about decisions.
    pub decisions: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    format: u32,
    witness: String,
    /// Of the variables, where a template may ask for them.
    variables: Option<String>,
    /// Sources and a hash of their files.
    sources: Vec<(Place, String)>,
    warehouse: PathBuf,
    pub environment: String,
    /// The version that the build published or found.
    pub version: u64,
    /// The build: what it wrote besides is still there if it bears this name.
    pub invocation: String,
    pub summary: Summary,
}

/// Where a source's files lie.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    name: String,
    location: String,
    format: Option<String>,
}

impl Witness {
    /// None where a file cannot be looked at, changed just now, or there are too many.
    pub fn of(command: &Command) -> Option<Self> {
        let mut hasher = blake3::Hasher::new();
        let program = std::env::current_exe().ok()?;
        hasher.update(format!("{FORMAT} {:?}", FileState::of(&program).ok()?).as_bytes());
        hasher.update(format!("{:?} {}", command.root, command.options).as_bytes());
        let is_watched = |entry: &walkdir::DirEntry| {
            let name = entry.file_name().to_string_lossy();
            entry.depth() == 0 || !(name.starts_with('.') || entry.depth() == 1 && name == "target")
        };
        let mut files = 0;
        for entry in WalkDir::new(&command.root)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(is_watched)
        {
            let entry = entry.ok()?;
            if entry.file_type().is_dir() {
                continue;
            }
            let state = FileState::from_metadata(&entry.metadata().ok()?).ok()?;
            files += 1;
            if files > MOST_FILES || state.age() < TOO_FRESH {
                return None;
            }
            hasher.update(format!("{:?} {state:?}", entry.path()).as_bytes());
        }
        Some(Self(hasher.finalize().to_hex().to_string()))
    }
}

impl Receipt {
    /// The receipt of the last such build, if everything is as that build left it.
    pub async fn find(command: &Command) -> Option<Self> {
        let text = fs::read_to_string(path(command)).ok()?;
        let receipt: Self = serde_json::from_str(&text).ok()?;
        let is_same = receipt.format == FORMAT
            && Witness::of(command)?.0 == receipt.witness
            && receipt
                .variables
                .as_ref()
                .is_none_or(|known| *known == variables_hash(command))
            && receipt
                .sources
                .iter()
                .all(|(place, known)| place.state(&command.root).as_ref() == Some(known))
            && receipt.has_its_tables().await?;
        is_same.then_some(receipt)
    }

    async fn has_its_tables(&self) -> Option<bool> {
        let warehouse = Warehouse::open(&self.warehouse).ok()?;
        let environment = warehouse.environment(&self.environment).ok()?;
        for (name, fingerprint) in environment.tables() {
            if !warehouse.has_table(name, fingerprint).await.ok()? {
                return Some(false);
            }
        }
        Some(environment.version == self.version)
    }

    /// Remembers a build that went well; `before` was taken before it read anything.
    pub fn keep(
        command: &Command,
        before: Option<Witness>,
        prepared: &Prepared,
        plan: &RunPlan,
        version: u64,
        summary: Summary,
    ) {
        let path = path(command);
        let receipt = before
            .filter(|before| plan.is_everything && Witness::of(command).as_ref() == Some(before))
            .and_then(|before| Self::of(command, before, prepared, version, summary));
        let text = receipt.and_then(|receipt| serde_json::to_string(&receipt).ok());
        let written = match text {
            Some(text) => {
                fs::create_dir_all(path.parent().expect("a receipt lies in a folder")).is_ok()
                    && fs::write(&path, text).is_ok()
            }
            None => false,
        };
        if !written {
            fs::remove_file(&path).ok();
        }
    }

    fn of(
        command: &Command,
        before: Witness,
        prepared: &Prepared,
        version: u64,
        summary: Summary,
    ) -> Option<Self> {
        let asks = |word: &str| {
            prepared
                .project
                .texts
                .values()
                .any(|text| text.contains(word))
        };
        let is_timeless = prepared
            .compiled
            .nodes
            .values()
            .all(|node| node.volatile.is_empty() && node.logs.is_empty())
            && !asks("run_started_at")
            && !asks("invocation_id")
            && !runs_by_the_clock(prepared);
        if prepared.has_said_something || !is_timeless {
            return None;
        }
        let sources = prepared.inspected.values().map(|(files, table)| {
            let place = Place::of(files);
            let state = states_hash(table.files.iter().map(|file| (&file.name, &file.state)));
            // A source that cannot be found again by its place alone gets no receipt.
            (place.state(&command.root)? == state).then_some((place, state))
        });
        Some(Self {
            format: FORMAT,
            witness: before.0,
            variables: asks("env_var").then(|| variables_hash(command)),
            sources: sources.collect::<Option<_>>()?,
            warehouse: prepared.warehouse.clone(),
            environment: prepared.environment.clone(),
            version,
            invocation: prepared.manifest.surroundings.invocation_id.clone(),
            summary,
        })
    }
}

/// Whether experiments end and data grow old while nothing changes: in a project that does not say until when its data go.
fn runs_by_the_clock(prepared: &Prepared) -> bool {
    let vars = &prepared.manifest.surroundings.vars;
    let compiled = &prepared.compiled;
    let has_promises = compiled
        .metrics
        .iter()
        .any(|metric| metric.sla != Sla::default());
    !vars.contains_key("data_ends_at")
        && (has_promises || compiled.experiments.iter().next().is_some())
}

impl Place {
    fn of(files: &SourceFiles) -> Self {
        Self {
            name: files.name.clone(),
            location: files.location.clone(),
            format: files.format.map(|format| format!("{format:?}")),
        }
    }

    /// None where the files cannot be found.
    fn state(&self, root: &Path) -> Option<String> {
        let mut files = SourceFiles::new(&self.name, &self.location);
        files.format = [Format::Csv, Format::JsonLines, Format::Parquet]
            .into_iter()
            .find(|format| self.format == Some(format!("{format:?}")));
        let states = states(root, &files)?;
        Some(states_hash(
            states.iter().map(|(name, state)| (name, state)),
        ))
    }
}

fn states_hash<'a>(states: impl Iterator<Item = (&'a String, &'a FileState)>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, state) in states {
        hasher.update(format!("{name:?} {state:?}").as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Shells set these anew for each command.
const PASSING_VARIABLES: [&str; 6] = ["_", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES"];

fn variables_hash(command: &Command) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, value) in &command.environment_variables {
        if !PASSING_VARIABLES.contains(&name.as_str()) {
            hasher.update(format!("{name:?}={value:?}\n").as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn path(command: &Command) -> PathBuf {
    let name = blake3::hash(command.options.as_bytes()).to_hex();
    command
        .root
        .join("target")
        .join("state")
        .join(format!("unchanged-{}.json", &name[..16]))
}
