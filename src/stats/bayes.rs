//! Bayesian answers with exact losses. In: an effect with its standard error and a normal prior, or counts with a beta prior. Out: chance to
//! win, credible interval, expected loss of either choice, in the metric's unit.

use super::beta;
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
    // In units of se, so that no square under- or overflows: weight of the prior r = se^2 / prior_var.
    let prior_weight = if is_proper {
        (se / prior_var.sqrt()).powi(2)
    } else {
        0.0
    };
    let prior_part = if is_proper {
        prior_mean * prior_weight
    } else {
        0.0
    };
    let post_mean = (effect + prior_part) / (1.0 + prior_weight);
    let post_sd = se / (1.0 + prior_weight).sqrt();
    let z = post_mean / post_sd;
    let half = normal::upper_quantile(alpha / 2.0) * post_sd;
    BayesNormal {
        post_mean: finite(post_mean),
        post_sd: finite(post_sd),
        chance_to_win: finite(normal::lower(z)),
        ci_low: finite(post_mean - half),
        ci_high: finite(post_mean + half),
        risk_choose_control: finite(post_sd * expected_excess(z)),
        risk_choose_treatment: finite(post_sd * expected_excess(-z)),
        status: Status::Ok,
    }
}

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
        .all(|(x, n)| *x >= 0.0 && x <= n && n.is_finite());
    if !are_counts
        || !(prior_a > 0.0 && prior_b > 0.0 && prior_a.is_finite() && prior_b.is_finite())
    {
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
    let wins =
        integrate_log_concave(|logit| treatment.ln_density(logit) + control.ln_tails(logit).0);
    let loses =
        integrate_log_concave(|logit| control.ln_density(logit) + treatment.ln_tails(logit).0);
    let gain = integrate_log_concave(|logit| {
        control.ln_tails(logit).0 + treatment.ln_tails(logit).1 + ln_logistic_density(logit)
    });
    let loss = integrate_log_concave(|logit| {
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

/// `E(Z + z)+ = phi(z) + z Phi(z)` for a standard normal Z, relative to itself everywhere.
fn expected_excess(z: f64) -> f64 {
    if z >= 0.0 {
        return normal::density(z) + z * normal::lower(z);
    }
    let far = -z;
    if far < 8.0 {
        // phi(z) - far (1 - Phi(far)): both over e^(-z^2/2), a difference that keeps 1/z^2 of its size.
        return normal::half_square_exponential(far)
            * (normal::INVERSE_SQRT_TWO_PI - far * normal::scaled_upper(far));
    }
    normal::density(far) * mills_remainder(far)
}

/// `1 - z R(z)`, R Mills' ratio: 1/z^2 - 3/z^4 + 15/z^6 - ..., for z >= 8.
fn mills_remainder(z: f64) -> f64 {
    let inverse_square = 1.0 / (z * z);
    let (mut term, mut sum, mut odd) = (inverse_square, 0.0, 3.0);
    for _ in 0..30 {
        sum += term;
        let next = -term * odd * inverse_square;
        if next.abs() < 1e-17 * sum || next.abs() > term.abs() {
            break;
        }
        term = next;
        odd += 2.0;
    }
    sum
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

/// The integral over the real line of the exponential of a concave function: find the top, then where it has fallen by e^-50.
fn integrate_log_concave(logarithm: impl Fn(f64) -> f64) -> f64 {
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
    let scaled = integrate(edge(-1.0), edge(1.0), 12, |x| (logarithm(x) - peak).exp());
    scaled * peak.exp()
}
