//! Feature flags and assignment: which unit gets which variant, and why.
//! In: checked definitions, an evaluation context, an instant. Out: a value, its reason, and the assignment with
//! everything that decided it. No file, clock, lock or log: reading definitions, serving answers and recording
//! assignments belong to other rooms.

pub mod bucketing;
