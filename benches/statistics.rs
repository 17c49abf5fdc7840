//! `cargo bench --bench statistics`: the statistics as Rust functions in a loop over states, and as SQL functions over Arrow arrays in batches
//! of 8,192, side by side in one run on one core. Exit code 1 when a bar is missed.
//! A SQL function may take 1.5 times as long as the loop: it reads lists out of structs and writes a struct with all fields, where the loop
//! keeps a record on the stack.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, ListBuilder, StringArray,
    StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use equipoise::sql::functions;
use equipoise::stats::bayes::bayes_normal_effect;
use equipoise::stats::cuped::{ThetaRule, cuped_ratio};
use equipoise::stats::group_sequential::{Sides, Spending, gst_bounds};
use equipoise::stats::mean_tests::welch_t;
use equipoise::stats::sample::{Moments, Sample};
use equipoise::stats::state::State;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

const BATCH: usize = 8192;
const ALPHA: f64 = 0.05;
const ROUNDS: usize = 51;
const LARGEST_RATIO: f64 = 1.5;

/// One method, both ways.
struct Method {
    name: &'static str,
    rows: usize,
    /// Analyses a second that the loop must reach.
    bar: f64,
    rust: Box<dyn Fn() -> f64>,
    sql: Box<dyn Fn() -> f64>,
}

fn main() -> ExitCode {
    // `cargo test --benches` and `cargo bench` pass options of the usual harness; there are none here.
    println!(
        "| method | Rust, million a second | SQL, million a second | SQL time over Rust time | bar |"
    );
    println!("|---|---|---|---|---|");
    let mut is_met = true;
    for method in [welch(), cuped_ratios(), bayes(), designs()] {
        is_met &= report(&method);
    }
    if is_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Alternates the two ways, so that a busy machine slows both, and takes the best round of each: a round lasts milliseconds, so some of them
/// have a core to themselves.
fn report(method: &Method) -> bool {
    let agree = (method.rust)() - (method.sql)();
    assert_eq!(
        agree, 0.0,
        "{}: both ways must compute the same",
        method.name
    );
    let (mut rust, mut sql) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        rust = rust.min(seconds(&method.rust));
        sql = sql.min(seconds(&method.sql));
    }
    let ratio = sql / rust;
    let speed = |seconds: f64| method.rows as f64 / seconds;
    let (rust, sql) = (speed(rust), speed(sql));
    let is_met = rust >= method.bar && ratio <= LARGEST_RATIO;
    println!(
        "| {} | {:.3} | {:.3} | {ratio:.2} | {:.2}, {LARGEST_RATIO}: {} |",
        method.name,
        rust / 1e6,
        sql / 1e6,
        method.bar / 1e6,
        if is_met { "met" } else { "MISSED" }
    );
    is_met
}

fn seconds(run: &dyn Fn() -> f64) -> f64 {
    let started = Instant::now();
    black_box(run());
    started.elapsed().as_secs_f64()
}

fn welch() -> Method {
    let arm = |phase: f64| -> Vec<State> {
        (0..BATCH)
            .map(|place| {
                let f = place as f64;
                State::of_moments(
                    1000 + 7 * place as u64,
                    10.0 + phase + 0.0001 * f,
                    4.0 + 0.001 * f,
                )
            })
            .collect()
    };
    let (control, treatment) = (arm(0.0), arm(0.05));
    let columns = [states(&control), states(&treatment)];
    Method {
        name: "welch_t",
        rows: BATCH,
        bar: 2e6,
        rust: Box::new(move || {
            let test = |(control, treatment): (&State, &State)| {
                welch_t(&sample(black_box(control)), &sample(treatment), ALPHA)
                    .p_two_sided
                    .unwrap_or(0.0)
            };
            control.iter().zip(&treatment).map(test).sum()
        }),
        sql: sql(
            "welch_t",
            columns
                .into_iter()
                .map(array)
                .chain([number(ALPHA)])
                .collect(),
            "p_two_sided",
        ),
    }
}

fn cuped_ratios() -> Method {
    // 64 different states; making 8,192 from rows would take longer than the measurement.
    let made: Vec<State> = (0..64).map(|phase| ratio_state(f64::from(phase))).collect();
    let arm = |shift: usize| -> Vec<State> {
        (0..BATCH)
            .map(|place| made[(place + shift) % 64].clone())
            .collect()
    };
    let columns = [states(&arm(0)), states(&arm(1))];
    Method {
        name: "cuped_ratio_within_theta",
        rows: BATCH,
        bar: 1e6,
        rust: Box::new(move || {
            let moments =
                |state: &State| Moments::<4>::of_state(state).expect("the state has four values");
            let test = |place: usize| {
                let control = moments(black_box(&made[place % 64]));
                let treatment = moments(&made[(place + 1) % 64]);
                cuped_ratio(&control, &treatment, ThetaRule::WithinArms, ALPHA)
                    .p_two_sided
                    .unwrap_or(0.0)
            };
            (0..BATCH).map(test).sum()
        }),
        sql: sql(
            "cuped_ratio_within_theta",
            columns
                .into_iter()
                .map(array)
                .chain([number(ALPHA)])
                .collect(),
            "p_two_sided",
        ),
    }
}

fn bayes() -> Method {
    let effects: Vec<f64> = (0..BATCH).map(|place| place as f64 * 1e-4 - 0.3).collect();
    let ses: Vec<f64> = effects
        .iter()
        .map(|effect| 0.1 + effect.abs() * 0.01)
        .collect();
    let columns =
        [&effects, &ses].map(|values| array(Arc::new(Float64Array::from(values.clone()))));
    let arguments = columns
        .into_iter()
        .chain([
            number(0.0),
            number(0.09),
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))),
            number(ALPHA),
        ])
        .collect();
    Method {
        name: "bayes_normal_effect",
        rows: BATCH,
        bar: 5e5,
        rust: Box::new(move || {
            let test = |(effect, se): (&f64, &f64)| {
                bayes_normal_effect(*black_box(effect), *se, 0.0, 0.09, true, ALPHA)
                    .risk_choose_treatment
                    .unwrap_or(0.0)
            };
            effects.iter().zip(&ses).map(test).sum()
        }),
        sql: sql("bayes_normal_effect", arguments, "risk_choose_treatment"),
    }
}

fn designs() -> Method {
    // A batch of 8,192 designs takes half a second; 512 measure the same.
    let looks: Vec<[f64; 5]> = (0..512)
        .map(|place| {
            let shift = f64::from(place) * 1e-4;
            [0.2 + shift, 0.4, 0.6 + shift, 0.8, 1.0]
        })
        .collect();
    let mut lists = ListBuilder::new(Float64Builder::new());
    looks
        .iter()
        .for_each(|look| lists.append_value(look.iter().copied().map(Some)));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["obf"; looks.len()]));
    let arguments = vec![
        array(Arc::new(lists.finish())),
        number(ALPHA),
        array(texts),
        ColumnarValue::Scalar(ScalarValue::Float64(None)),
        number(2.0),
    ];
    let rows = looks.len();
    Method {
        name: "gst_bounds_joint, five looks",
        rows,
        bar: 2e4,
        rust: Box::new(move || {
            let design = |look: &[f64; 5]| {
                gst_bounds(black_box(look), ALPHA, Spending::OBrienFleming, Sides::Two).zb[4]
            };
            looks.iter().map(design).sum()
        }),
        sql: {
            let call = invocation("gst_bounds_joint", arguments);
            Box::new(move || {
                let result = call();
                let bounds = result
                    .column_by_name("zb")
                    .expect("designs have bounds")
                    .as_list::<i32>();
                let numbers = bounds
                    .values()
                    .as_primitive::<datafusion::arrow::datatypes::Float64Type>();
                (0..bounds.len())
                    .map(|row| numbers.value(5 * row + 4))
                    .sum()
            })
        },
    }
}

/// A call of a SQL function that sums a field of its result.
fn sql(
    function: &'static str,
    arguments: Vec<ColumnarValue>,
    field: &'static str,
) -> Box<dyn Fn() -> f64> {
    let call = invocation(function, arguments);
    Box::new(move || {
        let result = call();
        let column = result
            .column_by_name(field)
            .expect("the result has the field")
            .as_primitive::<datafusion::arrow::datatypes::Float64Type>();
        column.values().iter().sum()
    })
}

fn invocation(function: &'static str, arguments: Vec<ColumnarValue>) -> impl Fn() -> StructArray {
    let function: Arc<ScalarUDF> = functions::scalars()
        .into_iter()
        .find(|candidate| candidate.name() == function)
        .expect("the function is registered");
    let rows = arguments
        .iter()
        .find_map(|argument| match argument {
            ColumnarValue::Array(column) => Some(column.len()),
            ColumnarValue::Scalar(_) => None,
        })
        .expect("one argument is a column");
    let types: Vec<DataType> = arguments.iter().map(ColumnarValue::data_type).collect();
    let fields: Vec<Arc<Field>> = types
        .iter()
        .map(|kind| Arc::new(Field::new("argument", kind.clone(), true)))
        .collect();
    let returns = function.return_type(&types).expect("the types fit");
    let return_field = Arc::new(Field::new("result", returns, true));
    let config_options = Arc::new(ConfigOptions::default());
    move || {
        let call = ScalarFunctionArgs {
            args: arguments.clone(),
            arg_fields: fields.clone(),
            number_rows: rows,
            return_field: Arc::clone(&return_field),
            config_options: Arc::clone(&config_options),
        };
        let value = function.invoke_with_args(call).expect("the call succeeds");
        let result = value.into_array(rows).expect("the result is a column");
        result.as_struct().clone()
    }
}

fn number(value: f64) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Float64(Some(value)))
}

fn array(column: ArrayRef) -> ColumnarValue {
    ColumnarValue::Array(column)
}

fn sample(state: &State) -> Sample {
    Sample::of_state(state, 0).expect("the state has a value")
}

/// Two hundred units with numerator, denominator, and both of the pre-period.
fn ratio_state(phase: f64) -> State {
    let column = |shift: f64| {
        (0..200)
            .map(|unit| 5.0 + shift + (f64::from(unit) * 0.37 + phase * shift).sin() * 2.0)
            .collect::<Vec<f64>>()
    };
    let columns = [column(0.1), column(0.4), column(0.2), column(0.7)];
    State::of_columns(&columns.each_ref().map(Vec::as_slice))
}

/// States as the column that `state_agg` makes.
fn states(states: &[State]) -> ArrayRef {
    let DataType::Struct(fields) = functions::state_type() else {
        panic!("a state is a struct")
    };
    let count = |pick: fn(&State) -> u64| -> ArrayRef {
        Arc::new(
            states
                .iter()
                .map(|state| pick(state) as i64)
                .collect::<Int64Array>(),
        )
    };
    let list = |pick: fn(&State) -> Vec<f64>| -> ArrayRef {
        let mut builder = ListBuilder::new(Float64Builder::new());
        states
            .iter()
            .for_each(|state| builder.append_value(pick(state).into_iter().map(Some)));
        Arc::new(builder.finish())
    };
    let columns = vec![
        count(|state| state.n),
        count(|state| state.nulls),
        count(|state| state.non_finite),
        list(|state| state.min.clone()),
        list(|state| state.max.clone()),
        list(|state| state.mean.iter().map(|mean| mean.high).collect()),
        list(|state| state.mean.iter().map(|mean| mean.low).collect()),
        list(|state| state.cross_products.clone()),
    ];
    Arc::new(StructArray::new(fields, columns, None))
}
