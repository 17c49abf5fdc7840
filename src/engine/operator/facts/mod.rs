//! Facts clustered by unit: a Delta table of sorted runs.
//! In: rows with a unit, a time and an id, in any order, some of them seen before. Out: one file per unit bucket and span of days
//! ([`spans`]) and append, sorted by (unit key, time, id); compaction merges runs. A row goes to the days of its own time however late
//! it comes, and a row that is stored already, with the same unit, time and id, is dropped; of two that differ in other columns, one
//! stays whatever came first ([`values`]): so retries and re-runs in any order end in the same rows.
//!
//! Partition columns: `day` and `through`, the first and last day that a run holds rows of, and `bucket`.

mod append;
mod columns;
mod compact;
mod log;
mod maintain;
mod provider;
mod row_keys;
mod spans;
mod stored;
mod values;
mod write;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::basic::{Compression, Encoding, ZstdLevel};
use datafusion::parquet::file::metadata::SortingColumn;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use deltalake::DeltaTable;
use deltalake::datafile::writer::WriterConfig;
use deltalake::kernel::Add;

use crate::warehouse::IoContext as _;
use columns::{schema_of, stored_columns};
use log::{create, has_commits, load, new_table, stored_files};

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
    /// Without a version until [`ClusteredFacts::finish`] where one commit will name all files.
    table: DeltaTable,
    /// Columns of the files: the unit key, then the columns as given.
    schema: SchemaRef,
    /// What the log says, or will.
    files: Vec<StoredFile>,
}

struct StoredFile {
    run: RunFile,
    entry: Add,
}

/// Files that lie in a folder where a table is being made, and the columns of the table that they come from.
pub struct Shared {
    pub files: Vec<Add>,
    pub schema: SchemaRef,
}

impl ClusteredFacts {
    /// Opens the table in `folder`, or creates it empty for rows of the given columns.
    pub async fn open(
        folder: &Path,
        columns: &Schema,
        clustering: Clustering,
    ) -> Result<ClusteredFacts> {
        fs::create_dir_all(folder).context("create the folder", folder)?;
        let folder = fs::canonicalize(folder)?;
        let table = match has_commits(&folder) {
            true => Some(load(&folder).await?),
            false => None,
        };
        let stored = table.as_ref().map(stored_columns).transpose()?;
        let schema = schema_of(columns, &clustering, stored.as_deref())?;
        // What killed an earlier first append may have left one without the other.
        ClusteredFacts::remember(&folder, &clustering)?;
        let table = match table {
            Some(table) => table,
            None => create(new_table(&folder)?, &schema, Vec::new()).await?,
        };
        ClusteredFacts::of(folder, table, schema, clustering)
    }

    fn of(
        folder: PathBuf,
        table: DeltaTable,
        schema: SchemaRef,
        clustering: Clustering,
    ) -> Result<ClusteredFacts> {
        let state = table.snapshot().map_err(external)?;
        let log = state.log_data();
        let files = log.iter().map(|file| crate::warehouse::entry_of(&file));
        let files = stored_files(files, &clustering)?;
        Ok(ClusteredFacts {
            folder,
            clustering,
            table,
            schema,
            files,
        })
    }

    /// Begins a table in a folder that nobody reads yet; it has the files that lie there. [`ClusteredFacts::finish`] gives it its log.
    pub fn begin(
        folder: &Path,
        columns: &Schema,
        clustering: Clustering,
        shared: Option<Shared>,
    ) -> Result<ClusteredFacts> {
        let folder = fs::canonicalize(folder)?;
        let stored = shared.as_ref().map(|shared| shared.schema.as_ref());
        let schema = schema_of(columns, &clustering, stored)?;
        match &shared {
            Some(_) => ClusteredFacts::check_remembered(&folder, &clustering)?,
            None => ClusteredFacts::remember(&folder, &clustering)?,
        }
        let files = shared.map(|shared| shared.files).unwrap_or_default();
        Ok(ClusteredFacts {
            table: new_table(&folder)?,
            folder,
            schema,
            files: stored_files(files.into_iter(), &clustering)?,
            clustering,
        })
    }

    /// The sorted files, by bucket, day and path.
    pub fn runs(&self) -> Vec<RunFile> {
        self.files.iter().map(|file| file.run.clone()).collect()
    }

    /// The table for queries; the operator merges its runs as they lie.
    pub fn provider(&self) -> Result<ClusteredTable> {
        Ok(ClusteredTable::new(
            &self.folder,
            Arc::clone(&self.schema),
            self.clustering.clone(),
            self.runs(),
        ))
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

/// In microseconds.
const DAY: i64 = 86_400_000_000;

/// The day of a time.
fn day_of(micros: i64) -> i64 {
    micros.div_euclid(DAY)
}

fn external(error: deltalake::DeltaTableError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
