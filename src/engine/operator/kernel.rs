//! One unit at a time: all of its events with all of its assignments, into the cells.
//! In: a [`Unit`] whose events are in time order. Out: rows added to [`Cells`]. Which units exist, and in which order they come, is
//! decided by the merge.

use std::collections::HashMap;

use super::cells::{Cells, UnitRow};
use super::lanes::{Anchor, Feed, Lanes, SECOND, Window};
use crate::metrics::plan::{Aggregate, ExperimentPlan, MetricPlan};

/// Values up to here, once scaled to whole numbers, take the fast way: their products stay far below 2^53.
const LARGEST_WHOLE: f64 = (1u64 << 24) as f64;

/// Decimals with two places become whole numbers.
pub const SCALE: f64 = 100.0;

/// What is known of one unit; reused from unit to unit.
#[derive(Default)]
pub struct Unit {
    pub times: Vec<i64>,
    pub names: Vec<u16>,
    /// One value per event and value column, event by event: [`NULL`], or [`scaled`] where the column is.
    pub values: Vec<f64>,
    pub assignments: Vec<Assignment>,
}

#[derive(Clone, Copy)]
pub struct Assignment {
    pub time: i64,
    pub experiment: u16,
    pub variant: u8,
    /// Which combination of segment values the unit had, by position in the kernel's list.
    pub segment: u32,
}

impl Unit {
    /// Sorts events by time when runs overlapped; ties by what they hold, so that the layout of files never shows.
    pub fn put_in_order(&mut self, columns: usize) {
        if self.times.is_sorted() {
            return;
        }
        let values = |event: usize| {
            self.values[event * columns..(event + 1) * columns]
                .iter()
                .map(|value| value.to_bits())
        };
        let mut order: Vec<usize> = (0..self.times.len()).collect();
        order.sort_by(|&a, &b| {
            (self.times[a], self.names[a])
                .cmp(&(self.times[b], self.names[b]))
                .then_with(|| values(a).cmp(values(b)))
        });
        self.values = order
            .iter()
            .flat_map(|&event| values(event))
            .map(f64::from_bits)
            .collect();
        self.names = order.iter().map(|&event| self.names[event]).collect();
        self.times = order.iter().map(|&event| self.times[event]).collect();
    }

    pub fn clear(&mut self) {
        self.times.clear();
        self.names.clear();
        self.values.clear();
        self.assignments.clear();
    }
}

/// Fills cells, one set of cells per combination of segment values.
pub struct Kernel<'a> {
    pub plan: &'a MetricPlan,
    pub lanes: &'a Lanes,
    /// Value columns whose numbers are scaled by [`SCALE`]; the others are integers already.
    pub is_scaled: Vec<bool>,
    pub keeps_extremes: bool,
    pub cells: Vec<Cells>,
    /// Most variants of any experiment: the width of an experiment's cells.
    pub variants: usize,
    firsts: Vec<First>,
    stamp: u32,
    stamps: Vec<(u32, u32)>,
    scales: Vec<f64>,
    lane_values: Vec<f64>,
    row: UnitRow,
}

/// A unit's first assignment in one experiment.
struct First {
    assignment: Assignment,
    is_crossed_over: bool,
}

impl<'a> Kernel<'a> {
    pub fn new(
        plan: &'a MetricPlan,
        lanes: &'a Lanes,
        is_scaled: Vec<bool>,
        keeps_extremes: bool,
    ) -> Kernel<'a> {
        let variants = plan
            .experiments
            .iter()
            .map(|experiment| experiment.variants.len())
            .max()
            .unwrap_or(0);
        let scales = lane_scales(lanes, &is_scaled);
        Kernel {
            plan,
            lanes,
            is_scaled,
            keeps_extremes,
            cells: Vec::new(),
            variants,
            firsts: Vec::new(),
            stamp: 0,
            stamps: vec![(0, 0); plan.experiments.len()],
            scales,
            lane_values: vec![0.0; lanes.lanes.len()],
            row: UnitRow {
                entries: vec![0.0; lanes.stride],
                largest: 0.0,
                classes: vec![0; lanes.classes.len()],
                values: Vec::new(),
                apart: Vec::new(),
            },
        }
    }

    pub fn cells_per_segment(&self) -> usize {
        self.plan.experiments.len() * self.variants
    }

    /// What the whole numbers of a metric's positions must be divided by.
    pub fn metric_scales(&self, metric: usize) -> Vec<f64> {
        self.lanes.metrics[metric]
            .lanes
            .iter()
            .map(|lane| self.scales[usize::from(*lane)])
            .collect()
    }

    /// Adds one unit.
    pub fn add(&mut self, unit: &Unit) {
        self.collect_firsts(unit);
        let firsts = std::mem::take(&mut self.firsts);
        let mut start = 0;
        while start < firsts.len() {
            let end = self.end_of_group(unit, &firsts, start);
            self.add_group(unit, &firsts[start..end]);
            start = end;
        }
        self.firsts = firsts;
    }

    /// First assignments by experiment, in time order, and whether another variant was seen later.
    fn collect_firsts(&mut self, unit: &Unit) {
        self.firsts.clear();
        self.stamp += 1;
        let mut is_sorted = true;
        for assignment in &unit.assignments {
            let experiment = usize::from(assignment.experiment);
            let planned = &self.plan.experiments[experiment];
            if assignment.time < planned.from || assignment.time >= planned.to {
                continue;
            }
            let (stamp, index) = self.stamps[experiment];
            if stamp == self.stamp {
                self.meet_again(index as usize, assignment);
                continue;
            }
            self.stamps[experiment] = (self.stamp, self.firsts.len() as u32);
            is_sorted &= self
                .firsts
                .last()
                .is_none_or(|last| last.assignment.time <= assignment.time);
            self.firsts.push(First {
                assignment: *assignment,
                is_crossed_over: false,
            });
        }
        if !is_sorted {
            self.firsts
                .sort_by_key(|first| (first.assignment.time, first.assignment.experiment));
        }
    }

    fn meet_again(&mut self, index: usize, assignment: &Assignment) {
        let first = &mut self.firsts[index];
        first.is_crossed_over |= first.assignment.variant != assignment.variant;
        // Of two variants at the same instant the lower one is the first, whatever the order of rows.
        let earlier = (assignment.time, assignment.variant)
            < (first.assignment.time, first.assignment.variant);
        if earlier {
            first.assignment = *assignment;
        }
    }

    /// Assignments whose windows hold the same events and are equally mature share one row.
    fn end_of_group(&self, unit: &Unit, firsts: &[First], start: usize) -> usize {
        let mut end = start + 1;
        while end < firsts.len()
            && self.is_alike(unit, &firsts[start].assignment, &firsts[end].assignment)
        {
            end += 1;
        }
        end
    }

    fn is_alike(&self, unit: &Unit, one: &Assignment, other: &Assignment) -> bool {
        let (a, b) = (self.experiment(one), self.experiment(other));
        if one.time == other.time && a.from == b.from && a.measured_until == b.measured_until {
            return true;
        }
        // Only assignments of one visit are worth comparing.
        let is_near = other.time - one.time <= 3600 * SECOND;
        is_near
            && self
                .lanes
                .classes
                .iter()
                .all(|class| self.is_mature(*class, one.time) == self.is_mature(*class, other.time))
            && self.lanes.windows.iter().all(|window| {
                self.events_in(unit, window, one) == self.events_in(unit, window, other)
            })
    }

    fn experiment(&self, assignment: &Assignment) -> &'a ExperimentPlan {
        &self.plan.experiments[usize::from(assignment.experiment)]
    }

    /// The unit's events inside a window of an assignment.
    fn events_in(
        &self,
        unit: &Unit,
        window: &Window,
        assignment: &Assignment,
    ) -> std::ops::Range<usize> {
        let experiment = self.experiment(assignment);
        let (anchor, limit) = match window.anchor {
            Anchor::Assignment => (assignment.time, experiment.measured_until),
            Anchor::BeforeAssignment => (assignment.time, i64::MAX),
            Anchor::BeforePeriod => (experiment.from, i64::MAX),
        };
        let end = window
            .end
            .map_or(limit, |end| anchor.saturating_add(end).min(limit));
        let (start, end) = (
            edge(unit, anchor.saturating_add(window.start)),
            edge(unit, end),
        );
        start..end.max(start)
    }

    fn is_mature(&self, class: Option<i64>, time: i64) -> bool {
        class.is_none_or(|end| time + end <= self.plan.complete_through)
    }

    fn add_group(&mut self, unit: &Unit, firsts: &[First]) {
        let excludes = |first: &First| {
            first.is_crossed_over
                && self.plan.experiments[usize::from(first.assignment.experiment)]
                    .excludes_crossed_over
        };
        if firsts.iter().any(|first| !excludes(first)) {
            self.fill_lanes(unit, &firsts[0].assignment);
            self.fill_row(firsts[0].assignment.time);
        }
        for first in firsts {
            let assignment = &first.assignment;
            let cell = usize::from(assignment.experiment) * self.variants
                + usize::from(assignment.variant);
            let experiment = &self.plan.experiments[usize::from(assignment.experiment)];
            let cells = &mut self.cells[assignment.segment as usize];
            if first.is_crossed_over {
                cells.add_crossed_over(cell);
            }
            if !(first.is_crossed_over && experiment.excludes_crossed_over) {
                cells.make_room(cell, self.row.largest);
                cells.add(cell, &self.row);
            }
        }
    }

    /// Aggregates the unit's events over every window of an assignment.
    fn fill_lanes(&mut self, unit: &Unit, assignment: &Assignment) {
        for (value, lane) in self.lane_values.iter_mut().zip(&self.lanes.lanes) {
            *value = lane.initial;
        }
        let columns = self.is_scaled.len();
        for (window, feeds) in self.lanes.windows.iter().zip(&self.lanes.feeds) {
            for event in self.events_in(unit, window, assignment) {
                let values = &unit.values[event * columns..(event + 1) * columns];
                feeds[usize::from(unit.names[event])]
                    .iter()
                    .for_each(|feed| apply(&mut self.lane_values, feed, values));
            }
        }
        for ((value, lane), scale) in self
            .lane_values
            .iter_mut()
            .zip(&self.lanes.lanes)
            .zip(&self.scales)
        {
            if *value == lane.initial {
                *value = 0.0;
            }
            if lane.at_least > 0 {
                *value = f64::from(u8::from(*value >= f64::from(lane.at_least)));
            }
            if *value > lane.cap * scale {
                *value = lane.cap * scale;
            }
        }
    }

    /// Sums and products of every metric that counts the unit.
    fn fill_row(&mut self, time: i64) {
        let row = &mut self.row;
        row.largest = 0.0;
        row.apart.clear();
        row.values.clear();
        for (flag, class) in row.classes.iter_mut().zip(&self.lanes.classes) {
            *flag = u64::from(class.is_none_or(|end| time + end <= self.plan.complete_through));
        }
        for (index, metric) in self.lanes.metrics.iter().enumerate() {
            let width = metric.lanes.len();
            let counts = row.classes[metric.class] == 1;
            let entries =
                &mut row.entries[metric.offset..metric.offset + width + width * (width + 1) / 2];
            if self.keeps_extremes {
                let value = |lane: &u16| {
                    if counts {
                        unscaled(&self.lane_values, &self.scales, *lane)
                    } else {
                        f64::NAN
                    }
                };
                row.values.extend(metric.lanes.iter().map(value));
            }
            let is_whole = counts && whole_numbers(&metric.lanes, &self.lane_values, entries);
            if !is_whole {
                entries.fill(0.0);
            }
            if counts && !is_whole {
                let values = metric
                    .lanes
                    .iter()
                    .map(|lane| unscaled(&self.lane_values, &self.scales, *lane))
                    .collect();
                row.apart.push((index as u32, values));
            }
            fill_products(width, entries, &mut row.largest);
        }
    }
}

/// A lane's values are whole after scaling when any event that feeds it has a decimal value column.
fn lane_scales(lanes: &Lanes, is_scaled: &[bool]) -> Vec<f64> {
    let mut scales = vec![1.0; lanes.lanes.len()];
    for feed in lanes.feeds.iter().flatten().flatten() {
        let takes_values = matches!(
            feed.aggregate,
            Aggregate::Sum | Aggregate::Max | Aggregate::Min
        );
        let is_decimal = feed
            .value
            .is_some_and(|value| is_scaled[usize::from(value)]);
        if takes_values && is_decimal {
            scales[usize::from(feed.lane)] = SCALE;
        }
    }
    scales
}

/// Copies the values of a metric; false when one of them is not whole, too large or not finite.
#[inline]
fn whole_numbers(lanes: &[u16], values: &[f64], entries: &mut [f64]) -> bool {
    let mut is_whole = true;
    for (lane, entry) in lanes.iter().zip(entries) {
        let value = values[usize::from(*lane)];
        *entry = value;
        is_whole &= value.abs() <= LARGEST_WHOLE && value == value.trunc();
    }
    is_whole
}

#[inline]
fn fill_products(width: usize, entries: &mut [f64], largest: &mut f64) {
    let (sums, products) = entries.split_at_mut(width);
    let mut next = 0;
    for i in 0..width {
        for j in i..width {
            products[next] = sums[i] * sums[j];
            next += 1;
        }
        // The square bounds every product of smaller values, and the value itself.
        *largest = largest.max(sums[i] * sums[i]);
    }
}

#[inline]
fn apply(lanes: &mut [f64], feed: &Feed, values: &[f64]) {
    let lane = &mut lanes[usize::from(feed.lane)];
    let value = match feed.value {
        None => 1.0,
        Some(column) => values[usize::from(column)],
    };
    match feed.aggregate {
        Aggregate::Sum if !is_null(value) => *lane += value,
        Aggregate::Count | Aggregate::Any if !is_null(value) => *lane += 1.0,
        Aggregate::Max if !is_null(value) => *lane = extreme(*lane, value, value > *lane),
        Aggregate::Min if !is_null(value) => *lane = extreme(*lane, value, value < *lane),
        _ => {}
    }
}

#[inline]
fn unscaled(values: &[f64], scales: &[f64], lane: u16) -> f64 {
    values[usize::from(lane)] / scales[usize::from(lane)]
}

/// A decimal number as the kernel wants it: hundredths, whole whenever the number has at most two decimal places.
#[inline]
pub fn scaled(value: f64) -> f64 {
    let whole = (value * SCALE).round();
    if whole / SCALE == value {
        whole
    } else {
        value * SCALE
    }
}

/// The new extreme; a NaN stays, so that it is seen.
#[inline]
fn extreme(known: f64, value: f64, is_beyond: bool) -> f64 {
    if is_beyond || value.is_nan() {
        value
    } else {
        known
    }
}

/// NULL in a value column: a NaN with a payload of its own, so that a NaN in the data is still seen.
pub const NULL: f64 = f64::from_bits(0x7ff8_0000_dead_0001);

#[inline]
fn is_null(value: f64) -> bool {
    value.to_bits() == NULL.to_bits()
}

/// Position of the first event at or after a time.
#[inline]
fn edge(unit: &Unit, time: i64) -> usize {
    unit.times.partition_point(|&at| at < time)
}

/// Interns combinations of segment values.
#[derive(Default)]
pub struct Segments {
    pub known: Vec<Vec<Option<String>>>,
    positions: HashMap<Vec<Option<String>>, u32>,
}

impl Segments {
    pub fn position(&mut self, values: Vec<Option<String>>) -> u32 {
        if let Some(position) = self.positions.get(&values) {
            return *position;
        }
        let position = self.known.len() as u32;
        self.known.push(values.clone());
        self.positions.insert(values, position);
        position
    }
}
