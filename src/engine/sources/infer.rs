//! What type a column has when nothing is declared: the narrowest that all of its values fit.
//! In: every value of the column. Out: [`Candidates`], which merge over files in any order.

use super::declared::ColumnType;
use super::problems::Place;
use super::rows::Cell;
use super::values;
use serde::{Deserialize, Serialize};

const BOOLEAN: u8 = 1;
const BIGINT: u8 = 2;
const DOUBLE: u8 = 4;
const DATE: u8 = 8;
const TIMESTAMP: u8 = 16;
const ALL: u8 = BOOLEAN | BIGINT | DOUBLE | DATE | TIMESTAMP;

/// The types a column may still have after the values seen so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Candidates {
    types: u8,
    has_number: bool,
    has_value: bool,
    /// The first NaN or infinity: an error if the column turns out to be one of numbers.
    pub(super) non_finite: Option<NonFinite>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NonFinite {
    pub(super) place: Place,
    pub(super) text: String,
    /// How many came after it.
    pub(super) more: u64,
}

impl Default for Candidates {
    fn default() -> Self {
        Self {
            types: ALL,
            has_number: false,
            has_value: false,
            non_finite: None,
        }
    }
}

impl Candidates {
    /// `place` is only asked for where it will be remembered.
    pub(super) fn add(&mut self, cell: Cell<'_>, place: impl FnOnce() -> Place) {
        let (Cell::Field(text) | Cell::Text(text) | Cell::Literal(text)) = cell else {
            return;
        };
        self.has_value = true;
        if self.types == 0 {
            return;
        }
        let types = self.types & types_of(cell, self.types);
        if types & DOUBLE != 0 {
            // A type that was ruled out stays so; this is a number, or a word for one that is not finite.
            match types & BIGINT == 0 && values::is_non_finite(text) {
                true => self.add_non_finite(text, place),
                false => self.has_number = true,
            }
        }
        self.types = types;
    }

    fn add_non_finite(&mut self, text: &str, place: impl FnOnce() -> Place) {
        match &mut self.non_finite {
            Some(first) => first.more += 1,
            none => {
                *none = Some(NonFinite {
                    place: place(),
                    text: text.to_string(),
                    more: 0,
                })
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Candidates) {
        self.types &= other.types;
        self.has_number |= other.has_number;
        self.has_value |= other.has_value;
    }

    /// Whether any value says something about the type.
    pub(super) fn has_value(&self) -> bool {
        self.has_value
    }

    /// Without any value nothing is known, so the column is text; a column of nothing but `nan` is text, too.
    pub(super) fn column_type(&self) -> ColumnType {
        let is = |candidate: u8| self.has_value && self.types & candidate != 0;
        if is(BOOLEAN) {
            ColumnType::Boolean
        } else if is(BIGINT) {
            ColumnType::BigInt
        } else if is(DOUBLE) && self.has_number {
            ColumnType::Double
        } else if is(DATE) {
            ColumnType::Date
        } else if is(TIMESTAMP) {
            ColumnType::Timestamp
        } else {
            ColumnType::Varchar
        }
    }
}

/// Those of the wanted types that the value fits. JSON says itself what is text, so `"12"` in JSON is no number.
fn types_of(cell: Cell<'_>, wanted: u8) -> u8 {
    let is_wanted = |types: u8| wanted & types != 0;
    let mut types = 0;
    if let (true, Cell::Field(text) | Cell::Literal(text)) = (is_wanted(BIGINT | DOUBLE), cell) {
        types |= number_types(text);
    }
    if let (true, Cell::Field(text) | Cell::Literal(text)) = (is_wanted(BOOLEAN), cell) {
        types |= boolean_type(text);
    }
    if let (true, Cell::Field(text) | Cell::Text(text)) = (is_wanted(DATE | TIMESTAMP), cell) {
        types |= time_types(text);
    }
    types
}

fn boolean_type(text: &str) -> u8 {
    if values::plain_boolean(text).is_some() {
        BOOLEAN
    } else {
        0
    }
}

fn number_types(text: &str) -> u8 {
    if values::is_plain_whole(text) {
        // A whole number beyond 64 bits is an identifier; as a double it would lose digits.
        if values::whole(text).is_some() {
            BIGINT | DOUBLE
        } else {
            0
        }
    } else if values::is_plain_number(text) || values::is_non_finite(text) {
        DOUBLE
    } else {
        0
    }
}

fn time_types(text: &str) -> u8 {
    if values::date(text).is_some() {
        DATE | TIMESTAMP
    } else if values::timestamp(text).is_some() {
        TIMESTAMP
    } else {
        0
    }
}
