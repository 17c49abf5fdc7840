//! The project `tests/projects/pycon` on real data: every number that is known about them, to the digits it was published with.
//! The data lie in the folder `EQUIPOISE_PYCON`, by default `../shared/data/pycon_payment_page`; without it the tests say so
//! and are skipped. Each project is a copy in a temporary folder, built by the program as a user would.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

#[test]
fn the_files_have_the_published_sizes() {
    let Some(project) = built() else { return };
    assert_eq!(
        project.count("stg_assignments where experiment_key = 'payment_page'"),
        30_569
    );
    assert_eq!(
        project.count("stg_assignments where experiment_key = 'payment_page_first'"),
        2_134
    );
    assert_eq!(
        project.count("stg_shop__visits where not is_before_experiment"),
        12_249
    );
    assert_eq!(
        project.count("stg_shop__visits where is_before_experiment"),
        26_886
    );
    assert_eq!(
        project.count("stg_shop__purchases where not is_before_experiment"),
        9_806
    );
    assert_eq!(
        project.count("stg_shop__purchases where is_before_experiment"),
        21_492
    );
    for (status, rows) in [("success", 8_280), ("rejected", 914), ("error", 612)] {
        assert_eq!(
            project.count(&format!(
                "stg_shop__purchases where not is_before_experiment and status = '{status}'"
            )),
            rows
        );
    }
}

#[test]
fn the_units_are_split_as_planned() {
    let Some(project) = built() else { return };
    let check = project.row("select units, p_value, verdict from sample_ratio_checks where experiment_key = 'payment_page' and is_decisive");
    assert_eq!(check["units"], serde_json::json!([14_088.0, 14_120.0]));
    assert_eq!(digits(&check["p_value"], 3), "0.849");
    assert_eq!(check["verdict"], "ok");
}

#[test]
fn the_first_iteration_raises_no_alarm() {
    let Some(project) = built() else { return };
    let checks = project.rows("select population, units, p_value, verdict from sample_ratio_checks where experiment_key = 'payment_page_first'");
    assert_eq!(checks.len(), 3);
    assert!(
        checks.iter().all(|check| check["verdict"] == "ok"),
        "{checks:?}"
    );
    let logged = checks
        .iter()
        .find(|check| check["population"] == "logged rows")
        .expect("the rows of the log are counted");
    assert_eq!(logged["units"], serde_json::json!([1_107.0, 1_027.0]));
    assert_eq!(digits(&logged["p_value"], 3), "0.083");
}

#[test]
fn payment_success_per_visit_is_no_significant_change() {
    let Some(project) = built() else { return };
    let result = project.result("payment_success_rate");
    assert_eq!(
        (
            whole(&result["control_units"]),
            whole(&result["treatment_units"])
        ),
        (14_088, 14_120)
    );
    assert_eq!(
        (
            whole(&result["control_numerator"]),
            whole(&result["control_denominator"])
        ),
        (3_842, 5_719)
    );
    assert_eq!(
        (
            whole(&result["treatment_numerator"]),
            whole(&result["treatment_denominator"])
        ),
        (3_957, 5_785)
    );
    assert_eq!(digits(&result["control_value"], 5), "0.67180");
    assert_eq!(digits(&result["treatment_value"], 5), "0.68401");
    assert_eq!(digits(&result["effect"], 5), "0.01221");
    assert_eq!(digits(&result["effect_low"], 5), "-0.00486");
    assert_eq!(digits(&result["effect_high"], 5), "0.02928");
    assert_eq!(digits(&result["p_value"], 4), "0.1608");
}

#[test]
fn any_success_per_assigned_user_is_no_significant_change() {
    let Some(project) = built() else { return };
    let result = project.result("any_payment_success");
    assert_eq!(
        (
            whole(&result["control_numerator"]),
            whole(&result["treatment_numerator"])
        ),
        (3_822, 3_929)
    );
    assert_eq!(
        (
            whole(&result["control_denominator"]),
            whole(&result["treatment_denominator"])
        ),
        (14_088, 14_120)
    );
    assert_eq!(digits(&result["p_value"], 3), "0.190");
}

#[test]
fn the_year_before_shows_no_difference_and_explains_nothing() {
    let Some(project) = built() else { return };
    assert_eq!(
        digits(&project.result("payment_success_rate")["before_p_value"], 3),
        "0.289"
    );
    assert_eq!(
        digits(
            &project.result("any_payment_success")["before_correlation"],
            3
        ),
        "-0.007"
    );
    for metric in ["payment_success_rate", "any_payment_success"] {
        let result = project.result(metric);
        assert!(
            number(&result["variance_reduction"]).abs() < 0.001,
            "{result}"
        );
        assert_eq!(
            result["is_adjusted"], false,
            "{metric}: an adjustment that gains nothing is not used"
        );
    }
}

#[test]
fn the_exclusions_lead_from_all_users_to_those_analysed() {
    let Some(project) = built() else { return };
    let steps = project.rows("select step, units, units_left from experiment_health where experiment_key = 'payment_page' order by step_number");
    let steps: Vec<(&str, i64, i64)> = steps
        .iter()
        .map(|row| {
            (
                row["step"].as_str().expect("a step"),
                whole(&row["units"]),
                whole(&row["units_left"]),
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            ("assigned", 29_113, 29_113),
            ("crossed_over", 723, 28_390),
            ("carried_over", 182, 28_208)
        ]
    );
}

#[test]
fn every_trap_is_reported_with_its_count() {
    let Some(project) = built() else { return };
    let traps = project.rows("select trap, found, total from data_quality order by trap_number");
    let traps: Vec<(&str, i64, i64)> = traps
        .iter()
        .map(|row| {
            (
                row["trap"].as_str().expect("a trap"),
                whole(&row["found"]),
                whole(&row["total"]),
            )
        })
        .collect();
    assert_eq!(
        traps,
        [
            ("users behind the assignment rows", 29_113, 30_569),
            ("users with several assignment rows", 1_430, 29_113),
            ("users in both variants", 723, 29_113),
            ("users carried over from the first iteration", 186, 29_113),
            ("sessions shared by several users", 248, 11_971),
            ("duplicate visits", 30, 12_249),
            ("duplicate purchases", 19, 9_806),
            ("purchases without a visit", 1, 9_806),
            ("purchases stamped before their own visit", 1_675, 9_853),
            ("visits before assignment in the final cohort", 82, 11_586),
            (
                "rows of a naive join of visits, assignments and purchases",
                13_508,
                12_249
            ),
        ]
    );
}

#[test]
fn a_bucketing_fault_above_the_declared_limit_makes_the_experiment_invalid() {
    let Some(project) = built() else { return };
    let decision = project.decision();
    assert_eq!(decision["decision"], "invalid");
    let reasons = decision["reasons"].to_string();
    assert!(reasons.contains("bucketing fault: 2.48 % of the units were logged in more than one variant, 0.50 % are tolerated"), "{reasons}");
    assert_eq!(digits(&decision["crossed_over_share"], 3), "0.025");
    assert_eq!(
        digits(&decision["p_value"], 4),
        "0.1608",
        "the numbers stand beside the verdict"
    );
}

#[test]
fn a_limit_above_the_fault_leaves_a_change_that_is_not_worth_shipping() {
    let Some(project) = Project::new() else {
        return;
    };
    project.edit(
        "experiments/payment_page.yml",
        "exclude: [crossed_over, carried_over], crossover_limit: 0.005",
        "exclude: [crossed_over, carried_over], crossover_limit: 0.03",
    );
    project.build();
    let decision = project.decision();
    assert_eq!(decision["decision"], "no_ship");
    let reasons = decision["reasons"].to_string();
    assert!(reasons.contains("`payment_success_rate` did not change significantly: +1.82 % (-0.75 % to +4.38 %), p = 0.1608"), "{reasons}");
}

/// The published analysis joined every assignment row with every visit and purchase and took the rows for independent.
/// Here a user makes these mistakes as far as the tool lets them: facts that are joined without care, no exclusions, a limit
/// that tolerates everything. Units still count once, at their first assignment, and variances are those of units.
#[test]
fn careless_facts_do_not_lead_to_the_published_wrong_answer() {
    let Some(project) = Project::new() else {
        return;
    };
    project.write_careless_facts();
    project.edit(
        "experiments/payment_page.yml",
        "exclude: [crossed_over, carried_over], crossover_limit: 0.005",
        "crossover_limit: 0.5",
    );
    project.edit(
        "experiments/payment_page.yml",
        "secondary: [any_payment_success]",
        &format!(
            "secondary: [any_payment_success, {}]",
            CARELESS.map(|(name, _)| name).join(", ")
        ),
    );
    project.build();
    let results = project.rows("select metric_name, p_value, control_units + treatment_units as units from experiment_results where experiment_key = 'payment_page'");
    assert_eq!(results.len(), 2 + CARELESS.len());
    for result in &results {
        assert_eq!(whole(&result["units"]), 29_113, "a unit counts once");
        assert!(number(&result["p_value"]) > 0.05, "{result}");
    }
    assert_eq!(project.decision()["decision"], "no_ship");
}

/// Facts as the published analysis joined them, as name and SQL.
const CARELESS: [(&str, &str); 3] = [
    (
        "success_of_duplicates",
        "select visits.user_id, visits.visited_at, coalesce(purchases.status = 'success', false) as is_success
         from {{ ref('stg_shop__visits') }} as visits
         left join {{ ref('stg_shop__purchases') }} as purchases
             on purchases.session_id = visits.session_id and purchases.user_id = visits.user_id",
    ),
    (
        "success_of_sessions",
        "select visits.user_id, visits.visited_at, coalesce(purchases.status = 'success', false) as is_success
         from {{ ref('stg_shop__visits') }} as visits
         left join {{ ref('stg_shop__purchases') }} as purchases on purchases.session_id = visits.session_id",
    ),
    (
        "success_of_assignment_rows",
        "select visits.user_id, visits.visited_at, coalesce(purchases.status = 'success', false) as is_success
         from {{ ref('stg_assignments') }} as assignments
         inner join {{ ref('stg_shop__visits') }} as visits on visits.user_id = assignments.unit_id
         left join {{ ref('stg_shop__purchases') }} as purchases
             on purchases.session_id = visits.session_id and purchases.user_id = visits.user_id
         where assignments.experiment_key = 'payment_page'",
    ),
];

/// A copy of the project, in a folder of its own.
struct Project {
    folder: tempfile::TempDir,
    data: PathBuf,
}

/// The project as it is, built once for all tests that only read it; none without the data.
fn built() -> Option<&'static Project> {
    static BUILT: OnceLock<Option<Project>> = OnceLock::new();
    let built = BUILT.get_or_init(|| Project::new().inspect(|project| project.build()));
    if built.is_none() {
        println!("skipped: the data of pycon are not here");
    }
    built.as_ref()
}

impl Project {
    fn new() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let data = std::env::var_os("EQUIPOISE_PYCON").map_or_else(
            || root.join("../shared/data/pycon_payment_page"),
            PathBuf::from,
        );
        let Ok(data) = data.canonicalize() else {
            println!("skipped: {} does not exist", data.display());
            return None;
        };
        let folder = crate::folder();
        copy(&root.join("tests/projects/pycon"), folder.path());
        Some(Self { folder, data })
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let path = self.folder.path().join(path);
        let text = std::fs::read_to_string(&path).expect("a file of the project");
        assert!(text.contains(from), "{} has no `{from}`", path.display());
        std::fs::write(path, text.replace(from, to)).expect("a file that can be written");
    }

    fn write_careless_facts(&self) {
        let mut metrics = String::from("metrics:\n");
        for (name, sql) in CARELESS {
            let marts = self.folder.path().join("models/marts");
            let properties = format!(
                "models:\n  - name: fact_{name}\n    description: One row per joined row.\n    fact: {{unit: user_id, time: visited_at}}\n"
            );
            std::fs::write(marts.join(format!("fact_{name}.sql")), sql).expect("a model");
            std::fs::write(marts.join(format!("fact_{name}.yml")), properties)
                .expect("its properties");
            metrics += &format!(
                "  - name: {name}\n    kind: ratio\n    numerator: {{fact: fact_{name}, agg: count, filter: is_success}}\n    \
                 denominator: {{fact: fact_{name}, agg: count}}\n    window: {{start: 0d, length: to_end}}\n    direction: increase\n    owner: team-payments\n"
            );
        }
        std::fs::write(self.folder.path().join("metrics/careless.yml"), metrics).expect("metrics");
    }

    fn build(&self) {
        let output = self.command("build").output().expect("the program runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn rows(&self, query: &str) -> Vec<Value> {
        let output = self
            .command("sql")
            .args([query, "--output", "json"])
            .output()
            .expect("the program runs");
        assert!(
            output.status.success(),
            "{query}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a JSON object per line"))
            .collect()
    }

    fn row(&self, query: &str) -> Value {
        let rows = self.rows(query);
        assert_eq!(rows.len(), 1, "{query}: {rows:?}");
        rows.into_iter().next().expect("there is one")
    }

    fn count(&self, relation: &str) -> i64 {
        whole(&self.row(&format!("select count(*) as n from {relation}"))["n"])
    }

    fn result(&self, metric: &str) -> Value {
        self.row(&format!("select * from experiment_results where experiment_key = 'payment_page' and metric_name = '{metric}'"))
    }

    fn decision(&self) -> Value {
        self.row("select * from experiment_decisions where experiment_key = 'payment_page'")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_equipoise"));
        let vars = serde_json::json!({ "pycon_data": self.data }).to_string();
        command
            .arg(name)
            .arg("--project-dir")
            .arg(self.folder.path())
            .args(["--vars", &vars]);
        command
    }
}

/// Copies a folder, without what a build has left in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the project's folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("an entry has a name");
        if path.is_dir() && name != "target" {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            std::fs::copy(&path, to.join(name)).expect("a file that can be copied");
        }
    }
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

/// A count, also where it was computed as a floating-point number.
fn whole(value: &Value) -> i64 {
    let number = number(value);
    assert_eq!(number.fract(), 0.0, "{number} is no count");
    number as i64
}

/// The number with so many digits after the point.
fn digits(value: &Value, places: usize) -> String {
    format!("{:.places$}", number(value))
}
