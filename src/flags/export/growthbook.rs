//! Our flags as GrowthBook features, as they are at one instant: GrowthBook has no schedule.

use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use super::condition::{self, Check, Condition, Test, affix_regex};
use super::pieces::{Gate, Piece, pieces};
use super::{Exported, Refusal, flags, forced};
use crate::flags::bucketing::Algorithm;
use crate::flags::context::{Type, Value};
use crate::flags::set::{Flag, FlagSet, Outcome, Rule};
use crate::flags::targeting::{Comparison, version_text};

/// The features endpoint's body. Units are the attributes that the contexts name; a flag without a default gives null.
pub fn to_growthbook(set: &FlagSet, now: DateTime<Utc>) -> Exported {
    let (mut features, mut report) = flags(set, |flag| Exporter { set, now }.feature(flag));
    drop_orphans(set, &mut features, &mut report);
    Exported {
        document: json!({"status": 200, "features": features, "dateUpdated": now.to_rfc3339()}),
        report,
    }
}

/// A feature whose prerequisite is not exported cannot be either.
fn drop_orphans(
    set: &FlagSet,
    features: &mut serde_json::Map<String, Json>,
    report: &mut Vec<super::NotCarried>,
) {
    loop {
        let orphan = set.flags.iter().find_map(|flag| {
            let missing = flag
                .prerequisites
                .iter()
                .find(|wanted| !features.contains_key(&*set.flags[wanted.flag].key))?;
            features.contains_key(&*flag.key).then(|| {
                (
                    flag.key.to_string(),
                    set.flags[missing.flag].key.to_string(),
                )
            })
        });
        let Some((flag, parent)) = orphan else { return };
        features.remove(&flag);
        report.push(super::NotCarried {
            flag,
            reason: format!("its prerequisite `{parent}` is not exported"),
        });
    }
}

struct Exporter<'a> {
    set: &'a FlagSet,
    now: DateTime<Utc>,
}

impl Exporter<'_> {
    fn feature(&self, flag: &Flag) -> Result<Json, Refusal> {
        let default = flag
            .default
            .map_or(Json::Null, |default| flag.variants[default].value.clone());
        let mut rules = Vec::new();
        if flag.is_enabled {
            for wanted in &flag.prerequisites {
                let parent = &self.set.flags[wanted.flag];
                let value = &parent.variants[wanted.variant].value;
                if value.is_object() || value.is_array() {
                    return Err("a prerequisite with an object cannot be compared".to_owned());
                }
                let failed = json!({"id": parent.key, "condition": {"value": {"$ne": value}}});
                rules.push(
                    json!({"id": "prerequisite", "parentConditions": [failed], "force": default}),
                );
            }
            for (variant, units) in forced(flag) {
                let condition: Vec<Json> = self
                    .set
                    .schema
                    .kinds()
                    .iter()
                    .map(|kind| json!({&*kind.unit: {"$in": units}}))
                    .collect();
                let value = &flag.variants[variant].value;
                rules
                    .push(json!({"id": "forced", "condition": {"$or": condition}, "force": value}));
            }
            for rule in flag
                .rules
                .iter()
                .filter(|rule| rule.active.contains(self.now))
            {
                self.rule(flag, rule, &default, &mut rules)?;
            }
        }
        Ok(json!({"defaultValue": default, "rules": rules}))
    }

    fn rule(
        &self,
        flag: &Flag,
        rule: &Rule,
        default: &Json,
        rules: &mut Vec<Json>,
    ) -> Result<(), Refusal> {
        let condition = self.condition(&condition::of_rule(rule.when.as_ref())?)?;
        let forced = |value: &Json| json!({"id": rule.id, "condition": condition, "force": value});
        if let Outcome::Serve(variant) = rule.outcome {
            rules.push(forced(&flag.variants[variant].value));
            return Ok(());
        }
        for piece in pieces(self.set, rule)
            .iter()
            .filter(|piece| piece.period.contains(self.now))
        {
            rules.extend(self.split(flag, rule, piece, &condition)?);
            if let (true, Some(holdout)) = (rule.falls_through, &piece.holdout) {
                let mut held_out = forced(default);
                held_out["filters"] = json!([self.filter(holdout, piece.unit)?]);
                rules.push(held_out);
            }
        }
        if !rule.falls_through {
            rules.push(forced(default));
        }
        Ok(())
    }

    /// One variation for each range: GrowthBook's ranges and variations go in pairs. A single range is a rollout.
    fn split(
        &self,
        flag: &Flag,
        rule: &Rule,
        piece: &Piece<'_>,
        condition: &Json,
    ) -> Result<Option<Json>, Refusal> {
        let fraction = |bucket: u32| f64::from(bucket) / f64::from(piece.buckets);
        let ranges: Vec<Json> = piece
            .ranges
            .iter()
            .map(|range| json!([fraction(range.start), fraction(range.end)]))
            .collect();
        let values: Vec<&Json> = piece
            .ranges
            .iter()
            .map(|range| &flag.variants[range.target].value)
            .collect();
        let meta: Vec<Json> = piece
            .ranges
            .iter()
            .map(|range| json!({"key": flag.variants[range.target].key}))
            .collect();
        let filters: Vec<Json> = piece
            .gates
            .iter()
            .map(|gate| self.filter(gate, piece.unit))
            .collect::<Result<_, _>>()?;
        let mut json = json!({
            "id": rule.id,
            "condition": condition,
            "seed": piece.salt,
            "hashVersion": hash_version(piece.algorithm)?,
            "hashAttribute": self.set.schema.kinds()[piece.unit].unit,
            "filters": filters,
        });
        match (values.as_slice(), ranges.as_slice()) {
            ([], _) => return Ok(None),
            ([value], [range]) => {
                json["force"] = (*value).clone();
                json["range"] = range.clone();
            }
            _ => {
                json["key"] = match rule.outcome {
                    Outcome::Experiment { experiment, .. } => {
                        json!(self.set.experiments[experiment].key)
                    }
                    _ => json!(rule.id),
                };
                json["variations"] = json!(values);
                json["meta"] = json!(meta);
                json["ranges"] = json!(ranges);
                json["phase"] = json!(piece.name);
            }
        }
        Ok(Some(json))
    }

    fn filter(&self, gate: &Gate<'_>, unit: usize) -> Result<Json, Refusal> {
        let fraction = |bucket: u32| f64::from(bucket) / f64::from(gate.buckets);
        let ranges: Vec<Json> = gate
            .ranges
            .iter()
            .map(|(start, end)| json!([fraction(*start), fraction(*end)]))
            .collect();
        Ok(json!({
            "seed": gate.salt,
            "ranges": ranges,
            "hashVersion": hash_version(gate.algorithm)?,
            "attribute": self.set.schema.kinds()[unit].unit,
        }))
    }

    /// Every test also asks that the attribute exists, because GrowthBook compares null as JavaScript does.
    fn condition(&self, condition: &Condition) -> Result<Json, Refusal> {
        let all = |parts: &[Condition]| {
            parts
                .iter()
                .map(|part| self.condition(part))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(match condition {
            Condition::All(parts) if parts.is_empty() => json!({}),
            Condition::All(parts) => json!({"$and": all(parts)?}),
            Condition::Any(parts) if parts.is_empty() => json!({"$nor": [{}]}),
            Condition::Any(parts) => json!({"$or": all(parts)?}),
            Condition::Test(test) => json!({&*test.name: operators(test)?}),
        })
    }
}

fn hash_version(algorithm: Algorithm) -> Result<u32, Refusal> {
    match algorithm {
        Algorithm::FnvGrowthbook1 => Ok(1),
        Algorithm::FnvGrowthbook2 => Ok(2),
        other => Err(format!(
            "GrowthBook hashes with {}, not with {other}",
            Algorithm::FnvGrowthbook2
        )),
    }
}

fn operators(test: &Test) -> Result<Json, Refusal> {
    let with = |operator: &str, value: Json| Ok(json!({operator: value, "$exists": true}));
    let values = |values: &[Value]| {
        values
            .iter()
            .map(|value| plain(test.kind, value))
            .collect::<Result<Vec<_>, _>>()
    };
    let regex = |regex: &str, is_negated: bool| match is_negated {
        true => with("$not", json!({ "$regex": regex })),
        false => with("$regex", json!(regex)),
    };
    match &test.check {
        Check::IsNull => Ok(json!({"$exists": false})),
        Check::IsNotNull => Ok(json!({"$exists": true})),
        Check::In(list) | Check::NotIn(list) if test.kind == Type::Version => {
            Err(format!("GrowthBook has no list of {} versions", list.len()))
        }
        Check::In(list) => with("$in", json!(values(list)?)),
        Check::NotIn(list) => with("$nin", json!(values(list)?)),
        Check::Compare(operator, value) => with(
            operator_name(test.kind, *operator)?,
            plain(test.kind, value)?,
        ),
        Check::Affix {
            place,
            text,
            is_negated,
        } => regex(&affix_regex(*place, text), *is_negated),
        Check::Matches {
            regex: pattern,
            is_negated,
        } => regex(pattern, *is_negated),
    }
}

fn operator_name(kind: Type, operator: Comparison) -> Result<&'static str, Refusal> {
    let index = match operator {
        Comparison::Equal => 0,
        Comparison::NotEqual => 1,
        Comparison::Less => 2,
        Comparison::LessOrEqual => 3,
        Comparison::Greater => 4,
        Comparison::GreaterOrEqual => 5,
    };
    match kind {
        Type::Version => Ok(["$veq", "$vne", "$vlt", "$vlte", "$vgt", "$vgte"][index]),
        Type::Text | Type::Boolean if index > 1 => {
            Err(format!("GrowthBook orders a {kind} otherwise"))
        }
        _ => Ok(["$eq", "$ne", "$lt", "$lte", "$gt", "$gte"][index]),
    }
}

fn plain(kind: Type, value: &Value) -> Result<Json, Refusal> {
    match (kind, value) {
        (Type::Version, Value::Text(key)) => Ok(json!(version_text(key))),
        (_, Value::Text(text)) => Ok(json!(text)),
        (_, Value::Boolean(boolean)) => Ok(json!(boolean)),
        (_, Value::Integer(integer)) => Ok(json!(integer)),
        (_, Value::Float(float)) => Ok(json!(float)),
        (kind, _) => Err(format!("GrowthBook cannot compare a {kind}")),
    }
}
