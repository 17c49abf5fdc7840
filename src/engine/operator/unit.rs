//! One unit: all of its events and all of its assignments.
//! In: rows of batches, lent by the merge where they lie, or gathered from several. Out: a [`Unit`] whose events are in time order.

use super::gathered::Gathered;
use crate::metrics::plan::{ExperimentPlan, MetricPlan};

/// What is known of one unit.
#[derive(Default)]
pub struct Unit<'a> {
    pub times: &'a [i64],
    pub names: &'a [u16],
    /// One value per event and value column, event by event: [`super::numbers::NULL`], or [`super::numbers::scaled`] where the column is.
    pub values: &'a [f64],
    pub assignments: &'a [AssignmentRow],
    pub limits: LimitColumns<&'a [i64]>,
}

/// Events of a unit that do not lie as a unit has them; the memory of one unit is that of the next.
#[derive(Default)]
pub struct EventRows {
    pub times: Gathered<i64>,
    pub names: Gathered<u16>,
    pub values: Gathered<f64>,
    /// Whether some run began before the one that was gathered before it ended.
    pub has_overlaps: bool,
}

/// The same of assignments.
#[derive(Default)]
pub struct AssignmentRows {
    pub rows: Gathered<AssignmentRow>,
    pub limits: LimitColumns<Gathered<i64>>,
}

/// What is read of an assignment, many millions of times.
#[derive(Clone, Copy, Default)]
pub struct AssignmentRow {
    pub time: i64,
    /// Which combination of segment values the unit had, by position in the kernel's list.
    pub segment: u32,
    pub experiment: u16,
    pub variant: u8,
}

/// What of an assignment is measured.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub period_start: i64,
    /// Events at or after this instant are not measured.
    pub measured_until: i64,
}

/// What assignments say of their own [`Limits`], in the order of its fields: an instant for each, or none where the experiment says it.
pub type LimitColumns<C> = [C; 2];

impl Limits {
    /// Those of all units of each experiment.
    pub fn by_experiment(plan: &MetricPlan) -> Vec<Limits> {
        let of = |planned: &ExperimentPlan| Limits {
            period_start: planned.from,
            measured_until: planned.measured_until,
        };
        plan.experiments.iter().map(of).collect()
    }
}

#[derive(Clone, Copy)]
pub struct Assignment {
    pub time: i64,
    pub period_start: i64,
    pub measured_until: i64,
    pub experiment: u16,
    pub segment: u32,
}

impl Assignment {
    pub fn new(row: &AssignmentRow, limits: Limits) -> Assignment {
        Assignment {
            time: row.time,
            period_start: limits.period_start,
            measured_until: limits.measured_until,
            experiment: row.experiment,
            segment: row.segment,
        }
    }
}

impl EventRows {
    /// Sorts by time when runs overlapped; ties by what they hold, so that the layout of files never shows.
    pub fn put_in_order(&mut self) {
        if !self.has_overlaps {
            return;
        }
        let (times, names) = (self.times.as_slice(), self.names.as_slice());
        let all_values = self.values.as_slice();
        let columns = all_values.len() / times.len();
        let values = |event: usize| {
            all_values[event * columns..(event + 1) * columns]
                .iter()
                .map(|value| value.to_bits())
        };
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.sort_by(|&a, &b| {
            (times[a], names[a])
                .cmp(&(times[b], names[b]))
                .then_with(|| values(a).cmp(values(b)))
        });
        let values = order.iter().flat_map(|&event| values(event));
        let values: Vec<f64> = values.map(f64::from_bits).collect();
        let names: Vec<u16> = order.iter().map(|&event| names[event]).collect();
        let times: Vec<i64> = order.iter().map(|&event| times[event]).collect();
        self.clear();
        self.times.append(&times, &(0..times.len()));
        self.names.append(&names, &(0..names.len()));
        self.values.append(&values, &(0..values.len()));
    }

    pub fn clear(&mut self) {
        self.times.clear();
        self.names.clear();
        self.values.clear();
        self.has_overlaps = false;
    }
}
