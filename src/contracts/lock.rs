//! `metrics.lock`: what every metric meant when somebody last agreed to it.
//! In: the file's text. Out: [`Lock`], and the same text again byte for byte. One block per metric, sorted, one value per
//! line, so that two branches that lock different metrics merge without a conflict. The subset of TOML written here is the
//! subset read: tables, strings, whole numbers and arrays of strings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::class::{Approval, Class};
use super::meaning::{Hashes, Meaning, ModelFacts, Plan};
use crate::sql::canonical::words::{Fact, FactKind};

/// All locked metrics, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    pub metrics: BTreeMap<String, Locked>,
}

/// One locked metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locked {
    pub meaning: Meaning,
    pub hashes: Hashes,
    /// Why it was last locked.
    pub reason: String,
    /// Who agreed to it, as was said then.
    pub approved_by: BTreeSet<String>,
}

/// A line of the file that is not what a lock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockError {
    /// From 1.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for LockError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: {}", self.line, self.message)
    }
}

impl Locked {
    pub fn new(meaning: Meaning, reason: &str, approved_by: BTreeSet<String>) -> Locked {
        Locked {
            hashes: meaning.hashes(),
            meaning,
            reason: reason.into(),
            approved_by,
        }
    }

    /// Those who must agree to a change of this class: the approvers that the agreed definition names, not those of the change.
    pub fn needed_approvers(&self, class: Class) -> BTreeSet<String> {
        match class.approvals().contains(&Approval::Approvers) {
            true => self.names("approvers"),
            false => BTreeSet::new(),
        }
    }

    /// The owner and the approvers that the agreed definition names.
    pub fn people(&self) -> BTreeSet<String> {
        &self.names("approvers") | &self.names("owner")
    }

    fn names(&self, field: &str) -> BTreeSet<String> {
        let listed = self.meaning.fields.get(field).map_or("", String::as_str);
        let names = listed.trim_matches(['[', ']']).split(", ");
        names
            .filter(|name| !name.is_empty())
            .map(str::to_string)
            .collect()
    }
}

impl Lock {
    /// Reads a lock; an empty text is an empty lock.
    pub fn parse(text: &str) -> Result<Lock, LockError> {
        let mut lock = Lock::default();
        for (name, block) in blocks(text)? {
            lock.metrics.insert(name.clone(), block.locked(name)?);
        }
        Ok(lock)
    }

    /// Takes a meaning as the one agreed to.
    pub fn agree(&mut self, meaning: Meaning, reason: &str, approved_by: BTreeSet<String>) {
        let name = meaning.name.clone();
        self.metrics
            .insert(name, Locked::new(meaning, reason, approved_by));
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "# What every metric means. Written by `equipoise metric lock`, one block per metric; not by hand."
        )?;
        for (name, locked) in &self.metrics {
            let Locked {
                meaning,
                hashes,
                reason,
                approved_by,
            } = locked;
            writeln!(out, "\n[{}]", quoted(name))?;
            writeln!(out, "version = {}", quoted(&meaning.version))?;
            writeln!(out, "reason = {}", quoted(reason))?;
            if !approved_by.is_empty() {
                write_list(out, "approved_by", approved_by.iter().cloned())?;
            }
            writeln!(out, "rules = {}", meaning.plan.rules)?;
            for (word, hash) in hash_lines(hashes) {
                writeln!(out, "{word} = {}", quoted(hash))?;
            }
            write_list(out, "assumes", meaning.plan.assumptions.iter().cloned())?;
            write_list(
                out,
                "fields",
                meaning
                    .fields
                    .iter()
                    .map(|(field, value)| format!("{field} = {value}")),
            )?;
            write_list(
                out,
                "lineage",
                meaning.plan.models.iter().flat_map(fact_lines),
            )?;
        }
        Ok(())
    }
}

fn hash_lines(hashes: &Hashes) -> [(&'static str, &str); 5] {
    [
        ("plan", &hashes.plan),
        ("definition", &hashes.definition),
        ("decision", &hashes.decision),
        ("people", &hashes.people),
        ("documentation", &hashes.documentation),
    ]
}

fn write_list(
    out: &mut fmt::Formatter<'_>,
    word: &str,
    items: impl Iterator<Item = String>,
) -> fmt::Result {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        return writeln!(out, "{word} = []");
    }
    writeln!(out, "{word} = [")?;
    for item in items {
        writeln!(out, "    {},", quoted(&item))?;
    }
    writeln!(out, "]")
}

/// `2 stg_users filter: not is_internal`, `1 fct_orders column amount: amount_cents`.
fn fact_lines(model: &ModelFacts) -> Vec<String> {
    let place = if model.model.is_empty() {
        "-"
    } else {
        &model.model
    };
    let line = |fact: &Fact| {
        let subject = if fact.subject.is_empty() {
            String::new()
        } else {
            format!(" {}", fact.subject)
        };
        format!(
            "{} {place} {}{subject}: {}",
            model.distance,
            fact.kind.word(),
            fact.text
        )
    };
    model.facts.iter().map(line).collect()
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            letter if letter.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(letter)))
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// The values of one block and the line on which it starts.
#[derive(Default)]
struct Block {
    line: usize,
    texts: BTreeMap<String, String>,
    lists: BTreeMap<String, Vec<String>>,
}

impl Block {
    fn locked(mut self, name: String) -> Result<Locked, LockError> {
        let line = self.line;
        let mut text = |word: &str| {
            self.texts.remove(word).ok_or_else(|| LockError {
                line,
                message: format!("the block of `{name}` has no `{word}`"),
            })
        };
        let (version, reason, rules) = (text("version")?, text("reason")?, text("rules")?);
        let hashes = Hashes {
            plan: text("plan")?,
            definition: text("definition")?,
            decision: text("decision")?,
            people: text("people")?,
            documentation: text("documentation")?,
        };
        let mut list = |word: &str| self.lists.remove(word).unwrap_or_default();
        let fields = list("fields")
            .iter()
            .filter_map(|line| line.split_once(" = "))
            .map(own)
            .collect();
        let plan = Plan {
            hash: hashes.plan.clone(),
            rules: rules.parse().map_err(|_| LockError {
                line,
                message: format!("`rules` is not a number: `{rules}`"),
            })?,
            assumptions: list("assumes").into_iter().collect::<BTreeSet<_>>(),
            models: models(&list("lineage"), line)?,
        };
        Ok(Locked {
            meaning: Meaning {
                name,
                version,
                fields,
                plan,
            },
            hashes,
            reason,
            approved_by: list("approved_by").into_iter().collect(),
        })
    }
}

fn own((left, right): (&str, &str)) -> (String, String) {
    (left.to_string(), right.to_string())
}

fn models(lines: &[String], line: usize) -> Result<Vec<ModelFacts>, LockError> {
    let mut models: Vec<ModelFacts> = vec![];
    for text in lines {
        let (distance, model, fact) = fact(text).ok_or_else(|| LockError {
            line,
            message: format!("this is not a line of a lineage: `{text}`"),
        })?;
        match models.iter_mut().find(|known| known.model == model) {
            Some(known) => {
                known.facts.insert(fact);
            }
            None => models.push(ModelFacts {
                model,
                distance,
                facts: [fact].into(),
                ..ModelFacts::default()
            }),
        }
    }
    Ok(models)
}

fn fact(line: &str) -> Option<(usize, String, Fact)> {
    let (head, text) = line.split_once(": ")?;
    let mut words = head.splitn(4, ' ');
    let distance = words.next()?.parse().ok()?;
    let model = words.next()?;
    let kind = FactKind::from_word(words.next()?)?;
    let subject = words.next().unwrap_or_default().to_string();
    let model = if model == "-" {
        String::new()
    } else {
        model.to_string()
    };
    Some((
        distance,
        model,
        Fact {
            kind,
            subject,
            text: text.to_string(),
        },
    ))
}

fn blocks(text: &str) -> Result<Vec<(String, Block)>, LockError> {
    let mut found: Vec<(String, Block)> = vec![];
    let mut open_list: Option<(String, Vec<String>)> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        let fail = |message: String| LockError {
            line: number,
            message,
        };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((word, mut items)) = open_list.take() {
            if line == "]" {
                current(&mut found, number)?.lists.insert(word, items);
            } else {
                items.push(
                    unquoted(line.trim_end_matches(','))
                        .ok_or_else(|| fail(format!("not a string: `{line}`")))?,
                );
                open_list = Some((word, items));
            }
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let name = unquoted(name)
                .ok_or_else(|| fail(format!("not the name of a metric: `{line}`")))?;
            if found.iter().any(|(known, _)| *known == name) {
                return Err(fail(format!(
                    "`{name}` has two blocks; keep the one that is computed now"
                )));
            }
            found.push((
                name,
                Block {
                    line: number,
                    ..Block::default()
                },
            ));
            continue;
        }
        let (word, value) = line
            .split_once(" = ")
            .ok_or_else(|| fail(format!("this is not a line of a lock: `{line}`")))?;
        match value {
            "[" => open_list = Some((word.to_string(), vec![])),
            "[]" => drop(
                current(&mut found, number)?
                    .lists
                    .insert(word.to_string(), vec![]),
            ),
            value => {
                let value = unquoted(value).unwrap_or_else(|| value.to_string());
                current(&mut found, number)?
                    .texts
                    .insert(word.to_string(), value);
            }
        }
    }
    Ok(found)
}

fn current(found: &mut [(String, Block)], line: usize) -> Result<&mut Block, LockError> {
    let missing = LockError {
        line,
        message: "a value stands before the first block".into(),
    };
    found.last_mut().map(|(_, block)| block).ok_or(missing)
}

fn unquoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut plain = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next()? {
            'n' => plain.push('\n'),
            't' => plain.push('\t'),
            'r' => plain.push('\r'),
            'u' => {
                let code: String = letters.by_ref().take(4).collect();
                plain.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
            }
            letter => plain.push(letter),
        }
    }
    Some(plain)
}
