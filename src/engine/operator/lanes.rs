//! The plan compiled for the inner loop: which event feeds which number of a unit.
//! In: a [`MetricPlan`]. Out: [`Lanes`]. A lane is one number per unit: a measure over a window. Where the numbers of all metrics lie
//! in a row is the [`RowLayout`]'s.

use std::collections::HashMap;

use super::layout::{RowLayout, SMALL_STEP, WIDE_STEP};
use super::numbers::{exceeds, scaled, unscaled};
use crate::metrics::plan::{Aggregate, Maturity, Measure, MetricPlan, MetricStates, SpecialMetric};

pub const SECOND: i64 = 1_000_000;

/// Everything the inner loop looks up, by position.
pub struct Lanes {
    /// Code of each event name that matters.
    pub names: HashMap<String, u16>,
    pub windows: Vec<Window>,
    /// Distinct starts and ends of windows.
    pub edges: Vec<Edge>,
    /// Microseconds after the assignment within which the end of what is measured can cut a window.
    pub reach: i64,
    /// Aggregations per window and event code; the last code stands for every other event.
    pub feeds: Vec<Vec<Vec<Feed>>>,
    /// Those of them that are no differences of running totals: extremes.
    pub extremes: Vec<Vec<Vec<Feed>>>,
    pub has_extremes: bool,
    pub lanes: Vec<Lane>,
    pub metrics: Vec<MetricLanes>,
    /// Which units count, distinct; `None` counts always.
    pub classes: Vec<Option<Class>>,
    /// Whether some window hangs on the start of the experiment.
    pub looks_at_periods: bool,
    pub totals: RunningTotals,
    pub layout: RowLayout,
    /// Value columns of the events.
    columns: usize,
    /// Measure and window of each lane.
    known: Vec<(Measure, usize)>,
}

/// Counts units whose windows are full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Microseconds after the assignment by which the data must reach.
    pub end: i64,
    /// Which of the plan's ends of data they have.
    pub data_end: Option<usize>,
}

/// Half-open, from one edge to another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub start: usize,
    pub end: usize,
}

/// An instant that each assignment has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// From the experiment's start rather than the unit's first assignment.
    pub from_period: bool,
    /// Microseconds; without it the end of what is measured.
    pub offset: Option<i64>,
    /// Never later than the end of what is measured.
    pub is_limited: bool,
}

/// What is summed event by event, so that a window's total is a difference of two running totals.
#[derive(Default)]
pub struct RunningTotals {
    /// Events by name and the value column that must not be NULL.
    pub counts: Vec<(Option<u16>, Option<u16>)>,
    /// Sums of a value column over events of a name.
    pub sums: Vec<(Option<u16>, u16)>,
    /// Whether some count takes only events with a value.
    pub has_conditions: bool,
    /// A row per event code, as wide as the layout's: 1 for every count that takes the event.
    pub count_rows: Vec<f32>,
    /// A row per event code and value column: 1 for every sum that takes the column of the event.
    pub sum_rows: Vec<f64>,
    /// By event code and value column: all bits when some sum takes it.
    pub summed: Vec<u64>,
    /// Value columns; the events may have more.
    pub columns: usize,
}

impl RunningTotals {
    fn fill_rows(&mut self, codes: usize) {
        let columns = self.columns;
        let counts = self.counts.len().next_multiple_of(SMALL_STEP);
        let sums = self.sums.len().next_multiple_of(WIDE_STEP);
        self.count_rows = vec![0.0; codes * counts];
        self.sum_rows = vec![0.0; codes * columns * sums];
        self.summed = vec![0; codes * columns];
        for event in 0..codes {
            let takes = |code: Option<u16>| code.is_none_or(|code| usize::from(code) == event);
            for (at, (code, _)) in self.counts.iter().enumerate() {
                self.count_rows[event * counts + at] = f32::from(u8::from(takes(*code)));
            }
            for (at, (code, column)) in self.sums.iter().enumerate() {
                let row = event * columns + usize::from(*column);
                self.sum_rows[row * sums + at] = f64::from(u8::from(takes(*code)));
                self.summed[row] |= u64::from(takes(*code)).wrapping_neg();
            }
        }
    }
}

/// One event feeds one lane.
#[derive(Clone, Copy)]
pub struct Feed {
    pub lane: u16,
    pub aggregate: Aggregate,
    pub value: Option<u16>,
}

/// What is done to a lane once all its events are in.
#[derive(Clone, Copy)]
pub struct Lane {
    /// Count that makes [`Aggregate::Any`] true; 0 for other aggregates.
    pub at_least: u32,
    pub is_sum: bool,
    pub cap: f64,
}

impl Lane {
    /// The lane's number after its threshold and its cap.
    #[inline]
    pub fn bounded(&self, value: f64, scale: f64) -> f64 {
        let value = match self.at_least {
            0 => value,
            at_least => f64::from(u8::from(value >= f64::from(at_least))),
        };
        match exceeds(unscaled(value, scale), self.cap) {
            false => value,
            true if scale == 1.0 => self.cap,
            true => scaled(self.cap),
        }
    }
}

pub struct MetricLanes {
    pub lanes: Vec<u16>,
    pub class: usize,
}

impl Lanes {
    pub fn new(plan: &MetricPlan) -> Lanes {
        let mut compiled = Lanes {
            names: HashMap::new(),
            windows: Vec::new(),
            edges: Vec::new(),
            reach: 0,
            feeds: Vec::new(),
            extremes: Vec::new(),
            has_extremes: false,
            lanes: Vec::new(),
            metrics: Vec::new(),
            classes: Vec::new(),
            looks_at_periods: false,
            totals: RunningTotals::default(),
            layout: RowLayout::default(),
            columns: plan.sources().map(|source| source.values.len()).sum(),
            known: Vec::new(),
        };
        for metric in &plan.metrics {
            compiled.add(metric);
        }
        let specials = plan.specials.iter().flat_map(SpecialMetric::measures);
        for event in specials.filter_map(|measure| measure.event.as_ref()) {
            compiled.know(event);
        }
        compiled.looks_at_periods = compiled.edges.iter().any(|edge| edge.from_period);
        compiled.feeds = compiled.feeds(|_| true);
        compiled.extremes =
            compiled.feeds(|measure| matches!(measure.aggregate, Aggregate::Max | Aggregate::Min));
        let limited = compiled.edges.iter().filter(|edge| edge.is_limited);
        compiled.reach = limited
            .map(|edge| edge.offset.unwrap_or(i64::MAX))
            .max()
            .unwrap_or(0);
        compiled.has_extremes = compiled
            .extremes
            .iter()
            .flatten()
            .flatten()
            .next()
            .is_some();
        compiled.totals = compiled.running_totals();
        compiled.layout = RowLayout::new(&compiled);
        compiled
    }

    fn add(&mut self, metric: &MetricStates) {
        let start = metric.window_start * SECOND;
        let end = metric.window_length.map(|length| start + length * SECOND);
        let edge = |from_period, offset, is_limited| Edge {
            from_period,
            offset,
            is_limited,
        };
        let window = self.window(edge(false, Some(start), false), edge(false, end, true));
        let mut lanes: Vec<u16> = metric
            .measures()
            .map(|measure| self.lane(measure, window))
            .collect();
        if let Some(lookback) = metric.lookback {
            let from_period = metric.lookback_before_period;
            let before = self.window(
                edge(from_period, Some(-lookback * SECOND), false),
                edge(from_period, Some(0), false),
            );
            lanes.extend(metric.measures().map(|measure| self.lane(measure, before)));
        }
        let end = end.filter(|_| metric.maturity == Maturity::FullWindow);
        let class = self.class(end.map(|end| Class {
            end,
            data_end: metric.data_end,
        }));
        self.metrics.push(MetricLanes { lanes, class });
    }

    fn window(&mut self, start: Edge, end: Edge) -> usize {
        let start = position_or_push(&mut self.edges, start);
        let end = position_or_push(&mut self.edges, end);
        position_or_push(&mut self.windows, Window { start, end })
    }

    fn class(&mut self, class: Option<Class>) -> usize {
        position_or_push(&mut self.classes, class)
    }

    /// The lane of a measure over a window; metrics that need the same number share it.
    fn lane(&mut self, measure: &Measure, window: usize) -> u16 {
        if let Some(known) = self
            .known
            .iter()
            .position(|(other, at)| other == measure && *at == window)
        {
            return known as u16;
        }
        if let Some(event) = &measure.event {
            self.know(event);
        }
        self.lanes.push(Lane {
            at_least: if measure.aggregate == Aggregate::Any {
                measure.at_least.max(1)
            } else {
                0
            },
            is_sum: measure.aggregate == Aggregate::Sum,
            cap: measure.cap.unwrap_or(f64::INFINITY),
        });
        self.known.push((measure.clone(), window));
        self.known.len() as u16 - 1
    }

    fn know(&mut self, event: &str) {
        let next = self.names.len() as u16;
        self.names.entry(event.to_owned()).or_insert(next);
    }

    fn feeds(&self, takes: impl Fn(&Measure) -> bool) -> Vec<Vec<Vec<Feed>>> {
        let mut feeds = vec![vec![Vec::new(); self.names.len() + 1]; self.windows.len()];
        for (lane, (measure, window)) in self.known.iter().enumerate() {
            if !takes(measure) {
                continue;
            }
            let value = measure.value.map(|value| value as u16);
            let feed = Feed {
                lane: lane as u16,
                aggregate: measure.aggregate,
                value,
            };
            match &measure.event {
                Some(event) => feeds[*window][usize::from(self.names[event])].push(feed),
                None => feeds[*window].iter_mut().for_each(|feeds| feeds.push(feed)),
            }
        }
        feeds
    }

    fn running_totals(&self) -> RunningTotals {
        let mut totals = RunningTotals::default();
        for (measure, _) in &self.known {
            let code = self.code_of(measure);
            let value = measure.value.map(|value| value as u16);
            match measure.aggregate {
                Aggregate::Count | Aggregate::Any => {
                    position_or_push(&mut totals.counts, (code, value));
                }
                Aggregate::Sum => {
                    let value = value.expect("a plan without fault sums a value");
                    position_or_push(&mut totals.sums, (code, value));
                }
                Aggregate::Max | Aggregate::Min => {}
            }
        }
        // Neighbours in the row are read together when they are neighbours here.
        totals.counts.sort_unstable();
        totals.sums.sort_unstable();
        totals.has_conditions = totals.counts.iter().any(|(_, value)| value.is_some());
        totals.columns = self.columns;
        totals.fill_rows(self.names.len() + 1);
        totals
    }

    fn code_of(&self, measure: &Measure) -> Option<u16> {
        measure.event.as_ref().map(|event| self.names[event])
    }

    /// Where a lane's running total stands among the counts or the sums; extremes have none.
    pub fn total_of(&self, lane: u16) -> Option<usize> {
        let (measure, _) = &self.known[usize::from(lane)];
        let code = self.code_of(measure);
        let value = measure.value.map(|value| value as u16);
        match measure.aggregate {
            Aggregate::Count | Aggregate::Any => {
                let counts = &self.totals.counts;
                counts.iter().position(|known| *known == (code, value))
            }
            Aggregate::Sum => {
                let sums = &self.totals.sums;
                sums.iter()
                    .position(|(event, column)| *event == code && Some(*column) == value)
            }
            Aggregate::Max | Aggregate::Min => None,
        }
    }

    pub fn window_of(&self, lane: u16) -> usize {
        self.known[usize::from(lane)].1
    }

    pub fn measure_of(&self, lane: u16) -> &Measure {
        &self.known[usize::from(lane)].0
    }

    /// The code of an event's name; names that no measure asks for share one, which is that of events without a name, too.
    pub fn code(&self, name: &str) -> u16 {
        self.names.get(name).copied().unwrap_or(self.no_code())
    }

    pub fn no_code(&self) -> u16 {
        self.names.len() as u16
    }
}

fn position_or_push<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items
        .iter()
        .position(|known| *known == item)
        .unwrap_or_else(|| {
            items.push(item);
            items.len() - 1
        })
}
