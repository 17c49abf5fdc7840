//! Every statistical SQL function against hostile values: NULL, NaN, infinities, empty and ragged lists, broken states.
//! Each must answer with a status, or with NULL, or refuse the query in words: no panic, no NaN that looks like a result, no
//! call that runs for ever.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, Int64Array, ListBuilder,
    NullArray, StringArray, StructArray, new_null_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{cast, concat, take};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, UInt32Type};
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use equipoise::sql::functions;
use equipoise::stats::random::Stream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROWS: usize = 120;

#[test]
fn no_function_panics_or_invents_a_number_on_hostile_values() {
    let mut complaints = Vec::new();
    for function in functions::scalars() {
        for types in signatures(&function) {
            let columns: Vec<ArrayRef> = types
                .iter()
                .enumerate()
                .map(|(place, kind)| drawn(kind, place as u64))
                .collect();
            let started = Instant::now();
            complaints.extend(call(&function, &columns).err());
            if started.elapsed() > Duration::from_secs(60) {
                complaints.push(format!("{} took {:?}", function.name(), started.elapsed()));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_function_takes_nulls_of_no_type_and_empty_batches() {
    for function in functions::scalars() {
        for types in signatures(&function) {
            let nulls: Vec<ArrayRef> = types
                .iter()
                .map(|_| Arc::new(NullArray::new(3)) as ArrayRef)
                .collect();
            let empty: Vec<ArrayRef> = types.iter().map(|kind| new_null_array(kind, 0)).collect();
            for columns in [nulls, empty] {
                call(&function, &columns).unwrap_or_else(|complaint| panic!("{complaint}"));
            }
        }
    }
}

#[test]
fn a_wrong_type_is_refused_when_the_query_is_planned() {
    let wrong = [
        DataType::Date32,
        DataType::Binary,
        DataType::Duration(datafusion::arrow::datatypes::TimeUnit::Second),
    ];
    for function in functions::scalars().iter().filter(is_statistic) {
        for types in signatures(function) {
            for (place, kind) in
                (0..types.len()).flat_map(|place| wrong.iter().map(move |kind| (place, kind)))
            {
                let mut given = types.clone();
                given[place] = kind.clone();
                let error = function
                    .coerce_types(&given)
                    .err()
                    .map(|error| error.to_string())
                    .unwrap_or_default();
                assert!(
                    error.contains(function.name()) && error.contains("takes"),
                    "{} with {kind} at {place}: {error}",
                    function.name()
                );
            }
        }
    }
}

/// Bucketing hashes its arguments as they are written, so it takes any type.
fn is_statistic(function: &&Arc<ScalarUDF>) -> bool {
    !["bucket", "assign", "semver"].contains(&function.name())
}

/// The ways to call a function: NULLs are taken for any parameter, so coercing them tells its types.
fn signatures(function: &ScalarUDF) -> Vec<Vec<DataType>> {
    (0..16)
        .filter_map(|count| function.coerce_types(&vec![DataType::Null; count]).ok())
        .collect()
}

fn call(function: &ScalarUDF, columns: &[ArrayRef]) -> Result<(), String> {
    let types: Vec<DataType> = columns
        .iter()
        .map(|column| column.data_type().clone())
        .collect();
    let name = function.name().to_string();
    let coerced = function
        .coerce_types(&types)
        .map_err(|error| format!("{name}: {error}"))?;
    let arguments: Vec<ArrayRef> = columns
        .iter()
        .zip(&coerced)
        .map(|(column, kind)| cast(column, kind).expect("the drawn values have the type"))
        .collect();
    let rows = columns.first().map_or(1, |column| column.len());
    let outcome = catch_unwind(AssertUnwindSafe(|| invoke(function, arguments, rows)));
    let result = match outcome {
        Err(_) => return Err(format!("{name} panics on {coerced:?}")),
        // The query is refused: by words of ours, not by a broken invariant of the engine.
        Ok(Err(error)) if error.contains("Internal") => return Err(format!("{name}: {error}")),
        Ok(Err(_)) => return Ok(()),
        Ok(Ok(result)) => result,
    };
    if result.len() != rows {
        return Err(format!("{name} gives {} of {rows} rows", result.len()));
    }
    match result.as_struct_opt() {
        Some(record) if record.column_by_name("status").is_some() => judge(&name, record, columns),
        _ => Ok(()),
    }
}

fn invoke(function: &ScalarUDF, arguments: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef, String> {
    let fields = arguments
        .iter()
        .map(|column| Arc::new(Field::new("argument", column.data_type().clone(), true)))
        .collect();
    let types: Vec<DataType> = arguments
        .iter()
        .map(|column| column.data_type().clone())
        .collect();
    let returns = function
        .return_type(&types)
        .map_err(|error| error.to_string())?;
    let call = ScalarFunctionArgs {
        args: arguments.into_iter().map(ColumnarValue::Array).collect(),
        arg_fields: fields,
        number_rows: rows,
        return_field: Arc::new(Field::new("result", returns, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    function
        .invoke_with_args(call)
        .and_then(|value| value.into_array(rows))
        .map_err(|error| error.to_string())
}

/// Every row has a status, and no number is NaN or infinite.
fn judge(name: &str, record: &StructArray, inputs: &[ArrayRef]) -> Result<(), String> {
    let status = record
        .column_by_name("status")
        .expect("it was asked for")
        .as_string::<i32>();
    for row in 0..record.len() {
        if status.is_null(row) || status.value(row).is_empty() {
            return Err(format!("{name} has no status in row {row}"));
        }
        for (field, column) in record.column_names().iter().zip(record.columns()) {
            let numbers = match column.data_type() {
                DataType::Float64 => Some(column.slice(row, 1)),
                DataType::List(_) if column.is_valid(row) => {
                    Some(column.as_list::<i32>().value(row))
                }
                _ => None,
            };
            let is_lost = numbers.is_some_and(|numbers| {
                numbers
                    .as_primitive::<Float64Type>()
                    .iter()
                    .flatten()
                    .any(|number| !number.is_finite())
            });
            if is_lost {
                let inputs: Vec<String> = inputs
                    .iter()
                    .map(|input| format!("{:?}", input.slice(row, 1)))
                    .collect();
                return Err(format!(
                    "{name}: `{field}` is not finite, status {}, for {}",
                    status.value(row),
                    inputs.join(" ")
                ));
            }
        }
    }
    Ok(())
}

/// A column of hostile values of a type, the same in every run.
fn drawn(kind: &DataType, seed: u64) -> ArrayRef {
    let pool = pool(kind);
    let mut stream = Stream::new(seed.wrapping_mul(77) + 5);
    let places: datafusion::arrow::array::PrimitiveArray<UInt32Type> = (0..ROWS)
        .map(|_| stream.below(pool.len() as u64) as u32)
        .collect();
    take(&pool, &places, None).expect("the places are within the pool")
}

fn pool(kind: &DataType) -> ArrayRef {
    match kind {
        DataType::Float64 => Arc::new(Float64Array::from(numbers())),
        DataType::Int64 => Arc::new(Int64Array::from(vec![
            None,
            Some(0),
            Some(-1),
            Some(10_000),
            Some(i64::MAX),
            Some(i64::MIN),
        ])),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![None, Some(true), Some(false)])),
        DataType::Utf8 => Arc::new(StringArray::from(texts())),
        DataType::Struct(_) => states(),
        DataType::List(item) if item.data_type() == &DataType::Float64 => lists(),
        DataType::List(item) => nested(item),
        other => panic!("no function takes {other}"),
    }
}

fn numbers() -> Vec<Option<f64>> {
    let mut numbers: Vec<Option<f64>> = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        5e-324,
        1e-300,
        -1e-300,
        1e-10,
        0.05,
        0.5,
        0.8,
        0.999_999,
        1.0,
        -1.0,
        1.5,
        2.0,
        3.0,
        30.0,
        100.0,
        1000.5,
        20_000.0,
        -1e6,
        1e9,
        9e15,
        1e100,
        1e300,
        f64::MAX,
        f64::MIN,
    ]
    .map(Some)
    .to_vec();
    numbers.push(None);
    // Sensible numbers too, so that one wrong argument meets right ones.
    numbers.extend([0.05, 0.1, 0.5, 0.8, 1.0, 2.0, 10.0, 50.0, 200.0].map(Some));
    numbers
}

fn texts() -> Vec<Option<&'static str>> {
    vec![
        None,
        Some(""),
        Some("obf"),
        Some("pocock"),
        Some("power"),
        Some("hsd"),
        Some("increase_good"),
        Some("decrease_good"),
        Some("nonsense"),
        Some("\u{0}\u{fe0f}🦀"),
        Some("1.2.3"),
        Some("control:0-500,test:500-1000"),
    ]
}

fn list_values() -> Vec<Option<Vec<Option<f64>>>> {
    let some = |values: &[f64]| Some(values.iter().copied().map(Some).collect::<Vec<_>>());
    vec![
        None,
        some(&[]),
        Some(vec![None]),
        Some(vec![Some(1.0), None, Some(3.0)]),
        some(&[f64::NAN, 1.0]),
        some(&[f64::INFINITY, 1.0, 2.0]),
        some(&[0.0]),
        some(&[0.0, 0.0]),
        some(&[1.0, 1.0, 1.0]),
        some(&[-1.0, -2.0, 0.5]),
        some(&[0.5, 0.5]),
        some(&[0.25, 0.5, 1.0]),
        some(&[0.5, 0.25]),
        some(&[1e-300, 1e-290, 1.0]),
        some(&[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 5.0]),
        some(&[1e308, -1e308, 1e308]),
        some(&[1e300, 1e-300]),
        some(&[9e15, 9e15]),
        some(&[5e-324, 5e-324]),
        some(&[1000.0, 1100.0]),
        some(&[3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]),
        some(&[0.01, 0.04, 0.03]),
        some(&[0.0, 1.0, 2.0]),
        some(&(0..60).map(f64::from).collect::<Vec<_>>()),
    ]
}

fn lists() -> ArrayRef {
    let mut builder = ListBuilder::new(Float64Builder::new());
    for list in list_values() {
        match list {
            Some(values) => builder.append_value(values),
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}

/// Lists of the pool of the items, of lengths 0 to 4, and a NULL.
fn nested(item: &Arc<Field>) -> ArrayRef {
    let items = pool(item.data_type());
    let lengths: Vec<usize> = (0..items.len()).map(|place| place % 5).collect();
    let total: usize = lengths.iter().sum();
    let places: datafusion::arrow::array::PrimitiveArray<UInt32Type> = (0..total)
        .map(|place| (place * 7 % items.len()) as u32)
        .collect();
    let values = take(&items, &places, None).expect("the places are within the pool");
    let whole = datafusion::arrow::array::ListArray::new(
        Arc::clone(item),
        OffsetBuffer::from_lengths(lengths),
        values,
        None,
    );
    let null = new_null_array(whole.data_type(), 1);
    concat(&[&whole, &null]).expect("both are of one type")
}

/// States of good data, of data at the limits, and structs that `state_agg` never made.
fn states() -> ArrayRef {
    let some = |values: &[f64]| Some(values.iter().copied().map(Some).collect::<Vec<_>>());
    type List = Option<Vec<Option<f64>>>;
    let rows: Vec<(Option<i64>, i64, List, List, List)> = vec![
        // n, non-finite, mean, mean_low, cross products
        (Some(50), 0, some(&[3.0]), some(&[0.0]), some(&[60.0])),
        (Some(60), 0, some(&[3.5]), some(&[0.0]), some(&[70.0])),
        (Some(50), 0, some(&[3.0]), some(&[0.0]), some(&[0.0])),
        (Some(0), 0, some(&[]), some(&[]), some(&[])),
        (Some(1), 0, some(&[2.0]), some(&[0.0]), some(&[0.0])),
        (Some(2), 0, some(&[-1.0]), some(&[0.0]), some(&[5e-324])),
        (Some(-5), 0, some(&[2.0]), some(&[0.0]), some(&[3.0])),
        (
            Some(i64::MAX),
            0,
            some(&[1e9]),
            some(&[1e-8]),
            some(&[1e300]),
        ),
        (Some(10), 0, some(&[1e308]), some(&[0.0]), some(&[1e308])),
        (Some(10), 0, some(&[f64::NAN]), some(&[0.0]), some(&[1.0])),
        (
            Some(10),
            0,
            some(&[1.0]),
            some(&[0.0]),
            some(&[f64::INFINITY]),
        ),
        (Some(10), 0, some(&[1.0]), some(&[0.0]), some(&[-4.0])),
        (Some(10), 3, some(&[1.0]), some(&[0.0]), some(&[4.0])),
        (Some(10), 0, some(&[1.0, 2.0]), some(&[0.0]), some(&[4.0])),
        (Some(10), 0, None, None, None),
        (None, 0, some(&[1.0]), some(&[0.0]), some(&[4.0])),
        (
            Some(10),
            0,
            Some(vec![None]),
            Some(vec![None]),
            Some(vec![None]),
        ),
        (
            Some(40),
            0,
            some(&[5.0, 2.0]),
            some(&[0.0, 0.0]),
            some(&[80.0, 20.0, 60.0]),
        ),
        (
            Some(45),
            0,
            some(&[5.5, 2.1]),
            some(&[0.0, 0.0]),
            some(&[90.0, 25.0, 50.0]),
        ),
        (
            Some(45),
            0,
            some(&[5.5, 0.0]),
            some(&[0.0, 0.0]),
            some(&[90.0, 0.0, 0.0]),
        ),
        (
            Some(45),
            0,
            some(&[1e200, 1e-200]),
            some(&[0.0, 0.0]),
            some(&[1e300, 1.0, 1e-300]),
        ),
        // A covariance larger than the variances allow.
        (
            Some(30),
            0,
            some(&[5.0, 2.0]),
            some(&[0.0, 0.0]),
            some(&[1.0, 90.0, 1.0]),
        ),
        (
            Some(40),
            0,
            some(&[5.0, 2.0, 4.0, 2.0]),
            some(&[0.0; 4]),
            some(&[80.0, 20.0, 40.0, 10.0, 60.0, 10.0, 20.0, 70.0, 15.0, 50.0]),
        ),
        (
            Some(44),
            0,
            some(&[5.2, 2.1, 4.1, 2.0]),
            some(&[0.0; 4]),
            some(&[85.0, 21.0, 42.0, 11.0, 62.0, 11.0, 21.0, 72.0, 16.0, 52.0]),
        ),
        (
            Some(44),
            0,
            some(&[0.0; 4]),
            some(&[0.0; 4]),
            some(&[0.0; 10]),
        ),
    ];
    let list = |pick: &dyn Fn(&(Option<i64>, i64, List, List, List)) -> List| -> ArrayRef {
        let mut builder = ListBuilder::new(Float64Builder::new());
        for row in &rows {
            match pick(row) {
                Some(values) => builder.append_value(values),
                None => builder.append_null(),
            }
        }
        Arc::new(builder.finish())
    };
    let count = |pick: &dyn Fn(&(Option<i64>, i64, List, List, List)) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(pick).collect::<Int64Array>())
    };
    let DataType::Struct(fields) = functions::state_type() else {
        panic!("a state is a struct")
    };
    let columns = vec![
        count(&|row| row.0),
        count(&|_| Some(0)),
        count(&|row| Some(row.1)),
        list(&|row| row.2.clone()),
        list(&|row| row.2.clone()),
        list(&|row| row.2.clone()),
        list(&|row| row.3.clone()),
        list(&|row| row.4.clone()),
    ];
    let whole = StructArray::new(fields, columns, None);
    let null = new_null_array(whole.data_type(), 1);
    concat(&[&whole, &null]).expect("both are of one type")
}
