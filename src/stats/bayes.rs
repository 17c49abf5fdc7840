//! Bayesian answers with exact losses. In: an effect with its standard error and a normal prior, or counts with a beta prior. Out: chance to
//! win, credible interval, expected loss of either choice, in the metric's unit.

use super::beta;
use super::double_double::DoubleDouble;
use super::normal;
use super::quadrature::integrate;
use super::record::{Number, finite, record};
use super::sample::is_share;
use super::status::Status;

/// The normal posterior of an effect: `prec = 1/se^2 + 1/prior_var`, `mean = (d/se^2 + prior_mean/prior_var)/prec`. Without `is_proper` the
/// prior is flat. Losses: `sd phi(z) -+ mean Phi(-+z)`, z = mean/sd, by Mills' series in the tail; gbstats cuts them to 0 beyond 37 sd.
/// The prior is on the scale of the effect given: rescale it for relative effects (gbstats' `prior_type="absolute"` does nothing).
pub fn bayes_normal_effect(
    effect: f64,
    se: f64,
    prior_mean: f64,
    prior_var: f64,
    is_proper: bool,
    alpha: f64,
) -> BayesNormal {
    let has_prior =
        !is_proper || (prior_mean.is_finite() && prior_var > 0.0 && prior_var.is_finite());
    if !effect.is_finite() || !(se >= 0.0) || !se.is_finite() || !has_prior || !is_share(alpha) {
        return BayesNormal::empty(Status::InvalidInput);
    }
    if se == 0.0 {
        return BayesNormal::empty(Status::ZeroVariance);
    }
    let flat = (DoubleDouble::from(effect), DoubleDouble::from(se));
    let (post_mean, post_sd) = if is_proper {
        posterior(effect, se, prior_mean, prior_var)
    } else {
        flat
    };
    let z = (post_mean / post_sd).value();
    let half = post_sd * normal::upper_quantile(alpha / 2.0);
    let ends = ((post_mean - half).value(), (post_mean + half).value());
    let is_complete = z.is_finite() && ends.0.is_finite() && ends.1.is_finite();
    if !is_complete {
        return BayesNormal {
            post_mean: finite(post_mean.value()),
            post_sd: finite(post_sd.value()),
            ..BayesNormal::empty(Status::Overflow)
        };
    }
    let post_sd = post_sd.value();
    BayesNormal {
        post_mean: finite(post_mean.value()),
        post_sd: finite(post_sd),
        chance_to_win: finite(normal::lower(z)),
        ci_low: finite(ends.0),
        ci_high: finite(ends.1),
        risk_choose_control: finite(post_sd * expected_excess(z)),
        risk_choose_treatment: finite(post_sd * expected_excess(-z)),
        status: Status::Ok,
    }
}

/// The incomplete beta's continued fraction is as long as the square root of the counts: beyond this it would not be exact. Use the normal
/// posterior of the difference there.
const MOST_COUNTED: f64 = 1e9;

/// Beta-binomial comparison of two shares with a common beta prior: P(p2 > p1) and the expected losses, by quadrature of positive
/// log-concave integrands: `E(p2 - p1)+ = integral of P(p1 < x) P(p2 > x) dx`, so that losses of 1e-30 keep their digits. Equal to Miller's and
/// Stucchio's finite sums (2014, 2015) where those can be computed, and to prior shapes that are no whole numbers as well.
pub fn bayes_beta_binomial(
    x1: f64,
    n1: f64,
    x2: f64,
    n2: f64,
    prior_a: f64,
    prior_b: f64,
) -> BayesBeta {
    let are_counts = [(x1, n1), (x2, n2)]
        .iter()
        .all(|(x, n)| *x >= 0.0 && x <= n && *n <= MOST_COUNTED);
    let is_prior = |shape: f64| shape > 0.0 && shape <= MOST_COUNTED;
    if !are_counts || !is_prior(prior_a) || !is_prior(prior_b) {
        return BayesBeta::empty(Status::InvalidInput);
    }
    let control = Shape {
        a: prior_a + x1,
        b: prior_b + n1 - x1,
    };
    let treatment = Shape {
        a: prior_a + x2,
        b: prior_b + n2 - x2,
    };
    let shapes = [&control, &treatment];
    let wins = integrate_log_concave(shapes, |logit| {
        treatment.ln_density(logit) + control.ln_tails(logit).0
    });
    let loses = integrate_log_concave(shapes, |logit| {
        control.ln_density(logit) + treatment.ln_tails(logit).0
    });
    let gain = integrate_log_concave(shapes, |logit| {
        control.ln_tails(logit).0 + treatment.ln_tails(logit).1 + ln_logistic_density(logit)
    });
    let loss = integrate_log_concave(shapes, |logit| {
        treatment.ln_tails(logit).0 + control.ln_tails(logit).1 + ln_logistic_density(logit)
    });
    BayesBeta {
        chance_to_win: finite(if wins < loses { wins } else { 1.0 - loses }),
        expected_loss_choose_treatment: finite(loss),
        expected_loss_choose_control: finite(gain),
        post_mean1: finite(control.mean()),
        post_mean2: finite(treatment.mean()),
        status: Status::Ok,
    }
}

record! {
    /// The normal posterior of an effect.
    pub struct BayesNormal {
        post_mean: Number,
        post_sd: Number,
        /// P(effect > 0).
        chance_to_win: Number,
        ci_low: Number,
        ci_high: Number,
        /// Expected loss, in units of the effect, of choosing the control (the gain passed up).
        risk_choose_control: Number,
        /// Expected loss of choosing the treatment.
        risk_choose_treatment: Number,
    }
}

record! {
    /// The beta posteriors of two shares.
    pub struct BayesBeta {
        /// P(treatment share > control share).
        chance_to_win: Number,
        expected_loss_choose_treatment: Number,
        expected_loss_choose_control: Number,
        post_mean1: Number,
        post_mean2: Number,
    }
}

/// Mean and standard deviation under a proper prior, with the prior's weight r = se^2 / prior_var formed so that no square under- or
/// overflows: `(d + r prior_mean) / (1 + r)`, `se / sqrt(1 + r)`. An effect that its prior cancels needs more than double precision.
fn posterior(
    effect: f64,
    se: f64,
    prior_mean: f64,
    prior_var: f64,
) -> (DoubleDouble, DoubleDouble) {
    let weight = (DoubleDouble::from(se) / DoubleDouble::from(prior_var).sqrt()).square();
    let total = weight + 1.0;
    (
        (weight * prior_mean + effect) / total,
        DoubleDouble::from(se) / total.sqrt(),
    )
}

/// `E(Z + z)+ = phi(z) + z Phi(z)` for a standard normal Z, relative to itself everywhere.
fn expected_excess(z: f64) -> f64 {
    if z >= 0.0 {
        return normal::density(z) + z * normal::lower(z);
    }
    let far = -z;
    if far < 2.5 {
        // phi(z) - far (1 - Phi(far)): both over e^(-z^2/2), a difference that keeps 1/z^2 of its size.
        return normal::half_square_exponential(far)
            * (normal::INVERSE_SQRT_TWO_PI - far * normal::scaled_upper(far));
    }
    normal::half_square_exponential(far) * normal::INVERSE_SQRT_TWO_PI * mills_remainder(far)
}

/// `1 - z R(z)` for z >= 2.5, R Mills' ratio. By Laplace's continued fraction R = 1/(z + K), K = 1/(z + 2/(z + 3/(z + ...))), so it is
/// K/(z + K): nothing cancels. Abramowitz and Stegun 26.2.14.
fn mills_remainder(z: f64) -> f64 {
    // Terms until 1e-17: the convergents approach like e^(-2 z sqrt(2 n)) and faster.
    let terms = (24.0 / z).powi(2) as u32 + 8;
    let mut rest = z;
    for term in (2..=terms).rev() {
        rest = z + f64::from(term) / rest;
    }
    1.0 / (z * rest + 1.0)
}

/// A beta distribution over the logit, where its density and both tails are log-concave.
struct Shape {
    a: f64,
    b: f64,
}

impl Shape {
    fn mean(&self) -> f64 {
        self.a / (self.a + self.b)
    }

    /// About the mean and the standard deviation of the logit.
    fn centre_and_spread(&self) -> (f64, f64) {
        ((self.a / self.b).ln(), (1.0 / self.a + 1.0 / self.b).sqrt())
    }

    /// Log density of the logit.
    fn ln_density(&self, logit: f64) -> f64 {
        let (x, y) = logistic(logit);
        beta::ln_kernel(self.a, self.b, x, y)
    }

    /// Logs of P(share < x) and P(share > x).
    fn ln_tails(&self, logit: f64) -> (f64, f64) {
        let (x, y) = logistic(logit);
        beta::ln_tails(self.a, self.b, x, y)
    }
}

/// x and 1 - x, both without cancellation.
fn logistic(logit: f64) -> (f64, f64) {
    let small = (-logit.abs()).exp();
    let (large_share, small_share) = (1.0 / (1.0 + small), small / (1.0 + small));
    if logit >= 0.0 {
        (large_share, small_share)
    } else {
        (small_share, large_share)
    }
}

/// `ln(x (1-x))`: dx over d logit.
fn ln_logistic_density(logit: f64) -> f64 {
    -logit.abs() - 2.0 * (-logit.abs()).exp().ln_1p()
}

/// The integral over the real line of the exponential of a concave function: find the top, then where it has fallen by e^-50. Where a narrow
/// shape meets a wide one the function turns within the narrow one's spread, so the panels end at multiples of both spreads.
fn integrate_log_concave(shapes: [&Shape; 2], logarithm: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (-60.0, 60.0);
    for _ in 0..60 {
        let third = (high - low) / 3.0;
        if logarithm(low + third) < logarithm(high - third) {
            low += third
        } else {
            high -= third
        }
    }
    let top = 0.5 * (low + high);
    let peak = logarithm(top);
    let edge = |direction: f64| {
        let (mut inside, mut outside) = (0.0, 1e-6);
        while logarithm(top + direction * outside) > peak - 50.0 && outside < 700.0 {
            inside = outside;
            outside *= 2.0;
        }
        for _ in 0..20 {
            let middle = 0.5 * (inside + outside);
            if logarithm(top + direction * middle) > peak - 50.0 {
                inside = middle
            } else {
                outside = middle
            }
        }
        top + direction * outside
    };
    let (low, high) = (edge(-1.0), edge(1.0));
    let mut cuts = vec![low, high];
    for (centre, spread) in shapes.map(Shape::centre_and_spread) {
        let marks = [-12.0, -6.0, -3.0, 0.0, 3.0, 6.0, 12.0].map(|mark| centre + mark * spread);
        cuts.extend(marks.into_iter().filter(|cut| *cut > low && *cut < high));
    }
    cuts.sort_by(f64::total_cmp);
    let scaled: f64 = cuts
        .windows(2)
        .map(|piece| integrate(piece[0], piece[1], 3, |x| (logarithm(x) - peak).exp()))
        .sum();
    scaled * peak.exp()
}
