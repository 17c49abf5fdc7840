//! dbt's selection language: `name`, `path/`, `tag:x`, `+model`, `model+2`, `@model`; a space unites, a comma intersects.

use std::collections::BTreeSet;

use globset::{Glob, GlobMatcher};
use petgraph::Direction;

use super::Graph;
use crate::diagnostics::{Checked, Code, Diagnostic, did_you_mean};
use crate::manifest::{Manifest, Node, NodeId, NodeKind};

/// The nodes a command works on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub nodes: BTreeSet<NodeId>,
    /// Whether it is the whole project, so that what is gone may be dropped from an environment.
    pub is_everything: bool,
}

impl Selection {
    pub fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains(&id)
    }
}

/// The source tables with newer rows than at an earlier time; or why nobody knows.
pub type Fresher = Result<BTreeSet<NodeId>, Box<Diagnostic>>;

/// Whether anybody asks which sources are fresher than at an earlier time.
pub fn asks_for_fresher(terms: &[String]) -> bool {
    terms.iter().any(|term| term.contains(STATUS_METHOD))
}

impl Graph {
    /// What `--select` and `--exclude` mean. Without `select`, all nodes. Tests come along with what they test.
    pub fn select(
        &self,
        manifest: &Manifest,
        select: &[String],
        exclude: &[String],
        fresher: &Fresher,
    ) -> Checked<Selection> {
        let mut diagnostics = Vec::new();
        let asked = Asked {
            graph: self,
            manifest,
            fresher,
        };
        // A variable of a script that is empty: nothing would be built, and all would look well.
        let blank = select.iter().filter(|term| term.trim().is_empty());
        diagnostics.extend(blank.map(|term| unreadable(term, NAMES_NOTHING)));
        let chosen = if select.is_empty() {
            manifest.nodes.iter().map(|node| node.id).collect()
        } else {
            asked.union(select, &mut diagnostics)
        };
        let excluded = asked.union(exclude, &mut diagnostics);
        let mut nodes: BTreeSet<NodeId> = chosen.difference(&excluded).copied().collect();
        self.add_tests(manifest, &mut nodes, &excluded);
        let leaves_nothing = nodes.is_empty() && !chosen.is_empty();
        if leaves_nothing && !exclude.is_empty() && diagnostics.is_empty() {
            diagnostics.push(
                Diagnostic::error(Code::E0302, "`--exclude` leaves nothing of what is selected")
                    .hint("a command that has nothing to do is more likely a mistake than meant: select more, or exclude less"),
            );
        }
        let is_everything = select.is_empty() && exclude.is_empty();
        Checked::with(
            Selection {
                nodes,
                is_everything,
            },
            diagnostics,
        )
    }

    /// A test runs when everything it reads is selected or, for tests of one node, when that node is.
    fn add_tests(
        &self,
        manifest: &Manifest,
        nodes: &mut BTreeSet<NodeId>,
        excluded: &BTreeSet<NodeId>,
    ) {
        for node in manifest
            .nodes
            .iter()
            .filter(|node| !excluded.contains(&node.id))
        {
            if let NodeKind::Test { attached_to, .. } = &node.kind {
                let at_owner = attached_to.is_some_and(|owner| nodes.contains(&owner));
                let reads_selected = node.depends_on.iter().any(|id| nodes.contains(id));
                if at_owner || (attached_to.is_none() && reads_selected) {
                    nodes.insert(node.id);
                }
            }
        }
    }
}

/// What selectors are held against.
struct Asked<'a> {
    graph: &'a Graph,
    manifest: &'a Manifest,
    fresher: &'a Fresher,
}

impl Asked<'_> {
    fn union(&self, terms: &[String], diagnostics: &mut Vec<Diagnostic>) -> BTreeSet<NodeId> {
        let words = terms.iter().flat_map(|term| term.split_whitespace());
        words
            .flat_map(|word| self.intersection(word, diagnostics))
            .collect()
    }

    fn intersection(&self, word: &str, diagnostics: &mut Vec<Diagnostic>) -> BTreeSet<NodeId> {
        if word.split(',').all(str::is_empty) {
            diagnostics.push(unreadable(word, NAMES_NOTHING));
        }
        let before = diagnostics.len();
        let mut sets =
            word.split(',')
                .filter(|part| !part.is_empty())
                .map(|part| match self.term(part) {
                    Ok(nodes) => nodes,
                    Err(diagnostic) => {
                        diagnostics.push(diagnostic);
                        BTreeSet::new()
                    }
                });
        let first = sets.next().unwrap_or_default();
        let common: BTreeSet<NodeId> = sets.fold(first, |left, right| {
            left.intersection(&right).copied().collect()
        });
        if common.is_empty() && diagnostics.len() == before && word.contains(STATUS_METHOD) {
            let message =
                format!("`{word}` selects nothing: no such source has newer rows than then");
            diagnostics.push(Diagnostic::warning(Code::E0302, message));
        } else if common.is_empty() && diagnostics.len() == before {
            diagnostics.push(
                Diagnostic::error(
                    Code::E0302,
                    format!(
                        "`{word}` selects nothing: each part does, and nothing is in all of them"
                    ),
                )
                .hint("a comma means both; a space, or another `--select`, means either"),
            );
        }
        common
    }

    fn term(&self, text: &str) -> Result<BTreeSet<NodeId>, Diagnostic> {
        let term = Term::parse(text)?;
        let manifest = self.manifest;
        let matched: BTreeSet<NodeId> = match term.method == STATUS {
            // That nothing is new is no mistake.
            true => self.fresher.clone().map_err(|why| *why)?,
            false => {
                let nodes = manifest.nodes.iter();
                let matched = nodes.filter(|node| term.matches(manifest, node));
                matched.map(|node| node.id).collect()
            }
        };
        if matched.is_empty() && term.method != STATUS {
            let names = manifest
                .nodes
                .iter()
                .filter(|node| !node.is_test())
                .map(|node| node.name.as_str());
            return Err(
                Diagnostic::error(Code::E0302, format!("`{text}` selects nothing"))
                    .hint(did_you_mean(&term.value, names)),
            );
        }
        let mut all = matched.clone();
        for id in &matched {
            if let Some(depth) = term.up {
                all.extend(self.graph.reach(*id, Direction::Incoming, depth));
            }
            if let Some(depth) = term.down {
                all.extend(self.graph.reach(*id, Direction::Outgoing, depth));
            }
            if term.at {
                let below = self.graph.reach(*id, Direction::Outgoing, None);
                let above: Vec<NodeId> = below
                    .iter()
                    .chain([id])
                    .flat_map(|id| self.graph.reach(*id, Direction::Incoming, None))
                    .collect();
                all.extend(below);
                all.extend(above);
            }
        }
        Ok(all)
    }
}

/// One selector with its graph operators.
struct Term {
    at: bool,
    /// `Some(None)` is any distance.
    up: Option<Option<usize>>,
    down: Option<Option<usize>>,
    method: String,
    value: String,
    glob: GlobMatcher,
}

const METHODS: &[&str] = &[
    "name",
    "path",
    "file",
    "tag",
    "fqn",
    "source",
    "resource_type",
    "config.materialized",
    "test_type",
    "test_name",
    "package",
    STATUS,
];

/// Compares with an earlier state of the sources; `fresher` is its one value.
const STATUS: &str = "source_status";
const STATUS_METHOD: &str = "source_status:";

impl Term {
    fn parse(text: &str) -> Result<Self, Diagnostic> {
        let pattern = regex::Regex::new(r"^(?P<at>@)?(?P<up>\d*\+)?(?:(?P<method>[a-z_.]+):)?(?P<value>[^+@:]+)(?P<down>\+\d*)?$")
            .expect("the pattern is constant");
        let found = pattern.captures(text).ok_or_else(|| {
            unreadable(
                text,
                "write it like `+stg_orders`, `tag:daily` or `models/marts+`",
            )
        })?;
        let depth = |name: &str| {
            found
                .name(name)
                .map(|depth| depth.as_str().trim_matches('+').parse::<usize>().ok())
        };
        let value = found["value"].to_string();
        let method = match found.name("method") {
            Some(method) => method.as_str().to_string(),
            None if value.contains('/') || value.ends_with(".sql") || value.ends_with(".csv") => {
                "path".to_string()
            }
            None => "name".to_string(),
        };
        if !METHODS.contains(&method.as_str()) {
            return Err(unreadable(
                text,
                &did_you_mean(&method, METHODS.iter().copied()),
            ));
        }
        if method == STATUS && value != "fresher" {
            return Err(unreadable(text, &did_you_mean(&value, ["fresher"])));
        }
        let glob = Glob::new(value.trim_end_matches('/'))
            .map_err(|error| unreadable(text, &error.to_string()))?
            .compile_matcher();
        Ok(Self {
            at: found.name("at").is_some(),
            up: depth("up"),
            down: depth("down"),
            method,
            value,
            glob,
        })
    }

    fn matches(&self, manifest: &Manifest, node: &Node) -> bool {
        let is = |text: &str| text == self.value || self.glob.is_match(text);
        match self.method.as_str() {
            "name" => {
                is(&node.name)
                    || (matches!(node.kind, NodeKind::Source(_))
                        && is(node.name.split('.').next().unwrap_or("")))
            }
            "path" => {
                is(&node.path)
                    || node
                        .path
                        .starts_with(&format!("{}/", self.value.trim_end_matches('/')))
            }
            "file" => is(node.path.rsplit('/').next().unwrap_or(&node.path)),
            "tag" => node.settings.tags.iter().any(|tag| is(tag)),
            "fqn" => self.matches_fqn(manifest, node),
            "source" => match &node.kind {
                NodeKind::Source(table) => is(&table.source) || is(&node.name),
                _ => false,
            },
            "resource_type" => is(node.kind.word()),
            "config.materialized" => {
                matches!(node.kind, NodeKind::Model(_)) && is(node.settings.materialized.word())
            }
            "test_type" => match &node.kind {
                NodeKind::Test { attached_to, .. } => is(if attached_to.is_some() {
                    "generic"
                } else {
                    "singular"
                }),
                _ => false,
            },
            "test_name" => node.is_test() && is(&node.name),
            "package" => is(&manifest.project_name) || self.value == "this",
            _ => false,
        }
    }

    /// `project.folder.model`, or any beginning of it.
    fn matches_fqn(&self, manifest: &Manifest, node: &Node) -> bool {
        let folders = node.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let inner: Vec<&str> = folders.split('/').skip(1).collect();
        let fqn = [
            &[manifest.project_name.as_str()][..],
            &inner,
            &[node.name.as_str()],
        ]
        .concat()
        .join(".");
        let short = fqn.split_once('.').map_or("", |(_, rest)| rest);
        [fqn.as_str(), short]
            .iter()
            .any(|name| *name == self.value || name.starts_with(&format!("{}.", self.value)))
    }
}

const NAMES_NOTHING: &str = "it names nothing; leave `--select` out to mean everything";

fn unreadable(text: &str, hint: &str) -> Diagnostic {
    Diagnostic::error(Code::E0303, format!("cannot read the selector `{text}`")).hint(hint)
}
