//! Small projects as `pairs.json` writes them: tables with constraints, seeds, macros, models that name each other
//! directly, one metric. In: JSON. Out: bound and canonical queries.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::SessionContext;
use equipoise::sql::canonical::{self, Bound, Canonical, Catalog, Seed, Table};
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
            let columns = columns.as_object().expect("columns").iter().map(|(name, declared)| column(name, declared));
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
        let (place, kind) = constraint.split_once(' ').expect("a constraint names a column and a kind");
        let (table, name) = place.split_once('.').expect("a column has a table");
        let columns = project.tables.get_mut(table).expect("a known table");
        let column = columns.iter_mut().find(|column| column.name == name).expect("a known column");
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
            let not_null = columns.iter().filter(|column| column.is_not_null).map(|column| column.name.clone()).collect();
            let unique = columns.iter().filter(|column| column.is_unique).map(|column| vec![column.name.clone()]).collect();
            catalog.tables.insert(name.clone(), Table { not_null, unique, ..Table::default() });
        }
        for (name, text) in &self.seeds {
            let seed = Seed::parse(text).expect("a CSV");
            catalog.tables.insert(name.clone(), Table { seed: Some(seed), ..Table::default() });
        }
        catalog
    }

    pub fn schema(&self, table: &str) -> SchemaRef {
        let columns = &self.tables[table];
        Arc::new(Schema::new(
            columns.iter().map(|column| Field::new(&column.name, column.data_type.clone(), true)).collect::<Vec<_>>(),
        ))
    }

    pub fn seed_schema(&self, seed: &str) -> SchemaRef {
        let seed = Seed::parse(&self.seeds[seed]).expect("a CSV");
        let is_number = |index: usize| seed.rows.iter().all(|row| row[index].as_ref().is_none_or(|cell| cell.parse::<i64>().is_ok()));
        let kind = |index| if is_number(index) { DataType::Int64 } else { DataType::Utf8 };
        let fields = seed.columns.iter().enumerate().map(|(index, name)| Field::new(name, kind(index), true));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    pub fn rendered(&self, sql: &str) -> String {
        let mut environment = minijinja::Environment::new();
        let vars = self.vars.clone();
        environment.add_function("var", move |name: String| vars.get(&name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_string)));
        environment.add_function("ref", |name: String| name);
        let macros: String = self.macros.values().cloned().collect();
        environment.render_str(&format!("{macros}{sql}"), ()).expect("a template that renders")
    }

    /// Binds the metric; models are bound once each, against empty tables of their parents' schemas.
    pub fn bound(&self) -> Bound {
        crate::runtime().block_on(self.bind()).expect("a project that binds")
    }

    async fn bind(&self) -> datafusion::error::Result<Bound> {
        let context = SessionContext::new();
        for name in self.tables.keys() {
            context.register_table(name.as_str(), Arc::new(EmptyTable::new(self.schema(name))))?;
        }
        for name in self.seeds.keys() {
            context.register_table(name.as_str(), Arc::new(EmptyTable::new(self.seed_schema(name))))?;
        }
        let mut models = BTreeMap::new();
        Box::pin(self.bind_query(&context, &self.metric, &mut models)).await
    }

    async fn bind_query(
        &self,
        context: &SessionContext,
        sql: &str,
        models: &mut BTreeMap<String, Bound>,
    ) -> datafusion::error::Result<Bound> {
        let state = context.state();
        let statement = state.sql_to_statement(&self.rendered(sql), &datafusion::config::Dialect::Generic)?;
        for reference in state.resolve_table_references(&statement)? {
            let name = reference.table().to_string();
            if let Some(sql) = self.models.get(&name)
                && !models.contains_key(&name)
            {
                Box::pin(self.bind_model(context, &name, sql, models)).await?;
            }
        }
        let state = context.state();
        let plan = state.statement_to_plan(statement).await?;
        canonical::bind(&state, plan, &|name| models.get(name).map(|bound| bound.relation.clone()))
    }

    async fn bind_model(
        &self,
        context: &SessionContext,
        name: &str,
        sql: &str,
        models: &mut BTreeMap<String, Bound>,
    ) -> datafusion::error::Result<()> {
        let bound = Box::pin(self.bind_query(context, sql, models)).await?;
        let schema = context.state().create_logical_plan(&self.rendered(sql)).await?.schema().as_arrow().clone();
        context.register_table(name, Arc::new(EmptyTable::new(Arc::new(schema))))?;
        models.insert(name.into(), bound);
        Ok(())
    }

    pub fn canonical(&self) -> Canonical {
        canonical::canonicalise(&self.bound(), &self.catalog())
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
