//! Facts clustered by unit: a Delta table of sorted runs.
//! In: rows with a unit, a time and an id, in any order, some of them seen before. Out: one file per day and unit bucket and append, sorted
//! by (unit key, time, id); compaction merges runs. A row goes to the day of its own time however late it comes, and a row
//! whose id is stored already is dropped: so retries and re-runs in any order end in the same rows.
//!
//! Partition columns: `day` and `through`, the first and last day of a run (equal until runs are merged), and `bucket`.

mod append;
mod compact;
mod maintain;
mod provider;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::metadata::SortingColumn;
use datafusion::parquet::file::properties::WriterProperties;
use deltalake::datafile::writer::WriterConfig;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, StructType};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableBuilder};
use url::Url;

pub use append::Appended;
pub use compact::Compacted;
pub use provider::ClusteredTable;

/// The sort key's first column: 64 bits that stand for a unit.
pub const UNIT_KEY: &str = "unit_key";
const PARTITIONS: [&str; 3] = ["day", "through", "bucket"];

/// Which columns cluster the rows.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Clustering {
    pub unit: String,
    pub time: String,
    /// Tells rows apart; two rows with the same unit and id are one.
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
        let schema = file_schema(columns, &clustering)?;
        let table = match folder.join("_delta_log").is_dir() {
            true => load(&folder).await?,
            false => {
                let table = create(url_of(&folder), &schema).await?;
                ClusteredFacts::remember(&folder, &clustering)?;
                table
            }
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
            .map(|file| run_file(&file))
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

    async fn commit(&mut self, actions: Vec<Action>, operation: DeltaOperation) -> Result<()> {
        let state = self.table.snapshot().map_err(external)?.clone();
        let log = self.table.log_store();
        CommitBuilder::default()
            .with_actions(actions)
            .build(Some(&state), log, operation)
            .await
            .map_err(external)?;
        self.table.update_state().await.map_err(external)
    }

    fn append_operation(&self) -> DeltaOperation {
        let partition_by = Some(PARTITIONS.map(str::to_owned).to_vec());
        DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by,
            predicate: None,
        }
    }

    /// Files are small enough to be one per partition and append.
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
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(256 * 1024))
            .set_sorting_columns(Some(sorting))
            .build();
        let schema = with_partitions(&self.schema);
        WriterConfig::new(
            schema,
            PARTITIONS.map(str::to_owned).to_vec(),
            Some(properties),
            None,
            None,
            Default::default(),
            None,
        )
    }
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

/// The unit key, then the columns with the types that are stored.
fn file_schema(columns: &Schema, clustering: &Clustering) -> Result<SchemaRef> {
    for name in [&clustering.unit, &clustering.time, &clustering.id] {
        columns.field_with_name(name)?;
    }
    let mut fields = vec![Field::new(UNIT_KEY, DataType::Int64, false)];
    for field in columns.fields() {
        let is_time = *field.name() == clustering.time;
        let data_type = if is_time {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        } else {
            stored(field.data_type())
        };
        fields.push(Field::new(field.name(), data_type, !is_time));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn stored(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(..) => DataType::Utf8,
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

fn run_file(file: &deltalake::kernel::LogicalFileView) -> Result<RunFile> {
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
    Ok(RunFile {
        bucket: value("bucket")?
            .parse()
            .map_err(|_| damaged(&file.path(), "bucket"))?,
        day: day("day")?,
        through: day("through")?,
        path: file.path().into_owned(),
        size: file.size().unsigned_abs(),
        rows: file.num_records().unwrap_or_default() as u64,
    })
}

fn damaged(path: &str, column: &str) -> DataFusionError {
    DataFusionError::Execution(format!(
        "the file {path} of a clustered table has no readable `{column}`"
    ))
}

fn external(error: deltalake::DeltaTableError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
