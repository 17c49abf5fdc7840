//! What tells the rows of clustered facts apart: unit key, time and id.
//! In: a batch with these columns, perhaps in other types that mean the same. Out: keys that can be compared and kept in sets, those of
//! stored rows with those of rows that come.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::Result;

use super::{ClusteredFacts, UNIT_KEY};

pub(super) struct RowKeys {
    /// Of unit key, time and id.
    pub names: [String; 3],
    /// The types of the files.
    types: [DataType; 3],
    converter: RowConverter,
}

impl RowKeys {
    pub fn of(facts: &ClusteredFacts) -> Result<RowKeys> {
        let clustering = &facts.clustering;
        let names = [UNIT_KEY, &clustering.time, &clustering.id].map(str::to_owned);
        let kind = |name: &String| facts.schema.field_with_name(name).cloned();
        let [unit, time, id] = names.each_ref().map(kind);
        let types = [unit?, time?, id?].map(|field| field.data_type().clone());
        let fields = types.iter().cloned().map(SortField::new);
        Ok(RowKeys {
            converter: RowConverter::new(fields.collect())?,
            names,
            types,
        })
    }

    /// One key per row.
    pub fn rows(&self, batch: &RecordBatch) -> Result<Rows> {
        let column = |(name, kind): (&String, &DataType)| {
            let column = batch.column(batch.schema_ref().index_of(name)?);
            Ok(cast(column, kind)?)
        };
        let columns = self.names.iter().zip(&self.types).map(column);
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        Ok(self.converter.convert_columns(&columns)?)
    }
}
