//! Small projects as `pairs.json` writes them: tables with constraints, seeds, macros, models that name each other
//! directly, one metric. In: JSON. Out: bound and canonical queries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::SessionContext;
use equipoise::contracts::{Meaning, ModelWords, Plan, flatten};
use equipoise::sql::canonical::{self, Bound, Catalog, Seed, Table};
use equipoise::sql::lineage::{self, ColumnGraph, Lineage, Origin};
use serde_json::Value;

#[derive(Clone, Default)]
pub struct Project {
    pub tables: BTreeMap<String, Vec<Column>>,
    pub seeds: BTreeMap<String, String>,
    pub vars: BTreeMap<String, Value>,
    pub macros: BTreeMap<String, String>,
    pub models: BTreeMap<String, String>,
    pub metric: String,
    pub spec: Option<Value>,
}

#[derive(Clone)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
    pub is_not_null: bool,
    pub is_unique: bool,
}

impl Project {
    pub fn base(file: &Value) -> Project {
        let base = &file["base_project"];
        let mut project = Project::default();
        for (table, columns) in base["tables"].as_object().expect("tables") {
            let columns = columns
                .as_object()
                .expect("columns")
                .iter()
                .map(|(name, declared)| column(name, declared));
            project.tables.insert(table.clone(), columns.collect());
        }
        project.overlaid(base)
    }

    /// The project with entries replaced; null deletes one.
    pub fn overlaid(&self, overlay: &Value) -> Project {
        let mut project = self.clone();
        overlay_texts(&mut project.seeds, &overlay["seeds"]);
        overlay_texts(&mut project.macros, &overlay["macros"]);
        overlay_texts(&mut project.models, &overlay["models"]);
        if let Some(vars) = overlay["vars"].as_object() {
            project.vars.extend(vars.clone());
        }
        if let Some(metric) = overlay["metric"].as_str() {
            project.metric = metric.into();
        }
        if let Some(spec) = overlay.get("spec") {
            project.spec = Some(spec.clone());
        }
        project
    }

    /// The project without one declared constraint, such as `raw_users.user_id UNIQUE`.
    pub fn without(&self, constraint: &str) -> Project {
        let mut project = self.clone();
        let (place, kind) = constraint
            .split_once(' ')
            .expect("a constraint names a column and a kind");
        let (table, name) = place.split_once('.').expect("a column has a table");
        let columns = project.tables.get_mut(table).expect("a known table");
        let column = columns
            .iter_mut()
            .find(|column| column.name == name)
            .expect("a known column");
        match kind {
            "UNIQUE" => column.is_unique = false,
            "NOT NULL" => column.is_not_null = false,
            other => panic!("unknown constraint {other}"),
        }
        project
    }

    pub fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::default();
        for (name, columns) in &self.tables {
            let not_null = columns
                .iter()
                .filter(|column| column.is_not_null)
                .map(|column| column.name.clone())
                .collect();
            let unique = columns
                .iter()
                .filter(|column| column.is_unique)
                .map(|column| vec![column.name.clone()])
                .collect();
            catalog.tables.insert(
                name.clone(),
                Table {
                    not_null,
                    unique,
                    ..Table::default()
                },
            );
        }
        for (name, text) in &self.seeds {
            let seed = Seed::parse(text).expect("a CSV");
            catalog.tables.insert(
                name.clone(),
                Table {
                    seed: Some(seed),
                    ..Table::default()
                },
            );
        }
        catalog
    }

    pub fn schema(&self, table: &str) -> SchemaRef {
        let columns = &self.tables[table];
        Arc::new(Schema::new(
            columns
                .iter()
                .map(|column| Field::new(&column.name, column.data_type.clone(), true))
                .collect::<Vec<_>>(),
        ))
    }

    pub fn seed_schema(&self, seed: &str) -> SchemaRef {
        let seed = Seed::parse(&self.seeds[seed]).expect("a CSV");
        let is_number = |index: usize| {
            seed.rows.iter().all(|row| {
                row[index]
                    .as_ref()
                    .is_none_or(|cell| cell.parse::<i64>().is_ok())
            })
        };
        let kind = |index| {
            if is_number(index) {
                DataType::Int64
            } else {
                DataType::Utf8
            }
        };
        let fields = seed
            .columns
            .iter()
            .enumerate()
            .map(|(index, name)| Field::new(name, kind(index), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    pub fn rendered(&self, sql: &str) -> String {
        let mut environment = minijinja::Environment::new();
        let vars = self.vars.clone();
        environment.add_function("var", move |name: String| {
            vars.get(&name).map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_string)
            })
        });
        environment.add_function("ref", |name: String| name);
        let macros: String = self.macros.values().cloned().collect();
        environment
            .render_str(&format!("{macros}{sql}"), ())
            .expect("a template that renders")
    }

    /// The metric's query: its own SQL, or the SQL of its spec.
    pub fn metric_sql(&self) -> String {
        let Some(spec) = &self.spec else {
            return self.metric.clone();
        };
        let text = |field: &str| spec[field].as_str().unwrap_or_default();
        let unit = format!("{}_id", text("entity"));
        let filter = if text("filter").is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", text("filter"))
        };
        let value = format!("{}({})", text("agg"), text("value"));
        format!(
            "SELECT {unit} AS unit, {value} AS value FROM {}{filter} GROUP BY {unit}",
            text("fact")
        )
    }

    /// Every query the metric reads, bound once each against empty tables of its parents' schemas.
    pub fn queries(&self) -> Queries {
        crate::runtime()
            .block_on(self.bind())
            .expect("a project that binds")
    }

    async fn bind(&self) -> datafusion::error::Result<Queries> {
        let context = SessionContext::new();
        for name in self.tables.keys() {
            context.register_table(name.as_str(), Arc::new(EmptyTable::new(self.schema(name))))?;
        }
        for name in self.seeds.keys() {
            context.register_table(
                name.as_str(),
                Arc::new(EmptyTable::new(self.seed_schema(name))),
            )?;
        }
        let mut models = BTreeMap::new();
        let metric = Box::pin(self.bind_query(&context, &self.metric_sql(), &mut models)).await?;
        Ok(Queries { metric, models })
    }

    async fn bind_query(
        &self,
        context: &SessionContext,
        sql: &str,
        models: &mut BTreeMap<String, Query>,
    ) -> datafusion::error::Result<Query> {
        let state = context.state();
        let statement =
            state.sql_to_statement(&self.rendered(sql), &datafusion::config::Dialect::Generic)?;
        let mut parents = vec![];
        for reference in state.resolve_table_references(&statement)? {
            let name = reference.table().to_string();
            if let Some(sql) = self.models.get(&name) {
                if !models.contains_key(&name) {
                    let query = Box::pin(self.bind_query(context, sql, models)).await?;
                    context.register_table(
                        name.as_str(),
                        Arc::new(EmptyTable::new(query.schema.clone())),
                    )?;
                    models.insert(name.clone(), query);
                }
                parents.push(name);
            }
        }
        let state = context.state();
        let plan = state.statement_to_plan(statement).await?;
        Ok(Query {
            lineage: lineage::trace(&plan)?,
            schema: Arc::new(plan.schema().as_arrow().clone()),
            local: canonical::bind(&state, plan.clone(), &|_| None)?,
            inlined: canonical::bind(&state, plan, &|name| {
                models.get(name).map(|query| query.inlined.relation.clone())
            })?,
            parents,
        })
    }

    /// What the metric means: its spec's fields, its plan, and what each model of its lineage does.
    pub fn meaning(&self) -> Meaning {
        let (queries, catalog) = (self.queries(), self.catalog());
        let used = queries.used_columns();
        let facts = |model: &str, distance: usize, query: &Query| {
            let local = canonical::canonicalise(&query.local, &catalog);
            let reads = |column: &str| {
                model.is_empty()
                    || used.contains(&Origin {
                        relation: model.into(),
                        column: column.into(),
                    })
            };
            let inlined = canonical::canonicalise(&query.inlined, &catalog);
            ModelWords::of(&local, Some(&inlined)).for_metric(model, distance, &reads)
        };
        let mut models = vec![facts("", 0, &queries.metric)];
        for (name, distance) in queries.distances() {
            models.push(facts(&name, distance, &queries.models[&name]));
        }
        let plan = Plan::of(
            &[canonical::canonicalise(&queries.metric.inlined, &catalog)],
            models,
        );
        let mut fields = self.spec.as_ref().map(flatten).unwrap_or_default();
        fields.retain(|field, _| !matches!(field.as_str(), "fact" | "value" | "agg" | "filter"));
        Meaning {
            name: "metric".into(),
            version: "1.0.0".into(),
            fields,
            plan,
        }
    }
}

/// A project's metric and the models it reads.
pub struct Queries {
    pub metric: Query,
    pub models: BTreeMap<String, Query>,
}

pub struct Query {
    /// Over its parents as tables.
    pub local: Bound,
    /// Over base tables.
    pub inlined: Bound,
    pub lineage: Lineage,
    pub schema: SchemaRef,
    pub parents: Vec<String>,
}

impl Queries {
    /// The models of the lineage and how far up each stands, nearest first.
    pub fn distances(&self) -> Vec<(String, usize)> {
        let mut found: Vec<(String, usize)> = vec![];
        let mut level = self.metric.parents.clone();
        for distance in 1.. {
            level.retain(|name| !found.iter().any(|(known, _)| known == name));
            level.sort();
            level.dedup();
            if level.is_empty() {
                break;
            }
            found.extend(level.iter().map(|name| (name.clone(), distance)));
            level = level
                .iter()
                .flat_map(|name| self.models[name].parents.clone())
                .collect();
        }
        found
    }

    /// The columns of models that reach the metric in any way.
    pub fn used_columns(&self) -> BTreeSet<Origin> {
        let mut graph = ColumnGraph::default();
        graph.add("@metric", &self.metric.lineage);
        for (name, query) in &self.models {
            graph.add(name, &query.lineage);
        }
        let outputs = self.metric.lineage.outputs.iter();
        let starts = outputs.map(|output| Origin {
            relation: "@metric".into(),
            column: output.name.clone(),
        });
        starts
            .flat_map(|start| graph.upstream(&start))
            .map(|edge| edge.column)
            .collect()
    }
}

fn overlay_texts(texts: &mut BTreeMap<String, String>, overlay: &Value) {
    for (name, text) in overlay.as_object().into_iter().flatten() {
        match text.as_str() {
            Some(text) => texts.insert(name.clone(), text.into()),
            None => texts.remove(name),
        };
    }
}

fn column(name: &str, declared: &Value) -> Column {
    let declared = declared.as_str().expect("a declared type");
    let data_type = match declared.split(' ').next() {
        Some("BIGINT") => DataType::Int64,
        Some("INTEGER") => DataType::Int32,
        Some("VARCHAR") => DataType::Utf8,
        Some("BOOLEAN") => DataType::Boolean,
        Some("DOUBLE") => DataType::Float64,
        Some("DATE") => DataType::Date32,
        Some("TIMESTAMP") => DataType::Timestamp(TimeUnit::Nanosecond, None),
        other => panic!("unknown type {other:?}"),
    };
    Column {
        name: name.into(),
        data_type,
        is_not_null: declared.contains("NOT NULL"),
        is_unique: declared.contains("UNIQUE"),
    }
}
