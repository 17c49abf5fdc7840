//! Codes of 64 bits that stand for values of any type, so that distinct values of a unit can be counted.
//! In: an expression. Out: a function call that makes its codes, as eight bytes. Numbers are their own bits; the code of a text is a
//! hash, so that two of a unit's thousand texts share one with a probability of 3e-14.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use twox_hash::XxHash3_64;

use super::batches::CODE;
use super::numbers::NULL;

/// `value_code(expression)`: NULL stays NULL.
pub fn value_code_function(data_type: &DataType) -> ScalarUDF {
    let function = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        Ok(ColumnarValue::Array(
            Arc::new(value_codes(&arrays[0])?) as ArrayRef
        ))
    };
    create_udf(
        "value_code",
        vec![data_type.clone()],
        CODE,
        Volatility::Immutable,
        Arc::new(function),
    )
}

fn value_codes(column: &ArrayRef) -> Result<FixedSizeBinaryArray> {
    let data_type = column.data_type();
    if *data_type == DataType::UInt64 {
        return coded(column.as_primitive::<UInt64Type>().iter());
    }
    if data_type.is_integer() || data_type.is_temporal() {
        let numbers = match data_type {
            DataType::Date32 | DataType::Time32(_) => cast(column, &DataType::Int32)?,
            _ => Arc::clone(column),
        };
        let numbers = cast(&numbers, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>().iter();
        return coded(numbers.map(|number| number.map(|number| number as u64)));
    }
    if data_type.is_floating() {
        let numbers = cast(column, &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>().iter();
        return coded(numbers.map(|number| number.map(number_code)));
    }
    let texts = cast(column, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>().iter();
    coded(texts.map(|text| text.map(|text| XxHash3_64::oneshot(text.as_bytes()))))
}

/// Numbers that are equal have one code, whatever the sign of a zero; so have all that are none.
fn number_code(number: f64) -> u64 {
    match number.is_nan() {
        true => f64::NAN.to_bits(),
        false => (number + 0.0).to_bits(),
    }
}

fn coded(codes: impl Iterator<Item = Option<u64>>) -> Result<FixedSizeBinaryArray> {
    let mut bytes = FixedSizeBinaryBuilder::with_capacity(codes.size_hint().0, 8);
    for code in codes {
        match code {
            None => bytes.append_null(),
            // The bits that mean NULL are taken: a neighbour stands in.
            Some(code) if code == NULL.to_bits() => bytes.append_value((code ^ 1).to_le_bytes())?,
            Some(code) => bytes.append_value(code.to_le_bytes())?,
        }
    }
    Ok(bytes.finish())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Float64Array;

    use super::*;

    #[test]
    fn equal_numbers_have_one_code() {
        let numbers = [0.0, -0.0, f64::NAN, -f64::NAN, 1.0, -1.0];
        let column = Arc::new(Float64Array::from_iter_values(numbers)) as ArrayRef;
        let codes = value_codes(&column).unwrap();
        let code = |at: usize| codes.value(at);
        assert!(code(0) == code(1) && code(2) == code(3));
        assert!(code(4) != code(5) && code(0) != code(2));
    }
}
