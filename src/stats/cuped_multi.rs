//! CUPED with several covariates. In: states with the metric first and k covariates behind it. Out: Welch's test on adjusted means.
//! `theta = C_XX^-1 C_Xy` by pivoted Cholesky; covariates that are combinations of others are dropped and `rank` says how many remain.

use super::cuped::{ThetaRule, residual};
use super::double_double::DoubleDouble;
use super::linear::{Solution, solve};
use super::mean_tests::welch_t;
use super::ratio::arm_status;
use super::record::{Number, finite, record};
use super::sample::Sample;
use super::state::State;
use super::status::Status;

/// Test with one theta for both arms, on the concatenated sample or within arms.
pub fn cuped_multi(
    control: &State,
    treatment: &State,
    rule: ThetaRule,
    alpha: f64,
) -> CupedMultiTest {
    let arms = match Arms::of(control, treatment) {
        Ok(arms) => arms,
        Err(status) => {
            return CupedMultiTest::empty(arm_status(control.n as f64, treatment.n as f64, status));
        }
    };
    let solution = arms.theta(rule);
    let theta = &solution.coefficients;
    let control_sample = arms.control.adjusted(theta, &arms.centre);
    let treatment_sample = arms.treatment.adjusted(theta, &arms.centre);
    CupedMultiTest::of(
        &control_sample,
        &treatment_sample,
        theta,
        solution.rank(),
        alpha,
    )
}

/// Lin's fully interacted adjustment: a theta for each arm, never less efficient for many units. The variance has
/// `(thetaT - thetaC)' S_x (thetaT - thetaC) / N` more, because the common covariate mean is itself estimated.
/// Lin, "Agnostic notes on regression adjustments", Annals of Applied Statistics 7 (2013). The thetas reported are the treatment's.
pub fn cuped_multi_interacted(control: &State, treatment: &State, alpha: f64) -> CupedMultiTest {
    let arms = match Arms::of(control, treatment) {
        Ok(arms) => arms,
        Err(status) => {
            return CupedMultiTest::empty(arm_status(control.n as f64, treatment.n as f64, status));
        }
    };
    let (first, second) = (arms.control.regression(), arms.treatment.regression());
    let mut control_sample = arms.control.adjusted(&first.coefficients, &arms.centre);
    let mut treatment_sample = arms.treatment.adjusted(&second.coefficients, &arms.centre);
    let spread = arms.spread_of_centre(&first.coefficients, &second.coefficients);
    // The common term is split evenly so that the sum of the variances of the means is right.
    control_sample.variance = control_sample.variance + spread.scaled(0.5) * control_sample.n;
    treatment_sample.variance = treatment_sample.variance + spread.scaled(0.5) * treatment_sample.n;
    CupedMultiTest::of(
        &control_sample,
        &treatment_sample,
        &second.coefficients,
        first.rank().min(second.rank()),
        alpha,
    )
}

record! {
    /// The result of a test of means adjusted by several covariates.
    pub struct CupedMultiTest {
        effect: Number,
        se: Number,
        df: Number,
        t: Number,
        p_two_sided: Number,
        log10_p: Number,
        p_greater: Number,
        p_less: Number,
        ci_low: Number,
        ci_high: Number,
        /// The first two coefficients; all of them are in `thetas`.
        theta0: Number,
        theta1: Number,
        thetas: Vec<f64>,
        /// How many covariates were independent enough to be used.
        rank: Option<i64>,
        adj_mean1: Number,
        adj_mean2: Number,
        adj_var1: Number,
        adj_var2: Number,
    }
}

impl CupedMultiTest {
    fn of(
        control: &Sample,
        treatment: &Sample,
        theta: &[DoubleDouble],
        rank: usize,
        alpha: f64,
    ) -> Self {
        let test = welch_t(control, treatment, alpha);
        let coefficient = |place: usize| theta.get(place).and_then(|theta| finite(theta.value()));
        Self {
            effect: test.effect,
            se: test.se,
            df: test.df,
            t: test.t,
            p_two_sided: test.p_two_sided,
            log10_p: test.log10_p,
            p_greater: test.p_greater,
            p_less: test.p_less,
            ci_low: test.ci_low,
            ci_high: test.ci_high,
            theta0: coefficient(0),
            theta1: coefficient(1),
            thetas: theta.iter().map(|theta| theta.value()).collect(),
            rank: i64::try_from(rank).ok(),
            adj_mean1: finite(control.mean.value()),
            adj_mean2: finite(treatment.mean.value()),
            adj_var1: finite(control.variance.value()),
            adj_var2: finite(treatment.variance.value()),
            status: test.status,
        }
    }
}

struct Arms<'a> {
    control: Arm<'a>,
    treatment: Arm<'a>,
    /// Means of all values over both arms.
    centre: Vec<DoubleDouble>,
}

impl<'a> Arms<'a> {
    fn of(control: &'a State, treatment: &'a State) -> Result<Self, Status> {
        let width = control.width().max(treatment.width()).max(2);
        control
            .fault(width)
            .or(treatment.fault(width))
            .map_or(Ok(()), Err)?;
        if control.n < 2 || treatment.n < 2 {
            return Err(Status::InsufficientData);
        }
        let n = (control.n + treatment.n) as f64;
        let centre = (0..width)
            .map(|value| {
                (control.mean[value] * control.n as f64
                    + treatment.mean[value] * treatment.n as f64)
                    / n
            })
            .collect();
        Ok(Self {
            control: Arm { state: control },
            treatment: Arm { state: treatment },
            centre,
        })
    }

    fn theta(&self, rule: ThetaRule) -> Solution {
        let between = match rule {
            ThetaRule::Concatenated => {
                DoubleDouble::from(self.n(true)) * self.n(false) / (self.n(true) + self.n(false))
            }
            ThetaRule::WithinArms => DoubleDouble::ZERO,
        };
        let shift =
            |value: usize| self.treatment.state.mean[value] - self.control.state.mean[value];
        let product = |i: usize, j: usize| {
            let within = DoubleDouble::from(self.control.state.cross_product(i, j))
                + self.treatment.state.cross_product(i, j);
            within + shift(i) * shift(j) * between
        };
        regression(self.centre.len(), product)
    }

    fn n(&self, is_control: bool) -> f64 {
        if is_control {
            self.control.state.n as f64
        } else {
            self.treatment.state.n as f64
        }
    }

    /// Variance of the common covariate mean along the difference of two thetas.
    fn spread_of_centre(&self, first: &[DoubleDouble], second: &[DoubleDouble]) -> DoubleDouble {
        let difference: Vec<DoubleDouble> =
            second.iter().zip(first).map(|(b, a)| *b - *a).collect();
        let squares = self.control.form(&difference) + self.treatment.form(&difference);
        let n = self.n(true) + self.n(false);
        residual(squares, DoubleDouble::ZERO) / (n - 2.0) / n
    }
}

struct Arm<'a> {
    state: &'a State,
}

impl Arm<'_> {
    fn regression(&self) -> Solution {
        regression(self.state.width(), |i, j| {
            DoubleDouble::from(self.state.cross_product(i, j))
        })
    }

    /// `mean(y) - theta (mean(x) - centre)` with the variance of `y - theta x`.
    fn adjusted(&self, theta: &[DoubleDouble], centre: &[DoubleDouble]) -> Sample {
        let n = self.state.n as f64;
        let mut mean = self.state.mean[0];
        let unadjusted = DoubleDouble::from(self.state.cross_product(0, 0));
        let mut squares = unadjusted + self.form(theta);
        for (place, theta) in theta.iter().enumerate() {
            mean = mean - *theta * (self.state.mean[place + 1] - centre[place + 1]);
            squares = squares - *theta * self.state.cross_product(0, place + 1) * 2.0;
        }
        Sample {
            n,
            mean,
            variance: residual(squares, unadjusted) / (n - 1.0),
        }
    }

    /// The quadratic form of the covariates' cross products.
    fn form(&self, weights: &[DoubleDouble]) -> DoubleDouble {
        let mut sum = DoubleDouble::ZERO;
        for (i, left) in weights.iter().enumerate() {
            for (j, right) in weights.iter().enumerate() {
                sum = sum + *left * *right * self.state.cross_product(i + 1, j + 1);
            }
        }
        sum
    }
}

fn regression(width: usize, product: impl Fn(usize, usize) -> DoubleDouble) -> Solution {
    let matrix: Vec<Vec<DoubleDouble>> = (1..width)
        .map(|i| (1..width).map(|j| product(i, j)).collect())
        .collect();
    let right: Vec<DoubleDouble> = (1..width).map(|i| product(i, 0)).collect();
    solve(&matrix, &right)
}
