//! Group sequential designs: bounds that spend alpha over planned looks. In: information times, alpha, a spending function. Out: bounds on the
//! z scale, repeated intervals, power, inflation of the sample size.
//! Between looks the statistic moves like Brownian motion. The density of paths that have not crossed follows the recursion of
//! Armitage, McPherson and Rowe (JRSS A 132, 1969), here on Gauss-Legendre nodes; each bound is the root of the crossing probability.
//! The usual trapezoid of step 0.05 (ldbounds and its port in spotify-confidence) is 2e-5 to 6.5e-5 off; this is near 1e-13.
//! Lan and DeMets, Biometrika 70 (1983); Jennison and Turnbull, Group Sequential Methods (2000), ch. 19.

use super::double_double::DoubleDouble;
use super::normal;
use super::quadrature::rule_of;
use super::record::{Number, finite, record};
use super::sample::is_share;
use super::status::Status;
use std::f64::consts::E;

/// How much alpha may be spent by an information time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spending {
    /// `2 - 2 Phi(z_(1-alpha/2) / sqrt t)`: hardly anything early; the default.
    OBrienFleming,
    /// `alpha ln(1 + (e-1) t)`: about the same bound at every look.
    Pocock,
    /// `alpha t^phi` (Kim and DeMets 1987).
    Power(f64),
    /// `alpha (1 - e^(-gamma t)) / (1 - e^-gamma)` (Hwang, Shih and DeCani 1990).
    HwangShihDeCani(f64),
}

/// What crossing means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sides {
    /// One upper bound; no lower one.
    One,
    /// Symmetric bounds that both stop the experiment; alpha is spent in total.
    Two,
    /// Each side as a one-sided design of alpha/2 that ignores the other (spotify-confidence's rule).
    Split,
}

/// Bounds for looks at the information times `t` (rising, in (0, 1]; beyond 1 counts as 1, so an overrun spends the rest).
/// A look at which nothing may be spent has an infinite bound.
pub fn gst_bounds(t: &[f64], alpha: f64, spending: Spending, sides: Sides) -> GroupSequential {
    let is_rising =
        t.windows(2).all(|pair| pair[0] < pair[1]) && t.first().is_some_and(|first| *first > 0.0);
    if t.is_empty() {
        return GroupSequential::empty(Status::InsufficientData);
    }
    if !is_rising
        || !is_share(alpha)
        || !t.iter().all(|time| time.is_finite())
        || !spending.is_valid()
    {
        return GroupSequential::empty(Status::InvalidInput);
    }
    let mut design = GroupSequential::default();
    let mut walk = Walk::new(sides == Sides::Two);
    let mut time_before = 0.0;
    let times: Vec<f64> = t.iter().map(|time| time.min(1.0)).collect();
    for (look, time) in times.iter().copied().enumerate() {
        let spent = spending.spent(time, side_alpha(alpha, sides));
        let increment = spending.spent_between(time_before, time, side_alpha(alpha, sides));
        let bound = walk.bound(time, increment);
        // Looks after full information spend nothing: there is nowhere to go.
        if let Some(next) = times.get(look + 1).filter(|next| **next > time) {
            walk.advance(time, bound, *next);
        }
        time_before = time;
        design.zb.push(bound);
        design
            .alpha_spent
            .push(spent * if sides == Sides::One { 1.0 } else { 2.0 });
        design
            .nominal_p
            .push(normal::upper(bound) * if sides == Sides::One { 1.0 } else { 2.0 });
    }
    design
}

/// The decision at the latest look of a design: the effect against its bound, with the repeated interval `d -+ c se`.
/// Looks are given by their information times so far; the maximum may still be ahead. Jennison and Turnbull 2000, ch. 9.
pub fn gst_test(
    effect: f64,
    se: f64,
    t: &[f64],
    alpha: f64,
    spending: Spending,
    sides: Sides,
) -> GroupSequentialTest {
    let design = gst_bounds(t, alpha, spending, sides);
    let Some(bound) = design.zb.last().copied() else {
        return GroupSequentialTest::empty(design.status);
    };
    if !(effect.is_finite() && se >= 0.0 && se.is_finite()) {
        return GroupSequentialTest::empty(Status::InvalidInput);
    }
    if se == 0.0 {
        return GroupSequentialTest {
            effect: Some(effect),
            se: Some(0.0),
            ..GroupSequentialTest::empty(Status::ZeroVariance)
        };
    }
    let z = effect / se;
    let half = DoubleDouble::from(se) * bound;
    let is_crossed = if sides == Sides::One {
        z >= bound
    } else {
        z.abs() >= bound
    };
    GroupSequentialTest {
        effect: Some(effect),
        se: Some(se),
        z: finite(z),
        bound: finite(bound),
        crossed: Some(is_crossed),
        ci_low: finite((DoubleDouble::from(effect) - half).value()),
        ci_high: if sides == Sides::One {
            None
        } else {
            finite((DoubleDouble::from(effect) + half).value())
        },
        status: Status::Ok,
    }
}

/// Probability to cross by the last look when the final z statistic has mean `drift`.
pub fn gst_power(
    t: &[f64],
    alpha: f64,
    spending: Spending,
    sides: Sides,
    drift: f64,
) -> GroupSequentialPower {
    let design = gst_bounds(t, alpha, spending, sides);
    if !design.status.is_ok() || !drift.is_finite() {
        let status = if design.status.is_ok() {
            Status::InvalidInput
        } else {
            design.status
        };
        return GroupSequentialPower::empty(status);
    }
    let power = crossing_probability(t, &design.zb, sides, drift);
    GroupSequentialPower {
        power: finite(power),
        drift: Some(drift),
        inflation: None,
        status: Status::Ok,
    }
}

/// How much larger than a fixed design's the maximum sample must be for the same power: `(drift / (z_(1-alpha/2) + z_power))^2`.
pub fn gst_inflation(
    t: &[f64],
    alpha: f64,
    power: f64,
    spending: Spending,
    sides: Sides,
) -> GroupSequentialPower {
    let design = gst_bounds(t, alpha, spending, sides);
    if !design.status.is_ok() || !is_share(power) || power <= alpha {
        let status = if design.status.is_ok() {
            Status::InvalidInput
        } else {
            design.status
        };
        return GroupSequentialPower::empty(status);
    }
    let tail = if sides == Sides::One {
        alpha
    } else {
        alpha / 2.0
    };
    let fixed = normal::upper_quantile(tail) + normal::lower_quantile(power);
    let drift = drift_of_power(t, &design.zb, sides, power, fixed.max(0.1));
    GroupSequentialPower {
        power: Some(power),
        drift: finite(drift),
        inflation: finite((drift / fixed).powi(2)),
        status: Status::Ok,
    }
}

/// The drift at which the bounds are crossed with probability `power`: secants on the probit of the power, which is almost straight in the
/// drift, kept within a bracket.
fn drift_of_power(t: &[f64], bounds: &[f64], sides: Sides, power: f64, start: f64) -> f64 {
    let wanted = normal::lower_quantile(power);
    let gap = |drift: f64| {
        let crossed = crossing_probability(t, bounds, sides, drift);
        // Beyond these the probit of a double says nothing more; the bracket does the rest.
        normal::lower_quantile(crossed.clamp(1e-300, 1.0 - 1e-15)) - wanted
    };
    let (mut low, mut high) = (0.0, 2.0 * start + 2.0);
    while gap(high) < 0.0 && high < 1e3 {
        low = high;
        high *= 2.0;
    }
    let (mut before, mut gap_before) = (low, gap(low));
    let (mut drift, mut gap_here) = (high, gap(high));
    for _ in 0..80 {
        let secant = drift - gap_here * (drift - before) / (gap_here - gap_before);
        let next = if secant > low && secant < high {
            secant
        } else {
            0.5 * (low + high)
        };
        (before, gap_before) = (drift, gap_here);
        (drift, gap_here) = (next, gap(next));
        if gap_here < 0.0 {
            low = drift
        } else {
            high = drift
        }
        if gap_here.abs() < 1e-14 || (drift - before).abs() < 1e-14 * drift {
            break;
        }
    }
    drift
}

record! {
    /// A group sequential design, one entry per look.
    pub struct GroupSequential {
        /// Bounds on the z scale; infinite (SQL: NULL) where nothing may be spent.
        zb: Vec<f64>,
        /// Alpha spent up to and including the look.
        alpha_spent: Vec<f64>,
        /// The p value a fixed test would need at the look.
        nominal_p: Vec<f64>,
    }
}

record! {
    /// The decision at a look.
    pub struct GroupSequentialTest {
        effect: Number,
        se: Number,
        z: Number,
        bound: Number,
        crossed: Option<bool>,
        /// The repeated confidence interval; without upper end when one-sided.
        ci_low: Number,
        ci_high: Number,
    }
}

record! {
    /// Power of a group sequential design.
    pub struct GroupSequentialPower {
        power: Number,
        /// Mean of the z statistic at full information.
        drift: Number,
        /// Maximum sample over the sample of a fixed design of the same power.
        inflation: Number,
    }
}

impl Spending {
    /// Reads the name used in YAML and SQL; `phi` is the parameter of `power` and `hsd`.
    pub fn named(name: &str, phi: f64) -> Option<Self> {
        match name {
            "obf" => Some(Self::OBrienFleming),
            "pocock" => Some(Self::Pocock),
            "power" => Some(Self::Power(phi)),
            "hsd" => Some(Self::HwangShihDeCani(phi)),
            _ => None,
        }
    }

    /// One-sided alpha spent by time t.
    pub fn spent(self, t: f64, alpha: f64) -> f64 {
        match self {
            Self::OBrienFleming => {
                2.0 * normal::upper(normal::upper_quantile(alpha / 2.0) / t.sqrt())
            }
            Self::Pocock => alpha * ((E - 1.0) * t).ln_1p(),
            Self::Power(phi) => alpha * t.powf(phi),
            Self::HwangShihDeCani(gamma) if gamma.abs() < 1e-12 => alpha * t,
            Self::HwangShihDeCani(gamma) => alpha * (-gamma * t).exp_m1() / (-gamma).exp_m1(),
        }
    }

    /// One-sided alpha spent after time `from` and up to `to`, formed without taking the difference of two like numbers where that can be had:
    /// late looks of a design that spends early get 1e-10 and less.
    fn spent_between(self, from: f64, to: f64, alpha: f64) -> f64 {
        if from == 0.0 {
            return self.spent(to, alpha);
        }
        match self {
            Self::OBrienFleming => self.spent(to, alpha) - self.spent(from, alpha),
            Self::Pocock => alpha * ((E - 1.0) * (to - from) / (1.0 + (E - 1.0) * from)).ln_1p(),
            Self::Power(phi) => {
                alpha * from.powf(phi) * (phi * ((to - from) / from).ln_1p()).exp_m1()
            }
            Self::HwangShihDeCani(gamma) if gamma.abs() < 1e-12 => alpha * (to - from),
            Self::HwangShihDeCani(gamma) => {
                alpha * (-gamma * from).exp() * (-gamma * (to - from)).exp_m1() / (-gamma).exp_m1()
            }
        }
    }

    fn is_valid(self) -> bool {
        match self {
            Self::OBrienFleming | Self::Pocock => true,
            Self::Power(phi) => phi > 0.0 && phi.is_finite(),
            Self::HwangShihDeCani(gamma) => gamma.abs() < 500.0,
        }
    }
}

impl Sides {
    /// Reads the SQL parameters: the number of sides, and whether two sides are split.
    pub fn named(sides: f64, is_split: bool) -> Option<Self> {
        match (sides, is_split) {
            (1.0, _) => Some(Self::One),
            (2.0, false) => Some(Self::Two),
            (2.0, true) => Some(Self::Split),
            _ => None,
        }
    }
}

fn side_alpha(alpha: f64, sides: Sides) -> f64 {
    if sides == Sides::One {
        alpha
    } else {
        alpha / 2.0
    }
}

/// Without a lower bound paths lower than this are left out: at any look they are 3e-14 of all.
const LOWEST: f64 = -7.5;
/// No path gets higher than this; early O'Brien-Fleming bounds reach 15 and more.
const HIGHEST: f64 = 38.0;
/// Where a path is further below its mean than this it takes no part in one-sided crossings.
const FARTHEST_FROM_CENTRE: f64 = 9.0;
/// A longer step has a probability below 1e-300. Early bounds may spend 1e-60, so nothing larger may be left out.
const FARTHEST_STEP: f64 = 38.0;
/// Nodes per standard deviation of the smoothest step, and at least.
const NODES_PER_STEP: f64 = 2.4;
const LEAST_NODES: f64 = 10.0;
/// Above this the two-sided kernel is formed from two exponentials, as their product form would overflow.
const LARGEST_EXPONENT: f64 = 600.0;
/// Above this number of nodes a kernel that looks at near nodes only is faster.
const MOST_FOLDED_NODES: usize = 150;
/// Looks that nearly coincide would ask for millions of nodes; this many keep 1e-10 down to steps of 1e-6 of the information.
const MOST_NODES: f64 = 20_000.0;

/// The paths still running after the latest look: mass at nodes on the Brownian scale (z sqrt t).
/// For symmetric bounds only the upper half is kept, each node standing for itself and its mirror image.
struct Walk {
    is_folded: bool,
    time: f64,
    nodes: Vec<f64>,
    mass: Vec<f64>,
}

impl Walk {
    fn new(is_folded: bool) -> Self {
        Self {
            is_folded,
            time: 0.0,
            nodes: Vec::new(),
            mass: Vec::new(),
        }
    }

    /// The z bound that is crossed upwards with probability `spend` at this look.
    fn bound(&self, time: f64, spend: f64) -> f64 {
        if !(spend > 0.0) {
            return f64::INFINITY;
        }
        if self.nodes.is_empty() {
            return normal::upper_quantile(spend);
        }
        let spread = (time - self.time).sqrt();
        // Newton on the logarithm of the crossing probability, which is concave and falling in the bound: from the right it approaches without
        // overshooting, from the left it overshoots once, and then no further than where even paths from the highest node cross too rarely.
        let top = self.nodes[self.nodes.len() - 1];
        let mut highest = top + spread * normal::upper_quantile(spend.min(0.5));
        let start = 0.5 * normal::upper_quantile(spend.min(0.4)) * time.sqrt() + 0.5 * top;
        let mut bound = start.min(highest);
        for _ in 0..100 {
            let (crossing, slope) = self.crossing(bound, spread);
            if crossing <= 0.0 || slope <= 0.0 {
                // So far out that nothing arrives: come back.
                highest = bound;
                bound -= spread;
                continue;
            }
            if crossing < spend {
                highest = bound;
            }
            let step = crossing * (crossing / spend).ln() / slope;
            bound = (bound + step).min(highest);
            if step.abs() < 1e-9 * spread.min(1.0) {
                break;
            }
        }
        bound / time.sqrt()
    }

    /// The probability to end above `bound`, and its negative derivative.
    fn crossing(&self, bound: f64, spread: f64) -> (f64, f64) {
        let (mut probability, mut density) = (0.0, 0.0);
        let mut add = |distance: f64, mass: f64| {
            if distance < FARTHEST_STEP {
                let exponential = (-0.5 * distance * distance).exp();
                density += mass * exponential;
                probability += mass
                    * if distance >= 0.0 {
                        normal::scaled_upper(distance) * exponential
                    } else {
                        normal::upper(distance)
                    };
            }
        };
        for (node, mass) in self.nodes.iter().zip(&self.mass) {
            add((bound - node) / spread, *mass);
            if self.is_folded {
                add((bound + node) / spread, *mass);
            }
        }
        (probability, density * normal::INVERSE_SQRT_TWO_PI / spread)
    }

    /// Moves to a look whose paths beyond `z_bound` stop.
    fn advance(&mut self, time: f64, z_bound: f64, next: f64) {
        let root = time.sqrt();
        let spread = (time - self.time).sqrt();
        let high = z_bound.min(HIGHEST) * root;
        let low = if self.is_folded { 0.0 } else { LOWEST * root };
        // The nodes must resolve the density, which the latest step smoothed, and the kernel of the next step.
        let smoothness = spread.min((next - time).max(0.0).sqrt());
        let (nodes, weights) = grid(low, high, smoothness);
        let mass = if self.nodes.is_empty() {
            nodes
                .iter()
                .zip(&weights)
                .map(|(x, weight)| weight * normal::density(x / root) / root)
                .collect()
        } else {
            self.propagate(&nodes, &weights, spread)
        };
        *self = Self {
            is_folded: self.is_folded,
            time,
            nodes,
            mass,
        };
    }

    /// `f_k(x) = integral of f_(k-1)(u) phi((x-u)/s)/s du` at the new nodes, times their weights.
    fn propagate(&self, nodes: &[f64], weights: &[f64], spread: f64) -> Vec<f64> {
        let scale = normal::INVERSE_SQRT_TWO_PI / spread;
        let inverse = 1.0 / (spread * spread);
        let old: Vec<f64> = self
            .nodes
            .iter()
            .zip(&self.mass)
            .map(|(u, mass)| mass * (-0.5 * u * u * inverse).exp())
            .collect();
        let largest = nodes[nodes.len() - 1].abs().max(nodes[0].abs()) * self.largest() * inverse;
        let is_safe =
            self.is_folded && largest < LARGEST_EXPONENT && self.nodes.len() <= MOST_FOLDED_NODES;
        let kernel = |x: f64| -> f64 {
            if is_safe {
                // phi((x-u)/s) + phi((x+u)/s) = 2 e^(-x^2/2s^2) e^(-u^2/2s^2) cosh(xu/s^2): one exponential instead of two.
                let sum: f64 = self
                    .nodes
                    .iter()
                    .zip(&old)
                    .map(|(u, mass)| {
                        let growth = (x * u * inverse).exp();
                        mass * (growth + 1.0 / growth)
                    })
                    .sum();
                return sum * (-0.5 * x * x * inverse).exp();
            }
            let bell = |(u, mass): (&f64, &f64)| mass * (-0.5 * (x - u) * (x - u) * inverse).exp();
            let near = nearby(&self.nodes, x, spread);
            let direct: f64 = self.nodes[near.clone()]
                .iter()
                .zip(&self.mass[near])
                .map(bell)
                .sum();
            if !self.is_folded {
                return direct;
            }
            let mirrored = |(u, mass): (&f64, &f64)| bell((&-u, mass));
            let opposite = nearby(&self.nodes, -x, spread);
            direct
                + self.nodes[opposite.clone()]
                    .iter()
                    .zip(&self.mass[opposite])
                    .map(mirrored)
                    .sum::<f64>()
        };
        nodes
            .iter()
            .zip(weights)
            .map(|(x, weight)| weight * scale * kernel(*x))
            .collect()
    }

    fn largest(&self) -> f64 {
        self.nodes
            .iter()
            .fold(0.0, |largest: f64, node| largest.max(node.abs()))
    }
}

/// The sorted nodes from which a step can reach a point.
fn nearby(nodes: &[f64], x: f64, spread: f64) -> std::ops::Range<usize> {
    let first = nodes.partition_point(|node| *node < x - FARTHEST_STEP * spread);
    first
        ..nodes
            .partition_point(|node| *node <= x + FARTHEST_STEP * spread)
            .max(first)
}

/// Gauss-Legendre nodes fine enough for a density of this smoothness.
fn grid(low: f64, high: f64, smoothness: f64) -> (Vec<f64>, Vec<f64>) {
    let wanted = LEAST_NODES + (NODES_PER_STEP * (high - low) / smoothness).min(MOST_NODES);
    let panels = (wanted / 100.0).ceil().max(1.0);
    let rule = rule_of((wanted / panels).ceil() as usize);
    let half = (high - low) / (2.0 * panels);
    let (mut nodes, mut weights) = (
        Vec::with_capacity(wanted as usize + 1),
        Vec::with_capacity(wanted as usize + 1),
    );
    for panel in 0..panels as usize {
        let middle = low + half * (2 * panel + 1) as f64;
        nodes.extend(rule.nodes.iter().map(|node| middle + half * node));
        weights.extend(rule.weights.iter().map(|weight| half * weight));
    }
    (nodes, weights)
}

/// The probability to cross any bound when the Brownian motion drifts: the same recursion, not folded.
fn crossing_probability(t: &[f64], bounds: &[f64], sides: Sides, drift: f64) -> f64 {
    let (mut nodes, mut mass): (Vec<f64>, Vec<f64>) = (vec![0.0], vec![1.0]);
    let (mut before, mut crossed) = (0.0, 0.0);
    let times: Vec<f64> = t.iter().map(|time| time.min(1.0)).collect();
    for (look, (time, bound)) in times.iter().copied().zip(bounds).enumerate() {
        let (step, root) = (time - before, time.sqrt());
        let spread = step.sqrt();
        let centre = drift * time;
        // Rare crossings start from far out, so nothing below the bound is left out upwards.
        let farthest = (HIGHEST * root).max(centre + FARTHEST_FROM_CENTRE * root);
        let high = (bound * root).min(farthest);
        let low = if sides == Sides::One {
            centre.min(0.0) - FARTHEST_FROM_CENTRE * root
        } else {
            -high
        };
        for (node, mass) in nodes.iter().zip(&mass) {
            crossed += mass * normal::upper((bound * root - node - drift * step) / spread);
            if sides != Sides::One {
                crossed += mass * normal::upper((bound * root + node + drift * step) / spread);
            }
        }
        let next = times.get(look + 1).filter(|next| **next > time);
        let Some(next) = next.filter(|_| high > low) else {
            return crossed.min(1.0);
        };
        let (new_nodes, weights) = grid(low, high, spread.min((next - time).max(0.0).sqrt()));
        mass = new_nodes
            .iter()
            .zip(&weights)
            .map(|(x, weight)| {
                let from = x - drift * step;
                let near = nearby(&nodes, from, spread);
                let terms = nodes[near.clone()].iter().zip(&mass[near]);
                let density: f64 = terms
                    .map(|(u, mass)| mass * normal::density((from - u) / spread))
                    .sum();
                weight * density / spread
            })
            .collect();
        (nodes, before) = (new_nodes, time);
    }
    crossed.min(1.0)
}
