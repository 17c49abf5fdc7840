//! `debug`: which project, target, warehouse and versions are in use, and whether they work.

use super::{Common, Exit, context, output};

pub async fn run(common: &Common) -> anyhow::Result<Exit> {
    let opened = context::open(common).await?;
    let mut lines = vec![
        ("equipoise", env!("CARGO_PKG_VERSION").to_string()),
        ("datafusion", "55.2".to_string()),
    ];
    let Some(prepared) = opened else {
        lines.push(("project", "has errors, see above".to_string()));
        print(&lines)?;
        return Ok(Exit::Wrong);
    };
    let count = |wanted: &str| {
        prepared
            .manifest
            .nodes
            .iter()
            .filter(|node| node.kind.word() == wanted)
            .count()
    };
    lines.push((
        "project",
        format!(
            "{} in {}",
            prepared.project.spec.name,
            prepared.root.display()
        ),
    ));
    lines.push(("target", prepared.project.target.clone()));
    lines.push((
        "nodes",
        format!(
            "{} models, {} seeds, {} source tables, {} tests",
            count("model"),
            count("seed"),
            count("source"),
            count("test")
        ),
    ));
    lines.push((
        "definitions",
        format!(
            "{} metrics, {} experiments",
            prepared.compiled.metrics.by_name.len(),
            prepared.compiled.experiments.by_key.len()
        ),
    ));
    let warehouse = context::warehouse(&prepared)?;
    let environment = warehouse.environment(&prepared.environment)?;
    lines.push(("warehouse", warehouse.root().display().to_string()));
    let state = match environment.version {
        0 => "never published".to_string(),
        version => format!(
            "version {version} of {}, {} relations",
            environment.published_at,
            environment.relations.len()
        ),
    };
    lines.push(("environment", format!("{}: {state}", prepared.environment)));
    lines.push(("threads", prepared.threads.to_string()));
    print(&lines)?;
    Ok(Exit::Good)
}

fn print(lines: &[(&str, String)]) -> anyhow::Result<()> {
    output::print(
        &lines
            .iter()
            .map(|(name, value)| format!("{name:<12} {value}\n"))
            .collect::<String>(),
    )
}
