//! `target/manifest.json`: everything that a project is made of, by dbt's unique ids.
//! What has no equivalent is empty. Our metrics are no metrics of dbt's semantic layer, which a client would try to query: they
//! are told by `equipoise metric list` and stand in the table `dim_metrics`.

mod config;
mod consumers;
mod macros;
mod node;
mod source;
mod test;

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Metadata, write};
use crate::manifest::{Node, NodeId, NodeKind};
use crate::run::Prepared;

/// Name of the file.
pub const MANIFEST: &str = "manifest.json";

/// The database of dbt's three-part names; SQL does not name it.
pub(super) const DATABASE: &str = "equipoise";

/// Writes all nodes with the SQL that they were compiled to, whatever ran.
pub fn write_manifest(prepared: &Prepared) -> io::Result<()> {
    write(prepared, MANIFEST, &Artifact::of(prepared))
}

#[derive(Serialize)]
struct Artifact {
    metadata: Head,
    nodes: Map<String, Value>,
    sources: Map<String, Value>,
    macros: Map<String, Value>,
    docs: Map<String, Value>,
    exposures: Map<String, Value>,
    metrics: Empty,
    groups: Map<String, Value>,
    selectors: Empty,
    disabled: Empty,
    parent_map: BTreeMap<String, Vec<String>>,
    child_map: BTreeMap<String, Vec<String>>,
    group_map: BTreeMap<String, Vec<String>>,
    saved_queries: Empty,
    semantic_models: Empty,
    unit_tests: Empty,
    functions: Empty,
}

/// What this project has nothing of.
#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Head {
    #[serde(flatten)]
    metadata: Metadata,
    project_name: String,
    project_id: Option<String>,
    user_id: Option<String>,
    send_anonymous_usage_stats: bool,
    adapter_type: String,
    run_started_at: String,
}

impl Artifact {
    fn of(prepared: &Prepared) -> Self {
        let context = Context::new(prepared);
        let (sources, nodes): (Vec<&Node>, Vec<&Node>) = prepared
            .manifest
            .nodes
            .iter()
            .partition(|node| matches!(node.kind, NodeKind::Source(_)));
        let all = |nodes: Vec<&Node>, entry: &dyn Fn(&Node) -> Value| {
            nodes
                .into_iter()
                .map(|node| (context.id(node.id), entry(node)))
                .collect()
        };
        let parents = context.parents();
        Self {
            metadata: Head::of(prepared),
            nodes: all(nodes, &|node| match &node.kind {
                NodeKind::Test { .. } => test::entry(&context, node),
                _ => node::entry(&context, node),
            }),
            sources: all(sources, &|node| source::entry(&context, node)),
            macros: macros::entries(&context),
            docs: consumers::docs(),
            exposures: consumers::exposures(&context),
            metrics: Empty {},
            groups: consumers::groups(&context),
            selectors: Empty {},
            disabled: Empty {},
            child_map: turned(&parents),
            parent_map: parents,
            group_map: context.groups(),
            saved_queries: Empty {},
            semantic_models: Empty {},
            unit_tests: Empty {},
            functions: Empty {},
        }
    }
}

impl Head {
    fn of(prepared: &Prepared) -> Self {
        let adapter = prepared.manifest.surroundings.target.get("type");
        Self {
            metadata: Metadata::new(prepared, "manifest/v12"),
            project_name: prepared.manifest.project_name.clone(),
            project_id: None,
            user_id: None,
            send_anonymous_usage_stats: false,
            adapter_type: adapter
                .and_then(Value::as_str)
                .unwrap_or("datafusion")
                .to_string(),
            run_started_at: prepared.now.clone(),
        }
    }
}

/// Every id of the first map, with those that name it.
fn turned(parents: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let mut children: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, parents) in parents {
        children.entry(id.clone()).or_default();
        for parent in parents {
            children.entry(parent.clone()).or_default().push(id.clone());
        }
    }
    children
}

/// What every entry is made from.
struct Context<'a> {
    prepared: &'a Prepared,
    project: &'a str,
    ids: Vec<String>,
    /// Unique ids of macros by name.
    macros: BTreeMap<&'a str, String>,
}

impl<'a> Context<'a> {
    fn new(prepared: &'a Prepared) -> Self {
        let project = prepared.manifest.project_name.as_str();
        let macros = prepared.manifest.templates.macros().into_iter();
        let nodes = prepared.manifest.nodes.iter();
        Self {
            prepared,
            project,
            ids: nodes.map(|node| node.unique_id(project)).collect(),
            macros: macros
                .map(|one| (one.name, macros::unique_id(&one, project)))
                .collect(),
        }
    }

    fn id(&self, id: NodeId) -> String {
        self.ids[id.0].clone()
    }

    fn node(&self, id: &NodeId) -> &'a Node {
        self.prepared.manifest.node(*id)
    }

    /// Ids of the macros that a template calls.
    fn macros_called(&self, text: &str) -> Vec<String> {
        let called = crate::template::called(text).into_iter();
        called
            .filter_map(|name| self.macros.get(name).cloned())
            .collect()
    }

    fn depends_on(&self, text: &str, nodes: &[NodeId]) -> Value {
        let nodes: Vec<String> = nodes.iter().map(|id| self.id(*id)).collect();
        json!({"macros": self.macros_called(text), "nodes": nodes})
    }

    /// dbt's `refs` and `sources` of what is read.
    fn reads(&self, nodes: &[NodeId]) -> (Vec<Value>, Vec<Value>) {
        let (mut refs, mut sources) = (Vec::new(), Vec::new());
        for node in nodes.iter().map(|id| self.node(id)) {
            match &node.kind {
                NodeKind::Source(table) => sources.push(json!([table.source, table.table])),
                _ => refs.push(json!({"name": node.name, "package": null, "version": null})),
            }
        }
        (refs, sources)
    }

    /// A file below the folder of its kind, and the folders between: `models/staging/a.sql` is `staging/a.sql`.
    fn below<'p>(&self, path: &'p str) -> &'p str {
        let spec = &self.prepared.project.spec;
        let roots = [
            &spec.model_paths,
            &spec.seed_paths,
            &spec.test_paths,
            &spec.macro_paths,
        ];
        let mut roots = roots.into_iter().flatten();
        roots
            .find_map(|root| {
                let root = root.trim_start_matches("./").trim_end_matches('/');
                path.strip_prefix(root)?.strip_prefix('/')
            })
            .unwrap_or(path)
    }

    /// The project, the folders of a file, and the names that end it.
    fn fqn(&self, path: &str, names: &[&str]) -> Vec<String> {
        let folders = self.below(path).rsplit_once('/');
        let folders = folders.map_or("", |(folders, _)| folders);
        let folders = folders.split('/').filter(|folder| !folder.is_empty());
        let names = folders.chain(names.iter().copied());
        let names = std::iter::once(self.project).chain(names);
        names.map(ToString::to_string).collect()
    }

    fn parents(&self) -> BTreeMap<String, Vec<String>> {
        let manifest = &self.prepared.manifest;
        let nodes = manifest.nodes.iter().map(|node| {
            let parents = node.depends_on.iter().map(|id| self.id(*id));
            (self.id(node.id), sorted(parents.collect()))
        });
        let consumers = manifest.consumers.iter().map(|consumer| {
            let parents = consumer.depends_on.iter().map(|id| self.id(*id));
            let id = consumers::unique_id(self.project, consumer);
            (id, sorted(parents.collect()))
        });
        nodes.chain(consumers).collect()
    }

    /// The models of each group.
    fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let manifest = &self.prepared.manifest;
        let groups = manifest.groups.iter().map(|group| {
            let is_member =
                |node: &&Node| node.settings.raw.get("group") == Some(&json!(group.name.value));
            let members = manifest.nodes.iter().filter(is_member);
            let members = members.map(|node| self.id(node.id)).collect();
            (group.name.value.clone(), sorted(members))
        });
        groups.collect()
    }
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}
