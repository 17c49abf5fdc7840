//! Rows that say they are one and differ. In: rows with the same unit, time and id. Out: which of them stays: the one whose other values
//! come first, column by column, nulls before all others. That is the same row in whatever order, and in however many deliveries,
//! they come; so a table that grew holds what a table that is built at once holds.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray, UInt32Array};
use datafusion::arrow::compute::{cast, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::Result;

use super::{ClusteredFacts, UNIT_KEY};

/// The values of rows, beside unit key, time and id, in their order.
pub(super) struct Values {
    columns: Vec<Arc<Field>>,
    converter: RowConverter,
}

impl Values {
    pub fn of(facts: &ClusteredFacts) -> Result<Values> {
        let clustering = &facts.clustering;
        let is_key = |name: &str| [UNIT_KEY, &clustering.time, &clustering.id].contains(&name);
        let fields = facts.schema.fields().iter();
        let columns: Vec<Arc<Field>> = fields
            .filter(|field| !is_key(field.name()))
            .cloned()
            .collect();
        let sorted = columns
            .iter()
            .map(|field| SortField::new(comparable(field)));
        Ok(Values {
            converter: RowConverter::new(sorted.collect())?,
            columns,
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|field| field.name().as_str())
    }

    /// One of a batch that has these columns, perhaps in other types that mean the same.
    pub fn rows(&self, batch: &RecordBatch) -> Result<Rows> {
        let column = |field: &Arc<Field>| {
            let column = batch.column(batch.schema_ref().index_of(field.name())?);
            let column = cast(column, field.data_type())?;
            match comparable(field) == *field.data_type() {
                true => Ok(column),
                false => as_text(&column),
            }
        };
        let columns: Vec<ArrayRef> = self.columns.iter().map(column).collect::<Result<_>>()?;
        // A table may have no column beside its keys, which all other rows are alike in.
        match columns.is_empty() {
            true => Ok(self.converter.empty_rows(0, 0)),
            false => Ok(self.converter.convert_columns(&columns)?),
        }
    }

    /// Of rows in ranges of the same key: the places of those that stay, and how many of the others have other values than theirs.
    pub fn first_of_each(
        &self,
        rows: &RecordBatch,
        ranges: &[std::ops::Range<usize>],
    ) -> Result<(UInt32Array, u64)> {
        let repeated = ranges.iter().filter(|range| range.len() > 1).cloned();
        let places: UInt32Array = repeated.flatten().map(|place| place as u32).collect();
        if places.is_empty() || self.columns.is_empty() {
            let first = ranges.iter().map(|range| range.start as u32);
            return Ok((first.collect(), 0));
        }
        // Only rows that come more than once are looked at.
        let values = self.rows(&take_record_batch(rows, &places)?)?;
        let (mut at, mut differing) = (0, 0);
        let mut first = Vec::with_capacity(ranges.len());
        for range in ranges {
            if range.len() == 1 {
                first.push(range.start as u32);
                continue;
            }
            let own = at..at + range.len();
            at = own.end;
            let least = own.clone().min_by_key(|row| values.row(*row));
            let least = least.expect("a range of several rows");
            let is_other = |row: &usize| values.row(*row) != values.row(least);
            differing += own.clone().filter(is_other).count() as u64;
            first.push((range.start + least - own.start) as u32);
        }
        Ok((UInt32Array::from(first), differing))
    }
}

/// The type that a column is compared in: maps and the like as texts.
fn comparable(field: &Field) -> DataType {
    let can_sort = RowConverter::supports_fields(&[SortField::new(field.data_type().clone())]);
    match can_sort {
        true => field.data_type().clone(),
        false => DataType::Utf8,
    }
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    let text = |row| (!column.is_null(row)).then(|| formatter.value(row).to_string());
    let texts: StringArray = (0..column.len()).map(text).collect();
    Ok(Arc::new(texts))
}
