//! Takes new definitions while the server runs.
//! In: a change of the source's mark, or an instant at which an allocation takes effect. Out: a whole new set in the place of the
//! old one and a message to every event stream; or, when the edit is broken, the old set and its diagnostics in `/readyz`.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chrono::Utc;
use serde_json::json;

use super::definitions::Loaded;
use super::logs::{Severity, log};
use super::served::Served;
use super::{Change, State, lock};

/// Looks at the definitions for ever.
pub async fn watch(state: Arc<State>) {
    let mut mark = state.first_mark;
    let mut epoch = state.served().epoch(Utc::now());
    loop {
        tokio::time::sleep(until_next_look(&state)).await;
        if state.definitions.mark() != mark {
            mark = settled_mark(&state).await;
            reload(&state).await;
        }
        let now_epoch = state.served().epoch(Utc::now());
        if std::mem::replace(&mut epoch, now_epoch) != now_epoch {
            // Documents for other systems hold the allocations of an instant.
            reload(&state).await;
            announce(&state, &state.served().version);
        }
    }
}

/// Editors and `git checkout` write a file after emptying it, and files one after the other: a half-written state is not read.
async fn settled_mark(state: &State) -> u64 {
    let mut mark = state.definitions.mark();
    loop {
        tokio::time::sleep(SETTLE).await;
        let later = state.definitions.mark();
        if std::mem::replace(&mut mark, later) == later {
            return mark;
        }
    }
}

/// How long nothing may change before definitions are read.
const SETTLE: Duration = Duration::from_millis(50);

/// The next regular look, or the next instant at which answers change if that is sooner.
fn until_next_look(state: &State) -> Duration {
    let now = Utc::now();
    let boundary = state
        .served()
        .next_boundary(now)
        .and_then(|boundary| (boundary - now).to_std().ok());
    boundary.map_or(state.config.reload_every, |boundary| {
        boundary.min(state.config.reload_every)
    })
}

async fn reload(state: &Arc<State>) {
    let loading = state.clone();
    // Compiling takes as long as the definitions are large; requests go on meanwhile.
    let loaded = tokio::task::spawn_blocking(move || loading.definitions.load()).await;
    match loaded {
        Ok(Ok(loaded)) => take(state, loaded),
        Ok(Err(diagnostics)) => refuse(state, diagnostics),
        Err(panic) => refuse(
            state,
            vec![format!("reading the definitions failed: {panic}")],
        ),
    }
}

fn take(state: &State, loaded: Loaded) {
    let Loaded {
        flags,
        plan,
        version,
        exports,
    } = loaded;
    let served = Arc::new(Served::new(flags, version, exports, &state.config));
    let is_new = state.served().version != served.version;
    *state.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    state.served.replace(served.clone());
    lock(&state.problems).definitions.clear();
    state.metrics.reload(true);
    log(
        Severity::Info,
        "definitions taken",
        [
            ("feature_flag.version", json!(served.version)),
            ("flags", json!(served.set.flags.len())),
        ],
    );
    if is_new {
        announce(state, &served.version);
    }
}

fn refuse(state: &State, diagnostics: Vec<String>) {
    let version = state.served().version.clone();
    log(
        Severity::Error,
        "the definitions have errors; the older set is served on",
        [
            ("diagnostics", json!(diagnostics)),
            ("feature_flag.version", json!(version)),
        ],
    );
    lock(&state.problems).definitions = diagnostics;
    state.metrics.reload(false);
}

fn announce(state: &State, version: &str) {
    state.changes.send_replace(Change {
        version: version.to_string(),
        at: Utc::now().timestamp(),
    });
}
