//! Metrics that no running total can answer, unit by unit: distinct values, units that are left out, calendars, funnels, quantiles.
//! In: the [`Unit`] that the kernel has just added, and its assignments that count. Out: each unit's numbers, pushed to
//! [`SpecialCells`]. A plan without such metrics pays nothing for them.
//!
//! Of a unit's events only those that a measure asks for are looked at, and what they hold is remembered for the next
//! assignment whose windows hold the same.

use super::days::{local_day, zone};
use super::ends::{Completeness, Ends};
use super::lanes::{Lanes, SECOND};
use super::numbers::{NULL, SCALE, exceeds, is_beyond, is_null, scaled, total, unscaled};
use super::special_cells::{Shape, SpecialCells};
use super::unit::{Assignment, Unit};
use crate::metrics::plan::{
    Cap, Fill, Maturity, MetricPlan, SpecialAggregate, SpecialMeasure, SpecialMetric, UnitNumber,
};
use crate::stats::funnel::steps_reached;
use datafusion::arrow::array::timezone::Tz;

const DAY: i64 = 86_400;

/// Fills the cells of special metrics.
pub struct Specials<'a> {
    metrics: Vec<Compiled<'a>>,
    /// Distinct measures.
    measures: Vec<Measured<'a>>,
    /// Per event code, the measures that take such events.
    feeds: Vec<Vec<usize>>,
    /// Metrics that an experiment asks for.
    wanted: Vec<Vec<usize>>,
    /// Value columns of an event.
    columns: usize,
    pub cells: SpecialCells,
    /// Events of the unit that each measure takes, in time order.
    taken: Vec<Vec<u32>>,
    /// What each metric last found.
    last: Vec<Found>,
    scratch: Scratch,
}

/// A measure and the value column that it reads.
#[derive(Clone, Copy, PartialEq)]
struct Measured<'a> {
    measure: &'a SpecialMeasure,
    column: Option<usize>,
}

/// A metric with what the loop looks up.
struct Compiled<'a> {
    metric: &'a SpecialMetric,
    measures: Vec<usize>,
    /// What whole numbers are divided by, per number of the unit.
    scales: Vec<f64>,
    zone: Option<Tz>,
    /// Microseconds from the assignment; of a calendar, days.
    start: i64,
    end: Option<i64>,
    complete: Completeness,
}

/// Which of a measure's events are in the window and in the time before it.
type Spans = [(usize, usize); 4];

/// The numbers of a unit while its windows hold the same events.
#[derive(Default)]
struct Found {
    spans: Option<Spans>,
    numbers: Vec<f64>,
}

/// Memory that is used again.
#[derive(Default)]
struct Scratch {
    bits: Vec<u64>,
    steps: Vec<(i64, u64)>,
    inside: Vec<u32>,
}

impl<'a> Specials<'a> {
    /// `is_scaled` as the kernel has it.
    pub fn new(
        (plan, lanes): (&'a MetricPlan, &Lanes),
        ends: &Ends,
        is_scaled: &[bool],
        cells: usize,
    ) -> Self {
        let mut measures: Vec<Measured> = Vec::new();
        let metrics: Vec<Compiled> = plan
            .specials
            .iter()
            .map(|metric| {
                let complete = ends.completeness(plan, metric.data_end);
                compiled(plan, (metric, complete), &mut measures, is_scaled)
            })
            .collect();
        let mut feeds = vec![Vec::new(); lanes.names.len() + 1];
        for (at, measure) in measures.iter().enumerate() {
            match &measure.measure.event {
                Some(event) => feeds[usize::from(lanes.code(event))].push(at),
                None => feeds.iter_mut().for_each(|feeds| feeds.push(at)),
            }
        }
        let wanted = plan.experiments.iter().map(|experiment| {
            let specials = plan.specials.iter().enumerate();
            let wanted = specials.filter(|(_, metric)| experiment.wants(&metric.name));
            wanted.map(|(at, _)| at).collect()
        });
        let shapes = metrics.iter().map(Compiled::shape).collect();
        Specials {
            wanted: wanted.collect(),
            columns: is_scaled.len(),
            cells: SpecialCells::new(shapes, cells),
            taken: vec![Vec::new(); measures.len()],
            last: metrics.iter().map(|_| Found::default()).collect(),
            scratch: Scratch::default(),
            metrics,
            measures,
            feeds,
        }
    }

    /// Adds one unit; each assignment with its cell among those of a segment.
    pub fn add(&mut self, unit: &Unit, assignments: impl Iterator<Item = (Assignment, usize)>) {
        self.take(unit);
        for (assignment, cell) in assignments {
            for at in 0..self.wanted[usize::from(assignment.experiment)].len() {
                let metric = self.wanted[usize::from(assignment.experiment)][at];
                if self.metrics[metric].is_mature(&assignment) {
                    self.add_metric(metric, unit, &assignment, cell);
                }
            }
        }
    }

    /// Sorts out which events the measures take.
    fn take(&mut self, unit: &Unit) {
        self.taken.iter_mut().for_each(Vec::clear);
        self.last.iter_mut().for_each(|last| last.spans = None);
        for (event, name) in unit.names.iter().enumerate() {
            for measure in &self.feeds[usize::from(*name)] {
                let column = self.measures[*measure].column;
                if column.is_none_or(|column| !is_null(unit.values[event * self.columns + column]))
                {
                    self.taken[*measure].push(event as u32);
                }
            }
        }
    }

    fn add_metric(&mut self, at: usize, unit: &Unit, assignment: &Assignment, cell: usize) {
        let segment = assignment.segment as usize;
        let (compiled, last) = (&self.metrics[at], &mut self.last[at]);
        if let UnitNumber::Every(_) = &compiled.metric.number {
            let scale = compiled.scales[0];
            let events =
                compiled.inside(0, assignment, unit, &self.taken, &mut self.scratch.inside);
            let column = self.measures[compiled.measures[0]].column;
            let column = column.expect("a plan without fault has a value");
            let values = events
                .iter()
                .map(|event| unscaled(unit.values[*event as usize * self.columns + column], scale));
            self.cells.push_list(segment, cell, at, values);
            return;
        }
        let spans = compiled.spans(assignment, unit, &self.taken);
        if spans.is_none() || last.spans != spans {
            last.numbers.clear();
            let measures = &self.measures;
            let raw = |index: usize, events: &[u32], scratch: &mut Scratch| {
                aggregated(
                    measures[compiled.measures[index]],
                    (unit, events),
                    (self.columns, compiled.scales[index]),
                    scratch,
                )
            };
            let mut window = [NULL; 2];
            let mut before = [NULL; 2];
            for index in 0..compiled.measures.len() {
                let mut inside = std::mem::take(&mut self.scratch.inside);
                let events = compiled.inside(index, assignment, unit, &self.taken, &mut inside);
                window[index] = raw(index, events, &mut self.scratch);
                self.scratch.inside = inside;
                if let Some(events) = compiled.before(index, assignment, unit, &self.taken) {
                    before[index] = raw(index, events, &mut self.scratch);
                }
            }
            compiled.push_numbers(compiled.metric.fill, window, &mut last.numbers);
            if compiled.metric.lookback.is_some() {
                compiled.push_numbers(Fill::Zero, before, &mut last.numbers);
            }
            last.spans = spans;
        }
        self.cells.push(segment, cell, at, &last.numbers);
    }
}

fn compiled<'a>(
    plan: &MetricPlan,
    (metric, complete): (&'a SpecialMetric, Completeness),
    known: &mut Vec<Measured<'a>>,
    is_scaled: &[bool],
) -> Compiled<'a> {
    let mut measures = Vec::new();
    // Codes stand after all values.
    let values: usize = plan.sources().map(|source| source.values.len()).sum();
    for measure in metric.measures() {
        let column = match measure.aggregate {
            SpecialAggregate::Distinct => measure.value.map(|code| values + code),
            _ => measure.value,
        };
        let found = known.iter().position(|other| other.measure == measure);
        measures.push(found.unwrap_or_else(|| {
            known.push(Measured { measure, column });
            known.len() - 1
        }));
    }
    let scale = |measure: &SpecialMeasure| {
        let takes_values = matches!(
            measure.aggregate,
            SpecialAggregate::Sum | SpecialAggregate::Max | SpecialAggregate::Min
        );
        let is_decimal = measure.value.is_some_and(|value| is_scaled[value]);
        if takes_values && is_decimal {
            SCALE
        } else {
            1.0
        }
    };
    let length = |seconds: i64| match metric.calendar {
        Some(_) => seconds / DAY,
        None => seconds * SECOND,
    };
    Compiled {
        scales: metric.measures().into_iter().map(scale).collect(),
        zone: metric.calendar.as_deref().map(zone),
        start: length(metric.window_start),
        end: metric
            .window_length
            .map(|seconds| length(metric.window_start + seconds)),
        complete,
        metric,
        measures,
    }
}

impl Compiled<'_> {
    fn shape(&self) -> Shape {
        let metric = self.metric;
        let scales = match metric.number {
            UnitNumber::OwnRatio(..) => &[1.0],
            _ => self.scales.as_slice(),
        };
        let times = 1 + usize::from(metric.lookback.is_some());
        let keeps_rows = metric.quantile.is_some() || metric.caps.iter().any(is_quantile);
        // Where all numbers are kept, a second state of them takes no more.
        let has_before_apart =
            metric.has_before_apart() || (keeps_rows && metric.lookback.is_some());
        Shape {
            scales: scales.repeat(times),
            keeps_rows,
            before_apart: has_before_apart.then(|| metric.measured()),
        }
    }

    /// Whether the unit counts yet.
    #[inline]
    fn is_mature(&self, assignment: &Assignment) -> bool {
        let Some(end) = self
            .end
            .filter(|_| self.metric.maturity == Maturity::FullWindow)
        else {
            return true;
        };
        let through = self.complete.until(assignment.measured_until);
        let (first, through) = match self.zone {
            Some(zone) => (local_day(zone, assignment.time), local_day(zone, through)),
            None => (assignment.time, through),
        };
        first.saturating_add(end) <= through
    }

    /// From where to where among a measure's events its windows reach; none for calendars, whose days need not be in order.
    fn spans(&self, assignment: &Assignment, unit: &Unit, taken: &[Vec<u32>]) -> Option<Spans> {
        if self.zone.is_some() {
            return None;
        }
        let mut spans = Spans::default();
        for (index, measure) in self.measures.iter().enumerate() {
            let events = &taken[*measure];
            spans[2 * index] = span(events, unit, self.window(assignment));
            spans[2 * index + 1] = self
                .lookback(assignment)
                .map_or((0, 0), |window| span(events, unit, window));
        }
        Some(spans)
    }

    /// The window's first instant and the first after it, without a calendar.
    fn window(&self, assignment: &Assignment) -> (i64, i64) {
        let from = assignment.time.saturating_add(self.start);
        let until = self
            .end
            .map_or(i64::MAX, |end| assignment.time.saturating_add(end));
        (from, until.min(assignment.measured_until))
    }

    fn lookback(&self, assignment: &Assignment) -> Option<(i64, i64)> {
        let end = match self.metric.lookback_before_period {
            true => assignment.period_start,
            false => assignment.time,
        };
        let lookback = self.metric.lookback?;
        Some((end.saturating_sub(lookback * SECOND), end))
    }

    /// A measure's events in the window.
    fn inside<'b>(
        &self,
        index: usize,
        assignment: &Assignment,
        unit: &Unit,
        taken: &'b [Vec<u32>],
        scratch: &'b mut Vec<u32>,
    ) -> &'b [u32] {
        let events = &taken[self.measures[index]];
        let Some(zone) = self.zone else {
            let (from, until) = span(events, unit, self.window(assignment));
            return &events[from..until];
        };
        let (from, until) = span(events, unit, (assignment.time, assignment.measured_until));
        let first = local_day(zone, assignment.time);
        let is_inside = |event: &&u32| {
            let day = local_day(zone, unit.times[**event as usize]) - first;
            (self.start == 0 || day >= self.start) && self.end.is_none_or(|end| day < end)
        };
        scratch.clear();
        scratch.extend(events[from..until].iter().filter(is_inside));
        scratch
    }

    fn before<'b>(
        &self,
        index: usize,
        assignment: &Assignment,
        unit: &Unit,
        taken: &'b [Vec<u32>],
    ) -> Option<&'b [u32]> {
        let events = &taken[self.measures[index]];
        let (from, until) = span(events, unit, self.lookback(assignment)?);
        Some(&events[from..until])
    }

    /// The unit's numbers after filling and fixed caps, from what its measures gave.
    fn push_numbers(&self, fill: Fill, raw: [f64; 2], numbers: &mut Vec<f64>) {
        let capped = |position: usize, value: f64| match self.metric.caps[position] {
            Some(Cap::At(cap)) if self.scales[position] == 1.0 => at_most(value, cap),
            Some(Cap::At(cap)) => scaled_at_most(value, cap),
            _ => value,
        };
        match &self.metric.number {
            UnitNumber::One(measure) => {
                numbers.push(capped(0, filled(measure.aggregate, fill, raw[0])));
            }
            // Whether the unit is left out is no question of totals.
            UnitNumber::Ratio(over, under) => {
                numbers.push(capped(0, filled(over.aggregate, Fill::Zero, raw[0])));
                numbers.push(capped(1, filled(under.aggregate, Fill::Zero, raw[1])));
            }
            UnitNumber::OwnRatio(over, under) => {
                let over = unscaled(filled(over.aggregate, Fill::Zero, raw[0]), self.scales[0]);
                let under = unscaled(filled(under.aggregate, Fill::Zero, raw[1]), self.scales[1]);
                let quotient = match (under == 0.0, fill) {
                    (false, _) => over / under,
                    (true, Fill::Zero) => 0.0,
                    (true, _) => NULL,
                };
                numbers.push(match self.metric.caps[0] {
                    Some(Cap::At(cap)) => at_most(quotient, cap),
                    _ => quotient,
                });
            }
            UnitNumber::Every(_) => {}
        }
    }
}

fn is_quantile(cap: &Option<Cap>) -> bool {
    matches!(cap, Some(Cap::Quantile { .. }))
}

/// A number that is no more than a cap. NULL stays, and so does what is not finite.
pub fn at_most(value: f64, cap: f64) -> f64 {
    match exceeds(value, cap) {
        true => cap,
        false => value,
    }
}

/// The same of a number of a scaled column.
fn scaled_at_most(value: f64, cap: f64) -> f64 {
    match exceeds(unscaled(value, SCALE), cap) {
        true => scaled(cap),
        false => value,
    }
}

/// Positions of the events `from..until`.
#[inline]
fn span(events: &[u32], unit: &Unit, (from, until): (i64, i64)) -> (usize, usize) {
    if events.is_empty() {
        return (0, 0);
    }
    let before = |time: i64| events.partition_point(|event| unit.times[*event as usize] < time);
    let start = before(from);
    (start, before(until).max(start))
}

/// One number of the events, or NULL.
fn aggregated(
    measured: Measured<'_>,
    (unit, events): (&Unit, &[u32]),
    (columns, scale): (usize, f64),
    scratch: &mut Scratch,
) -> f64 {
    let value = |event: &u32| match measured.column {
        Some(column) => unit.values[*event as usize * columns + column],
        None => 1.0,
    };
    let extreme = |is_max: bool| {
        let values = events.iter().map(value);
        values.reduce(
            |known, value| match is_beyond(value, known, scale, is_max) {
                true => value,
                false => known,
            },
        )
    };
    match measured.measure.aggregate {
        SpecialAggregate::Count | SpecialAggregate::Any(_) => events.len() as f64,
        SpecialAggregate::Sum if events.is_empty() => NULL,
        SpecialAggregate::Sum => total(events.iter().map(value), scale),
        SpecialAggregate::Max => extreme(true).unwrap_or(NULL),
        SpecialAggregate::Min => extreme(false).unwrap_or(NULL),
        SpecialAggregate::Distinct => {
            let bits = &mut scratch.bits;
            bits.clear();
            bits.extend(events.iter().map(|event| value(event).to_bits()));
            bits.sort_unstable();
            bits.dedup();
            bits.len() as f64
        }
        SpecialAggregate::Steps(_) => {
            let steps = &mut scratch.steps;
            steps.clear();
            steps.extend(
                events
                    .iter()
                    .map(|event| (unit.times[*event as usize], value(event) as u64)),
            );
            steps.sort_unstable();
            f64::from(steps_reached(steps))
        }
    }
}

/// What the unit counts as, from the aggregate of its events.
fn filled(aggregate: SpecialAggregate, fill: Fill, raw: f64) -> f64 {
    let of_all = |is_so: bool, nothing: bool| match (is_so, fill) {
        (true, _) => 1.0,
        (false, Fill::Zero) => 0.0,
        (false, _) if nothing => NULL,
        (false, _) => 0.0,
    };
    match aggregate {
        SpecialAggregate::Any(at_least) => of_all(raw >= f64::from(at_least.max(1)), true),
        SpecialAggregate::Steps(steps) => of_all(raw >= f64::from(steps), raw < 1.0),
        SpecialAggregate::Count | SpecialAggregate::Distinct
            if fill != Fill::Zero && raw == 0.0 =>
        {
            NULL
        }
        _ if is_null(raw) && fill == Fill::Zero => 0.0,
        _ => raw,
    }
}
