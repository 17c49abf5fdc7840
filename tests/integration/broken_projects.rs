//! Small broken projects and what the compiler says about each of them.
//! A project is one file of `tests/data/broken`: its files follow each other, each after a line `-- file: path`; what it
//! says stands beside it in `snapshots`. `-- base: experiment` starts from a good project and changes the files named,
//! `(escaped)` after a path reads `\xff` as a byte, and `-- target:`, `-- select:` are options of the command line.
//! What compiles is also read as a build reads it: names, contracts and copies of metrics.
//! `project.yml` may be left out where it only gives a name. Projects whose name starts with `good_` must be silent,
//! those of `lint_` and `warned_` may have warnings only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use equipoise::diagnostics::{Render, render_all};
use equipoise::project::{Folder, Options};
use equipoise::run::{PrepareOptions, prepare, review};

macro_rules! projects {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { check(stringify!($name)); })*
    };
}

projects! {
    broken_definition_stays_one_error
    broken_yaml_hides_what_it_declares
    broken_yaml_is_not_removed
    config_in_project_file
    config_unknown_setting
    config_wrong_materialization
    contract_unknown_type
    contract_wrong_type
    cycle
    cycle_of_one
    described_model_missing
    disabled_in_yaml_used
    disabled_model_used
    disabled_source_used
    duplicate_descriptions
    duplicate_macros
    duplicate_model_and_seed
    duplicate_models
    duplicate_sources
    duplicate_tests
    env_var_missing
    experiment_almost_empty
    experiment_assignments_columns
    experiment_assignments_unknown_model
    experiment_bad_dates
    experiment_dates_far
    experiment_dates_reversed
    experiment_duplicate
    experiment_key_bad
    experiment_metrics_unfit
    experiment_odd_definitions
    experiment_segment_names
    experiment_unknown_metric
    experiment_weights
    experiment_weights_too_large
    freshness_wrong_ages
    freshness_wrong_fields
    good_disabled_sources
    good_experiment
    good_metrics
    good_small
    good_test_words
    good_words_and_comments
    lint_alias_untrue
    lint_by_hand
    lint_near_duplicate
    lint_two_names
    many_errors_at_once
    metric_alias_wrong
    metric_bad_expression
    metric_bad_words
    metric_breaks_out
    metric_cap_misplaced
    metric_declarations_contradict
    metric_declarations_missing
    metric_derived_no_number
    metric_derived_wrong
    metric_drives_nothing
    metric_duplicate
    metric_event_without_column
    metric_events_misread
    metric_fact_no_time
    metric_fact_undeclared
    metric_fact_wrong_columns
    metric_hierarchy
    metric_ratio_incomplete
    metric_unknown_fact
    metric_without_owner
    misspelt_is_not_missing
    model_name_bad
    no_project_file
    project_file_empty
    project_file_unknown_key
    project_name_bad
    ref_to_nothing
    ref_to_nothing_in_macro
    seed_empty
    seed_ragged
    seed_wrong_type
    selector_nothing
    selector_unreadable
    source_bad_json_lines
    source_declared_column_missing
    source_different_columns
    source_empty_file
    source_empty_glob
    source_header_only
    source_invalid_utf8
    source_missing_file
    source_non_finite
    source_quote_not_closed
    source_ragged_csv
    source_repeated_header
    source_to_nothing
    source_unknown_format
    source_unknown_type
    source_without_location
    source_wrong_value
    sql_ambiguous_column
    sql_does_not_parse
    sql_does_not_parse_after_tags
    sql_empty_model
    sql_group_by_missing
    sql_ignored_clauses
    sql_impossible_constants
    sql_invalid_utf8
    sql_not_a_query
    sql_read_without_ref
    sql_read_without_ref_beside_ref
    sql_same_column_twice
    sql_statistics_wrong_arguments
    sql_too_much
    sql_two_statements
    sql_type_error
    sql_union_of_different_widths
    sql_unknown_column
    sql_unknown_column_after_whitespace_control
    sql_unknown_column_from_argument
    sql_unknown_column_in_loop
    sql_unknown_column_in_macro
    sql_unknown_column_of_relation
    sql_unknown_function
    sql_unknown_relation
    sql_wrong_arguments
    sql_wrong_clauses
    target_bad_options
    target_unknown
    targets_not_a_mapping
    template_bad_expression
    template_hostile
    template_macro_wrong_arguments
    template_not_closed
    template_raised_error
    template_undefined_value
    template_unknown_filter
    template_unknown_macro
    template_without_end
    test_bad_settings
    test_breaks_out
    test_missing_arguments
    test_singular_broken
    test_singular_unknown_ref
    test_unknown
    test_unknown_column
    test_wrong_arguments
    test_wrong_places
    var_missing
    warned_experiment_never_assigned
    warned_experiment_never_matures
    warned_exposure
    warned_semantic_losses
    yaml_duplicate_key
    yaml_hostile
    yaml_invalid_utf8
    yaml_is_a_list
    yaml_missing_name
    yaml_not_well_formed
    yaml_tab_indentation
    yaml_unknown_column
    yaml_unknown_keys
    yaml_wrong_types
}

/// A project that nobody looks at proves nothing.
#[test]
fn every_project_of_the_folder_is_tested() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "project"))
        .map(|path| {
            path.file_stem()
                .expect("it has a name")
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !name.starts_with("base_"))
        .collect();
    found.sort();
    assert_eq!(found, TESTED);
}

fn check(name: &str) {
    let said = diagnostics(name);
    if name.starts_with("good_") {
        assert_eq!(said, "", "a good project has nothing to complain about");
        return;
    }
    let is_refused = said.contains("error[E0");
    // What only looks wrong is a warning.
    let may_warn = ["lint_", "warned_"]
        .iter()
        .any(|start| name.starts_with(start));
    let is_warned = may_warn && said.contains("warning[E0");
    assert!(is_refused || is_warned, "{name} must be refused");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder().join("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, said));
}

/// The one place that touches the API: everything the compiler says about a project, as plain text.
fn diagnostics(name: &str) -> String {
    let project = Written::read(name);
    let root = tempfile::tempdir().expect("a temporary folder");
    project.write_to(root.path());
    let option = |key: &str| project.options.get(key).cloned();
    let options = PrepareOptions {
        load: Options {
            target: option("target"),
            ..Options::default()
        },
        threads: Some(1),
        now: "2026-01-20T08:00:00.000000Z".to_string(),
        ..PrepareOptions::default()
    };
    let mut checked = super::runtime().block_on(prepare(&Folder::new(root.path()), &options));
    if let Some(select) = option("select") {
        let selected = checked.value.graph.select(
            &checked.value.manifest,
            &[select],
            &[],
            &Ok(BTreeSet::new()),
        );
        checked.absorb(selected);
    }
    if !checked.has_errors() {
        let found = super::runtime().block_on(review(&checked.value));
        checked
            .diagnostics
            .extend(found.expect("the engine starts").diagnostics);
    }
    let said = render_all(
        &checked.diagnostics,
        &checked.value.project.texts,
        Render::Plain,
    );
    said.replace(&*root.path().to_string_lossy(), "<root>")
}

/// A project as its file in `tests/data/broken` says it.
#[derive(Default)]
struct Written {
    options: BTreeMap<String, String>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Written {
    fn read(name: &str) -> Self {
        let path = folder().join(format!("{name}.project"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut parts = text.split("-- file: ");
        let head = parts.next().expect("a split has a first part");
        let options: BTreeMap<String, String> = head
            .lines()
            .filter_map(|line| line.strip_prefix("-- ")?.split_once(": "))
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        let mut project = match options.get("base") {
            Some(base) => Self::read(&format!("base_{base}")),
            None => Self::default(),
        };
        project.options.extend(options);
        for part in parts {
            let (path, content) = part.split_once('\n').expect("a path is a line of its own");
            match path.strip_suffix(" (escaped)") {
                Some(path) => project.files.insert(path.to_string(), unescaped(content)),
                None => project
                    .files
                    .insert(path.to_string(), content.as_bytes().to_vec()),
            };
        }
        if !head.contains("-- no project file") && !project.files.contains_key("project.yml") {
            project
                .files
                .insert("project.yml".to_string(), b"name: shop\n".to_vec());
        }
        project
    }

    fn write_to(&self, root: &Path) {
        for (path, content) in &self.files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a file lies in a folder"))
                .expect("the folder can be made");
            std::fs::write(path, content).expect("the file can be written");
        }
    }
}

/// `\xff` as the byte that it names.
fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two hexadecimal digits follow"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/broken")
}
