//! A method of the library as a scalar function. In: its name, its parameters and a call per row. Out: a DataFusion function.

use super::arguments::{Arguments, Parameter, materialise};
use super::columns::{Columns, record_type};
use crate::stats::Record;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The scalar function that calls `per_row` for every row and returns its record as a struct.
/// Generic over the call, so that method, record and columns are compiled into one loop.
pub(super) fn record_function<R: Record + 'static>(
    name: &'static str,
    parameters: &'static [Parameter],
    per_row: impl Fn(&Arguments<'_>, usize) -> Result<R> + Send + Sync + 'static,
) -> Arc<ScalarUDF> {
    let evaluate = move |arguments: &Arguments<'_>, rows: usize| {
        let mut columns = Columns::of::<R>(rows);
        for row in 0..rows {
            per_row(arguments, row)?.write(&mut columns);
        }
        columns.finish()
    };
    function(name, parameters, record_type::<R>(), Arc::new(evaluate))
}

/// The scalar function with a whole-batch evaluation.
pub(super) fn function(
    name: &'static str,
    parameters: &'static [Parameter],
    returns: DataType,
    evaluate: Evaluate,
) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(Method {
        name,
        parameters,
        returns,
        evaluate,
        signature,
    }))
}

/// How a function of this file is called: `welch_t(control, treatment, [alpha])`.
pub(super) fn usage(function: &ScalarUDF) -> String {
    let method: &dyn std::any::Any = function.inner().as_ref();
    method
        .downcast_ref::<Method>()
        .map_or_else(|| function.name().to_string(), Method::usage)
}

/// Computes the result column of a batch of so many rows.
pub(super) type Evaluate = Arc<dyn Fn(&Arguments<'_>, usize) -> Result<ArrayRef> + Send + Sync>;

struct Method {
    name: &'static str,
    parameters: &'static [Parameter],
    returns: DataType,
    evaluate: Evaluate,
    signature: Signature,
}

impl Method {
    fn usage(&self) -> String {
        let names: Vec<String> = self
            .parameters
            .iter()
            .map(|parameter| {
                if parameter.default.is_some() {
                    format!("[{}]", parameter.name)
                } else {
                    parameter.name.to_string()
                }
            })
            .collect();
        format!("{}({})", self.name, names.join(", "))
    }
}

impl ScalarUDFImpl for Method {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let needed = self
            .parameters
            .iter()
            .filter(|parameter| parameter.default.is_none())
            .count();
        if types.len() < needed || types.len() > self.parameters.len() {
            return plan_err!(
                "`{}` is called as {}, not with {} arguments",
                self.name,
                self.usage(),
                types.len()
            );
        }
        types
            .iter()
            .zip(self.parameters)
            .map(|(found, parameter)| parameter.kind.coerced(self.name, parameter.name, found))
            .collect()
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = call
            .args
            .iter()
            .all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { call.number_rows };
        let arrays = materialise(&call.args, rows)?;
        let arguments = Arguments::open(self.parameters, &call.args, &arrays)?;
        let result = (self.evaluate)(&arguments, rows)?;
        if is_constant {
            return Ok(ColumnarValue::Scalar(
                datafusion::common::ScalarValue::try_from_array(&result, 0)?,
            ));
        }
        Ok(ColumnarValue::Array(result))
    }
}

impl std::fmt::Debug for Method {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Method {}", self.usage())
    }
}

/// Names are unique, so a name is the function's identity.
impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Method {}

impl Hash for Method {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.name.hash(hasher);
    }
}
