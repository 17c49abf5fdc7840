//! The servers that are measured, as child processes.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use tokio::net::TcpListener;

use crate::events::log::disk::RealDisk;
use crate::events::log::{EventLog, LogConfig};
use crate::events::record::SCHEMA_HASH;
use crate::project::Options;
use crate::serve::folder::ProjectFolder;
use crate::serve::keys::ApiKeys;
use crate::serve::{ServeConfig, State, serve};

/// A running child; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Processor time of the child so far, user and system.
    pub fn cpu_seconds(&self) -> f64 {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the child runs");
        let fields: Vec<&str> = stat
            .rsplit(") ")
            .next()
            .expect("the name is in brackets")
            .split(' ')
            .collect();
        let ticks = |index: usize| fields[index].parse::<f64>().expect("ticks are a number");
        // Fields 14 and 15 of proc(5), in ticks of 1/100 s.
        (ticks(11) + ticks(12)) / 100.0
    }

    pub fn resident_bytes(&self) -> u64 {
        let statm =
            fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("the child runs");
        statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok())
            .expect("pages are a number")
            * 4096
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .expect("the child was running");
    }
}

/// Starts the server with `flags` flags and an empty log.
pub fn start(folder: &Path, flags: usize) -> Server {
    for old in ["log", "flags"] {
        let path = folder.join(old);
        if path.exists() {
            fs::remove_dir_all(path).expect("the folder is ours");
        }
    }
    fs::create_dir_all(folder.join("flags")).expect("the folder is ours");
    fs::write(folder.join("project.yml"), "name: bench\n").expect("the folder is ours");
    fs::write(folder.join("flags/all.yml"), definitions(flags)).expect("the folder is ours");
    spawn(&[
        "server",
        folder.to_str().expect("temporary folders have plain names"),
    ])
}

/// Starts axum with one empty handler.
pub fn start_empty() -> Server {
    spawn(&["empty-server"])
}

/// Body of the child: an empty handler.
pub fn run_empty() {
    runtime().block_on(async {
        let router = Router::new().route("/ofrep/v1/evaluate/flags/{key}", post(async || {}));
        axum::serve(listen().await, router)
            .await
            .expect("the listener works");
    });
}

/// Body of the child: the product's server with all it does, logging included.
pub fn run(folder: &Path) {
    let config = LogConfig::new(folder.join("log"), SCHEMA_HASH);
    let log = Arc::new(EventLog::open(config, Arc::new(RealDisk)).expect("the folder is empty"));
    let definitions = Box::new(ProjectFolder::new(folder, Options::default()));
    let state = State::new(ServeConfig::default(), definitions, log, ApiKeys::default());
    let state = Arc::new(state.unwrap_or_else(|diagnostics| panic!("{}", diagnostics.join("\n"))));
    runtime().block_on(async { serve(listen().await, state, std::future::pending()).await });
}

/// Flags as they are in practice: a split of an experiment with targeting, a targeted rollout, constants.
fn definitions(flags: usize) -> String {
    let mut text = String::from(
        "version: 1\ncontexts:\n  user:\n    unit: user_id\n    attributes: {country: string, plan: string}\nflags:\n",
    );
    for index in 0..flags {
        let rule = match index % 4 {
            0 => format!(
                "    rules:\n      - {{id: r, when: \"country in ('DE','FR') and plan <> 'enterprise'\", rollout: {{salt: f{index}, weights: {{a: 50, b: 50}}, percent: 100}}}}\n"
            ),
            1 => "    rules:\n      - {id: r, when: \"country = 'FR'\", serve: b}\n".to_string(),
            _ => String::new(),
        };
        write!(text, "  - key: flag-{index}\n    type: string\n    variants: {{a: \"value a\", b: \"value b\"}}\n    default_variant: a\n{rule}")
            .expect("writing into a string does not fail");
    }
    text
}

fn spawn(arguments: &[&str]) -> Server {
    let program = std::env::current_exe().expect("this program has a path");
    // Logging is on, into a file.
    let log = tempfile::tempfile().expect("a temporary file can be made");
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("this program can be started");
    let mut line = String::new();
    let output = child.stdout.take().expect("the output is a pipe");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("the child prints its address");
    Server {
        child,
        address: line.trim().parse().expect("the child prints its address"),
    }
}

async fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    println!(
        "{}",
        listener.local_addr().expect("a listener has an address")
    );
    std::io::stdout().flush().expect("the parent reads");
    listener
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be started")
}
