//! Exported flags answer as ours do: in the evaluators of the other formats, and in those systems' own SDKs where
//! they are installed (Python: `eppo-server-sdk`, `growthbook`, `openfeature-flagd-core`; Node, from the folder
//! `EQUIPOISE_NODE_MODULES`: `@growthbook/growthbook`, `@openfeature/flagd-core`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use chrono::{DateTime, Utc};
use equipoise::flags::export::{
    Exported, to_flagd, to_growthbook, to_openfeature_manifest, to_ufc,
};
use equipoise::flags::import::eppo::Ufc;
use equipoise::flags::import::flagd::{FlagdFlags, FractionalVersion, Request};
use equipoise::flags::import::growthbook::{Evaluator, Payload, User};
use equipoise::flags::set::ValueType;
use equipoise::flags::{FlagSet, FlagSource, evaluate, resolve};
use serde_json::{Value, json};

#[test]
fn ufc_answers_as_we_do() {
    let set = flags("md5-mod10000/1", "plan ILIKE 'p%'");
    let exported = to_ufc(&set, "test", "2026-01-01T00:00:00Z");
    assert_eq!(left_out(&exported), ["refused"]);
    let ufc = Ufc::read(&exported.document);
    for now in instants() {
        compare(&set, now, &exported, |flag, context| {
            let kind = if flag == "number" {
                "INTEGER"
            } else {
                "STRING"
            };
            let subject = context["targetingKey"].as_str().unwrap();
            ufc.evaluate(flag, kind, subject, context.as_object().unwrap(), now)
                .value
                .unwrap_or_default()
        });
    }
    python(&set, &exported, EPPO);
}

#[test]
fn growthbook_features_answer_as_we_do() {
    let set = flags("fnv1a-gb/2", "plan ILIKE 'p%'");
    for now in instants() {
        let exported = to_growthbook(&set, now);
        assert_eq!(left_out(&exported), ["refused"]);
        let payload = Payload::read(&exported.document);
        compare(&set, now, &exported, |flag, context| {
            let user = User::new(with_unit(context).as_object().unwrap().clone());
            Evaluator::new(&payload, user).feature(flag).value
        });
    }
    let exported = to_growthbook(&set, at("2026-01-01T00:00:00Z"));
    python(&set, &exported, GROWTHBOOK_PYTHON);
    node(&set, &exported, "@growthbook/growthbook", GROWTHBOOK_NODE);
}

#[test]
fn flagd_answers_as_we_do() {
    let set = flags("murmur3-flagd/2", "regexp_like(plan, '^p')");
    let exported = to_flagd(&set);
    assert_eq!(left_out(&exported), ["refused"]);
    let flagd = FlagdFlags::read(&exported.document);
    for now in instants() {
        compare(&set, now, &exported, |flag, context| {
            let request = Request {
                flag,
                kind: if flag == "number" {
                    ValueType::Integer
                } else {
                    ValueType::Text
                },
                default: &Value::Null,
                context: context.as_object().unwrap(),
                timestamp: now.timestamp(),
            };
            flagd.evaluate(&request, FractionalVersion::Two).value
        });
    }
    node(&set, &exported, "@openfeature/flagd-core", FLAGD_NODE);
}

#[test]
fn flagd_version_three_splits_by_the_key_of_the_flag() {
    let yaml = "
flags:
  - key: split
    type: string
    variants: {a: A, b: B}
    default_variant: a
    rules: [{id: r, rollout: {algorithm: murmur3-flagd/3, salt: split, weights: {a: 1, b: 2}, percent: 60}}]
  - key: other
    type: string
    variants: {a: A, b: B}
    default_variant: a
    rules: [{id: r, rollout: {algorithm: murmur3-flagd/3, salt: another, weights: {a: 1, b: 2}}}]
";
    let set = sound(yaml);
    let exported = to_flagd(&set);
    assert_eq!(left_out(&exported), ["other"]);
    python(&set, &exported, FLAGD_PYTHON);
}

#[test]
fn the_manifest_has_every_flag_with_a_default() {
    let exported = to_openfeature_manifest(&flags("md5-mod10000/1", "true"));
    assert_eq!(
        exported.document["flags"]["number"],
        json!({"flagType": "integer", "defaultValue": 10})
    );
    assert_eq!(left_out(&exported), ["silent"]);
}

/// Rules of every kind under one algorithm; `refused` is a predicate that the format cannot express.
fn flags(algorithm: &str, refused: &str) -> FlagSet {
    let yaml = r#"
contexts:
  user:
    unit: user_id
    attributes: {country: string, plan: string, age: integer, member: boolean, version: semver}
holdouts:
  - {key: h, unit: user, salt: h, algorithm: ALGORITHM, buckets: {holdout: [[0, 500], [9000, 9500]]}, active: {from: 2021-01-01}}
layers:
  - key: l
    unit: user
    salt: l
    algorithm: ALGORITHM
    slots:
      - {experiment: e, ranges: [[0, 4000], [6000, 10000]]}
experiments:
  - key: e
    layer: l
    holdout: h
    allocations:
      - {id: one, valid_from: 2020-01-01, algorithm: ALGORITHM, salt: e.1, weights: {control: 2, blue: 1, green: 1}, percent: 20}
      - {id: two, valid_from: 2022-01-01, extends: one, weights: {control: 2, blue: 1, green: 1}, percent: 100}
  - key: free
    allocations:
      - {id: one, valid_from: 2020-01-01, algorithm: ALGORITHM, salt: free.1, weights: {control: 1, blue: 1, green: 1}, percent: 50}
flags:
  - key: button
    type: string
    variants: {control: c, blue: b, green: g}
    default_variant: control
    forced: {green: [unit-1, unit-2]}
    rules:
      - {id: staff, when: "member AND plan = 'staff'", serve: green}
      - {id: exp, when: "country IN ('DE', 'FR') AND NOT (age < 18 OR plan = 'free')", experiment: e}
      - {id: next, when: "country = 'US'", experiment: free, otherwise: next}
      - {id: last, when: "version >= semver('2.0.0') AND version <> semver('3.0.0')", serve: blue}
  - key: number
    type: integer
    variants: {small: 10, big: 20}
    default_variant: small
    rules:
      - {id: nulls, when: "age IS NULL AND country NOT IN ('DE', 'US')", serve: big}
      - {id: texts, when: "starts_with(plan, 'p') AND NOT ends_with(plan, 'o')", serve: big}
      - {id: not_true, when: "(country = 'DE' AND member) IS NOT TRUE AND age BETWEEN 20 AND 40", serve: big}
      - {id: some, rollout: {algorithm: ALGORITHM, salt: number, weights: {small: 0, big: 1}, percent: 25}, active: {from: 2021-06-01}}
  - key: silent
    type: string
    variants: {on: "1", off: "0"}
    rules:
      - {id: r, when: country = 'DE', rollout: {algorithm: ALGORITHM, salt: silent, weights: {on: 1, off: 1}, percent: 70}}
  - key: refused
    type: string
    variants: {on: "1", off: "0"}
    default_variant: "off"
    rules: [{id: r, when: "REFUSED", serve: "on"}]
"#;
    sound(
        &yaml
            .replace("ALGORITHM", algorithm)
            .replace("REFUSED", refused),
    )
}

fn sound(yaml: &str) -> FlagSet {
    let spec = serde_saphyr::from_str(yaml).expect("YAML of the right shape");
    let checked = resolve(&[FlagSource {
        file: "flags.yml".into(),
        spec,
    }]);
    assert!(checked.diagnostics.is_empty(), "{:#?}", checked.diagnostics);
    checked.value
}

/// Every mixture of attributes, some of them missing.
fn contexts() -> Vec<Value> {
    let pick = |values: &[Value], index: usize| values.get(index % (values.len() + 1)).cloned();
    (0..400)
        .map(|index| {
            let mut context = json!({ "targetingKey": format!("unit-{index}") });
            let attributes = [
                (
                    "country",
                    pick(&[json!("DE"), json!("FR"), json!("US")], index),
                ),
                (
                    "plan",
                    pick(
                        &[json!("pro"), json!("free"), json!("plus"), json!("staff")],
                        index / 4,
                    ),
                ),
                (
                    "age",
                    pick(&[json!(17), json!(20), json!(40), json!(0)], index / 7),
                ),
                ("member", pick(&[json!(true), json!(false)], index / 3)),
                (
                    "version",
                    pick(
                        &[
                            json!("2.0.0"),
                            json!("3.0.0"),
                            json!("10.1.0"),
                            json!("2.0.0-rc.1"),
                        ],
                        index / 5,
                    ),
                ),
            ];
            for (name, value) in attributes {
                if let Some(value) = value {
                    context[name] = value;
                }
            }
            context
        })
        .collect()
}

fn instants() -> [DateTime<Utc>; 5] {
    [
        "2019-06-01T00:00:00Z",
        "2020-06-01T00:00:00Z",
        "2021-03-01T00:00:00Z",
        "2021-12-31T23:59:59Z",
        "2022-01-01T00:00:00Z",
    ]
    .map(at)
}

fn compare(
    set: &FlagSet,
    now: DateTime<Utc>,
    exported: &Exported,
    other: impl Fn(&str, &Value) -> Value,
) {
    for flag in exported.document["flags"]
        .as_object()
        .or(exported.document["features"].as_object())
        .unwrap()
        .keys()
    {
        for context in contexts() {
            assert_eq!(
                other(flag, &context),
                ours(set, flag, &context, now),
                "{flag} at {now} for {context}"
            );
        }
    }
}

/// Our value; null where the value in the code counts.
fn ours(set: &FlagSet, flag: &str, context: &Value, now: DateTime<Utc>) -> Value {
    let context = set.schema.context(context.as_object().unwrap()).unwrap();
    evaluate(set, flag, &context, now)
        .unwrap()
        .value()
        .cloned()
        .unwrap_or_default()
}

fn with_unit(context: &Value) -> Value {
    let mut context = context.clone();
    context["user_id"] = context["targetingKey"].clone();
    context
}

fn left_out(exported: &Exported) -> Vec<&str> {
    exported
        .report
        .iter()
        .map(|left| left.flag.as_str())
        .collect()
}

/// What an SDK is asked, and our answers, as of now: all changes of the flags lie in the past.
fn questions(set: &FlagSet, exported: &Exported) -> Value {
    let now = at("2026-01-01T00:00:00Z");
    let document = &exported.document;
    let flags = document["flags"]
        .as_object()
        .or(document["features"].as_object())
        .unwrap();
    let contexts: Vec<Value> = contexts().iter().map(with_unit).collect();
    let answers: BTreeMap<&String, Vec<Value>> = flags
        .keys()
        .map(|flag| {
            (
                flag,
                contexts
                    .iter()
                    .map(|context| ours(set, flag, context, now))
                    .collect(),
            )
        })
        .collect();
    json!({"document": document, "contexts": contexts, "answers": answers})
}

/// Runs a script that asks an SDK and prints how many answers it compared and how many differ.
fn python(set: &FlagSet, exported: &Exported, script: &str) {
    let python = std::env::var("EQUIPOISE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = script.lines().next().unwrap();
    if !Command::new(&python)
        .args(["-c", import])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        println!("skipped Python's SDK: `{import}` fails");
        return;
    }
    ask(
        Command::new(python).args(["-c", &format!("{script}\n{PYTHON_MAIN}")]),
        set,
        exported,
        import,
    );
}

fn node(set: &FlagSet, exported: &Exported, package: &str, script: &str) {
    let above = std::env::var("EQUIPOISE_NODE_MODULES").unwrap_or_else(|_| ".".to_owned());
    let folder = Path::new(&above).join("node_modules");
    if !folder.join(package).exists() {
        println!("skipped {package}: it is not in {}", folder.display());
        return;
    }
    ask(
        Command::new("node")
            .args(["-e", &format!("{script}\n{NODE_MAIN}")])
            .env("NODE_PATH", folder),
        set,
        exported,
        package,
    );
}

fn ask(command: &mut Command, set: &FlagSet, exported: &Exported, name: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("questions.json");
    std::fs::write(&path, questions(set, exported).to_string()).expect("the folder can be written");
    let output = command
        .env("QUESTIONS", &path)
        .output()
        .expect("the program was found");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let verdict = text.lines().last().unwrap_or_default();
    assert!(verdict.ends_with(" answers, 0 differ"), "{name}: {text}");
    println!("{name}: {verdict}");
}

const PYTHON_MAIN: &str = r"
import json, os, sys
q = json.load(open(os.environ['QUESTIONS']))
ask = start(q['document'])
total = wrong = 0
for flag, answers in q['answers'].items():
    for context, answer in zip(q['contexts'], answers):
        total += 1
        got = ask(flag, context, 'INTEGER' if flag == 'number' else 'STRING')
        if got != answer:
            wrong += 1
            if wrong < 5: print(flag, context, got, answer)
print(total, 'answers,', wrong, 'differ')
sys.stdout.flush()
os._exit(0)  # threads of an SDK would keep the process
";

const EPPO: &str = r"import eppo_client
def start(document):
    import json
    from eppo_client import AssignmentLogger, ClientConfig, Configuration
    configuration = Configuration(flags_configuration=json.dumps(document).encode())
    client = eppo_client.init(ClientConfig(api_key='none', base_url='http://127.0.0.1:9', poll_interval_seconds=None,
                                           assignment_logger=AssignmentLogger(), initial_configuration=configuration))
    def ask(flag, context, kind):
        attributes = {name: value for name, value in context.items() if name not in ('targetingKey', 'user_id')}
        get = client.get_integer_assignment if kind == 'INTEGER' else client.get_string_assignment
        missing = -1 if kind == 'INTEGER' else '(code)'
        value = get(flag, context['targetingKey'], attributes, missing)
        return None if value == missing else value
    return ask
";

const GROWTHBOOK_PYTHON: &str = r"import growthbook
def start(document):
    def ask(flag, context, kind):
        return growthbook.GrowthBook(attributes=context, features=document['features']).eval_feature(flag).value
    return ask
";

const FLAGD_PYTHON: &str = r"from openfeature.contrib.tools.flagd.core import FlagdCore
def start(document):
    from openfeature.evaluation_context import EvaluationContext
    core = FlagdCore()
    core.set_flags(document)
    def ask(flag, context, kind):
        attributes = {name: value for name, value in context.items() if name != 'targetingKey'}
        return core.resolve_string_value(flag, None, EvaluationContext(context['targetingKey'], attributes)).value
    return ask
";

const NODE_MAIN: &str = r"
const q = JSON.parse(require('fs').readFileSync(process.env.QUESTIONS, 'utf8'));
const ask = start(q.document);
let total = 0, wrong = 0;
for (const [flag, answers] of Object.entries(q.answers)) {
  q.contexts.forEach((context, index) => {
    total++;
    const got = ask(flag, context, flag === 'number' ? 'INTEGER' : 'STRING');
    if (JSON.stringify(got) !== JSON.stringify(answers[index]) && ++wrong < 5) console.log(flag, context, got, answers[index]);
  });
}
console.log(`${total} answers, ${wrong} differ`);
";

const GROWTHBOOK_NODE: &str = r"
const { GrowthBook } = require('@growthbook/growthbook');
function start(document) {
  return (flag, attributes) => new GrowthBook({ attributes, features: document.features }).evalFeature(flag).value;
}
";

const FLAGD_NODE: &str = r"
const { FlagdCore } = require('@openfeature/flagd-core');
function start(document) {
  const logger = { error() {}, warn() {}, info() {}, debug() {} };
  const core = new FlagdCore(undefined, logger);
  core.setConfigurations(JSON.stringify(document));
  return (flag, context, kind) => {
    const missing = kind === 'INTEGER' ? -1 : '(code)';
    const result = kind === 'INTEGER'
      ? core.resolveNumberEvaluation(flag, missing, context, logger)
      : core.resolveStringEvaluation(flag, missing, context, logger);
    return result.value === missing ? null : result.value;
  };
}
";

fn at(instant: &str) -> DateTime<Utc> {
    instant.parse().expect("an instant")
}
