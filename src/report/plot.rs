//! Geometry of the drawings: intervals beside each other on one scale, and lines over days.
//! In: numbers. Out: coordinates in the units of the drawing, for the templates to draw.

use serde::Serialize;

/// Width of a drawing of intervals, and of the part on each side of zero.
const WIDTH: f64 = 320.0;
const HALF: f64 = 150.0;

/// A scale around zero that several intervals share.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    limit: f64,
}

/// A labelled place of a scale.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tick {
    pub x: f64,
    pub label: String,
}

/// An interval with its middle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub middle: f64,
    pub high: f64,
    /// Whether it goes on beyond the drawing.
    pub is_cut_low: bool,
    pub is_cut_high: bool,
    /// Where a guardrail's margin is.
    pub margin: Option<f64>,
}

impl Scale {
    /// Wide enough for the intervals, but not for a few that are many times wider than the rest.
    pub fn over(bounds: impl Iterator<Item = f64>) -> Scale {
        const TIMES_THE_MEDIAN: f64 = 4.0;
        let mut sizes: Vec<f64> = bounds
            .map(f64::abs)
            .filter(|size| size.is_finite())
            .collect();
        sizes.sort_by(f64::total_cmp);
        let median = sizes.get(sizes.len() / 2).copied().unwrap_or(0.0);
        let largest = sizes.last().copied().unwrap_or(0.0);
        let wanted = match median > 0.0 {
            true => largest.min(TIMES_THE_MEDIAN * median),
            false => largest,
        };
        Scale {
            limit: round_up(wanted),
        }
    }

    /// Where a share is, and whether it is beyond the drawing.
    fn x(self, share: f64) -> (f64, bool) {
        let part = share / self.limit;
        let inside = part.clamp(-1.0, 1.0);
        (tenths(WIDTH / 2.0 + inside * HALF), inside != part)
    }

    pub fn ticks(self) -> Vec<Tick> {
        let shares = [-1.0, -0.5, 0.0, 0.5, 1.0].map(|part| part * self.limit);
        let label = |share: f64| {
            let percent = (share * 1e6).round() / 1e4;
            let sign = if percent > 0.0 { "+" } else { "" };
            format!("{sign}{percent} %")
        };
        let tick = |share: f64| Tick {
            x: self.x(share).0,
            label: label(share),
        };
        shares.map(tick).into()
    }

    /// `None` where a number is missing.
    pub fn interval(
        self,
        (low, middle, high): (Option<f64>, Option<f64>, Option<f64>),
        margin: Option<f64>,
    ) -> Option<Interval> {
        let (low, middle, high) = (self.x(low?), self.x(middle?), self.x(high?));
        Some(Interval {
            low: low.0,
            middle: middle.0,
            high: high.0,
            is_cut_low: low.1,
            is_cut_high: high.1,
            margin: margin.map(|margin| self.x(margin).0),
        })
    }
}

/// The next of 1, 2, 5, 10, ...; 1 % where there is nothing.
fn round_up(number: f64) -> f64 {
    if number <= 0.0 {
        return 0.01;
    }
    let power = 10f64.powf(number.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    // A number that is a step itself may come out a little above it.
    let step = steps.into_iter().find(|step| number <= step * (1.0 + 1e-9));
    step.unwrap_or(10.0 * power)
}

/// A line over days that are equally far apart; gaps where a day has no value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    pub pieces: Vec<String>,
    /// The last day's.
    pub end: Option<(f64, f64)>,
}

pub const LINE_WIDTH: f64 = 240.0;
pub const LINE_HEIGHT: f64 = 48.0;

pub fn line(values: &[Option<f64>]) -> Line {
    const EDGE: f64 = 4.0;
    let known = || {
        values
            .iter()
            .flatten()
            .copied()
            .filter(|value| value.is_finite())
    };
    let low = known().fold(f64::INFINITY, f64::min);
    let high = known().fold(f64::NEG_INFINITY, f64::max);
    let step = (LINE_WIDTH - 2.0 * EDGE) / (values.len().max(2) - 1) as f64;
    let point = |(at, value): (usize, f64)| {
        // A level line lies in the middle.
        let part = if high > low {
            (value - low) / (high - low)
        } else {
            0.5
        };
        let y = LINE_HEIGHT - EDGE - part * (LINE_HEIGHT - 2.0 * EDGE);
        (tenths(EDGE + at as f64 * step), tenths(y))
    };
    let points: Vec<Option<(f64, f64)>> = values
        .iter()
        .enumerate()
        .map(|(at, value)| {
            value
                .filter(|value| value.is_finite())
                .map(|value| point((at, value)))
        })
        .collect();
    let pieces = points
        .split(Option::is_none)
        .filter(|piece| !piece.is_empty());
    let text = |piece: &[Option<(f64, f64)>]| {
        let points = piece.iter().flatten().map(|(x, y)| format!("{x},{y}"));
        points.collect::<Vec<_>>().join(" ")
    };
    Line {
        pieces: pieces.map(text).collect(),
        end: points.into_iter().next_back().flatten(),
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_holds_its_intervals_and_cuts_one_that_is_much_wider() {
        let scale = Scale::over([-0.02, 0.04, -0.03, 0.05, -9.0, 8.0].into_iter());
        let labels: Vec<String> = scale.ticks().into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["-20 %", "-10 %", "0 %", "+10 %", "+20 %"]);
        let inside = scale.interval((Some(-0.2), Some(0.0), Some(0.1)), Some(-0.05));
        let inside = inside.expect("all numbers are there");
        assert_eq!(
            (inside.low, inside.middle, inside.high),
            (10.0, 160.0, 235.0)
        );
        assert_eq!(inside.margin, Some(122.5));
        let wide = scale.interval((Some(-9.0), Some(0.0), Some(8.0)), None);
        let wide = wide.expect("all numbers are there");
        assert_eq!(
            (wide.low, wide.is_cut_low, wide.is_cut_high),
            (10.0, true, true)
        );
        assert_eq!(scale.interval((None, Some(0.0), Some(0.1)), None), None);
    }

    #[test]
    fn scales_end_at_round_numbers() {
        for (number, expected) in [
            (0.03, 0.05),
            (0.1, 0.1),
            (0.0, 0.01),
            (0.51, 1.0),
            (7.0, 10.0),
        ] {
            let scale = Scale::over([number].into_iter());
            assert!(
                (scale.limit / expected - 1.0).abs() < 1e-12,
                "{number}: {}",
                scale.limit
            );
        }
    }

    #[test]
    fn a_line_has_gaps_where_days_have_no_value() {
        let drawn = line(&[Some(1.0), Some(3.0), None, Some(2.0)]);
        assert_eq!(drawn.pieces, ["4,44 81.3,4", "236,24"]);
        assert_eq!(drawn.end, Some((236.0, 24.0)));
        assert_eq!(line(&[Some(5.0), Some(5.0)]).pieces, ["4,24 236,24"]);
        assert_eq!(line(&[]).pieces, Vec::<String>::new());
        assert_eq!(line(&[Some(1.0), None]).end, None);
    }
}
