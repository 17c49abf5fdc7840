//! The few names of DataFusion that the merge, the kernel and the cells use, without the query engine behind them.

pub use {arrow, parquet};

pub mod error {
    pub type Result<T, E = arrow::error::ArrowError> = std::result::Result<T, E>;
}

pub mod execution {
    use std::pin::Pin;

    use arrow::record_batch::RecordBatch;
    use futures::Stream;

    pub type SendableRecordBatchStream =
        Pin<Box<dyn Stream<Item = crate::error::Result<RecordBatch>> + Send>>;

    pub mod memory_pool {
        /// Nothing is limited here.
        pub struct MemoryReservation;
    }
}
