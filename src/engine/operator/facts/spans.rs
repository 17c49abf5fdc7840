//! Which days of a bucket lie together in a file: those of an append, and older ones in longer and longer spans.
//! In: days, and how far the table reaches. Out: spans that hold each day once, the same for the same data; for a bucket with too many
//! runs, which of them to merge. Nothing is read or written here.
//!
//! Spans have 32, 256, 2048, ... days, each made of eight shorter ones. One may be used when it ended more than three days before the span
//! of the newest day, so that rows that come up to three days late never fall into a long one. A few rows of a clock that runs ahead make no
//! day the newest, or everything else would be old. The number of spans grows with the logarithm of the history, and a row is rewritten about
//! once per length of span (TWCS of Cassandra and the blocks of Prometheus are levelled by time in the same way). Until then the runs of a
//! span lie as they were appended. Rewriting a day costs 0.4 times of what it cost to append it, so large runs are merged late and many at
//! once; small ones soon, as a reader pays for each run that it opens.
//!
//! A table that is written at once has fewer: what lies behind its last days goes into one of 64 days, one of 192 before, and so on.
//! Reading the last days then reads at most some 64 days more, and each run less is one less to merge.

use std::collections::BTreeMap;

use super::RunFile;

/// Days since 1970, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub first: i64,
    pub last: i64,
}

/// How the days of what is written lie together.
#[derive(Clone, Copy)]
pub(super) struct Spans {
    /// The last day that the table reaches to, see [`newest`].
    pub newest: i64,
    /// Whether the table has no rows yet.
    pub is_first: bool,
}

impl Spans {
    pub fn of(self, day: i64) -> Span {
        match self.is_first {
            true => Span::of_history(day, self.newest),
            false => Span::of(day, self.newest),
        }
    }
}

/// Days of the shortest span.
const SHORTEST: i64 = 32;
/// How many spans of one length make the next one.
const GROWTH: i64 = 8;
/// Days of the last spans of a history that is written at once.
const YOUNG: i64 = 4;
/// Days of the first long one before them; those before it are each as many times longer.
const HISTORY: i64 = 64;
const HISTORY_GROWTH: i64 = 4;
/// Days of the longest span, 44 years: spans on both sides of 1970 never meet.
const LONGEST: i64 = 1 << 14;
/// So many days late, rows still meet the shortest spans only.
const LATE: i64 = 3;

/// One row in so many may be of a day beyond the newest one.
const STRAYS: u64 = 256;

/// The last day that a table reaches to, given how many rows each day has. It may be early by as small a part of the history: that
/// leaves some more short spans, and rows of later days lie in short ones too.
pub(super) fn newest(rows_by_day: &BTreeMap<i64, u64>) -> Option<i64> {
    let all: u64 = rows_by_day.values().sum();
    let mut later = 0;
    let mut days = rows_by_day.iter().rev();
    let reached = days.find(|(_, rows)| {
        later += *rows;
        later.saturating_mul(STRAYS) >= all
    });
    reached.map(|(day, _)| *day)
}

/// How many rows runs have, by their last days.
pub(super) fn rows_by_day<'a>(runs: impl Iterator<Item = &'a RunFile>) -> BTreeMap<i64, u64> {
    let mut rows_by_day = BTreeMap::new();
    for run in runs {
        *rows_by_day.entry(run.through.into()).or_default() += run.rows;
    }
    rows_by_day
}

impl Span {
    /// Where the rows of a day lie in a table that reaches to `newest`.
    pub fn of(day: i64, newest: i64) -> Span {
        let is_quiet = |span: &Span| span.last < Span::aligned(newest, SHORTEST).first - LATE;
        let mut span = Span::aligned(day, SHORTEST);
        loop {
            let longer = span.longer();
            if span.days() >= LONGEST || !is_quiet(&longer) {
                return span;
            }
            span = longer;
        }
    }

    /// Where the rows of a day lie when a table is written at once, up to `newest`: those that rows which come late may meet in short spans, and
    /// what is older in few long spans, as it costs no rewriting to put it there.
    pub fn of_history(day: i64, newest: i64) -> Span {
        let quiet = Span::aligned(newest, YOUNG).first - LATE;
        let end = Span::aligned(quiet, YOUNG).first;
        if day >= end {
            return Span::aligned(day, YOUNG);
        }
        let (mut from, mut until) = (0, HISTORY);
        while day < end - until {
            (from, until) = (until, until * HISTORY_GROWTH);
        }
        Span {
            first: end - until,
            last: end - from - 1,
        }
    }

    fn days(&self) -> i64 {
        self.last - self.first + 1
    }

    fn aligned(day: i64, days: i64) -> Span {
        let first = day.div_euclid(days) * days;
        Span {
            first,
            last: first + days - 1,
        }
    }

    fn longer(self) -> Span {
        Span::aligned(self.first, self.days() * GROWTH)
    }

    /// The span of a run. Runs that came about otherwise can reach over several: then the shortest that holds them all.
    fn of_run(run: &RunFile, newest: i64) -> Span {
        let mut span = Span::of(run.day.into(), newest);
        while i64::from(run.through) > span.last && span.days() < LONGEST {
            span = span.longer();
        }
        Span {
            last: span.last.max(run.through.into()),
            ..span
        }
    }
}

/// How many runs beyond one per span a bucket may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare {
    /// Before small ones are merged: that costs less than opening them again and again.
    small: usize,
    /// Before large ones are merged, too.
    large: usize,
}

/// A merge is one of small runs if it rewrites no more rows for each run less: about as many as are rewritten in the time in which ten readers
/// open a run.
const SMALL_ROWS: u64 = 1 << 14;

impl Spare {
    /// For one of many buckets: a quarter fewer large runs, or up to as many more, so that not all buckets are merged on the same day.
    pub fn of(bucket: u16, buckets: u16, large: usize) -> Spare {
        let place = usize::from(bucket) * (large / 2) / usize::from(buckets.max(1));
        Spare {
            small: large / 4,
            large: large - large / 4 + place,
        }
    }
}

/// What to merge in a bucket that has more runs than it may have; then half as many stay.
pub(super) fn to_tidy<'a>(
    runs: &[&'a RunFile],
    newest: i64,
    spare: Spare,
) -> Vec<Vec<&'a RunFile>> {
    let spans: Vec<Vec<&RunFile>> = by_span(runs, newest).into_values().collect();
    let excess = runs.len() - spans.len();
    if excess <= spare.small {
        return Vec::new();
    }
    let merges = spans
        .iter()
        .map(|runs| without_large(runs.clone(), usize::MAX))
        .filter(|merged| merged.len() > 1);
    let merges: Vec<Vec<&RunFile>> = merges.collect();
    let mut small = merges.clone();
    small.retain(|merged| rows_per_run_less(merged) <= SMALL_ROWS);
    let small = cheapest(small, excess - spare.small / 2);
    if excess - removed(&small) <= spare.large {
        return small;
    }
    let fewer = excess - spare.large / 2;
    let merges = cheapest(merges, fewer);
    // What is left are large runs with few small ones beside each: they are rewritten only when nothing else helps.
    match excess - removed(&merges) <= spare.large {
        true => merges,
        false => cheapest(spans, fewer),
    }
}

/// What to merge so that a bucket has no more than `most` runs: within spans of days as long as that is enough, and all but the largest
/// runs, whatever their days, where it is not.
pub(super) fn to_few(runs: Vec<&RunFile>, newest: i64, most: usize) -> Vec<Vec<&RunFile>> {
    if runs.len() <= most {
        return Vec::new();
    }
    let excess = runs.len() - most;
    let spans: Vec<Vec<&RunFile>> = by_span(&runs, newest).into_values().collect();
    match spans.len() <= most {
        true => cheapest(spans, excess),
        false => vec![without_large(runs, most - 1)],
    }
}

fn by_span<'a>(runs: &[&'a RunFile], newest: i64) -> BTreeMap<Span, Vec<&'a RunFile>> {
    let mut by_span: BTreeMap<Span, Vec<&RunFile>> = BTreeMap::new();
    for run in runs {
        let span = Span::of_run(run, newest);
        by_span.entry(span).or_default().push(run);
    }
    by_span
}

fn removed(merges: &[Vec<&RunFile>]) -> usize {
    merges.iter().map(|merged| merged.len() - 1).sum()
}

fn rows_per_run_less(merged: &[&RunFile]) -> u64 {
    rows_of(merged) / (merged.len() as u64 - 1)
}

/// Merges that make at least so many runs fewer, those first that rewrite the fewest rows for it.
fn cheapest(mut merges: Vec<Vec<&RunFile>>, fewer: usize) -> Vec<Vec<&RunFile>> {
    merges.retain(|merged| merged.len() > 1);
    merges.sort_by_key(|merged| rows_per_run_less(merged));
    let mut left = fewer;
    merges.retain(|merged| {
        let is_needed = left > 0;
        left = left.saturating_sub(merged.len() - 1);
        is_needed
    });
    merges
}

fn rows_of(runs: &[&RunFile]) -> u64 {
    runs.iter().map(|run| run.rows).sum()
}

/// All runs but up to `most` of those that outweigh twice everything smaller: so a row is rewritten about as often as the logarithm
/// of what lies beside it, however small the pieces that come.
pub(super) fn without_large(mut runs: Vec<&RunFile>, most: usize) -> Vec<&RunFile> {
    runs.sort_by_key(|run| std::cmp::Reverse(run.rows));
    let is_large = |at: &usize| runs[*at].rows > 2 * rows_of(&runs[at + 1..]);
    let large = (0..runs.len().min(most)).take_while(is_large).count();
    let mut small = runs.split_off(large);
    small.sort_by(|a, b| (a.day, &a.path).cmp(&(b.day, &b.path)));
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: i64 = 20_600;

    #[test]
    fn spans_hold_each_day_once_and_grow_with_age() {
        let mut lengths = Vec::new();
        let mut day = NEWEST - 3 * 365;
        while day <= NEWEST {
            let span = Span::of(day, NEWEST);
            assert_eq!(span.first % SHORTEST, 0);
            for day in span.first..=span.last {
                assert_eq!(Span::of(day, NEWEST), span);
            }
            lengths.push(span.days());
            day = span.last + 1;
        }
        assert!(lengths.is_sorted_by(|a, b| a >= b), "{lengths:?}");
        assert!(lengths.len() <= 16, "{lengths:?}");
    }

    #[test]
    fn a_history_written_at_once_has_few_spans() {
        let allowed = [(10, 4), (30, 4), (80, 5), (365, 6), (3650, 8)];
        for newest in NEWEST..NEWEST + 8 {
            for (days, most) in allowed {
                let spans = Spans {
                    newest,
                    is_first: true,
                };
                let (mut day, mut lengths) = (newest - days, Vec::new());
                while day <= newest {
                    let span = spans.of(day);
                    assert!((span.first..=span.last).all(|day| spans.of(day) == span));
                    lengths.push(span.days());
                    day = span.last + 1;
                }
                assert!(lengths.len() <= most, "{lengths:?}");
                assert!(lengths.is_sorted_by(|a, b| a >= b), "{lengths:?}");
            }
        }
    }

    #[test]
    fn rows_that_come_a_little_late_meet_short_spans() {
        for newest in NEWEST..NEWEST + 500 {
            for day in newest - LATE..=newest {
                assert_eq!(Span::of(day, newest).days(), SHORTEST);
                assert_eq!(Span::of_history(day, newest).days(), YOUNG);
            }
        }
    }

    #[test]
    fn days_far_from_all_others_have_a_span_too() {
        let far = i64::MAX / 86_400_000_000;
        for day in [-far, -1_000_000, -719_162, -1, 0, NEWEST, far] {
            for newest in [-far, -1, 0, NEWEST, far] {
                let span = Span::of(day, newest);
                assert!((span.first..=span.last).contains(&day), "{day} {newest}");
                assert!(span.days() <= LONGEST, "{day} {newest}");
                let span = Span::of_history(day, newest);
                assert!((span.first..=span.last).contains(&day), "{day} {newest}");
            }
        }
        // As a table of before was written: in one run, from a wrong clock on.
        let all = run(0, (-1, NEWEST), 10);
        let span = Span::of_run(&all, NEWEST);
        assert!(span.first <= -1 && NEWEST <= span.last);
    }

    #[test]
    fn few_rows_of_a_clock_that_runs_ahead_make_no_day_the_newest() {
        let mut days: BTreeMap<i64, u64> = (0..100).map(|age| (NEWEST - age, 50)).collect();
        assert_eq!(newest(&days), Some(NEWEST));
        days.extend([(NEWEST + 365, 9), (NEWEST + 86_000, 10)]);
        assert_eq!(newest(&days), Some(NEWEST));
        // A table that goes on after a year is no clock.
        days.insert(NEWEST + 366, 50);
        assert_eq!(newest(&days), Some(NEWEST + 366));
        // Of a long history the last days are few.
        let days: BTreeMap<i64, u64> = (0..3650).map(|age| (NEWEST - age, 50)).collect();
        assert_eq!(newest(&days), Some(NEWEST - 14));
        assert_eq!(newest(&BTreeMap::new()), None);
    }

    fn run(number: usize, (day, through): (i64, i64), rows: u64) -> RunFile {
        RunFile {
            bucket: 0,
            day: day as i32,
            through: through as i32,
            until: i64::MAX,
            path: format!("{number:05}"),
            size: rows,
            rows,
        }
    }

    /// The runs of a table that was written at once, with so many days of so many rows.
    fn written_at_once(days: i64, rows: u64) -> Vec<RunFile> {
        let mut by_span: BTreeMap<Span, (i64, i64)> = BTreeMap::new();
        for day in NEWEST - days..NEWEST {
            let span = Span::of_history(day, NEWEST - 1);
            by_span.entry(span).or_insert((day, day)).1 = day;
        }
        let runs = by_span.into_values().enumerate();
        runs.map(|(at, days)| run(at, days, (days.1 - days.0 + 1) as u64 * rows))
            .collect()
    }

    /// A bucket that gets a day after the other, each with some rows of the three days before: most runs at a time, and how often a
    /// row was written.
    fn lived(mut runs: Vec<RunFile>, (days, rows): (i64, u64), spare: Spare) -> (usize, f64) {
        let mut most = 0;
        let mut offered: u64 = runs.iter().map(|run| run.rows).sum();
        let mut written = offered;
        for day in 0..days {
            let newest = NEWEST + day;
            let mut by_span: BTreeMap<Span, (i64, i64, u64)> = BTreeMap::new();
            for (age, rows) in [(3, rows / 500), (2, rows / 330), (1, rows / 280), (0, rows)] {
                let span = Span::of(newest - age, newest);
                let entry = by_span.entry(span).or_insert((newest - age, 0, 0));
                (entry.1, entry.2) = (newest - age, entry.2 + rows);
                offered += rows;
                written += rows;
            }
            for (first, last, rows) in by_span.into_values() {
                runs.push(run(runs.len(), (first, last), rows));
            }
            most = most.max(runs.len());
            let borrowed: Vec<&RunFile> = runs.iter().collect();
            let merges = to_tidy(&borrowed, newest, spare);
            let gone: Vec<String> = merges
                .iter()
                .flatten()
                .map(|run| run.path.clone())
                .collect();
            let mut merged: Vec<RunFile> = Vec::new();
            for merge in &merges {
                let first = merge.iter().map(|run| run.day).min().unwrap();
                let last = merge.iter().map(|run| run.through).max().unwrap();
                written += rows_of(merge);
                merged.push(run(0, (first.into(), last.into()), rows_of(merge)));
            }
            runs.retain(|run| !gone.contains(&run.path));
            runs.extend(merged);
            for (number, run) in runs.iter_mut().enumerate() {
                run.path = format!("{number:05}");
            }
        }
        (most, written as f64 / offered as f64)
    }

    #[test]
    fn runs_stay_few_and_rows_are_seldom_rewritten_as_a_history_grows() {
        let large = [(41, 1.9), (47, 2.3), (50, 2.8), (58, 3.9)];
        let small = [(16, 2.3), (20, 3.4), (33, 4.6), (45, 6.0)];
        for (rows, allowed) in [(100_000, large), (1_000, small)] {
            for (history, bucket) in [(0, 0), (0, 7), (0, 15), (30, 7), (365, 7)] {
                let spare = Spare::of(bucket, 16, 32);
                let lived = |days| lived(written_at_once(history, rows), (days, rows), spare);
                let seen: Vec<_> = [30, 120, 365, 3650].map(lived).into();
                for ((most, written), (most_allowed, written_allowed)) in seen.iter().zip(allowed) {
                    assert!(
                        *most <= most_allowed && *written <= written_allowed,
                        "{rows} rows a day after {history} in {bucket}: {seen:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn few_runs_lie_within_spans_where_that_is_enough() {
        let mut runs = written_at_once(300, 100);
        let spans: Vec<(i32, i32)> = runs.iter().map(|run| (run.day, run.through)).collect();
        runs.extend(
            (0..20).map(|day| run(100 + day, (NEWEST + day as i64, NEWEST + day as i64), 100)),
        );
        let all: Vec<&RunFile> = runs.iter().collect();
        let newest = NEWEST + 19;
        let merged = to_few(all.clone(), newest, 8);
        assert!(all.len() - removed(&merged) <= 8, "{spans:?}");
        for merge in &merged {
            let of_run = |run: &&RunFile| Span::of_run(run, newest);
            assert!(
                merge
                    .iter()
                    .map(of_run)
                    .all(|span| span == of_run(&merge[0]))
            );
        }
        for most in 1..4 {
            let merged = to_few(all.clone(), newest, most);
            assert!((1..=most).contains(&(all.len() - removed(&merged))));
        }
        assert!(to_few(all.clone(), newest, all.len()).is_empty());
    }

    #[test]
    fn buckets_take_turns() {
        for buckets in [1, 2, 8, 16, 64] {
            let spare = |bucket| Spare::of(bucket, buckets, 32).large;
            let all: Vec<usize> = (0..buckets).map(spare).collect();
            assert!(all.is_sorted() && all[0] == 24 && all[all.len() - 1] < 40);
            let alike = all.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
            assert_eq!(alike, Some(usize::from(buckets).div_ceil(16)));
        }
    }
}
