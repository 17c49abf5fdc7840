//! Compaction: few runs per bucket instead of one per day.
//! Each row is rewritten about as often as the logarithm of the table's size: a large run is left alone until the
//! smaller ones together are half as large.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::logical_expr::col;
use datafusion::prelude::SessionContext;
use deltalake::kernel::Action;
use deltalake::protocol::DeltaOperation;
use futures::{StreamExt, TryStreamExt};

use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use super::append::Written;
use super::{ClusteredFacts, RunFile, UNIT_KEY, external, with_partitions};

/// What a compaction has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    pub files_before: usize,
    pub files_after: usize,
    pub rows_rewritten: u64,
}

impl ClusteredFacts {
    /// Merges runs of every bucket that has more than `most_runs` of them, in one commit; the rows stay the same.
    pub async fn compact(
        &mut self,
        context: &SessionContext,
        most_runs: usize,
    ) -> Result<Compacted> {
        let runs = self.runs()?;
        let mut compacted = Compacted {
            files_before: runs.len(),
            files_after: runs.len(),
            rows_rewritten: 0,
        };
        let mut actions = Vec::new();
        for bucket in 0..self.clustering.buckets {
            let merged = to_merge(
                runs.iter().filter(|run| run.bucket == bucket).collect(),
                most_runs,
            );
            if merged.len() < 2 {
                continue;
            }
            let Written { files, rows, .. } = self.merge(context, &merged).await?;
            compacted.rows_rewritten += rows;
            compacted.files_after = compacted.files_after + files.len() - merged.len();
            actions.extend(files.into_iter().map(|file| {
                Action::Add(deltalake::kernel::Add {
                    data_change: false,
                    ..file
                })
            }));
            actions.extend(self.removals(&merged)?);
        }
        if !actions.is_empty() {
            self.commit(
                actions,
                DeltaOperation::Optimize {
                    predicate: None,
                    target_size: 0,
                },
            )
            .await?;
        }
        Ok(compacted)
    }

    /// One sorted file of several; the runs' declared order makes this a merge, not a sort.
    async fn merge(&self, context: &SessionContext, merged: &[&RunFile]) -> Result<Written> {
        let paths: Vec<&str> = merged.iter().map(|run| run.path.as_str()).collect();
        let table = self
            .provider()?
            .restricted(|run| paths.contains(&run.path.as_str()));
        let order = [UNIT_KEY, &self.clustering.time, &self.clustering.id];
        let rows = context.read_table(Arc::new(table))?.sort(
            order
                .iter()
                .map(|name| col(*name).sort(true, true))
                .collect(),
        )?;
        let first = merged
            .iter()
            .map(|run| run.day)
            .min()
            .expect("two runs are merged");
        let last = merged
            .iter()
            .map(|run| run.through)
            .max()
            .expect("two runs are merged");
        let bucket = merged[0].bucket;
        let batches: Vec<_> = rows
            .execute_stream()
            .await?
            .map(|batch| self.respanned(&batch?, (first, last), bucket))
            .try_collect()
            .await?;
        let schema = with_partitions(&self.schema);
        let stream = futures::stream::iter(batches.into_iter().map(Ok));
        self.write(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
            .await
    }

    fn removals(&self, merged: &[&RunFile]) -> Result<Vec<Action>> {
        let state = self.table.snapshot().map_err(external)?;
        let is_merged = |path: &str| merged.iter().any(|run| run.path == path);
        let log = state.log_data();
        let files = log
            .iter()
            .filter(|file| is_merged(&file.path()))
            .map(|file| Action::Remove(file.remove_action(false)));
        Ok(files.collect())
    }
}

/// All runs of a bucket but those that outweigh twice everything smaller.
fn to_merge(mut runs: Vec<&RunFile>, most_runs: usize) -> Vec<&RunFile> {
    if runs.len() <= most_runs.max(1) {
        return Vec::new();
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.rows));
    while runs.len() > 1 && runs[0].rows > 2 * runs[1..].iter().map(|run| run.rows).sum::<u64>() {
        runs.remove(0);
    }
    runs.sort_by(|a, b| (a.day, &a.path).cmp(&(b.day, &b.path)));
    runs
}
