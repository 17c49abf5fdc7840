//! Flags of other systems carried over into our definitions.
//! In: the JSON of another system. Out: a document in the shape of our YAML, and a report. A flag that our language
//! cannot say exactly is left out and named; what is only nearly the same is noted.

mod eppo;
mod flagd;
mod growthbook;
mod manifest;
mod unleash;

pub use eppo::from_ufc;
pub use flagd::from_flagd;
pub use growthbook::from_growthbook;
pub use manifest::from_openfeature_manifest;
pub use unleash::from_unleash;

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::flags::context::{Schema, Type};
use crate::flags::set::ValueType;
use crate::flags::targeting::{Predicate, identifier, quoted};
use crate::flags::{FlagSource, proofs, resolve};

/// Our definitions, and what is not or not quite in them.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The content of a flags file.
    pub document: Json,
    pub report: Vec<Remark>,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub flag: String,
    /// The flag was left out; otherwise this says what differs.
    pub is_left_out: bool,
    pub text: String,
}

impl Imported {
    /// The document as YAML. JSON is YAML too; this form is the one that people edit.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(&self.document).unwrap_or_else(|_| self.document.to_string())
    }
}

/// Why a flag cannot be carried over.
type Refusal = String;

/// Collects what flags need: kinds of units and typed attributes. A refused flag leaves nothing behind.
#[derive(Clone, Debug)]
struct Draft {
    /// Name and unit of each kind; the first has the targeting key.
    kinds: Vec<(String, String)>,
    attributes: BTreeMap<String, Type>,
    flags: Vec<Json>,
    report: Vec<Remark>,
}

impl Draft {
    fn new(kind: &str, unit: &str) -> Self {
        Self {
            kinds: vec![(kind.to_owned(), unit.to_owned())],
            attributes: BTreeMap::new(),
            flags: Vec::new(),
            report: Vec::new(),
        }
    }

    /// Carries one flag over, or says why not.
    fn add(&mut self, key: &str, carry: impl FnOnce(&mut Self) -> Result<Json, Refusal>) {
        let before = self.clone();
        match carry(self).and_then(|flag| self.usable(flag)) {
            Ok(flag) => self.flags.push(flag),
            Err(text) => {
                *self = before;
                self.report.push(Remark {
                    flag: key.to_owned(),
                    is_left_out: true,
                    text,
                });
            }
        }
    }

    /// The flag, if its conditions can be read and its variants exist.
    fn usable(&self, flag: Json) -> Result<Json, Refusal> {
        let mut schema = Schema::default();
        self.kinds.iter().for_each(|(name, unit)| {
            schema.add_kind(name, unit);
        });
        self.attributes.iter().for_each(|(name, kind)| {
            schema.add_attribute(name, *kind);
        });
        for rule in items(&flag["rules"]) {
            if let Some(when) = rule["when"].as_str() {
                Predicate::compile(when, &schema).map_err(|error| error.message)?;
            }
            let split = rule["rollout"]["split"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str());
            let unknown = split
                .chain(rule["serve"].as_str())
                .find(|name| flag["variants"].get(name).is_none());
            if let Some(name) = unknown {
                return Err(format!(
                    "the rule `{}` gives `{name}`, which is no variant",
                    rule["id"].as_str().unwrap_or_default()
                ));
            }
        }
        Ok(flag)
    }

    fn note(&mut self, key: &str, text: &str) {
        let remark = Remark {
            flag: key.to_owned(),
            is_left_out: false,
            text: text.to_owned(),
        };
        if !self.report.contains(&remark) {
            self.report.push(remark);
        }
    }

    /// The name of an attribute in SQL, declared with this type.
    fn attribute(&mut self, name: &str, kind: Type) -> Result<String, Refusal> {
        if self.kinds.iter().any(|(_, unit)| unit == name) {
            return match kind {
                Type::Text => Ok(identifier(name)),
                other => Err(format!(
                    "`{name}` identifies units, so it cannot be a {other}"
                )),
            };
        }
        match self.attributes.get(name) {
            Some(known) if *known != kind => Err(format!(
                "the attribute `{name}` is a {known} elsewhere and a {kind} here"
            )),
            _ => {
                self.attributes.insert(name.to_owned(), kind);
                Ok(identifier(name))
            }
        }
    }

    /// The same for a test that any type passes.
    fn any_attribute(&mut self, name: &str) -> Result<String, Refusal> {
        let kind = self.attributes.get(name).copied().unwrap_or(Type::Text);
        self.attribute(name, kind)
    }

    /// The kind of unit that an attribute identifies.
    fn kind(&mut self, unit: &str) -> Result<String, Refusal> {
        if let Some((name, _)) = self.kinds.iter().find(|(_, known)| known == unit) {
            return Ok(name.clone());
        }
        if let Some(other) = self
            .attributes
            .remove(unit)
            .filter(|kind| *kind != Type::Text)
        {
            return Err(format!(
                "`{unit}` identifies units, so it cannot be a {other}"
            ));
        }
        self.kinds.push((unit.to_owned(), unit.to_owned()));
        Ok(unit.to_owned())
    }

    fn finish(self) -> Imported {
        let mut contexts = Map::new();
        for (index, (name, unit)) in self.kinds.iter().enumerate() {
            let mut context = json!({ "unit": unit });
            if index == 0 && !self.attributes.is_empty() {
                let attributes = self
                    .attributes
                    .iter()
                    .filter(|(name, _)| !self.is_unit(name));
                context["attributes"] = attributes
                    .map(|(name, kind)| (name.clone(), json!(kind.to_string())))
                    .collect();
            }
            contexts.insert(name.clone(), context);
        }
        let document = json!({"version": 1, "contexts": contexts, "flags": self.flags});
        without_dead_rules(Imported {
            document,
            report: self.report,
        })
    }

    fn is_unit(&self, name: &str) -> bool {
        self.kinds.iter().any(|(_, unit)| unit == name)
    }
}

/// Other systems keep rules that never decide; here they would be errors, and taking them away changes no answer.
fn without_dead_rules(mut imported: Imported) -> Imported {
    loop {
        let dead = dead_rules(&imported);
        if dead.is_empty() {
            return imported;
        }
        for (flag, rule) in dead {
            remove_rule(&mut imported.document, &flag, &rule);
            let text = format!("the rule `{rule}` never decides, and was dropped");
            imported.report.push(Remark {
                flag,
                is_left_out: false,
                text,
            });
        }
    }
}

/// Flag and identifier of every rule that proofs call unreachable.
fn dead_rules(imported: &Imported) -> Vec<(String, String)> {
    let Ok(spec) = serde_saphyr::from_str(&imported.to_yaml()) else {
        return Vec::new();
    };
    let set = resolve(&[FlagSource {
        file: "import".into(),
        spec,
    }])
    .value;
    let dead = proofs::findings(&set)
        .into_iter()
        .filter_map(|finding| match finding.subject {
            proofs::Subject::Rule { flag, rule } => {
                let flag = &set.flags[flag];
                Some((flag.key.to_string(), flag.rules[rule].id.to_string()))
            }
            _ => None,
        });
    dead.collect()
}

fn remove_rule(document: &mut Json, flag: &str, rule: &str) {
    let flags = document["flags"].as_array_mut().into_iter().flatten();
    for known in flags.filter(|known| known["key"] == json!(flag)) {
        if let Some(rules) = known["rules"].as_array_mut() {
            rules.retain(|known| known["id"] != json!(rule));
        }
    }
}

/// The values of a flag as variants, each value once.
#[derive(Clone, Debug, Default)]
struct Variants(Vec<(String, Json)>);

impl Variants {
    /// The variant of a value; a new one is named after the value.
    fn of(&mut self, value: &Json) -> String {
        if let Some((name, _)) = self.0.iter().find(|(_, known)| known == value) {
            return name.clone();
        }
        let wanted = match value {
            Json::Bool(boolean) => if *boolean { "on" } else { "off" }.to_owned(),
            Json::String(text) if !text.is_empty() && text.len() <= 40 => text.clone(),
            Json::Number(number) => number.to_string(),
            _ => "value".to_owned(),
        };
        let is_taken = |name: &String| self.0.iter().any(|(known, _)| known == name);
        let numbered = (2..).map(|number| format!("{wanted}_{number}"));
        let name = std::iter::once(wanted.clone())
            .chain(numbered)
            .find(|name| !is_taken(name))
            .unwrap_or_default();
        self.0.push((name.clone(), value.clone()));
        name
    }

    fn to_json(&self) -> Json {
        self.0.iter().cloned().collect::<Map<_, _>>().into()
    }

    /// The one type of all values.
    fn kind(&self) -> Result<&'static str, Refusal> {
        let kinds = [
            ValueType::Boolean,
            ValueType::Text,
            ValueType::Integer,
            ValueType::Float,
            ValueType::Object,
        ];
        let fits = |kind: &ValueType| self.0.iter().all(|(_, value)| kind.accepts(value));
        kinds
            .into_iter()
            .find(fits)
            .map(ValueType::name)
            .ok_or_else(|| "its values have different types".to_owned())
    }
}

/// A condition that is true where the other is not, unknown included.
fn not_true(condition: &str) -> String {
    format!("({condition}) IS NOT TRUE")
}

/// Conditions joined; none is nothing.
fn joined(conditions: &[String], connective: &str) -> Option<String> {
    match conditions {
        [] => None,
        [one] => Some(one.clone()),
        more => Some(
            more.iter()
                .map(|condition| format!("({condition})"))
                .collect::<Vec<_>>()
                .join(connective),
        ),
    }
}

fn all(conditions: &[String]) -> Option<String> {
    joined(conditions, " AND ")
}

fn any(conditions: &[String]) -> Option<String> {
    joined(conditions, " OR ")
}

/// A JSON constant in SQL, with its type.
fn literal(value: &Json) -> Option<(String, Type)> {
    match value {
        Json::String(text) => Some((quoted(text), Type::Text)),
        Json::Bool(boolean) => Some((boolean.to_string(), Type::Boolean)),
        Json::Number(number) => Some((number.to_string(), Type::Float)),
        _ => None,
    }
}

/// Constants of one type as an SQL list.
fn literals(values: &[Json]) -> Option<(String, Type)> {
    let literals: Vec<(String, Type)> = values.iter().map(literal).collect::<Option<_>>()?;
    let kind = literals.first()?.1;
    let is_uniform = literals.iter().all(|(_, other)| *other == kind);
    is_uniform.then(|| {
        (
            literals
                .into_iter()
                .map(|(text, _)| text)
                .collect::<Vec<_>>()
                .join(", "),
            kind,
        )
    })
}

/// A version by the letter of SemVer: ours also reads `v1.2`, which other systems call no version.
fn strict_version(attribute: &str, comparison: &str) -> String {
    format!("regexp_like({attribute}, '^[0-9]+\\.[0-9]+\\.[0-9]+([-+]|$)') AND {comparison}")
}

/// Whether a bucket is in one of the ranges.
fn in_ranges(bucket: &str, ranges: &[(u32, u32)]) -> String {
    let inside: Vec<String> = ranges
        .iter()
        .map(|(start, end)| format!("{bucket} >= {start} AND {bucket} < {end}"))
        .collect();
    any(&inside).unwrap_or_else(|| "false".to_owned())
}

/// A rule; absent parts are left out.
fn rule(id: &str, when: Option<String>, outcome: (&str, Json)) -> Json {
    let mut rule = json!({ "id": id });
    if let Some(when) = when {
        rule["when"] = json!(when);
    }
    rule[outcome.0] = outcome.1;
    rule
}

fn items(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Json) -> Result<&str, Refusal> {
    value
        .as_str()
        .ok_or_else(|| format!("`{value}` should be a text"))
}
