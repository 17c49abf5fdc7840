//! Which path is answered by what, and what holds for every request: the limit of requests under way, CORS, counting.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::http::header::{ALLOW, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::routing::get;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::answer::{self, Answer, AnswerBody};
use super::metrics::Route;
use super::{State, export, health, ingest, ofrep, stream};

/// Answers a request. Evaluations and events go straight to their functions, because a router and a middleware would cost as much
/// as an evaluation; everything else goes through `router`. What is no evaluation is boxed: the memory of the largest branch would
/// be moved for every request.
pub async fn answer(
    state: &Arc<State>,
    router: &Router,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Answer {
    let started = Instant::now();
    let route = Route::of(request.uri().path());
    let is_from_browser =
        request.headers().contains_key(ORIGIN) && !state.config.allowed_origin.is_empty();
    let mut answer = if is_from_browser && request.method() == Method::OPTIONS {
        preflight(request.headers())
    } else {
        limited(state, route, router, peer, request).await
    };
    if is_from_browser {
        allow_origin(state, answer.headers_mut());
    }
    state
        .metrics
        .request(route, answer.status(), started.elapsed());
    answer
}

/// The routes that are neither evaluations nor events.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route(stream::PATH, get(stream::open))
        .route("/flags.ufc.json", get(export::ufc))
        .route("/api/features/{key}", get(export::growthbook))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(async || answer::error(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .with_state(state)
}

async fn limited(
    state: &Arc<State>,
    route: Route,
    router: &Router,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Answer {
    // Whoever asks about health must be answered just when there is too much to do.
    if route == Route::Health {
        return Box::pin(routed(router, request)).await;
    }
    if state.in_flight.load(Ordering::Relaxed) >= state.config.in_flight {
        return answer::too_many(1, "too many requests are under way");
    }
    match route {
        Route::Single | Route::Bulk | Route::Events if request.method() != Method::POST => {
            not_allowed()
        }
        // Most are answered at once; those whose body must be waited for are counted there.
        Route::Single | Route::Bulk => ofrep::evaluate(state, request).await,
        Route::Events => {
            let _under_way = InFlight::enter(state);
            Box::pin(ingest::receive(state, peer, request)).await
        }
        _ => {
            let _under_way = InFlight::enter(state);
            Box::pin(routed(router, request)).await
        }
    }
}

async fn routed(router: &Router, request: Request<Incoming>) -> Answer {
    let answered = TowerToHyperService::new(router.clone()).call(request).await;
    answered
        .unwrap_or_else(|never| match never {})
        .map(AnswerBody::Right)
}

fn not_allowed() -> Answer {
    let mut answer = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    answer
}

/// Counts a request for as long as it lives, also when its connection breaks off.
pub struct InFlight<'a>(&'a State);

impl InFlight<'_> {
    /// One more.
    pub fn enter(state: &State) -> InFlight<'_> {
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(state)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Fetch standard, "CORS protocol": browsers ask before they send JSON or a key.
fn preflight(asked: &HeaderMap) -> Answer {
    let mut answer = answer::empty(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    headers.insert(
        "access-control-allow-methods",
        HeaderValue::from_static("GET, POST"),
    );
    let wanted = asked.get("access-control-request-headers").cloned();
    headers.insert(
        "access-control-allow-headers",
        wanted.unwrap_or(HeaderValue::from_static("content-type")),
    );
    headers.insert("access-control-max-age", HeaderValue::from_static("86400"));
    answer
}

fn allow_origin(state: &State, headers: &mut HeaderMap) {
    if let Ok(origin) = HeaderValue::from_str(&state.config.allowed_origin) {
        headers.insert("access-control-allow-origin", origin);
        let exposed = HeaderName::from_static("access-control-expose-headers");
        headers.insert(exposed, HeaderValue::from_static("etag, retry-after"));
    }
}
