//! Accepts connections and bounds what each may cost: their number, the size and time of a request head, idle time.
//! In: a listener and a router. Out: served connections until the shutdown, then those under way to their end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::idle::{Connections, Duty, Handle, Socket};
use super::logs::{Severity, log};
use super::{State, answer, routes};

/// Accepts until `shutdown` resolves, then waits for the connections to end, at most [`super::ServeConfig::drain_timeout`].
pub async fn accept(
    listener: TcpListener,
    router: Router,
    state: Arc<State>,
    shutdown: impl Future<Output = ()>,
) {
    let limit = Arc::new(Semaphore::new(state.config.connections));
    let connections = Arc::new(Connections::default());
    let watching = tokio::spawn(connections.clone().watch(state.config.head_timeout));
    let serving = Serving {
        builder: builder(),
        router,
        state: state.clone(),
    };
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => start(stream, peer.ip(), &serving, &connections, &limit),
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    state.closing.send_replace(true);
    connections.close();
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
    watching.abort();
}

/// Bytes of a request line and its headers together; more, or more than hyper's 100 headers, is answered 431.
const HEAD_BYTES: usize = 16 << 10;

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Who is slow to send a head is ended by `idle`; hyper would set a timer for every request.
    builder.header_read_timeout(None).max_buf_size(HEAD_BYTES);
    builder
}

/// What all connections have in common.
#[derive(Clone)]
struct Serving {
    builder: http1::Builder,
    router: Router,
    state: Arc<State>,
}

fn start(
    stream: TcpStream,
    peer: IpAddr,
    serving: &Serving,
    connections: &Arc<Connections>,
    limit: &Arc<Semaphore>,
) {
    let Ok(permit) = limit.clone().try_acquire_owned() else {
        // Closed without a word: answering costs what there is too little of.
        serving.state.metrics.connection_refused();
        return;
    };
    // Answers are small; waiting to fill a packet would add 40 ms to some. A socket that cannot be told so works too.
    let _ = stream.set_nodelay(true);
    let handle = connections.open();
    tokio::spawn(serve_connection(
        stream,
        peer,
        serving.clone(),
        handle,
        permit,
    ));
}

async fn serve_connection(
    stream: TcpStream,
    peer: IpAddr,
    serving: Serving,
    handle: Handle,
    _permit: OwnedSemaphorePermit,
) {
    let Serving {
        builder,
        router,
        state,
    } = serving;
    let open = &handle.0;
    let service = service_fn(|request| {
        let (state, router) = (&state, &router);
        async move {
            open.begin();
            let answer = routes::answer(state, router, peer, request).await;
            // A stream goes on when its answer has begun, and notices itself when nobody listens.
            if !answer::is_endless(&answer) {
                open.wait();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let socket = Socket::new(stream, open.clone());
    let mut connection = pin!(builder.serve_connection(socket, service));
    let (mut is_known, mut is_finishing) = (false, false);
    poll_fn(|context| {
        if !is_known {
            is_known = true;
            open.register(context.waker());
        }
        match open.duty() {
            Duty::End => return Poll::Ready(()),
            Duty::Finish if !is_finishing => {
                is_finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            Duty::Finish | Duty::Serve => {}
        }
        // An error means that the peer went away or sent no HTTP; both are its own affair.
        connection.as_mut().poll(context).map(|_| ())
    })
    .await;
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
