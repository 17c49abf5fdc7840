//! `serve`: answers flags and takes events until it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Common, Exit};
use crate::events::log::disk::RealDisk;
use crate::events::log::{EventLog, LogConfig};
use crate::events::record::SCHEMA_HASH;
use crate::events::rotate::{RotateError, Rotator};
use crate::project::Options;
use crate::serve::folder::ProjectFolder;
use crate::serve::keys::ApiKeys;
use crate::serve::logs::{Severity, log};
use crate::serve::{ServeConfig, State, serve};

#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Address to listen on
    #[arg(long, env = "EQUIPOISE_LISTEN", default_value = "127.0.0.1:8016")]
    pub listen: SocketAddr,
    /// Folder of the event log and the event tables [default: var/events in the project]
    #[arg(long, env = "EQUIPOISE_EVENTS", value_name = "DIR")]
    pub events: Option<PathBuf>,
    /// File of API keys, one `environment:scope,scope:secret` a line; the variable EQUIPOISE_API_KEYS holds the same
    #[arg(long, value_name = "FILE")]
    pub keys_file: Option<PathBuf>,
    /// Environment of events and assignments when there are no API keys
    #[arg(long, env = "EQUIPOISE_ENVIRONMENT", default_value = "default")]
    pub environment: String,
    /// Seconds after which an open log segment is moved into the tables
    #[arg(long, default_value_t = 60)]
    pub rotate_seconds: u64,
    /// Requests a second for each API key; 0 is no limit
    #[arg(long, default_value_t = 0)]
    pub requests_per_second: u32,
    /// Units of one address in a minute beyond which its events are marked as a bot's; 0 is no limit. Not for servers that send the
    /// events of many users
    #[arg(long, default_value_t = 0, value_name = "UNITS")]
    pub bot_units_per_minute: usize,
    /// Header in which the proxy before this server names the client's address, such as X-Forwarded-For
    #[arg(long, default_value = "", value_name = "NAME")]
    pub address_header: String,
    /// Give only the reasons of OFREP 0.3.0: UNKNOWN in the place of DEFAULT
    #[arg(long)]
    pub strict_reasons: bool,
    /// Origin whose pages may ask, empty for none
    #[arg(long, default_value = "*")]
    pub allowed_origin: String,
}

pub async fn run(common: &Common, options: &Serve) -> anyhow::Result<Exit> {
    let root = std::path::absolute(&common.project_dir)?;
    let keys = match read_keys(options)? {
        Ok(keys) => keys,
        Err(problems) => return Ok(wrong(&problems)),
    };
    let variables = common.variables();
    let load = Options {
        target: common.target.clone(),
        vars: variables.value,
    };
    let events = options
        .events
        .clone()
        .unwrap_or_else(|| root.join("var/events"));
    let event_log = open_log(&events, options).context("the event log cannot be opened")?;
    let folder = Box::new(ProjectFolder::new(root, load));
    let state = match State::new(config(options), folder, event_log.clone(), keys) {
        Ok(state) => Arc::new(state),
        Err(diagnostics) => return Ok(wrong(&diagnostics)),
    };
    let rotator = start_rotation(&events, event_log, state.clone())?;
    raise_file_limit();
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let address = listener.local_addr()?;
    log(
        Severity::Info,
        "listening",
        [
            ("server.address", json!(address.ip().to_string())),
            ("server.port", json!(address.port())),
        ],
    );
    serve(listener, state, stop_signal()?).await;
    log(Severity::Info, "closing the event log", []);
    tokio::task::spawn_blocking(|| rotator.finish()).await?;
    Ok(Exit::Good)
}

/// Keys of the file and of the variable together; neither is ever printed.
fn read_keys(options: &Serve) -> anyhow::Result<Result<ApiKeys, Vec<String>>> {
    let mut text = std::env::var("EQUIPOISE_API_KEYS").unwrap_or_default();
    if let Some(file) = &options.keys_file {
        text.push('\n');
        text.push_str(
            &std::fs::read_to_string(file)
                .with_context(|| format!("cannot read `{}`", file.display()))?,
        );
    }
    let keys = ApiKeys::read(&text);
    if keys.as_ref().is_ok_and(|keys| keys.count() == 0) {
        log(
            Severity::Warn,
            "there are no API keys: everyone who reaches this address may evaluate flags and send events",
            [],
        );
    }
    Ok(keys)
}

fn open_log(events: &Path, options: &Serve) -> anyhow::Result<Arc<EventLog>> {
    let mut config = LogConfig::new(events.join("log"), SCHEMA_HASH);
    config.segment_age = std::time::Duration::from_secs(options.rotate_seconds);
    Ok(Arc::new(EventLog::open(config, Arc::new(RealDisk))?))
}

fn config(options: &Serve) -> ServeConfig {
    ServeConfig {
        environment: options.environment.clone(),
        requests_per_second: options.requests_per_second,
        strict_reasons: options.strict_reasons,
        bot_units_per_minute: options.bot_units_per_minute,
        address_header: options.address_header.clone(),
        allowed_origin: options.allowed_origin.clone(),
        ..ServeConfig::default()
    }
}

fn start_rotation(
    events: &Path,
    event_log: Arc<EventLog>,
    state: Arc<State>,
) -> anyhow::Result<Rotator> {
    let report = move |moved: Result<u64, RotateError>| match moved {
        Ok(rows) => {
            state.report_rotation(None);
            if rows > 0 {
                log(
                    Severity::Info,
                    "events moved into tables",
                    [("rows", json!(rows))],
                );
            }
        }
        Err(error) => {
            log(
                Severity::Error,
                "events cannot be moved into tables; the log keeps them",
                [("error", json!(error.to_string()))],
            );
            state.report_rotation(Some(error.to_string()));
        }
    };
    let tables = events.join("tables");
    Rotator::start(event_log, &tables, report)
        .with_context(|| format!("cannot use `{}`", tables.display()))
}

/// Ten thousand connections need as many file descriptors; the usual soft limit is 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if setrlimit(Resource::Nofile, raised).is_err() {
        log(
            Severity::Warn,
            "the limit of open files cannot be raised",
            [("limit", json!(limit.current))],
        );
    }
}

/// Resolves at SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn wrong(problems: &[String]) -> Exit {
    problems.iter().for_each(|problem| tell!("{problem}\n"));
    Exit::Wrong
}
