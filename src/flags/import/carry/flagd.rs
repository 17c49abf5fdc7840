//! flagd's flags: an `if` chain of JsonLogic becomes rules, `fractional` becomes rollouts.

use serde_json::{Map, Value as Json, json};

use super::{
    Draft, Imported, Refusal, Variants, all, any, items, literal, literals, not_true, rule, text,
};
use crate::flags::bucketing::Algorithm;
use crate::flags::context::Type;
use crate::flags::import::flagd::{FlagdFlags, FractionalVersion};
use crate::flags::targeting::{identifier, quoted};

/// Carries a flag set over; `version` is the one that the flags have been evaluated with so far.
pub fn from_flagd(body: &Json, version: FractionalVersion) -> Imported {
    let mut draft = Draft::new("user", "targetingKey");
    for (key, flag) in FlagdFlags::read(body).flags() {
        draft.add(key, |draft| {
            Carrier {
                draft,
                key,
                flag,
                version,
            }
            .carry()
        });
    }
    draft.finish()
}

struct Carrier<'a> {
    draft: &'a mut Draft,
    key: &'a str,
    flag: &'a Json,
    version: FractionalVersion,
}

/// What a branch of the chain leads to.
enum Leaf {
    Variant(String),
    Default,
    Rollout(Rollout),
}

/// A split, and what units without an identifier get: flagd hashes them too.
struct Rollout {
    json: Json,
    unit: String,
    /// For no identifier and for an empty one; none is the default.
    without: [Option<String>; 2],
}

impl Carrier<'_> {
    fn carry(mut self) -> Result<Json, Refusal> {
        if self.flag["state"] == json!("DISABLED") && !self.default_variant().is_null() {
            self.draft.note(
                self.key,
                "a disabled flag gives the value in the code there and its default here",
            );
        }
        let variants = Variants(
            self.flag["variants"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        );
        let mut branches = Vec::new();
        if self.flag["targeting"]
            .as_object()
            .is_some_and(|rule| !rule.is_empty())
        {
            self.branches(
                &self.flag["targeting"].clone(),
                &mut Vec::new(),
                &mut branches,
            )?;
        }
        let rules = self.rules(branches)?;
        let state = if self.flag["state"] == json!("DISABLED") {
            "disabled"
        } else {
            "enabled"
        };
        let mut flag = json!({"key": self.key, "type": variants.kind()?, "state": state, "variants": variants.to_json(), "rules": rules});
        let default = self.default_variant();
        if !default.is_null() {
            flag["default_variant"] = default;
        }
        Ok(flag)
    }

    fn default_variant(&self) -> Json {
        let stated = self
            .flag
            .get("defaultVariant")
            .or_else(|| self.flag.get("default_variant"));
        stated
            .filter(|name| **name != json!(""))
            .cloned()
            .unwrap_or_default()
    }

    /// Walks the chain; `path` holds the conditions that led here.
    fn branches(
        &mut self,
        rule: &Json,
        path: &mut Vec<String>,
        found: &mut Vec<(Option<String>, Leaf)>,
    ) -> Result<(), Refusal> {
        let Some(Json::Array(parts)) = rule.get("if") else {
            found.push((all(path), self.leaf(rule)?));
            return Ok(());
        };
        let mut rest = parts.as_slice();
        while let [condition, result, others @ ..] = rest {
            path.push(self.condition(condition)?);
            self.branches(result, path, found)?;
            path.pop();
            rest = others;
        }
        self.branches(rest.first().unwrap_or(&Json::Null), path, found)
    }

    fn leaf(&mut self, rule: &Json) -> Result<Leaf, Refusal> {
        match rule {
            Json::Null => Ok(Leaf::Default),
            Json::String(name) => Ok(Leaf::Variant(name.clone())),
            Json::Bool(boolean) => Ok(Leaf::Variant(boolean.to_string())),
            Json::Object(_) if rule.get("fractional").is_some() => self
                .fractional(items(&rule["fractional"]))
                .map(Leaf::Rollout),
            other => Err(format!("the result {other} is calculated")),
        }
    }

    fn rules(&mut self, branches: Vec<(Option<String>, Leaf)>) -> Result<Vec<Json>, Refusal> {
        let default = self.default_variant();
        let last = branches.len();
        let mut rules = Vec::new();
        for (index, (when, leaf)) in branches.into_iter().enumerate() {
            let id = format!("rule_{}", index + 1);
            match leaf {
                Leaf::Default if index + 1 == last && when.is_none() => {}
                Leaf::Default if default.is_null() => {
                    return Err(
                        "a branch ends without a value, and the flag has no default".to_owned()
                    );
                }
                Leaf::Default => rules.push(rule(&id, when, ("serve", default.clone()))),
                Leaf::Variant(name) if self.flag["variants"].get(&name).is_none() => {
                    return Err(format!("a branch gives `{name}`, which is no variant"));
                }
                Leaf::Variant(name) => rules.push(rule(&id, when, ("serve", json!(name)))),
                Leaf::Rollout(rollout) => {
                    rules.extend(self.split_rules(&id, when, rollout, &default))
                }
            }
        }
        Ok(rules)
    }

    /// The split for units that have an identifier; before it what the others get.
    fn split_rules(
        &mut self,
        id: &str,
        when: Option<String>,
        rollout: Rollout,
        default: &Json,
    ) -> Vec<Json> {
        let unit = identifier(&rollout.unit);
        let mut rules = Vec::new();
        let missing = [
            ("missing", format!("{unit} IS NULL")),
            ("empty", format!("{unit} = ''")),
        ];
        for ((name, test), variant) in missing.into_iter().zip(rollout.without) {
            let variant = variant.map_or_else(|| default.clone(), Json::from);
            if variant.is_null() {
                let text = format!(
                    "without `{}` the value in the code counts there, and it is an error here",
                    rollout.unit
                );
                self.draft.note(self.key, &text);
                continue;
            }
            let tests: Vec<String> = when.iter().cloned().chain([test]).collect();
            rules.push(rule(
                &format!("{id}.{name}"),
                all(&tests),
                ("serve", variant),
            ));
        }
        rules.push(rule(id, when, ("rollout", rollout.json)));
        rules
    }

    fn fractional(&mut self, arguments: &[Json]) -> Result<Rollout, Refusal> {
        let (salt, unit, entries) = match arguments {
            [Json::Array(_), ..] => (self.key.to_owned(), "targetingKey".to_owned(), arguments),
            [first, entries @ ..] if self.version == FractionalVersion::Two => {
                let (salt, unit) = self.seed(first)?;
                (salt, unit, entries)
            }
            _ => {
                return Err(
                    "version 3 of fractional over another value than the targeting key".to_owned(),
                );
            }
        };
        let algorithm = match self.version {
            FractionalVersion::Two => Algorithm::MurmurFlagd2,
            FractionalVersion::Three => Algorithm::MurmurFlagd3,
        };
        let mut split: Map<String, Json> = Map::new();
        let mut end = 0_u64;
        for entry in entries {
            let (variant, weight) = weighted(entry)?;
            let range = json!([end, end + weight]);
            end += weight;
            let Some(name) = variant.filter(|_| weight > 0) else {
                continue;
            };
            if let Some(ranges) = split
                .entry(name)
                .or_insert_with(|| json!([]))
                .as_array_mut()
            {
                ranges.push(range);
            }
        }
        if end == 0 || end > i32::MAX as u64 {
            return Err("its weights cannot be used".to_owned());
        }
        let variant = |bucket: u32| {
            let has = |range: &Json| {
                range[0].as_u64() <= Some(bucket.into())
                    && Some(u64::from(bucket)) < range[1].as_u64()
            };
            split
                .iter()
                .find(|(_, ranges)| items(ranges).iter().any(has))
                .map(|(name, _)| name.clone())
        };
        let hashed = |unit: &str| variant(algorithm.bucket_of(&salt, unit, end as u32).index);
        // A variable alone that is missing is no value to hash; in a `cat` it is the text `null`.
        let is_shorthand = matches!(arguments, [Json::Array(_), ..]);
        let is_alone = arguments
            .first()
            .is_some_and(|first| first.get("var").is_some());
        let without = match (is_shorthand, is_alone) {
            (true, _) => [None, None],
            (false, true) => [None, hashed("")],
            (false, false) => [hashed("null"), hashed("")],
        };
        let json = json!({
            "unit": self.draft.kind(&unit)?,
            "algorithm": algorithm.id(),
            "salt": salt,
            "buckets": end,
            "split": split,
        });
        Ok(Rollout {
            json,
            unit,
            without,
        })
    }

    /// Texts, the key of the flag, and one variable at the end.
    fn seed(&mut self, first: &Json) -> Result<(String, String), Refusal> {
        let single = [first.clone()];
        let parts = if first.get("cat").is_some() {
            items(&first["cat"])
        } else {
            &single
        };
        let (last, front) = parts.split_last().ok_or("fractional over nothing")?;
        let mut salt = String::new();
        for part in front {
            match part {
                Json::String(text) => salt.push_str(text),
                part if variable(part) == Some("$flagd.flagKey") => salt.push_str(self.key),
                other => return Err(format!("fractional over {other}")),
            }
        }
        let unit = variable(last)
            .filter(|name| !name.starts_with('$'))
            .ok_or_else(|| format!("fractional over {last}"))?;
        Ok((salt, unit.to_owned()))
    }

    fn condition(&mut self, rule: &Json) -> Result<String, Refusal> {
        if let Json::Bool(boolean) = rule {
            return Ok(boolean.to_string());
        }
        let fields = rule.as_object().filter(|fields| fields.len() == 1);
        let (name, arguments) = fields
            .and_then(|fields| fields.iter().next())
            .ok_or_else(|| format!("the condition {rule}"))?;
        let single = [arguments.clone()];
        let list = arguments.as_array().map_or(&single[..], Vec::as_slice);
        match (name.as_str(), list) {
            ("var", _) => Ok(format!("{} = true", self.attribute(rule, Type::Boolean)?)),
            ("!!", [inner]) => self.condition(inner),
            ("!", [inner]) => Ok(not_true(&self.condition(inner)?)),
            ("and", parts) => {
                Ok(all(&self.conditions(parts)?).unwrap_or_else(|| "false".to_owned()))
            }
            ("or", parts) => {
                Ok(any(&self.conditions(parts)?).unwrap_or_else(|| "false".to_owned()))
            }
            ("==" | "===", [left, right]) => self.equal(left, right, name == "==="),
            ("!=" | "!==", [left, right]) => {
                Ok(not_true(&self.equal(left, right, name == "!==")?))
            }
            ("<" | "<=" | ">" | ">=", values) => self.ordered(name, values),
            ("in", [subject, Json::Array(values)]) => self.membership(subject, values),
            ("in", [Json::String(part), subject]) => Ok(format!(
                "contains({}, {})",
                self.attribute(subject, Type::Text)?,
                quoted(part)
            )),
            ("starts_with" | "ends_with", [subject, Json::String(part)]) => Ok(format!(
                "{name}({}, {})",
                self.attribute(subject, Type::Text)?,
                quoted(part)
            )),
            ("sem_ver", [subject, operator, wanted]) => {
                self.version(subject, text(operator)?, text(wanted)?)
            }
            _ => Err(format!("the condition {rule}")),
        }
    }

    fn conditions(&mut self, parts: &[Json]) -> Result<Vec<String>, Refusal> {
        parts.iter().map(|part| self.condition(part)).collect()
    }

    fn attribute(&mut self, rule: &Json, kind: Type) -> Result<String, Refusal> {
        let name = variable(rule)
            .filter(|name| !name.starts_with('$'))
            .ok_or_else(|| format!("the operand {rule}"))?;
        self.draft.attribute(name, kind)
    }

    /// Loosely, a missing attribute equals zero and false.
    fn equal(&mut self, left: &Json, right: &Json, is_strict: bool) -> Result<String, Refusal> {
        let (subject, value) = if left.is_object() {
            (left, right)
        } else {
            (right, left)
        };
        if value.is_null() {
            let name = variable(subject).ok_or_else(|| format!("the operand {subject}"))?;
            return Ok(format!("{} IS NULL", self.draft.any_attribute(name)?));
        }
        let (value, kind) = literal(value).ok_or_else(|| format!("the operand {value}"))?;
        let attribute = self.attribute(subject, kind)?;
        Ok(match kind {
            Type::Float if !is_strict => format!("coalesce({attribute}, 0) = {value}"),
            Type::Boolean if !is_strict => format!("coalesce({attribute}, false) = {value}"),
            _ => format!("{attribute} = {value}"),
        })
    }

    /// A missing number counts as 0, as in JavaScript.
    fn ordered(&mut self, sign: &str, values: &[Json]) -> Result<String, Refusal> {
        let mut tests = Vec::new();
        for pair in values.windows(2) {
            let sides: Vec<String> = pair
                .iter()
                .map(|side| match side {
                    Json::Number(number) => Ok(number.to_string()),
                    subject => Ok(format!(
                        "coalesce({}, 0)",
                        self.attribute(subject, Type::Float)?
                    )),
                })
                .collect::<Result<_, Refusal>>()?;
            tests.push(format!("{} {sign} {}", sides[0], sides[1]));
        }
        all(&tests).ok_or_else(|| "a comparison of nothing".to_owned())
    }

    fn membership(&mut self, subject: &Json, values: &[Json]) -> Result<String, Refusal> {
        if values.is_empty() {
            return Ok("false".to_owned());
        }
        let (list, kind) = literals(values).ok_or("a list of several types")?;
        Ok(format!("{} IN ({list})", self.attribute(subject, kind)?))
    }

    /// `^` is the same major, `~` the same minor version; `-0` is the first pre-release of all.
    fn version(&mut self, subject: &Json, operator: &str, wanted: &str) -> Result<String, Refusal> {
        let attribute = self.attribute(subject, Type::Text)?;
        let mut numbers = wanted
            .trim_start_matches(['v', 'V'])
            .split(['.', '-', '+'])
            .map(|part| part.parse::<u64>().unwrap_or(0));
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let between = |from: String, to: String| {
            format!(
                "semver({attribute}) >= semver('{from}') AND semver({attribute}) < semver('{to}')"
            )
        };
        match operator {
            "=" | "<" | "<=" | ">" | ">=" => Ok(format!(
                "semver({attribute}) {operator} semver({})",
                quoted(wanted)
            )),
            "!=" => Ok(format!("semver({attribute}) <> semver({})", quoted(wanted))),
            "^" => Ok(between(
                format!("{major}.0.0-0"),
                format!("{}.0.0-0", major + 1),
            )),
            "~" => Ok(between(
                format!("{major}.{minor}.0-0"),
                format!("{major}.{}.0-0", minor + 1),
            )),
            other => Err(format!("`sem_ver` with {other}")),
        }
    }
}

fn variable(rule: &Json) -> Option<&str> {
    match rule.get("var")? {
        Json::String(name) => Some(name),
        Json::Array(parts) if parts.len() == 1 => parts[0].as_str(),
        _ => None,
    }
}

/// A negative weight is 0; a null variant is a gap.
fn weighted(entry: &Json) -> Result<(Option<String>, u64), Refusal> {
    let (variant, weight) = match items(entry) {
        [variant] => (variant, 1),
        [variant, weight] => (
            variant,
            weight.as_i64().ok_or("a weight is calculated")?.max(0) as u64,
        ),
        _ => return Err(format!("the entry {entry}")),
    };
    match variant {
        Json::Null => Ok((None, weight)),
        Json::String(name) => Ok((Some(name.clone()), weight)),
        Json::Bool(boolean) => Ok((Some(boolean.to_string()), weight)),
        other => Err(format!("the variant {other} is calculated")),
    }
}
