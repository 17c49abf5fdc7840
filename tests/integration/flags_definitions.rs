//! Definitions of flags: what a sound set answers, and what is said about an unsound one.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use equipoise::diagnostics::Checked;
use equipoise::flags::{
    self, EvaluationError, FlagSet, FlagSource, Lock, LockFile, Reason, Step, evaluate,
    evaluate_traced,
    set::{Pin, Pins},
};
use serde_json::json;

const CHECKOUT: &str = r#"
version: 1
contexts:
  user:
    unit: user_id
    attributes: {country: string, plan: string, app_version: semver, is_employee: boolean, signup_at: timestamp}
holdouts:
  - key: h_growth
    unit: user
    salt: h_growth
    buckets: {holdout: [[0, 200]], measured: [[200, 400]]}
    active: {from: 2026-07-01T00:00:00Z, to: 2026-12-31T00:00:00Z}
layers:
  - key: checkout_page
    unit: user
    salt: layer.checkout_page.2026
    algorithm: md5-mod10000/1
    slots:
      - {experiment: one_click_pay, ranges: [[0, 5000]]}
flags:
  - key: checkout_v2
    type: boolean
    variants: {"on": true, "off": false}
    default_variant: "on"
  - key: one_click_pay_button
    type: string
    variants: {control: "off", blue: "blue", green: "green"}
    default_variant: control
    prerequisites: [{flag: checkout_v2, variant: "on"}]
    forced: {blue: [tester-1]}
    rules:
      - {id: staff, when: is_employee, serve: green}
      - id: exp
        when: country IN ('DE','FR') AND plan <> 'enterprise' AND app_version >= semver('3.2.0')
        experiment: one_click_pay
experiments:
  - key: one_click_pay
    unit: user
    layer: checkout_page
    holdout: h_growth
    hypothesis: One-click raises paid orders per user
    allocations:
      - id: a1
        valid_from: 2026-11-01T08:00:00Z
        salt: one_click_pay.1
        split: {control: [[0, 500]], blue: [[500, 750]], green: [[750, 1000]]}
      - id: a2
        valid_from: 2026-11-04T08:00:00Z
        extends: a1
        split: {control: [[0, 500], [1000, 3000]], blue: [[500, 750], [3000, 4000]], green: [[750, 1000], [4000, 5000]]}
      - id: a3
        valid_from: 2026-11-11T08:00:00Z
        extends: a2
        rebucket: forbid
        split:
          control: [[0, 500], [1000, 3000], [5000, 7500]]
          blue: [[500, 750], [3000, 4000], [7500, 8750]]
          green: [[750, 1000], [4000, 5000], [8750, 10000]]
"#;

#[test]
fn every_unit_is_held_out_outside_the_slot_or_allocated_in_the_declared_shares() {
    let set = sound(CHECKOUT);
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for user in 0..20_000 {
        let context = context(
            &set,
            json!({"targetingKey": format!("user-{user}"), "country": "DE", "plan": "pro", "app_version": "3.10.1"}),
        );
        let answer = evaluate(
            &set,
            "one_click_pay_button",
            &context,
            at("2026-11-20T00:00:00Z"),
        )
        .unwrap();
        *counts
            .entry(format!(
                "{} {}",
                answer.reason.code(),
                answer.variant.unwrap().key
            ))
            .or_default() += 1;
    }
    let share = |name: &str| counts[name] as f64 / 20_000.0;
    assert!(
        (share("held_out control") - 0.02).abs() < 0.005,
        "{counts:?}"
    );
    assert!(
        (share("outside_slot control") - 0.49).abs() < 0.01,
        "{counts:?}"
    );
    assert!(
        (share("allocated control") - 0.245).abs() < 0.01,
        "{counts:?}"
    );
    assert!(
        (share("allocated blue") - 0.1225).abs() < 0.01,
        "{counts:?}"
    );
    assert_eq!(counts.values().sum::<usize>(), 20_000);
}

#[test]
fn a_ramp_moves_nobody_from_stage_to_stage() {
    let set = sound(CHECKOUT);
    let stages = [
        "2026-11-02T00:00:00Z",
        "2026-11-05T00:00:00Z",
        "2026-11-12T00:00:00Z",
    ]
    .map(at);
    for user in 0..5_000 {
        let context = context(
            &set,
            json!({"targetingKey": user, "country": "FR", "plan": "pro", "app_version": "v4"}),
        );
        let variants = stages.map(|now| assigned(&set, &context, now));
        for pair in variants.windows(2) {
            assert!(
                pair[0].is_none() || pair[0] == pair[1],
                "user {user} moved: {variants:?}"
            );
        }
    }
}

#[test]
fn rules_come_in_order_and_each_says_why() {
    let set = sound(CHECKOUT);
    let now = at("2026-11-20T00:00:00Z");
    let reason = |request| {
        let context = context(&set, request);
        evaluate(&set, "one_click_pay_button", &context, now)
            .map(|answer| (answer.reason, answer.variant.unwrap().key.to_string()))
            .map_err(|error| format!("{error:?}"))
    };
    let control = |reason| Ok((reason, "control".to_owned()));
    assert_eq!(
        reason(json!({"targetingKey": "u", "is_employee": true})),
        Ok((Reason::ForcedRule, "green".into()))
    );
    assert_eq!(
        reason(json!({"is_employee": true})),
        Ok((Reason::ForcedRule, "green".into()))
    );
    assert_eq!(
        reason(json!({"targetingKey": "tester-1"})),
        Ok((Reason::ForcedUnit, "blue".into()))
    );
    assert_eq!(
        reason(json!({"targetingKey": "u", "country": "US"})),
        control(Reason::Default)
    );
    assert_eq!(
        reason(json!({"targetingKey": "u", "country": "DE", "plan": null, "app_version": "9.0.0"})),
        control(Reason::Default)
    );
    assert_eq!(
        reason(
            json!({"targetingKey": "u", "country": "DE", "plan": "x", "app_version": "3.2.0-rc.1"})
        ),
        control(Reason::Default)
    );
    let missing = reason(json!({"country": "DE", "plan": "x", "app_version": "3.2.0"}));
    assert_eq!(
        missing,
        Err("TargetingKeyMissing { unit: \"user_id\" }".into())
    );
}

#[test]
fn an_assignment_carries_what_re_derives_it() {
    let set = sound(CHECKOUT);
    let now = at("2026-11-20T00:00:00Z");
    let eligible = |unit: usize| {
        context(
            &set,
            json!({"targetingKey": unit, "country": "DE", "plan": "p", "app_version": "3.2"}),
        )
    };
    let context = (0..100)
        .map(eligible)
        .find(|context| assigned(&set, context, now).is_some())
        .unwrap();
    let answer = evaluate(&set, "one_click_pay_button", &context, now).unwrap();
    let assignment = answer.assignment.unwrap();
    let (algorithm, salt, bucket) = (
        assignment.algorithm.unwrap(),
        assignment.salt.unwrap(),
        assignment.bucket.unwrap(),
    );
    assert_eq!(
        (assignment.unit_type, salt, assignment.allocation),
        ("user", "one_click_pay.1", Some("a3"))
    );
    assert_eq!(algorithm.bucket(salt, assignment.unit), bucket);
    assert_eq!(assignment.layer.unwrap().0, "checkout_page");
    assert!(assignment.layer.unwrap().1.index < 5_000);
    assert_eq!(assignment.variant, Some(&*answer.variant.unwrap().key));
    assert_eq!(answer.rule, Some("exp"));
    assert!(!assignment.is_override && !assignment.is_sticky);
}

#[test]
fn the_explained_evaluation_is_the_served_one() {
    let set = sound(CHECKOUT);
    let now = at("2026-11-20T00:00:00Z");
    let context = context(
        &set,
        json!({"targetingKey": "u7", "country": "DE", "plan": "pro", "app_version": "3.1.0"}),
    );
    let mut steps: Vec<Step> = Vec::new();
    let explained =
        evaluate_traced(&set, "one_click_pay_button", &context, now, &mut steps).unwrap();
    let served = evaluate(&set, "one_click_pay_button", &context, now).unwrap();
    assert_eq!(
        (explained.reason, explained.variant),
        (served.reason, served.variant)
    );
    let lines: Vec<String> = steps
        .iter()
        .map(|step| format!("{} {}: {}", step.name, step.subject, step.outcome))
        .collect();
    assert_eq!(
        lines,
        [
            "state one_click_pay_button: enabled",
            "prerequisite checkout_v2: wants `on`, gives `on`",
            "rule staff: does not match",
            "rule exp: does not match",
            "default one_click_pay_button: `control`",
        ]
    );
    let predicate = steps[3].predicate.as_ref().unwrap();
    let parts: Vec<String> = predicate
        .parts
        .iter()
        .map(|part| format!("{} is {}", part.sql, part.result))
        .collect();
    assert_eq!(
        parts,
        [
            "country IN ('DE', 'FR') is true",
            "plan <> 'enterprise' is true",
            "app_version >= semver('3.2.0') is false",
        ]
    );
}

#[test]
fn a_first_assignment_is_kept_until_a_new_phase() {
    let ramp = "
flags:
  - {key: f, type: boolean, variants: {a: true, b: false}, default_variant: b, rules: [{id: r, experiment: e}]}
experiments:
  - key: e
    sticky: first_assignment
    allocations:
      - {id: one, valid_from: 2026-01-01, salt: s1, split: {a: [[0, 10000]], b: []}}
      - {id: two, valid_from: 2026-02-01, extends: one, rebucket: allow(swap), split: {b: [[0, 10000]]}}
      - {id: three, valid_from: 2026-03-01, extends: two, split: {b: [[0, 10000]]}}
";
    let pin = |allocation: &str| Pin {
        variant: "a".into(),
        allocation: allocation.into(),
    };
    let pins =
        |allocation: &str| Pins([("e".into(), [("u".into(), pin(allocation))].into())].into());
    let served = |pins: Pins| {
        let set = sound(ramp).with_pins(Arc::new(pins));
        let context = context(&set, json!({"targetingKey": "u"}));
        let answer = evaluate(&set, "f", &context, at("2026-03-05T00:00:00Z")).unwrap();
        (answer.variant.unwrap().key.to_string(), answer.reason)
    };
    assert_eq!(served(Pins::default()), ("b".into(), Reason::Allocated));
    assert_eq!(served(pins("two")), ("a".into(), Reason::Sticky));
    assert_eq!(served(pins("one")), ("b".into(), Reason::Allocated));
}

#[test]
fn percentages_grow_into_allocations() {
    let set = sound("
flags:
  - {key: f, type: boolean, variants: {on: true, off: false}, default_variant: off, rules: [{id: r, experiment: e}]}
experiments:
  - key: e
    allocations:
      - {id: a, valid_from: 2026-01-01, salt: s, weights: {off: 1, on: 1}, ramp: [5, 25, 100], every: 3d}
");
    let steps: Vec<String> = set.experiments[0]
        .allocations
        .iter()
        .map(|step| {
            format!(
                "{} {} {:?}",
                step.id,
                step.valid_from.date_naive(),
                step.split.counts(2)
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            "a.1 2026-01-01 [250, 250]",
            "a.2 2026-01-04 [1250, 1250]",
            "a.3 2026-01-07 [5000, 5000]"
        ]
    );
}

#[test]
fn a_flag_without_a_default_leaves_the_value_to_the_code() {
    let set = sound(
        "
flags:
  - {key: f, type: integer, variants: {one: 1}, rules: [{id: r, when: user_id = 'u', serve: one}]}
",
    );
    let value = |unit: &str| {
        let context = context(&set, json!({ "targetingKey": unit }));
        evaluate(&set, "f", &context, at("2026-01-01T00:00:00Z"))
            .unwrap()
            .value()
            .cloned()
    };
    assert_eq!((value("u"), value("v")), (Some(json!(1)), None));
}

#[test]
fn an_unknown_flag_is_not_found() {
    let set = sound(CHECKOUT);
    let context = context(&set, json!({}));
    let error = evaluate(&set, "nothing", &context, at("2026-01-01T00:00:00Z")).unwrap_err();
    assert_eq!(error, EvaluationError::FlagNotFound);
}

#[test]
fn what_is_not_sound_is_said() {
    let edits = [
        (
            "[[0, 5000]]}",
            "[[0, 5000]]}\n      - {experiment: one_click_pay, ranges: [[4000, 6000]]}",
            "E0606 `one_click_pay` and `one_click_pay` share 1000 buckets of the layer `checkout_page`",
        ),
        (
            "blue: [[500, 750], [3000, 4000]],",
            "blue: [[500, 700], [3000, 4000]],",
            "E0604 `a2` extends `a1` but does not contain it: of 10000 buckets 0 move, 4000 enter, 50 leave",
        ),
        (
            "{control: [[0, 500], [1000, 3000]], blue",
            "{control: [[0, 490], [1000, 3000]], blue",
            "E0604",
        ),
        (
            "[[500, 750], [3000, 4000]]",
            "[[400, 750], [3000, 4000]]",
            "E0606 [400, 750] overlaps [0, 500]",
        ),
        (
            "valid_from: 2026-11-04T08",
            "valid_from: 2026-10-04T08",
            "E0605 `a2` is valid from 2026-10-04 08:00:00 UTC, not after `a1`",
        ),
        (
            "        extends: a2\n",
            "        salt: other\n",
            "E0604 `a3` moves units that `a2` assigned",
        ),
        (
            "salt: h_growth\n",
            "salt: one_click_pay.1\n",
            "E0606 the experiment `one_click_pay` uses the salt `one_click_pay.1` of the holdout `h_growth`",
        ),
        (
            "when: is_employee,",
            "when: is_employee AND NOT is_employee,",
            "E0606 the rule `staff` of `one_click_pay_button` can never match: no context",
        ),
        (
            "when: is_employee,",
            "when: country = 'DE' OR country = 'FR',",
            "E0606 the rule `exp` of `one_click_pay_button` can never match: `staff` before it",
        ),
        (
            "variant: \"on\"}",
            "variant: \"off\"}",
            "E0606 `checkout_v2` never gives `off`",
        ),
        (
            "when: is_employee,",
            "when: is_employe,",
            "E0408 unknown attribute `is_employe`",
        ),
        (
            "when: is_employee,",
            "when: now() > signup_at,",
            "E0408 `now` does not give the same answer twice",
        ),
        (
            "when: is_employee,",
            "when: app_version > '3.2.0',",
            "E0408 a semver cannot be compared with a string",
        ),
        (
            "serve: green",
            "serve: gren",
            "E0207 `one_click_pay_button` has no variant `gren`",
        ),
        (
            "algorithm: md5-mod10000/1",
            "algorithm: md5-mod10000",
            "E0106 unknown algorithm `md5-mod10000`",
        ),
        (
            "default_variant: \"on\"",
            "default_variant: \"on\"\n    prerequisites: [{flag: one_click_pay_button, variant: blue}]",
            "E0606 flags require each other in a circle: `checkout_v2` -> `one_click_pay_button` -> `checkout_v2`",
        ),
        (
            "is_employee: boolean",
            "is_employee: flag",
            "E0106 unknown type `flag` of attribute `is_employee`",
        ),
        (
            "green: \"green\"}",
            "green: 3}",
            "E0104 the value of `green` is no string: 3",
        ),
        (
            "layer: checkout_page\n",
            "layer: checkout\n",
            "E0207 unknown layer `checkout`",
        ),
    ];
    for (from, to, expected) in edits {
        assert!(CHECKOUT.contains(from), "{from}");
        let checked = resolve(&CHECKOUT.replacen(from, to, 1));
        let said: Vec<String> = checked
            .diagnostics
            .iter()
            .map(|diagnostic| format!("{} {}", diagnostic.code, diagnostic.message))
            .collect();
        assert!(
            said.iter().any(|said| said.starts_with(expected)),
            "{from} -> {to}: {said:#?}"
        );
        assert!(
            checked
                .diagnostics
                .iter()
                .all(|diagnostic| diagnostic.span.is_some()),
            "{said:#?}"
        );
    }
}

/// What the diagnostics say of definitions when others were locked.
fn said_when_locked(locked: &str, yaml: &str) -> Vec<String> {
    let text = Lock::of(&sound(locked)).to_string();
    let lock = LockFile::parse("flags/allocations.lock".into(), &text).expect("a lock reads back");
    let spec = serde_saphyr::from_str(yaml).expect("the example is YAML of the right shape");
    let file = "flags/checkout.yml".into();
    let checked = flags::resolve_locked(&[FlagSource { file, spec }], &lock);
    let said = checked.diagnostics.iter().map(|one| {
        assert!(one.span.is_some(), "{one:?}");
        one.message.clone()
    });
    said.collect()
}

#[test]
fn a_merged_allocation_is_never_edited() {
    let said = |yaml: &str| said_when_locked(CHECKOUT, yaml);
    assert!(said(CHECKOUT).is_empty());
    let respelled = CHECKOUT.replace("control: [[0, 500]],", "control: [[0, 200], [200, 500]],");
    assert!(said(&respelled).is_empty(), "the same buckets are no edit");
    let resalted = CHECKOUT.replace("salt: one_click_pay.1", "salt: one_click_pay.2");
    let edited = ["a1", "a2", "a3"].map(|id| {
        format!("the allocation `{id}` of `one_click_pay` was edited after it was merged")
    });
    assert_eq!(said(&resalted), edited);
    let later = CHECKOUT.replace("2026-11-11T08:00:00Z", "2026-11-11T09:00:00+01:00");
    assert!(
        said(&later).is_empty(),
        "the same instant in another zone is no edit"
    );
    let renamed = CHECKOUT.replace("- id: a3", "- id: a4");
    assert_eq!(
        said(&renamed),
        ["the allocation `one_click_pay/a3` was removed after it was merged"]
    );
}

#[test]
fn what_is_merged_around_an_allocation_is_never_edited_either() {
    let edited = |part: &str| vec![format!("{part} was edited after it was merged")];
    let slot = edited("the slot of `one_click_pay` in the layer `checkout_page`");
    let holdout = edited("the holdout `h_growth`");
    let delivery = edited("the unit, layer, holdout or `sticky` of `one_click_pay`");
    let cases = [
        ("ranges: [[0, 5000]]", "ranges: [[0, 5001]]", slot.clone()),
        ("salt: layer.checkout_page.2026", "salt: layer.2027", slot),
        ("holdout: [[0, 200]]", "holdout: [[0, 201]]", {
            let mut said = vec!["[200, 400] overlaps [0, 201]".to_owned()];
            said.extend(holdout.clone());
            said
        }),
        (
            "measured: [[200, 400]]",
            "measured: [[200, 300]]",
            holdout.clone(),
        ),
        ("salt: h_growth", "salt: h_growth.2", holdout.clone()),
        ("from: 2026-07-01T00", "from: 2026-07-02T00", holdout),
        (
            "to: 2026-12-31T00",
            "to: 2027-12-31T00",
            edited("the end of the holdout `h_growth`"),
        ),
        (
            ", to: 2026-12-31T00:00:00Z",
            "",
            vec!["`holdout h_growth end` was removed after it was merged".to_owned()],
        ),
        ("    holdout: h_growth\n", "", delivery.clone()),
        (
            "    hypothesis:",
            "    sticky: first_assignment\n    hypothesis:",
            delivery,
        ),
        (
            "ranges: [[0, 5000]]",
            "ranges: [[0, 2000], [2000, 5000]]",
            vec![],
        ),
    ];
    for (from, to, expected) in cases {
        assert!(CHECKOUT.contains(from), "{from}");
        let yaml = CHECKOUT.replacen(from, to, 1);
        assert_eq!(
            said_when_locked(CHECKOUT, &yaml),
            expected,
            "{from} -> {to}"
        );
    }
}

#[test]
fn a_slot_is_ended_once_and_followed_by_another() {
    let open = "{experiment: one_click_pay, ranges: [[0, 5000]]}";
    let ended =
        "{experiment: one_click_pay, ranges: [[0, 5000]], active: {to: 2026-12-01T00:00:00Z}}";
    let followed = format!(
        "{ended}\n      - {{experiment: one_click_pay, ranges: [[0, 9000]], active: {{from: 2026-12-01T00:00:00Z}}}}"
    );
    let with = |slots: &str| CHECKOUT.replace(open, slots);
    let end = "the end of the slot of `one_click_pay` in the layer `checkout_page`";
    let unlocked = "can still be edited unnoticed: no lock holds what";
    let said = |locked: &str, slots: &str| said_when_locked(&with(locked), &with(slots));
    assert_eq!(said(open, ended), [format!("{end} {unlocked} it says")]);
    assert_eq!(
        said(open, &followed),
        [format!("2 definitions, first {end}, {unlocked} they say")]
    );
    let later = ended.replace("2026-12-01", "2026-12-02");
    assert_eq!(
        said(ended, &later),
        [format!("{end} was edited after it was merged")]
    );
    assert_eq!(
        said(&followed, ended),
        [
            "`slot one_click_pay in checkout_page from 2026-12-01T00:00:00Z` was removed after it was merged"
        ]
    );
}

#[test]
fn a_diff_counts_units_over_all_buckets() {
    let before = sound(CHECKOUT);
    let said = |from: &str, to: &str| -> Vec<String> {
        let after = sound(&CHECKOUT.replacen(from, to, 1));
        flags::changes::changes(&before, &after)
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(said("version: 1", "version: 1"), [""; 0]);
    assert_eq!(
        said("ranges: [[0, 5000]]", "ranges: [[0, 6000]]"),
        [
            "experiment `one_click_pay`: of 10000 buckets of the layer `checkout_page` 1000 enter, 0 leave"
        ]
    );
    let more = "experiments:\n  - key: second\n    allocations: [{id: a, valid_from: 2026-01-01, salt: x, weights: {a: 1}}]";
    assert_eq!(
        said("experiments:", more),
        [
            "experiment `second` is new",
            "experiment `second`: `a` from 2026-01-01T00:00:00Z: of 10000 buckets 0 move, 10000 enter, 0 leave"
        ]
    );
    let stop = "[8750, 10000]]\n      - {id: a4, valid_from: 2026-12-01, salt: two, rebucket: allow(new phase), weights: {blue: 1}}";
    assert_eq!(
        said("[8750, 10000]]", stop),
        [
            "experiment `one_click_pay`: `a4` from 2026-12-01T00:00:00Z after `a3`: of 10000 buckets about 7500 move, about 0 enter, about 0 leave; control -> blue 5000; green -> blue 2500 (allowed: new phase)"
        ]
    );
}

fn assigned(set: &FlagSet, context: &flags::Context, now: DateTime<Utc>) -> Option<String> {
    let answer = evaluate(set, "one_click_pay_button", context, now).unwrap();
    (answer.reason == Reason::Allocated).then(|| answer.variant.unwrap().key.to_string())
}

fn resolve(yaml: &str) -> Checked<FlagSet> {
    let spec = serde_saphyr::from_str(yaml).expect("the example is YAML of the right shape");
    flags::resolve(&[FlagSource {
        file: "flags/checkout.yml".into(),
        spec,
    }])
}

fn sound(yaml: &str) -> FlagSet {
    let checked = resolve(yaml);
    assert!(checked.diagnostics.is_empty(), "{:#?}", checked.diagnostics);
    checked.value
}

fn context(set: &FlagSet, request: serde_json::Value) -> flags::Context {
    set.schema
        .context(request.as_object().expect("a context is an object"))
        .expect("the types are right")
}

fn at(instant: &str) -> DateTime<Utc> {
    instant.parse().expect("an instant")
}
