//! Until when data are complete: what windows that must be full are measured against.
//! In: metrics, and SQL for an instant if the project gives one. Out: each end of data once, and which one a metric has. Whether a unit
//! counts by it is decided by the metric's window.

use crate::manifest::identifier;
use crate::metrics::metric::{Maturity, Metric};
use crate::metrics::plan::DataEnd;

/// The ends of data that some metrics have.
pub struct DataEnds<'a> {
    complete_through: Option<&'a str>,
    pub known: Vec<DataEnd>,
}

impl<'a> DataEnds<'a> {
    pub fn of<'m>(
        metrics: impl Iterator<Item = &'m Metric>,
        complete_through: Option<&'a str>,
    ) -> DataEnds<'a> {
        let full = metrics.filter(|metric| metric.maturity == Maturity::FullWindow);
        let mut known: Vec<DataEnd> = full.map(|metric| end(metric, complete_through)).collect();
        known.sort();
        known.dedup();
        DataEnds {
            complete_through,
            known,
        }
    }

    /// Which of them is the end for a metric, if it asks for full windows.
    pub fn position(&self, metric: &Metric) -> Option<usize> {
        if metric.maturity != Maturity::FullWindow {
            return None;
        }
        let own = end(metric, self.complete_through);
        self.known.iter().position(|end| *end == own)
    }

    /// Columns that say how far the data of each unit reach, one for each end.
    pub fn columns(&self) -> String {
        let ends = self.known.iter().enumerate();
        let columns = ends.map(|(at, DataEnd(instants))| {
            let (instants, name) = (instants.join(", "), column(at));
            format!(", least(measured_until, {instants}) as {name}")
        });
        columns.collect()
    }

    /// The column of a metric's own end.
    pub fn column(&self, metric: &Metric) -> String {
        column(self.position(metric).unwrap_or(0))
    }
}

/// A full window ends within what its own metric reads, so that a fact that ends early takes no units from metrics that never look at it.
fn end(metric: &Metric, complete_through: Option<&str>) -> DataEnd {
    let measures = metric.kind.measures().into_iter();
    let instants = measures.map(|measure| match complete_through {
        Some(instant) => instant.to_owned(),
        None => format!(
            "(select max({}) from {})",
            identifier(&measure.time_column),
            identifier(&measure.fact)
        ),
    });
    let mut instants: Vec<String> = instants.collect();
    instants.sort();
    instants.dedup();
    DataEnd(instants)
}

fn column(at: usize) -> String {
    match at {
        0 => "complete_until".to_owned(),
        _ => format!("complete_until_{}", at + 1),
    }
}
