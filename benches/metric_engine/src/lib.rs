//! The files under measurement, as they are in the package, under the names by which they know each other.

#[path = "../../../src/engine/operator/apart.rs"]
pub mod apart;
#[path = "../../../src/engine/operator/batches.rs"]
pub mod batches;
#[path = "../../../src/engine/operator/blocks.rs"]
pub mod blocks;
#[path = "../../../src/engine/operator/cells.rs"]
pub mod cells;
#[path = "../../../src/engine/operator/ends.rs"]
pub mod ends;
#[path = "../../../src/engine/operator/gathered.rs"]
pub mod gathered;
#[path = "../../../src/engine/operator/kernel.rs"]
pub mod kernel;
#[path = "../../../src/engine/operator/keys.rs"]
pub mod keys;
#[path = "../../../src/engine/operator/lanes.rs"]
pub mod lanes;
#[path = "../../../src/engine/operator/layout.rs"]
pub mod layout;
#[path = "../../../src/engine/operator/merge.rs"]
pub mod merge;
#[path = "../../../src/metrics/duration.rs"]
pub mod duration;
pub use duration::Duration;
#[path = "../../../src/metrics/plan.rs"]
pub mod plan;
#[path = "../../../src/engine/operator/queue.rs"]
pub mod queue;
#[path = "../../../src/engine/operator/firsts.rs"]
pub mod firsts;
#[path = "../../../src/engine/operator/numbers.rs"]
pub mod numbers;
#[path = "../../../src/engine/operator/segments.rs"]
pub mod segments;
#[path = "../../../src/engine/operator/unit.rs"]
pub mod unit;
#[path = "../../../src/engine/operator/vectors.rs"]
pub mod vectors;
#[path = "../../../src/engine/operator/running.rs"]
pub mod running;
#[path = "../../../src/engine/operator/days.rs"]
pub mod days;
#[path = "../../../src/engine/operator/special.rs"]
pub mod special;
#[path = "../../../src/engine/operator/special_cells.rs"]
pub mod special_cells;
#[path = "../../../src/engine/operator/states.rs"]
pub mod states;
#[path = "../../../src/engine/operator/texts.rs"]
pub mod texts;
#[path = "../../../src/stats/mod.rs"]
pub mod stats;

pub mod metrics {
    pub use crate::plan;
}

pub mod engine {
    pub mod operator {
        pub use crate::{
            apart, batches, blocks, cells, days, ends, firsts, kernel, keys, lanes, layout, merge, numbers, queue,
            running, segments, special, special_cells, states, texts, unit, vectors,
        };
    }
}

pub mod sql {
    pub mod functions {
        use std::sync::Arc;

        use datafusion::arrow::datatypes::{DataType, Field, Fields};

        /// The state as a struct, as the SQL functions declare it.
        pub fn state_type() -> DataType {
            let count = |name: &str| Field::new(name, DataType::Int64, true);
            let number = Arc::new(Field::new_list_field(DataType::Float64, true));
            let list = |name: &str| Field::new(name, DataType::List(number.clone()), true);
            let counts = ["n", "nulls", "non_finite"].map(count);
            let lists = ["min", "max", "mean", "mean_low", "cross_products"].map(list);
            DataType::Struct(counts.into_iter().chain(lists).collect::<Fields>())
        }
    }
}
