//! Until when the data of a unit are complete: what windows that must be full are measured against.
//! In: a plan, and what the data said of their ends ([`DataEnd`](crate::metrics::plan::DataEnd)). Out: a [`Completeness`] for each metric.
//! Which windows there are is said by the lanes.

use crate::metrics::plan::MetricPlan;

/// Where the data of a plan end, in microseconds: one instant for each of its queries, or none where they gave none.
pub struct Ends(pub Vec<Option<i64>>);

/// Until when a unit's data are complete, for metrics with one end of data.
#[derive(Clone, Copy)]
pub struct Completeness {
    /// Whatever the unit is.
    through: i64,
    /// Nor longer than the unit is measured, which is so long where its row does not say; `None` where this plays no part.
    unmeasured: Option<i64>,
}

impl Ends {
    /// For metrics that refer to one of the plan's ends, or to none of them.
    pub fn completeness(&self, plan: &MetricPlan, data_end: Option<usize>) -> Completeness {
        let Some(end) = data_end else {
            return Completeness {
                through: plan.complete_through,
                unmeasured: None,
            };
        };
        // As SQL's `least`, which passes over NULL: of the data, of when a row says that its unit is measured until.
        let rows_say = plan.assignments.period.is_some();
        match self.0[end] {
            Some(through) => Completeness {
                through,
                unmeasured: rows_say.then_some(i64::MAX),
            },
            None => Completeness {
                through: if rows_say { i64::MAX } else { i64::MIN },
                unmeasured: rows_say.then_some(i64::MIN),
            },
        }
    }
}

impl Completeness {
    /// `measured_until` is what a row says, `i64::MIN` where that is NULL.
    #[inline(always)]
    pub fn until(&self, measured_until: i64) -> i64 {
        match self.unmeasured {
            None => self.through,
            Some(unmeasured) if measured_until == i64::MIN => unmeasured.min(self.through),
            Some(_) => measured_until.min(self.through),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::plan::PeriodColumns;

    /// What SQL's `least` says of when a unit is measured until, if its row has that, and of an end of data.
    fn least(instants: &[Option<i64>]) -> i64 {
        instants.iter().copied().flatten().min().unwrap_or(i64::MIN)
    }

    #[test]
    fn data_are_complete_as_far_as_least_says() {
        let json = r#"{"events": {"table": "e", "unit": "u", "time": "t", "name": "n"},
            "assignments": {"table": "a", "unit": "u", "time": "t", "experiment": "x", "variant": "v"},
            "experiments": [], "metrics": [], "complete_through": 70}"#;
        let mut plan: MetricPlan = serde_json::from_str(json).unwrap();
        for rows_say in [false, true] {
            let columns = || PeriodColumns {
                starts_at: "s".to_owned(),
                measured_until: "m".to_owned(),
            };
            plan.assignments.period = rows_say.then(columns);
            for end in [None, Some(50)] {
                let ends = Ends(vec![end]);
                let own = ends.completeness(&plan, Some(0));
                for measured in [None, Some(40), Some(50), Some(60)] {
                    let rows = measured.filter(|_| rows_say);
                    let until = own.until(measured.unwrap_or(i64::MIN));
                    assert_eq!(until, least(&[rows, end]), "{rows:?} {end:?}");
                }
                assert_eq!(ends.completeness(&plan, None).until(40), 70);
            }
        }
    }
}
