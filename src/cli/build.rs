//! `build`, `run`, `test`, `seed`: plan, execute, publish, say what came of it.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::failure::CannotWrite;
use super::metric::Reviewed;
use super::options::{Common, LogFormat};
use super::progress::{Progress, seconds};
use super::{Exit, OutputFormat, compile, context, output, query};
use crate::artifacts;
use crate::engine::Engine;
use crate::metrics::Sla;
use crate::run::{
    Action, Command, Outcome, PassedTests, Prepared, Published, Receipt, RunPlan, RunResults,
    Scope, Summary, Witness, execute, late, plan, publish,
};
use crate::warehouse::{LockError, Warehouse};

pub async fn run(common: &Common, scope: Scope) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let command = command(common, scope)?;
    if let Some(command) = command.as_ref().filter(|_| !common.full_refresh)
        && let Some(receipt) = Receipt::find(command).await
        && artifacts::are_of_invocation(&command.root, &receipt.invocation)
    {
        return say_nothing_to_do(common, &receipt, started.elapsed());
    }
    // Taken before anything is read: what is edited while this build runs is for the next one.
    let before = command.as_ref().and_then(Witness::of);
    let Some(prepared) = context::open(common).await? else {
        return Ok(Exit::Wrong);
    };
    let Some(selection) = context::selection(common, &prepared) else {
        return Ok(Exit::Wrong);
    };
    let publishes_models = matches!(scope, Scope::Build | Scope::Run);
    let reviewed = match publishes_models {
        true => super::metric::reviewed(common, &prepared).await?,
        false => Reviewed::Silent,
    };
    if reviewed == Reviewed::Refused {
        return Ok(Exit::Failed);
    }
    let warehouse = context::warehouse(&prepared)?;
    if common.dry_run {
        let passed = PassedTests::load(context::passed_tests_path(&prepared));
        let plan = plan(
            &prepared,
            &selection,
            scope,
            common.full_refresh,
            &warehouse,
            &passed,
        )
        .await?;
        print_plan(common, &plan)?;
        return Ok(Exit::Good);
    }
    let lock = match warehouse.lock(&prepared.environment) {
        Ok(lock) => lock,
        Err(error @ LockError::Held { .. }) => {
            tell!("error[E0902]: {error}");
            tell!(
                "   = hint: wait until it ends, or build into another environment with `--target`"
            );
            return Ok(Exit::Failed);
        }
        Err(error) => return Err(error.into()),
    };
    compile::write(&prepared).context(CannotWrite::the("target/compiled"))?;
    artifacts::write_manifest(&prepared).context(CannotWrite::the("target/manifest.json"))?;
    let mut passed = PassedTests::load(context::passed_tests_path(&prepared));
    let plan = plan(
        &prepared,
        &selection,
        scope,
        common.full_refresh,
        &warehouse,
        &passed,
    )
    .await?;
    let arguments = context::arguments(common, &prepared, word(scope));
    let engine = Engine::new(prepared.engine)?;
    let progress = Progress::new(common, plan.steps.len());
    let results = execute(&prepared, &plan, &engine, &warehouse, &progress).await;
    progress.finish();
    context::report(common, &results.diagnostics(), &prepared);
    let published = publish(&prepared, &plan, &results, &warehouse, &lock).await;
    // Whatever came of it: who looks for what failed looks there.
    let recorded = artifacts::write_run_results(&prepared, &plan, &results, &arguments);
    let published = published?;
    // First, so that nobody takes what cannot be written now for a version that was not published.
    say_what_happened(common, &prepared, &plan, &results, &published);
    let unwritten = |file: &str| unwritten(&prepared, &published, file);
    recorded.with_context(|| unwritten("target/run_results.json"))?;
    if scope == Scope::Build {
        remember_passed(&mut passed, &plan, &results)
            .with_context(|| unwritten("the list of tests that passed"))?;
    }
    if !results.has_failed() && scope == Scope::Build {
        let is_late = say_what_is_late(common, &prepared, &warehouse).await?;
        let decisions = decisions(common, &prepared, &warehouse).await?;
        output::print(&decisions)?;
        let is_silent =
            reviewed == Reviewed::Silent && results.count(Outcome::Warned) == 0 && !is_late;
        if let Some(command) = command.filter(|_| is_silent) {
            let summary = Summary {
                relations: plan.steps.iter().filter(|step| step.kind != "test").count(),
                tests: plan.steps.iter().filter(|step| step.kind == "test").count(),
                decisions,
            };
            let version = published.version();
            Receipt::keep(&command, before, &prepared, &plan, version, summary);
        }
    }
    Ok(if results.has_failed() {
        Exit::Failed
    } else {
        Exit::Good
    })
}

fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Build => "build",
        Scope::Run => "run",
        Scope::Seed => "seed",
        Scope::Test => "test",
    }
}

/// What a receipt is kept for: builds of everything that are told to people.
fn command(common: &Common, scope: Scope) -> anyhow::Result<Option<Command>> {
    let is_kept = scope == Scope::Build
        && common.select.is_empty()
        && common.exclude.is_empty()
        && !common.dry_run
        && common.output == OutputFormat::Table
        && common.log_format == LogFormat::Text;
    if !is_kept {
        return Ok(None);
    }
    Ok(Some(Command {
        root: context::root(common)?,
        options: format!(
            "{:?} {:?} {:?} quiet {}",
            common.target, common.vars, common.engine, common.quiet
        ),
        environment_variables: context::environment_variables(),
    }))
}

fn say_nothing_to_do(
    common: &Common,
    receipt: &Receipt,
    elapsed: Duration,
) -> anyhow::Result<Exit> {
    if !common.quiet {
        let Summary {
            relations, tests, ..
        } = receipt.summary;
        let tests = match tests {
            0 => String::new(),
            tests => format!(", {tests} tests passed"),
        };
        tell!(
            "0 built, {relations} unchanged{tests} in {}; nothing to do: `{}` stays at version {}",
            seconds(elapsed),
            receipt.environment,
            receipt.version
        );
    }
    output::print(&receipt.summary.decisions)?;
    Ok(Exit::Good)
}

fn print_plan(common: &Common, plan: &RunPlan) -> anyhow::Result<()> {
    let action = |action: Action| {
        if action == Action::Build {
            "build"
        } else {
            "reuse"
        }
    };
    match common.output {
        OutputFormat::Table | OutputFormat::Markdown => {
            let mut table = output::plain_table(&["action", "kind", "name", "why"]);
            for step in &plan.steps {
                table.add_row([action(step.action), step.kind, &step.name, &step.why]);
            }
            output::print(&format!("{table}\n"))
        }
        OutputFormat::Json => {
            let line = |step: &crate::run::Step| {
                serde_json::json!({"action": action(step.action), "kind": step.kind, "name": step.name, "why": step.why, "fingerprint": step.fingerprint}).to_string() + "\n"
            };
            output::print(&plan.steps.iter().map(line).collect::<String>())
        }
        OutputFormat::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["action", "kind", "name", "why"])?;
            for step in &plan.steps {
                writer.write_record([action(step.action), step.kind, &step.name, &step.why])?;
            }
            output::print(&String::from_utf8(writer.into_inner()?)?)
        }
    }
}

/// A file that could not be written, and that a version was published all the same.
fn unwritten(prepared: &Prepared, published: &Published, file: &str) -> CannotWrite {
    match published {
        Published::Version(version) => CannotWrite(format!(
            "{file}, after `{}` was published as version {version}",
            prepared.environment
        )),
        Published::Unchanged(_) | Published::Withheld(_) => CannotWrite::the(file),
    }
}

/// A test that passed on this very data need not run again.
fn remember_passed(
    passed: &mut PassedTests,
    plan: &RunPlan,
    results: &RunResults,
) -> std::io::Result<()> {
    let good = |step: &&crate::run::Step| {
        let outcome = results.steps.get(&step.id).map(|result| result.outcome);
        step.kind == "test" && matches!(outcome, Some(Outcome::Done | Outcome::Reused))
    };
    passed.replace(
        plan.steps
            .iter()
            .filter(good)
            .map(|step| step.fingerprint.clone())
            .collect(),
    )
}

fn say_what_happened(
    common: &Common,
    prepared: &Prepared,
    plan: &RunPlan,
    results: &RunResults,
    published: &Published,
) {
    let environment = &prepared.environment;
    if common.log_format == LogFormat::Json {
        let (state, version) = match published {
            Published::Version(version) => ("published", version),
            Published::Unchanged(version) => ("unchanged", version),
            Published::Withheld(version) => ("withheld", version),
        };
        let summary = serde_json::json!({
            "event": "finished", "environment": environment, "state": state, "version": version,
            "built": results.count(Outcome::Done), "reused": results.count(Outcome::Reused), "warned": results.count(Outcome::Warned),
            "failed": results.count(Outcome::Failed), "skipped": results.count(Outcome::Skipped), "seconds": results.elapsed.as_secs_f64(),
        });
        tell!("{summary}");
        return;
    }
    if common.quiet {
        return;
    }
    let relations = plan.steps.iter().filter(|step| step.kind != "test");
    let built = relations
        .clone()
        .filter(|step| {
            results
                .steps
                .get(&step.id)
                .is_some_and(|result| result.outcome == Outcome::Done)
        })
        .count();
    let reused = relations
        .filter(|step| {
            results
                .steps
                .get(&step.id)
                .is_some_and(|result| result.outcome == Outcome::Reused)
        })
        .count();
    let tests = |outcome| {
        plan.steps
            .iter()
            .filter(|step| {
                step.kind == "test"
                    && results
                        .steps
                        .get(&step.id)
                        .is_some_and(|result| result.outcome == outcome)
            })
            .count()
    };
    let mut parts = vec![format!("{built} built"), format!("{reused} unchanged")];
    let passed = tests(Outcome::Done) + tests(Outcome::Reused);
    if passed > 0 {
        parts.push(format!("{passed} tests passed"));
    }
    for (outcome, word) in [
        (Outcome::Warned, "warned"),
        (Outcome::Failed, "failed"),
        (Outcome::Skipped, "skipped"),
    ] {
        if results.count(outcome) > 0 {
            parts.push(format!("{} {word}", results.count(outcome)));
        }
    }
    let outcome = match published {
        Published::Version(version) => format!("published `{environment}` as version {version}"),
        Published::Unchanged(version) if built == 0 => {
            format!("nothing to do: `{environment}` stays at version {version}")
        }
        Published::Unchanged(version) => format!("`{environment}` stays at version {version}"),
        Published::Withheld(0) => format!("nothing was published to `{environment}`"),
        Published::Withheld(version) => {
            format!("nothing was published: `{environment}` stays at version {version}")
        }
    };
    tell!(
        "{} in {}; {outcome}",
        parts.join(", "),
        seconds(results.elapsed)
    );
}

/// Metrics whose published data are older or thinner than their SLAs promise; whether there are any.
async fn say_what_is_late(
    common: &Common,
    prepared: &Prepared,
    warehouse: &Warehouse,
) -> anyhow::Result<bool> {
    let metrics = prepared.compiled.metrics.iter();
    let mut promised = metrics.filter(|metric| metric.sla != Sla::default());
    if promised.next().is_none() {
        return Ok(false);
    }
    let engine = query::published(prepared, warehouse).await?;
    let environment = warehouse.environment(&prepared.environment)?;
    let is_published = |fact: &str| environment.relations.contains_key(fact);
    let late = late(prepared, &engine, &is_published).await?;
    context::report(common, &late, prepared);
    Ok(!late.is_empty())
}

/// The end of the main job: one row per experiment, or nothing in a project without decisions.
async fn decisions(
    common: &Common,
    prepared: &Prepared,
    warehouse: &Warehouse,
) -> anyhow::Result<String> {
    let environment = warehouse.environment(&prepared.environment)?;
    if !environment.relations.contains_key("experiment_decisions")
        || (common.quiet && common.output == OutputFormat::Table)
    {
        return Ok(String::new());
    }
    let engine = query::published(prepared, warehouse).await?;
    if common.output != OutputFormat::Table {
        let all = "select * from experiment_decisions order by experiment_key";
        return output::rows_text(&engine.rows(all, None).await?, common.output);
    }
    let empty = "select * from experiment_decisions limit 0";
    let there = engine.rows(empty, None).await?;
    let is_missing = |column: &&str| !there.columns().contains(column);
    // A model of this name that is not made of the macro.
    if ["decision", "experiment_key", "reasons"]
        .iter()
        .any(is_missing)
    {
        return Ok(String::new());
    }
    let rows = engine.rows("select decision, experiment_key, array_to_string(reasons, '; ') as reasons from experiment_decisions order by experiment_key", None).await?;
    let mut text = String::from("\n");
    let cells = rows.cells()?;
    let width = cells
        .iter()
        .filter_map(|row| row[1].as_ref().map(String::len))
        .max()
        .unwrap_or(0);
    for row in cells {
        let [decision, key, reasons] = [0, 1, 2].map(|at| row[at].clone().unwrap_or_default());
        let mut reasons = reasons.split("; ");
        text += &format!(
            "{:<9} {key:<width$}  {}\n",
            decision.to_uppercase().replace('_', "-"),
            reasons.next().unwrap_or_default()
        );
        for reason in reasons {
            text += &format!("{:<9} {:<width$}  {reason}\n", "", "");
        }
    }
    Ok(text)
}
