//! `sum`, `avg`, `var`, `stddev`, `corr` and their kin of doubles, rounded at the end: SQL's own depend on the order in which rows
//! arrive, so that a table that is built twice differs from itself in last digits; and its `corr` of numbers near 1e9 has no right digit.
//! In: DataFusion's functions, which still say what types they take and sum all others. Out: functions of the same names. Sums of
//! whole numbers are those of [`whole`], which do not wrap around.
//! Partial sums travel as they are, see [`crate::stats::moments`], where the formulas are.

mod accumulators;
mod whole;

use crate::stats::moments::{Moments, OfJoint, OfSpread, OfTotal};
use accumulators::{Distinct, Many, One};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::average::Avg;
use datafusion::functions_aggregate::correlation::Correlation;
use datafusion::functions_aggregate::covariance::{CovariancePopulation, CovarianceSample};
use datafusion::functions_aggregate::regr::{Regr, RegrType};
use datafusion::functions_aggregate::stddev::{Stddev, StddevPop};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::functions_aggregate::variance::{VariancePopulation, VarianceSample};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, Operator,
    ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use whole::{ManyWhole, OneWhole};

pub(super) fn all() -> Vec<Arc<AggregateUDF>> {
    let line = |kind, name, result| exact::<2, 8, _>(Regr::new(kind, name), result);
    vec![
        exact::<1, 1, _>(Sum::new(), OfTotal::Sum),
        exact::<1, 1, _>(Avg::new(), OfTotal::Mean),
        exact::<1, 3, _>(VarianceSample::new(), OfSpread::VarianceOfSample),
        exact::<1, 3, _>(VariancePopulation::new(), OfSpread::VarianceOfPopulation),
        exact::<1, 3, _>(Stddev::new(), OfSpread::DeviationOfSample),
        exact::<1, 3, _>(StddevPop::new(), OfSpread::DeviationOfPopulation),
        exact::<2, 8, _>(CovarianceSample::new(), OfJoint::CovarianceOfSample),
        exact::<2, 8, _>(CovariancePopulation::new(), OfJoint::CovarianceOfPopulation),
        exact::<2, 8, _>(Correlation::new(), OfJoint::Correlation),
        line(RegrType::Slope, "regr_slope", OfJoint::Slope),
        line(RegrType::Intercept, "regr_intercept", OfJoint::Intercept),
        line(RegrType::R2, "regr_r2", OfJoint::Determination),
        line(RegrType::AvgX, "regr_avgx", OfJoint::MeanX),
        line(RegrType::AvgY, "regr_avgy", OfJoint::MeanY),
        line(RegrType::SXX, "regr_sxx", OfJoint::SquaresX),
        line(RegrType::SYY, "regr_syy", OfJoint::SquaresY),
        line(RegrType::SXY, "regr_sxy", OfJoint::Products),
    ]
}

fn exact<const VALUES: usize, const SUMS: usize, F>(
    inner: F,
    result: impl OfMoments<VALUES, SUMS>,
) -> Arc<AggregateUDF>
where
    F: AggregateUDFImpl + Eq + Hash + 'static,
{
    Arc::new(AggregateUDF::from(Exact::<VALUES, SUMS, _, _> {
        inner,
        result,
    }))
}

/// What is made of the sums over some rows.
trait OfMoments<const VALUES: usize, const SUMS: usize>:
    Copy + Debug + Eq + Hash + Send + Sync + 'static
{
    fn of(self, moments: &Moments<VALUES, SUMS>) -> Option<f64>;
}

impl OfMoments<1, 1> for OfTotal {
    fn of(self, total: &Moments<1, 1>) -> Option<f64> {
        self.value(total)
    }
}

impl OfMoments<1, 3> for OfSpread {
    fn of(self, spread: &Moments<1, 3>) -> Option<f64> {
        self.value(spread)
    }
}

impl OfMoments<2, 8> for OfJoint {
    fn of(self, joint: &Moments<2, 8>) -> Option<f64> {
        self.value(joint)
    }
}

/// A function of DataFusion whose sums of doubles are exact.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact<const VALUES: usize, const SUMS: usize, F, R> {
    inner: F,
    result: R,
}

impl<const VALUES: usize, const SUMS: usize, F, R> AggregateUDFImpl for Exact<VALUES, SUMS, F, R>
where
    F: AggregateUDFImpl + Eq + Hash + 'static,
    R: OfMoments<VALUES, SUMS>,
{
    fn accumulator(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = self.result;
        if self.sums_whole(arguments.return_field.data_type(), arguments.is_distinct) {
            return Ok(Box::new(OneWhole::new(arguments.return_field.data_type())));
        }
        Ok(match (is_double(&arguments), arguments.is_distinct) {
            (false, _) => self.inner.accumulator(arguments)?,
            (true, false) => Box::new(One::new(result)),
            (true, true) => Box::new(Distinct::new(self.distinct(arguments)?, result)),
        })
    }

    fn create_sliding_accumulator(
        &self,
        arguments: AccumulatorArgs,
    ) -> Result<Box<dyn Accumulator>> {
        if self.sums_whole(arguments.return_field.data_type(), arguments.is_distinct) {
            return Ok(Box::new(OneWhole::new(arguments.return_field.data_type())));
        }
        match is_double(&arguments) && !arguments.is_distinct {
            true => Ok(Box::new(One::new(self.result))),
            false => self.inner.create_sliding_accumulator(arguments),
        }
    }

    fn state_fields(&self, arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = arguments.name;
        let field =
            |part: String, kind| Arc::new(Field::new(format!("{name}[{part}]"), kind, true));
        if self.sums_whole(arguments.return_type(), arguments.is_distinct) {
            let parts = whole::PARTS.into_iter();
            return Ok(parts
                .map(|(part, kind)| field(part.to_string(), kind))
                .collect());
        }
        if *arguments.return_type() != DataType::Float64 {
            return self.inner.state_fields(arguments);
        }
        if arguments.is_distinct {
            return Sum::new().state_fields(arguments);
        }
        let mut fields = vec![field("count".to_string(), DataType::UInt64)];
        for sum in 0..SUMS {
            fields.push(field(format!("high {sum}"), DataType::Float64));
            fields.push(field(format!("low {sum}"), DataType::Float64));
            fields.push(field(format!("rest {sum}"), DataType::Binary));
        }
        Ok(fields)
    }

    fn create_groups_accumulator(
        &self,
        arguments: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        if self.sums_whole(arguments.return_field.data_type(), arguments.is_distinct) {
            return Ok(Box::new(ManyWhole::new(arguments.return_field.data_type())));
        }
        match is_double(&arguments) {
            true => Ok(Box::new(Many::new(self.result))),
            false => self.inner.create_groups_accumulator(arguments),
        }
    }

    fn groups_accumulator_supported(&self, arguments: AccumulatorArgs) -> bool {
        match is_double(&arguments) {
            true => !arguments.is_distinct,
            false => self.inner.groups_accumulator_supported(arguments),
        }
    }

    fn value_from_stats(&self, arguments: &StatisticsArgs) -> Option<ScalarValue> {
        match arguments.return_type {
            DataType::Float64 => None,
            _ => self.inner.value_from_stats(arguments),
        }
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        argument: &Expr,
        operator: Operator,
        literal: &Expr,
        is_left: bool,
    ) -> Result<Option<Expr>> {
        let inner = &self.inner;
        inner.simplify_expr_op_literal(function, argument, operator, literal, is_left)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
        self.inner.set_monotonicity(kind)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

impl<const VALUES: usize, const SUMS: usize, F, R> Exact<VALUES, SUMS, F, R>
where
    F: AggregateUDFImpl + Eq + Hash + 'static,
{
    /// Whether it is a sum of whole numbers, which may be too large for their type.
    fn sums_whole(&self, data_type: &DataType, is_distinct: bool) -> bool {
        self.inner.name() == "sum" && whole::is_whole(data_type) && !is_distinct
    }

    /// An accumulator that knows the distinct values.
    fn distinct(&self, arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if VALUES > 1 {
            return plan_err!(
                "`{}` does not take `distinct`; select the distinct pairs in a subquery",
                self.inner.name()
            );
        }
        Sum::new().accumulator(arguments)
    }
}

fn is_double(arguments: &AccumulatorArgs) -> bool {
    *arguments.return_field.data_type() == DataType::Float64
}
