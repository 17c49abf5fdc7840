//! Combinations of segment values as numbers.
//! In: the values of an assignment's segment columns. Out: their position among all combinations that a worker has met.

use std::collections::HashMap;

/// Interns combinations of segment values.
#[derive(Default)]
pub struct Segments {
    pub known: Vec<Vec<Option<String>>>,
    positions: HashMap<Vec<Option<String>>, u32>,
}

impl Segments {
    pub fn position(&mut self, values: Vec<Option<String>>) -> u32 {
        if let Some(position) = self.positions.get(&values) {
            return *position;
        }
        let position = self.known.len() as u32;
        self.known.push(values.clone());
        self.positions.insert(values, position);
        position
    }
}
