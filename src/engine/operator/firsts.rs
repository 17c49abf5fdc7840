//! The first assignment of a unit in each experiment: what its windows hang on.
//! In: a [`Unit`]'s assignments. Out: [`First`]s in time order, with whether another variant was seen later. Which of them count is
//! decided by the kernel.

use super::unit::{Assignment, AssignmentRow, Limits, Unit};
use crate::metrics::plan::{ExperimentPlan, MetricPlan};

/// A unit's first assignment in one experiment.
#[derive(Clone, Copy)]
pub struct First {
    pub row: AssignmentRow,
    pub is_crossed_over: bool,
    /// Position among the unit's assignments.
    index: u32,
}

#[derive(Default)]
pub struct Firsts {
    pub list: Vec<First>,
    /// Where each counts, among the cells of its segment.
    pub cells: Vec<u32>,
    /// Whether the unit was seen in two variants of some experiment.
    pub has_crossed_over: bool,
    /// By experiment.
    seen: Vec<Seen>,
    limits: Vec<Limits>,
    /// Those of all experiments, where they have the same.
    usual: Option<Limits>,
    /// Counts units.
    stamp: u32,
}

/// Of an experiment: when assignments count, in which unit it was last met, and where among that unit's firsts.
// The plan says the same, but takes more memory than fits near the processor.
struct Seen {
    from: i64,
    to: i64,
    stamp: u32,
    index: u32,
}

impl Firsts {
    pub fn new(plan: &MetricPlan) -> Firsts {
        let never = |planned: &ExperimentPlan| Seen {
            from: planned.from,
            to: planned.to,
            stamp: 0,
            index: 0,
        };
        let limits = Limits::by_experiment(plan);
        let usual = limits.first().copied();
        Firsts {
            list: Vec::new(),
            cells: Vec::new(),
            has_crossed_over: false,
            seen: plan.experiments.iter().map(never).collect(),
            usual: usual.filter(|usual| limits.iter().all(|other| other == usual)),
            limits,
            stamp: 0,
        }
    }

    #[inline(always)]
    pub fn collect(&mut self, unit: &Unit) {
        self.list.clear();
        self.has_crossed_over = false;
        self.list.reserve(unit.assignments.len());
        self.stamp += 1;
        let (mut is_sorted, mut last) = (true, i64::MIN);
        for (index, row) in unit.assignments.iter().enumerate() {
            let seen = &mut self.seen[usize::from(row.experiment)];
            if row.time < seen.from || row.time >= seen.to {
                continue;
            }
            if seen.stamp == self.stamp {
                let first = &mut self.list[seen.index as usize];
                is_sorted &= !meet_again(first, row, index);
                self.has_crossed_over |= first.is_crossed_over;
                continue;
            }
            (seen.stamp, seen.index) = (self.stamp, self.list.len() as u32);
            is_sorted &= last <= row.time;
            last = row.time;
            self.list.push(First {
                row: *row,
                is_crossed_over: false,
                index: index as u32,
            });
        }
        if !is_sorted {
            self.list
                .sort_by_key(|first| (first.row.time, first.row.experiment));
        }
    }

    /// Cells of so many variants for each experiment.
    #[inline(always)]
    pub fn find_cells(&mut self, variants: usize) {
        let cell = |first: &First| {
            usize::from(first.row.experiment) * variants + usize::from(first.row.variant)
        };
        self.cells.clear();
        self.cells
            .extend(self.list.iter().map(|first| cell(first) as u32));
    }

    /// What of an assignment is measured: as its row says, or as the experiment does.
    #[inline(always)]
    pub fn limits(&self, unit: &Unit, first: &First) -> Limits {
        let usual = &self.limits[usize::from(first.row.experiment)];
        let own =
            |column: &[i64], usual| column.get(first.index as usize).copied().unwrap_or(usual);
        let [start, end] = unit.limits;
        Limits {
            period_start: own(start, usual.period_start),
            measured_until: own(end, usual.measured_until),
        }
    }

    /// What of all assignments of the unit is measured, where that is the same.
    #[inline(always)]
    pub fn limits_of_all(&self, unit: &Unit) -> Option<Limits> {
        let usual = self.usual?;
        let own = |column: &[i64], usual| match column {
            [] => Some(usual),
            // All of them, without a branch for each.
            [first, ..] => {
                let differ = column
                    .iter()
                    .fold(0, |differ, other| differ | (other ^ first));
                (differ == 0).then_some(*first)
            }
        };
        let [start, end] = unit.limits;
        Some(Limits {
            period_start: own(start, usual.period_start)?,
            measured_until: own(end, usual.measured_until)?,
        })
    }

    pub fn assignment(&self, unit: &Unit, first: &First) -> Assignment {
        Assignment::new(&first.row, self.limits(unit, first))
    }
}

/// Whether the row is the first one now; it may come late, so that it stands at the wrong place.
#[inline]
fn meet_again(first: &mut First, row: &AssignmentRow, index: usize) -> bool {
    first.is_crossed_over |= first.row.variant != row.variant;
    // Of two variants at the same instant the lower one is the first, whatever the order of rows.
    let is_first = (row.time, row.variant) < (first.row.time, first.row.variant);
    if is_first {
        (first.row, first.index) = (*row, index as u32);
    }
    is_first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(experiment: u16, time: i64, variant: u8) -> AssignmentRow {
        AssignmentRow {
            time,
            segment: 0,
            experiment,
            variant,
        }
    }

    /// All orders of some rows.
    fn orders(rows: &[AssignmentRow]) -> Vec<Vec<AssignmentRow>> {
        let Some((first, others)) = rows.split_first() else {
            return vec![Vec::new()];
        };
        let mut found = Vec::new();
        for order in orders(others) {
            for at in 0..=order.len() {
                let mut order = order.clone();
                order.insert(at, *first);
                found.push(order);
            }
        }
        found
    }

    #[test]
    fn late_assignments_change_no_order() {
        let always = |_| Seen {
            from: 0,
            to: 100,
            stamp: 0,
            index: 0,
        };
        let mut firsts = Firsts {
            seen: (0..4).map(always).collect(),
            limits: vec![Limits::default(); 4],
            ..Firsts::default()
        };
        // Experiment 1 is met again, earlier and in another variant, and experiment 2 twice at one instant; one row is outside.
        let rows = [
            row(0, 10, 0),
            row(1, 12, 1),
            row(1, 5, 0),
            row(2, 7, 1),
            row(2, 7, 0),
            row(3, 100, 0),
        ];
        let expected = [(1, 5, 0, true), (2, 7, 0, true), (0, 10, 0, false)];
        for assignments in orders(&rows) {
            let unit = Unit {
                assignments: &assignments,
                ..Unit::default()
            };
            firsts.collect(&unit);
            let known = |first: &First| {
                let row = first.row;
                (row.experiment, row.time, row.variant, first.is_crossed_over)
            };
            let found: Vec<_> = firsts.list.iter().map(known).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn limits_are_those_of_all_where_none_differs() {
        let usual = Limits {
            period_start: 1,
            measured_until: 9,
        };
        let firsts = Firsts {
            usual: Some(usual),
            ..Firsts::default()
        };
        let of = |starts: &[i64], ends: &[i64]| {
            let unit = Unit {
                limits: [starts, ends],
                ..Unit::default()
            };
            firsts.limits_of_all(&unit)
        };
        let own = Limits {
            measured_until: 7,
            ..usual
        };
        assert!(of(&[], &[]) == Some(usual));
        assert!(of(&[1, 1], &[7, 7]) == Some(own));
        assert!(of(&[1, 1], &[7, 8]).is_none());
        assert!(of(&[2, 1], &[7, 7]).is_none());
        assert!(Firsts::default().limits_of_all(&Unit::default()).is_none());
    }
}
