//! Assignment as SQL functions: the registry's buckets, the variant of a split, and versions that sort.
//! In: columns and constants. Out: the same answers that the flag server gives, because the same pure functions give
//! them. NULL in, NULL out; an algorithm or a split that does not exist is an error of the query.
//!
//! - `bucket(algorithm, salt, unit [, buckets])`: the bucket of a unit, from 0.
//! - `assign(algorithm, salt, buckets, split, unit)`: the variant of a unit under a split as `dim_allocations` has it,
//!   for example `control:0-500,1000-3000;blue:500-750`; NULL where the unit is in no range.
//! - `semver(text)`: a key that sorts as versions do; NULL where the text is no version.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array, StringArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::flags::bucketing::Algorithm;
use crate::flags::set::NamedSplit;
use crate::flags::targeting::version_key;

/// The functions of this file.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let function = |name, arguments: &'static [DataType], optional, returns, evaluate| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Function {
            name,
            arguments,
            optional,
            returns,
            evaluate,
            signature,
        }))
    };
    vec![
        function("bucket", BUCKET, 1, DataType::Int64, bucket),
        function("assign", ASSIGN, 0, DataType::Utf8, assign),
        function("semver", SEMVER, 0, DataType::Utf8, semver),
    ]
}

const BUCKET: &[DataType] = &[
    DataType::Utf8,
    DataType::Utf8,
    DataType::Utf8,
    DataType::Int64,
];
const ASSIGN: &[DataType] = &[
    DataType::Utf8,
    DataType::Utf8,
    DataType::Int64,
    DataType::Utf8,
    DataType::Utf8,
];
const SEMVER: &[DataType] = &[DataType::Utf8];

type Evaluate = fn(&[ColumnarValue], usize) -> Result<ArrayRef>;

#[derive(Debug)]
struct Function {
    name: &'static str,
    arguments: &'static [DataType],
    /// How many of the last arguments may be left out.
    optional: usize,
    returns: DataType,
    evaluate: Evaluate,
    signature: Signature,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    /// Units are often numbers in tables; they are hashed as they are written.
    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let least = self.arguments.len() - self.optional;
        if !(least..=self.arguments.len()).contains(&given.len()) {
            return plan_err!(
                "{} takes {least} to {} arguments, not {}",
                self.name,
                self.arguments.len(),
                given.len()
            );
        }
        Ok(self.arguments[..given.len()].to_vec())
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array((self.evaluate)(
            &call.args,
            call.number_rows,
        )?))
    }
}

fn bucket(arguments: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let [ids, salts, units] = [0, 1, 2].map(|index| Texts::of(&arguments[index]));
    let (ids, salts, units) = (ids?, salts?, units?);
    let counts = arguments.get(3).map(Numbers::of).transpose()?;
    let mut algorithms = Memo::new(algorithm);
    let mut bucket = |row: usize| {
        let (Some(id), Some(salt), Some(unit)) = (ids.get(row), salts.get(row), units.get(row))
        else {
            return Ok(None);
        };
        let algorithm = *algorithms.get(id)?;
        let of = match &counts {
            None => algorithm.buckets(),
            Some(counts) => match counts.get(row) {
                Some(count) => cut(algorithm, count)?,
                None => return Ok(None),
            },
        };
        Ok(Some(i64::from(algorithm.bucket_of(salt, unit, of).index)))
    };
    let buckets: Result<Int64Array> = (0..rows).map(&mut bucket).collect();
    Ok(Arc::new(buckets?))
}

fn assign(arguments: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let [ids, salts, splits, units] = [0, 1, 3, 4].map(|index| Texts::of(&arguments[index]));
    let (ids, salts, splits, units) = (ids?, salts?, splits?, units?);
    let counts = Numbers::of(&arguments[2])?;
    let mut algorithms = Memo::new(algorithm);
    let mut parsed = Memo::new(split);
    let mut variants = StringBuilder::with_capacity(rows, rows * 8);
    for row in 0..rows {
        let texts = (
            ids.get(row),
            salts.get(row),
            splits.get(row),
            units.get(row),
        );
        let ((Some(id), Some(salt), Some(split), Some(unit)), Some(count)) =
            (texts, counts.get(row))
        else {
            variants.append_null();
            continue;
        };
        let algorithm = *algorithms.get(id)?;
        let bucket = algorithm.bucket_of(salt, unit, cut(algorithm, count)?);
        variants.append_option(parsed.get(split)?.variant(bucket.index));
    }
    Ok(Arc::new(variants.finish()))
}

fn semver(arguments: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let versions = Texts::of(&arguments[0])?;
    let key = |row| versions.get(row).and_then(version_key);
    Ok(Arc::new((0..rows).map(key).collect::<StringArray>()))
}

fn algorithm(id: &str) -> Result<Algorithm> {
    match Algorithm::parse(id) {
        Some(algorithm) => Ok(algorithm),
        None => {
            let hint = crate::diagnostics::did_you_mean(id, Algorithm::all().map(Algorithm::id));
            exec_err!("unknown bucketing algorithm `{id}`: {hint}")
        }
    }
}

fn cut(algorithm: Algorithm, of: i64) -> Result<u32> {
    match u32::try_from(of).ok().filter(|of| algorithm.can_cut(*of)) {
        Some(of) => Ok(of),
        None => exec_err!("`{algorithm}` cannot be cut into {of} buckets"),
    }
}

fn split(text: &str) -> Result<NamedSplit> {
    match NamedSplit::parse(text) {
        Some(split) => Ok(split),
        None => exec_err!("`{text}` is no split; write it like `control:0-500;test:500-1000`"),
    }
}

/// Remembers the last text and what it means: a column repeats its allocation for many rows.
struct Memo<T> {
    last: Option<(String, T)>,
    read: fn(&str) -> Result<T>,
}

impl<T> Memo<T> {
    fn new(read: fn(&str) -> Result<T>) -> Self {
        Self { last: None, read }
    }

    fn get(&mut self, text: &str) -> Result<&T> {
        if self.last.as_ref().is_none_or(|(last, _)| last != text) {
            self.last = Some((text.to_owned(), (self.read)(text)?));
        }
        Ok(&self.last.as_ref().expect("it was set just now").1)
    }
}

/// A column of texts, or one text for all rows: a constant is not repeated for each.
struct Texts {
    values: StringArray,
    is_constant: bool,
}

impl Texts {
    fn of(argument: &ColumnarValue) -> Result<Self> {
        let (array, is_constant) = array(argument, &DataType::Utf8)?;
        let values = array.as_any().downcast_ref::<StringArray>();
        let values = values.expect("cast gives this type").clone();
        Ok(Self {
            values,
            is_constant,
        })
    }

    fn get(&self, row: usize) -> Option<&str> {
        let row = if self.is_constant { 0 } else { row };
        self.values.is_valid(row).then(|| self.values.value(row))
    }
}

/// The same for numbers.
struct Numbers {
    values: Int64Array,
    is_constant: bool,
}

impl Numbers {
    fn of(argument: &ColumnarValue) -> Result<Self> {
        let (array, is_constant) = array(argument, &DataType::Int64)?;
        let values = array.as_any().downcast_ref::<Int64Array>();
        let values = values.expect("cast gives this type").clone();
        Ok(Self {
            values,
            is_constant,
        })
    }

    fn get(&self, row: usize) -> Option<i64> {
        let row = if self.is_constant { 0 } else { row };
        self.values.is_valid(row).then(|| self.values.value(row))
    }
}

fn array(argument: &ColumnarValue, kind: &DataType) -> Result<(ArrayRef, bool)> {
    Ok(match argument {
        ColumnarValue::Array(array) => (cast(array, kind)?, false),
        ColumnarValue::Scalar(scalar) => (cast(&scalar.to_array()?, kind)?, true),
    })
}
