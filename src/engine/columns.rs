//! Plain columns of a log and how they become a Parquet file.
//! In: [`Column`]s of equal length, written batch by batch. Out: a zstd Parquet file without anything of Arrow in its metadata,
//! so that every reader sees text as text. Which rows exist is decided by the caller.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt16Array,
};
use datafusion::arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::UInt16Type;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;

/// One column of values; nothing is null except where a variant says so.
pub enum Column {
    Text(Text),
    /// Few distinct texts: a label per code.
    Category(Vec<u16>, Vec<String>),
    Integer(Vec<i64>),
    OptionalInteger(Vec<Option<i32>>),
    OptionalBoolean(Vec<Option<bool>>),
    Number(Vec<f64>),
    Boolean(Vec<bool>),
    /// Microseconds since 1970, UTC; written without a zone.
    Time(Vec<i64>),
}

/// Many texts in one buffer.
#[derive(Default)]
pub struct Text {
    bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Text {
    pub fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends
            .push(i32::try_from(self.bytes.len()).expect("a batch of text stays below 2 GiB"));
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, index: usize) -> &str {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        std::str::from_utf8(&self.bytes[start..self.ends[index] as usize])
            .expect("only whole texts are pushed")
    }
}

impl FromIterator<String> for Text {
    fn from_iter<I: IntoIterator<Item = String>>(texts: I) -> Text {
        let mut collected = Text::default();
        texts.into_iter().for_each(|text| collected.push(&text));
        collected
    }
}

/// A Parquet file being written.
pub struct ParquetFile {
    names: Vec<&'static str>,
    file: Option<File>,
    writer: Option<ArrowWriter<File>>,
}

impl ParquetFile {
    pub fn create(path: &Path, names: &[&'static str]) -> Result<ParquetFile> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(ParquetFile {
            names: names.to_vec(),
            file: Some(file),
            writer: None,
        })
    }

    /// Appends rows; the first call fixes the types.
    pub fn write(&mut self, columns: Vec<Column>) -> Result<()> {
        let arrays = self
            .names
            .iter()
            .copied()
            .zip(columns.into_iter().map(array));
        let batch = RecordBatch::try_from_iter(arrays)?;
        if let Some(file) = self.file.take() {
            let options = ArrowWriterOptions::new()
                .with_properties(properties()?)
                .with_skip_arrow_metadata(true);
            self.writer = Some(ArrowWriter::try_new_with_options(
                file,
                batch.schema(),
                options,
            )?);
        }
        let writer = self
            .writer
            .as_mut()
            .expect("the first write opens the writer");
        Ok(writer.write(&batch)?)
    }

    pub fn close(self) -> Result<()> {
        if let Some(writer) = self.writer {
            writer.close()?;
        }
        Ok(())
    }
}

fn properties() -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(1)?;
    let row_group = Some(256 * 1024);
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(row_group)
        .build())
}

fn array(column: Column) -> ArrayRef {
    match column {
        Column::Text(text) => text_array(text),
        Column::Category(codes, labels) => {
            let labels = Arc::new(StringArray::from(labels));
            Arc::new(DictionaryArray::<UInt16Type>::new(
                UInt16Array::from(codes),
                labels,
            ))
        }
        Column::Integer(values) => Arc::new(Int64Array::from(values)),
        Column::OptionalInteger(values) => Arc::new(Int32Array::from(values)),
        Column::OptionalBoolean(values) => Arc::new(BooleanArray::from(values)),
        Column::Number(values) => Arc::new(Float64Array::from(values)),
        Column::Boolean(values) => Arc::new(BooleanArray::from(values)),
        Column::Time(values) => Arc::new(TimestampMicrosecondArray::from(values)),
    }
}

fn text_array(text: Text) -> ArrayRef {
    let offsets: Vec<i32> = std::iter::once(0).chain(text.ends).collect();
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Arc::new(StringArray::new(
        offsets,
        Buffer::from_vec(text.bytes),
        None,
    ))
}
