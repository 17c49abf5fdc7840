//! Accepts connections and bounds what each may cost: their number, the size and time of a request head, idle time.
//! In: a listener and a router. Out: served connections until the shutdown, then those under way to their end.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::logs::{Severity, log};
use super::{State, routes};

/// Accepts until `shutdown` resolves, then waits for the connections to end, at most [`super::ServeConfig::drain_timeout`].
pub async fn accept(
    listener: TcpListener,
    router: Router,
    state: Arc<State>,
    shutdown: impl Future<Output = ()>,
) {
    let limit = Arc::new(Semaphore::new(state.config.connections));
    let builder = builder(&state);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => start(stream, peer.ip(), &builder, &router, &state, &limit),
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    state.closing.send_replace(true);
    let all = u32::try_from(state.config.connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(state.config.drain_timeout, limit.acquire_many(all))
        .await
        .is_err()
    {
        let open = state.config.connections - limit.available_permits();
        log(
            Severity::Warn,
            "connections were still open at the end",
            [("connections", json!(open))],
        );
    }
}

/// Bytes of a request line and its headers together; more, or more than hyper's 100 headers, is answered 431.
const HEAD_BYTES: usize = 16 << 10;

fn builder(state: &State) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(state.config.head_timeout)
        .max_buf_size(HEAD_BYTES);
    builder
}

fn start(
    stream: TcpStream,
    peer: IpAddr,
    builder: &http1::Builder,
    router: &Router,
    state: &Arc<State>,
    limit: &Arc<Semaphore>,
) {
    let Ok(permit) = limit.clone().try_acquire_owned() else {
        // Closed without a word: answering costs what there is too little of.
        state.metrics.connection_refused();
        return;
    };
    // Answers are small; waiting to fill a packet would add 40 ms to some. A socket that cannot be told so works too.
    let _ = stream.set_nodelay(true);
    tokio::spawn(serve_connection(
        stream,
        peer,
        builder.clone(),
        router.clone(),
        state.clone(),
        permit,
    ));
}

async fn serve_connection(
    stream: TcpStream,
    peer: IpAddr,
    builder: http1::Builder,
    router: Router,
    state: Arc<State>,
    _permit: OwnedSemaphorePermit,
) {
    let mut closing = state.closing.subscribe();
    let service = service_fn(|request| {
        let (state, router) = (&state, &router);
        async move { Ok::<_, Infallible>(routes::answer(state, router, peer, request).await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // An error means that the peer went away or sent no HTTP; both are its own affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = closing.wait_for(|closing| *closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Out of file descriptors, most likely: accepting at once again would only spin.
async fn pause_after(error: &std::io::Error) {
    let is_of_the_peer = matches!(
        error.kind(),
        std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
    );
    if !is_of_the_peer {
        log(
            Severity::Error,
            "cannot accept a connection",
            [("error", json!(error.to_string()))],
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
