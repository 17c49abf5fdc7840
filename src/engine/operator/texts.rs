//! Codes of 16 bits that stand for texts, batch by batch.
//! In: columns of texts, as dictionaries or not. Out: [`Codes`], one per row, as a caller gives them, and [`Texts`], which gives each distinct
//! text the next one.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{AnyDictionaryArray, Array, ArrayData, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::error::Result;

/// Distinct texts of a column, in the order in which they came.
#[derive(Default)]
pub struct Texts {
    pub known: Vec<Option<String>>,
    positions: HashMap<Option<String>, u16>,
}

impl Texts {
    pub fn position(&mut self, text: Option<&str>) -> u16 {
        let text = text.map(str::to_owned);
        let next = self.known.len() as u16;
        let known = &mut self.known;
        *self.positions.entry(text).or_insert_with_key(|text| {
            known.push(text.clone());
            next
        })
    }
}

/// A code per row of a column of texts; batch by batch.
#[derive(Default)]
pub struct Codes {
    pub rows: Vec<u16>,
    /// The dictionary of the last batch, and the codes of its texts: a file has one for many batches.
    dictionary: Option<ArrayData>,
    by_value: Vec<u16>,
}

impl Codes {
    /// A text must have the same code whenever it is asked for.
    pub fn read(
        &mut self,
        column: &ArrayRef,
        mut code: impl FnMut(Option<&str>) -> u16,
    ) -> Result<()> {
        self.rows.clear();
        if let DataType::Dictionary(..) = column.data_type() {
            return self.read_dictionary(column.as_any_dictionary(), code);
        }
        let texts = cast(column, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let mut last: Option<(Option<&str>, u16)> = None;
        let code_of = |text| match last {
            Some((known, code)) if known == text => code,
            _ => {
                let found = code(text);
                last = Some((text, found));
                found
            }
        };
        self.rows.extend(texts.iter().map(code_of));
        Ok(())
    }

    fn read_dictionary(
        &mut self,
        column: &dyn AnyDictionaryArray,
        mut code: impl FnMut(Option<&str>) -> u16,
    ) -> Result<()> {
        let values = column.values().to_data();
        let is_last = |last: &ArrayData| last.ptr_eq(&values);
        if !self.dictionary.as_ref().is_some_and(is_last) {
            let texts = cast(column.values(), &DataType::Utf8)?;
            self.by_value.clear();
            self.by_value
                .extend(texts.as_string::<i32>().iter().map(&mut code));
            self.dictionary = Some(values);
        }
        let keys = Arc::new(column.keys().slice(0, column.len())) as ArrayRef;
        let keys = cast(&keys, &DataType::Int32)?;
        let keys = keys.as_primitive::<Int32Type>();
        let by_value = &self.by_value;
        match keys.null_count() {
            0 => {
                let keys = keys.values().iter();
                self.rows.extend(keys.map(|key| by_value[*key as usize]));
            }
            _ => {
                let of_null = code(None);
                let coded = |key: Option<i32>| key.map_or(of_null, |key| by_value[key as usize]);
                self.rows.extend(keys.iter().map(coded));
            }
        }
        Ok(())
    }
}
