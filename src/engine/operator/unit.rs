//! One unit: all of its events and all of its assignments.
//! In: rows of batches, lent by the merge where they lie, or gathered from several. Out: a [`Unit`] whose events are in time order.

use crate::metrics::plan::{ExperimentPlan, MetricPlan};

/// What is known of one unit.
#[derive(Default)]
pub struct Unit<'a> {
    pub times: &'a [i64],
    pub names: &'a [u16],
    /// One value per event and value column, event by event: [`super::numbers::NULL`], or [`super::numbers::scaled`] where the column is.
    pub values: &'a [f64],
    pub assignments: &'a [AssignmentRow],
    /// One per assignment, or none where those of the experiments hold.
    pub limits: &'a [Limits],
}

/// Events of a unit that do not lie as a unit has them; the memory of one unit is that of the next.
#[derive(Default)]
pub struct EventRows {
    pub times: Vec<i64>,
    pub names: Vec<u16>,
    pub values: Vec<f64>,
}

/// The same of assignments.
#[derive(Default)]
pub struct AssignmentRows {
    pub rows: Vec<AssignmentRow>,
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
#[derive(Clone, Copy, Default)]
pub struct Limits {
    pub period_start: i64,
    /// Events at or after this instant are not measured.
    pub measured_until: i64,
    /// Up to where the unit's data are complete: decides which windows are full.
    pub complete_until: i64,
}

impl Limits {
    /// Those of all units of each experiment.
    pub fn by_experiment(plan: &MetricPlan) -> Vec<Limits> {
        let of = |planned: &ExperimentPlan| Limits {
            period_start: planned.from,
            measured_until: planned.measured_until,
            complete_until: plan.complete_through,
        };
        plan.experiments.iter().map(of).collect()
    }
}

#[derive(Clone, Copy)]
pub struct Assignment {
    pub time: i64,
    pub period_start: i64,
    pub measured_until: i64,
    pub complete_until: i64,
    pub experiment: u16,
    pub segment: u32,
}

impl Assignment {
    pub fn new(row: &AssignmentRow, limits: &Limits) -> Assignment {
        Assignment {
            time: row.time,
            period_start: limits.period_start,
            measured_until: limits.measured_until,
            complete_until: limits.complete_until,
            experiment: row.experiment,
            segment: row.segment,
        }
    }
}

impl EventRows {
    /// Sorts by time when runs overlapped; ties by what they hold, so that the layout of files never shows.
    pub fn put_in_order(&mut self) {
        if self.times.is_sorted() {
            return;
        }
        let columns = self.values.len() / self.times.len();
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
}
