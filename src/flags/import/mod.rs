//! Flags of other systems: read, evaluated as they are there, and carried over.
//! In: the files of those systems. Out: their own answers for a context, which the conformance suites of the systems
//! check, and our definitions with a report of what could not be carried over.

pub mod carry;
pub mod eppo;
pub mod flagd;
pub mod growthbook;
mod javascript;
pub mod unleash;

pub(super) use javascript::number_text;
