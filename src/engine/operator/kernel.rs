//! One unit at a time: all of its events with all of its assignments, into the cells.
//! In: a [`Unit`] whose events are in time order. Out: rows added to [`Cells`]. Which units exist, and in which order they come, is
//! decided by the merge.
//!
//! The usual unit has whole numbers only: its windows are differences of running totals ([`super::running`]). Any other is
//! added up window by window. Assignments between the same events share one row.

use std::collections::HashMap;

use super::cells::{Cells, UnitRow};
use super::lanes::{Edge, Feed, Lanes};
use super::layout::{MOST_EVENTS, SMALL_STEP, Source};
use super::queue::{Largest, Queue};
use super::running::Running;
use crate::metrics::plan::{Aggregate, MetricPlan};

/// Values up to here, once scaled to whole numbers, take the fast way: their products stay far below 2^53.
pub const LARGEST_WHOLE: f64 = (1u64 << 24) as f64;

/// Decimals with two places become whole numbers.
pub const SCALE: f64 = 100.0;

/// What is known of one unit; reused from unit to unit.
#[derive(Default)]
pub struct Unit {
    pub times: Vec<i64>,
    pub names: Vec<u16>,
    /// One value per event and value column, event by event: [`NULL`], or [`scaled`] where the column is.
    pub values: Vec<f64>,
    pub assignments: Vec<AssignmentRow>,
    /// One per assignment, or none where those of the experiments hold.
    pub limits: Vec<Limits>,
}

/// What is read of an assignment, many millions of times.
#[derive(Clone, Copy)]
pub struct AssignmentRow {
    pub time: i64,
    /// Which combination of segment values the unit had, by position in the kernel's list.
    pub segment: u32,
    pub experiment: u16,
    pub variant: u8,
}

/// What of an assignment is measured.
#[derive(Clone, Copy)]
pub struct Limits {
    pub period_start: i64,
    /// Events at or after this instant are not measured.
    pub measured_until: i64,
    /// Up to where the unit's data are complete: decides which windows are full.
    pub complete_until: i64,
}

impl Limits {
    /// Those of all units of an experiment.
    pub fn of(plan: &MetricPlan, experiment: usize) -> Limits {
        let planned = &plan.experiments[experiment];
        Limits {
            period_start: planned.from,
            measured_until: planned.measured_until,
            complete_until: plan.complete_through,
        }
    }
}

#[derive(Clone, Copy)]
pub struct Assignment {
    pub time: i64,
    pub period_start: i64,
    pub measured_until: i64,
    pub complete_until: i64,
    pub experiment: u16,
    pub variant: u8,
    pub segment: u32,
}

impl Assignment {
    fn new(row: &AssignmentRow, limits: &Limits) -> Assignment {
        Assignment {
            time: row.time,
            period_start: limits.period_start,
            measured_until: limits.measured_until,
            complete_until: limits.complete_until,
            experiment: row.experiment,
            variant: row.variant,
            segment: row.segment,
        }
    }
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
        self.limits.clear();
    }
}

/// Fills cells, one set of cells per combination of segment values.
pub struct Kernel<'a> {
    pub plan: &'a MetricPlan,
    pub lanes: &'a Lanes,
    /// Value columns whose numbers are scaled by [`SCALE`]; the others are integers already.
    pub is_scaled: Vec<bool>,
    pub cells: Vec<Cells>,
    /// Most variants of any experiment: the width of an experiment's cells.
    pub variants: usize,
    firsts: Vec<First>,
    stamp: u32,
    seen: Vec<Seen>,
    scales: Vec<f64>,
    running: Running,
    /// The events at which the windows of the current row start and end.
    edges: Vec<usize>,
    small_sources: Vec<f32>,
    sums: Vec<f64>,
    lane_values: Vec<f64>,
    row: UnitRow,
    still: Still,
    /// Rows that wait for their cells, by segment; the second queue's hold large numbers.
    queues: Vec<[Queue; 2]>,
}

/// How long the windows hold the events that they hold now.
#[derive(Default)]
struct Still {
    through: i64,
    time: i64,
    period_start: i64,
    measured_until: i64,
    complete_until: i64,
}

/// A unit's first assignment in one experiment.
struct First {
    assignment: Assignment,
    is_crossed_over: bool,
}

/// Of an experiment: when assignments count, in which unit it was last met, and where among that unit's first assignments.
// The plan says the same, but takes more memory than fits near the processor.
struct Seen {
    from: i64,
    to: i64,
    stamp: u32,
    index: u32,
    limits: Limits,
}

impl Seen {
    fn never(plan: &MetricPlan, experiment: usize) -> Seen {
        let planned = &plan.experiments[experiment];
        Seen {
            limits: Limits::of(plan, experiment),
            from: planned.from,
            to: planned.to,
            stamp: 0,
            index: 0,
        }
    }
}

impl<'a> Kernel<'a> {
    pub fn new(plan: &'a MetricPlan, lanes: &'a Lanes, is_scaled: Vec<bool>) -> Kernel<'a> {
        let variants = plan
            .experiments
            .iter()
            .map(|experiment| experiment.variants.len())
            .max()
            .unwrap_or(0);
        let scales = lane_scales(lanes, &is_scaled);
        let (layout, windows) = (&lanes.layout, lanes.windows.len());
        Kernel {
            plan,
            lanes,
            is_scaled,
            cells: Vec::new(),
            variants,
            firsts: Vec::new(),
            stamp: 0,
            seen: (0..plan.experiments.len())
                .map(|experiment| Seen::never(plan, experiment))
                .collect(),
            scales,
            running: Running::default(),
            edges: vec![0; lanes.edges.len()],
            small_sources: vec![0.0; layout.small_sources(windows)],
            sums: vec![0.0; windows * layout.sums],
            lane_values: vec![0.0; lanes.lanes.len()],
            row: UnitRow::new(layout),
            still: Still::default(),
            queues: Vec::new(),
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
        let is_plain = self.running.fill(self.lanes, unit, self.is_scaled.len());
        let (mut has_row, mut queued) = (false, None);
        for first in &firsts {
            let assignment = &first.assignment;
            let experiment = usize::from(assignment.experiment);
            let cell = experiment * self.variants + usize::from(assignment.variant);
            if first.is_crossed_over {
                self.cells[assignment.segment as usize].add_crossed_over(cell);
                if self.plan.experiments[experiment].excludes_crossed_over {
                    continue;
                }
            }
            let is_new = !(has_row && self.holds_still(assignment))
                && (self.move_edges(unit, assignment) || !has_row);
            if is_new {
                self.fill_row(unit, is_plain);
                (has_row, queued) = (true, None);
            }
            if !self.row.apart.is_empty() {
                self.cells[assignment.segment as usize].add_apart(cell, &self.row);
            }
            if !self.row.is_apart {
                let segment = assignment.segment as usize;
                let queue = match queued {
                    Some((known, queue)) if known == segment => queue,
                    _ => self.queue_row(segment),
                };
                queued = Some((segment, queue));
                self.queues[segment][queue].push(cell);
            }
        }
        self.firsts = firsts;
    }

    /// Puts the current row into the queue of a segment; says which of them.
    fn queue_row(&mut self, segment: usize) -> usize {
        let layout = &self.lanes.layout;
        let largest = Largest::of(&self.row, layout);
        let queue = usize::from(largest.is_rare());
        if self.queues.len() < self.cells.len() {
            self.queues.resize_with(self.cells.len(), Default::default);
        }
        if self.queues[segment][queue].is_full(self.cells_per_segment()) {
            self.empty(segment, queue);
        }
        self.queues[segment][queue].push_row(&self.row, layout, largest);
        queue
    }

    /// The last unit's assignments that count, each with its cell among those of a segment.
    pub fn counted(&self) -> impl Iterator<Item = (&Assignment, usize)> {
        let counts = |first: &&First| {
            let experiment = usize::from(first.assignment.experiment);
            !(first.is_crossed_over && self.plan.experiments[experiment].excludes_crossed_over)
        };
        self.firsts.iter().filter(counts).map(|first| {
            let assignment = &first.assignment;
            let experiment = usize::from(assignment.experiment);
            (
                assignment,
                experiment * self.variants + usize::from(assignment.variant),
            )
        })
    }

    /// Adds the rows that still wait.
    pub fn finish(&mut self) {
        for segment in 0..self.queues.len() {
            (0..2).for_each(|queue| self.empty(segment, queue));
        }
    }

    fn empty(&mut self, segment: usize, queue: usize) {
        let (count, layout) = (self.cells_per_segment(), &self.lanes.layout);
        self.queues[segment][queue].empty(layout, &mut self.cells[segment], count);
    }

    /// Whether the windows of a later assignment hold what those of the last one held.
    #[inline]
    fn holds_still(&self, assignment: &Assignment) -> bool {
        let (still, reach) = (&self.still, self.lanes.reach);
        let is_free = |time: i64, until: i64| until >= time.saturating_add(reach);
        let is_limited_alike = assignment.measured_until == still.measured_until
            || (is_free(assignment.time, assignment.measured_until)
                && is_free(still.time, still.measured_until));
        assignment.time <= still.through
            && assignment.period_start == still.period_start
            && is_limited_alike
            && (assignment.complete_until == still.complete_until || !self.lanes.has_full_windows)
    }

    /// First assignments by experiment, in time order, and whether another variant was seen later.
    fn collect_firsts(&mut self, unit: &Unit) {
        self.firsts.clear();
        self.stamp += 1;
        let mut is_sorted = true;
        for (index, row) in unit.assignments.iter().enumerate() {
            let seen = &mut self.seen[usize::from(row.experiment)];
            if row.time < seen.from || row.time >= seen.to {
                continue;
            }
            let limits = unit.limits.get(index).unwrap_or(&seen.limits);
            let assignment = Assignment::new(row, limits);
            if seen.stamp == self.stamp {
                let index = seen.index as usize;
                self.meet_again(index, &assignment);
                continue;
            }
            (seen.stamp, seen.index) = (self.stamp, self.firsts.len() as u32);
            is_sorted &= self
                .firsts
                .last()
                .is_none_or(|last| last.assignment.time <= assignment.time);
            self.firsts.push(First {
                assignment,
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

    /// Moves the windows to an assignment; false when they hold what they held and are as mature.
    #[inline]
    fn move_edges(&mut self, unit: &Unit, assignment: &Assignment) -> bool {
        let (mut classes, mut through) = (0, i64::MAX);
        for (class, end) in self.lanes.classes.iter().enumerate() {
            let last = end.map_or(i64::MAX, |end| {
                assignment.complete_until.saturating_sub(end)
            });
            if assignment.time <= last {
                classes |= 1 << class;
                through = through.min(last);
            }
        }
        let mut has_moved = classes != self.row.classes;
        self.row.classes = classes;
        for (position, edge) in self.edges.iter_mut().zip(&self.lanes.edges) {
            let found = first_at(&unit.times, *position, instant(edge, assignment));
            has_moved |= found != *position;
            *position = found;
            if let (Some(offset), Some(next)) = (edge.offset, unit.times.get(found))
                && !edge.from_period
            {
                through = through.min(next.saturating_sub(offset));
            }
        }
        self.still = Still {
            through,
            time: assignment.time,
            period_start: assignment.period_start,
            measured_until: assignment.measured_until,
            complete_until: assignment.complete_until,
        };
        has_moved
    }

    /// The unit's events inside a window.
    #[inline]
    fn events_in(&self, window: usize) -> std::ops::Range<usize> {
        let window = self.lanes.windows[window];
        let start = self.edges[window.start];
        start..self.edges[window.end].max(start)
    }

    /// The numbers of all metrics at the current edges.
    fn fill_row(&mut self, unit: &Unit, is_plain: bool) {
        self.row.apart.clear();
        self.row.is_apart = unit.times.len() > usize::from(MOST_EVENTS);
        if is_plain {
            self.fill_from_totals(unit);
        } else {
            self.fill_from_events(unit);
        }
    }

    #[inline]
    fn fill_from_totals(&mut self, unit: &Unit) {
        let layout = &self.lanes.layout;
        for window in 0..self.lanes.windows.len() {
            let events = self.events_in(window);
            let counts = &mut self.small_sources[window * 2 * layout.counts..];
            self.running
                .count(layout.counts, events.start, events.end, counts);
            let sums = &mut self.sums[window * layout.sums..];
            self.running
                .sum(layout.sums, events.start, events.end, sums);
        }
        for (to, from) in &layout.copies {
            let (to, from) = (usize::from(*to), usize::from(*from));
            let block: [f32; SMALL_STEP] = self.small_sources[from..from + SMALL_STEP]
                .try_into()
                .expect("a step has as many numbers");
            self.row.numbers[to..to + SMALL_STEP].copy_from_slice(&block);
        }
        for (at, lane) in &layout.small_bounds {
            let number = &mut self.row.numbers[usize::from(*at)];
            let bounded = self.lanes.lanes[usize::from(*lane)].bounded(f64::from(*number), 1.0);
            *number = bounded as f32;
        }
        self.fill_wide_from_totals(unit);
    }

    fn fill_wide_from_totals(&mut self, unit: &Unit) {
        let layout = &self.lanes.layout;
        if self.lanes.has_extremes {
            let lanes = self.lanes;
            self.add_up(unit, &lanes.extremes);
        }
        let mut all_fit = true;
        for (at, source) in &layout.wide_sources {
            let value = match source {
                Source::Sum(from) => self.sums[usize::from(*from)],
                Source::Count(from) => f64::from(self.small_sources[usize::from(*from)]),
                Source::Lane(lane) => self.lane_values[usize::from(*lane)],
            };
            all_fit &= fits(value);
            self.row.numbers[usize::from(*at)] = value as f32;
        }
        let mut is_whole = true;
        for (at, lane) in &layout.wide_bounds {
            let number = &mut self.row.numbers[usize::from(*at)];
            let scale = self.scales[usize::from(*lane)];
            let bounded = self.lanes.lanes[usize::from(*lane)].bounded(f64::from(*number), scale);
            is_whole &= bounded == bounded.trunc();
            *number = bounded as f32;
        }
        if !(all_fit && is_whole) {
            self.fill_from_events(unit);
        }
    }

    /// The slow way: every lane is added up from the window's events, and numbers that do not fit stand apart.
    #[cold]
    fn fill_from_events(&mut self, unit: &Unit) {
        let lanes = self.lanes;
        self.add_up(unit, &lanes.feeds);
        for (value, (lane, scale)) in self
            .lane_values
            .iter_mut()
            .zip(self.lanes.lanes.iter().zip(&self.scales))
        {
            *value = lane.bounded(*value, *scale);
        }
        for (metric, compiled) in self.lanes.metrics.iter().enumerate() {
            let values = || {
                let lanes = compiled.lanes.iter();
                lanes.map(|lane| self.lane_values[usize::from(*lane)])
            };
            let (group, place) = self.lanes.layout.places[metric];
            let group = &self.lanes.layout.groups[group];
            let is_whole = !self.row.is_apart && values().all(fits);
            for (position, value) in values().enumerate() {
                let at = group.lane(position, place);
                self.row.numbers[at] = if is_whole { value as f32 } else { f32::NAN };
            }
            if !is_whole && self.row.classes & (1 << compiled.class) != 0 {
                let scales = compiled
                    .lanes
                    .iter()
                    .map(|lane| self.scales[usize::from(*lane)]);
                let unscaled = values().zip(scales).map(|(value, scale)| value / scale);
                self.row.apart.push((metric as u32, unscaled.collect()));
            }
        }
    }

    /// Aggregates the unit's events over every window, by the given feeds; a lane without an event is 0.
    fn add_up(&mut self, unit: &Unit, feeds: &[Vec<Vec<Feed>>]) {
        for (value, lane) in self.lane_values.iter_mut().zip(&self.lanes.lanes) {
            *value = lane.initial;
        }
        let columns = self.is_scaled.len();
        for (window, feeds) in feeds.iter().enumerate() {
            for event in self.events_in(window) {
                let values = &unit.values[event * columns..(event + 1) * columns];
                feeds[usize::from(unit.names[event])]
                    .iter()
                    .for_each(|feed| apply(&mut self.lane_values, feed, values));
            }
        }
        for (value, lane) in self.lane_values.iter_mut().zip(&self.lanes.lanes) {
            if *value == lane.initial {
                *value = 0.0;
            }
        }
    }
}

/// When an edge is, for an assignment.
#[inline]
fn instant(edge: &Edge, assignment: &Assignment) -> i64 {
    let anchor = if edge.from_period {
        assignment.period_start
    } else {
        assignment.time
    };
    let limit = assignment.measured_until;
    match edge.offset {
        None => limit,
        Some(offset) if edge.is_limited => anchor.saturating_add(offset).min(limit),
        Some(offset) => anchor.saturating_add(offset),
    }
}

/// Steps that are walked before it is better to search.
const NEAR: usize = 16;

/// Position of the first event at or after a time, sought from a position nearby.
#[inline]
fn first_at(times: &[i64], near: usize, time: i64) -> usize {
    let mut at = near.min(times.len());
    for _ in 0..NEAR {
        if at < times.len() && times[at] < time {
            at += 1;
        } else if at > 0 && times[at - 1] >= time {
            at -= 1;
        } else {
            return at;
        }
    }
    times.partition_point(|&event| event < time)
}

/// Whether a row can hold the number.
fn fits(value: f64) -> bool {
    value.abs() <= LARGEST_WHOLE && value == nearest_whole(value)
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

/// A decimal number as the kernel wants it: hundredths, whole whenever the number has at most two decimal places.
#[inline]
pub fn scaled(value: f64) -> f64 {
    let hundredths = value * SCALE;
    let whole = nearest_whole(hundredths);
    if whole / SCALE == value {
        whole
    } else {
        hundredths
    }
}

/// The nearest whole number of a number below 2^51; of others, something else.
// Adding 1.5 x 2^52 leaves no bits for a fraction. `round` and `trunc` are function calls on processors without SSE 4.1.
#[inline]
pub fn nearest_whole(value: f64) -> f64 {
    const NO_FRACTION: f64 = 1.5 * (1u64 << 52) as f64;
    (value + NO_FRACTION) - NO_FRACTION
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
pub fn is_null(value: f64) -> bool {
    value.to_bits() == NULL.to_bits()
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
