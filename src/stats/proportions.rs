//! Tests of a difference of two proportions. In: successes and counts. Out: z tests, Newcombe's interval, Fisher's exact test.
//! The p value comes from the pooled standard error, the interval from the unpooled one: a pooled interval assumes what it should
//! question (tea-tasting's `equal_var=True` does so and is up to 39 % off). Agresti, Categorical Data Analysis (2013), ch. 3.

use super::double_double::DoubleDouble;
use super::gamma::{deviance, stirling_error};
use super::mean_tests::{Difference, MeanTest, ZTest, welch_t, z_test};
use super::normal;
use super::record::{Number, finite, record};
use super::sample::{Sample, is_share};
use super::status::Status;
use super::tail::Tail;

/// The score test: `z = (p2-p1) / sqrt(p(1-p)(1/n1+1/n2))`, p the common share; its square is Pearson's chi-square.
pub fn prop_z_pooled(x1: f64, n1: f64, x2: f64, n2: f64, alpha: f64) -> ZTest {
    with_counts(x1, n1, x2, n2, |difference| {
        let total = DoubleDouble::new(n1, n2);
        let successes = DoubleDouble::new(x1, x2);
        let share = successes / total;
        let pooled = share * ((total - successes) / total);
        z_test(difference, pooled / n1 + pooled / n2, alpha)
    })
}

/// Wald's test: standard error and interval from each arm's own share.
pub fn prop_z_unpooled(x1: f64, n1: f64, x2: f64, n2: f64, alpha: f64) -> ZTest {
    with_counts(x1, n1, x2, n2, |difference| {
        z_test(difference, difference.variance, alpha)
    })
}

/// Welch's test with the variance p(1-p) (GrowthBook's and Spotify's rule for binary metrics).
pub fn prop_welch_ml_var(x1: f64, n1: f64, x2: f64, n2: f64, alpha: f64) -> MeanTest {
    if !are_counts(x1, n1, x2, n2) {
        return MeanTest::empty(Status::InvalidInput);
    }
    welch_t(
        &Sample::of_proportion_plain(x1, n1),
        &Sample::of_proportion_plain(x2, n2),
        alpha,
    )
}

/// Welch's test with the variance p(1-p) n/(n-1), so that 0/1 data give what they give as any other mean metric.
pub fn prop_welch_unbiased_var(x1: f64, n1: f64, x2: f64, n2: f64, alpha: f64) -> MeanTest {
    if !are_counts(x1, n1, x2, n2) {
        return MeanTest::empty(Status::InvalidInput);
    }
    welch_t(
        &Sample::of_proportion(x1, n1),
        &Sample::of_proportion(x2, n2),
        alpha,
    )
}

record! {
    /// Newcombe's hybrid score interval of a difference of proportions.
    pub struct Newcombe {
        effect: Number,
        ci_low: Number,
        ci_high: Number,
        /// Wilson's interval of the control's share.
        control_low: Number,
        control_high: Number,
        /// Wilson's interval of the treatment's share.
        treatment_low: Number,
        treatment_high: Number,
    }
}

/// Newcombe's interval from two Wilson intervals: good down to small counts and shares of 0 or 1.
/// Newcombe, Statistics in Medicine 17 (1998), method 10: `d - sqrt((p2-l2)^2+(u1-p1)^2)`, `d + sqrt((u2-p2)^2+(p1-l1)^2)`.
pub fn newcombe(x1: f64, n1: f64, x2: f64, n2: f64, alpha: f64) -> Newcombe {
    if !are_counts(x1, n1, x2, n2) || !is_share(alpha) {
        return Newcombe::empty(Status::InvalidInput);
    }
    if n1 == 0.0 || n2 == 0.0 {
        let status = if n1 == n2 {
            Status::InsufficientData
        } else {
            Status::OneArmMissing
        };
        return Newcombe::empty(status);
    }
    let (control, treatment) = (wilson(x1, n1, alpha), wilson(x2, n2, alpha));
    let effect = treatment.share - control.share;
    let distance = |a: DoubleDouble, b: DoubleDouble| (a.square() + b.square()).sqrt();
    let low = effect - distance(treatment.down, control.up);
    let high = effect + distance(treatment.up, control.down);
    Newcombe {
        effect: finite(effect.value()),
        ci_low: finite(low.value()),
        ci_high: finite(high.value()),
        control_low: finite((control.share - control.down).value()),
        control_high: finite((control.share + control.up).value()),
        treatment_low: finite((treatment.share - treatment.down).value()),
        treatment_high: finite((treatment.share + treatment.up).value()),
        status: Status::Ok,
    }
}

record! {
    /// The result of Fisher's exact test.
    pub struct Fisher {
        p_two_sided: Number,
        log10_p: Number,
        /// P(the second row has at least so many in the first column).
        p_greater: Number,
        p_less: Number,
        /// Odds of the second row over odds of the first; empty when a needed cell is zero.
        odds_ratio: Number,
    }
}

/// The sums of Fisher's test are as long as the square root of the counts; above this they would take seconds.
const MOST_COUNTED: f64 = 1e12;

/// Fisher's exact test of [[successes, failures] of control, [successes, failures] of treatment]; the two-sided p adds all tables with
/// the same margins that are no more probable than this one. Fisher, The Design of Experiments (1935), section 11.
pub fn fisher_exact(table: [[f64; 2]; 2]) -> Fisher {
    let [[a, b], [c, d]] = table;
    let are_whole = [a, b, c, d]
        .iter()
        .all(|count| *count >= 0.0 && count.fract() == 0.0 && *count < MOST_COUNTED);
    if !are_whole {
        return Fisher::empty(Status::InvalidInput);
    }
    if a + b + c + d == 0.0 {
        return Fisher::empty(Status::InsufficientData);
    }
    // Walking up from the observed count must walk away from the mode: swap the rows if it does not.
    let is_high = a * (a + b + c + d) >= (a + b) * (a + c);
    let margins = if is_high {
        Margins {
            first_row: a + b,
            second_row: c + d,
            first_column: a + c,
        }
    } else {
        Margins {
            first_row: c + d,
            second_row: a + b,
            first_column: a + c,
        }
    };
    let tails = margins.tails(if is_high { a } else { c });
    let (p_less, p_greater) = if is_high {
        (tails.near, tails.far)
    } else {
        (tails.far, tails.near)
    };
    Fisher {
        p_two_sided: finite(tails.both.p().min(1.0)),
        log10_p: finite(tails.both.log10_p().min(0.0)),
        p_greater: finite(p_greater),
        p_less: finite(p_less),
        odds_ratio: if a * d > 0.0 {
            finite(b * c / (a * d))
        } else {
            None
        },
        status: Status::Ok,
    }
}

fn with_counts(x1: f64, n1: f64, x2: f64, n2: f64, test: impl Fn(&Difference) -> ZTest) -> ZTest {
    if !are_counts(x1, n1, x2, n2) {
        return ZTest::empty(Status::InvalidInput);
    }
    match Difference::of(
        &Sample::of_proportion_plain(x1, n1),
        &Sample::of_proportion_plain(x2, n2),
    ) {
        Ok(difference) => test(&difference),
        Err(faulty) => ZTest {
            effect: faulty.effect,
            ..ZTest::empty(faulty.status)
        },
    }
}

fn are_counts(x1: f64, n1: f64, x2: f64, n2: f64) -> bool {
    [(x1, n1), (x2, n2)]
        .iter()
        .all(|(x, n)| *x >= 0.0 && x <= n && n.is_finite())
}

/// Wilson's interval as distances from the share, in double-double: near a share of 0 or 1 they are differences of almost equal numbers.
struct Wilson {
    share: DoubleDouble,
    down: DoubleDouble,
    up: DoubleDouble,
}

fn wilson(successes: f64, n: f64, alpha: f64) -> Wilson {
    let z = DoubleDouble::from(normal::upper_quantile(alpha / 2.0));
    let square = z.square();
    let failures = n - successes;
    let spread = square.scaled(0.25) + DoubleDouble::from(successes) * failures / n;
    let root = z * spread.sqrt();
    let middle = square.scaled(0.5) + successes;
    let share = DoubleDouble::from(successes) / n;
    let total = square + n;
    // The ends are exactly 0 and 1 where they are.
    let distance = |is_at_limit: bool, distance: DoubleDouble| {
        if is_at_limit {
            DoubleDouble::ZERO
        } else {
            distance
        }
    };
    Wilson {
        share,
        down: distance(successes == 0.0, share - (middle - root) / total),
        up: distance(failures == 0.0, (middle + root) / total - share),
    }
}

/// The fixed margins of a 2x2 table; the count `a` follows the hypergeometric distribution.
struct Margins {
    first_row: f64,
    second_row: f64,
    first_column: f64,
}

struct FisherTails {
    both: Tail,
    /// P(at least the observed count), the count being on the upper side.
    near: f64,
    /// P(at most the observed count).
    far: f64,
}

impl Margins {
    /// Ratio of the probabilities of a + 1 and a.
    fn step(&self, a: f64) -> f64 {
        (self.first_row - a) * (self.first_column - a)
            / ((a + 1.0) * (self.second_row - self.first_column + a + 1.0))
    }

    fn tails(&self, observed: f64) -> FisherTails {
        let logarithm = self.ln_probability(observed);
        let near_sum = self.sum_upwards(observed);
        let near = scaled_tail(near_sum, logarithm);
        let far = 1.0 - near.p() + logarithm.exp();
        let both = scaled_tail(near_sum + self.opposite_sum(observed, logarithm), logarithm);
        FisherTails {
            both,
            near: near.p().min(1.0),
            far: far.clamp(0.0, 1.0),
        }
    }

    /// The probabilities of `from` and all above it over that of `from`.
    fn sum_upwards(&self, from: f64) -> f64 {
        let mut sum = 1.0;
        let mut relative = 1.0;
        let mut a = from;
        while a < self.first_column.min(self.first_row) && relative > 1e-18 * sum {
            relative *= self.step(a);
            a += 1.0;
            sum += relative;
        }
        sum
    }

    fn sum_downwards(&self, from: f64) -> f64 {
        let mut sum = 1.0;
        let mut relative = 1.0;
        let mut a = from;
        while a > self.lowest() && relative > 1e-18 * sum {
            a -= 1.0;
            relative /= self.step(a);
            sum += relative;
        }
        sum
    }

    /// The tables below the mode that are no more probable than the observed one, over its probability.
    fn opposite_sum(&self, observed: f64, logarithm: f64) -> f64 {
        // Tables of equal probability may differ by rounding: the same tolerance as R's fisher.test.
        let limit = logarithm + 1e-7;
        let mode = ((self.first_row + 1.0) * (self.first_column + 1.0)
            / (self.first_row + self.second_row + 2.0))
            .floor();
        let (mut low, mut high) = (self.lowest() - 1.0, mode.min(observed - 1.0));
        if high < self.lowest() {
            return 0.0;
        }
        if self.ln_probability(high) <= limit {
            low = high;
        }
        // The largest count below the mode whose probability is within the limit, by bisection: probabilities rise up to the mode.
        while high - low > 1.0 {
            let middle = ((low + high) / 2.0).floor();
            if self.ln_probability(middle) <= limit {
                low = middle
            } else {
                high = middle
            }
        }
        if low < self.lowest() {
            return 0.0;
        }
        (self.ln_probability(low) - logarithm).exp() * self.sum_downwards(low)
    }

    fn lowest(&self) -> f64 {
        (self.first_column - self.second_row).max(0.0)
    }

    /// Log probability of a by saddle-point binomials (Loader 2000): no difference of large log gammas.
    fn ln_probability(&self, a: f64) -> f64 {
        let total = self.first_row + self.second_row;
        let share = self.first_column / total;
        if self.first_column == 0.0 || self.first_column == total {
            return 0.0;
        }
        ln_binomial(a, self.first_row, share)
            + ln_binomial(self.first_column - a, self.second_row, share)
            - ln_binomial(self.first_column, total, share)
    }
}

/// A sum over a log probability as a tail.
fn scaled_tail(sum: f64, logarithm: f64) -> Tail {
    let tail = Tail {
        exponent: DoubleDouble::from(-logarithm),
        factor: sum,
        complement: 1.0,
    };
    Tail {
        complement: (1.0 - tail.p()).max(0.0),
        ..tail
    }
}

/// `ln (n choose x) p^x (1-p)^(n-x)`, Loader's form.
pub(crate) fn ln_binomial(x: f64, n: f64, p: f64) -> f64 {
    if x == 0.0 {
        return if n == 0.0 { 0.0 } else { n * (-p).ln_1p() };
    }
    if x == n {
        return n * p.ln();
    }
    let correction = stirling_error(n) - stirling_error(x) - stirling_error(n - x);
    correction
        - deviance(x, n * p)
        - deviance(n - x, n * (1.0 - p))
        - 0.5 * (std::f64::consts::TAU * x * (n - x) / n).ln()
}
