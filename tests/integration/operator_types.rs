//! The operator and plain SQL over units of every type.

use std::collections::BTreeMap;

use equipoise::metrics::planned::planned_aggregates;

use super::operator_planned::{Case, experiments, metric, refused};

/// The columns of the events beside the unit, and those of the assignments.
const OTHERS: [&str; 2] = [
    "occurred_at, event_name, amount, milliseconds",
    "assigned_at, experiment_key, variant, country, platform",
];

/// A random case whose units are SQL of `text`, such as `unit-7`, and of `number`, such as 7.
fn of_units(seed: u64, events: &str, assignments: &str) -> Case {
    let mut case = Case::random(seed, metric);
    case.metrics.truncate(3);
    let of = |table: &str, unit: &str, id: &str, others: &str| {
        let units = format!(
            "select *, {unit} as text, cast(split_part({unit}, '-', 2) as bigint) as number from raw_{table}"
        );
        format!("select {id} as {unit}, {others} from ({units})")
    };
    case.tables = Some([
        of("events", "user_id", events, OTHERS[0]),
        of("assignments", "unit_id", assignments, OTHERS[1]),
    ]);
    case
}

/// Ids that are no texts.
const BYTES: &str = "decode(md5(text), 'hex')";

fn cast(id: &str, arrow: &str) -> String {
    format!("arrow_cast({id}, '{arrow}')")
}

#[test]
fn units_of_every_type_are_told_apart_as_in_plain_sql() {
    let mut ids = vec![BYTES.to_owned()];
    let bytes = ["LargeBinary", "BinaryView", "FixedSizeBinary(16)"];
    ids.extend(bytes.map(|kind| cast(BYTES, kind)));
    ids.push(cast(BYTES, "Dictionary(Int32, Binary)"));
    ids.push(cast(
        &cast(BYTES, "BinaryView"),
        "Dictionary(UInt8, LargeBinary)",
    ));
    let texts = ["LargeUtf8", "Utf8View", "Dictionary(Int32, Utf8)"];
    ids.extend(texts.map(|kind| cast("text", kind)));
    for bits in [8, 16, 32, 64] {
        ids.push(cast("number", &format!("Int{bits}")));
        ids.push(cast("number", &format!("UInt{bits}")));
    }
    ids.push(
        "arrow_cast('18446744073709551615', 'UInt64') - arrow_cast(number, 'UInt64')".to_owned(),
    );
    ids.push(cast("number", "Dictionary(Int32, Int64)"));
    ids.push("cast(number as decimal(20, 3)) / 8".to_owned());
    ids.push(cast("number", "Decimal256(50, 4)"));
    ids.extend(["Float32", "Float64"].map(|kind| cast("number / 7.0", kind)));
    ids.push("to_timestamp(number)".to_owned());
    ids.push(cast("arrow_cast(number, 'Int32')", "Date32"));
    for (seed, id) in ids.iter().enumerate() {
        println!("{id}");
        assert!(of_units(500 + seed as u64, id, id).compare() > 10, "{id}");
    }
}

#[test]
fn units_of_two_types_that_can_be_equal_are_the_same_units() {
    let dictionary = cast("text", "Dictionary(Int32, Utf8)");
    let fixed = cast(BYTES, "FixedSizeBinary(16)");
    let unsigned = cast("number", "UInt64");
    let pairs = [
        ("text", dictionary.as_str()),
        (&dictionary, "text"),
        (BYTES, &fixed),
        ("number", &unsigned),
        ("number", "cast(number as varchar)"),
    ];
    for (seed, (events, assignments)) in pairs.into_iter().enumerate() {
        println!("{events} and {assignments}");
        let case = of_units(600 + seed as u64, events, assignments);
        assert!(case.compare() > 10, "{events} and {assignments}");
    }
}

#[test]
fn units_that_have_values_inside_are_refused_by_name_and_type() {
    for (id, kind) in [
        ("named_struct('id', number)", "a struct"),
        ("make_array(number)", "a list of bigint"),
    ] {
        let case = of_units(700, id, id);
        let none = BTreeMap::new();
        let operator = planned_aggregates(&case.uses(), "units", &none, &experiments(), None);
        let said = refused(&operator, &case);
        assert!(
            said.contains(&format!("the unit `user_id` of `events` is {kind}")),
            "{said}"
        );
    }
}
