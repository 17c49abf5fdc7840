//! Gauss-Legendre quadrature. In: a smooth function on an interval. Out: its integral to machine accuracy.

use std::sync::OnceLock;

/// Nodes in (-1, 1) and weights of one rule.
#[derive(Debug)]
pub struct Rule {
    pub nodes: Vec<f64>,
    pub weights: Vec<f64>,
}

/// The integral over [low, high], cut into panels of 16 nodes each.
pub fn integrate(low: f64, high: f64, panels: u32, mut function: impl FnMut(f64) -> f64) -> f64 {
    let rule = rule_of(16);
    let half = (high - low) / (2.0 * f64::from(panels));
    let mut sum = 0.0;
    for panel in 0..panels {
        let middle = low + half * f64::from(2 * panel + 1);
        for (node, weight) in rule.nodes.iter().zip(&rule.weights) {
            sum += weight * function(middle + half * node);
        }
    }
    sum * half
}

/// The rule with `count` nodes, at most 128; computed once.
pub fn rule_of(count: usize) -> &'static Rule {
    static RULES: [OnceLock<Rule>; 129] = [const { OnceLock::new() }; 129];
    RULES[count.clamp(1, 128)].get_or_init(|| legendre(count.clamp(1, 128)))
}

/// Newton's method on the Legendre polynomial from Tricomi's starting points (Press et al., Numerical Recipes, 4.6).
fn legendre(count: usize) -> Rule {
    let mut rule = Rule {
        nodes: vec![0.0; count],
        weights: vec![0.0; count],
    };
    for place in 0..count.div_ceil(2) {
        let mut node = (std::f64::consts::PI * (place as f64 + 0.75) / (count as f64 + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..10 {
            let (value, derivative) = polynomial(count, node);
            slope = derivative;
            node -= value / derivative;
        }
        let weight = 2.0 / ((1.0 - node * node) * slope * slope);
        (rule.nodes[place], rule.nodes[count - 1 - place]) = (-node, node);
        (rule.weights[place], rule.weights[count - 1 - place]) = (weight, weight);
    }
    if count % 2 == 1 {
        rule.nodes[count / 2] = 0.0;
    }
    rule
}

/// The Legendre polynomial and its derivative.
fn polynomial(degree: usize, x: f64) -> (f64, f64) {
    let (mut previous, mut value) = (0.0, 1.0);
    for order in 1..=degree {
        let k = order as f64;
        (previous, value) = (
            value,
            ((2.0 * k - 1.0) * x * value - (k - 1.0) * previous) / k,
        );
    }
    (
        value,
        degree as f64 * (x * value - previous) / (x * x - 1.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_integrates_to_machine_accuracy() {
        let integral = integrate(0.0, 1.0, 1, f64::exp);
        assert!((integral - (std::f64::consts::E - 1.0)).abs() < 1e-15);
    }
}
