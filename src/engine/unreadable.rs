//! A published relation whose table is damaged. In: its columns, and why it cannot be read. Out: a relation that says so to whoever reads
//! it, and hinders nobody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::Engine;
use crate::sql;
use crate::warehouse::{Warehouse, WarehouseError};

/// What the engine says of a query that failed.
pub type Failure = DataFusionError;

#[derive(Debug)]
struct Unreadable {
    schema: SchemaRef,
    relation: String,
    path: PathBuf,
    detail: String,
}

impl Engine {
    /// Makes a relation known that nobody can read.
    pub fn add_unreadable(
        &self,
        relation: &str,
        columns: Option<SchemaRef>,
        path: PathBuf,
        why: &WarehouseError,
    ) -> Result<()> {
        let table = Unreadable {
            schema: columns.unwrap_or_else(|| Arc::new(Schema::empty())),
            relation: relation.to_owned(),
            path,
            detail: why.to_string(),
        };
        sql::register(&self.context, relation, Arc::new(table))
    }

    /// The damaged table that a query failed of, if that is why it failed. `tables` are the relations, names and fingerprints of what is
    /// published.
    pub async fn damage(
        &self,
        warehouse: &Warehouse,
        tables: &[(String, &str, &str)],
        query: &str,
        failure: &Failure,
    ) -> Option<WarehouseError> {
        if let Some((relation, path, detail)) = said_unreadable(failure) {
            return Some(WarehouseError::Unreadable {
                relation: relation.to_owned(),
                path: path.to_path_buf(),
                detail: detail.to_owned(),
            });
        }
        if let DataFusionError::Execution(_) | DataFusionError::Plan(_) = failure.find_root() {
            return None;
        }
        let read = self.read_by(query).await.ok()?;
        for (relation, name, fingerprint) in tables {
            if !read.contains(relation) {
                continue;
            }
            let found = warehouse.damaged_file(name, fingerprint).await;
            if let Some(detail) = found.unwrap_or_else(|error| Some(error.to_string())) {
                return Some(WarehouseError::Unreadable {
                    relation: relation.clone(),
                    path: warehouse.table_path(name, fingerprint).ok()?,
                    detail,
                });
            }
        }
        None
    }
}

/// Why a relation cannot be read, in its own words where it has some.
pub fn why_unreadable(failure: &Failure) -> String {
    match said_unreadable(failure) {
        Some((relation, path, detail)) => {
            let (relation, path, detail) = (relation.into(), path.into(), detail.into());
            WarehouseError::Unreadable {
                relation,
                path,
                detail,
            }
            .to_string()
        }
        None => failure.strip_backtrace(),
    }
}

/// What an [`Unreadable`] said, within an error of the engine.
fn said_unreadable(failure: &Failure) -> Option<(&str, &Path, &str)> {
    let mut link: Option<&(dyn std::error::Error + 'static)> = Some(failure);
    while let Some(error) = link {
        if let Some(WarehouseError::Unreadable {
            relation,
            path,
            detail,
        }) = error.downcast_ref()
        {
            return Some((relation, path, detail));
        }
        link = error.source();
    }
    None
}

#[async_trait]
impl TableProvider for Unreadable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let error = WarehouseError::Unreadable {
            relation: self.relation.clone(),
            path: self.path.clone(),
            detail: self.detail.clone(),
        };
        Err(DataFusionError::External(Box::new(error)))
    }
}
