//! Quantiles, winsorising and quantile effects. In: raw values, or order statistics and cluster sums. Out: caps, quantiles, variances, tests.

use super::double_double::DoubleDouble;
use super::mean_tests::{Difference, ZTest, z_test};
use super::normal;
use super::ratio::ratio_sample;
use super::record::{Number, finite, record};
use super::sample::{Moments, is_share};
use super::state::State;
use super::status::Status;

/// The sample quantile of finite values, linear between order statistics (type 7 of Hyndman and Fan, American Statistician 50, 1996).
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_of_sorted(&sorted, share)
}

/// Caps values at a quantile of all arms pooled, or at a frozen cap; numerator and denominator of a ratio are capped separately.
/// The cap must be committed or frozen at the first decision look: a cap that moves with the data makes looks incomparable.
pub fn winsorize_upper(values: &[f64], share: f64) -> Winsorized {
    if !values.iter().all(|value| value.is_finite()) {
        return Winsorized::empty(Status::NonFinite);
    }
    if !(0.0..=1.0).contains(&share) {
        return Winsorized::empty(Status::InvalidInput);
    }
    match quantile(values, share) {
        Some(cap) => winsorize_at(values, cap),
        None => Winsorized::empty(Status::InsufficientData),
    }
}

/// Caps values at a frozen cap.
pub fn winsorize_at(values: &[f64], cap: f64) -> Winsorized {
    let capped: Vec<f64> = values.iter().map(|value| value.min(cap)).collect();
    let state = State::of(&capped);
    if state.non_finite > 0 || cap.is_nan() {
        return Winsorized::empty(Status::NonFinite);
    }
    let mean = (state.n > 0).then(|| state.mean[0].value());
    let var = (state.n > 1)
        .then(|| (DoubleDouble::from(state.cross_products[0]) / (state.n as f64 - 1.0)).value());
    Winsorized {
        cap: finite(cap),
        mean: mean.and_then(finite),
        var: var.and_then(finite),
        n_capped: i64::try_from(values.iter().filter(|value| **value > cap).count()).ok(),
        status: if var.is_some() {
            Status::Ok
        } else {
            Status::InsufficientData
        },
    }
}

/// The variance of a quantile of events clustered in units. The iid part is the outer interval, `sigma = (U - L) / (2z)` with U and L the
/// order statistics at `nu -+ z sqrt(nu (1-nu) / n)`, z of 95 %; it is scaled by the clustered over the iid variance of the share of events
/// below the quantile. (GrowthBook's text has that ratio upside down, its code has not.) Sums are over clusters: `s` counts events
/// below the quantile, `n` all events. Deng, Knoblich and Lu, KDD 2018, section 4.2; Yao, Li and Lu 2024.
pub fn quantile_var_clustered(inputs: &ClusteredQuantile) -> QuantileVariance {
    let c = inputs;
    let is_valid = is_share(c.nu) && c.n_events > 0.0 && c.n_star > 0.0 && c.q_upper >= c.q_lower;
    if !is_valid {
        return QuantileVariance::empty(Status::InvalidInput);
    }
    if c.n_clusters < 2.0 {
        return QuantileVariance::empty(Status::InsufficientData);
    }
    let moments = Moments {
        n: c.n_clusters,
        mean: [
            DoubleDouble::from(c.s_sum) / c.n_clusters,
            DoubleDouble::from(c.n_sum) / c.n_clusters,
        ],
        cross_products: [
            [
                centred(c.s_ss, c.s_sum, c.s_sum, c),
                centred(c.sn_sp, c.s_sum, c.n_sum, c),
            ],
            [
                centred(c.sn_sp, c.s_sum, c.n_sum, c),
                centred(c.n_ss, c.n_sum, c.n_sum, c),
            ],
        ],
    };
    let ratio = moments.mean[0] / moments.mean[1];
    let gradient = [
        DoubleDouble::ONE / moments.mean[1],
        -ratio / moments.mean[1],
    ];
    let cluster_variance = moments.form(&gradient, &gradient) / (c.n_clusters - 1.0) / c.n_clusters;
    let iid = iid_unit_variance(
        c.q_lower,
        c.q_upper,
        c.n_star / c.n_events * (c.n_events - 1.0),
    );
    let share_variance = DoubleDouble::from(c.nu) * (1.0 - c.nu) / c.n_events;
    // Sums that no data can have give a negative variance: shown, but not to be believed.
    let is_possible = cluster_variance.high >= 0.0;
    QuantileVariance {
        unit_variance_iid: finite(iid.value()),
        cluster_var_of_phat: finite(cluster_variance.value()),
        unit_variance_clustered: finite((iid * cluster_variance / share_variance).value()),
        status: match (is_possible, c.q_upper == c.q_lower) {
            (false, _) => Status::InvalidInput,
            (true, true) => Status::ZeroVariance,
            (true, false) => Status::Ok,
        },
    }
}

/// A quantile with its variance, from raw values; `clusters` names the unit of each value, or is empty when each value is its own unit.
pub fn quantile_estimate(values: &[f64], clusters: &[f64], nu: f64) -> QuantileEstimate {
    if !values.iter().all(|value| value.is_finite()) {
        return QuantileEstimate::empty(Status::NonFinite);
    }
    if !is_share(nu) || !(clusters.is_empty() || clusters.len() == values.len()) {
        return QuantileEstimate::empty(Status::InvalidInput);
    }
    let inflation = |estimate: f64| match clusters.is_empty() {
        true => Some(1.0),
        false => {
            let (values, lengths) = by_cluster(values, clusters);
            cluster_inflation(units_of(&values, &lengths), estimate, nu)
        }
    };
    estimate_with(values, nu, inflation)
}

/// The estimate of finite values; `inflation` says how much more it varies because values come in clusters.
fn estimate_with(
    values: &[f64],
    nu: f64,
    inflation: impl Fn(f64) -> Option<f64>,
) -> QuantileEstimate {
    if !is_share(nu) {
        return QuantileEstimate::empty(Status::InvalidInput);
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(estimate) = quantile_of_sorted(&sorted, nu) else {
        return QuantileEstimate::empty(Status::InsufficientData);
    };
    let n = values.len() as f64;
    let half = z_of_outer_interval() * (nu * (1.0 - nu) / n).sqrt();
    let lower = quantile_of_sorted(&sorted, (nu - half).max(0.0));
    let upper = quantile_of_sorted(&sorted, (nu + half).min(1.0));
    let (Some(q_lower), Some(q_upper)) = (lower, upper) else {
        return QuantileEstimate::empty(Status::InsufficientData);
    };
    let iid = iid_unit_variance(q_lower, q_upper, n - 1.0);
    let inflation = inflation(estimate);
    let is_too_small = half >= nu.min(1.0 - nu);
    QuantileEstimate {
        n: finite(n),
        quantile: finite(estimate),
        q_lower: finite(q_lower),
        q_upper: finite(q_upper),
        unit_variance: inflation.and_then(|inflation| finite(iid.value() * inflation)),
        status: match (inflation, is_too_small, q_lower == q_upper) {
            (None, _, _) | (_, true, _) => Status::InsufficientData,
            (_, _, true) => Status::ZeroVariance,
            _ => Status::Ok,
        },
    }
}

/// The z test of a difference of quantiles, from `quantile_estimate` of each arm.
pub fn quantile_test(
    control: &QuantileEstimate,
    treatment: &QuantileEstimate,
    alpha: f64,
) -> ZTest {
    for estimate in [control, treatment] {
        if !estimate.status.is_ok() {
            return ZTest::empty(estimate.status);
        }
    }
    let part = |number: Number| DoubleDouble::from(number.unwrap_or(f64::NAN));
    let control_variance = part(control.unit_variance) / part(control.n);
    let treatment_variance = part(treatment.unit_variance) / part(treatment.n);
    let difference = Difference {
        effect: part(treatment.quantile) - part(control.quantile),
        control_variance,
        treatment_variance,
        variance: control_variance + treatment_variance,
        control_n: part(control.n).high,
        treatment_n: part(treatment.n).high,
        unit: 1.0,
    };
    z_test(&difference, difference.variance, alpha)
}

/// A quantile as the state of a mean: as many units, the quantile as mean, and a variance that makes the mean's standard error
/// the quantile's. So tests of means compare quantiles, but such states cannot be merged. Each list holds one unit's values.
/// Where the data are too few for the quantile's interval, one unit is left, which has a mean and no variance.
pub fn quantile_state(units: &[Vec<f64>], nu: f64) -> State {
    let units = units.iter().filter(|unit| !unit.is_empty());
    let lengths: Vec<u32> = units.clone().map(|unit| unit.len() as u32).collect();
    let values: Vec<f64> = units.flatten().copied().collect();
    quantile_state_of(&values, &lengths, nu)
}

/// The same from the values of all units in a row and how many each unit has; without lengths each has one.
pub fn quantile_state_of(values: &[f64], lengths: &[u32], nu: f64) -> State {
    let one_each = vec![1; if lengths.is_empty() { values.len() } else { 0 }];
    let lengths = if lengths.is_empty() {
        &one_each
    } else {
        lengths
    };
    let is_wrong = |unit: &&[f64]| unit.iter().any(|value| !value.is_finite());
    let non_finite = units_of(values, lengths).filter(is_wrong).count() as u64;
    if non_finite > 0 || values.is_empty() {
        return State {
            non_finite,
            ..State::empty(1)
        };
    }
    // Units with one value each are no clusters: the outer interval is all there is.
    let inflation = |estimate: f64| match values.len() == lengths.len() {
        true => Some(1.0),
        false => cluster_inflation(units_of(values, lengths), estimate, nu),
    };
    let estimate = estimate_with(values, nu, inflation);
    let n = lengths.len() as u64;
    let quantile = estimate.quantile.unwrap_or(f64::NAN);
    let moments = match (estimate.status, estimate.unit_variance, estimate.n) {
        (Status::Ok | Status::ZeroVariance, Some(variance), Some(events)) => {
            State::of_moments(n, quantile, variance / events * n as f64)
        }
        _ => State {
            nulls: n - 1,
            ..State::of_moments(1, quantile, 0.0)
        },
    };
    let extreme =
        |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).into_iter().collect();
    State {
        min: extreme(f64::min),
        max: extreme(f64::max),
        ..moments
    }
}

record! {
    /// Moments after capping.
    pub struct Winsorized {
        cap: Number,
        mean: Number,
        /// Divisor n - 1.
        var: Number,
        n_capped: Option<i64>,
    }
}

record! {
    /// The variance of a quantile, times the number of events.
    pub struct QuantileVariance {
        unit_variance_iid: Number,
        /// Variance of the share of events below the quantile, units being the clusters.
        cluster_var_of_phat: Number,
        unit_variance_clustered: Number,
    }
}

record! {
    /// A quantile of raw values with its outer interval.
    pub struct QuantileEstimate {
        n: Number,
        quantile: Number,
        q_lower: Number,
        q_upper: Number,
        /// Variance of the quantile times n, with divisor n - 1.
        unit_variance: Number,
    }
}

/// What [`quantile_var_clustered`] reads: counts of events, the outer interval's order statistics, sums over clusters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClusteredQuantile {
    pub n_events: f64,
    /// The number of events the outer interval was computed with.
    pub n_star: f64,
    pub nu: f64,
    pub q_lower: f64,
    pub q_upper: f64,
    pub n_clusters: f64,
    pub s_sum: f64,
    pub s_ss: f64,
    pub n_sum: f64,
    pub n_ss: f64,
    pub sn_sp: f64,
}

/// The quantile of sorted values.
fn quantile_of_sorted(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = DoubleDouble::from(share) * last as f64;
    let below = position.value().floor().clamp(0.0, last as f64);
    let fraction = (position - below).value();
    let (low, high) = (
        sorted[below as usize],
        sorted[(below as usize + 1).min(last)],
    );
    // Decimal shares such as 0.9 of 50 steps land a rounding away from an order statistic.
    if fraction.abs() < 1e-12 {
        return Some(low);
    }
    Some((DoubleDouble::from(low) + DoubleDouble::new(high, -low) * fraction).value())
}

fn z_of_outer_interval() -> f64 {
    normal::upper_quantile(0.025)
}

/// The unit variance of a quantile of n independent events whose outer interval was read at a sample size of `n_star`.
pub fn quantile_unit_variance(q_lower: f64, q_upper: f64, n_events: f64, n_star: f64) -> f64 {
    iid_unit_variance(q_lower, q_upper, n_star / n_events * (n_events - 1.0)).value()
}

/// `degrees ((U - L) / (2z))^2`: with n - 1 for n, as for any variance of a unit.
fn iid_unit_variance(lower: f64, upper: f64, degrees: f64) -> DoubleDouble {
    (DoubleDouble::new(upper, -lower) / (2.0 * z_of_outer_interval())).square() * degrees
}

/// A centred sum of products from plain sums, which double-double keeps from cancelling.
fn centred(products: f64, left: f64, right: f64, c: &ClusteredQuantile) -> DoubleDouble {
    DoubleDouble::from(products) - DoubleDouble::from(left) * right / c.n_clusters
}

/// Clustered over iid variance of the share at or below the estimate.
fn cluster_inflation<'a>(
    units: impl Iterator<Item = &'a [f64]>,
    estimate: f64,
    nu: f64,
) -> Option<f64> {
    let counts = |unit: &[f64]| {
        let below = unit.iter().filter(|value| **value <= estimate).count();
        (below as f64, unit.len() as f64)
    };
    let (below, all): (Vec<f64>, Vec<f64>) = units.map(counts).unzip();
    let values: f64 = all.iter().sum();
    let moments = Moments::<2>::of_state(&State::of_columns(&[&below, &all])).ok()?;
    let sample = ratio_sample(&moments).ok()?;
    Some(sample.variance_of_mean().value() / (nu * (1.0 - nu) / values))
}

/// Values in the order of their clusters, and how many each cluster has.
fn by_cluster(values: &[f64], clusters: &[f64]) -> (Vec<f64>, Vec<u32>) {
    let mut rows: Vec<(f64, f64)> = clusters
        .iter()
        .copied()
        .zip(values.iter().copied())
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let lengths = rows.chunk_by(|a, b| a.0 == b.0);
    let lengths = lengths.map(|group| group.len() as u32).collect();
    (rows.into_iter().map(|(_, value)| value).collect(), lengths)
}

/// The values of each unit.
fn units_of<'a>(values: &'a [f64], lengths: &'a [u32]) -> impl Iterator<Item = &'a [f64]> {
    let mut rest = values;
    lengths.iter().map(move |length| {
        let (unit, later) = rest.split_at(*length as usize);
        rest = later;
        unit
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::mean_tests::welch_t;
    use crate::stats::sample::Sample;

    /// Units with 1 to 4 values each.
    fn units(count: u32, shift: f64) -> Vec<Vec<f64>> {
        let value = |unit: u32, at: u32| f64::from((unit * 37 + at * 11) % 101) + shift;
        (0..count)
            .map(|unit| (0..=unit % 4).map(|at| value(unit, at)).collect())
            .collect()
    }

    #[test]
    fn states_of_quantiles_are_tested_as_the_quantiles_are() {
        let (control, treatment) = (units(300, 0.0), units(280, 3.0));
        let estimate = |units: &[Vec<f64>]| {
            let clusters: Vec<f64> = (0..units.len())
                .flat_map(|at| vec![at as f64; units[at].len()])
                .collect();
            quantile_estimate(&units.concat(), &clusters, 0.9)
        };
        let expected = quantile_test(&estimate(&control), &estimate(&treatment), 0.05);
        let sample = |units: &[Vec<f64>]| Sample::of_state(&quantile_state(units, 0.9), 0).unwrap();
        let found = welch_t(&sample(&control), &sample(&treatment), 0.05);
        let same = |one: Number, other: Number| {
            let (one, other) = (one.unwrap(), other.unwrap());
            assert!((one / other - 1.0).abs() < 1e-12, "{one} and {other}");
        };
        same(found.effect, expected.effect);
        same(found.se, expected.se);
        assert_eq!(quantile_state(&control, 0.9).n, 300);
    }

    #[test]
    fn too_few_units_have_a_quantile_without_a_variance() {
        let state = quantile_state(&[vec![1.0], vec![3.0]], 0.5);
        assert_eq!((state.n, state.nulls, state.mean[0].value()), (1, 1, 2.0));
        assert_eq!(quantile_state(&[], 0.5).n, 0);
        assert_eq!(
            quantile_state(&[vec![f64::NAN], vec![3.0]], 0.5).non_finite,
            1
        );
    }
}
