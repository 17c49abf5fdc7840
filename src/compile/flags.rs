//! The flags of a project, read and proved.
//! In: the files with flags and their lock. Out: a [`FlagSet`], and every diagnostic with its place.
//! What makes a set sound is said in [`crate::flags`].

use chrono::NaiveDateTime;

use crate::diagnostics::{Checked, Code, Diagnostic, Span, did_you_mean};
use crate::experiments::{Experiment, Experiments};
use crate::flags::spec::FlagsFile;
use crate::flags::{self, FlagSet, FlagSource, LockFile};
use crate::manifest::Manifest;
use crate::project::{Files, Options, Project, SqlFile, load, yaml};

/// Reads the flags of a project folder, whatever the state of its models: those are the build's affair.
pub fn load_flags(files: &dyn Files, options: &Options) -> Checked<ProjectFlags> {
    let loaded = load(files, options);
    let project = loaded.value;
    let mut checked = flags(&project.flag_files, &project.flag_lock);
    drop_removals(&project, &mut checked.diagnostics);
    let mut diagnostics = loaded.diagnostics;
    diagnostics.retain(|one| {
        let span = one.span.as_ref();
        span.is_none_or(|span| is_of_flags(&span.file, &project))
    });
    diagnostics.extend(checked.diagnostics);
    let flags = checked.value;
    Checked::with(ProjectFlags { project, flags }, diagnostics)
}

/// A project and its flags.
#[derive(Debug, Default)]
pub struct ProjectFlags {
    pub project: Project,
    pub flags: FlagSet,
}

fn is_of_flags(file: &str, project: &Project) -> bool {
    let mut files = project.flag_files.iter().chain([&project.flag_lock]);
    let mut unread = unread_definitions(project);
    files.any(|flags| &*flags.path == file)
        || unread.any(|unread| unread == file)
        || !file.contains('/')
}

/// Files that may hold what delivers an experiment, and are no YAML.
fn unread_definitions(project: &Project) -> impl Iterator<Item = &str> {
    let spec = &project.spec;
    let folders = || spec.metric_paths.iter().chain(&spec.experiment_paths);
    let is_inside = move |file: &&str| folders().any(|folder| file.starts_with(folder.as_str()));
    let unread = project.unread.iter().map(|file| &**file);
    unread.filter(is_inside)
}

/// What is locked and missing may stand in a file that is no YAML: then it was not taken out, and that file is the finding.
pub fn drop_removals(project: &Project, diagnostics: &mut Vec<Diagnostic>) {
    if unread_definitions(project).next().is_none() {
        return;
    }
    diagnostics
        .retain(|found| found.code != Code::E0606 || !found.message.ends_with(flags::WAS_REMOVED));
}

/// Reads the definitions of flags and proves them sound, and nothing of them edited that is locked.
pub fn flags(files: &[SqlFile], lock: &SqlFile) -> Checked<FlagSet> {
    let sources = sources(files);
    let lock = lock_file(lock);
    // What stands in a file that cannot be read was not taken out.
    let mut checked = match lock.has_errors() || sources.has_errors() {
        false => flags::resolve_locked(&sources.value, &lock.value),
        true => flags::resolve(&sources.value),
    };
    checked.diagnostics.extend(sources.diagnostics);
    checked.diagnostics.extend(lock.diagnostics);
    checked
}

/// The same for a version that nobody serves, such as one in git to compare with: its lock does not count.
pub fn unlocked_flags(files: &[SqlFile]) -> Checked<FlagSet> {
    let sources = sources(files);
    let mut checked = flags::resolve(&sources.value);
    checked.diagnostics.extend(sources.diagnostics);
    checked
}

fn sources(files: &[SqlFile]) -> Checked<Vec<FlagSource>> {
    let mut sources = Checked::new(Vec::new());
    for file in files {
        match yaml::typed::<FlagsFile>(&file.path, &file.text) {
            Ok(spec) => sources.value.push(FlagSource {
                file: file.path.clone(),
                spec,
            }),
            // The reader of types stops at the first key that stands twice; the tree tells all of them.
            Err(first) => match yaml::parse(&file.path, &file.text).diagnostics {
                none if none.is_empty() => sources.push(*first),
                all => sources.diagnostics.extend(all),
            },
        }
    }
    sources
}

/// What was locked. A lock that cannot be read locks nothing, and is an error.
pub fn lock_file(file: &SqlFile) -> Checked<LockFile> {
    match LockFile::parse(file.path.clone(), &file.text) {
        Ok(lock) => Checked::new(lock),
        Err(error) => {
            let length = file.text.lines().nth(error.line as usize - 1);
            let length = length.map_or(0, |line| line.chars().count() as u32);
            let message = "this line is no locked definition with its hash";
            let diagnostic = Diagnostic::error(Code::E0102, message)
                .at(Span::new(file.path.clone(), error.line, 1, length))
                .hint("restore the file from git: only `equipoise flag lock` writes it");
            Checked::with(LockFile::default(), vec![diagnostic])
        }
    }
}

/// An experiment that names a flag names one that exists; projects without flags get their assignments from elsewhere.
pub(super) fn unknown_flags(manifest: &Manifest, set: &FlagSet) -> Vec<Diagnostic> {
    if manifest.flag_files.is_empty() {
        return Vec::new();
    }
    let known: Vec<&str> = set.flags.iter().map(|flag| &*flag.key).collect();
    let named = manifest
        .domain
        .experiments
        .iter()
        .filter_map(|experiment| experiment.flag.as_ref());
    named
        .filter(|flag| set.flag(flag).is_none())
        .map(|flag| {
            Diagnostic::error(Code::E0207, format!("unknown flag `{}`", flag.value))
                .at(flag.span.clone())
                .hint(did_you_mean(flag, known.iter().copied()))
        })
        .collect()
}

/// What is delivered is what is analysed: every variant of a split is one of the experiment's.
pub(super) fn unknown_variants(manifest: &Manifest, set: &FlagSet) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for spec in &manifest.domain.experiments {
        let delivered = set
            .experiments
            .iter()
            .find(|one| *one.key == *spec.key.value);
        let known: Vec<&str> = spec
            .variants
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        for variant in delivered.into_iter().flat_map(|one| &one.variants) {
            if !known.contains(&&**variant) && !known.is_empty() {
                let key = &spec.key.value;
                let message =
                    format!("units get the variant `{variant}` of `{key}`, which is not analysed");
                let hint = "add it to `variants`, or take it out of the allocations";
                diagnostics.push(
                    Diagnostic::error(Code::E0604, message)
                        .at(spec.variants_span.clone())
                        .hint(hint),
                );
            }
        }
    }
    diagnostics
}

/// An experiment's allocations give variants to units while its period lasts: others are not analysed.
pub(super) fn never_assigned(experiments: &Experiments, set: &FlagSet) -> Vec<Diagnostic> {
    experiments
        .by_key
        .values()
        .filter_map(|experiment| {
            let mut delivered = set.experiments.iter();
            let delivered = delivered.find(|one| *one.key == *experiment.key)?;
            never_assigns(experiment, &assigning(delivered))
        })
        .collect()
}

/// From when to when units get variants; without an end, still.
type InForce = (NaiveDateTime, Option<NaiveDateTime>);

/// When each allocation that has a range is in force.
fn assigning(delivered: &flags::set::Experiment) -> Vec<InForce> {
    let allocations = &delivered.allocations;
    let starts = |index: usize| Some(allocations.get(index)?.valid_from.naive_utc());
    allocations
        .iter()
        .enumerate()
        .filter(|(_, allocation)| {
            let ranges = &allocation.split.ranges;
            ranges.iter().any(|range| range.start < range.end)
        })
        .filter_map(|(index, _)| Some((starts(index)?, starts(index + 1))))
        .collect()
}

fn never_assigns(experiment: &Experiment, assigning: &[InForce]) -> Option<Diagnostic> {
    let is_within = |(from, until): &InForce| {
        experiment.until.is_none_or(|end| *from < end)
            && until.is_none_or(|until| until > experiment.from)
    };
    let ((from, _), (_, until)) = (assigning.first()?, assigning.last()?);
    if assigning.iter().any(is_within) {
        return None;
    }
    let period = text_of(experiment.from, experiment.until);
    let message = format!(
        "no unit is assigned to `{}` in its period, {period}",
        experiment.key
    );
    let hint = format!(
        "its allocations assign units {}; correct `period`, or the `valid_from` of the allocations",
        text_of(*from, *until)
    );
    Some(
        Diagnostic::warning(Code::E0605, message)
            .at(experiment.span.clone())
            .hint(hint),
    )
}

fn text_of(from: NaiveDateTime, until: Option<NaiveDateTime>) -> String {
    let text = |instant: NaiveDateTime| instant.format("%Y-%m-%d %H:%M").to_string();
    match until {
        Some(until) => format!("from {} until {}", text(from), text(until)),
        None => format!("from {} on", text(from)),
    }
}
