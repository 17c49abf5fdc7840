//! Column lineage against execution: whatever moves when one input column is perturbed is listed in the lineage.

use equipoise::sql::lineage::{self, Kind, Origin};

use super::drift_fuzz::Bench;

/// Random queries with joins, subqueries, groups, windows and unions; every column of every table is perturbed in turn.
#[test]
fn lineage_misses_no_column_that_moves_an_output() {
    let wanted = std::env::var("EQUIPOISE_LINEAGE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(25);
    let mut bench = Bench::new(3);
    let (mut moved, mut listed, mut missed) = (0, 0, vec![]);
    for _ in 0..wanted {
        let sql = bench.query();
        let Some(plan) = bench.plan(&sql) else {
            continue;
        };
        let lineage = lineage::trace(&plan).expect("a plan that binds can be traced");
        let Some(changes) = bench.perturbed(&sql) else {
            continue;
        };
        for (origin, outputs) in changes {
            for output in outputs {
                moved += 1;
                if lineage.kinds(&output, &origin).is_empty() {
                    missed.push(format!("{origin} moves {output} in {sql}"));
                }
            }
        }
        listed += lineage
            .outputs
            .iter()
            .map(|output| output.origins.len())
            .sum::<usize>();
    }
    println!(
        "lineage: {moved} moves of outputs seen, {} missed, {listed} origins listed",
        missed.len()
    );
    assert!(
        moved > 0,
        "no perturbation moved anything: the test is blind"
    );
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn lineage_tells_the_kinds_apart() {
    let bench = Bench::new(1);
    let sql = "SELECT t.id AS same, t.a + 1 AS computed, COUNT(*) FILTER (WHERE t.q) AS n FROM t JOIN u ON u.k = t.c \
               WHERE t.b > 0 GROUP BY t.id, t.a";
    let lineage = lineage::trace(&bench.plan(sql).expect("a query")).expect("a plan");
    let kinds = |output: &str, column: &str| {
        let (relation, column) = column.split_once('.').expect("a table and a column");
        lineage.kinds(
            output,
            &Origin {
                relation: relation.into(),
                column: column.into(),
            },
        )
    };
    assert_eq!(kinds("same", "t.id"), [Kind::Copy, Kind::Group]);
    assert_eq!(kinds("computed", "t.a"), [Kind::Transform, Kind::Group]);
    assert_eq!(kinds("n", "t.q"), [Kind::Filter]);
    assert_eq!(kinds("same", "t.b"), [Kind::Filter]);
    assert_eq!(kinds("same", "u.k"), [Kind::Join]);
    assert_eq!(kinds("same", "u.v"), []);
}
