//! Unleash's features: switches whose strategies become rules that fall through.

use serde_json::{Value as Json, json};

use super::{Draft, Imported, Refusal, all, any, items, not_true, rule, strict_version, text};
use crate::flags::context::Type;
use crate::flags::targeting::{identifier, quoted};

/// Carries features over as boolean flags. The unit is `userId`; Unleash's properties are attributes of the context.
pub fn from_unleash(body: &Json) -> Imported {
    let mut draft = Draft::new("user", "userId");
    for feature in items(&body["features"]) {
        let key = feature["name"].as_str().unwrap_or_default();
        draft.add(key, |draft| {
            Carrier {
                draft,
                key,
                segments: items(&body["segments"]),
            }
            .carry(feature)
        });
    }
    draft.finish()
}

struct Carrier<'a> {
    draft: &'a mut Draft,
    key: &'a str,
    segments: &'a [Json],
}

impl Carrier<'_> {
    fn carry(mut self, feature: &Json) -> Result<Json, Refusal> {
        let strategies = items(&feature["strategies"]);
        let has_variants = |owner: &Json| !items(&owner["variants"]).is_empty();
        if has_variants(feature) || strategies.iter().any(has_variants) {
            return Err(
                "its variants are drawn with a seed of their own, which no algorithm here has"
                    .to_owned(),
            );
        }
        let mut rules = Vec::new();
        if strategies.is_empty() {
            rules.push(rule("always", None, ("serve", json!("on"))));
        }
        for (index, strategy) in strategies.iter().enumerate() {
            rules.extend(self.strategy(&format!("strategy_{}", index + 1), strategy)?);
        }
        let prerequisites: Vec<Json> = items(&feature["dependencies"])
            .iter()
            .map(prerequisite)
            .collect::<Result<_, _>>()?;
        let state = if feature["enabled"] == json!(true) {
            "enabled"
        } else {
            "disabled"
        };
        Ok(json!({
            "key": self.key,
            "type": "boolean",
            "state": state,
            "variants": {"on": true, "off": false},
            "default_variant": "off",
            "prerequisites": prerequisites,
            "rules": rules,
        }))
    }

    fn strategy(&mut self, id: &str, strategy: &Json) -> Result<Vec<Json>, Refusal> {
        let mut tests = Vec::new();
        let mut active = json!({});
        let wanted = items(&strategy["segments"]);
        let mut constraints: Vec<Json> = items(&strategy["constraints"]).to_vec();
        for id in wanted {
            match self.segments.iter().find(|segment| segment["id"] == *id) {
                Some(segment) => constraints.extend(items(&segment["constraints"]).iter().cloned()),
                None => return Ok(Vec::new()),
            }
        }
        for constraint in &constraints {
            tests.extend(self.constraint(constraint, &mut active)?);
        }
        let mut rules = self.outcomes(id, strategy, tests)?;
        for rule in &mut rules {
            rule["otherwise"] = json!("next");
            if active.as_object().is_some_and(|active| !active.is_empty()) {
                rule["active"] = active.clone();
            }
        }
        Ok(rules)
    }

    fn outcomes(
        &mut self,
        id: &str,
        strategy: &Json,
        mut tests: Vec<String>,
    ) -> Result<Vec<Json>, Refusal> {
        let parameters = &strategy["parameters"];
        let group = parameters["groupId"]
            .as_str()
            .unwrap_or(self.key)
            .to_owned();
        let name = text(&strategy["name"])?;
        match name {
            "default" => Ok(vec![rule(id, all(&tests), ("serve", json!("on")))]),
            "userWithId" => {
                tests.push(listed("\"userId\"", &parameters["userIds"]));
                Ok(vec![rule(id, all(&tests), ("serve", json!("on")))])
            }
            "remoteAddress" => {
                if parameters["IPs"]
                    .as_str()
                    .is_some_and(|list| list.contains('/'))
                {
                    return Err("networks have no counterpart".to_owned());
                }
                let attribute = self.draft.attribute("remoteAddress", Type::Text)?;
                tests.push(listed(&attribute, &parameters["IPs"]));
                Ok(vec![rule(id, all(&tests), ("serve", json!("on")))])
            }
            "gradualRolloutUserId" => {
                self.rollout(id, "userId", &group, &parameters["percentage"], tests)
            }
            "gradualRolloutSessionId" => {
                self.rollout(id, "sessionId", &group, &parameters["percentage"], tests)
            }
            "gradualRolloutRandom" => self.chance(id, &parameters["percentage"], tests),
            "flexibleRollout" => {
                let share = &parameters["rollout"];
                match parameters["stickiness"].as_str().unwrap_or("default") {
                    "random" => self.chance(id, share, tests),
                    "default" | "" if percentage(share)? == 100 => self.chance(id, share, tests),
                    "default" | "" => self.by_user_or_session(id, &group, share, tests),
                    unit => self.rollout(id, unit, &group, share, tests),
                }
            }
            other => Err(format!("the strategy `{other}` has no counterpart")),
        }
    }

    /// Without chance only all or none can be said.
    fn chance(&mut self, id: &str, share: &Json, tests: Vec<String>) -> Result<Vec<Json>, Refusal> {
        match percentage(share)? {
            0 => Ok(Vec::new()),
            100 => Ok(vec![rule(id, all(&tests), ("serve", json!("on")))]),
            other => Err(format!(
                "{other} percent of all requests are drawn at random"
            )),
        }
    }

    fn by_user_or_session(
        &mut self,
        id: &str,
        group: &str,
        share: &Json,
        tests: Vec<String>,
    ) -> Result<Vec<Json>, Refusal> {
        self.draft.note(
            self.key,
            "requests without userId and sessionId are drawn at random there, and are off here",
        );
        let without_user = [tests.as_slice(), &["\"userId\" IS NULL".to_owned()]].concat();
        let mut rules = self.rollout(&format!("{id}.user"), "userId", group, share, tests)?;
        rules.extend(self.rollout(
            &format!("{id}.session"),
            "sessionId",
            group,
            share,
            without_user,
        )?);
        Ok(rules)
    }

    fn rollout(
        &mut self,
        id: &str,
        unit: &str,
        group: &str,
        share: &Json,
        mut tests: Vec<String>,
    ) -> Result<Vec<Json>, Refusal> {
        let end = percentage(share)?;
        if end == 0 {
            return Ok(Vec::new());
        }
        let kind = self.draft.kind(unit)?;
        tests.push(format!("{} IS NOT NULL", identifier(unit)));
        let rollout = json!({"unit": kind, "algorithm": "murmur3-unleash/1", "salt": group, "split": {"on": [[0, end]]}});
        Ok(vec![rule(id, all(&tests), ("rollout", rollout))])
    }

    /// A test, or an end of the rule's period.
    fn constraint(
        &mut self,
        constraint: &Json,
        active: &mut Json,
    ) -> Result<Option<String>, Refusal> {
        let (name, operator) = (
            text(&constraint["contextName"])?,
            text(&constraint["operator"])?,
        );
        let is_inverted = constraint["inverted"] == json!(true);
        if let ("currentTime", false, "DATE_AFTER" | "DATE_BEFORE") = (name, is_inverted, operator)
        {
            let end = if operator == "DATE_AFTER" {
                "from"
            } else {
                "to"
            };
            if active.get(end).is_some() {
                return Err("two limits of the same kind on the time".to_owned());
            }
            active[end] = constraint["value"].clone();
            return Ok(None);
        }
        let test = self.test(name, operator, constraint)?;
        Ok(Some(if is_inverted { not_true(&test) } else { test }))
    }

    fn test(&mut self, name: &str, operator: &str, constraint: &Json) -> Result<String, Refusal> {
        let values: Vec<String> = items(&constraint["values"])
            .iter()
            .filter_map(Json::as_str)
            .map(str::to_owned)
            .collect();
        let ignores_case = constraint["caseInsensitive"] == json!(true);
        if let Some(function) = text_function(operator) {
            let attribute = self.draft.attribute(name, Type::Text)?;
            let subject = if ignores_case {
                format!("lower({attribute})")
            } else {
                attribute
            };
            let part = |value: &String| {
                quoted(&if ignores_case {
                    value.to_lowercase()
                } else {
                    value.clone()
                })
            };
            let tests: Vec<String> = values
                .iter()
                .map(|value| format!("{function}({subject}, {})", part(value)))
                .collect();
            return Ok(any(&tests).unwrap_or_else(|| "false".to_owned()));
        }
        let list = values
            .iter()
            .map(|value| quoted(value))
            .collect::<Vec<_>>()
            .join(", ");
        let single = || text(&constraint["value"]);
        match operator {
            "IN" | "NOT_IN" => {
                let attribute = self.draft.attribute(name, Type::Text)?;
                let inside = if values.is_empty() {
                    "false".to_owned()
                } else {
                    format!("{attribute} IN ({list})")
                };
                Ok(if operator == "IN" {
                    inside
                } else {
                    not_true(&inside)
                })
            }
            "REGEX" => {
                let flags = if ignores_case { "(?i)" } else { "" };
                let attribute = self.draft.attribute(name, Type::Text)?;
                Ok(format!(
                    "regexp_like({attribute}, {})",
                    quoted(&format!("{flags}{}", single()?))
                ))
            }
            _ => self.compared(name, operator, single()?),
        }
    }

    fn compared(&mut self, name: &str, operator: &str, value: &str) -> Result<String, Refusal> {
        let (kind, comparison) = operator.split_once('_').unwrap_or((operator, ""));
        let sign = match comparison {
            "EQ" => "=",
            "GT" => ">",
            "GTE" => ">=",
            "LT" => "<",
            "LTE" => "<=",
            _ => return Err(format!("`{operator}` has no counterpart")),
        };
        match kind {
            "NUM" => {
                let number: f64 = value
                    .parse()
                    .map_err(|_| format!("`{value}` is no number"))?;
                self.draft.note(
                    self.key,
                    &format!("`{name}` is a number here; Unleash's clients send it as a text"),
                );
                Ok(format!(
                    "{} {sign} {number:?}",
                    self.draft.attribute(name, Type::Float)?
                ))
            }
            "SEMVER" => {
                semver::Version::parse(value).map_err(|_| format!("`{value}` is no version"))?;
                let attribute = self.draft.attribute(name, Type::Text)?;
                Ok(strict_version(
                    &attribute,
                    &format!("semver({attribute}) {sign} semver({})", quoted(value)),
                ))
            }
            _ => Err(format!("`{operator}` has no counterpart")),
        }
    }
}

fn text_function(operator: &str) -> Option<&'static str> {
    match operator {
        "STR_STARTS_WITH" => Some("starts_with"),
        "STR_ENDS_WITH" => Some("ends_with"),
        "STR_CONTAINS" => Some("contains"),
        _ => None,
    }
}

/// A parent without variants: they are not carried over.
fn prerequisite(parent: &Json) -> Result<Json, Refusal> {
    if !items(&parent["variants"]).is_empty() {
        return Err("it requires a variant of another feature".to_owned());
    }
    let variant = if parent["enabled"] == json!(false) {
        "off"
    } else {
        "on"
    };
    Ok(json!({"flag": text(&parent["feature"])?, "variant": variant}))
}

fn listed(attribute: &str, list: &Json) -> String {
    let values: Vec<String> = list
        .as_str()
        .unwrap_or_default()
        .split(',')
        .map(|value| quoted(value.trim()))
        .collect();
    format!("{attribute} IN ({})", values.join(", "))
}

fn percentage(value: &Json) -> Result<u32, Refusal> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number <= 100)
        .ok_or_else(|| format!("{value} is no percentage"))
}
