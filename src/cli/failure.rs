//! What stops a command without being a fault of the project: the disk and the warehouse.
//! In: an error that nothing below has told. Out: a diagnostic with its code; errors of other kinds have none.

use std::error::Error;
use std::fmt;

use crate::diagnostics::{Code, Diagnostic};
use crate::warehouse::{LockError, WarehouseError, is_disk_full};

/// The context of an error: a file that could not be written, as people call it.
#[derive(Debug)]
pub struct CannotWrite(pub String);

impl CannotWrite {
    pub fn the(file: &str) -> Self {
        Self(file.to_owned())
    }
}

impl fmt::Display for CannotWrite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot write {}", self.0)
    }
}

impl Error for CannotWrite {}

/// What is told of an error of the disk or the warehouse.
pub fn diagnostic(error: &anyhow::Error) -> Option<Diagnostic> {
    if is_disk_full(error.as_ref()) {
        return Some(full(chain(error)));
    }
    let is_of_warehouse = error.downcast_ref::<WarehouseError>().is_some()
        || matches!(
            error.downcast_ref::<LockError>(),
            Some(LockError::Warehouse(_))
        );
    let is_told = is_of_warehouse || error.downcast_ref::<CannotWrite>().is_some();
    is_told.then(|| Diagnostic::error(Code::E0901, chain(error)))
}

/// The disk is full.
fn full(message: String) -> Diagnostic {
    Diagnostic::error(Code::E0903, message)
        .hint("what is published stays readable; free some space and try again")
}

/// An error and its causes, without those that it has told already.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}
