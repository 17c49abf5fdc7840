//! Sends requests over kept-open connections, each waiting for its answer before the next.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What to send.
pub struct Load<'a> {
    pub requests: usize,
    pub connections: usize,
    /// Units of work in a request, for the figures.
    pub per_request: usize,
    pub body: Box<dyn Fn(usize) -> Vec<u8> + Sync + 'a>,
    pub path: &'static str,
}

/// What it took.
pub struct Usage {
    pub units: usize,
    pub seconds: f64,
    /// Of the server's process.
    pub cpu_seconds: f64,
}

impl Usage {
    pub fn cpu_micros(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.units as f64
    }

    pub fn per_second(&self) -> f64 {
        self.units as f64 / self.seconds
    }

    pub fn per_core(&self) -> f64 {
        self.units as f64 / self.cpu_seconds
    }
}

/// Sends everything, bodies numbered from `first`; returns the seconds it took.
pub fn run(address: SocketAddr, load: &Load, first: usize) -> f64 {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..load.connections {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(address).expect("the server listens");
                stream
                    .set_nodelay(true)
                    .expect("a fresh socket takes options");
                let mut answer = vec![0; 256 << 10];
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= load.requests {
                        return;
                    }
                    exchange(
                        &mut stream,
                        load.path,
                        &(load.body)(first + index),
                        &mut answer,
                    );
                }
            });
        }
    });
    started.elapsed().as_secs_f64()
}

fn exchange(stream: &mut TcpStream, path: &str, body: &[u8], answer: &mut [u8]) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(&[head.as_bytes(), body].concat())
        .expect("the server reads");
    let mut length = 0;
    loop {
        let read = stream
            .read(&mut answer[length..])
            .expect("the server answers");
        assert!(read > 0, "the server closed the connection");
        length += read;
        if let Some(whole) = whole_length(&answer[..length]) {
            assert!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer[..length])
            );
            if length >= whole {
                return;
            }
        }
    }
}

/// Bytes of the answer once its head is there.
fn whole_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..head]).expect("heads are text");
    let length = text
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length: "));
    Some(head + 4 + length.map_or(0, |length| length.parse::<usize>().expect("a number")))
}
