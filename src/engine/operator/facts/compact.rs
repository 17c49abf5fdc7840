//! Compaction: few runs per bucket instead of one per append.
//! In: how many runs a bucket may have. Out: a commit that replaces runs by merged ones, whose rows stay the same. Which of them lie
//! together is said by [`super::spans`].

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::row::OwnedRow;
use datafusion::error::Result;
use datafusion::logical_expr::ident;
use datafusion::prelude::SessionContext;
use deltalake::kernel::{Action, Add, Remove};
use deltalake::protocol::DeltaOperation;
use futures::StreamExt;

use super::maintain::without_leftovers;
use super::row_keys::RowKeys;
use super::spans::{Spare, newest, rows_by_day, to_few, to_tidy};
use super::write::RunWriter;
use super::{ClusteredFacts, ClusteredTable, RunFile, StoredFile, UNIT_KEY};

/// What a compaction has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    pub files_before: usize,
    pub files_after: usize,
    pub rows_rewritten: u64,
}

impl ClusteredFacts {
    /// Merges runs until no bucket has more than `most_runs` of them, for those who read more often than they append: rather within spans
    /// of days, so that rows that come late meet few others.
    pub async fn compact(
        &mut self,
        context: &SessionContext,
        most_runs: usize,
    ) -> Result<Compacted> {
        let newest = self.newest();
        self.rewrite(context, |runs| to_few(runs, newest, most_runs.max(1)))
            .await
    }

    /// Merges runs within their spans of days, where a bucket has more than about `spare` runs beyond one per span, or a quarter as many small
    /// ones; large ones not in all buckets on the same day.
    pub async fn tidy(&mut self, context: &SessionContext, spare: usize) -> Result<Compacted> {
        let newest = self.newest();
        let buckets = self.clustering.buckets;
        self.rewrite(context, |runs| match runs.first() {
            Some(run) => to_tidy(&runs, newest, Spare::of(run.bucket, buckets, spare)),
            None => Vec::new(),
        })
        .await
    }

    /// The last day that the table reaches to.
    fn newest(&self) -> i64 {
        let runs = self.files.iter().map(|file| &file.run);
        newest(&rows_by_day(runs)).unwrap_or_default()
    }

    /// Merges what is picked from the runs of each bucket, in one commit.
    async fn rewrite(
        &mut self,
        context: &SessionContext,
        pick: impl for<'a> Fn(Vec<&'a RunFile>) -> Vec<Vec<&'a RunFile>>,
    ) -> Result<Compacted> {
        let writing = self.merge_all(context, pick);
        let (actions, compacted) = without_leftovers(&self.folder, writing).await?;
        if !actions.is_empty() {
            let operation = DeltaOperation::Optimize {
                predicate: None,
                target_size: 0,
            };
            self.commit(actions, operation).await?;
        }
        Ok(compacted)
    }

    /// Writes files that no commit names yet, and says which runs they replace.
    async fn merge_all(
        &self,
        context: &SessionContext,
        pick: impl for<'a> Fn(Vec<&'a RunFile>) -> Vec<Vec<&'a RunFile>>,
    ) -> Result<(Vec<Action>, Compacted)> {
        let runs = self.runs();
        let mut compacted = Compacted {
            files_before: runs.len(),
            files_after: runs.len(),
            rows_rewritten: 0,
        };
        let table = self.provider()?;
        let (mut actions, mut replaced) = (Vec::new(), HashSet::new());
        for bucket in 0..self.clustering.buckets {
            let of_bucket = runs.iter().filter(|run| run.bucket == bucket).collect();
            for merged in pick(of_bucket) {
                if merged.len() < 2 {
                    continue;
                }
                let file = self.merge(context, &table, &merged).await?;
                compacted.rows_rewritten += merged.iter().map(|run| run.rows).sum::<u64>();
                compacted.files_after -= merged.len() - usize::from(file.is_some());
                actions.extend(file.map(|file| {
                    Action::Add(Add {
                        data_change: false,
                        ..file
                    })
                }));
                replaced.extend(merged.iter().map(|run| run.path.as_str()));
            }
        }
        actions.extend(self.removals(&replaced));
        Ok((actions, compacted))
    }

    /// One sorted file of several; the runs' declared order makes this a merge, not a sort.
    async fn merge(
        &self,
        context: &SessionContext,
        table: &ClusteredTable,
        merged: &[&RunFile],
    ) -> Result<Option<Add>> {
        let table = table.restricted(|run| merged.contains(&run));
        let order = [UNIT_KEY, &self.clustering.time, &self.clustering.id];
        let rows = context.read_table(Arc::new(table))?.sort(
            order
                .iter()
                .map(|name| ident(*name).sort(true, true))
                .collect(),
        )?;
        let mut writer = RunWriter::new(self);
        let mut rows = rows.execute_stream().await?;
        while let Some(batch) = rows.next().await {
            writer.write(&batch?).await?;
        }
        writer.close(merged[0].bucket).await
    }

    /// A run without some of its rows, by unit key, time and id: what replaces it.
    pub(super) async fn without_rows(
        &self,
        context: &SessionContext,
        path: &str,
        gone: &HashSet<OwnedRow>,
    ) -> Result<Vec<Action>> {
        let runs = self.runs();
        let run = runs.iter().find(|run| run.path == path);
        let run = run.expect("what was looked up was named by a run");
        let keys = RowKeys::of(self)?;
        let table = self.provider()?.restricted(|run| run.path == path);
        // As they lie: one file is one partition.
        let mut rows = context
            .read_table(Arc::new(table))?
            .execute_stream()
            .await?;
        let mut writer = RunWriter::new(self);
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let keys = keys.rows(&batch)?;
            let stays = keys.iter().map(|key| Some(!gone.contains(&key.owned())));
            let stays: BooleanArray = stays.collect();
            writer.write(&filter_record_batch(&batch, &stays)?).await?;
        }
        let file = writer.close(run.bucket).await?;
        let mut actions: Vec<Action> = file.map(Action::Add).into_iter().collect();
        actions.extend(self.removals(&HashSet::from([path])));
        Ok(actions)
    }

    /// The runs of these paths, as the log is told that they are gone.
    fn removals(&self, paths: &HashSet<&str>) -> Vec<Action> {
        let now = chrono::Utc::now().timestamp_millis();
        let removal = |file: &StoredFile| {
            Action::Remove(Remove {
                path: file.entry.path.clone(),
                data_change: false,
                deletion_timestamp: Some(now),
                extended_file_metadata: Some(true),
                partition_values: Some(file.entry.partition_values.clone()),
                size: Some(file.entry.size),
                ..Remove::default()
            })
        };
        let files = self.files.iter();
        let gone = files.filter(|file| paths.contains(file.run.path.as_str()));
        gone.map(removal).collect()
    }
}
