//! Pages for the people who read decisions: what was decided, from what, and how the numbers came about.
//! In: the published tables, through an engine. Out: [`Page`]s of HTML with drawings in SVG: no script, nothing from a network, the same
//! bytes for the same version. Nothing is computed here: what a page shows, a query over the same tables shows too.
//!
//! [`read()`] (tables -> [`Evidence`]) -> [`pages()`] -> [`write()`] (a folder, whole or not at all).

mod evidence;
mod experiment;
mod folder;
mod index;
mod metrics;
mod plot;
mod values;

pub use evidence::{Evidence, ReportError, read};
pub use folder::write;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

/// A page and its path below the folder of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub path: String,
    pub html: String,
}

/// What the pages are about.
#[derive(Debug, Clone, Serialize)]
pub struct Stamp {
    pub project: String,
    pub environment: String,
    pub version: u64,
    pub published_at: String,
}

const TEMPLATES: &[(&str, &str)] = &[
    ("base.html", include_str!("pages/base.html")),
    ("style.css", include_str!("pages/style.css")),
    ("drawings.html", include_str!("pages/drawings.html")),
    ("index.html", include_str!("pages/index.html")),
    ("experiment.html", include_str!("pages/experiment.html")),
    ("metrics.html", include_str!("pages/metrics.html")),
];

/// All pages: the decisions, one per experiment, and the metrics.
pub fn pages(evidence: &Evidence, stamp: &Stamp) -> Result<Vec<Page>, minijinja::Error> {
    let templates = templates()?;
    let page = |path: String, template: &str, content: Value| {
        let root = "../".repeat(path.matches('/').count());
        let stamp = Value::from(Serde(stamp));
        let context = minijinja::context! { stamp, root, content };
        let html = templates.get_template(template)?.render(context)?;
        Ok::<Page, minijinja::Error>(Page { path, html })
    };
    let index = Value::from(Serde(index::view(evidence)));
    let metrics = Value::from(Serde(metrics::view(evidence)));
    let mut pages = vec![
        page("index.html".into(), "index.html", index)?,
        page("metrics.html".into(), "metrics.html", metrics)?,
    ];
    for decision in &evidence.decisions {
        let path = experiment::path(&decision.experiment_key);
        let view = Value::from(Serde(experiment::view(evidence, decision)));
        pages.push(page(path, "experiment.html", view)?);
    }
    Ok(pages)
}

fn templates() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("sentence", |text: &str| {
        Value::from_safe_string(values::sentence(text))
    });
    environment.add_filter("minute", values::minute);
    let mut syntax = SyntaxConfig::builder();
    environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|name| match name.ends_with(".css") {
        true => AutoEscape::None,
        false => AutoEscape::Html,
    });
    for (name, text) in TEMPLATES {
        environment.add_template(name, text)?;
    }
    Ok(environment)
}
