//! GrowthBook features: rules become rules that fall through, experiments become rollouts.

use serde_json::{Map, Value as Json, json};

use super::{
    Draft, Imported, Refusal, Variants, all, any, in_ranges, items, literal, literals, not_true,
    rule, text,
};
use crate::flags::bucketing::Algorithm;
use crate::flags::context::Type;
use crate::flags::import::growthbook::get_bucket_ranges;
use crate::flags::import::javascript::{self, is_truthy};
use crate::flags::targeting::quoted;

/// Carries features over. The unit is the attribute `id`; other hash attributes become units of their own.
pub fn from_growthbook(body: &Json) -> Imported {
    let mut draft = Draft::new("user", "id");
    let groups = body["savedGroups"].as_object().cloned().unwrap_or_default();
    for (key, feature) in body["features"].as_object().into_iter().flatten() {
        draft.add(key, |draft| {
            Carrier {
                draft,
                groups: &groups,
                key,
                variants: Variants::default(),
            }
            .carry(feature)
        });
    }
    draft.finish()
}

struct Carrier<'a> {
    draft: &'a mut Draft,
    groups: &'a Map<String, Json>,
    key: &'a str,
    variants: Variants,
}

impl Carrier<'_> {
    fn carry(mut self, feature: &Json) -> Result<Json, Refusal> {
        let default = match &feature["defaultValue"] {
            Json::Null => None,
            value => Some(self.variants.of(value)),
        };
        let mut rules = Vec::new();
        for (index, rule) in items(&feature["rules"]).iter().enumerate() {
            let id = rule["id"]
                .as_str()
                .filter(|id| !id.is_empty())
                .map_or_else(|| format!("rule_{}", index + 1), str::to_owned);
            rules.extend(self.rule(&id, rule)?);
        }
        if self.variants.0.is_empty() {
            return Err("it has no value".to_owned());
        }
        let mut flag = json!({"key": self.key, "type": self.variants.kind()?, "variants": self.variants.to_json(), "rules": rules});
        if let Some(default) = default {
            flag["default_variant"] = json!(default);
        }
        Ok(flag)
    }

    fn rule(&mut self, id: &str, rule: &Json) -> Result<Option<Json>, Refusal> {
        if !items(&rule["parentConditions"]).is_empty() {
            return Err(
                "a prerequisite that fails gives null there and the default here".to_owned(),
            );
        }
        if rule.get("contextualBanditRef").is_some() {
            return Err("a contextual bandit changes its weights by itself".to_owned());
        }
        let mut tests = Vec::new();
        if is_truthy(&rule["condition"]) {
            tests.extend(self.condition(&rule["condition"])?);
        }
        for filter in items(&rule["filters"]) {
            tests.push(self.filter(filter)?);
        }
        let carried = match (rule.get("force"), rule.get("variations")) {
            (Some(value), _) => self.force(id, rule, value, tests)?,
            (None, Some(variations)) => self.experiment(id, rule, items(variations), tests)?,
            (None, None) => None,
        };
        Ok(carried.map(|mut rule| {
            rule["otherwise"] = json!("next");
            rule
        }))
    }

    fn force(
        &mut self,
        id: &str,
        given: &Json,
        value: &Json,
        tests: Vec<String>,
    ) -> Result<Option<Json>, Refusal> {
        if value.is_null() {
            return Err("it forces null, which is no value here".to_owned());
        }
        let variant = self.variants.of(value);
        let (range, coverage) = (&given["range"], given["coverage"].as_f64());
        if range.is_null() && coverage.is_none() {
            return Ok(Some(rule(id, all(&tests), ("serve", json!(variant)))));
        }
        let Some(algorithm) = algorithm(given) else {
            return Ok(None);
        };
        let buckets = algorithm.buckets();
        let inside = |fraction: f64| match (pair(range), coverage) {
            (Some((start, end)), _) => fraction >= start && fraction < end,
            // A coverage of exactly the fraction is included, except for none at all.
            (None, Some(coverage)) => coverage != 0.0 && fraction <= coverage,
            (None, None) => true,
        };
        let ranges = covered(buckets, inside);
        let salt = given["seed"]
            .as_str()
            .filter(|seed| !seed.is_empty())
            .unwrap_or(self.key)
            .to_owned();
        self.split(id, given, &salt, algorithm, vec![(variant, ranges)], tests)
    }

    fn experiment(
        &mut self,
        id: &str,
        given: &Json,
        variations: &[Json],
        mut tests: Vec<String>,
    ) -> Result<Option<Json>, Refusal> {
        if items(&given["meta"])
            .iter()
            .any(|meta| is_truthy(&meta["passthrough"]))
        {
            return Err("a variation that passes units on has no counterpart".to_owned());
        }
        let Some(algorithm) = algorithm(given).filter(|_| variations.len() > 1) else {
            return Ok(None);
        };
        let (key, seed) = (
            given["key"].as_str().unwrap_or(self.key).to_owned(),
            given["seed"].as_str(),
        );
        let salt = seed
            .filter(|seed| !seed.is_empty())
            .unwrap_or(&key)
            .to_owned();
        if let ([name, start, end], true) = (items(&given["namespace"]), given["filters"].is_null())
        {
            tests.push(self.namespace(given, text(name)?, start.as_f64(), end.as_f64())?);
        }
        let weights: Option<Vec<f64>> = given["weights"]
            .as_array()
            .map(|weights| weights.iter().filter_map(Json::as_f64).collect());
        let fractions = match &given["ranges"] {
            Json::Array(ranges) => ranges.iter().filter_map(pair).collect(),
            _ => get_bucket_ranges(
                variations.len(),
                given["coverage"].as_f64().unwrap_or(1.0),
                weights.as_deref(),
            ),
        };
        let mut taken: Vec<(f64, f64)> = Vec::new();
        let mut splits: Vec<(String, Vec<(u32, u32)>)> = Vec::new();
        for (value, range) in variations.iter().zip(fractions) {
            if value.is_null() {
                return Err("a variation is null, which is no value here".to_owned());
            }
            let earlier = taken.clone();
            // The first range that has the fraction decides.
            let inside = move |fraction: f64| {
                let within = |(start, end): (f64, f64)| fraction >= start && fraction < end;
                within(range) && !earlier.iter().any(|other| within(*other))
            };
            splits.push((
                self.variants.of(value),
                covered(algorithm.buckets(), inside),
            ));
            taken.push(range);
        }
        self.draft.note(
            self.key,
            &format!(
                "the experiment `{key}` is a rollout here: give it an experiment to analyse it"
            ),
        );
        self.split(id, given, &salt, algorithm, splits, tests)
    }

    /// A unit without the attribute looks at the next rule.
    fn split(
        &mut self,
        id: &str,
        given: &Json,
        salt: &str,
        algorithm: Algorithm,
        splits: Vec<(String, Vec<(u32, u32)>)>,
        mut tests: Vec<String>,
    ) -> Result<Option<Json>, Refusal> {
        let unit = given["hashAttribute"]
            .as_str()
            .filter(|unit| !unit.is_empty())
            .unwrap_or("id");
        let kind = self.draft.kind(unit)?;
        let name = self.draft.attribute(unit, Type::Text)?;
        tests.push(format!("{name} <> ''"));
        let mut by_variant = Map::new();
        for (variant, ranges) in splits {
            let known = by_variant.entry(variant).or_insert_with(|| json!([]));
            if let Some(known) = known.as_array_mut() {
                known.extend(ranges.iter().map(|range| json!(range)));
            }
        }
        let rollout =
            json!({"unit": kind, "algorithm": algorithm.id(), "salt": salt, "split": by_variant});
        Ok(Some(rule(id, all(&tests), ("rollout", rollout))))
    }

    fn filter(&mut self, filter: &Json) -> Result<String, Refusal> {
        let unit = filter["attribute"].as_str().unwrap_or("id");
        self.draft.kind(unit)?;
        let name = self.draft.attribute(unit, Type::Text)?;
        let algorithm = match filter["hashVersion"].as_f64() {
            Some(1.0) => Algorithm::FnvGrowthbook1,
            None | Some(2.0) => Algorithm::FnvGrowthbook2,
            Some(_) => return Ok("false".to_owned()),
        };
        let ranges: Vec<(f64, f64)> = items(&filter["ranges"]).iter().filter_map(pair).collect();
        let inside = |fraction: f64| {
            ranges
                .iter()
                .any(|(start, end)| fraction >= *start && fraction < *end)
        };
        let bucket = format!(
            "bucket('{algorithm}', {}, {name})",
            quoted(text(&filter["seed"])?)
        );
        Ok(format!(
            "{name} <> '' AND ({})",
            in_ranges(&bucket, &covered(algorithm.buckets(), inside))
        ))
    }

    fn namespace(
        &mut self,
        given: &Json,
        name: &str,
        start: Option<f64>,
        end: Option<f64>,
    ) -> Result<String, Refusal> {
        let unit = given["hashAttribute"]
            .as_str()
            .filter(|unit| !unit.is_empty())
            .unwrap_or("id");
        self.draft.kind(unit)?;
        let attribute = self.draft.attribute(unit, Type::Text)?;
        let (start, end) = start.zip(end).ok_or("a namespace without a range")?;
        let bucket = format!(
            "bucket('fnv1a-gb/1', {}, {attribute})",
            quoted(&format!("__{name}"))
        );
        Ok(in_ranges(
            &bucket,
            &covered(1_000, |fraction| fraction >= start && fraction < end),
        ))
    }

    /// Leaves may be unknown where GrowthBook says false; negations count unknown as false.
    fn condition(&mut self, condition: &Json) -> Result<Option<String>, Refusal> {
        let mut tests = Vec::new();
        for (key, part) in condition.as_object().into_iter().flatten() {
            let always = || "true".to_owned();
            tests.push(match key.as_str() {
                "$and" => all(&self.parts(part)?).unwrap_or_else(always),
                "$or" => any(&self.parts(part)?).unwrap_or_else(always),
                "$nor" => not_true(&any(&self.parts(part)?).unwrap_or_else(always)),
                "$not" => not_true(&self.condition(part)?.unwrap_or_else(always)),
                "$savedGroup" => return Err("a saved group that is a condition".to_owned()),
                path => self.value(path, part)?,
            });
        }
        Ok(all(&tests))
    }

    fn parts(&mut self, parts: &Json) -> Result<Vec<String>, Refusal> {
        items(parts)
            .iter()
            .map(|part| Ok(self.condition(part)?.unwrap_or_else(|| "true".to_owned())))
            .collect()
    }

    fn value(&mut self, path: &str, wanted: &Json) -> Result<String, Refusal> {
        match wanted {
            Json::Null => Ok(format!("{} IS NULL", self.draft.any_attribute(path)?)),
            Json::String(text) => Ok(format!(
                "{} = {}",
                self.draft.attribute(path, Type::Text)?,
                quoted(text)
            )),
            Json::Number(number) => Ok(format!(
                "coalesce({}, 0) = {number}",
                self.draft.attribute(path, Type::Float)?
            )),
            Json::Bool(boolean) => Ok(format!(
                "{} = {boolean}",
                self.draft.attribute(path, Type::Boolean)?
            )),
            Json::Object(operators)
                if operators.keys().all(|key| key.starts_with('$')) && !operators.is_empty() =>
            {
                let tests: Vec<String> = operators
                    .iter()
                    .map(|(operator, expected)| self.operator(path, operator, expected))
                    .collect::<Result<_, _>>()?;
                Ok(all(&tests).unwrap_or_default())
            }
            other => Err(format!("`{path}` is compared with {other}")),
        }
    }

    fn operator(&mut self, path: &str, operator: &str, expected: &Json) -> Result<String, Refusal> {
        match operator {
            "$eq" | "$ne" => {
                let (value, kind) = literal(expected)
                    .ok_or_else(|| format!("`{path}` is compared with {expected}"))?;
                let attribute = self.draft.attribute(path, kind)?;
                Ok(if operator == "$eq" {
                    format!("{attribute} = {value}")
                } else {
                    format!("{attribute} IS DISTINCT FROM {value}")
                })
            }
            "$gt" | "$gte" | "$lt" | "$lte" => self.ordered(path, operator, expected),
            "$in" => self.membership(path, items(expected)),
            "$nin" => Ok(not_true(&self.membership(path, items(expected))?)),
            "$inGroup" | "$notInGroup" => {
                let group = self
                    .groups
                    .get(text(expected)?)
                    .map_or(&[][..], items)
                    .to_vec();
                let inside = self.membership(path, &group)?;
                Ok(if operator == "$inGroup" {
                    inside
                } else {
                    not_true(&inside)
                })
            }
            "$exists" => {
                let attribute = self.draft.any_attribute(path)?;
                Ok(format!(
                    "{attribute} IS {}NULL",
                    if is_truthy(expected) { "NOT " } else { "" }
                ))
            }
            "$regex" => {
                let attribute = self.draft.attribute(path, Type::Text)?;
                Ok(format!(
                    "regexp_like(coalesce({attribute}, 'null'), {})",
                    quoted(&javascript::regex(text(expected)?))
                ))
            }
            "$not" => Ok(not_true(&self.value(path, expected)?)),
            "$elemMatch" => match expected.get("$eq").and_then(Json::as_str) {
                Some(item) => {
                    let attribute = self.draft.attribute(path, Type::Texts)?;
                    Ok(format!("array_has({attribute}, {})", quoted(item)))
                }
                None => Err(format!("`$elemMatch` with {expected}")),
            },
            "$all" => {
                let wanted = items(expected)
                    .iter()
                    .map(|item| Ok(quoted(text(item)?)))
                    .collect::<Result<Vec<_>, Refusal>>()?;
                let attribute = self.draft.attribute(path, Type::Texts)?;
                let tests: Vec<String> = wanted
                    .iter()
                    .map(|item| format!("array_has({attribute}, {item})"))
                    .collect();
                Ok(all(&tests).unwrap_or_else(|| format!("{attribute} IS NOT NULL")))
            }
            "$veq" | "$vne" | "$vgt" | "$vgte" | "$vlt" | "$vlte" => Err(
                "versions are compared as padded texts there, which differs for short ones"
                    .to_owned(),
            ),
            other => Err(format!("`{other}` has no counterpart")),
        }
    }

    /// A missing number counts as 0, as in JavaScript.
    fn ordered(&mut self, path: &str, operator: &str, expected: &Json) -> Result<String, Refusal> {
        let sign = match operator {
            "$gt" => ">",
            "$gte" => ">=",
            "$lt" => "<",
            _ => "<=",
        };
        match expected {
            Json::Number(number) => Ok(format!(
                "coalesce({}, 0) {sign} {number}",
                self.draft.attribute(path, Type::Float)?
            )),
            Json::String(text) => Ok(format!(
                "{} {sign} {}",
                self.draft.attribute(path, Type::Text)?,
                quoted(text)
            )),
            other => Err(format!("`{path}` is ordered against {other}")),
        }
    }

    fn membership(&mut self, path: &str, values: &[Json]) -> Result<String, Refusal> {
        if values.is_empty() {
            return Ok("false".to_owned());
        }
        let (list, kind) = literals(values)
            .ok_or_else(|| format!("`{path}` is looked up in values of several types"))?;
        if self.draft.attributes.get(path) == Some(&Type::Texts) && kind == Type::Text {
            let attribute = self.draft.attribute(path, Type::Texts)?;
            let items: Vec<String> = list
                .split(", ")
                .map(|item| format!("array_has({attribute}, {item})"))
                .collect();
            return Ok(any(&items).unwrap_or_default());
        }
        Ok(format!("{} IN ({list})", self.draft.attribute(path, kind)?))
    }
}

fn algorithm(given: &Json) -> Option<Algorithm> {
    match given["hashVersion"]
        .as_f64()
        .filter(|version| *version != 0.0)
        .unwrap_or(1.0)
    {
        1.0 => Some(Algorithm::FnvGrowthbook1),
        2.0 => Some(Algorithm::FnvGrowthbook2),
        _ => None,
    }
}

fn pair(value: &Json) -> Option<(f64, f64)> {
    match value.as_array()?.as_slice() {
        [start, end, ..] => Some((start.as_f64()?, end.as_f64()?)),
        _ => None,
    }
}

/// The buckets whose fractions pass, as ranges: exact, because there are so few.
fn covered(buckets: u32, inside: impl Fn(f64) -> bool) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for bucket in (0..buckets).filter(|bucket| inside(f64::from(*bucket) / f64::from(buckets))) {
        match ranges.last_mut() {
            Some(last) if last.1 == bucket => last.1 += 1,
            _ => ranges.push((bucket, bucket + 1)),
        }
    }
    ranges
}
