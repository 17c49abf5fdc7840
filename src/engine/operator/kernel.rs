//! One unit at a time: all of its events with all of its assignments, into the cells.
//! In: a [`Unit`] whose events are in time order. Out: rows added to [`Cells`]. Which units exist, and in which order they come, is
//! decided by the merge.
//!
//! The usual unit has whole numbers only: its windows are differences of running totals ([`super::running`]). Any other is
//! added up window by window. Assignments between the same events share one row.

use std::ops::Range;

use super::cells::{Cells, UnitRow};
use super::ends::{Completeness, Ends};
use super::firsts::Firsts;
use super::lanes::{Edge, Feed, Lanes};
use super::layout::{MOST_EVENTS, SMALL_STEP, Source, WIDE_STEP};
use super::numbers::{Exact, LARGEST_WHOLE, NULL, SCALE, Total, fits, is_beyond, is_null};
use super::queue::{Largest, Queues};
use super::running::Running;
use super::unit::{Assignment, Limits, Unit};
use super::vectors::for_long_vectors;
use crate::metrics::plan::{Aggregate, MetricPlan};

/// Fills cells, one set of cells per combination of segment values.
pub struct Kernel<'a> {
    pub plan: &'a MetricPlan,
    pub lanes: &'a Lanes,
    /// Value columns whose numbers are scaled by [`SCALE`]; the others are integers already.
    pub is_scaled: Vec<bool>,
    pub cells: Vec<Cells>,
    /// Most variants of any experiment: the width of an experiment's cells.
    pub variants: usize,
    /// By class: how long after an assignment the data must reach, and how far they do; `None` counts always.
    closings: Vec<Option<(i64, Completeness)>>,
    firsts: Firsts,
    scales: Vec<f64>,
    running: Running,
    /// The events at which the windows of the current row start and end, and how late an assignment may be for that.
    edges: Vec<(usize, i64)>,
    small_sources: Vec<f32>,
    sums: Vec<f64>,
    lane_values: Vec<f64>,
    /// Of the lanes that are sums.
    lane_sums: Vec<Total>,
    row: UnitRow,
    still: Still,
    /// Rows that wait for their cells, by segment.
    queues: Vec<Queues>,
}

/// How long the windows hold the events that they hold now.
#[derive(Clone, Copy, Default)]
struct Still {
    through: i64,
    limits: Limits,
    /// Whether the end of what is measured cuts no window; then it makes none less full, either.
    is_free: bool,
}

impl<'a> Kernel<'a> {
    pub fn new(
        plan: &'a MetricPlan,
        lanes: &'a Lanes,
        ends: &Ends,
        is_scaled: Vec<bool>,
    ) -> Kernel<'a> {
        let variants = plan
            .experiments
            .iter()
            .map(|experiment| experiment.variants.len())
            .max()
            .unwrap_or(0);
        let scales = lane_scales(lanes, &is_scaled);
        let (layout, windows) = (&lanes.layout, lanes.windows.len());
        let closings = lanes
            .classes
            .iter()
            .map(|class| class.map(|class| (class.end, ends.completeness(plan, class.data_end))));
        let closings: Vec<Option<(i64, Completeness)>> = closings.collect();
        Kernel {
            closings,
            plan,
            lanes,
            is_scaled,
            cells: Vec::new(),
            variants,
            firsts: Firsts::new(plan),
            scales,
            running: Running::default(),
            edges: vec![(0, 0); lanes.edges.len()],
            small_sources: vec![0.0; layout.small_sources(windows)],
            sums: vec![0.0; layout.sum_sources(windows)],
            lane_values: vec![0.0; lanes.lanes.len()],
            lane_sums: vec![Total::default(); lanes.lanes.len()],
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
        add_unit(self, unit);
    }

    #[inline(always)]
    fn add_with_vectors(&mut self, unit: &Unit) {
        let mut firsts = std::mem::take(&mut self.firsts);
        firsts.collect(unit);
        if firsts.has_crossed_over {
            self.count_crossed_over(&mut firsts);
        }
        firsts.find_cells(self.variants);
        let is_plain = self.running.fill(self.lanes, unit, self.is_scaled.len());
        let of_all = firsts.limits_of_all(unit);
        let (mut start, mut at) = (0, 0);
        while let Some(first) = firsts.list.get(at) {
            let limits = of_all.unwrap_or_else(|| firsts.limits(unit, first));
            let (has_moved, classes) = self.move_edges(unit, (first.row.time, at == 0), &limits);
            if at == 0 || has_moved || classes != self.row.classes {
                self.queue_row(&firsts, start..at);
                start = at;
                self.row.classes = classes;
                self.fill_row(unit, is_plain);
            }
            at += 1;
            let later = firsts.list[at..].iter();
            at += match of_all {
                Some(_) => later
                    .take_while(|later| later.row.time <= self.still.through)
                    .count(),
                None => later
                    .take_while(|later| {
                        self.holds_still(later.row.time, &firsts.limits(unit, later))
                    })
                    .count(),
            };
        }
        self.queue_row(&firsts, start..at);
        self.firsts = firsts;
    }

    /// Counts the assignments whose unit was seen in another variant too, and leaves out those that then do not count.
    #[cold]
    fn count_crossed_over(&mut self, firsts: &mut Firsts) {
        firsts.list.retain(|first| {
            let experiment = usize::from(first.row.experiment);
            if first.is_crossed_over {
                let cell = experiment * self.variants + usize::from(first.row.variant);
                self.cells[first.row.segment as usize].add_crossed_over(cell);
            }
            !(first.is_crossed_over && self.plan.experiments[experiment].excludes_crossed_over)
        });
    }

    /// Puts the current row into the queues of the segments of some assignments, for their cells.
    #[inline(always)]
    fn queue_row(&mut self, firsts: &Firsts, assignments: Range<usize>) {
        if self.cells.len() == 1 {
            return self.queue_row_of_segment(0, &firsts.cells[assignments]);
        }
        let mut start = assignments.start;
        for alike in firsts.list[assignments].chunk_by(|a, b| a.row.segment == b.row.segment) {
            let cells = &firsts.cells[start..start + alike.len()];
            self.queue_row_of_segment(alike[0].row.segment as usize, cells);
            start += alike.len();
        }
    }

    #[inline(always)]
    fn queue_row_of_segment(&mut self, segment: usize, waiting: &[u32]) {
        if waiting.is_empty() {
            return;
        }
        if !self.row.apart.is_empty() {
            for cell in waiting {
                self.cells[segment].add_apart(*cell as usize, &self.row);
            }
        }
        if self.row.is_apart {
            return;
        }
        if self.queues.len() < self.cells.len() {
            self.queues.resize_with(self.cells.len(), Queues::default);
        }
        let count = self.cells_per_segment();
        let cells = (&mut self.cells[segment], count);
        self.queues[segment].push(&self.row, &self.lanes.layout, waiting, cells);
    }

    /// A unit's assignments that count, each with its cell among those of a segment; the unit is the last that was added.
    pub fn counted(&self, unit: &Unit) -> impl Iterator<Item = (Assignment, usize)> {
        let cells = self.firsts.cells.iter().map(|cell| *cell as usize);
        let firsts = self.firsts.list.iter();
        firsts
            .zip(cells)
            .map(|(first, cell)| (self.firsts.assignment(unit, first), cell))
    }

    /// Adds the rows that still wait.
    pub fn finish(&mut self) {
        let (count, layout) = (self.cells_per_segment(), &self.lanes.layout);
        for (queues, cells) in self.queues.iter_mut().zip(&mut self.cells) {
            queues.empty(layout, (cells, count));
        }
        self.cells.iter_mut().for_each(Cells::settle);
    }

    /// Whether the windows of a later assignment hold what those of the last one held.
    #[inline(always)]
    fn holds_still(&self, time: i64, limits: &Limits) -> bool {
        let (still, lanes) = (&self.still, self.lanes);
        let ends_alike = limits.measured_until == still.limits.measured_until
            || (still.is_free && self.is_free(time, limits));
        time <= still.through
            && ends_alike
            && (limits.period_start == still.limits.period_start || !lanes.looks_at_periods)
    }

    #[inline(always)]
    fn is_free(&self, time: i64, limits: &Limits) -> bool {
        limits.measured_until >= time.saturating_add(self.lanes.reach)
    }

    /// Moves the windows to an assignment, the unit's first or a later one. Whether they hold other events than they held, and the classes
    /// that count it.
    #[inline(always)]
    fn move_edges(
        &mut self,
        unit: &Unit,
        (time, is_first): (i64, bool),
        limits: &Limits,
    ) -> (bool, u64) {
        let (mut classes, mut through) = (0, i64::MAX);
        for (class, closing) in self.closings.iter().enumerate() {
            let last = closing.map_or(i64::MAX, |(end, complete)| {
                complete.until(limits.measured_until).saturating_sub(end)
            });
            if time <= last {
                classes |= 1 << class;
                through = through.min(last);
            }
        }
        let (mut has_moved, is_alike) = (false, !is_first && *limits == self.still.limits);
        for ((position, until), edge) in self.edges.iter_mut().zip(&self.lanes.edges) {
            // Where limits stay, edges go forwards only.
            if !(is_alike && time <= *until) {
                let found = events_before(unit.times, instant(edge, time, limits));
                has_moved |= found != *position;
                *position = found;
                *until = match (edge.offset, unit.times.get(found)) {
                    (Some(offset), Some(next)) if !edge.from_period => next.saturating_sub(offset),
                    _ => i64::MAX,
                };
            }
            through = through.min(*until);
        }
        self.still = Still {
            through,
            limits: *limits,
            is_free: self.is_free(time, limits),
        };
        (has_moved, classes)
    }

    /// The unit's events inside a window.
    #[inline(always)]
    fn events_in(&self, window: usize) -> Range<usize> {
        let window = self.lanes.windows[window];
        let start = self.edges[window.start].0;
        start..self.edges[window.end].0.max(start)
    }

    /// The numbers of all metrics at the current edges.
    #[inline(always)]
    fn fill_row(&mut self, unit: &Unit, is_plain: bool) {
        self.row.apart.clear();
        self.row.has_gaps = false;
        self.row.is_apart = unit.times.len() > usize::from(MOST_EVENTS);
        if is_plain {
            self.fill_from_totals(unit);
        } else {
            self.fill_from_events(unit);
        }
    }

    #[inline(always)]
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

    #[inline(always)]
    fn fill_wide_from_totals(&mut self, unit: &Unit) {
        let layout = &self.lanes.layout;
        if self.lanes.has_extremes {
            let lanes = self.lanes;
            self.add_up(unit, &lanes.extremes);
        }
        for (to, from) in &layout.wide_copies {
            let (to, from) = (usize::from(*to), usize::from(*from));
            for at in 0..WIDE_STEP {
                self.row.numbers[to + at] = self.sums[from + at] as f32;
            }
        }
        self.row.numbers[layout.wide_padding.clone()].fill(0.0);
        for (at, source) in &layout.wide_sources {
            self.row.numbers[usize::from(*at)] = match source {
                Source::Sum(from) => self.sums[usize::from(*from)] as f32,
                Source::Count(from) => self.small_sources[usize::from(*from)],
                Source::Lane(lane) => self.lane_values[usize::from(*lane)] as f32,
            };
        }
        // Sums of whole numbers are whole, and none that is too large becomes one that is not.
        let all_fit = Largest::of(&self.row, layout).wide < LARGEST_WHOLE as f32
            && (!self.lanes.has_extremes || self.lane_values.iter().all(|value| fits(*value)));
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
        self.lane_sums.fill(Total::default());
        self.add_up(unit, &lanes.feeds);
        for (at, lane) in lanes.lanes.iter().enumerate() {
            let (value, scale) = (&mut self.lane_values[at], self.scales[at]);
            if lane.is_sum {
                *value = self.lane_sums[at].rounded(scale);
            }
            *value = lane.bounded(*value, scale);
        }
        for group in &lanes.layout.groups {
            let value = |lane: &u16| self.lane_values[usize::from(*lane)];
            let is_whole = group.numbers.iter().all(|(_, lane)| fits(value(lane)));
            for (at, lane) in &group.numbers {
                self.row.numbers[*at] = if is_whole {
                    value(lane) as f32
                } else {
                    f32::NAN
                };
            }
            self.row.has_gaps |= !is_whole;
            if (self.row.is_apart || !is_whole) && self.row.classes & (1 << group.class) != 0 {
                for metric in &group.metrics {
                    let own = lanes.metrics[*metric].lanes.iter();
                    let own = own.map(|lane| (value(lane), self.scales[usize::from(*lane)]));
                    self.row.apart.push((*metric as u32, Exact::of(own)));
                }
            }
        }
    }

    /// Aggregates the unit's events over every window, by the given feeds; a lane without an event is 0, and so is one that is a sum.
    fn add_up(&mut self, unit: &Unit, feeds: &[Vec<Vec<Feed>>]) {
        self.lane_values.fill(NULL);
        let columns = self.is_scaled.len();
        for (window, feeds) in feeds.iter().enumerate() {
            for event in self.events_in(window) {
                let values = &unit.values[event * columns..(event + 1) * columns];
                for feed in &feeds[usize::from(unit.names[event])] {
                    let lane = usize::from(feed.lane);
                    let (value, sum) = (&mut self.lane_values[lane], &mut self.lane_sums[lane]);
                    apply((value, sum, self.scales[lane]), feed, values);
                }
            }
        }
        for value in &mut self.lane_values {
            if is_null(*value) {
                *value = 0.0;
            }
        }
    }
}

for_long_vectors! {
    /// The same code compiled for the vectors of several processors.
    fn add_unit(kernel: &mut Kernel<'_>, unit: &Unit<'_>) {
        kernel.add_with_vectors(unit)
    }
}

/// When an edge is, for an assignment.
#[inline(always)]
fn instant(edge: &Edge, time: i64, limits: &Limits) -> i64 {
    let anchor = if edge.from_period {
        limits.period_start
    } else {
        time
    };
    match edge.offset {
        None => limits.measured_until,
        Some(offset) if edge.is_limited => anchor.saturating_add(offset).min(limits.measured_until),
        Some(offset) => anchor.saturating_add(offset),
    }
}

/// Events that are counted faster than an instant among them is found, as a search guesses wrong every other time.
const FEW: usize = 128;

/// How many events are before an instant: the position of the first that is not.
#[inline(always)]
fn events_before(times: &[i64], instant: i64) -> usize {
    match times.len() <= FEW {
        true => times
            .iter()
            .map(|time| u64::from(*time < instant))
            .sum::<u64>() as usize,
        false => times.partition_point(|time| *time < instant),
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

#[inline]
fn apply((lane, sum, scale): (&mut f64, &mut Total, f64), feed: &Feed, values: &[f64]) {
    let value = match feed.value {
        None => 1.0,
        Some(column) => values[usize::from(column)],
    };
    if is_null(value) {
        return;
    }
    match feed.aggregate {
        // Rounded once, so that the order of events at the same instant does not matter.
        Aggregate::Sum => sum.add(value, scale),
        Aggregate::Count | Aggregate::Any if is_null(*lane) => *lane = 1.0,
        Aggregate::Count | Aggregate::Any => *lane += 1.0,
        Aggregate::Max | Aggregate::Min => {
            let is_max = feed.aggregate == Aggregate::Max;
            if is_null(*lane) || is_beyond(value, *lane, scale, is_max) {
                *lane = value;
            }
        }
    }
}
