//! The HTTP server: answers flag evaluations, takes events, tells clients when definitions changed.
//! In: checked definitions ([`Definitions`]), an open event log, API keys, limits. Out: HTTP answers and records in the log.
//! Deciding variants is left to `flags`, durability and tables to `events`, reading the project folder to the caller.
//!
//! One immutable [`Served`] set answers every request; a reload compiles a new one aside and swaps it whole.

mod answer;
mod answers;
mod assignments;
mod body;
mod bulk;
mod cache;
mod connections;
mod current;
pub mod definitions;
mod etag;
mod export;
pub mod folder;
mod health;
mod idle;
mod ingest;
pub mod keys;
pub mod logs;
mod metrics;
mod ofrep;
mod rate;
mod reload;
mod request;
mod routes;
mod served;
mod stream;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use self::assignments::Recent;
use self::current::Current;
use self::definitions::{Definitions, Loaded};
use self::keys::ApiKeys;
use self::metrics::Metrics;
use self::rate::Rate;
use self::served::Served;
use crate::events::bots::Crowds;
use crate::events::log::EventLog;
use crate::events::plan::TrackingPlan;

/// Serves until `shutdown` resolves: then no connection is accepted any more, requests under way are answered, and event
/// streams end. The log stays open; closing it is left to the caller.
pub async fn serve(listener: TcpListener, state: Arc<State>, shutdown: impl Future<Output = ()>) {
    let router = routes::router(state.clone());
    let reloading = tokio::spawn(reload::watch(state.clone()));
    connections::accept(listener, router, state.clone(), shutdown).await;
    reloading.abort();
}

/// Everything requests share.
pub struct State {
    config: ServeConfig,
    definitions: Box<dyn Definitions>,
    /// Mark of the definitions when they were first loaded.
    first_mark: u64,
    served: Current<Served>,
    plan: RwLock<Arc<TrackingPlan>>,
    log: Arc<EventLog>,
    keys: ApiKeys,
    rate: Rate,
    /// Assignments logged lately.
    recent: Recent,
    /// Bulk answers all of whose assignments were logged lately.
    recent_bulk: Recent,
    crowds: Crowds,
    metrics: Metrics,
    problems: Mutex<Problems>,
    changes: watch::Sender<Change>,
    closing: watch::Sender<bool>,
    in_flight: AtomicUsize,
    /// Open event streams.
    streams: AtomicUsize,
}

impl State {
    /// Loads the definitions for the first time.
    ///
    /// # Errors
    /// The diagnostics, if they are wrong: a server never starts without a good set.
    pub fn new(
        config: ServeConfig,
        definitions: Box<dyn Definitions>,
        log: Arc<EventLog>,
        keys: ApiKeys,
    ) -> Result<State, Vec<String>> {
        // Before the load: an edit during it is then seen as one.
        let first_mark = definitions.mark();
        let Loaded {
            flags,
            plan,
            version,
            exports,
        } = definitions.load()?;
        let served = Served::new(flags, version, exports, &config);
        let change = Change {
            version: served.version.clone(),
            at: served.loaded_at,
        };
        Ok(State {
            rate: Rate::new(config.requests_per_second, keys.count()),
            recent: Recent::default(),
            recent_bulk: Recent::default(),
            crowds: Crowds::new(config.bot_units_per_minute),
            metrics: Metrics::default(),
            problems: Mutex::default(),
            changes: watch::Sender::new(change),
            closing: watch::Sender::new(false),
            in_flight: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            served: Current::new(served),
            plan: RwLock::new(Arc::new(plan)),
            config,
            first_mark,
            definitions,
            log,
            keys,
        })
    }

    /// Says in `/readyz` and `/metrics` why the last rotation failed, or that it did not.
    pub fn report_rotation(&self, problem: Option<String>) {
        lock(&self.problems).rotation = problem;
    }

    fn served(&self) -> Arc<Served> {
        self.served.get()
    }

    /// Answers from the set that is served now.
    fn with_served<T>(&self, answer: impl FnOnce(&Served) -> T) -> T {
        current::SERVED.with_borrow_mut(|seen| answer(self.served.look(seen)))
    }

    fn plan(&self) -> Arc<TrackingPlan> {
        self.plan
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Environment of events and assignments when no API keys are configured.
    pub environment: String,
    /// Bytes of the body of an evaluation.
    pub context_bytes: usize,
    /// Attributes of a context.
    pub context_attributes: usize,
    /// Bytes of the body of an events request.
    pub events_bytes: usize,
    /// How long a client may take to send its request head, and how long a connection may be idle.
    pub head_timeout: Duration,
    /// How long a client may take to send its body.
    pub body_timeout: Duration,
    /// How long requests under way may take after the shutdown began.
    pub drain_timeout: Duration,
    /// Open connections; more are closed at once.
    pub connections: usize,
    /// Requests under way; more are answered 429.
    pub in_flight: usize,
    /// Requests a second for each API key; more are answered 429. 0 is no limit.
    pub requests_per_second: u32,
    /// Open event streams; more are answered 429.
    pub streams: usize,
    /// How often the definitions are looked at.
    pub reload_every: Duration,
    /// OFREP 0.3.0 has no reason `DEFAULT`; a strict client gets `UNKNOWN` instead.
    pub strict_reasons: bool,
    /// Units of one address in a minute beyond which its events are marked as a bot's; 0 is no limit.
    pub bot_units_per_minute: usize,
    /// Header in which a proxy names the client's address; empty believes none.
    pub address_header: String,
    /// Value of `Access-Control-Allow-Origin` for browsers; empty sends none.
    pub allowed_origin: String,
}

impl Default for ServeConfig {
    fn default() -> ServeConfig {
        ServeConfig {
            environment: "default".to_string(),
            context_bytes: 64 << 10,
            context_attributes: 256,
            events_bytes: 8 << 20,
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            connections: 20_000,
            in_flight: 4_096,
            requests_per_second: 0,
            streams: 10_000,
            reload_every: Duration::from_secs(1),
            strict_reasons: false,
            bot_units_per_minute: 0,
            address_header: String::new(),
            allowed_origin: "*".to_string(),
        }
    }
}

/// What is wrong without stopping the server; `/readyz` tells it.
#[derive(Debug, Default)]
struct Problems {
    /// Diagnostics of definitions that were not taken.
    definitions: Vec<String>,
    rotation: Option<String>,
}

/// The version of the definitions that is served since `at` (seconds since 1970).
#[derive(Clone, Debug, PartialEq)]
struct Change {
    version: String,
    at: i64,
}

/// Locks a mutex; what it guards is replaced in single steps, so a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
