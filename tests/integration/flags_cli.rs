//! `equipoise flag ...` as a user types it: transcripts in `tests/data/flags_cli`, and what a lock refuses.

use std::process::Command;

use crate::cli::Shop;

const FLAGS: &str = r#"version: 1

contexts:
  user:
    unit: user_id
    attributes: {country: string, app_version: semver, is_employee: boolean}

layers:
  - key: checkout_page
    unit: user
    salt: layer.checkout_page
    slots:
      - {experiment: one_click_pay, ranges: [[0, 8000]]}

flags:
  - key: one_click_pay_button
    type: string
    variants: {control: "off", blue: "blue", green: "green"}
    default_variant: control
    rules:
      - {id: staff, when: is_employee, serve: green}
      - id: exp
        when: country IN ('DE', 'FR') AND app_version >= semver('3.2.0')
        experiment: one_click_pay
      - id: rest
        rollout: {salt: one_click_pay.rest, weights: {blue: 1}, percent: 10}

experiments:
  - key: one_click_pay
    unit: user
    layer: checkout_page
    allocations:
      - id: a1
        valid_from: 2026-11-01T08:00:00Z
        salt: one_click_pay.1
        split: {control: [[0, 500]], blue: [[500, 1000]]}
      - {id: a2, valid_from: 2026-11-04T08:00:00Z, extends: a1, weights: {control: 1, blue: 1}, percent: 50}
"#;

/// A project in a git repository of its own, with its flags committed.
fn project() -> Shop {
    let shop = Shop::empty();
    shop.write("project.yml", "name: shop\n");
    shop.write("flags/checkout.yml", FLAGS);
    git(&shop, &["init", "--quiet"]);
    commit(&shop);
    shop
}

fn commit(shop: &Shop) {
    git(shop, &["add", "."]);
    git(
        shop,
        &[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "commit",
            "--quiet",
            "-m",
            "m",
        ],
    );
}

fn git(shop: &Shop, arguments: &[&str]) {
    let status = Command::new("git")
        .current_dir(shop.folder.path())
        .args(arguments)
        .status();
    assert!(status.expect("git starts").success(), "git {arguments:?}");
}

fn edit(shop: &Shop, edits: &[(&str, &str)]) {
    let edited = edits.iter().fold(FLAGS.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    shop.write("flags/checkout.yml", &edited);
}

/// What the commands print and how they end.
fn transcript(shop: &Shop, commands: &[&[&str]]) -> String {
    let mut text = String::new();
    for arguments in commands {
        let said = shop.run(arguments);
        let typed: Vec<String> = arguments
            .iter()
            .map(|word| {
                if word.contains([' ', '"']) {
                    format!("'{word}'")
                } else {
                    (*word).to_owned()
                }
            })
            .collect();
        text += &format!("$ equipoise {}\n{}", typed.join(" "), said.out);
        if !said.err.is_empty() {
            // The server's log lines carry the time.
            let err: String = said
                .err
                .lines()
                .filter(|line| !line.starts_with("{\"timestamp\""))
                .map(|line| format!("{line}\n"))
                .collect();
            let folder = shop.folder.path().display().to_string();
            text += &format!("(standard error)\n{}", err.replace(&folder, "."));
        }
        text += &format!("(exit {})\n\n", said.code);
    }
    text
}

fn assert_transcript(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../data/flags_cli");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

const NOW: &str = "2026-11-20T00:00:00Z";

#[test]
fn an_evaluation_is_explained_step_by_step() {
    let shop = project();
    let eval = |context| {
        [
            "flag",
            "eval",
            "one_click_pay_button",
            "--at",
            NOW,
            "--context",
            context,
        ]
    };
    let german = eval(
        r#"{"targetingKey": "u1", "country": "DE", "app_version": "3.10.0", "is_employee": false}"#,
    );
    let unmatched = eval(r#"{"targetingKey": "u2", "country": "US"}"#);
    let nobody = eval(r#"{"country": "DE", "app_version": "3.2.0"}"#);
    let mistyped = eval(r#"{"targetingKey": "u1", "country": 49}"#);
    let text = transcript(
        &shop,
        &[
            &german,
            &unmatched,
            &nobody,
            &mistyped,
            &eval("{"),
            &["flag", "eval", "one_click_pay_buton"],
            &["flag", "eval", "one_click_pay_button", "--at", "yesterday"],
        ],
    );
    assert_transcript("eval", &text);
    let json = shop
        .good(&[&german[..], &["--output", "json"]].concat())
        .out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["assignment"]["experiment_key"], "one_click_pay");
    assert_eq!(json["steps"][1]["condition"]["result"], "false");
}

#[test]
fn a_diff_counts_the_units_of_an_edit() {
    let shop = project();
    let mut text = transcript(&shop, &[&["flag", "diff"]]);
    edit(
        &shop,
        &[
            ("ranges: [[0, 8000]]", "ranges: [[500, 9000]]"),
            ("percent: 10}", "percent: 25}"),
            ("country IN ('DE', 'FR')", "country IN ('DE', 'AT')"),
            (
                "percent: 50}\n",
                "percent: 50}\n      - {id: a3, valid_from: 2026-11-11T08:00:00Z, extends: a2, weights: {control: 1, blue: 1}, percent: 100}\n",
            ),
        ],
    );
    text += &transcript(
        &shop,
        &[
            &["flag", "diff"],
            &["flag", "diff", "--base", "HEAD", "--output", "json"],
            &["flag", "diff", "--base", "v9"],
        ],
    );
    edit(
        &shop,
        &[(
            "country IN ('DE', 'FR') AND",
            "country = 'DE' AND country = 'FR' AND",
        )],
    );
    text += &transcript(&shop, &[&["flag", "diff"]]);
    assert_transcript("diff", &text);
}

#[test]
fn what_is_locked_is_added_to_and_never_edited() {
    let shop = project();
    let mut text = transcript(&shop, &[&["compile"], &["flag", "lock"], &["compile"]]);
    commit(&shop);
    let a3 = "percent: 50}\n      - {id: a3, valid_from: 2026-11-11T08:00:00Z, extends: a2, weights: {control: 1, blue: 1}, percent: 100}\n";
    edit(&shop, &[("percent: 50}\n", a3)]);
    text += &transcript(&shop, &[&["compile"], &["flag", "lock"], &["compile"]]);
    edit(
        &shop,
        &[
            ("percent: 50}\n", a3),
            ("blue: [[500, 1000]]", "blue: [[500, 900]]"),
        ],
    );
    text += &transcript(&shop, &[&["compile"], &["flag", "lock"], &["flag", "diff"]]);
    edit(&shop, &[("      - {id: a2,", "      - {id: a4,")]);
    text += &transcript(
        &shop,
        &[
            &["compile"],
            &["build"],
            &["serve", "--listen", "127.0.0.1:0"],
        ],
    );
    let around = [
        ("ranges: [[0, 8000]]", "ranges: [[500, 8000]]"),
        (
            "    layer: checkout_page\n",
            "    layer: checkout_page\n    sticky: first_assignment\n",
        ),
        ("percent: 50}\n", a3),
    ];
    edit(&shop, &around);
    text += &transcript(
        &shop,
        &[
            &["compile"],
            &["build"],
            &["serve", "--listen", "127.0.0.1:0"],
        ],
    );
    shop.write("flags/allocations.lock", "one_click_pay/a1\n");
    text += &transcript(&shop, &[&["compile"]]);
    assert_transcript("lock", &text);
}

#[test]
fn flags_travel_to_other_systems_and_back() {
    let shop = project();
    let exported = shop.run(&["flag", "export", "--to", "eppo", "--at", NOW]);
    shop.write("eppo.json", &exported.out);
    shop.write("growthbook.json", r#"{"features": {
        "dark": {"defaultValue": false, "rules": [{"condition": {"country": "DE"}, "force": true}]},
        "odd": {"defaultValue": false, "rules": [{"condition": {"tags": {"$size": 2}}, "force": true}]}}}"#);
    shop.write("unleash.json", r#"{"version": 2, "features": [{"name": "beta", "enabled": true, "strategies":
        [{"name": "flexibleRollout", "parameters": {"rollout": "40", "stickiness": "default", "groupId": "beta"}}]}]}"#);
    shop.write("flagd.json", r#"{"flags": {"color": {"state": "ENABLED", "variants": {"red": "r", "blue": "b"},
        "defaultVariant": "red", "targeting": {"if": [{"ends_with": [{"var": "email"}, "@x.org"]}, "blue", "red"]}}}}"#);
    shop.write(
        "manifest.json",
        r#"{"flags": {"limit": {"flagType": "integer", "defaultValue": 3, "description": "d"}}}"#,
    );
    shop.write("broken.json", "{");
    let text = transcript(
        &shop,
        &[
            &["flag", "export", "--to", "eppo", "--at", NOW],
            &["flag", "export", "--to", "growthbook", "--at", NOW],
            &["flag", "export", "--to", "openfeature"],
            &["flag", "import", "--from", "eppo", "eppo.json"],
            &["flag", "import", "--from", "growthbook", "growthbook.json"],
            &[
                "flag",
                "import",
                "--from",
                "growthbook",
                "growthbook.json",
                "--output",
                "json",
            ],
            &["flag", "import", "--from", "unleash", "unleash.json"],
            &["flag", "import", "--from", "flagd", "flagd.json"],
            &["flag", "import", "--from", "openfeature", "manifest.json"],
            &["flag", "import", "--from", "unleash", "growthbook.json"],
            &["flag", "import", "--from", "flagd", "broken.json"],
            &["flag", "import", "--from", "flagd", "nothing.json"],
        ],
    );
    assert_transcript("carry", &text);
    // What was printed is a flags file.
    let imported = shop.run(&["flag", "import", "--from", "growthbook", "growthbook.json"]);
    shop.write("flags/checkout.yml", &imported.out);
    let said = shop.good(&[
        "flag",
        "eval",
        "dark",
        "--context",
        r#"{"targetingKey": "u", "country": "DE"}"#,
    ]);
    assert!(
        said.out.ends_with("(forced_rule, TARGETING_MATCH)\n"),
        "{}",
        said.out
    );
}

#[test]
fn an_experiment_is_delivered_from_the_file_that_measures_it() {
    let shop = project();
    let (flags, experiments) = FLAGS.split_at(FLAGS.find("experiments:").expect("they are there"));
    shop.write("flags/checkout.yml", flags);
    let measured = "    variants: {control: 0.5, blue: 0.5}\n    metrics: {primary: orders}\n";
    let experiments =
        &experiments.replace("    unit: user\n", &format!("    unit: user\n{measured}"));
    shop.write("experiments/one_click_pay.yml", experiments);
    let eval = [
        "flag",
        "eval",
        "one_click_pay_button",
        "--at",
        NOW,
        "--context",
        r#"{"targetingKey": "u1", "country": "DE", "app_version": "3.10.0"}"#,
    ];
    let said = shop.good(&eval);
    assert!(said.out.contains("allocation   a2"), "{}", said.out);
    shop.write(
        "experiments/one_click_pay.yml",
        &experiments.replace("percent: 50", "percent: 500"),
    );
    let said = shop.run(&eval);
    assert!(
        said.err.contains("--> experiments/one_click_pay.yml:"),
        "{}",
        said.err
    );
    let undelivered = &experiments[..experiments
        .find("    allocations:")
        .expect("they are there")];
    shop.write("experiments/one_click_pay.yml", undelivered);
    let said = shop.run(&eval);
    assert!(
        said.err
            .contains("`one_click_pay` has a `layer` but no `allocations`"),
        "{}",
        said.err
    );
    shop.write(
        "flags/checkout.yml",
        &FLAGS.replace("    layer: checkout_page\n", "    layr: checkout_page\n"),
    );
    let said = shop.run(&eval);
    assert!(said.err.contains("layr"), "{}", said.err);
}
