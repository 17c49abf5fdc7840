//! Which of some rows are stored already.
//! In: rows with their buckets, in the stored types. Out: the same rows without those that a run holds. Only runs of the rows' buckets and
//! times are opened, and of those only unit keys and times are read through; ids only where both are those of a row.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder};
use datafusion::arrow::buffer::{BooleanBuffer, ScalarBuffer};
use datafusion::arrow::compute::{filter, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf, ident, lit};
use datafusion::prelude::SessionContext;

use super::{BUCKET, ClusteredFacts, DAY, RunFile, TIME_TYPE, UNIT_KEY};

impl ClusteredFacts {
    /// The rows that no run holds, and how many runs were opened to know.
    pub(super) async fn without_stored(
        &self,
        context: &SessionContext,
        runs: &[RunFile],
        batches: Vec<RecordBatch>,
    ) -> Result<(Vec<RecordBatch>, usize)> {
        let late = self.late(runs, &batches);
        if late.rows.is_empty() {
            return Ok((batches, 0));
        }
        let table = self
            .provider()?
            .restricted(|run| late.paths.contains(run.path.as_str()));
        let opened = table.runs().len();
        let (first, last) = (late.rows[0].0, late.rows[late.rows.len() - 1].0);
        // Row groups of other units are not even decoded.
        let near = ident(UNIT_KEY).between(lit(first), lit(last));
        let names = [UNIT_KEY, &self.clustering.time, &self.clustering.id];
        let same = late_function(late.rows).call(vec![ident(names[0]), ident(names[1])]);
        let stored = context.read_table(Arc::new(table))?;
        let stored = stored
            .filter(near.and(same))?
            .select(names.map(ident).to_vec())?;
        let stored = stored.collect().await?;
        if stored.iter().all(|batch| batch.num_rows() == 0) {
            return Ok((batches, opened));
        }
        let known = Known::of(&names, &stored)?;
        let unknown = batches.iter().map(|batch| known.without(batch));
        Ok((unknown.collect::<Result<_>>()?, opened))
    }

    /// Rows of times that a run of their bucket reaches over.
    fn late<'a>(&self, runs: &'a [RunFile], batches: &[RecordBatch]) -> Late<'a> {
        let mut rows = Vec::new();
        let mut of_bucket = vec![Vec::new(); self.clustering.buckets.into()];
        for (number, run) in runs.iter().enumerate() {
            of_bucket[usize::from(run.bucket)].push((number, i64::from(run.day) * DAY, run.until));
        }
        let mut is_opened = vec![false; runs.len()];
        for batch in batches {
            let buckets = column(batch, BUCKET).as_primitive::<Int32Type>();
            let keys = column(batch, UNIT_KEY).as_primitive::<Int64Type>();
            let times = column(batch, &self.clustering.time);
            let times = times.as_primitive::<TimestampMicrosecondType>();
            for row in 0..batch.num_rows() {
                let time = times.value(row);
                let mut is_late = false;
                for (number, from, until) in &of_bucket[buckets.value(row) as usize] {
                    if (*from..=*until).contains(&time) {
                        is_late = true;
                        is_opened[*number] = true;
                    }
                }
                if is_late {
                    rows.push((keys.value(row), time));
                }
            }
        }
        rows.sort_unstable();
        let opened = runs
            .iter()
            .zip(is_opened)
            .filter(|(_, is_opened)| *is_opened);
        let paths = opened.map(|(run, _)| run.path.as_str()).collect();
        Late { rows, paths }
    }
}

/// Rows that may be stored.
struct Late<'a> {
    /// Unit keys and times, sorted.
    rows: Vec<(i64, i64)>,
    /// The runs that may hold them.
    paths: HashSet<&'a str>,
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch
        .column_by_name(name)
        .expect("a clustered batch has the clustering columns")
}

/// Whether a unit key and a time are those of a row.
fn late_function(rows: Vec<(i64, i64)>) -> ScalarUDF {
    let function = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let keys = arrays[0].as_primitive::<Int64Type>().values();
        let times = arrays[1].as_primitive::<TimestampMicrosecondType>();
        let found = BooleanArray::new(are_late(&rows, keys, times.values()), None);
        Ok(ColumnarValue::Array(Arc::new(found) as ArrayRef))
    };
    create_udf(
        "is_late",
        vec![DataType::Int64, TIME_TYPE],
        DataType::Boolean,
        Volatility::Immutable,
        Arc::new(function),
    )
}

/// Which keys and times are among sorted ones. Most keys lie between two of the sorted ones, as most before them did, for stored rows
/// are sorted too: then two comparisons are all there is to do.
fn are_late(rows: &[(i64, i64)], keys: &[i64], times: &[i64]) -> BooleanBuffer {
    let mut found = BooleanBufferBuilder::new(keys.len());
    found.append_n(keys.len(), false);
    let (mut gap, mut unit): (_, &[(i64, i64)]) = (0..0, &[]);
    for (at, key) in keys.iter().enumerate() {
        if gap.contains(key) {
            continue;
        }
        if unit.first().is_none_or(|row| row.0 != *key) {
            let from = &rows[rows.partition_point(|row| row.0 < *key)..];
            unit = &from[..from.partition_point(|row| row.0 == *key)];
            if unit.is_empty() {
                gap = *key..from.first().map_or(i64::MAX, |row| row.0);
            }
        }
        if unit.binary_search(&(*key, times[at])).is_ok() {
            found.set_bit(at, true);
        }
    }
    found.finish()
}

/// Stored rows by unit key, time and id.
struct Known<'a> {
    names: &'a [&'a str; 3],
    converter: RowConverter,
    /// Unit keys and times, sorted.
    moments: Vec<(i64, i64)>,
    rows: HashSet<OwnedRow>,
}

impl<'a> Known<'a> {
    fn of(names: &'a [&'a str; 3], stored: &[RecordBatch]) -> Result<Known<'a>> {
        let schema = stored[0].schema();
        let field = |name: &&str| {
            Ok(SortField::new(
                schema.field_with_name(name)?.data_type().clone(),
            ))
        };
        let fields = names.iter().map(field).collect::<Result<_>>()?;
        let mut known = Known {
            names,
            converter: RowConverter::new(fields)?,
            moments: Vec::new(),
            rows: HashSet::new(),
        };
        for batch in stored {
            let rows = known.converter.convert_columns(batch.columns())?;
            known.rows.extend(rows.iter().map(|row| row.owned()));
            let (keys, times) = (known.keys(batch), known.times(batch));
            known
                .moments
                .extend(keys.iter().copied().zip(times.iter().copied()));
        }
        known.moments.sort_unstable();
        Ok(known)
    }

    fn keys(&self, batch: &RecordBatch) -> ScalarBuffer<i64> {
        let keys = column(batch, self.names[0]).as_primitive::<Int64Type>();
        keys.values().clone()
    }

    fn times(&self, batch: &RecordBatch) -> ScalarBuffer<i64> {
        let times = column(batch, self.names[1]).as_primitive::<TimestampMicrosecondType>();
        times.values().clone()
    }

    /// A batch without known rows: ids are compared only where unit and time are known.
    fn without(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let is_near = are_late(&self.moments, &self.keys(batch), &self.times(batch));
        if is_near.count_set_bits() == 0 {
            return Ok(batch.clone());
        }
        let mut is_new = BooleanBufferBuilder::new(batch.num_rows());
        is_new.append_n(batch.num_rows(), true);
        let near = BooleanArray::new(is_near.clone(), None);
        let columns = self.names.map(|name| filter(column(batch, name), &near));
        let columns = columns.into_iter().collect::<Result<Vec<_>, _>>()?;
        let rows = self.converter.convert_columns(&columns)?;
        for (at, row) in is_near.set_indices().zip(rows.iter()) {
            is_new.set_bit(at, !self.rows.contains(&row.owned()));
        }
        let is_new = BooleanArray::new(is_new.finish(), None);
        Ok(filter_record_batch(batch, &is_new)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_times_are_found_in_any_order() {
        let rows = [(3, 1), (3, 5), (7, 2), (i64::MAX, 0)];
        let mut random = 9u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
            (random >> 33) % below
        };
        for _ in 0..200 {
            let keys: Vec<i64> = (0..40)
                .map(|_| [3, 5, 7, 8, i64::MAX, i64::MIN][next(6) as usize])
                .collect();
            let times: Vec<i64> = (0..40).map(|_| next(7) as i64).collect();
            let expected: Vec<bool> = keys
                .iter()
                .zip(&times)
                .map(|(key, time)| rows.contains(&(*key, *time)))
                .collect();
            let found: Vec<bool> = are_late(&rows, &keys, &times).iter().collect();
            assert_eq!(found, expected);
        }
    }
}
