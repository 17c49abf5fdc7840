//! Counts what the server does.
//! In: events of the other modules. Out: Prometheus' text format. Counters are plain atomics; nothing is allocated to count, and what
//! every request counts is counted by each thread in a place of its own, so that no two wait for one line of memory.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;

use super::{State, lock};
use crate::events::accept::Accepted;
use crate::events::log::Health;
use crate::flags::Reason;

/// All counters.
#[derive(Default)]
pub struct Metrics {
    shards: [Shard; SHARDS],
    events: AtomicU64,
    quarantined: AtomicU64,
    not_logged: AtomicU64,
    connections_refused: AtomicU64,
    reloads: AtomicU64,
    reloads_failed: AtomicU64,
}

/// The counts of some threads.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    requests: [RouteMetrics; Route::ALL.len()],
    reasons: [AtomicU64; REASONS.len()],
}

/// As many threads count without meeting.
const SHARDS: usize = 8;

/// Threads that have counted so far.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
}

/// What a request was for, with few values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Single,
    Bulk,
    Stream,
    Events,
    Documents,
    Health,
    Other,
}

impl Route {
    const ALL: [Route; 7] = [
        Route::Single,
        Route::Bulk,
        Route::Stream,
        Route::Events,
        Route::Documents,
        Route::Health,
        Route::Other,
    ];

    /// The route of a path.
    pub fn of(path: &str) -> Route {
        match path {
            "/ofrep/v1/evaluate/flags" => Route::Bulk,
            super::stream::PATH => Route::Stream,
            "/v1/events" | "/v1/logs" => Route::Events,
            "/healthz" | "/readyz" | "/metrics" => Route::Health,
            "/flags.ufc.json" => Route::Documents,
            path if path.starts_with("/ofrep/v1/evaluate/flags/") => Route::Single,
            path if path.starts_with("/api/features/") => Route::Documents,
            _ => Route::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Route::Single => "evaluate",
            Route::Bulk => "evaluate_bulk",
            Route::Stream => "stream",
            Route::Events => "events",
            Route::Documents => "documents",
            Route::Health => "health",
            Route::Other => "other",
        }
    }
}

#[derive(Default)]
struct RouteMetrics {
    classes: [AtomicU64; CLASSES.len()],
    buckets: [AtomicU64; BOUNDS.len()],
    micros: AtomicU64,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Upper bounds of the durations, in seconds.
const BOUNDS: [f64; 8] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.25, 1.0];

/// In the order of their declaration.
const REASONS: [Reason; 13] = [
    Reason::Disabled,
    Reason::PrerequisiteFailed,
    Reason::ForcedUnit,
    Reason::ForcedRule,
    Reason::HeldOut,
    Reason::OutsideSlot,
    Reason::NotStarted,
    Reason::NotAllocated,
    Reason::Allocated,
    Reason::Sticky,
    Reason::RolledOut,
    Reason::Static,
    Reason::Default,
];

impl Metrics {
    /// A request was answered.
    pub fn request(&self, route: Route, status: StatusCode, duration: Duration) {
        let metrics = &self.shard().requests[route as usize];
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        add(&metrics.classes[class], 1);
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            add(&metrics.buckets[bucket], 1);
        }
        add(
            &metrics.micros,
            u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        );
    }

    /// Flags were evaluated, and this decided.
    pub fn evaluations(&self, reason: Reason, count: u64) {
        if let Some(total) = self.shard().reasons.get(reason as usize) {
            add(total, count);
        }
    }

    /// Events were acknowledged.
    pub fn events(&self, accepted: &Accepted) {
        add(&self.events, accepted.events as u64);
        add(&self.quarantined, accepted.quarantined as u64);
    }

    /// Assignments were answered and the log did not take them.
    pub fn assignments_not_logged(&self, count: usize) {
        add(&self.not_logged, count as u64);
    }

    /// There were too many connections.
    pub fn connection_refused(&self) {
        add(&self.connections_refused, 1);
    }

    /// The definitions were read again.
    pub fn reload(&self, is_good: bool) {
        add(
            if is_good {
                &self.reloads
            } else {
                &self.reloads_failed
            },
            1,
        );
    }

    /// Everything in Prometheus' text format 0.0.4.
    pub fn render(&self, state: &State) -> String {
        let mut page = Page(String::with_capacity(8 << 10));
        self.render_requests(&mut page);
        page.head(
            "equipoise_evaluations_total",
            "counter",
            "Flags evaluated, by what decided.",
        );
        for (index, reason) in REASONS.iter().enumerate() {
            page.line(
                "equipoise_evaluations_total",
                &format!("{{reason=\"{}\"}}", reason.code()),
                self.sum(|shard| &shard.reasons[index]),
            );
        }
        let own = [
            (
                "equipoise_events_total",
                "Events acknowledged.",
                get(&self.events),
            ),
            (
                "equipoise_events_quarantined_total",
                "Events acknowledged into quarantine.",
                get(&self.quarantined),
            ),
            (
                "equipoise_assignments_not_logged_total",
                "Assignments the event log did not take.",
                get(&self.not_logged),
            ),
            (
                "equipoise_connections_refused_total",
                "Connections over the limit.",
                get(&self.connections_refused),
            ),
            (
                "equipoise_reloads_total",
                "Definitions taken.",
                get(&self.reloads),
            ),
            (
                "equipoise_reloads_failed_total",
                "Definitions refused.",
                get(&self.reloads_failed),
            ),
        ];
        own.into_iter()
            .for_each(|(name, help, value)| page.single(name, "counter", help, value));
        render_log(state, &mut page);
        page.0
    }

    fn shard(&self) -> &Shard {
        &self.shards[SHARD.with(|shard| *shard)]
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| get(counter(shard))).sum()
    }

    fn render_requests(&self, page: &mut Page) {
        page.head(
            "equipoise_http_requests_total",
            "counter",
            "Requests answered, by route and class of status.",
        );
        for route in Route::ALL {
            for (index, class) in CLASSES.iter().enumerate() {
                let labels = format!("{{route=\"{}\",status=\"{class}\"}}", route.name());
                let count = self.sum(|shard| &shard.requests[route as usize].classes[index]);
                page.line("equipoise_http_requests_total", &labels, count);
            }
        }
        page.head(
            "equipoise_http_request_seconds",
            "histogram",
            "Time to an answer, by route.",
        );
        for route in Route::ALL {
            self.render_seconds(route, page);
        }
    }

    fn render_seconds(&self, route: Route, page: &mut Page) {
        let (name, of) = (route.name(), route as usize);
        let mut below = 0;
        for (index, bound) in BOUNDS.iter().enumerate() {
            below += self.sum(|shard| &shard.requests[of].buckets[index]);
            page.line(
                "equipoise_http_request_seconds_bucket",
                &format!("{{route=\"{name}\",le=\"{bound}\"}}"),
                below,
            );
        }
        let of_class = |class| self.sum(|shard: &Shard| &shard.requests[of].classes[class]);
        let all: u64 = (0..CLASSES.len()).map(of_class).sum();
        let labels = format!("{{route=\"{name}\"}}");
        page.line(
            "equipoise_http_request_seconds_bucket",
            &format!("{{route=\"{name}\",le=\"+Inf\"}}"),
            all,
        );
        page.line(
            "equipoise_http_request_seconds_sum",
            &labels,
            self.sum(|shard| &shard.requests[of].micros) as f64 / 1e6,
        );
        page.line("equipoise_http_request_seconds_count", &labels, all);
    }
}

fn render_log(state: &State, page: &mut Page) {
    let counters = state.log.counters();
    let totals = [
        (
            "equipoise_log_records_total",
            "Records made durable.",
            get(&counters.stored),
        ),
        (
            "equipoise_log_duplicates_total",
            "Records whose id was known.",
            get(&counters.duplicates),
        ),
        (
            "equipoise_log_commits_total",
            "Calls of fdatasync.",
            get(&counters.commits),
        ),
        (
            "equipoise_log_bytes_total",
            "Bytes made durable.",
            get(&counters.bytes),
        ),
        (
            "equipoise_log_refused_total",
            "Batches refused because too much waited.",
            get(&counters.refused),
        ),
    ];
    totals
        .into_iter()
        .for_each(|(name, help, value)| page.single(name, "counter", help, value));
    page.single(
        "equipoise_http_requests_in_flight",
        "gauge",
        "Requests that wait for their body or their work.",
        state.in_flight.load(Ordering::Relaxed) as u64,
    );
    let is_ready = u64::from(state.log.health() == Health::Ready);
    page.single(
        "equipoise_log_ready",
        "gauge",
        "1 while records can be made durable.",
        is_ready,
    );
    let sealed = state.log.sealed().len() as u64;
    page.single(
        "equipoise_log_segments_waiting",
        "gauge",
        "Closed segments that wait for rotation.",
        sealed,
    );
    let is_current = u64::from(lock(&state.problems).definitions.is_empty());
    page.single(
        "equipoise_definitions_current",
        "gauge",
        "0 while the files have an error and an older set is served.",
        is_current,
    );
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        self.push(format_args!("{name}{labels} {value}\n"));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(text)
            .expect("writing into a string does not fail");
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
