//! The definitions that belong to the generated logs: experiments, metrics, flags, and the truth about them.
//! In: options and scenario. Out: (path, text) pairs. The same facts as the logs hold, written as a person would.

use std::fmt::Write;

use chrono::{Days, NaiveDate};
use serde_json::{Value, json};

use super::GenerateOptions;
use super::population::ALGORITHM;
use super::scenario::{Allocation, Behaviour, Experiment, Kind, Scenario};
use crate::flags::{FlagSource, Lock, resolve};

/// A file below the output folder.
pub type Definition = (String, String);

pub fn definitions(options: &GenerateOptions, scenario: &Scenario) -> Vec<Definition> {
    let flags = flags(options, scenario);
    let mut files = vec![
        ("metrics/shop.yml".to_owned(), METRICS.to_owned()),
        ("flags/allocations.lock".to_owned(), lock(&flags)),
        ("flags/shop.yml".to_owned(), flags),
        ("truth.json".to_owned(), truth(options, scenario)),
    ];
    let (background, named): (Vec<_>, Vec<_>) = scenario
        .experiments
        .iter()
        .partition(|e| e.kind == Kind::Background);
    for experiment in named {
        files.push((
            format!("experiments/{}.yml", experiment.key),
            experiments_file(options, &[experiment]),
        ));
    }
    if !background.is_empty() {
        files.push((
            "experiments/background.yml".to_owned(),
            experiments_file(options, &background),
        ));
    }
    files
}

/// The metrics of the shop and the behaviours that each of them is proportional to.
// A proportion of units is not proportional to the rate per visit, so only the sign of its effect is known in closed form.
const METRIC_DRIVERS: [(&str, &[Behaviour]); 9] = [
    (
        "orders_per_user",
        &[
            Behaviour::Cart,
            Behaviour::Checkout,
            Behaviour::PaymentSuccess,
        ],
    ),
    (
        "revenue_per_user",
        &[
            Behaviour::Cart,
            Behaviour::Checkout,
            Behaviour::PaymentSuccess,
            Behaviour::OrderValue,
        ],
    ),
    (
        "purchase_conversion",
        &[
            Behaviour::Cart,
            Behaviour::Checkout,
            Behaviour::PaymentSuccess,
        ],
    ),
    ("add_to_cart_per_user", &[Behaviour::Cart]),
    ("searches_per_user", &[Behaviour::Search]),
    ("engaged_minutes_per_user", &[Behaviour::Engagement]),
    ("page_load_ms", &[Behaviour::LoadTime]),
    ("payment_success_rate", &[Behaviour::PaymentSuccess]),
    ("refund_rate", &[Behaviour::Refund]),
];

const METRICS: &str = "\
metrics:
  - name: orders_per_user
    label: Orders per user
    description: Orders a user places in the 14 days after first seeing the experiment.
    kind: mean
    fill: zero
    fact: fact_metric_events
    event: order
    agg: count
    window: {start: 0d, length: 14d}
    maturity: partial
    covariate: {lookback: 14d}
    direction: increase
    tier: driver
    drives: [revenue_per_user]
    owner: team-checkout
    version: 1.0.0
  - name: revenue_per_user
    label: Revenue per user
    description: Value of a user's orders before refunds, in EUR.
    kind: mean
    fill: zero
    fact: fact_metric_events
    event: order
    agg: sum
    expr: amount
    window: {start: 0d, length: 14d}
    maturity: partial
    covariate: {lookback: 14d}
    direction: increase
    tier: north_star
    owner: team-shop
    version: 1.0.0
  - name: purchase_conversion
    label: Users who order
    description: Share of users with at least one order.
    kind: proportion
    fill: zero
    fact: fact_metric_events
    event: order
    agg: any
    window: {start: 0d, length: 14d}
    maturity: partial
    direction: increase
    tier: driver
    drives: [revenue_per_user]
    owner: team-checkout
    version: 1.0.0
  - name: add_to_cart_per_user
    label: Products put into the cart, per user
    description: Times a user puts a product into the cart.
    kind: mean
    fill: zero
    fact: fact_metric_events
    event: add_to_cart
    agg: count
    window: {start: 0d, length: 14d}
    maturity: partial
    covariate: {lookback: 14d}
    direction: increase
    tier: driver
    drives: [orders_per_user]
    owner: team-growth
    version: 1.0.0
  - name: searches_per_user
    label: Searches per user
    description: Searches a user makes; more is not better by itself.
    kind: mean
    fill: zero
    fact: fact_metric_events
    event: search
    agg: count
    window: {start: 0d, length: 14d}
    maturity: partial
    direction: increase
    tier: diagnostic
    owner: team-search
    version: 1.0.0
  - name: engaged_minutes_per_user
    label: Minutes of attention per user
    description: Time a user spends in sessions, in minutes.
    kind: mean
    fill: zero
    fact: fact_metric_events
    event: session_start
    agg: sum
    expr: engaged_seconds / 60.0
    window: {start: 0d, length: 14d}
    maturity: partial
    covariate: {lookback: 14d}
    direction: increase
    tier: driver
    drives: [revenue_per_user]
    owner: team-personalisation
    version: 1.0.0
  - name: page_load_ms
    label: Time to load a page
    description: Mean time to load a page, in milliseconds, over all page loads.
    kind: ratio
    numerator: {fact: fact_metric_events, event: page_load, agg: sum, expr: load_ms}
    denominator: {fact: fact_metric_events, event: page_load, agg: count}
    window: {start: 0d, length: 14d}
    maturity: partial
    direction: decrease
    tier: guardrail
    owner: team-web
    version: 1.0.0
  - name: payment_success_rate
    label: Payments that succeed, per visit of the payment page
    description: Share of payment page visits that end in a paid order.
    kind: ratio
    numerator: {fact: fact_metric_events, event: payment_visit, agg: sum, expr: is_success}
    denominator: {fact: fact_metric_events, event: payment_visit, agg: count}
    window: {start: 0d, length: 14d}
    maturity: partial
    direction: increase
    tier: driver
    drives: [orders_per_user]
    owner: team-checkout
    version: 1.0.0
  - name: refund_rate
    label: Refunds per order
    description: Refunds divided by orders.
    kind: ratio
    numerator: {fact: fact_metric_events, event: refund, agg: count}
    denominator: {fact: fact_metric_events, event: order, agg: count}
    window: {start: 0d, length: 14d}
    maturity: partial
    direction: decrease
    tier: guardrail
    owner: team-checkout
    version: 1.0.0
";

fn experiments_file(options: &GenerateOptions, experiments: &[&Experiment]) -> String {
    let mut text = "experiments:\n".to_owned();
    for experiment in experiments {
        text.push_str(&experiment_yaml(options, experiment));
    }
    text
}

fn experiment_yaml(options: &GenerateOptions, experiment: &Experiment) -> String {
    let guardrail = |(metric, margin): &(&str, f64)| {
        format!("        - {{metric: {metric}, margin: {margin}}}\n")
    };
    format!(
        "  - key: {key}\n    hypothesis: {hypothesis}\n    owner: {owner}\n    unit: user\n    flag: {key}\n    \
         variants: {{control: 0.5, treatment: 0.5}}\n    period: {{from: {from}, to: {to}}}\n    \
         assignments: {{model: stg_assignments, keep: first, exclude: [crossed_over]}}\n    metrics:\n      \
         primary: {primary}\n      secondary: [{secondary}]\n      guardrails:\n{guardrails}    alpha: 0.05\n",
        key = experiment.key,
        hypothesis = experiment.hypothesis,
        owner = experiment.owner,
        from = date(options, experiment.first_day),
        to = date(options, experiment.last_day),
        primary = experiment.primary,
        secondary = experiment.secondary.join(", "),
        guardrails = experiment
            .guardrails
            .iter()
            .map(guardrail)
            .collect::<String>(),
    )
}

fn flags(options: &GenerateOptions, scenario: &Scenario) -> String {
    let mut text = CONTEXTS.to_owned();
    text.push_str("\nlayers:\n");
    for (index, layer) in scenario.layers.iter().enumerate() {
        let slots = scenario
            .experiments
            .iter()
            .filter(|experiment| experiment.layer == index);
        append(
            &mut text,
            format_args!(
                "  - key: {}\n    unit: user\n    salt: {}\n    algorithm: {ALGORITHM}\n    slots:\n",
                layer.key, layer.salt
            ),
        );
        for experiment in slots {
            let (start, end) = experiment.slot;
            append(
                &mut text,
                format_args!(
                    "      - {{experiment: {}, ranges: [[{start}, {end}]]}}\n",
                    experiment.key
                ),
            );
        }
    }
    text.push_str("\nflags:\n");
    for experiment in &scenario.experiments {
        text.push_str(&flag_yaml(experiment));
    }
    text.push_str("\nexperiments:\n");
    for experiment in &scenario.experiments {
        text.push_str(&flag_experiment_yaml(options, scenario, experiment));
    }
    text
}

/// The logs say who got what, so what decided it is as good as merged.
fn lock(flags: &str) -> String {
    let spec = serde_saphyr::from_str(flags).expect("what is written above has the right shape");
    let source = FlagSource {
        file: "flags/shop.yml".into(),
        spec,
    };
    Lock::of(&resolve(&[source]).value).to_string()
}

const CONTEXTS: &str = "\
version: 1

contexts:
  user:
    unit: user_id
    attributes: {country: string, platform: string, plan: string, is_internal: boolean}
";

fn flag_yaml(experiment: &Experiment) -> String {
    format!(
        "  - key: {key}\n    description: {hypothesis}\n    type: boolean\n    \
         variants: {{control: false, treatment: true}}\n    default_variant: control\n    state: enabled\n    \
         owner: {owner}\n    rules:\n      - id: staff\n        when: is_internal\n        serve: treatment\n      \
         - id: split\n        experiment: {key}\n",
        key = experiment.key,
        hypothesis = experiment.hypothesis,
        owner = experiment.owner,
    )
}

fn flag_experiment_yaml(
    options: &GenerateOptions,
    scenario: &Scenario,
    experiment: &Experiment,
) -> String {
    let mut text = format!(
        "  - key: {key}\n    unit: user\n    layer: {layer}\n    hypothesis: {hypothesis}\n    \
         primary_metric: {primary}\n    sticky: none\n    allocations:\n",
        key = experiment.key,
        layer = scenario.layers[experiment.layer].key,
        hypothesis = experiment.hypothesis,
        primary = experiment.primary,
    );
    for (index, allocation) in experiment.allocations.iter().enumerate() {
        text.push_str(&allocation_yaml(options, allocation, index));
    }
    text
}

fn allocation_yaml(options: &GenerateOptions, allocation: &Allocation, index: usize) -> String {
    let ranges = |ranges: &[(u16, u16)]| {
        let ranges: Vec<String> = ranges
            .iter()
            .map(|(start, end)| format!("[{start}, {end}]"))
            .collect();
        format!("[{}]", ranges.join(", "))
    };
    let rebucket = match index {
        0 => String::new(),
        _ => "        rebucket: allow(ranges were tidied up while the experiment ran)\n".to_owned(),
    };
    format!(
        "      - id: {id}\n        valid_from: {from}T00:00:00Z\n        algorithm: {ALGORITHM}\n        salt: {salt}\n\
         {rebucket}        split: {{control: {control}, treatment: {treatment}}}\n",
        id = allocation.id,
        from = date(options, allocation.from_day),
        salt = allocation.salt,
        control = ranges(&allocation.split[0]),
        treatment = ranges(&allocation.split[1]),
    )
}

fn truth(options: &GenerateOptions, scenario: &Scenario) -> String {
    let experiments: Vec<Value> = scenario.experiments.iter().map(experiment_truth).collect();
    let truth = json!({
        "seed": options.seed,
        "users": options.users,
        "days": options.days,
        "first_day": date(options, 0).to_string(),
        "last_day": date(options, options.days - 1).to_string(),
        "experiments": experiments,
    });
    let mut text =
        serde_json::to_string_pretty(&truth).expect("a tree of texts and finite numbers is JSON");
    text.push('\n');
    text
}

fn experiment_truth(experiment: &Experiment) -> Value {
    let effects: Vec<Value> = METRIC_DRIVERS
        .iter()
        .map(|(metric, drivers)| metric_truth(metric, experiment.relative_effect(drivers)))
        .collect();
    let (decision, also, reason) = verdict(experiment.kind);
    json!({
        "key": experiment.key,
        "decision": decision,
        "also_right": also,
        "reason": reason,
        "primary": experiment.primary,
        "effects": effects,
    })
}

/// Effects rounded to ten digits, which hides the last bits of products such as 1.06 - 1.
fn metric_truth(metric: &str, relative: f64) -> Value {
    let relative = (relative * 1e10).round() / 1e10;
    match metric {
        "purchase_conversion" => {
            json!({"metric": metric, "sign": if relative == 0.0 { 0.0 } else { relative.signum() }})
        }
        _ => json!({"metric": metric, "relative_effect": relative}),
    }
}

/// The right decision, others that a stricter rule set may give, and why.
fn verdict(kind: Kind) -> (Option<&'static str>, &'static [&'static str], &'static str) {
    match kind {
        Kind::Winner => (
            Some("ship"),
            &[],
            "the primary metric really rises and no guardrail moves",
        ),
        Kind::Null => (
            Some("no_ship"),
            &[],
            "the treatment changes nothing and the planned period is over",
        ),
        Kind::GuardrailHarm => (
            Some("no_ship"),
            &["abort"],
            "the primary metric rises, but pages load 15 % slower than the margin of 5 % allows",
        ),
        Kind::SampleRatioMismatch => (
            Some("invalid"),
            &[],
            "half of the treatment's assignments on ios never reached the log: the arms are not comparable",
        ),
        Kind::CrossedOver => (
            Some("invalid"),
            &[],
            "a second allocation moved 8 % of the buckets to the other variant while units kept coming back",
        ),
        Kind::StillRunning => (
            Some("continue"),
            &[],
            "the period ends after the last day of data and few units have a full window",
        ),
        Kind::Loser => (
            Some("no_ship"),
            &["abort"],
            "the primary metric really falls",
        ),
        Kind::SmallWinner => (
            Some("ship"),
            &[],
            "a rise of 4.5 % that only shows once the pre-period explains most of the variance",
        ),
        Kind::Background => (
            None,
            &[],
            "drawn for volume; the effect may be too small to be seen",
        ),
    }
}

fn date(options: &GenerateOptions, day: u16) -> NaiveDate {
    options
        .first_day
        .checked_add_days(Days::new(u64::from(day)))
        .expect("options were checked to stay within the calendar")
}

fn append(text: &mut String, arguments: std::fmt::Arguments) {
    text.write_fmt(arguments)
        .expect("writing to a string cannot fail");
}
