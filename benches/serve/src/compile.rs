//! The product's reading of a project's flags, without its compiling of models, which needs DataFusion.

#[path = "../../../src/compile/flags.rs"]
mod flags;

pub use flags::{ProjectFlags, load_flags};
