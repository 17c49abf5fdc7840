//! The 64 bits that stand for a unit.
//! In: a column of ids, of any type whose values are plain. Out: a key for each, and whether the ids of two tables can be equal. Ids that
//! SQL finds equal have one key: those of a dictionary are those of its values, and bytes that spell a text are that text.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Int64Type, UInt64Type};
use datafusion::error::Result;

/// An integer id itself, or the head of a hash of any other.
// Two of a million text ids share a key with probability 3e-8, two of a hundred million with 3e-4.
pub fn unit_keys(column: &ArrayRef) -> Result<Int64Array> {
    match column.data_type() {
        DataType::Dictionary(..) => {
            let column = column.as_any_dictionary();
            let keys = unit_keys(column.values())?;
            let keys = take(&keys, column.keys(), None)?;
            Ok(keys.as_primitive::<Int64Type>().clone())
        }
        DataType::UInt64 => {
            let ids = column.as_primitive::<UInt64Type>().iter();
            Ok(ids.map(|id| id.map(unsigned_key)).collect())
        }
        kind if kind.is_integer() => {
            let ids = cast(column, &DataType::Int64)?;
            Ok(ids.as_primitive::<Int64Type>().clone())
        }
        // Ids of 16 bytes are seldom texts, and a cast to one would make them NULL.
        kind if IdKind::of(kind) == IdKind::Bytes => {
            let ids = cast(column, &DataType::LargeBinary)?;
            let ids = ids.as_binary::<i64>().iter();
            Ok(ids.map(|id| id.map(hashed)).collect())
        }
        _ => {
            let ids = cast(column, &DataType::Utf8)?;
            let ids = ids.as_string::<i32>().iter();
            Ok(ids.map(|id| id.map(|id| hashed(id.as_bytes()))).collect())
        }
    }
}

/// Ids that a key cannot hold are hashed as texts are.
fn unsigned_key(id: u64) -> i64 {
    i64::try_from(id).unwrap_or_else(|_| hashed(id.to_string().as_bytes()))
}

fn hashed(id: &[u8]) -> i64 {
    let hash = blake3::hash(id);
    let (head, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash has 32 bytes");
    i64::from_le_bytes(*head)
}

/// Ids of one kind can be equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// No id at all.
    Null,
    Integer,
    Text,
    Bytes,
    /// Decimals, dates and others, each type for itself.
    Other(DataType),
}

impl IdKind {
    pub fn of(data_type: &DataType) -> IdKind {
        match data_type {
            DataType::Dictionary(_, values) => IdKind::of(values),
            DataType::Null => IdKind::Null,
            kind if kind.is_integer() => IdKind::Integer,
            kind if kind.is_string() => IdKind::Text,
            DataType::FixedSizeBinary(_) => IdKind::Bytes,
            kind if kind.is_binary() => IdKind::Bytes,
            other => IdKind::Other(other.clone()),
        }
    }

    pub fn can_equal(&self, other: &IdKind) -> bool {
        use IdKind::{Bytes, Null, Text};
        self == other
            || matches!(
                (self, other),
                (Null, _) | (_, Null) | (Text, Bytes) | (Bytes, Text)
            )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, StringArray, UInt64Array,
    };
    use datafusion::arrow::datatypes::Int8Type;

    use super::*;

    /// Ids of 16 bytes that are no text, the first and the last alike, with none between.
    fn uuids() -> BinaryArray {
        let id = |last: u8| {
            let mut id = [0xff_u8; 16];
            id[15] = last;
            id.to_vec()
        };
        [Some(id(1)), None, Some(id(2)), Some(id(1))]
            .into_iter()
            .collect()
    }

    fn keys(column: impl Array + 'static) -> Vec<Option<i64>> {
        let column = Arc::new(column) as ArrayRef;
        unit_keys(&column).unwrap().iter().collect()
    }

    #[test]
    fn ids_of_bytes_have_keys_however_they_are_held() {
        let expected = keys(uuids());
        assert_eq!(expected[1], None);
        assert!(expected[0].is_some() && expected[0] != expected[2]);
        assert_eq!(expected[0], expected[3]);
        for kind in [
            DataType::LargeBinary,
            DataType::BinaryView,
            DataType::FixedSizeBinary(16),
            DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::Binary)),
        ] {
            let held = cast(&uuids(), &kind).unwrap();
            let found: Vec<_> = unit_keys(&held).unwrap().iter().collect();
            assert_eq!(found, expected, "{kind}");
        }
        let values = FixedSizeBinaryArray::try_from_iter([[255_u8; 16], [0; 16]].iter()).unwrap();
        let places = [Some(1), None, Some(0)].into_iter().collect();
        let dictionary = DictionaryArray::<Int8Type>::new(places, Arc::new(values.clone()));
        let of_values = keys(values);
        assert_eq!(keys(dictionary), [of_values[1], None, of_values[0]]);
    }

    #[test]
    fn bytes_that_spell_a_text_are_that_text() {
        let texts = StringArray::from(vec!["unit-1", ""]);
        let bytes = cast(&texts, &DataType::Binary).unwrap();
        let found: Vec<_> = unit_keys(&bytes).unwrap().iter().collect();
        assert_eq!(found, keys(texts));
    }

    #[test]
    fn two_booleans_are_two_units() {
        let found = keys(BooleanArray::from(vec![
            Some(true),
            Some(false),
            None,
            Some(true),
        ]));
        assert!(found[0].is_some() && found[1].is_some() && found[0] != found[1]);
        assert_eq!((found[2], found[3]), (None, found[0]));
    }

    #[test]
    fn integers_are_their_own_keys_while_they_fit() {
        let found = keys(UInt64Array::from(vec![0, 7, u64::MAX, 1 << 63]));
        assert_eq!(found[..2], [Some(0), Some(7)]);
        // As bits they would be -1 and the least integer.
        assert!(found[2] != Some(-1) && found[3] != Some(i64::MIN) && found[2] != found[3]);
    }
}
