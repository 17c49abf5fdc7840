//! Ends connections that wait too long for their client: for the head of a request, or for an answer to be read.
//! In: what connections do. Out: a wake-up for those that are late, and for all when the server closes. A timer for each request would
//! cost as much as the request; here one task looks at all connections a few times in the time they have.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::lock;

/// All open connections.
#[derive(Default)]
pub struct Connections {
    open: Mutex<HashMap<u64, Arc<Open>>>,
    next: AtomicU64,
    /// How often they were looked at: the time, as far as it matters here.
    looks: AtomicU64,
    is_closing: AtomicBool,
}

/// One connection.
pub struct Open {
    number: u64,
    all: Arc<Connections>,
    /// The connection's task; it does not change while it runs.
    task: Mutex<Option<Waker>>,
    /// The look at which it last got further by itself; [`BUSY`] while it is the server's turn.
    waits_since: AtomicU64,
    is_late: AtomicBool,
}

/// Keeps a connection among the open ones.
pub struct Handle(pub Arc<Open>);

impl Drop for Handle {
    fn drop(&mut self) {
        lock(&self.0.all.open).remove(&self.0.number);
    }
}

/// What a connection has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    Serve,
    /// Answer what is under way, and end.
    Finish,
    /// End at once.
    End,
}

const BUSY: u64 = u64::MAX;
/// Looks in the time a client has.
const LOOKS: u32 = 8;

impl Connections {
    /// One more, until it is dropped.
    pub fn open(self: &Arc<Self>) -> Handle {
        let open = Arc::new(Open {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            all: self.clone(),
            task: Mutex::default(),
            waits_since: AtomicU64::new(self.looks.load(Ordering::Relaxed)),
            is_late: AtomicBool::new(false),
        });
        lock(&self.open).insert(open.number, open.clone());
        Handle(open)
    }

    /// Tells connections that wait longer than `timeout` to end, for ever.
    pub async fn watch(self: Arc<Self>, timeout: Duration) {
        loop {
            tokio::time::sleep(timeout / LOOKS).await;
            self.look();
        }
    }

    /// Tells all to finish.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        let open = lock(&self.open);
        open.values().for_each(|open| open.wake());
    }

    fn look(&self) {
        let now = self.looks.fetch_add(1, Ordering::Relaxed) + 1;
        for open in lock(&self.open).values() {
            let since = open.waits_since.load(Ordering::Relaxed);
            // One more, because it may have begun right before a look.
            if since != BUSY && now > since + u64::from(LOOKS) {
                open.is_late.store(true, Ordering::Release);
                open.wake();
            }
        }
    }
}

impl Open {
    /// Says which task to wake when the duty changes. Before the duty is asked for: a change after that wakes it.
    pub fn register(&self, task: &Waker) {
        *lock(&self.task) = Some(task.clone());
    }

    /// What to do now.
    pub fn duty(&self) -> Duty {
        match (
            self.is_late.load(Ordering::Acquire),
            self.all.is_closing.load(Ordering::Acquire),
        ) {
            (true, _) => Duty::End,
            (false, true) => Duty::Finish,
            (false, false) => Duty::Serve,
        }
    }

    /// A request came: the client waits, not the server.
    pub fn begin(&self) {
        self.waits_since.store(BUSY, Ordering::Relaxed);
    }

    /// The answer is ready: from now on the server waits for its client.
    pub fn wait(&self) {
        let now = self.all.looks.load(Ordering::Relaxed);
        self.waits_since.store(now, Ordering::Relaxed);
    }

    fn wake(&self) {
        if let Some(task) = &*lock(&self.task) {
            task.wake_by_ref();
        }
    }

    /// The client read some of an answer.
    fn progress(&self) {
        if self.waits_since.load(Ordering::Relaxed) != BUSY {
            self.wait();
        }
    }
}

/// A connection's socket, which notices that its client reads.
pub struct Socket {
    stream: TokioIo<TcpStream>,
    open: Arc<Open>,
}

/// Bytes of a small answer.
const SMALL: usize = 2048;

thread_local! {
    static JOINED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(SMALL));
}

impl Socket {
    pub fn new(stream: TcpStream, open: Arc<Open>) -> Socket {
        Socket {
            stream: TokioIo::new(stream),
            open,
        }
    }

    fn noted<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if matches!(done, Poll::Ready(Ok(_))) {
            self.open.progress();
        }
        done
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(written)
    }

    /// Head and text of a small answer are copied together: one plain write costs the kernel less than a write of two pieces.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let stream = Pin::new(&mut self.stream);
        let written = match slices {
            [one] => stream.poll_write(context, one),
            _ if length > SMALL => stream.poll_write_vectored(context, slices),
            _ => JOINED.with_borrow_mut(|joined| {
                joined.clear();
                slices
                    .iter()
                    .for_each(|slice| joined.extend_from_slice(slice));
                stream.poll_write(context, joined)
            }),
        };
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_too_long_for_a_client_ends_and_nobody_else() {
        let all = Arc::new(Connections::default());
        let handles = [all.open(), all.open(), all.open()];
        let [silent, busy, reading] = handles.each_ref().map(|handle| &*handle.0);
        busy.begin();
        for _ in 0..LOOKS {
            all.look();
            reading.progress();
            assert_eq!(silent.duty(), Duty::Serve);
        }
        all.look();
        assert_eq!(
            [silent, busy, reading].map(Open::duty),
            [Duty::End, Duty::Serve, Duty::Serve]
        );
        busy.wait();
        for _ in 0..=LOOKS {
            all.look();
        }
        assert_eq!(busy.duty(), Duty::End);
    }

    #[test]
    fn a_closing_server_lets_connections_finish() {
        let all = Arc::new(Connections::default());
        let open = all.open();
        assert_eq!(open.0.duty(), Duty::Serve);
        all.close();
        assert_eq!(open.0.duty(), Duty::Finish);
        drop(open);
        assert!(lock(&all.open).is_empty());
    }
}
