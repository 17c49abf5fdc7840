//! Plans whose cells do not fit into memory at once: several passes over the facts end in the rows of one.

use datafusion::arrow::util::pretty::pretty_format_batches;
use equipoise::metrics::plan::{
    Cap, Fill, Maturity, MetricPlan, SpecialAggregate, SpecialMeasure, SpecialMetric, UnitNumber,
};

use super::operator_states::{
    Data, Random, data, metric, operator_query, plan, rows_of, session, session_within,
};

const DAY: i64 = 86_400;

/// How many passes are made within a limit, after a look at their rows, which are those of one pass.
fn passes(plan: &MetricPlan, data: &Data, limit: usize) -> usize {
    let query = operator_query(plan);
    let context = session_within(data, 1, limit);
    let explained = rows_of(&context, &format!("explain analyze {query}"));
    let whole = rows_of(&session(data, 1), &query);
    assert!(whole == rows_of(&context, &query), "{limit} bytes");
    let text = pretty_format_batches(&explained).unwrap().to_string();
    let (_, passes) = text.split_once("passes=").unwrap();
    passes.split(',').next().unwrap().parse().unwrap()
}

/// A metric of each shape that keeps numbers, and one that keeps sums.
fn special(index: usize) -> SpecialMetric {
    let measure = |aggregate, value| SpecialMeasure {
        event: Some(["visit", "order", "load"][index % 3].to_owned()),
        aggregate,
        value,
    };
    let total = || measure(SpecialAggregate::Sum, Some(0));
    let count = || measure(SpecialAggregate::Count, None);
    let pooled = Cap::Quantile {
        share: 0.9,
        is_pooled: index.is_multiple_of(2),
    };
    let (number, caps, quantile) = match index % 4 {
        0 => (UnitNumber::One(total()), vec![Some(pooled)], None),
        1 => (UnitNumber::Every(total()), vec![None], Some(0.5)),
        2 => (
            UnitNumber::Ratio(total(), count()),
            vec![Some(pooled), None],
            None,
        ),
        _ => (UnitNumber::One(count()), vec![None], None),
    };
    SpecialMetric {
        name: format!("special {index}"),
        fill: match quantile {
            None if index.is_multiple_of(3) => Fill::Exclude,
            _ => Fill::Zero,
        },
        window_start: 0,
        window_length: Some((5 + index as i64) * DAY),
        calendar: None,
        lookback: quantile.is_none().then_some(14 * DAY),
        lookback_before_period: false,
        maturity: Maturity::Partial,
        data_end: None,
        number,
        caps,
        quantile,
    }
}

#[test]
fn cells_that_do_not_fit_at_once_take_several_passes_to_the_same_rows() {
    let mut random = Random(41);
    let (plan, data) = (plan(&mut random, 8), data(&mut random, 8));
    assert_eq!(passes(&plan, &data, 100 << 20), 1);
    // The cells of all experiments take some 700 KB.
    let (few, many) = (
        passes(&plan, &data, 400 << 10),
        passes(&plan, &data, 200 << 10),
    );
    assert!(1 < few && few < many, "{few} and {many} passes");
}

#[test]
fn metrics_of_one_experiment_that_do_not_fit_at_once_take_several_passes_to_the_same_rows() {
    for experiments in [1, 3] {
        let mut random = Random(43);
        let mut plan = plan(&mut random, experiments);
        plan.metrics = (0..40).map(|index| metric(&mut random, index)).collect();
        plan.specials = (0..30).map(special).collect();
        let names = plan.metrics.iter().map(|metric| metric.name.clone());
        let names = names.chain(plan.specials.iter().map(|metric| metric.name.clone()));
        let odd = names.enumerate().filter(|(at, _)| at % 5 != 1);
        plan.experiments[0].metrics = Some(odd.map(|(_, name)| name).collect());
        let data = data(&mut random, experiments);
        assert_eq!(passes(&plan, &data, 100 << 20), 1);
        let (few, many) = (
            passes(&plan, &data, 800 << 10),
            passes(&plan, &data, 300 << 10),
        );
        assert!(1 < few && few < many, "{few} and {many} passes");
        assert!(many > 2 * experiments, "{many} passes");
    }
}
