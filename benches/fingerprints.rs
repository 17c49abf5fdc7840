//! How long it takes to say what 500 metrics over 1,000 models mean: cold, and after one file was edited.
//! `EQUIPOISE_FUZZ=100000` runs that many mutations of the soundness test instead, in an optimised build.
//! Medians of several runs, with the time that compiling the same project takes beside them.

#[path = "../tests/integration/drift_fuzz.rs"]
#[allow(dead_code)]
mod drift_fuzz;

use std::sync::Arc;
use std::time::{Duration, Instant};

use equipoise::compile::{Compiled, Detail, Input, Inputs, Meanings, Sources, compile, meanings};
use equipoise::engine::{Engine, EngineOptions};
use equipoise::graph::{self, Graph};
use equipoise::manifest::{self, Manifest};
use equipoise::project::{self, Computation, MemoryFiles, Options};
use equipoise::sql::Analyzer;
use equipoise::template::Surroundings;

const CHAINS: usize = 100;
const MODELS_PER_CHAIN: usize = 10;
const METRICS_PER_CHAIN: usize = 5;
const RUNS: usize = 7;

fn main() {
    if let Ok(wanted) = std::env::var("EQUIPOISE_FUZZ") {
        drift_fuzz::run(wanted.parse().expect("a number of mutations"));
        return;
    }
    runtime().block_on(measure());
}

/// A runtime for the fuzzer, which finds it here as in the test binary.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().expect("a runtime"))
}

async fn measure() {
    let start = Instant::now();
    let before = World::new(&files(None)).await;
    let compiling = start.elapsed();
    let mut cold = vec![];
    let mut known = Meanings::default();
    for _ in 0..RUNS {
        let (found, took) = before.meanings(&Meanings::default()).await;
        assert_eq!(found.metrics.len(), CHAINS * METRICS_PER_CHAIN);
        cold.push(took);
        known = found;
    }
    println!(
        "{} models, {} metrics; datafusion 55.2",
        CHAINS * MODELS_PER_CHAIN,
        CHAINS * METRICS_PER_CHAIN
    );
    let cold = median(cold);
    println!("compiled once                     {compiling:>9.1?}");
    println!("fingerprinted, cold               {cold:>9.1?}");
    for (what, edited) in [
        ("a model at the end of a chain", (50, MODELS_PER_CHAIN - 1)),
        ("a model at the start of a chain", (50, 0)),
    ] {
        let after = World::new(&files(Some(edited))).await;
        let mut warm = vec![];
        for _ in 0..RUNS {
            let (found, took) = after.meanings(&known).await;
            let moved = found.drifts_from(&known).len();
            assert_eq!(moved, METRICS_PER_CHAIN, "the metrics of one chain");
            warm.push(took);
        }
        let warm = median(warm);
        println!(
            "fingerprinted, edited {what:<32} {warm:>9.1?}  ({:.1} x less)",
            cold.as_secs_f64() / warm.as_secs_f64()
        );
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A compiled project.
struct World {
    manifest: Arc<Manifest>,
    graph: Graph,
    compiled: Compiled,
    analyzer: Analyzer,
}

impl World {
    async fn new(files: &MemoryFiles) -> World {
        let project = project::load(files, &Options::default());
        let resolved = manifest::resolve(&project.value, Surroundings::default());
        let manifest = Arc::new(resolved.value);
        let graph = graph::build(&manifest).value;
        let engine = Engine::new(EngineOptions::default()).expect("an engine");
        let analyzer = engine.analyzer().expect("an analyzer");
        let mut inputs = Inputs::default();
        let base = analyzer
            .analyze("select cast(1 as bigint) as id, cast(1 as bigint) as user_id, cast('2026-01-05' as timestamp) as happened_at, 'a' as status, cast(1 as bigint) as amount, 'x' as country")
            .await
            .expect("the columns of a seed");
        for node in &manifest.nodes {
            if matches!(node.kind, manifest::NodeKind::Seed) {
                let input = Input {
                    schema: base.schema.clone(),
                    guessed: Vec::new(),
                    content_hash: String::new(),
                };
                inputs.by_node.insert(node.id, input);
            }
        }
        let compiled = compile(
            &manifest,
            &graph,
            &analyzer,
            &inputs,
            Computation::default(),
            "2026-01-05T00:00:00Z",
        )
        .await;
        let errors: Vec<&str> = compiled
            .diagnostics
            .iter()
            .map(|one| one.message.as_str())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        World {
            manifest,
            graph,
            compiled: compiled.value,
            analyzer: engine.analyzer().expect("an analyzer"),
        }
    }

    async fn meanings(&self, before: &Meanings) -> (Meanings, Duration) {
        let sources = Sources {
            manifest: &self.manifest,
            graph: &self.graph,
            compiled: &self.compiled,
            analyzer: &self.analyzer,
            seed_text: &|_| None,
        };
        let start = Instant::now();
        let found = meanings(&sources, Detail::Lock, before).await;
        (found, start.elapsed())
    }
}

/// A hundred chains of ten models over one seed each: filters, joins with the chain's users, a rank, a union, a fact at the
/// end and five metrics on it. `edited` gives one model, as chain and place, another filter.
fn files(edited: Option<(usize, usize)>) -> MemoryFiles {
    let mut files = MemoryFiles::default();
    let mut add = |path: String, text: String| files.texts.insert(path, text);
    add("project.yml".into(), "name: bench\n".into());
    let mut metrics = String::from("metrics:\n");
    let mut models = String::from("models:\n");
    for chain in 0..CHAINS {
        add(
            format!("seeds/raw_{chain}.csv"),
            "id,user_id,happened_at,status,amount,country\n1,1,2026-01-05,a,1,x\n".into(),
        );
        for place in 0..MODELS_PER_CHAIN {
            let sql = model(chain, place, edited == Some((chain, place)));
            add(format!("models/m_{chain}_{place}.sql"), sql);
        }
        let fact = format!("m_{chain}_{}", MODELS_PER_CHAIN - 1);
        models += &format!("  - name: {fact}\n    fact: {{unit: user_id, time: happened_at}}\n");
        for metric in 0..METRICS_PER_CHAIN {
            metrics += &format!(
                "  - {{name: metric_{chain}_{metric}, kind: mean, fact: {fact}, agg: sum, expr: amount * {}, filter: \"status = 's{metric}'\", fill: zero, window: {{start: 0d, length: to_end}}, direction: increase, owner: team, version: 1.0.0}}\n",
                metric + 1
            );
        }
    }
    add("models/models.yml".into(), models);
    add("metrics/metrics.yml".into(), metrics);
    files
}

fn model(chain: usize, place: usize, is_edited: bool) -> String {
    let parent = match place {
        0 => format!("{{{{ ref('raw_{chain}') }}}}"),
        _ => format!("{{{{ ref('m_{chain}_{}') }}}}", place - 1),
    };
    let more = if is_edited { " and amount <> 77" } else { "" };
    let columns = "id, user_id, happened_at, status, amount, country";
    match place {
        1 => format!(
            "select {columns} from (select *, row_number() over (partition by id order by happened_at) as repeat from {parent}) as ranked where repeat = 1{more}"
        ),
        3 => format!(
            "with users as (select distinct user_id from {{{{ ref('raw_{chain}') }}}} where status <> 'bot') select {} from {parent} as o join users as u on u.user_id = o.user_id where true{more}",
            columns
                .split(", ")
                .map(|name| format!("o.{name}"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        5 => format!(
            "select {columns} from {parent} where amount > 10{more} union all select {columns} from {parent} where amount <= 10{more}"
        ),
        7 => format!(
            "select id, user_id, happened_at, case when status = 'x' then 's0' else status end as status, amount, country from {parent} where true{more}"
        ),
        _ => format!("select {columns} from {parent} where country <> 'c{place}'{more}"),
    }
}
