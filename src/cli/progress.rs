//! What a person sees while a plan runs: a line per finished step, and on a terminal what is running now.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::options::{Common, LogFormat};
use super::output::is_styled;
use crate::diagnostics::to_json;
use crate::run::{Action, Event, Observer, Outcome, Step, StepResult};

pub struct Progress {
    format: LogFormat,
    is_quiet: bool,
    is_styled: bool,
    bar: Option<ProgressBar>,
    running: Mutex<Vec<String>>,
}

impl Progress {
    pub fn new(common: &Common, steps: usize) -> Self {
        let is_styled = is_styled();
        let shows_bar = is_styled && !common.quiet && common.log_format == LogFormat::Text;
        Self {
            format: common.log_format,
            is_quiet: common.quiet,
            is_styled,
            bar: shows_bar.then(|| bar(steps)),
            running: Mutex::default(),
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => tell!("{text}"),
        }
    }

    fn show_running(&self, change: impl FnOnce(&mut Vec<String>)) {
        let mut running = self
            .running
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut running);
        if let Some(bar) = &self.bar {
            bar.set_message(running.join(", "));
        }
    }

    fn finished(&self, step: &Step, result: &StepResult) {
        self.show_running(|running| running.retain(|name| *name != step.name));
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
        match self.format {
            LogFormat::Json => tell!("{}", json(step, result)),
            // What was there already is summed up at the end.
            LogFormat::Text if self.is_quiet || result.outcome == Outcome::Reused => {}
            LogFormat::Text => self.line(&self.text(step, result)),
        }
    }

    fn text(&self, step: &Step, result: &StepResult) -> String {
        let (word, color) = match (result.outcome, step.kind) {
            (Outcome::Done, "test") => ("passed", "32"),
            (Outcome::Done, _) => ("built", "32"),
            (Outcome::Reused, _) => ("reused", "2"),
            (Outcome::Warned, _) => ("warned", "33"),
            (Outcome::Failed, _) => ("failed", "31"),
            (Outcome::Skipped, _) => ("skipped", "2"),
        };
        let word = if self.is_styled {
            format!("\u{1b}[{color}m{word:<8}\u{1b}[0m")
        } else {
            format!("{word:<8}")
        };
        let rows = match (result.rows, step.kind) {
            (Some(rows), "test") if rows > 0 => format!("{rows} wrong"),
            (Some(rows), kind) if kind != "test" => format!("{rows} rows"),
            _ => String::new(),
        };
        let time = if result.outcome == Outcome::Skipped {
            String::new()
        } else {
            seconds(result.elapsed)
        };
        format!(
            "{word} {:<9} {:<58} {rows:>14} {time:>8}",
            step.kind, step.name
        )
        .trim_end()
        .to_string()
    }
}

impl Observer for Progress {
    fn notice(&self, event: &Event<'_>) {
        match event {
            Event::Started(step) => self.show_running(|running| running.push(step.name.clone())),
            Event::Finished(step, result) => self.finished(step, result),
            Event::Said(message) if self.format == LogFormat::Json => {
                tell!(
                    "{}",
                    serde_json::json!({"event": "log", "message": message})
                );
            }
            Event::Said(_) if self.is_quiet => {}
            Event::Said(message) => self.line(message),
        }
    }
}

fn bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {wide_msg}")
        .expect("the template is constant");
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn json(step: &Step, result: &StepResult) -> serde_json::Value {
    serde_json::json!({
        "event": "step",
        "name": step.name,
        "kind": step.kind,
        "action": match step.action { Action::Build => "build", Action::Reuse => "reuse" },
        "why": step.why,
        "outcome": word(result.outcome),
        "rows": result.rows,
        "seconds": result.elapsed.as_secs_f64(),
        "diagnostic": result.diagnostic.as_ref().map(to_json),
    })
}

pub fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Reused => "reused",
        Outcome::Warned => "warned",
        Outcome::Failed => "failed",
        Outcome::Skipped => "skipped",
    }
}

/// `0.14 s`, `12.3 s`.
pub fn seconds(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{seconds:.1} s")
    }
}
