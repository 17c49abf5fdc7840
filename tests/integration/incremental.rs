//! Tables that grow: new files join what is there, changed ones build it anew, and either way the rows are those of a full build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use equipoise::warehouse::Warehouse;
use tempfile::TempDir;

use super::operator_states::Random;

struct Shop {
    folder: TempDir,
}

/// `config` and the model's query.
fn shop(config: &str, query: &str) -> Shop {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shop = Shop { folder };
    shop.write("project.yml", "name: growing\n");
    shop.write(
        "models/sources.yml",
        "sources:\n  - name: raw\n    tables:\n      - name: events\n        location: data/*.csv\n",
    );
    shop.write(
        "models/facts.sql",
        &format!("{{{{ config({config}) }}}}\n{query}\n"),
    );
    shop.day(1, &["a,1,5", "b,2,7"]);
    shop.day(2, &["c,1,1"]);
    shop
}

const ALL: &str = "select event_id, unit, cast(happened_at as timestamp) as happened_at, amount from {{ source('raw', 'events') }}";

fn since_the_last() -> String {
    format!(
        "{ALL}\n{{% if is_incremental() %}}\nwhere happened_at > (select max(happened_at) from {{{{ this }}}})\n{{% endif %}}"
    )
}

impl Shop {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Rows are `id,unit,amount`, all of them at noon.
    fn day(&self, day: u32, rows: &[&str]) {
        let rows: Vec<String> = rows
            .iter()
            .map(|row| {
                let [id, unit, amount] = row.split(',').collect::<Vec<_>>()[..] else {
                    panic!("three cells: {row}")
                };
                format!("{id},{unit},2026-01-{day:02} 12:00:00,{amount}")
            })
            .collect();
        let text = format!("event_id,unit,happened_at,amount\n{}\n", rows.join("\n"));
        self.write(&format!("data/2026-01-{day:02}.csv"), &text);
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_equipoise"))
            .args(arguments)
            .arg("--project-dir")
            .arg(self.path())
            .output()
            .expect("the program runs")
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = said(&output);
        assert!(output.status.success(), "{arguments:?}\n{said}");
        said
    }

    fn bad(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// `id:amount` of all rows, in order.
    fn rows(&self) -> String {
        let query = "select event_id || ':' || amount as row from facts order by event_id, amount";
        let said = self.good(&["sql", query, "-o", "csv"]);
        said.lines().skip(1).collect::<Vec<_>>().join(" ")
    }

    /// The folder of the published table.
    fn table(&self) -> PathBuf {
        let text = fs::read_to_string(
            self.path()
                .join("target/warehouse/environments")
                .join("dev.json"),
        )
        .unwrap();
        let environment: serde_json::Value = serde_json::from_str(&text).unwrap();
        let fingerprint = environment["environment"]["relations"]["facts"]["fingerprint"]
            .as_str()
            .unwrap();
        let tables = self.path().join("target/warehouse/relations/facts");
        tables.join(fingerprint)
    }

    /// Its data files, by inode.
    fn files(&self) -> Vec<u64> {
        use std::os::unix::fs::MetadataExt;
        let mut inodes: Vec<u64> = parquet_files(&self.table())
            .iter()
            .map(|path| fs::metadata(path).unwrap().ino())
            .collect();
        inodes.sort_unstable();
        inodes
    }
}

fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|end| end == "parquet"))
        .collect()
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn new_files_join_the_rows_that_are_there() {
    let shop = shop("materialized='incremental'", &since_the_last());
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "a:5 b:7 c:1");
    let first = shop.files();
    shop.day(3, &["d,2,4"]);
    let said = shop.good(&["build"]);
    assert!(said.contains("incremental facts"), "{said}");
    assert_eq!(shop.rows(), "a:5 b:7 c:1 d:4");
    let second = shop.files();
    assert!(
        first.iter().all(|file| second.contains(file)),
        "files are shared, not written again"
    );
    assert_eq!(second.len(), first.len() + 1);
    let said = shop.good(&["build"]);
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(shop.files(), second);
}

#[test]
fn what_was_read_before_and_is_not_there_any_more_builds_the_table_anew() {
    let shop = shop("materialized='incremental'", &since_the_last());
    shop.good(&["build"]);
    shop.day(1, &["a,1,50"]);
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "a:50 c:1", "a changed file");
    fs::remove_file(shop.path().join("data/2026-01-01.csv")).unwrap();
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "c:1", "a file that is gone");
    shop.day(1, &["late,1,3"]);
    shop.good(&["build"]);
    assert_eq!(
        shop.rows(),
        "c:1",
        "a late file is not after the last row: the model does not ask for it"
    );
    shop.good(&["build", "--full-refresh"]);
    assert_eq!(shop.rows(), "c:1 late:3");
    let edited = since_the_last().replace("amount from", "amount + 1 as amount from");
    shop.write(
        "models/facts.sql",
        &format!("{{{{ config(materialized='incremental') }}}}\n{edited}\n"),
    );
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "c:2 late:4", "another query");
}

#[test]
fn a_key_that_comes_again_takes_the_place_of_its_row() {
    let recent = since_the_last().replace(">", ">=");
    let shop = shop("materialized='incremental', unique_key='event_id'", &recent);
    shop.good(&["build"]);
    shop.day(3, &["a,1,9", "d,1,4"]);
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "a:9 b:7 c:1 d:4");
    shop.day(4, &["e,1,2", "e,1,3"]);
    let said = shop.bad(&["build"]);
    assert!(said.contains("(e) comes more than once"), "{said}");
    assert!(
        said.contains("target/compiled/models/facts.increment.sql"),
        "{said}"
    );
    assert_eq!(shop.rows(), "a:9 b:7 c:1 d:4");
}

#[test]
fn rows_of_partitions_with_unusual_names_are_replaced_too() {
    let query = "select event_id, unit as town, amount from {{ source('raw', 'events') }}";
    let config = "materialized='incremental', unique_key='event_id', partition_by=['town']";
    let shop = shop(config, query);
    shop.day(1, &["a,São Paulo / SP,1", "b,100% = x,2", "c,plain,3"]);
    shop.day(2, &["d,a b,1"]);
    shop.good(&["build"]);
    shop.day(3, &["a,São Paulo / SP,10", "b,other:town,20", "c,plain,30"]);
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "a:10 b:20 c:30 d:1");
}

#[test]
fn a_key_of_two_columns_with_unusual_names() {
    let query = "select event_id, unit as \"TheUnit\", cast(happened_at as timestamp) as happened_at, amount from {{ source('raw', 'events') }}";
    let shop = shop(
        "materialized='incremental', unique_key=['event_id', 'TheUnit'], incremental_strategy='delete+insert'",
        query,
    );
    shop.good(&["build"]);
    shop.day(3, &["a,2,9", "c,1,8", "d,1,8"]);
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "a:5 a:9 b:7 c:8 d:8");
}

#[test]
fn many_small_files_become_one() {
    let shop = shop("materialized='incremental'", &since_the_last());
    shop.good(&["build"]);
    let days = 3..=28;
    for day in days.clone() {
        shop.day(day, &[&format!("day{day:02},1,1")]);
        shop.good(&["run", "--quiet"]);
    }
    for hour in 0..12 {
        let text = format!(
            "event_id,unit,happened_at,amount\nhour{hour:02},1,2026-02-01 {hour:02}:00:00,1\n"
        );
        shop.write(&format!("data/2026-02-01-{hour:02}.csv"), &text);
        shop.good(&["run", "--quiet"]);
    }
    assert_eq!(shop.rows().split(' ').count(), 3 + 26 + 12);
    assert!(shop.files().len() <= 33, "{} files", shop.files().len());
}

const BY_UNIT: &str =
    "cluster_by={'unit': 'unit', 'time': 'happened_at', 'id': 'event_id', 'buckets': 3}";

#[test]
fn a_fact_by_unit_reads_like_any_table() {
    for kind in ["table", "incremental"] {
        let shop = shop(&format!("materialized='{kind}', {BY_UNIT}"), ALL);
        shop.good(&["build"]);
        assert_eq!(shop.rows(), "a:5 b:7 c:1");
        let columns = shop.good(&["sql", "select * from facts where unit = 2", "-o", "csv"]);
        assert_eq!(
            columns.trim(),
            "event_id,unit,happened_at,amount\nb,2,2026-01-01T12:00:00,7"
        );
        shop.day(1, &["a,1,5", "b,2,7", "late,3,6"]);
        shop.day(3, &["a,1,5", "d,2,4"]);
        shop.good(&["build"]);
        // A row is known by unit, time and id; the same id at another time is another row.
        assert_eq!(shop.rows(), "a:5 a:5 b:7 c:1 d:4 late:6", "{kind}");
    }
}

#[test]
fn a_fact_by_unit_has_few_files_when_asked() {
    let shop = shop(&format!("materialized='incremental', {BY_UNIT}"), ALL);
    shop.good(&["build"]);
    shop.day(3, &["d,2,4", "e,1,8"]);
    shop.good(&["build"]);
    shop.day(4, &["f,2,9", "g,1,3"]);
    shop.good(&["build"]);
    let (rows, before) = (shop.rows(), shop.files());
    let optimize = |names: &[&str], most: &str, keep: &str| {
        let limits = ["--most-runs", most, "--keep-days", keep];
        shop.run(&[&["facts", "optimize"], names, &limits].concat())
    };
    let listed = || shop.good(&["facts", "ls", "-o", "csv"]);
    assert!(
        listed().contains("\nfacts,7,6,3,2026-01-01,2026-01-04,"),
        "{}",
        listed()
    );

    let warehouse = Warehouse::open(&shop.path().join("target/warehouse")).unwrap();
    let lock = warehouse.lock("dev").unwrap();
    let refused = said(&optimize(&[], "1", "0"));
    assert!(refused.contains("error[E0902]"), "{refused}");
    drop(lock);
    // Of another environment that publishes the same table.
    let own = fs::File::open(shop.table().join("_clustering.json")).unwrap();
    own.lock().unwrap();
    let refused = said(&optimize(&[], "1", "0"));
    assert!(refused.contains("error[E0902]"), "{refused}");
    assert_eq!((shop.rows(), shop.files()), (rows.clone(), before.clone()));
    drop(own);

    let reader = warehouse.pin("dev").unwrap();
    let kept = said(&optimize(&["facts"], "1", "0"));
    assert!(
        kept.contains("facts: 6 files became 2, 7 rows rewritten, 0 old files removed"),
        "{kept}"
    );
    assert_eq!(
        (shop.rows(), shop.files().len()),
        (rows.clone(), before.len() + 2)
    );
    drop(reader);
    let kept = said(&optimize(&[], "1", "1"));
    assert!(
        kept.contains("2 files became 2, 0 rows rewritten, 0 old"),
        "{kept}"
    );
    let removed = said(&optimize(&["facts"], "1", "0"));
    assert!(removed.contains("6 old files removed"), "{removed}");
    assert_eq!((shop.rows(), shop.files().len()), (rows.clone(), 2));
    assert!(
        listed().contains("\nfacts,7,2,1,2026-01-01,2026-01-04,"),
        "{}",
        listed()
    );

    let said = shop.good(&["build"]);
    assert!(said.contains("nothing to do"), "{said}");
    shop.day(5, &["h,2,9"]);
    shop.day(3, &["d,2,4", "e,1,8", "late,3,6"]);
    shop.good(&["build"]);
    assert_eq!(shop.rows(), format!("{rows} h:9 late:6"));
    shop.good(&["rollback", "--to", "3"]);
    assert_eq!(shop.rows(), rows);
    let unknown = optimize(&["fact"], "1", "0");
    assert_eq!(unknown.status.code(), Some(2), "{}", self::said(&unknown));
}

#[test]
fn a_memory_limit_changes_nothing_but_the_way() {
    for config in [BY_UNIT, "unique_key='event_id'"] {
        let shop = shop(&format!("materialized='incremental', {config}"), ALL);
        shop.write(
            "models/more.sql",
            "{{ config(materialized='table') }}\nselect * from {{ ref('facts') }}",
        );
        shop.good(&["build", "--memory-limit", "100MB"]);
        shop.day(3, &["d,2,4"]);
        shop.good(&["build", "--memory-limit", "100MB"]);
        assert_eq!(shop.rows(), "a:5 b:7 c:1 d:4", "{config}");
    }
}

#[test]
fn a_fact_by_unit_needs_a_unit_in_every_row() {
    let shop = shop(&format!("materialized='incremental', {BY_UNIT}"), ALL);
    shop.good(&["build"]);
    shop.day(3, &["d,,4"]);
    let said = shop.bad(&["build"]);
    assert!(said.contains("`unit` is null in some row"), "{said}");
    assert_eq!(shop.rows(), "a:5 b:7 c:1");
}

#[test]
fn a_version_before_growth_can_come_back() {
    let shop = shop("materialized='incremental'", &since_the_last());
    shop.good(&["build"]);
    shop.day(3, &["d,2,4"]);
    shop.good(&["build"]);
    shop.good(&["rollback", "--to", "1"]);
    assert_eq!(shop.rows(), "a:5 b:7 c:1");
    shop.good(&["vacuum", "--keep-versions", "1"]);
    assert_eq!(shop.rows(), "a:5 b:7 c:1");
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "a:5 b:7 c:1 d:4");
    shop.good(&["vacuum", "--keep-versions", "1"]);
    assert_eq!(
        shop.rows(),
        "a:5 b:7 c:1 d:4",
        "shared files outlive the version they came with"
    );
}

#[test]
fn any_history_of_files_ends_in_the_rows_of_a_full_build() {
    let seeds = std::env::var("EQUIPOISE_HISTORIES").map_or(6, |text| text.parse().unwrap());
    for seed in 0..seeds {
        let kinds = [
            format!("materialized='incremental', {BY_UNIT}"),
            "materialized='incremental', unique_key='event_id'".to_owned(),
        ];
        let config = &kinds[seed as usize % 2];
        let shop = shop(config, ALL);
        let mut random = Random(seed);
        for step in 0..6 {
            // Each event is on one day for ever; files bring days in any order, repeat them, bring more of them, and, where nobody has
            // said which row of a key stays, some rows with other values.
            let day = 1 + random.below(4) as u32;
            let first = random.below(4);
            let is_by_unit = config.contains("cluster_by");
            let mut amount = |number: u64| {
                let other = u32::from(is_by_unit && random.chance(40)) * random.below(9) as u32;
                day * 10 + number as u32 + other
            };
            let rows: Vec<String> = (first..first + 1 + step as u64 % 3)
                .map(|number| format!("{day}-{number},{},{}", number % 3, amount(number)))
                .collect();
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            match random.below(3) {
                0 => shop.day(day, &rows),
                _ if config.contains("unique_key") => shop.day(day, &rows),
                _ => {
                    shop.day(day, &rows);
                    let path = shop.path().join("data");
                    fs::rename(
                        path.join(format!("2026-01-{day:02}.csv")),
                        path.join(format!("delivery-{step}.csv")),
                    )
                    .unwrap();
                }
            }
            shop.good(&["build", "--quiet"]);
            if is_by_unit && random.chance(40) {
                let most = (1 + random.below(3)).to_string();
                shop.good(&[
                    "facts",
                    "optimize",
                    "--most-runs",
                    &most,
                    "--keep-days",
                    "0",
                ]);
            }
        }
        let grown = shop.rows();
        shop.good(&["build", "--quiet", "--full-refresh"]);
        assert_eq!(grown, shop.rows(), "seed {seed}");
    }
}

/// Views, seeds and unions do not keep a query from being run over the new files alone: changed files of the past would show.
#[test]
fn a_query_that_goes_row_by_row_reads_only_the_files_that_are_new() {
    let query = "select e.event_id, e.unit, e.happened_at, e.amount * w.weight as amount from {{ ref('cleaned') }} as e \
                 join {{ ref('weights') }} as w on w.unit = e.unit";
    let shop = shop("materialized='incremental'", query);
    shop.write("seeds/weights.csv", "unit,weight\n1,10\n2,100\n");
    shop.write(
        "models/cleaned.sql",
        &format!("with kept as ({ALL}) select * from kept where amount > 0\nunion all\nselect event_id || '!', unit, happened_at, 0 from kept where amount <= 0"),
    );
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "a:50 b:700 c:10");
    shop.day(3, &["d,2,4", "e,1,-3", "f,7,1"]);
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "a:50 b:700 c:10 d:400 e!:0");
    // The same once more with a time that `is_incremental()` would have missed.
    shop.write(
        "data/again.csv",
        "event_id,unit,happened_at,amount\nlate,1,2025-12-31 12:00:00,2\n",
    );
    shop.good(&["build"]);
    assert_eq!(shop.rows(), "a:50 b:700 c:10 d:400 e!:0 late:20");
    shop.write("seeds/weights.csv", "unit,weight\n1,1\n2,100\n");
    shop.good(&["build"]);
    assert_eq!(
        shop.rows(),
        "a:5 b:700 c:1 d:400 e!:0 late:2",
        "a changed seed"
    );
}

#[test]
fn what_is_not_row_by_row_is_not_taken_for_it() {
    let queries = [
        format!(
            "select * from ({ALL}) as rows qualify row_number() over (partition by event_id order by happened_at) = 1"
        ),
        format!("select distinct * from ({ALL}) as rows"),
        format!("{ALL} limit 2"),
        format!(
            "select * from ({ALL}) as rows where amount > (select avg(amount) from {{{{ source('raw', 'events') }}}})"
        ),
        format!(
            "select * from ({ALL}) as rows where event_id not in (select event_id from {{{{ ref('stored') }}}})"
        ),
        format!("{ALL}\nunion all\nselect 'fixed', 1, timestamp '2026-01-01', 1"),
        format!("select one.* from ({ALL}) as one join ({ALL}) as other on one.unit = other.unit"),
        format!(
            "select one.* from ({ALL}) as one join {{{{ ref('stored') }}}} as other on one.unit = other.unit"
        ),
    ];
    for query in queries {
        let shop = shop("materialized='incremental'", &query);
        shop.write(
            "models/stored.sql",
            &format!("{{{{ config(materialized='table') }}}}\n{ALL} where amount > 100"),
        );
        let said = shop.bad(&["compile"]);
        assert!(
            said.contains("would append all of its rows again"),
            "{query}\n{said}"
        );
    }
}

#[test]
fn settings_that_do_not_fit_are_said_before_anything_runs() {
    let cases = [
        (
            "materialized='incremental'",
            "select unit, sum(amount) as amount from {{ source('raw', 'events') }} group by unit",
            "would append all of its rows again",
        ),
        (
            "materialized='incremental', unique_key='evnt_id'",
            ALL,
            "has no column `evnt_id` for its `unique_key`",
        ),
        (
            "materialized='incremental', incremental_strategy='merge'",
            ALL,
            "nothing says which",
        ),
        (
            "materialized='incremental', incremental_strategy='microbatch'",
            ALL,
            "is not an incremental strategy",
        ),
        (
            "materialized='table', cluster_by={'unit': 'unit'}",
            ALL,
            "a mapping with `unit`, `time` and `id`",
        ),
        (
            "materialized='table', cluster_by={'unit': 'unit', 'time': 'amount', 'id': 'event_id'}",
            ALL,
            "which is no timestamp",
        ),
        (
            "materialized='table', cluster_by={'unit': 'unit', 'time': 'happened_at', 'id': 'event_id', 'buckets': 0}",
            ALL,
            "a whole number from 1 to 1024",
        ),
        (
            "materialized='incremental', unique_key='event_id'",
            "select event_id, amount from {{ source('raw', 'events') }} {% if is_incremental() %} where amuont > 3 {% endif %}",
            "when it grows: ",
        ),
        (
            "materialized='incremental', unique_key='event_id'",
            "select event_id, {% if is_incremental() %} 'x' {% else %} 1 {% endif %} as amount from {{ source('raw', 'events') }}",
            "new rows have `amount` (varchar) when it grows where the table has `amount` (bigint)",
        ),
    ];
    for (config, query, expected) in cases {
        let said = shop(config, query).bad(&["build"]);
        assert!(said.contains(expected), "{config}\n{said}");
    }
}

const FACTS: &str = "models:
  - name: facts
    fact: {unit: user_id, time: occurred_at, event: event_name}
    config:
      materialized: incremental
      cluster_by: {unit: user_id, time: occurred_at, id: event_id, buckets: 2}
  - name: assigned
    config:
      materialized: incremental
      cluster_by: {unit: unit_id, time: assigned_at, id: event_id, buckets: 2}
";

const MEASURED: [(&str, &str); 8] = [
    ("models/facts.yml", FACTS),
    (
        "models/sources.yml",
        "sources:
  - name: raw
    tables:
      - {name: conversions, location: data/conversions, allow_empty: true}
      - {name: assignments, location: data/assignments, allow_empty: true}
",
    ),
    (
        "models/facts.sql",
        "select event_id, user_id, event_name, cast(occurred_at as timestamp) as occurred_at, amount from {{ source('raw', 'conversions') }}",
    ),
    (
        "models/assigned.sql",
        "select event_id, experiment_key, unit_id, variant, cast(occurred_at as timestamp) as assigned_at,
    cast('2026-03-02' as timestamp) as period_starts_at, cast('2026-03-20' as timestamp) as measured_until, true as is_analysed
from {{ source('raw', 'assignments') }}",
    ),
    (
        "models/metric_aggregates.sql",
        "{{ config(materialized='table') }} select * from {{ metric_aggregates(units=ref('assigned')) }} as aggregates",
    ),
    (
        "models/experiment_results.sql",
        "{{ config(materialized='table') }} {{ experiment_results(aggregates=ref('metric_aggregates')) }}",
    ),
    (
        "metrics/all.yml",
        "defaults: {fact: facts, fill: zero, owner: us, maturity: partial, window: {start: 0d, length: 3d}}
metrics:
  - {name: orders, description: Orders., kind: mean, event: order, agg: count, covariate: {lookback: 4d}, direction: increase}
  - {name: revenue, description: Revenue., kind: mean, event: order, agg: sum, expr: amount, covariate: {lookback: 4d}, direction: increase}
  - {name: refunded, description: Refunds., kind: proportion, event: refund, agg: any, direction: decrease}
",
    ),
    ("project.yml", "name: measured\n"),
];

/// The same logs arrive in another order for each seed: days early and late, some of them delivered twice.
#[test]
fn results_do_not_depend_on_the_order_in_which_days_arrive() {
    let logs = tempfile::tempdir().expect("a temporary folder");
    let options = "generate --format csv --split daily --unit-ids integer --users 300 --days 12 --experiments 8 --out";
    let shop = Shop {
        folder: tempfile::tempdir().expect("a temporary folder"),
    };
    let generated = Command::new(env!("CARGO_BIN_EXE_equipoise"))
        .args(options.split(' '))
        .arg(logs.path())
        .output()
        .unwrap();
    assert!(generated.status.success(), "{}", said(&generated));
    for (name, text) in MEASURED {
        shop.write(name, text);
    }
    let truth = fs::read_to_string(logs.path().join("truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&truth).unwrap();
    let experiment = |experiment: &serde_json::Value| {
        format!(
            "  - {{key: {}, hypothesis: It helps., owner: us, unit: user, variants: {{control: 0.5, treatment: 0.5}}, \
             period: {{from: 2026-03-01, to: 2026-03-19}}, assignments: {{model: assigned, keep: first, exclude: [crossed_over]}}, \
             metrics: {{primary: orders, secondary: [revenue, refunded]}}}}\n",
            experiment["key"].as_str().unwrap()
        )
    };
    let experiments: String = truth["experiments"]
        .as_array()
        .unwrap()
        .iter()
        .map(experiment)
        .collect();
    shop.write(
        "experiments/all.yml",
        &format!("experiments:\n{experiments}"),
    );
    let mut deliveries = Vec::new();
    for table in ["conversions", "assignments"] {
        for entry in fs::read_dir(logs.path().join(table)).unwrap() {
            deliveries.push((table, entry.unwrap().file_name().into_string().unwrap()));
        }
    }
    deliveries.sort();
    let results = || {
        let query =
            "select * from experiment_results order by experiment_key, metric_name, variant";
        shop.good(&["sql", query, "-o", "csv"])
    };
    let mut seen: Vec<String> = Vec::new();
    for seed in 0..2 {
        let mut random = Random(seed);
        let mut waiting = deliveries.clone();
        fs::remove_dir_all(shop.path().join("data")).ok();
        fs::remove_dir_all(shop.path().join("target")).ok();
        // A day without a table would be no source at all.
        for table in ["conversions", "assignments"] {
            let at = waiting
                .iter()
                .position(|(other, _)| *other == table)
                .unwrap();
            deliver(&shop, logs.path(), &waiting.remove(at), "first");
        }
        while !waiting.is_empty() {
            for _ in 0..1 + random.below(16).min(waiting.len() as u64 - 1) {
                let at = random.below(waiting.len() as u64) as usize;
                let file = match random.chance(20) {
                    true => waiting[at].clone(),
                    false => waiting.remove(at),
                };
                deliver(
                    &shop,
                    logs.path(),
                    &file,
                    &format!("delivery-{}", random.below(1000)),
                );
                if waiting.is_empty() {
                    break;
                }
            }
            shop.good(&["run", "--quiet"]);
        }
        seen.push(results());
    }
    shop.good(&["run", "--quiet", "--full-refresh"]);
    seen.push(results());
    assert!(seen[0].lines().count() > 8, "{}", seen[0]);
    assert_eq!(seen[0], seen[2], "grown in one order, and built at once");
    assert_eq!(seen[1], seen[2], "grown in another order");
}

fn deliver(shop: &Shop, logs: &Path, (table, file): &(&str, String), name: &str) {
    let text = fs::read_to_string(logs.join(table).join(file)).unwrap();
    shop.write(&format!("data/{table}/{name}-{file}"), &text);
}
