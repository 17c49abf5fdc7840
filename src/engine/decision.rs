//! `decide(evidence)`: the decision rules as a SQL function.
//! In: one struct per experiment, its fields named as in [`Evidence`]. Out: a struct of decision, variant and reasons.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ListBuilder, RecordBatch, StringBuilder, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::common::cast::as_struct_array;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::experiments::{Decision, Evidence, decide};

pub fn decide_function() -> ScalarUDF {
    ScalarUDF::new_from_impl(Decide {
        signature: Signature::any(1, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Decide {
    signature: Signature,
}

impl ScalarUDFImpl for Decide {
    fn name(&self) -> &str {
        "decide"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Struct(_)] => Ok(DataType::Struct(fields())),
            _ => plan_err!(
                "decide takes one struct: `decide(named_struct('experiment_key', ..., 'metrics', array_agg(...)))`"
            ),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = arguments.args[0].to_array(arguments.number_rows)?;
        let evidence = read_evidence(as_struct_array(&array)?)?;
        let decisions: Vec<Decision> = evidence.iter().map(decide).collect();
        Ok(ColumnarValue::Array(Arc::new(write_decisions(&decisions))))
    }
}

fn fields() -> Fields {
    vec![
        Field::new("decision", DataType::Utf8, false),
        Field::new("variant", DataType::Utf8, true),
        Field::new(
            "reasons",
            DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
            false,
        ),
    ]
    .into()
}

/// Structs travel as JSON: it has the same shape, and serde names the field that does not fit.
fn read_evidence(array: &StructArray) -> Result<Vec<Evidence>> {
    if array.is_empty() {
        return Ok(Vec::new());
    }
    let batch = RecordBatch::from(array.clone());
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(Vec::new());
    writer.write(&batch)?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner())
        .map_err(|error| DataFusionError::External(Box::new(error)))?;
    text.lines()
        .map(|line| match serde_json::from_str(line) {
            Ok(evidence) => Ok(evidence),
            Err(error) => exec_err!("decide cannot read its evidence: {error} in {line}"),
        })
        .collect()
}

fn write_decisions(decisions: &[Decision]) -> StructArray {
    let mut verdicts = StringBuilder::new();
    let mut variants = StringBuilder::new();
    let mut reasons = ListBuilder::new(StringBuilder::new());
    for decision in decisions {
        verdicts.append_value(decision.verdict.word());
        variants.append_option(decision.variant.as_deref());
        for reason in &decision.reasons {
            reasons.values().append_value(reason);
        }
        reasons.append(true);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(verdicts.finish()),
        Arc::new(variants.finish()),
        Arc::new(reasons.finish()),
    ];
    StructArray::new(fields(), columns, None)
}
