//! In which files clustered facts lie: few after a long history and after compaction, and only those of its days are opened for a row.

use std::path::Path;

use tempfile::TempDir;

use super::cli::Shop;
use super::operator_facts::{BUCKETS, DAY, Facts, between, count, on_a_runtime, random_project};
use super::operator_states::{Data, event_batch};

#[test]
fn a_day_that_comes_late_opens_only_the_runs_that_hold_it() {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let (_, data) = random_project(12);
        let mut facts = Facts::open(folder.path()).await;
        let (first, _) = facts.append(&data).await;
        assert_eq!(first.runs_opened, 0, "an empty table was looked into");
        let runs = facts.events.runs();
        let start = data.events.iter().map(|row| row.at).min().unwrap() / DAY;
        for day in [start, start + 20, start + 58] {
            let holding = runs
                .iter()
                .filter(|run| (i64::from(run.day)..=run.through.into()).contains(&day))
                .count();
            let (again, _) = facts
                .append(&between(&data, day * DAY, (day + 1) * DAY))
                .await;
            assert_eq!((again.rows, again.runs_opened), (0, holding), "day {day}");
            assert!(again.repeated > 0 && holding <= usize::from(BUCKETS));
        }
        assert!(runs.len() > 2 * usize::from(BUCKETS), "{} runs", runs.len());
    });
}

#[test]
fn a_history_of_days_ends_in_few_runs_that_were_seldom_rewritten() {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let (plan, data) = random_project(13);
        let mut facts = Facts::open(folder.path()).await;
        facts.append(&data).await;
        let expected = facts.states(&plan).await;
        let folder = TempDir::new().unwrap();
        let mut facts = Facts::open(folder.path()).await;
        let no_events = Data {
            events: Vec::new(),
            ..data.clone()
        };
        facts.append(&no_events).await;
        let start = data.events.iter().map(|row| row.at).min().unwrap() / DAY * DAY;
        let mut rewritten = 0;
        for day in 0..61 {
            // Each day comes with the two before it again.
            let days = (start + (day - 2) * DAY, start + (day + 1) * DAY);
            let rows = event_batch(&between(&data, days.0, days.1).events);
            let rows = facts.context.read_batch(rows).unwrap();
            let appended = facts.events.append(&facts.context, rows).await.unwrap();
            assert!(appended.runs_opened <= 6 * usize::from(BUCKETS));
            let tidied = facts.events.tidy(&facts.context, 16).await.unwrap();
            rewritten += tidied.rows_rewritten;
        }
        assert_eq!(facts.states(&plan).await, expected);
        let most = 14 * usize::from(BUCKETS);
        let runs = facts.events.runs().len();
        assert!(runs <= most, "{runs} runs");
        let rows = data.events.len() as u64;
        assert!(rewritten <= 3 * rows, "{rewritten} of {rows} rows");
    });
}

/// Days of the runs of a history that came day by day, and how many runs its appends opened.
async fn lived(folder: &Path, data: &Data) -> (Vec<(i32, i32)>, usize) {
    let mut facts = Facts::open(folder).await;
    let start = data.events.iter().map(|row| row.at).min().unwrap() / DAY * DAY;
    let mut opened = 0;
    for day in 0..61 {
        let is_of = |at: i64| {
            let days = at / DAY - start / DAY;
            // Rows of wrong clocks come with the tenth day.
            (day - 2..=day).contains(&days) || (day == 10 && days > 61)
        };
        let rows: Vec<_> = data.events.iter().filter(|row| is_of(row.at)).collect();
        let rows = event_batch(&rows.into_iter().cloned().collect::<Vec<_>>());
        let rows = facts.context.read_batch(rows).unwrap();
        opened += facts
            .events
            .append(&facts.context, rows)
            .await
            .unwrap()
            .runs_opened;
        facts.events.tidy(&facts.context, 16).await.unwrap();
    }
    let runs = facts.events.runs();
    let mut days: Vec<_> = runs.iter().map(|run| (run.day, run.through)).collect();
    days.sort_unstable();
    (days, opened)
}

#[test]
fn rows_of_clocks_that_run_ahead_leave_the_runs_of_all_others_as_they_are() {
    let (_, mut data) = random_project(13);
    for copy in 0..4 {
        let rows = data.events.clone();
        let copied = rows.into_iter().map(|mut row| {
            row.id += &format!(" {copy}");
            row
        });
        data.events.extend(copied.collect::<Vec<_>>());
    }
    let mut wrong = data.clone();
    // A year from now, and in 2262.
    for (id, at) in [
        ("ahead", data.events[0].at + 365 * DAY),
        ("far", 292 * 365 * DAY),
    ] {
        let mut row = data.events[0].clone();
        (row.id, row.at) = (id.to_owned(), at);
        wrong.events.push(row);
    }
    on_a_runtime(async {
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let (expected, opened) = lived(folders[0].path(), &data).await;
        let (mut found, opened_then) = lived(folders[1].path(), &wrong).await;
        let last = expected.iter().map(|run| run.1).max().unwrap();
        let strays = found.extract_if(.., |run| run.0 > last).count();
        assert_eq!(strays, 2);
        assert_eq!(found, expected);
        assert_eq!(opened_then, opened);
    });
}

#[test]
fn compaction_leaves_few_files_and_every_row() {
    let folder = TempDir::new().unwrap();
    on_a_runtime(async {
        let (plan, data) = random_project(9);
        let mut facts = Facts::open(folder.path()).await;
        let start = data.events.iter().map(|row| row.at).min().unwrap() / DAY * DAY;
        for day in (-4..80).step_by(4) {
            let piece = between(&data, start + day * DAY, start + (day + 4) * DAY);
            facts.append(&piece).await;
        }
        let (before, rows) = (facts.states(&plan).await, count(&facts).await);
        assert_eq!(rows, (data.events.len(), data.assignments.len()));
        assert!(facts.events.runs().len() > 50);
        facts.compact(1).await;
        let runs = facts.events.runs();
        assert_eq!(runs.len(), usize::from(BUCKETS));
        assert!(runs.iter().all(|run| run.day < run.through));
        assert_eq!(
            (facts.states(&plan).await, count(&facts).await),
            (before, rows)
        );
    });
}

#[test]
fn columns_in_another_order_or_of_narrower_numbers_are_those_of_the_table_all_the_same() {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    let append = |query: &str| {
        let columns = [
            "--unit",
            "unit",
            "--time",
            "at",
            "--id",
            "id",
            "--buckets",
            "1",
        ];
        shop.good(&[&["facts", "append", "things", query][..], &columns].concat())
            .err
    };
    append("select 1 as unit, timestamp '2026-01-01' as at, 'a' as id, 5 as first, 7 as second");
    append("select 3 as second, 'b' as id, timestamp '2026-01-02' as at, 9 as first, 2 as unit");
    let all = || shop.query("select id, unit, first, second from clustered.things order by id");
    assert_eq!(all(), ["a,1,5,7", "b,2,9,3"]);
    let narrow = "timestamp '2026-01-03' as at, 'c' as id, cast(8 as smallint) as first, cast(2 as int) as second";
    append(&format!("select cast(3 as tinyint) as unit, {narrow}"));
    assert_eq!(all(), ["a,1,5,7", "b,2,9,3", "c,3,8,2"]);
    // Which of two rows with one key comes first is said by the columns of the table, from left to right.
    let again = "timestamp '2026-01-01' as at, 'a' as id, 1 as unit";
    append(&format!("select 1 as second, 6 as first, {again}"));
    append(&format!("select 9 as second, 4 as first, {again}"));
    assert_eq!(all(), ["a,1,4,9", "b,2,9,3", "c,3,8,2"]);
    let optimize = ["facts", "optimize", "--most-runs", "1", "--keep-days", "0"];
    shop.good(&optimize);
    assert_eq!(all(), ["a,1,4,9", "b,2,9,3", "c,3,8,2"]);
}
