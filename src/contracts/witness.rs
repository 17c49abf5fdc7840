//! The smallest rows on which two definitions differ.
//! In: the columns of the base tables, the literals of both definitions, and a caller who runs both. Out: at most
//! [`ROWS`] rows per table, shrunk; `None` proves nothing.

use std::collections::BTreeMap;

/// No more rows per table than a person takes in at once.
pub const ROWS: usize = 3;

/// What a column may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Integer,
    Float,
    Text,
    Boolean,
    Date,
    Timestamp,
}

/// A column to invent values for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    pub is_not_null: bool,
    pub is_unique: bool,
}

/// One invented value; dates are days, timestamps nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Integer(i64),
    Float(f64),
    Text(String),
    Boolean(bool),
}

/// Rows per table.
pub type Database = BTreeMap<String, Vec<Vec<Value>>>;

/// What to search over.
#[derive(Clone, Debug, Default)]
pub struct Space {
    pub tables: BTreeMap<String, Vec<Column>>,
    /// Literals of both definitions: boundaries are where they differ.
    pub integers: Vec<i64>,
    pub texts: Vec<String>,
}

/// Searches `tries` databases for one on which `differs` is true, then shrinks it. The walk is the same for the same seed.
pub fn search(
    space: &Space,
    seed: u64,
    tries: usize,
    differs: &mut dyn FnMut(&Database) -> bool,
) -> Option<Database> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for attempt in 0..tries {
        let database = invent(space, &mut random, attempt);
        if differs(&database) {
            return Some(shrink(space, database, differs));
        }
    }
    None
}

/// Removes rows, then simplifies values, as long as the definitions still differ.
fn shrink(
    space: &Space,
    mut database: Database,
    differs: &mut dyn FnMut(&Database) -> bool,
) -> Database {
    let mut is_smaller = true;
    while is_smaller {
        is_smaller = false;
        for table in space.tables.keys() {
            for index in (0..database[table].len()).rev() {
                let mut smaller = database.clone();
                smaller
                    .get_mut(table)
                    .expect("every table has rows")
                    .remove(index);
                if differs(&smaller) {
                    (database, is_smaller) = (smaller, true);
                }
            }
        }
    }
    for (table, columns) in &space.tables {
        for row in 0..database[table].len() {
            for (place, column) in columns.iter().enumerate() {
                simplify(&mut database, table, row, place, column, differs);
            }
        }
    }
    database
}

/// Tries the plainest value of a column first: what stays unusual matters.
fn simplify(
    database: &mut Database,
    table: &str,
    row: usize,
    place: usize,
    column: &Column,
    differs: &mut dyn FnMut(&Database) -> bool,
) {
    if column.is_unique {
        return;
    }
    let plain = match column.kind {
        Kind::Integer | Kind::Date | Kind::Timestamp => Value::Integer(0),
        Kind::Float => Value::Float(0.0),
        Kind::Text => Value::Text(String::new()),
        Kind::Boolean => Value::Boolean(false),
    };
    let mut simpler = database.clone();
    simpler.get_mut(table).expect("a known table")[row][place] = plain;
    if simpler != *database && differs(&simpler) {
        *database = simpler;
    }
}

fn invent(space: &Space, random: &mut Random, attempt: usize) -> Database {
    let mut database = Database::new();
    // Rows that match each other are rare among many values: every other database has few.
    let is_narrow = attempt.is_multiple_of(2);
    for (table, columns) in &space.tables {
        // Most tables are full: an empty one hides what the others would show.
        let rows = if random.below(8) == 0 {
            random.below(ROWS)
        } else {
            1 + (attempt + random.below(ROWS)) % ROWS
        };
        let mut invented = vec![];
        for row in 0..rows {
            invented.push(
                columns
                    .iter()
                    .map(|column| match is_narrow {
                        true => narrow(space, column, row, random),
                        false => value(space, column, row, random),
                    })
                    .collect(),
            );
        }
        database.insert(table.clone(), invented);
    }
    database
}

/// One of two or three values, so that keys match and conditions hold.
fn narrow(space: &Space, column: &Column, row: usize, random: &mut Random) -> Value {
    if column.is_unique {
        return key(column, row);
    }
    if !column.is_not_null && random.below(8) == 0 {
        return Value::Null;
    }
    match column.kind {
        Kind::Boolean => Value::Boolean(random.below(4) == 0),
        Kind::Float => Value::Float(random.pick(&[1.0, 2.0])),
        Kind::Text if space.texts.is_empty() => Value::Text("x".into()),
        Kind::Text => Value::Text(space.texts[random.below(space.texts.len())].clone()),
        Kind::Integer | Kind::Date | Kind::Timestamp => Value::Integer(random.pick(&[0, 0, 1])),
    }
}

fn key(column: &Column, row: usize) -> Value {
    match column.kind {
        Kind::Text => Value::Text(format!("k{row}")),
        Kind::Float => Value::Float(row as f64),
        _ => Value::Integer(row as i64),
    }
}

fn value(space: &Space, column: &Column, row: usize, random: &mut Random) -> Value {
    if column.is_unique {
        return key(column, row);
    }
    if !column.is_not_null && random.below(4) == 0 {
        return Value::Null;
    }
    match column.kind {
        Kind::Boolean => Value::Boolean(random.below(2) == 0),
        Kind::Float => Value::Float(random.pick(&[0.0, -1.5, 0.5, 2.0, 100.0])),
        Kind::Text => match space.texts.is_empty() || random.below(4) == 0 {
            true => Value::Text(random.pick(&["", "x", "X", "y"]).to_string()),
            false => Value::Text(space.texts[random.below(space.texts.len())].clone()),
        },
        Kind::Integer | Kind::Date | Kind::Timestamp => integer(space, column.kind, random),
    }
}

fn integer(space: &Space, kind: Kind, random: &mut Random) -> Value {
    if !space.integers.is_empty() && random.below(2) == 0 {
        let boundary = space.integers[random.below(space.integers.len())];
        return Value::Integer(boundary.saturating_add(random.below(3) as i64 - 1));
    }
    const DAY: i64 = 86_400_000_000_000;
    match kind {
        Kind::Timestamp => Value::Integer(random.pick(&[
            0,
            1,
            3_600_000_000_000,
            DAY,
            3 * DAY,
            7 * DAY,
            8 * DAY,
            10 * DAY,
            14 * DAY,
        ])),
        _ => Value::Integer(random.pick(&[0, 1, 2, -1, 3, 100, -300, 500])),
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}
