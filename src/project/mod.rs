//! Reads a project folder.
//! In: [`Files`], the folder. Out: a [`Project`]: what the YAML said, with places; the text of every SQL file; seeds by path.
//! Names are not checked against each other here: that is `manifest`.

mod config;
mod consumers;
mod domain;
mod files;
mod freshness;
mod load;
mod metric;
mod properties;
mod semantic;
mod whole;
pub mod yaml;

pub use config::{Computation, ConfigTree, ProjectSpec, TargetSpec, check_name};
pub use consumers::{ConsumerSpec, GroupSpec};
pub use domain::{
    AssignmentsSpec, DomainSpecs, ExperimentMetricSpec, ExperimentSpec, PeriodSpec, choice,
};
pub use files::{Files, Folder, MemoryFiles};
pub use freshness::{AgeSpec, FreshnessSpec, LoadedSpec, Said};
pub use load::{
    KEPT_FOLDER, Options, PROJECT_FILES, Project, SqlFile, load, load_project_file, place_of,
};
pub use metric::{
    CapSpec, CovariateSpec, MeasureSpec, MetricDefaults, MetricSpec, SlaSpec, WindowSpec,
};
pub use properties::{
    ColumnSpec, FactSpec, PropertiesSpec, ResourceSpec, SourceSpec, SourceTableSpec, TEST_CONFIG,
    TestSpec,
};
pub use whole::replace;
