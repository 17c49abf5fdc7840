//! Clusters the facts of a generated shop by unit, and measures the one pass over them beside decoding alone.
//!
//! ```text
//! cargo run --release -- cluster FOLDER
//! cargo run --release -- run FOLDER [REPEATS segments|all METRICS EXPERIMENTS]
//! cargo run --release -- plan FOLDER > plan.json      for peer.py
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datafusion::arrow::array::*;
use datafusion::arrow::compute::{cast, concat_batches, interleave_record_batch};
use datafusion::arrow::datatypes::*;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use metric_engine_bench::engine::operator::batches::*;
use metric_engine_bench::engine::operator::cells::Cells;
use metric_engine_bench::engine::operator::ends::Ends;
use metric_engine_bench::engine::operator::kernel::Kernel;
use metric_engine_bench::engine::operator::keys::unit_keys;
use metric_engine_bench::engine::operator::segments::Segments;
use metric_engine_bench::engine::operator::unit::Unit;
use metric_engine_bench::engine::operator::lanes::Lanes;
use metric_engine_bench::engine::operator::merge::Runs;
use metric_engine_bench::engine::operator::special_cells::SpecialCells;
use metric_engine_bench::engine::operator::states::{Filled, state_rows};
use metric_engine_bench::metrics::plan::*;

const BUCKETS: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let folder = PathBuf::from(&arguments[2]);
    match arguments[1].as_str() {
        "cluster" => cluster(&folder),
        "decode" => {
            for _ in 0..arguments.get(3).map_or(3, |n| n.parse().unwrap()) {
                let segments = arguments.get(4).is_some_and(|a| a == "segments");
                decode(&folder, segments, Texts::Codes);
                decode(&folder, segments, Texts::Views);
            }
        }
        "run" => {
            let repeats = arguments.get(3).map_or(3, |n| n.parse().unwrap());
            let segments = arguments.get(4).is_some_and(|a| a == "segments");
            let metrics: usize = arguments.get(5).map_or(50, |n| n.parse().unwrap());
            let experiments = arguments.get(6).map_or(usize::MAX, |n| n.parse().unwrap());
            for _ in 0..repeats {
                decode(&folder, segments, Texts::Codes);
                decode(&folder, segments, Texts::Views);
                run(&folder, segments, (metrics, experiments));
            }
        }
        "plan" => {
            // For another program: nothing else is printed.
            let plan = plan(&folder, false, (50, usize::MAX));
            return println!("{}", serde_json::to_string(&plan).unwrap());
        }
        other => panic!("unknown {other}"),
    }
    print_memory();
}

fn print_memory() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    println!("peak {peak}");
}

fn plan(folder: &Path, segments: bool, (metrics_asked, experiments): (usize, usize)) -> MetricPlan {
    let truth: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let keys = truth["experiments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["key"].as_str().unwrap().to_owned());
    let last: chrono::NaiveDate = truth["last_day"].as_str().unwrap().parse().unwrap();
    let names = [
        "session_start",
        "page_load",
        "page_view",
        "product_view",
        "search",
        "add_to_cart",
        "checkout_started",
        "payment_visit",
        "error",
        "support_ticket",
        "order",
        "refund",
    ];
    let day = 86_400;
    let mut metrics = Vec::new();
    let mut push = |name: String, event: &str, aggregate, days: i64| {
        metrics.push(MetricStates {
            name,
            value: Measure {
                event: Some(event.into()),
                aggregate,
                value: (aggregate == Aggregate::Sum).then_some(0),
                cap: None,
                at_least: 1,
            },
            denominator: None,
            window_start: 0,
            window_length: Some(days * day),
            lookback: Some(10 * day),
            lookback_before_period: false,
            maturity: Maturity::Partial,
            data_end: None,
        })
    };
    for event in names {
        push(format!("{event}_14d"), event, Aggregate::Count, 14);
    }
    for event in [
        "session_start",
        "page_load",
        "payment_visit",
        "order",
        "refund",
    ] {
        push(format!("{event}_sum_14d"), event, Aggregate::Sum, 14);
    }
    for event in names {
        push(format!("{event}_7d"), event, Aggregate::Count, 7);
    }
    for event in names {
        push(format!("{event}_any"), event, Aggregate::Any, 14);
    }
    for event in [
        "session_start",
        "page_load",
        "payment_visit",
        "order",
        "refund",
    ] {
        push(format!("{event}_sum_7d"), event, Aggregate::Sum, 7);
    }
    for event in ["order", "add_to_cart", "search", "session_start"] {
        push(format!("{event}_3d"), event, Aggregate::Count, 3);
    }
    metrics.truncate(metrics_asked);
    MetricPlan {
        events: EventSource {
            table: "events".into(),
            unit: "user_id".into(),
            time: "occurred_at".into(),
            name: "event_name".into(),
            values: vec!["value".into()],
            codes: Vec::new(),
        },
        more_events: Vec::new(),
        specials: Vec::new(),
        assignments: AssignmentSource {
            table: "assignments".into(),
            unit: "unit_id".into(),
            time: "occurred_at".into(),
            experiment: "experiment_key".into(),
            variant: "variant".into(),
            segments: if segments {
                vec!["country".into(), "platform".into()]
            } else {
                vec![]
            },
            condition: None,
            period: None,
        },
        experiments: keys
            .take(experiments)
            .map(|key| ExperimentPlan {
                key,
                variants: vec!["control".into(), "treatment".into()],
                from: i64::MIN,
                to: i64::MAX,
                measured_until: i64::MAX,
                metrics: None,
                excludes_crossed_over: true,
                segments: if segments {
                    vec![
                        vec![],
                        vec!["country".into()],
                        vec!["platform".into()],
                        vec!["country".into(), "platform".into()],
                    ]
                } else {
                    vec![vec![]]
                },
            })
            .collect(),
        metrics,
        complete_through: (last + chrono::Days::new(1))
            .and_hms_opt(0, 0, 0)
            .unwrap()
            .and_utc()
            .timestamp_micros(),
        data_ends: vec![],
    }
}

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn read(path: &Path, columns: &[&str]) -> Vec<RecordBatch> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let batches = builder
        .with_projection(mask)
        .with_batch_size(65_536)
        .build()
        .unwrap();
    batches
        .map(|batch| {
            let batch = batch.unwrap();
            let indices: Vec<usize> = columns
                .iter()
                .map(|name| batch.schema().index_of(name).unwrap())
                .collect();
            batch.project(&indices).unwrap()
        })
        .collect()
}

/// Day files -> one sorted file per bucket: events (unit_key, occurred_at, event_name, value), assignments (.., experiment, variant, country, platform).
fn cluster(folder: &Path) {
    let started = Instant::now();
    let days = |table: &str| {
        let mut files: Vec<_> = fs::read_dir(folder.join(table))
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect();
        files.sort();
        files
    };
    let users: BTreeMap<i64, (String, String)> = {
        let mut map = BTreeMap::new();
        for batch in read(
            &folder.join("users.parquet"),
            &["user_id", "country", "platform"],
        ) {
            let keys = unit_keys(batch.column(0)).unwrap();
            let text = |i: usize| cast(batch.column(i), &DataType::Utf8).unwrap();
            let (country, platform) = (text(1), text(2));
            for row in 0..batch.num_rows() {
                map.insert(
                    keys.value(row),
                    (
                        country.as_string::<i32>().value(row).to_owned(),
                        platform.as_string::<i32>().value(row).to_owned(),
                    ),
                );
            }
        }
        map
    };
    let mut buckets: Vec<Vec<RecordBatch>> = vec![Vec::new(); BUCKETS];
    for path in days("events").into_iter() {
        for batch in read(
            &path,
            &[
                "user_id",
                "occurred_at",
                "event_name",
                "load_ms",
                "engaged_seconds",
                "is_success",
            ],
        ) {
            let keys = unit_keys(batch.column(0)).unwrap();
            let number = |i: usize| {
                cast(batch.column(i), &DataType::Float64)
                    .unwrap()
                    .as_primitive::<Float64Type>()
                    .clone()
            };
            let (load, engaged, success) = (number(3), number(4), number(5));
            let value: Float64Array = (0..batch.num_rows())
                .map(|r| {
                    [&load, &engaged, &success]
                        .iter()
                        .find(|c| c.is_valid(r))
                        .map(|c| c.value(r))
                })
                .collect();
            split(
                &mut buckets,
                &keys,
                batch.column(1),
                &[
                    cast(batch.column(2), &dictionary()).unwrap(),
                    Arc::new(value),
                ],
                &["event_name", "value"],
            );
        }
    }
    for path in days("conversions") {
        for batch in read(&path, &["user_id", "occurred_at", "event_name", "amount"]) {
            let keys = unit_keys(batch.column(0)).unwrap();
            split(
                &mut buckets,
                &keys,
                batch.column(1),
                &[
                    cast(batch.column(2), &dictionary()).unwrap(),
                    batch.column(3).clone(),
                ],
                &["event_name", "value"],
            );
        }
    }
    write_buckets(&folder.join("clustered/events"), buckets);
    let mut buckets: Vec<Vec<RecordBatch>> = vec![Vec::new(); BUCKETS];
    for path in days("assignments") {
        for batch in read(
            &path,
            &["unit_id", "occurred_at", "experiment_key", "variant"],
        ) {
            let keys = unit_keys(batch.column(0)).unwrap();
            let of = |f: fn(&(String, String)) -> &str| {
                let a: StringArray = keys.values().iter().map(|k| Some(f(&users[k]))).collect();
                cast(&(Arc::new(a) as ArrayRef), &dictionary()).unwrap()
            };
            let texts = [
                cast(batch.column(2), &dictionary()).unwrap(),
                cast(batch.column(3), &dictionary()).unwrap(),
                of(|u| &u.0),
                of(|u| &u.1),
            ];
            split(
                &mut buckets,
                &keys,
                batch.column(1),
                &texts,
                &["experiment_key", "variant", "country", "platform"],
            );
        }
    }
    write_buckets(&folder.join("clustered/assignments"), buckets);
    println!("clustered in {:?}", started.elapsed());
}

fn bucket_of(key: i64) -> usize {
    let mixed = (key as u64 ^ (key as u64 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed >> 32) % BUCKETS as u64) as usize
}

fn split(
    buckets: &mut [Vec<RecordBatch>],
    keys: &Int64Array,
    times: &ArrayRef,
    others: &[ArrayRef],
    names: &[&str],
) {
    let mut rows: Vec<Vec<u32>> = vec![Vec::new(); BUCKETS];
    keys.values()
        .iter()
        .enumerate()
        .for_each(|(row, key)| rows[bucket_of(*key)].push(row as u32));
    let columns = [
        ("unit_key", Arc::new(keys.clone()) as ArrayRef),
        ("occurred_at", times.clone()),
    ]
    .into_iter()
    .chain(names.iter().copied().zip(others.iter().cloned()));
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    for (bucket, rows) in rows.into_iter().enumerate() {
        buckets[bucket].push(
            datafusion::arrow::compute::take_record_batch(&batch, &UInt32Array::from(rows))
                .unwrap(),
        );
    }
}

fn write_buckets(folder: &Path, buckets: Vec<Vec<RecordBatch>>) {
    fs::create_dir_all(folder).unwrap();
    for (bucket, batches) in buckets.into_iter().enumerate() {
        let mut order: Vec<(i64, i64, u32, u32)> = Vec::new();
        for (index, batch) in batches.iter().enumerate() {
            let keys = batch.column(0).as_primitive::<Int64Type>();
            let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
            order.extend(
                (0..batch.num_rows())
                    .map(|row| (keys.value(row), times.value(row), index as u32, row as u32)),
            );
        }
        order.sort_unstable();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(256 * 1024))
            .build();
        let references: Vec<&RecordBatch> = batches.iter().collect();
        let mut writer: Option<ArrowWriter<File>> = None;
        for chunk in order.chunks(65_536) {
            let picks: Vec<(usize, usize)> = chunk
                .iter()
                .map(|&(_, _, batch, row)| (batch as usize, row as usize))
                .collect();
            let batch = interleave_record_batch(&references, &picks).unwrap();
            let writer = writer.get_or_insert_with(|| {
                ArrowWriter::try_new(
                    File::create(folder.join(format!("{bucket:02}.parquet"))).unwrap(),
                    batch.schema(),
                    Some(properties.clone()),
                )
                .unwrap()
            });
            writer.write(&batch).unwrap();
        }
        writer.unwrap().close().unwrap();
    }
}

fn columns(table: &str, segments: bool) -> &'static [&'static str] {
    match (table, segments) {
        ("events", _) => &["unit_key", "occurred_at", "event_name", "value"],
        (_, false) => &["unit_key", "occurred_at", "experiment_key", "variant"],
        (_, true) => &[
            "unit_key",
            "occurred_at",
            "experiment_key",
            "variant",
            "country",
            "platform",
        ],
    }
}

/// How texts come out of a file: as codes of a dictionary, as the operator asks for them, or one by one as `Utf8View`, as a scan of
/// DataFusion gives them if nobody asks.
#[derive(Clone, Copy, PartialEq)]
enum Texts {
    Codes,
    Views,
}

fn reader(
    folder: &Path,
    table: &str,
    bucket: usize,
    segments: bool,
    texts: Texts,
) -> impl Iterator<Item = datafusion::error::Result<RecordBatch>> + Send + use<> {
    let file = File::open(folder.join(format!("clustered/{table}/{bucket:02}.parquet"))).unwrap();
    let stored = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).unwrap();
    let typed = |field: &FieldRef| match (texts, field.data_type()) {
        (Texts::Views, DataType::Dictionary(..)) => {
            field.as_ref().clone().with_data_type(DataType::Utf8View)
        }
        _ => field.as_ref().clone(),
    };
    let fields: Vec<Field> = stored.schema().fields().iter().map(typed).collect();
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).unwrap();
    let mask = ProjectionMask::columns(
        builder.parquet_schema(),
        columns(table, segments).iter().copied(),
    );
    builder
        .with_projection(mask)
        .with_batch_size(8192)
        .build()
        .unwrap()
}

fn in_parallel<T: Send>(work: impl Fn(&AtomicUsize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| work(&next))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn decode(folder: &Path, segments: bool, texts: Texts) {
    let started = Instant::now();
    let cpu = cpu_time();
    let rows = in_parallel(|next| {
        let mut rows = [0, 0];
        loop {
            let bucket = next.fetch_add(1, Ordering::Relaxed);
            if bucket >= BUCKETS {
                return rows;
            }
            for batch in reader(folder, "events", bucket, segments, texts) {
                rows[0] += batch.unwrap().num_rows();
            }
            for batch in reader(folder, "assignments", bucket, segments, texts) {
                rows[1] += batch.unwrap().num_rows();
            }
        }
    });
    let what = match texts {
        Texts::Codes => "decode",
        Texts::Views => "views",
    };
    println!(
        "{what} {:?} cpu {:?} {:?}",
        started.elapsed(),
        cpu_time() - cpu,
        rows.iter().fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]])
    );
}

fn run(folder: &Path, segments: bool, size: (usize, usize)) {
    let started = Instant::now();
    let cpu = cpu_time();
    let plan = plan(folder, segments, size);
    let lanes = Lanes::new(&plan);
    let parts = in_parallel(|next| work(folder, segments, &plan, &lanes, next));
    let walked = started.elapsed();
    let mut reading = Duration::ZERO;
    let mut parts = parts.into_iter();
    let (mut filled, time) = parts.next().unwrap();
    reading += time;
    for (part, time) in parts {
        reading += time;
        filled.merge(part);
    }
    let rows = state_rows(&plan, &lanes, filled).unwrap();
    let rows: Vec<RecordBatch> = rows.into_iter().flat_map(|rows| rows.batches).collect();
    println!(
        "run {:?} cpu {:?} walk {walked:?} reading {reading:?} rows {} memory cells {}",
        started.elapsed(),
        cpu_time() - cpu,
        rows.iter().map(|batch| batch.num_rows()).sum::<usize>(),
        Cells::memory(&lanes, plan.experiments.len() * 2)
    );
    let n: i64 = rows
        .iter()
        .map(|b| {
            b.column(5)
                .as_struct()
                .column(0)
                .as_primitive::<Int64Type>()
                .values()
                .iter()
                .sum::<i64>()
        })
        .sum();
    println!("sum of n {n}");
    if std::env::var_os("DIGEST").is_some() {
        println!("digest {}", digest(&rows));
    }
}

/// Tells whether two builds give the same bytes, however they cut them into batches.
fn digest(rows: &[RecordBatch]) -> String {
    let rows = concat_batches(rows[0].schema_ref(), rows).unwrap();
    let mut hasher = blake3::Hasher::new();
    for column in rows.columns() {
        update(&mut hasher, &column.to_data());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

fn update(hasher: &mut blake3::Hasher, data: &ArrayData) {
    for buffer in data.buffers() {
        hasher.update(buffer.as_slice());
    }
    for child in data.child_data() {
        update(hasher, child);
    }
}

fn work<'a>(
    folder: &Path,
    with_segments: bool,
    plan: &'a MetricPlan,
    lanes: &'a Lanes,
    next: &AtomicUsize,
) -> (Filled, Duration) {
    let mut kernel = Kernel::new(plan, lanes, &Ends(vec![]), vec![true]);
    let mut reading = AssignmentReader::new(plan);
    let mut segments = Segments::default();
    let mut read_time = Duration::ZERO;
    loop {
        let bucket = next.fetch_add(1, Ordering::Relaxed);
        if bucket >= BUCKETS {
            break;
        }
        let stream = |table: &str| {
            vec![Box::pin(futures::stream::iter(reader(
                folder,
                table,
                bucket,
                with_segments,
                Texts::Codes,
            ))) as SendableRecordBatchStream]
        };
        let mut events: Runs<EventBatch> = Runs::new(stream("events"));
        let mut assignments: Runs<AssignmentBatch> = Runs::new(stream("assignments"));
        futures::executor::block_on(async {
            macro_rules! fill {
                ($runs:expr, $read:expr) => {{
                    let s = Instant::now();
                    $runs.fill($read).await.unwrap();
                    read_time += s.elapsed();
                }};
            }
            macro_rules! fill_assignments {
                () => {{
                    fill!(assignments, |batch, into| reading.read(batch, &mut segments, into));
                    while kernel.cells.len() < segments.known.len() {
                        let cells = kernel.cells_per_segment();
                        kernel.cells.push(Cells::new(lanes, cells));
                    }
                }};
            }
            fill_assignments!();
            fill!(events, |batch, into| read_events(lanes, batch, into));
            while let Some(key) = assignments.next_key() {
                assignments.begin(key);
                while assignments.take(key) {
                    fill_assignments!();
                }
                while events.skip_below(key) {
                    fill!(events, |batch, into| read_events(lanes, batch, into));
                }
                events.begin(key);
                while events.take(key) {
                    fill!(events, |batch, into| read_events(lanes, batch, into));
                }
                let mut unit = Unit::default();
                assignments.lend(&mut unit);
                events.lend(&mut unit);
                kernel.add(&unit);
            }
        });
    }
    kernel.finish();
    let scales = (0..plan.metrics.len())
        .map(|metric| kernel.metric_scales(metric))
        .collect();
    (
        Filled {
            segments,
            variants: kernel.variants,
            cells: kernel.cells,
            specials: SpecialCells::default(),
            scales,
            _memory: vec![],
        },
        read_time,
    )
}

fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    Duration::from_millis(
        (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10,
    )
}
