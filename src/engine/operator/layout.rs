//! Where the numbers of a unit's row lie, and which of them are multiplied, so that cells add many at a time.
//! In: [`Lanes`]. Out: a [`RowLayout`]. A number that several metrics need stands in the row once, and so does a product: metrics often
//! share a covariate or a denominator. Counts are small numbers, whose products 32 bits hold; everything else is wide.

use std::collections::BTreeSet;
use std::ops::Range;

use super::lanes::{Lanes, MetricLanes};
use crate::metrics::plan::{Aggregate, Measure};

/// Small numbers that are copied and multiplied in one step.
pub const SMALL_STEP: usize = 8;
/// The same for wide numbers.
pub const WIDE_STEP: usize = 4;

/// Events of a unit up to which its counts are small: their products stay below 2^24.
pub const MOST_EVENTS: u16 = (1 << 12) - 1;

/// Small numbers of 16 bits that fill a line of the cache.
pub const SMALL_LINE: usize = 32;
/// Wide numbers of 64 bits that do.
pub const WIDE_LINE: usize = 8;

/// A place of a row that holds nothing.
const NOWHERE: u16 = u16::MAX;

#[derive(Default)]
pub struct RowLayout {
    pub small: Side,
    pub wide: Side,
    /// By metric.
    pub places: Vec<Place>,
    pub groups: Vec<Group>,
    /// Counts per window in the sources, padded.
    pub counts: usize,
    pub sums: usize,
    /// Blocks of [`SMALL_STEP`] numbers to copy in this order: place in the row, place in the sources.
    pub copies: Vec<(u16, u16)>,
    /// Blocks of [`WIDE_STEP`] sums to copy in this order: place in the row, place among the sums of all windows.
    pub wide_copies: Vec<(u16, u16)>,
    /// Places after the wide numbers, into which such a block may have copied what is none of the row's.
    pub wide_padding: Range<usize>,
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

/// The small or the wide numbers of a row.
#[derive(Default)]
pub struct Side {
    /// By class.
    pub sections: Vec<Section>,
    pub numbers: usize,
    /// Sums and products that are made of them, in whole lines.
    pub entries: usize,
    /// Extremes that a cell keeps of them, in whole lines.
    pub limits: usize,
}

/// What a class of metrics needs of one side.
pub struct Section {
    pub class: usize,
    /// Among the numbers of the side.
    pub numbers: Range<usize>,
    /// Among its sums and products: first the numbers themselves, then products.
    pub entries: Range<usize>,
    /// Among its extremes.
    pub limits: Range<usize>,
    /// Blocks to write in this order, each overwriting what the one before wrote too much.
    pub products: Vec<Product>,
}

impl Section {
    /// Where a cell among others has its sums and products of the section, and its extremes.
    #[inline(always)]
    pub fn of_cell(&self, cell: usize, side: &Side) -> (Range<usize>, Range<usize>) {
        let of = |range: &Range<usize>, length: usize| {
            let start = cell * length;
            start + range.start..start + range.end
        };
        (
            of(&self.entries, side.entries),
            of(&self.limits, side.limits),
        )
    }
}

/// A block of products: the place of the first, and of its factors among the numbers of the side.
pub struct Product {
    pub to: usize,
    pub factors: [usize; 2],
}

/// Where a metric finds its extremes, position by position, and its sums and products in the order of a state.
#[derive(Clone, Default)]
pub struct Place {
    pub is_small: bool,
    pub limits: Vec<usize>,
    pub entries: Vec<usize>,
}

/// Metrics of a class that share numbers: all small ones, or wide ones of the same values. If one number of a row is not whole, or large,
/// the row says nothing of them.
// Not all wide ones, or a price with three decimals would send the amount of every other metric the slow way.
#[derive(Default)]
pub struct Group {
    pub class: usize,
    pub metrics: Vec<usize>,
    /// Place in the row, and lane.
    pub numbers: Vec<(usize, u16)>,
}

/// A number that some metrics need.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    /// 0 or 1, so that it is its own square.
    is_binary: bool,
    source: Source,
    group: usize,
    lane: u16,
}

/// Two numbers that are multiplied: how far apart they lie, and where the first does. So runs of such pairs are neighbours when sorted.
type Pair = (usize, usize);

impl RowLayout {
    pub fn new(lanes: &Lanes) -> RowLayout {
        let mut layout = RowLayout {
            counts: lanes.totals.counts.len().next_multiple_of(SMALL_STEP),
            sums: lanes.totals.sums.len().next_multiple_of(WIDE_STEP),
            places: vec![Place::default(); lanes.metrics.len()],
            ..RowLayout::default()
        };
        let group_of = layout.form_groups(lanes);
        for is_small in [true, false] {
            let mut numbers = Vec::new();
            for class in 0..lanes.classes.len() {
                numbers.extend(layout.add_section(lanes, &group_of, (class, is_small)));
            }
            match is_small {
                true => layout.find_small_sources(lanes, &numbers),
                false => layout.find_wide_sources(lanes, &numbers),
            }
        }
        layout
    }

    /// The group of each metric.
    fn form_groups(&mut self, lanes: &Lanes) -> Vec<usize> {
        let mut known = Vec::new();
        let mut group_of = |(metric, compiled): (usize, &MetricLanes)| {
            let is_small = compiled.lanes.iter().all(|lane| is_small(lanes, *lane));
            let measures = compiled.lanes.iter().map(|lane| lanes.measure_of(*lane));
            let mut values: Vec<_> = measures.filter_map(value_of).collect();
            values.sort_unstable();
            values.dedup();
            let key = (compiled.class, is_small, values);
            let position = known.iter().position(|other| *other == key);
            let group = position.unwrap_or_else(|| {
                known.push(key);
                self.groups.push(Group {
                    class: compiled.class,
                    ..Group::default()
                });
                known.len() - 1
            });
            self.groups[group].metrics.push(metric);
            self.places[metric].is_small = is_small;
            group
        };
        let metrics = lanes.metrics.iter().enumerate();
        metrics.map(&mut group_of).collect()
    }

    /// Room for the numbers of a class, which are returned, and for what is made of them.
    fn add_section(
        &mut self,
        lanes: &Lanes,
        group_of: &[usize],
        (class, is_small): (usize, bool),
    ) -> Vec<Number> {
        let (counts, sums) = (self.counts, self.sums);
        let of_metric = |metric: usize| {
            let number = move |lane: &u16| Number {
                is_binary: is_binary(lanes, *lane),
                source: source(lanes, counts, sums, *lane),
                group: group_of[metric],
                lane: *lane,
            };
            lanes.metrics[metric].lanes.iter().map(number)
        };
        let belongs = |metric: &usize| {
            lanes.metrics[*metric].class == class && self.places[*metric].is_small == is_small
        };
        let metrics: Vec<usize> = (0..lanes.metrics.len()).filter(belongs).collect();
        // Neighbours in the sources become neighbours in the row.
        let numbers: BTreeSet<Number> = metrics.iter().flat_map(|at| of_metric(*at)).collect();
        let numbers: Vec<Number> = numbers.into_iter().collect();
        if numbers.is_empty() {
            return numbers;
        }
        let positions = |metric: usize| -> Vec<usize> {
            let of = |number| numbers.binary_search(&number).expect("it is one of them");
            of_metric(metric).map(of).collect()
        };
        let needs_product = |pair: &Pair| pair.0 > 0 || !numbers[pair.1].is_binary;
        let pairs: BTreeSet<Pair> = metrics
            .iter()
            .flat_map(|metric| pairs_of(&positions(*metric)))
            .filter(needs_product)
            .collect();
        let pairs: Vec<Pair> = pairs.into_iter().collect();
        let (side, line, step) = match is_small {
            true => (&mut self.small, SMALL_LINE, SMALL_STEP),
            false => (&mut self.wide, WIDE_LINE, WIDE_STEP),
        };
        let (first, entries, limits) = (side.numbers, side.entries, side.limits);
        for metric in metrics {
            let own = positions(metric);
            let product = |pair: Pair| match needs_product(&pair) {
                true => numbers.len() + pairs.binary_search(&pair).expect("it is one of them"),
                false => pair.1,
            };
            let products = pairs_of(&own).into_iter().map(product);
            let own = own.iter().copied();
            let place = &mut self.places[metric];
            place.limits = own.clone().map(|number| limits + number).collect();
            place.entries = own.chain(products).map(|entry| entries + entry).collect();
        }
        side.numbers += numbers.len();
        side.entries += (numbers.len() + pairs.len()).next_multiple_of(line);
        side.limits += numbers.len().next_multiple_of(line);
        side.sections.push(Section {
            class,
            numbers: first..side.numbers,
            entries: entries..side.entries,
            limits: limits..side.limits,
            products: products(&pairs, (entries + numbers.len(), first), step),
        });
        numbers
    }

    fn find_small_sources(&mut self, lanes: &Lanes, numbers: &[Number]) {
        let mut sources = Vec::new();
        for (at, number) in numbers.iter().enumerate() {
            let Source::Count(from) = number.source else {
                unreachable!("small numbers are counts")
            };
            sources.push(from);
            self.groups[number.group].numbers.push((at, number.lane));
            if is_bounded(lanes, number.lane) {
                self.small_bounds.push((at as u16, number.lane));
            }
        }
        self.copies = copies::<SMALL_STEP>(&sources, 0);
    }

    fn find_wide_sources(&mut self, lanes: &Lanes, numbers: &[Number]) {
        let (first, mut sums) = (self.wide_start(), vec![NOWHERE; numbers.len()]);
        for (at, number) in numbers.iter().enumerate() {
            let place = first + at;
            match number.source {
                Source::Sum(from) => sums[at] = from,
                source => self.wide_sources.push((place as u16, source)),
            }
            self.groups[number.group].numbers.push((place, number.lane));
            if is_bounded(lanes, number.lane) {
                self.wide_bounds.push((place as u16, number.lane));
            }
        }
        self.wide_copies = copies::<WIDE_STEP>(&sums, first);
        self.wide_padding = first + numbers.len()..self.stride();
    }

    /// The place of the first wide number.
    pub fn wide_start(&self) -> usize {
        self.small.numbers.next_multiple_of(SMALL_STEP)
    }

    /// Numbers of a row, in whole steps.
    pub fn stride(&self) -> usize {
        self.wide_start() + self.wide.numbers.next_multiple_of(WIDE_STEP)
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

/// The upper triangle of what is multiplied, row by row.
fn pairs_of(positions: &[usize]) -> Vec<Pair> {
    let pair = |a: usize, b: usize| (a.abs_diff(b), a.min(b));
    let rows = positions.iter().enumerate();
    rows.flat_map(|(row, a)| positions[row..].iter().map(move |b| pair(*a, *b)))
        .collect()
}

/// Blocks of products of sorted pairs; with where the first goes, and where the numbers start.
fn products(pairs: &[Pair], (to, first): (usize, usize), step: usize) -> Vec<Product> {
    let (mut products, mut at) = (Vec::new(), 0);
    while at < pairs.len() {
        let (apart, start) = pairs[at];
        let follows = |more: &usize| pairs.get(at + more) == Some(&(apart, start + more));
        products.push(Product {
            to: to + at,
            factors: [first + start, first + start + apart],
        });
        at += (1..step).take_while(follows).count() + 1;
    }
    products
}

/// What a number is made of that may be no whole number.
fn value_of(measure: &Measure) -> Option<(u8, Option<usize>, Option<String>)> {
    let kind = match measure.aggregate {
        Aggregate::Count | Aggregate::Any => return None,
        Aggregate::Sum => 0,
        Aggregate::Max => 1,
        Aggregate::Min => 2,
    };
    Some((kind, measure.value, measure.event.clone()))
}

fn is_binary(lanes: &Lanes, lane: u16) -> bool {
    let lane = &lanes.lanes[usize::from(lane)];
    lane.at_least > 0 && lane.cap >= 0.0
}

fn is_bounded(lanes: &Lanes, lane: u16) -> bool {
    let lane = &lanes.lanes[usize::from(lane)];
    lane.at_least > 1 || lane.cap.is_finite()
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
fn copies<const STEP: usize>(sources: &[u16], first: usize) -> Vec<(u16, u16)> {
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
        copies.push(((first + at) as u16, sources[at]));
        at += (1..STEP).take_while(follows).count() + 1;
    }
    copies
}
