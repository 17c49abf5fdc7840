//! The rules of a decision: a total function from evidence to a verdict with its reasons.
//! Validity stands first, then guardrails, then the primary metric; the first rule that holds decides.
//! Framework: Schultzberg, Ankargren, Frånberg, "Risk-aware product decisions in A/B tests with multiple metrics", 2024.

use serde::Deserialize;

use super::words::{number, percent, signed};

/// Everything a decision rests on. Absent numbers are numbers that could not be computed.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Evidence {
    pub experiment_key: String,
    /// Whether the planned period is over at the data's last instant.
    pub has_ended: bool,
    pub alpha: f64,
    /// p of the sample-ratio test over analysed units.
    pub sample_ratio_p_value: Option<f64>,
    /// Units logged in more than one variant, as a share of all units.
    pub crossed_over_share: Option<f64>,
    pub crossover_limit: f64,
    /// Variants of the plan that have no analysed unit.
    pub missing_variants: i64,
    /// Units in a variant that the plan does not name.
    pub unknown_variant_units: i64,
    #[serde(default)]
    pub metrics: Vec<MetricEvidence>,
}

/// One metric of one treatment against control.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct MetricEvidence {
    pub metric_name: String,
    pub variant: String,
    pub role: String,
    pub direction: String,
    /// Relative loss that is still accepted.
    pub margin: Option<f64>,
    pub effect: Option<f64>,
    pub lift: Option<f64>,
    pub lift_low: Option<f64>,
    pub lift_high: Option<f64>,
    pub p_value: Option<f64>,
    /// p of the same difference before the experiment.
    pub before_p_value: Option<f64>,
    pub non_finite: i64,
    pub status: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The numbers cannot be trusted, so no effect is judged.
    Invalid,
    /// Running, and clearly doing harm: stop now.
    Abort,
    Ship,
    NoShip,
    /// The period is not over.
    Continue,
    /// The rules do not settle it: a person must.
    Review,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Invalid => "invalid",
            Verdict::Abort => "abort",
            Verdict::Ship => "ship",
            Verdict::NoShip => "no_ship",
            Verdict::Continue => "continue",
            Verdict::Review => "review",
        }
    }
}

/// A sentence, with the numbers behind it.
pub type Reason = String;

#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub verdict: Verdict,
    /// The treatment that the verdict is about, if there is one.
    pub variant: Option<String>,
    pub reasons: Vec<Reason>,
}

/// A mismatch at this level is an alarm also when it is looked at daily: 28 looks gave 0.7 % false alarms.
const SAMPLE_RATIO_ALARM: f64 = 0.001;
/// Imbalance before the experiment, after Bonferroni over the metrics.
const IMBALANCE_ALARM: f64 = 0.001;
/// Harm that stops a running experiment; strict, because it is looked at every day.
const ABORT_LEVEL: f64 = 0.001;

/// Applies the rules. Always gives a verdict and at least one reason.
pub fn decide(evidence: &Evidence) -> Decision {
    let faults = faults(evidence);
    if !faults.is_empty() {
        return Decision {
            verdict: Verdict::Invalid,
            variant: None,
            reasons: faults,
        };
    }
    let mut decisions: Vec<Decision> = treatments(evidence)
        .iter()
        .map(|variant| decide_variant(evidence, variant))
        .collect();
    // Of two that can be shipped, the one that gains more.
    let gain = |decision: &Decision| match decision.verdict {
        Verdict::Ship => primary_gain(evidence, decision.variant.as_deref()),
        _ => 0.0,
    };
    decisions.sort_by(|one, other| {
        preference(one.verdict)
            .cmp(&preference(other.verdict))
            .then(gain(other).total_cmp(&gain(one)))
    });
    let fallback = || Decision {
        verdict: if evidence.has_ended {
            Verdict::Review
        } else {
            Verdict::Continue
        },
        variant: None,
        reasons: vec!["no metric has been measured in both arms yet".to_string()],
    };
    one_of(decisions).unwrap_or_else(fallback)
}

/// The first decision; where there are several, its reasons name their treatment, and the first reason of every other one follows.
fn one_of(decisions: Vec<Decision>) -> Option<Decision> {
    let are_alike = decisions
        .windows(2)
        .all(|pair| pair[0].reasons == pair[1].reasons);
    let mut decisions = decisions.into_iter();
    let mut first = decisions.next()?;
    if are_alike {
        return Some(first);
    }
    let named = |variant: &Option<String>, reason: &Reason| match variant {
        Some(variant) => of_variant(variant, reason),
        None => reason.clone(),
    };
    for reason in &mut first.reasons {
        *reason = named(&first.variant, reason);
    }
    for other in decisions {
        let reason = other
            .reasons
            .first()
            .map(|reason| named(&other.variant, reason));
        first.reasons.extend(reason);
    }
    Some(first)
}

fn of_variant(variant: &str, reason: &str) -> Reason {
    format!("`{variant}`: {reason}")
}

/// What the primary metric gains in a treatment, as a share of control's where there is one.
fn primary_gain(evidence: &Evidence, variant: Option<&str>) -> f64 {
    let mut metrics = evidence.metrics.iter();
    let primary =
        metrics.find(|metric| metric.role == "primary" && Some(metric.variant.as_str()) == variant);
    primary.map_or(0.0, |metric| {
        metric.lift.or(metric.effect).unwrap_or(0.0) * sign(metric)
    })
}

/// Of several treatments, the one that can be acted on comes first.
fn preference(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Ship => 0,
        Verdict::Abort => 1,
        Verdict::Review => 2,
        Verdict::Continue => 3,
        Verdict::NoShip | Verdict::Invalid => 4,
    }
}

fn treatments(evidence: &Evidence) -> Vec<String> {
    let mut names: Vec<String> = evidence
        .metrics
        .iter()
        .map(|metric| metric.variant.clone())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// What makes the numbers untrustworthy, all of it.
fn faults(evidence: &Evidence) -> Vec<Reason> {
    let mut faults = Vec::new();
    if let Some(p) = evidence
        .sample_ratio_p_value
        .filter(|p| *p < SAMPLE_RATIO_ALARM)
    {
        faults.push(format!(
            "sample-ratio mismatch: the arms are not split as planned (p = {})",
            number(p)
        ));
    }
    if let Some(share) = evidence
        .crossed_over_share
        .filter(|share| *share > evidence.crossover_limit)
    {
        faults.push(format!(
            "bucketing fault: {} of the units were logged in more than one variant, {} are tolerated",
            percent(share),
            percent(evidence.crossover_limit)
        ));
    }
    if evidence.missing_variants > 0 && evidence.has_ended {
        let have = if evidence.missing_variants == 1 {
            "has"
        } else {
            "have"
        };
        faults.push(format!(
            "{} of the planned variants {have} no units",
            evidence.missing_variants
        ));
    }
    if evidence.unknown_variant_units > 0 {
        let are = match evidence.unknown_variant_units {
            1 => "unit is",
            _ => "units are",
        };
        faults.push(format!(
            "{} {are} in a variant that the experiment does not name",
            evidence.unknown_variant_units
        ));
    }
    for metric in evidence
        .metrics
        .iter()
        .filter(|metric| metric.non_finite > 0)
    {
        let fault = format!(
            "`{}` has {} values that are not finite",
            metric.metric_name, metric.non_finite
        );
        faults.push(of_one_of_several(evidence, metric, fault));
    }
    faults.extend(imbalances(evidence));
    faults.dedup();
    faults
}

fn imbalances(evidence: &Evidence) -> Vec<Reason> {
    let tested: Vec<(&MetricEvidence, f64)> = evidence
        .metrics
        .iter()
        .filter_map(|metric| Some((metric, metric.before_p_value?)))
        .collect();
    let level = IMBALANCE_ALARM / tested.len().max(1) as f64;
    let imbalanced = tested.into_iter().filter(|(_, p)| *p < level);
    imbalanced
        .map(|(metric, p)| {
            let fault = format!(
                "the arms differed in `{}` before the experiment (p = {})",
                metric.metric_name,
                number(p)
            );
            of_one_of_several(evidence, metric, fault)
        })
        .collect()
}

/// A fault of one treatment, which is named where there is another.
fn of_one_of_several(evidence: &Evidence, metric: &MetricEvidence, fault: Reason) -> Reason {
    match treatments(evidence).len() {
        0 | 1 => fault,
        _ => of_variant(&metric.variant, &fault),
    }
}

/// What a guardrail says.
enum Guard {
    Holds,
    Broken(Reason),
    Unclear(Reason),
}

fn decide_variant(evidence: &Evidence, variant: &str) -> Decision {
    let metrics: Vec<&MetricEvidence> = evidence
        .metrics
        .iter()
        .filter(|metric| metric.variant == variant)
        .collect();
    let alpha = evidence.alpha / treatments(evidence).len() as f64;
    let done = |verdict, reasons| Decision {
        verdict,
        variant: Some(variant.to_string()),
        reasons,
    };
    let mut broken = Vec::new();
    let mut unclear = Vec::new();
    for metric in metrics.iter().filter(|metric| metric.role == "guardrail") {
        match guard(metric) {
            Guard::Holds => {}
            Guard::Broken(reason) => broken.push(reason),
            Guard::Unclear(reason) => unclear.push(reason),
        }
    }
    if !evidence.has_ended {
        let harm: Vec<Reason> = metrics
            .iter()
            .filter_map(|metric| clear_harm(metric))
            .collect();
        return match harm.is_empty() {
            false => done(Verdict::Abort, harm),
            true => done(
                Verdict::Continue,
                vec!["the planned period is not over".to_string()],
            ),
        };
    }
    let Some(primary) = metrics.iter().find(|metric| metric.role == "primary") else {
        return done(
            Verdict::Review,
            vec!["the primary metric has not been measured".to_string()],
        );
    };
    let (wins, words) = primary_result(primary, alpha);
    if !broken.is_empty() {
        broken.push(words);
        return done(Verdict::NoShip, broken);
    }
    match wins {
        None => done(Verdict::Review, vec![words]),
        Some(false) => done(Verdict::NoShip, vec![words]),
        Some(true) if !unclear.is_empty() => {
            unclear.insert(0, words);
            done(Verdict::Review, unclear)
        }
        Some(true) => {
            let guardrails = metrics
                .iter()
                .filter(|metric| metric.role == "guardrail")
                .count();
            let held = if guardrails == 0 {
                "no guardrail was named".to_string()
            } else {
                format!("{guardrails} of {guardrails} guardrails hold")
            };
            done(Verdict::Ship, vec![words, held])
        }
    }
}

/// Whether the primary metric improved; none when it could not be tested.
fn primary_result(metric: &MetricEvidence, alpha: f64) -> (Option<bool>, Reason) {
    let Some(p) = metric.p_value else {
        return (
            None,
            format!(
                "`{}` could not be tested: {}",
                metric.metric_name, metric.status
            ),
        );
    };
    let gain = metric.effect.unwrap_or(0.0) * sign(metric);
    let words = described(metric);
    if p > alpha {
        return (
            Some(false),
            format!(
                "`{}` did not change significantly: {words}",
                metric.metric_name
            ),
        );
    }
    match gain > 0.0 {
        true => (
            Some(true),
            format!("`{}` improved: {words}", metric.metric_name),
        ),
        false => (
            Some(false),
            format!("`{}` got worse: {words}", metric.metric_name),
        ),
    }
}

/// With a margin, a test of non-inferiority by the interval of the relative effect; without, a test of harm.
fn guard(metric: &MetricEvidence) -> Guard {
    let Some((low, high)) = benefit_interval(metric) else {
        return Guard::Unclear(format!(
            "guardrail `{}` could not be tested: {}",
            metric.metric_name, metric.status
        ));
    };
    let words = described(metric);
    match metric.margin {
        Some(margin) if high < -margin => Guard::Broken(format!(
            "guardrail `{}` lost more than its margin of {}: {words}",
            metric.metric_name,
            percent(margin)
        )),
        Some(margin) if low > -margin => Guard::Holds,
        Some(margin) => Guard::Unclear(format!(
            "guardrail `{}` may have lost more than its margin of {}: {words}",
            metric.metric_name,
            percent(margin)
        )),
        None if high < 0.0 => Guard::Broken(format!(
            "guardrail `{}` got worse: {words}",
            metric.metric_name
        )),
        None => Guard::Holds,
    }
}

/// Harm beyond doubt while the experiment runs: a guardrail or the primary metric.
fn clear_harm(metric: &MetricEvidence) -> Option<Reason> {
    let concerned = matches!(metric.role.as_str(), "guardrail" | "primary");
    let worse = metric.effect? * sign(metric) < 0.0;
    let beyond =
        benefit_interval(metric).is_none_or(|(_, high)| high < -metric.margin.unwrap_or(0.0));
    (concerned && worse && beyond && metric.p_value? < ABORT_LEVEL).then(|| {
        format!(
            "`{}` is clearly getting worse: {}",
            metric.metric_name,
            described(metric)
        )
    })
}

/// The interval of the relative effect, turned so that more is better.
fn benefit_interval(metric: &MetricEvidence) -> Option<(f64, f64)> {
    let (low, high) = (metric.lift_low?, metric.lift_high?);
    Some(if sign(metric) > 0.0 {
        (low, high)
    } else {
        (-high, -low)
    })
}

fn sign(metric: &MetricEvidence) -> f64 {
    if metric.direction == "decrease" {
        -1.0
    } else {
        1.0
    }
}

/// `+6.2 % (3.1 % to 9.4 %), p = 0.0001`.
fn described(metric: &MetricEvidence) -> String {
    let p = metric
        .p_value
        .map_or(String::new(), |p| format!(", p = {}", number(p)));
    match (metric.lift, metric.lift_low, metric.lift_high) {
        (Some(lift), Some(low), Some(high)) => {
            format!("{} ({} to {}){p}", signed(lift), signed(low), signed(high))
        }
        _ => format!(
            "effect {}{p}",
            metric.effect.map_or("unknown".to_string(), number)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(metrics: Vec<MetricEvidence>) -> Evidence {
        Evidence {
            experiment_key: "e".into(),
            has_ended: true,
            alpha: 0.05,
            sample_ratio_p_value: Some(0.5),
            crossed_over_share: Some(0.0),
            crossover_limit: 0.005,
            metrics,
            ..Evidence::default()
        }
    }

    fn metric(role: &str, lift: f64, width: f64, p: f64, margin: Option<f64>) -> MetricEvidence {
        MetricEvidence {
            metric_name: format!("{role}_metric"),
            variant: "treatment".into(),
            role: role.into(),
            direction: "increase".into(),
            margin,
            effect: Some(lift),
            lift: Some(lift),
            lift_low: Some(lift - width),
            lift_high: Some(lift + width),
            p_value: Some(p),
            status: "ok".into(),
            ..MetricEvidence::default()
        }
    }

    fn verdict(evidence: &Evidence) -> Verdict {
        decide(evidence).verdict
    }

    #[test]
    fn a_significant_gain_with_safe_guardrails_ships() {
        let good = evidence(vec![
            metric("primary", 0.1, 0.05, 0.001, None),
            metric("guardrail", 0.0, 0.01, 0.9, Some(0.02)),
        ]);
        assert_eq!(verdict(&good), Verdict::Ship);
    }

    #[test]
    fn a_wide_guardrail_needs_a_person_and_a_broken_one_stops() {
        let primary = metric("primary", 0.1, 0.05, 0.001, None);
        let wide = evidence(vec![
            primary.clone(),
            metric("guardrail", 0.0, 0.05, 0.9, Some(0.02)),
        ]);
        assert_eq!(verdict(&wide), Verdict::Review);
        let broken = evidence(vec![
            primary,
            metric("guardrail", -0.1, 0.05, 0.001, Some(0.02)),
        ]);
        assert_eq!(verdict(&broken), Verdict::NoShip);
    }

    #[test]
    fn validity_stands_before_any_effect() {
        let mut invalid = evidence(vec![metric("primary", 0.1, 0.05, 0.001, None)]);
        invalid.sample_ratio_p_value = Some(1e-9);
        invalid.crossed_over_share = Some(0.025);
        let decision = decide(&invalid);
        assert_eq!(decision.verdict, Verdict::Invalid);
        assert_eq!(decision.reasons.len(), 2);
    }

    #[test]
    fn a_running_experiment_goes_on_unless_it_clearly_does_harm() {
        let mut running = evidence(vec![metric("primary", 0.1, 0.05, 0.001, None)]);
        running.has_ended = false;
        assert_eq!(verdict(&running), Verdict::Continue);
        running
            .metrics
            .push(metric("guardrail", -0.2, 0.05, 1e-6, Some(0.02)));
        assert_eq!(verdict(&running), Verdict::Abort);
    }

    #[test]
    fn less_is_better_where_the_metric_says_so() {
        let mut faster = metric("primary", -0.1, 0.05, 0.001, None);
        faster.direction = "decrease".into();
        assert_eq!(verdict(&evidence(vec![faster])), Verdict::Ship);
    }

    #[test]
    fn of_several_treatments_each_is_named_and_the_best_is_shipped() {
        let of = |variant: &str, lift: f64, p: f64| MetricEvidence {
            variant: variant.into(),
            ..metric("primary", lift, 0.05, p, None)
        };
        let three = vec![
            of("big", 0.1, 0.001),
            of("bigger", 0.2, 0.001),
            of("other", 0.01, 0.6),
        ];
        let decision = decide(&evidence(three.clone()));
        assert_eq!(decision.verdict, Verdict::Ship);
        assert_eq!(decision.variant.as_deref(), Some("bigger"));
        assert_eq!(
            decision.reasons,
            [
                "`bigger`: `primary_metric` improved: +20.00 % (+15.00 % to +25.00 %), p = 0.0010",
                "`bigger`: no guardrail was named",
                "`big`: `primary_metric` improved: +10.00 % (+5.00 % to +15.00 %), p = 0.0010",
                "`other`: `primary_metric` did not change significantly: +1.00 % (-4.00 % to +6.00 %), p = 0.6000",
            ]
        );
        // What is said of all alike is said once.
        let running = Evidence {
            has_ended: false,
            ..evidence(three)
        };
        assert_eq!(decide(&running).reasons, ["the planned period is not over"]);
    }

    #[test]
    fn no_evidence_is_still_a_decision() {
        let nothing = evidence(Vec::new());
        assert_eq!(verdict(&nothing), Verdict::Review);
        assert!(!decide(&nothing).reasons.is_empty());
    }
}
