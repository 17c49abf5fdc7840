//! Our flags as flagd's JSON: one `if` chain of JsonLogic for each flag, with `fractional` where units are split.
//! Periods become comparisons with flagd's timestamp, in whole seconds.

use serde_json::{Value as Json, json};

use super::condition::{self, Affix, Check, Condition, Test};
use super::pieces::{Gate, Piece, pieces};
use super::{Exported, Refusal, flags, forced};
use crate::flags::bucketing::Algorithm;
use crate::flags::context::{Type, Value};
use crate::flags::set::{Flag, FlagSet, Outcome, Period, Rule};
use crate::flags::targeting::{Comparison, version_text};

/// The whole set as a flagd document; the evaluator must implement the version of `fractional` that the algorithms name.
pub fn to_flagd(set: &FlagSet) -> Exported {
    let (flags, report) = flags(set, |flag| Exporter { set, flag }.flag());
    let document = json!({"$schema": "https://flagd.dev/schema/v0/flags.json", "flags": flags});
    Exported { document, report }
}

struct Exporter<'a> {
    set: &'a FlagSet,
    flag: &'a Flag,
}

impl Exporter<'_> {
    fn flag(&self) -> Result<Json, Refusal> {
        if !self.flag.prerequisites.is_empty() {
            return Err("flagd has no prerequisites".to_owned());
        }
        let variants: serde_json::Map<String, Json> = self
            .flag
            .variants
            .iter()
            .map(|variant| (variant.key.to_string(), variant.value.clone()))
            .collect();
        let is_silent = !self.flag.is_enabled && self.flag.default.is_none();
        let mut json =
            json!({"state": if is_silent { "DISABLED" } else { "ENABLED" }, "variants": variants});
        if let Some(default) = self.flag.default_variant() {
            json["defaultVariant"] = json!(default.key);
        }
        let branches = if self.flag.is_enabled {
            self.branches()?
        } else {
            Vec::new()
        };
        if !branches.is_empty() {
            let mut chain: Vec<Json> = branches
                .into_iter()
                .flat_map(|(condition, result)| [condition, result])
                .collect();
            chain.push(Json::Null);
            json["targeting"] = json!({ "if": chain });
        }
        Ok(json)
    }

    /// Conditions and what follows from them; null is the default.
    fn branches(&self) -> Result<Vec<(Json, Json)>, Refusal> {
        let mut branches = Vec::new();
        for (variant, units) in forced(self.flag) {
            let is_forced: Vec<Json> = (0..self.set.schema.kinds().len())
                .map(|kind| json!({"in": [self.unit(kind), units]}))
                .collect();
            branches.push((
                json!({ "or": is_forced }),
                json!(self.flag.variants[variant].key),
            ));
        }
        for rule in &self.flag.rules {
            self.rule(rule, &mut branches)?;
        }
        Ok(branches)
    }

    fn rule(&self, rule: &Rule, branches: &mut Vec<(Json, Json)>) -> Result<(), Refusal> {
        let condition = self.condition(&condition::of_rule(rule.when.as_ref())?)?;
        if let Outcome::Serve(variant) = rule.outcome {
            let when = both(vec![within(rule.active)?, Some(condition)]);
            branches.push((when, json!(self.flag.variants[variant].key)));
            return Ok(());
        }
        for piece in pieces(self.set, rule) {
            let gates = piece
                .gates
                .iter()
                .map(|gate| self.gate(gate, piece.unit).map(Some));
            let mut tests = vec![within(piece.period)?, Some(condition.clone())];
            if let (true, Some(holdout)) = (rule.falls_through, &piece.holdout) {
                let held_out = self.gate(holdout, piece.unit)?;
                branches.push((
                    both([tests.clone(), vec![Some(held_out)]].concat()),
                    Json::Null,
                ));
            }
            tests.extend(gates.collect::<Result<Vec<_>, _>>()?);
            if rule.falls_through {
                let all = Gate {
                    algorithm: piece.algorithm,
                    salt: piece.salt,
                    buckets: piece.buckets,
                    ranges: piece
                        .ranges
                        .iter()
                        .map(|range| (range.start, range.end))
                        .collect(),
                };
                tests.push(Some(self.gate(&all, piece.unit)?));
            }
            branches.push((both(tests), self.split(&piece)?));
        }
        if !rule.falls_through {
            branches.push((
                both(vec![within(rule.active)?, Some(condition)]),
                Json::Null,
            ));
        }
        Ok(())
    }

    fn split(&self, piece: &Piece<'_>) -> Result<Json, Refusal> {
        let named = piece.ranges.iter().map(|range| {
            (
                range.start,
                range.end,
                json!(self.flag.variants[range.target].key),
            )
        });
        self.fractional(
            piece.algorithm,
            piece.salt,
            piece.unit,
            entries(piece.buckets, named, &Json::Null),
        )
    }

    /// True for the buckets of the gate.
    fn gate(&self, gate: &Gate<'_>, unit: usize) -> Result<Json, Refusal> {
        let mut ranges = gate.ranges.clone();
        ranges.sort_unstable();
        let named = ranges
            .into_iter()
            .map(|(start, end)| (start, end, json!(true)));
        self.fractional(
            gate.algorithm,
            gate.salt,
            unit,
            entries(gate.buckets, named, &json!(false)),
        )
    }

    /// Version 3 hashes the flag's key with the targeting key; no other salt can be written.
    fn fractional(
        &self,
        algorithm: Algorithm,
        salt: &str,
        unit: usize,
        entries: Vec<Json>,
    ) -> Result<Json, Refusal> {
        let is_shorthand = salt == &*self.flag.key && unit == 0;
        let mut arguments = match algorithm {
            Algorithm::MurmurFlagd2 | Algorithm::MurmurFlagd3 if is_shorthand => Vec::new(),
            Algorithm::MurmurFlagd2 => vec![json!({"cat": [salt, self.unit(unit)]})],
            Algorithm::MurmurFlagd3 => {
                return Err(format!(
                    "version 3 of fractional salts with the flag's key, not with `{salt}`"
                ));
            }
            other => {
                return Err(format!(
                    "flagd hashes with {}, not with {other}",
                    Algorithm::MurmurFlagd2
                ));
            }
        };
        arguments.extend(entries);
        Ok(json!({ "fractional": arguments }))
    }

    fn unit(&self, kind: usize) -> Json {
        if kind == 0 {
            json!({"var": "targetingKey"})
        } else {
            json!({"var": self.set.schema.kinds()[kind].unit})
        }
    }

    fn condition(&self, condition: &Condition) -> Result<Json, Refusal> {
        let all = |parts: &[Condition]| {
            parts
                .iter()
                .map(|part| self.condition(part))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(match condition {
            Condition::All(parts) if parts.is_empty() => json!(true),
            Condition::All(parts) => json!({"and": all(parts)?}),
            Condition::Any(parts) if parts.is_empty() => json!(false),
            Condition::Any(parts) => json!({"or": all(parts)?}),
            Condition::Test(test) => self.test(test)?,
        })
    }

    /// Whatever JavaScript would make of null is guarded by a test for it.
    fn test(&self, test: &Test) -> Result<Json, Refusal> {
        let is_unit = self
            .set
            .schema
            .kinds()
            .first()
            .is_some_and(|kind| kind.slot == test.slot);
        let subject = if is_unit {
            self.unit(0)
        } else {
            json!({"var": test.name})
        };
        let exists = json!({"!==": [subject, null]});
        let guarded = |check: Json| json!({"and": [exists, check]});
        let list = |values: &[Value]| {
            values
                .iter()
                .map(|value| plain(test.kind, value))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(match &test.check {
            Check::IsNull => json!({"===": [subject, null]}),
            Check::IsNotNull => exists,
            Check::In(values) | Check::NotIn(values) if test.kind == Type::Version => {
                return Err(format!("flagd has no list of {} versions", values.len()));
            }
            Check::In(values) => guarded(json!({"in": [subject, list(values)?]})),
            Check::NotIn(values) => guarded(json!({"!": [{"in": [subject, list(values)?]}]})),
            Check::Compare(operator, value) if test.kind == Type::Version => {
                json!({"sem_ver": [subject, version_operator(*operator), plain(test.kind, value)?]})
            }
            Check::Compare(operator, value) => guarded(
                json!({operator_name(test.kind, *operator)?: [subject, plain(test.kind, value)?]}),
            ),
            Check::Affix {
                place,
                text,
                is_negated,
            } => {
                let holds = match place {
                    Affix::Start => json!({"starts_with": [subject, text]}),
                    Affix::End => json!({"ends_with": [subject, text]}),
                    Affix::Anywhere => json!({"in": [text, subject]}),
                };
                guarded(if *is_negated {
                    json!({ "!": [holds] })
                } else {
                    holds
                })
            }
            Check::Matches { regex, .. } => {
                return Err(format!("flagd has no regular expressions: `{regex}`"));
            }
        })
    }
}

/// The entries of a split in the order of its buckets; what is in no range is `rest`.
fn entries(buckets: u32, ranges: impl Iterator<Item = (u32, u32, Json)>, rest: &Json) -> Vec<Json> {
    let mut entries = Vec::new();
    let mut at = 0;
    for (start, end, value) in ranges {
        if at < start {
            entries.push(json!([rest, start - at]));
        }
        entries.push(json!([value, end - start]));
        at = end;
    }
    if at < buckets {
        entries.push(json!([rest, buckets - at]));
    }
    entries
}

fn both(tests: Vec<Option<Json>>) -> Json {
    let mut tests: Vec<Json> = tests
        .into_iter()
        .flatten()
        .filter(|test| *test != json!(true))
        .collect();
    match tests.len() {
        0 => json!(true),
        1 => tests.remove(0),
        _ => json!({ "and": tests }),
    }
}

fn within(period: Period) -> Result<Option<Json>, Refusal> {
    let is_whole = |instant: &chrono::DateTime<chrono::Utc>| instant.timestamp_subsec_nanos() == 0;
    if ![period.from, period.to].iter().flatten().all(is_whole) {
        return Err("flagd's clock has whole seconds only".to_owned());
    }
    let clock = json!({"var": "$flagd.timestamp"});
    let from = period
        .from
        .map(|from| json!({">=": [clock, from.timestamp()]}));
    let to = period.to.map(|to| json!({"<": [clock, to.timestamp()]}));
    Ok((from.is_some() || to.is_some()).then(|| both(vec![from, to])))
}

fn version_operator(operator: Comparison) -> &'static str {
    match operator {
        Comparison::Equal => "=",
        Comparison::NotEqual => "!=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

fn operator_name(kind: Type, operator: Comparison) -> Result<&'static str, Refusal> {
    Ok(match operator {
        Comparison::Equal => "===",
        Comparison::NotEqual => "!==",
        _ if matches!(kind, Type::Text | Type::Boolean) => {
            return Err(format!("flagd orders a {kind} otherwise"));
        }
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    })
}

fn plain(kind: Type, value: &Value) -> Result<Json, Refusal> {
    match (kind, value) {
        (Type::Version, Value::Text(key)) => Ok(json!(version_text(key))),
        (_, Value::Text(text)) => Ok(json!(text)),
        (_, Value::Boolean(boolean)) => Ok(json!(boolean)),
        (_, Value::Integer(integer)) => Ok(json!(integer)),
        (_, Value::Float(float)) => Ok(json!(float)),
        (kind, _) => Err(format!("flagd cannot compare a {kind}")),
    }
}
