//! Where the numbers of all metrics lie in a unit's row, so that cells add many at a time.
//! In: [`Lanes`]. Out: a [`RowLayout`]. Metrics of the same width, maturity and size stand together, position by position:
//! all values, then all covariates. Counts are small numbers, whose products binary32 can add; everything else is wide.

use super::lanes::Lanes;
use crate::metrics::plan::Aggregate;

/// Small numbers that are added in one step, and padding of their groups.
pub const SMALL_STEP: usize = 8;
/// The same for wide numbers.
pub const WIDE_STEP: usize = 4;

/// Events of a unit up to which its counts are small: their products stay below 2^24.
pub const MOST_EVENTS: u16 = (1 << 12) - 1;

/// A place of a row that holds nothing.
const NOWHERE: u16 = u16::MAX;

#[derive(Default)]
pub struct RowLayout {
    pub groups: Vec<Group>,
    /// Group and place in it of each metric.
    pub places: Vec<(usize, usize)>,
    pub small_lanes: usize,
    pub wide_lanes: usize,
    /// Sums and products of a cell in small and in wide groups.
    pub small_entries: usize,
    pub wide_entries: usize,
    /// Counts per window in the sources, padded.
    pub counts: usize,
    pub sums: usize,
    /// Blocks of [`SMALL_STEP`] numbers to copy in this order: place in the row, place in the sources.
    pub copies: Vec<(u16, u16)>,
    /// Blocks of [`WIDE_STEP`] sums to copy in this order: place in the row, place among the sums of all windows.
    pub wide_copies: Vec<(u16, u16)>,
    /// Wide places that hold nothing, into which such a block may have copied what is none of the row's.
    pub wide_padding: Vec<u16>,
    /// Where the number at a wide place comes from that is no sum.
    pub wide_sources: Vec<(u16, Source)>,
    /// Small places with a bound, and wide places with one: place and lane.
    pub small_bounds: Vec<(u16, u16)>,
    pub wide_bounds: Vec<(u16, u16)>,
}

/// Where a number of a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Among the counts: each window's, followed by whether they are at least one.
    Count(u16),
    /// Among the sums of all windows.
    Sum(u16),
    /// A lane that is no difference of running totals.
    Lane(u16),
}

/// Metrics of one kind.
pub struct Group {
    pub width: usize,
    pub class: usize,
    pub is_small: bool,
    pub metrics: Vec<usize>,
    /// Metrics, rounded up to whole steps.
    pub padded: usize,
    /// First place in the row.
    pub offset: usize,
    /// First sum in the cell; then come the other sums, then the products.
    pub entries: usize,
}

impl RowLayout {
    pub fn new(lanes: &Lanes) -> RowLayout {
        let mut layout = RowLayout {
            counts: lanes.totals.counts.len().next_multiple_of(SMALL_STEP),
            sums: lanes.totals.sums.len().next_multiple_of(WIDE_STEP),
            places: vec![(0, 0); lanes.metrics.len()],
            ..RowLayout::default()
        };
        for metric in 0..lanes.metrics.len() {
            layout.assign(lanes, metric);
        }
        layout.order_and_place(lanes);
        layout.find_sources(lanes);
        layout
    }

    fn assign(&mut self, lanes: &Lanes, metric: usize) {
        let compiled = &lanes.metrics[metric];
        let is_small = compiled.lanes.iter().all(|lane| is_small(lanes, *lane));
        let (width, class) = (compiled.lanes.len(), compiled.class);
        let known = self.groups.iter_mut().find(|group| {
            group.width == width && group.class == class && group.is_small == is_small
        });
        match known {
            Some(group) => group.metrics.push(metric),
            None => self.groups.push(Group {
                width,
                class,
                is_small,
                metrics: vec![metric],
                padded: 0,
                offset: 0,
                entries: 0,
            }),
        }
    }

    fn order_and_place(&mut self, lanes: &Lanes) {
        let (counts, sums) = (self.counts, self.sums);
        for (index, group) in self.groups.iter_mut().enumerate() {
            // Neighbours in the sources become neighbours in the row.
            let source = |metric: &usize| {
                let of = |lane: &u16| source(lanes, counts, sums, *lane);
                let lanes = &lanes.metrics[*metric].lanes;
                lanes.iter().map(of).collect::<Vec<_>>()
            };
            group
                .metrics
                .sort_by_key(|metric| (source(metric), *metric));
            let step = if group.is_small {
                SMALL_STEP
            } else {
                WIDE_STEP
            };
            group.padded = group.metrics.len().next_multiple_of(step);
            let (row, cell) = match group.is_small {
                true => (&mut self.small_lanes, &mut self.small_entries),
                false => (&mut self.wide_lanes, &mut self.wide_entries),
            };
            (group.offset, group.entries) = (*row, *cell);
            *row += group.width * group.padded;
            *cell += group.entries_per_metric() * group.padded;
            for (place, metric) in group.metrics.iter().enumerate() {
                self.places[*metric] = (index, place);
            }
        }
    }

    fn find_sources(&mut self, lanes: &Lanes) {
        let mut small = vec![NOWHERE; self.small_lanes];
        let mut wide = vec![NOWHERE; self.wide_lanes];
        for (metric, (group, place)) in self.places.iter().enumerate() {
            let group = &self.groups[*group];
            for (position, lane) in lanes.metrics[metric].lanes.iter().enumerate() {
                let at = group.lane(position, *place);
                let source = source(lanes, self.counts, self.sums, *lane);
                let bounds = match (group.is_small, source) {
                    (true, Source::Count(from)) => {
                        small[at] = from;
                        &mut self.small_bounds
                    }
                    (_, Source::Sum(from)) => {
                        wide[at] = from;
                        &mut self.wide_bounds
                    }
                    _ => {
                        self.wide_sources.push((at as u16, source));
                        &mut self.wide_bounds
                    }
                };
                let bounds_more = lanes.lanes[usize::from(*lane)].at_least > 1;
                if bounds_more || lanes.lanes[usize::from(*lane)].cap.is_finite() {
                    bounds.push((at as u16, *lane));
                }
            }
        }
        self.copies = copies::<SMALL_STEP>(&small);
        self.wide_copies = copies::<WIDE_STEP>(&wide);
        self.wide_padding = self.padding();
        // Small numbers stand first in the row.
        let small_lanes = self.small_lanes;
        let is_wide = |group: &&mut Group| !group.is_small;
        for group in self.groups.iter_mut().filter(is_wide) {
            group.offset += small_lanes;
        }
        for (at, _) in &mut self.wide_copies {
            *at += small_lanes as u16;
        }
        for (at, _) in &mut self.wide_sources {
            *at += small_lanes as u16;
        }
        for (at, _) in &mut self.wide_bounds {
            *at += small_lanes as u16;
        }
    }

    /// Places after the metrics of wide groups.
    fn padding(&self) -> Vec<u16> {
        let small_lanes = self.small_lanes;
        let of_group = |group: &Group| {
            let empty = group.metrics.len()..group.padded;
            let positions = 0..group.width;
            positions
                .flat_map(move |position| {
                    let first = small_lanes + group.offset + position * group.padded;
                    empty.clone().map(move |place| (first + place) as u16)
                })
                .collect::<Vec<u16>>()
        };
        let wide = self.groups.iter().filter(|group| !group.is_small);
        wide.flat_map(of_group).collect()
    }

    /// Numbers of a row.
    pub fn stride(&self) -> usize {
        self.small_lanes + self.wide_lanes
    }

    /// Numbers in the sources of small places; [`SMALL_STEP`] more may be read.
    pub fn small_sources(&self, windows: usize) -> usize {
        windows * 2 * self.counts + SMALL_STEP
    }

    /// Sums of all windows; [`WIDE_STEP`] more may be read.
    pub fn sum_sources(&self, windows: usize) -> usize {
        windows * self.sums + WIDE_STEP
    }
}

impl Group {
    pub fn entries_per_metric(&self) -> usize {
        self.width + self.width * (self.width + 1) / 2
    }

    /// The row's place of one number of a metric.
    pub fn lane(&self, position: usize, place: usize) -> usize {
        self.offset + position * self.padded + place
    }
}

/// Counts that are bounded by a whole number, if at all.
fn is_small(lanes: &Lanes, lane: u16) -> bool {
    let cap = lanes.lanes[usize::from(lane)].cap;
    let is_count = matches!(
        lanes.measure_of(lane).aggregate,
        Aggregate::Count | Aggregate::Any
    );
    let is_whole = cap == f64::INFINITY || (cap >= 0.0 && cap.fract() == 0.0);
    is_count && is_whole
}

fn source(lanes: &Lanes, counts: usize, sums: usize, lane: u16) -> Source {
    let window = lanes.window_of(lane);
    let is_any = lanes.lanes[usize::from(lane)].at_least == 1;
    match (lanes.measure_of(lane).aggregate, lanes.total_of(lane)) {
        (Aggregate::Sum, Some(total)) => Source::Sum((window * sums + total) as u16),
        (_, Some(total)) => {
            Source::Count(((window * 2 + usize::from(is_any)) * counts + total) as u16)
        }
        (_, None) => Source::Lane(lane),
    }
}

/// Blocks that fill the row from left to right, each overwriting what the one before copied too much.
fn copies<const STEP: usize>(sources: &[u16]) -> Vec<(u16, u16)> {
    let mut copies = Vec::new();
    let mut at = 0;
    while at < sources.len() {
        if sources[at] == NOWHERE {
            at += 1;
            continue;
        }
        let follows = |step: &usize| {
            let (next, first) = (at + step, sources[at]);
            next < sources.len() && sources[next] == first + *step as u16
        };
        copies.push((at as u16, sources[at]));
        at += (1..STEP).take_while(follows).count() + 1;
    }
    copies
}
