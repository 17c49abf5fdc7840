//! The generated shop: the same bytes for the same options, logs that agree with the definitions, and the faults it promises.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use equipoise::flags::{FlagSource, LockFile, resolve_locked};
use equipoise::generate::{FileFormat, FileSplit, GenerateOptions, Generated, UnitIds, generate};
use md5::{Digest, Md5};
use tempfile::TempDir;

fn small(out: &Path) -> GenerateOptions {
    GenerateOptions {
        users: 400,
        threads: 2,
        out: out.to_path_buf(),
        ..GenerateOptions::default()
    }
}

/// Every file below a folder by its relative path.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let path = entry
                .path()
                .strip_prefix(folder)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            (path, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Rows of a CSV file as maps from column to value.
fn rows(folder: &Path, table: &str) -> Vec<HashMap<String, String>> {
    let mut reader = csv::Reader::from_path(folder.join(format!("{table}.csv"))).unwrap();
    reader.deserialize().map(|row| row.unwrap()).collect()
}

fn generated(options: GenerateOptions) -> Generated {
    generate(&options).unwrap()
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    for format in [FileFormat::Csv, FileFormat::Parquet] {
        let (one, many) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let counts = generated(GenerateOptions {
            threads: 1,
            format,
            ..small(one.path())
        });
        assert_eq!(
            counts,
            generated(GenerateOptions {
                threads: 7,
                format,
                ..small(many.path())
            })
        );
        assert!(contents(one.path()) == contents(many.path()));
    }
}

#[test]
fn a_seed_gives_these_bytes_for_ever() {
    let folder = TempDir::new().unwrap();
    generated(GenerateOptions {
        users: 50,
        ..small(folder.path())
    });
    let mut digest = blake3::Hasher::new();
    for (path, bytes) in contents(folder.path()) {
        digest.update(path.as_bytes());
        digest.update(&bytes);
    }
    insta::assert_snapshot!(digest.finalize().to_hex(), @"480b87b2cf86bfce188fefdab123d7ccd72618c7e4915bb23645f77e9ee0699c");
}

#[test]
fn what_decided_the_logs_is_locked() {
    let folder = TempDir::new().unwrap();
    generated(small(folder.path()));
    let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
    let said = |flags: &str| {
        let path: std::sync::Arc<str> = "flags/shop.yml".into();
        let lock = LockFile::parse(
            "flags/allocations.lock".into(),
            &read("flags/allocations.lock"),
        );
        let spec = serde_saphyr::from_str(flags).unwrap();
        let source = FlagSource { file: path, spec };
        resolve_locked(&[source], &lock.unwrap()).diagnostics
    };
    let flags = read("flags/shop.yml");
    assert!(said(&flags).is_empty());
    assert!(!said(&flags.replacen("[0, 5000]", "[0, 4999]", 1)).is_empty());
}

#[test]
fn daily_files_hold_the_rows_of_the_whole_file() {
    let (whole, daily) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    generated(small(whole.path()));
    generated(GenerateOptions {
        split: FileSplit::Daily,
        ..small(daily.path())
    });
    let body = |bytes: Vec<u8>| {
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let by_day: Vec<String> = contents(&daily.path().join("events"))
        .into_values()
        .flat_map(body)
        .collect();
    assert_eq!(
        by_day,
        body(fs::read(whole.path().join("events.csv")).unwrap())
    );
    assert_eq!(contents(&daily.path().join("events")).len(), 42);
}

#[test]
fn every_logged_variant_follows_from_its_salt_and_unit() {
    let folder = TempDir::new().unwrap();
    generated(small(folder.path()));
    let mut checked = 0;
    for row in rows(folder.path(), "assignments") {
        let hash = Md5::digest(format!("{}-{}", row["salt"], row["unit_id"]));
        let bucket = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % 10_000;
        assert_eq!(row["bucket"], bucket.to_string());
        if row["reason"] == "split" && row["allocation_id"] == "a1" {
            assert_eq!(
                row["variant"],
                if bucket < 5_000 {
                    "control"
                } else {
                    "treatment"
                }
            );
            checked += 1;
        }
    }
    assert!(
        checked > 1_000,
        "only {checked} rows were split by the first allocation"
    );
}

#[test]
fn an_exclusive_layer_gives_a_unit_one_experiment() {
    let folder = TempDir::new().unwrap();
    generated(small(folder.path()));
    let mut by_unit_and_layer: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for row in rows(folder.path(), "assignments") {
        let key = (row["unit_id"].clone(), row["layer_key"].clone());
        by_unit_and_layer
            .entry(key)
            .or_default()
            .insert(row["experiment_key"].clone());
    }
    assert!(
        by_unit_and_layer
            .values()
            .all(|experiments| experiments.len() == 1)
    );
    assert!(by_unit_and_layer.len() > 1_000);
}

#[test]
fn the_promised_faults_are_in_the_logs() {
    let folder = TempDir::new().unwrap();
    generated(GenerateOptions {
        users: 2_000,
        ..small(folder.path())
    });
    let platforms: HashMap<String, String> = rows(folder.path(), "users")
        .into_iter()
        .map(|row| (row["user_id"].clone(), row["platform"].clone()))
        .collect();
    let assignments = rows(folder.path(), "assignments");

    let units = |experiment: &str, variant: &str, platform: &str| {
        let concerned = assignments
            .iter()
            .filter(|row| row["experiment_key"] == experiment && row["variant"] == variant);
        let on_platform = concerned.filter(|row| platforms[&row["unit_id"]] == platform);
        on_platform
            .map(|row| row["unit_id"].clone())
            .collect::<BTreeSet<_>>()
    };
    let lost = units("search_ranking", "treatment", "ios").len() as f64
        / units("search_ranking", "control", "ios").len() as f64;
    assert!(
        (0.35..0.65).contains(&lost),
        "kept {lost} of the treatment on ios"
    );

    let shared_by_arms = |experiment: &str| {
        let arm = |variant| {
            ["web", "ios", "android"]
                .iter()
                .flat_map(|p| units(experiment, variant, p))
                .collect::<BTreeSet<_>>()
        };
        let (control, treatment) = (arm("control"), arm("treatment"));
        control.intersection(&treatment).count() as f64 / control.union(&treatment).count() as f64
    };
    assert!(shared_by_arms("free_shipping_hint") > 0.03);
    assert_eq!(shared_by_arms("one_page_checkout"), 0.0);

    let ids: Vec<_> = assignments
        .iter()
        .map(|row| row["event_id"].clone())
        .collect();
    let repeated = ids.len() - ids.iter().collect::<BTreeSet<_>>().len();
    assert!(repeated > 20, "{repeated} rows were delivered twice");
    let ahead = assignments
        .iter()
        .filter(|row| row["sent_at"] > row["received_at"])
        .count();
    assert!(ahead > 0, "no clock runs ahead");
    assert!(assignments.iter().any(|row| row["is_override"] == "true"));
}

#[test]
fn unit_ids_are_distinct_in_every_form() {
    for (unit_ids, example) in [
        (UnitIds::Short, 7),
        (UnitIds::Integer, 0),
        (UnitIds::Uuid, 36),
    ] {
        let folder = TempDir::new().unwrap();
        generated(GenerateOptions {
            unit_ids,
            users: 3_000,
            days: 12,
            ..small(folder.path())
        });
        let ids: Vec<_> = rows(folder.path(), "users")
            .into_iter()
            .map(|row| row["user_id"].clone())
            .collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3_000);
        assert!(example == 0 || ids.iter().all(|id| id.len() == example));
    }
}

#[test]
fn the_definitions_are_yaml_and_the_truth_names_every_experiment() {
    let folder = TempDir::new().unwrap();
    generated(GenerateOptions {
        experiments: 20,
        ..small(folder.path())
    });
    let files = contents(folder.path());
    for (path, bytes) in files.iter().filter(|(path, _)| path.ends_with(".yml")) {
        let parsed: Result<serde_json::Value, _> = serde_saphyr::from_slice(bytes);
        assert!(parsed.is_ok(), "{path}: {parsed:?}");
    }
    let truth: serde_json::Value = serde_json::from_slice(&files["truth.json"]).unwrap();
    let experiments = truth["experiments"].as_array().unwrap();
    assert_eq!(experiments.len(), 20);
    let decisions: Vec<_> = experiments
        .iter()
        .filter_map(|e| e["decision"].as_str())
        .collect();
    assert_eq!(
        decisions,
        [
            "ship", "no_ship", "no_ship", "invalid", "invalid", "continue", "no_ship", "ship"
        ]
    );
}

#[test]
fn a_treatment_moves_what_it_promises() {
    // The carousel raises carts by 25 % and load times by 15 %: seen in the means of the two arms after first exposure.
    let folder = TempDir::new().unwrap();
    generated(GenerateOptions {
        users: 3_000,
        ..small(folder.path())
    });
    let exposures = rows(folder.path(), "exposures");
    let mut arms: HashMap<String, (String, String)> = HashMap::new();
    for row in exposures
        .iter()
        .filter(|row| row["experiment_key"] == "recommendation_carousel")
    {
        arms.entry(row["unit_id"].clone())
            .or_insert((row["variant"].clone(), row["occurred_at"].clone()));
    }
    let mut loads: HashMap<&str, Vec<f64>> = HashMap::new();
    for row in rows(folder.path(), "events")
        .iter()
        .filter(|row| row["event_name"] == "page_load")
    {
        if let Some((arm, _)) = arms
            .get(&row["user_id"])
            .filter(|(_, exposed_at)| *exposed_at < row["occurred_at"])
        {
            loads
                .entry(arm)
                .or_default()
                .push(row["load_ms"].parse().unwrap());
        }
    }
    let mean = |arm: &str| loads[arm].iter().sum::<f64>() / loads[arm].len() as f64;
    let ratio = mean("treatment") / mean("control");
    assert!(
        (1.08..1.22).contains(&ratio),
        "load times changed by {ratio}"
    );
}

#[test]
fn impossible_options_are_refused_in_words() {
    let folder = TempDir::new().unwrap();
    let refused = generate(&GenerateOptions {
        days: 3,
        ..small(folder.path())
    })
    .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "--days must lie between 12 and 1000, not 3"
    );
}
