//! Facts clustered by unit: a Delta table of sorted runs.
//! In: rows with a unit, a time and an id, in any order, some of them seen before. Out: one file per unit bucket and span of days
//! ([`spans`]) and append, sorted by (unit key, time, id); compaction merges runs. A row goes to the days of its own time however late
//! it comes, and a row that is stored already, with the same unit, time and id, is dropped; of two that differ in other columns, one
//! stays whatever came first ([`values`]): so retries and re-runs in any order end in the same rows.
//!
//! Partition columns: `day` and `through`, the first and last day that a run holds rows of, and `bucket`.

mod append;
mod compact;
mod maintain;
mod provider;
mod row_keys;
mod spans;
mod stored;
mod values;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::basic::{Compression, Encoding, ZstdLevel};
use datafusion::parquet::file::metadata::SortingColumn;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use deltalake::datafile::writer::WriterConfig;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, StructType};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableBuilder};
use url::Url;

use super::sources::check_unit;
use crate::sql::type_name;

pub use append::Appended;
pub use compact::Compacted;
pub use provider::ClusteredTable;

/// The sort key's first column: 64 bits that stand for a unit.
pub const UNIT_KEY: &str = "unit_key";
const PARTITIONS: [&str; 3] = ["day", "through", BUCKET];
const BUCKET: &str = "bucket";
/// How times are stored.
const TIME_TYPE: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Which columns cluster the rows.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Clustering {
    pub unit: String,
    pub time: String,
    /// Tells rows apart; two rows with the same unit, time and id are one.
    pub id: String,
    pub buckets: u16,
}

/// One sorted file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFile {
    pub bucket: u16,
    /// Days since 1970, inclusive.
    pub day: i32,
    pub through: i32,
    /// No row is later, in microseconds; a few early rows of a day do not make a file one of that day for those who look for later ones.
    pub until: i64,
    pub path: String,
    pub size: u64,
    pub rows: u64,
}

/// A clustered fact table in a folder of its own.
pub struct ClusteredFacts {
    folder: PathBuf,
    clustering: Clustering,
    table: DeltaTable,
    /// Columns of the files: the unit key, then the columns as given.
    schema: SchemaRef,
}

impl ClusteredFacts {
    /// Opens the table in `folder`, or creates it empty for rows of the given columns.
    pub async fn open(
        folder: &Path,
        columns: &Schema,
        clustering: Clustering,
    ) -> Result<ClusteredFacts> {
        fs::create_dir_all(folder)?;
        let folder = fs::canonicalize(folder)?;
        let mut schema = file_schema(columns, &clustering)?;
        let table = match has_commits(&folder) {
            true => {
                let table = load(&folder).await?;
                schema = with_known_types(&schema, &table)?;
                check_columns(&table, &schema)?;
                Some(table)
            }
            false => None,
        };
        check_types(&schema)?;
        // What killed an earlier first append may have left one without the other.
        ClusteredFacts::remember(&folder, &clustering)?;
        let table = match table {
            Some(table) => table,
            None => create(url_of(&folder), &schema).await?,
        };
        Ok(ClusteredFacts {
            folder,
            clustering,
            table,
            schema,
        })
    }

    /// The sorted files, by bucket, day and path.
    pub fn runs(&self) -> Result<Vec<RunFile>> {
        let state = self.table.snapshot().map_err(external)?;
        let mut runs = state
            .log_data()
            .iter()
            .map(|file| run_file(&file, &self.clustering.time))
            .collect::<Result<Vec<_>>>()?;
        runs.sort_by(|a, b| (a.bucket, a.day, &a.path).cmp(&(b.bucket, b.day, &b.path)));
        Ok(runs)
    }

    /// The table for queries; the operator merges its runs as they lie.
    pub fn provider(&self) -> Result<ClusteredTable> {
        Ok(ClusteredTable::new(
            &self.folder,
            Arc::clone(&self.schema),
            self.clustering.clone(),
            self.runs()?,
        ))
    }

    /// New files are durable before the log names them, and the log is before anybody is told.
    async fn commit(&mut self, actions: Vec<Action>, operation: DeltaOperation) -> Result<()> {
        for action in &actions {
            if let Action::Add(file) = action {
                sync(&self.folder.join(&file.path))?;
            }
        }
        sync(&self.folder)?;
        let state = self.table.snapshot().map_err(external)?.clone();
        let log = self.table.log_store();
        CommitBuilder::default()
            .with_actions(actions)
            .build(Some(&state), log, operation)
            .await
            .map_err(external)?;
        self.table.update_state().await.map_err(external)?;
        let version = self.table.version().unwrap_or_default();
        sync(&self.folder.join(LOG).join(format!("{version:020}.json")))?;
        sync(&self.folder.join(LOG))
    }

    fn append_operation(&self) -> DeltaOperation {
        let partition_by = Some(PARTITIONS.map(str::to_owned).to_vec());
        DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by,
            predicate: None,
        }
    }

    /// For one run: one file, whose partition is known when it is closed.
    fn writer_config(&self) -> WriterConfig {
        let place = |name: &str| {
            self.schema
                .index_of(name)
                .expect("the schema holds the clustering columns") as i32
        };
        let ascending = |name: &str| SortingColumn {
            column_idx: place(name),
            descending: false,
            nulls_first: false,
        };
        let sorting = [UNIT_KEY, &self.clustering.time, &self.clustering.id]
            .map(ascending)
            .to_vec();
        // Hardly a time or an id comes twice: a dictionary of them would only have to be read before the first of them. Times are read by
        // whoever reads anything: as packed differences they take no more room than compressed, and no decompression.
        let unique = [&self.clustering.time, &self.clustering.id];
        let [time, id] = unique.map(|name| ColumnPath::new(vec![name.clone()]));
        let properties = WriterProperties::builder()
            .set_column_dictionary_enabled(time.clone(), false)
            .set_column_encoding(time.clone(), Encoding::DELTA_BINARY_PACKED)
            .set_column_compression(time, Compression::UNCOMPRESSED)
            .set_column_dictionary_enabled(id.clone(), false)
            // Ids are of no order, so that every file has rows from the first to the last.
            .set_column_statistics_enabled(id, EnabledStatistics::None)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(256 * 1024))
            .set_sorting_columns(Some(sorting))
            .build();
        WriterConfig::new(
            Arc::clone(&self.schema),
            Vec::new(),
            Some(properties),
            None,
            None,
            Default::default(),
            None,
        )
    }
}

/// The folder of the table's commits.
const LOG: &str = "_delta_log";

/// Whether a folder holds a table; the folder of its log is made before the first commit.
fn has_commits(folder: &Path) -> bool {
    let is_commit = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(|first: char| first.is_ascii_digit()) && name.ends_with(".json")
    };
    fs::read_dir(folder.join(LOG)).is_ok_and(|entries| entries.flatten().any(is_commit))
}

/// Makes the content of a file, or the entries of a folder, survive a power failure.
fn sync(path: &Path) -> Result<()> {
    Ok(fs::File::open(path)?.sync_all()?)
}

/// In microseconds.
const DAY: i64 = 86_400_000_000;

/// The day of a time.
fn day_of(micros: i64) -> i64 {
    micros.div_euclid(DAY)
}

fn url_of(folder: &Path) -> Url {
    Url::from_directory_path(folder).expect("a canonical path is absolute")
}

async fn load(folder: &Path) -> Result<DeltaTable> {
    let folder = fs::canonicalize(folder)?;
    DeltaTableBuilder::from_url(url_of(&folder))
        .map_err(external)?
        .load()
        .await
        .map_err(external)
}

async fn create(url: Url, schema: &SchemaRef) -> Result<DeltaTable> {
    let columns: StructType = with_partitions(schema)
        .as_ref()
        .try_into_kernel()
        .map_err(DataFusionError::from)?;
    let table = DeltaTableBuilder::from_url(url)
        .and_then(|builder| builder.build())
        .map_err(external)?;
    CreateBuilder::new()
        .with_log_store(table.log_store())
        .with_save_mode(SaveMode::ErrorIfExists)
        .with_columns(columns.fields().cloned())
        .with_partition_columns(PARTITIONS)
        .await
        .map_err(external)
}

/// Files of one table have the same columns; one with others would make it unreadable.
fn check_columns(table: &DeltaTable, schema: &SchemaRef) -> Result<()> {
    let stored = table
        .snapshot()
        .map_err(external)?
        .snapshot()
        .arrow_schema();
    let is_own = |field: &&Arc<Field>| !PARTITIONS.contains(&field.name().as_str());
    let shape = |field: &Arc<Field>| (field.name().clone(), self::stored(field.data_type()));
    let known: BTreeMap<String, DataType> =
        stored.fields().iter().filter(is_own).map(shape).collect();
    let given: BTreeMap<String, DataType> = schema.fields().iter().map(shape).collect();
    let names = known.keys().chain(given.keys()).collect::<BTreeSet<_>>();
    let described = |kind: Option<&DataType>| kind.map_or("missing".to_string(), type_name);
    let different: Vec<String> = names
        .into_iter()
        .filter(|name| known.get(*name) != given.get(*name))
        .map(|name| {
            let (old, new) = (known.get(name), given.get(name));
            format!(
                "`{name}` is {} there and {} here",
                described(old),
                described(new)
            )
        })
        .collect();
    match different.is_empty() {
        true => Ok(()),
        false => exec_err!("the table has other columns: {}", different.join("; ")),
    }
}

/// A column that is null in all rows that come has the type that the table knows.
fn with_known_types(schema: &SchemaRef, table: &DeltaTable) -> Result<SchemaRef> {
    let known = table
        .snapshot()
        .map_err(external)?
        .snapshot()
        .arrow_schema();
    let typed = |field: &Arc<Field>| match known.field_with_name(field.name()) {
        Ok(known) if field.data_type().is_null() => {
            let kind = stored(known.data_type());
            Arc::new(field.as_ref().clone().with_data_type(kind))
        }
        _ => Arc::clone(field),
    };
    let fields: Vec<Arc<Field>> = schema.fields().iter().map(typed).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// A column without a type could never hold a value.
fn check_types(schema: &Schema) -> Result<()> {
    let mut fields = schema.fields().iter();
    match fields.find(|field| field.data_type().is_null()) {
        None => Ok(()),
        Some(field) => exec_err!(
            "the column `{}` is null in all rows, so nothing says its type: write `cast({} as <type>)`",
            field.name(),
            field.name()
        ),
    }
}

/// The unit key, then the columns with the types that are stored.
fn file_schema(columns: &Schema, clustering: &Clustering) -> Result<SchemaRef> {
    for name in [&clustering.unit, &clustering.time, &clustering.id] {
        columns.field_with_name(name)?;
    }
    let unit = columns.field_with_name(&clustering.unit)?;
    check_unit("the rows", unit.name(), unit.data_type())?;
    let mut fields = vec![Field::new(UNIT_KEY, DataType::Int64, false)];
    for field in columns.fields() {
        let is_time = *field.name() == clustering.time;
        let data_type = if is_time {
            TIME_TYPE
        } else {
            stored(field.data_type())
        };
        fields.push(Field::new(field.name(), data_type, !is_time));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The types of a Delta table, which has no unsigned integers and one kind of texts and of bytes.
fn stored(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => stored(values),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        other => other.clone(),
    }
}

fn with_partitions(schema: &SchemaRef) -> SchemaRef {
    let partitions = [
        Field::new(PARTITIONS[0], DataType::Date32, false),
        Field::new(PARTITIONS[1], DataType::Date32, false),
        Field::new(PARTITIONS[2], DataType::Int32, false),
    ];
    let fields = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone())
        .chain(partitions);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn run_file(file: &deltalake::kernel::LogicalFileView, time: &str) -> Result<RunFile> {
    let partitions = file.partition_values_map();
    let value = |name: &str| {
        partitions
            .get(name)
            .cloned()
            .flatten()
            .ok_or_else(|| damaged(&file.path(), name))
    };
    let day = |name: &str| {
        let text = value(name)?;
        let date = chrono::NaiveDate::parse_from_str(&text, "%Y-%m-%d")
            .map_err(|_| damaged(&file.path(), name))?;
        Ok::<i32, DataFusionError>(
            date.signed_duration_since(chrono::NaiveDate::default())
                .num_days() as i32,
        )
    };
    let through = day("through")?;
    let last_moment = (i64::from(through) + 1) * DAY - 1;
    let until = file.stats().and_then(|stats| latest(&stats, time));
    Ok(RunFile {
        until: until.map_or(last_moment, |until| until.min(last_moment)),
        bucket: value("bucket")?
            .parse()
            .map_err(|_| damaged(&file.path(), "bucket"))?,
        day: day("day")?,
        through,
        path: file.path().into_owned(),
        size: file.size().unsigned_abs(),
        rows: file.num_records().unwrap_or_default() as u64,
    })
}

/// The latest time that the statistics of a file allow for, if they say; they leave out what is below a millisecond.
fn latest(stats: &str, time: &str) -> Option<i64> {
    let stats: serde_json::Value = serde_json::from_str(stats).ok()?;
    let text = stats.get("maxValues")?.get(time)?.as_str()?;
    let latest = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(latest.and_utc().timestamp_micros() + 999)
}

fn damaged(path: &str, column: &str) -> DataFusionError {
    DataFusionError::Execution(format!(
        "the file {path} of a clustered table has no readable `{column}`"
    ))
}

fn external(error: deltalake::DeltaTableError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
