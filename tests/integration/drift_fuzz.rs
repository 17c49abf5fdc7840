//! Soundness of the fingerprint: queries with equal fingerprints give equal results.
//! Queries are grown at random, mutated step by step by rewrites that keep the meaning and by ones that may not, and
//! whatever shares a fingerprint is run on generated data with NULLs, repeats, ties, negatives and empty tables.
//! `EQUIPOISE_FUZZ` is the number of mutations (default 120), `EQUIPOISE_FUZZ_SEED` the seed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::physical_optimizer::ensure_requirements::EnsureRequirements;
use datafusion::physical_plan::collect;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use equipoise::sql::canonical::{self, Catalog, Table};
use equipoise::sql::lineage::Origin;

#[test]
fn drift_fuzz_equal_fingerprints_give_equal_results() {
    run(number("EQUIPOISE_FUZZ", 120));
}

/// Runs so many mutations; the benchmark of fingerprints runs them too, since it is built with optimisation.
pub fn run(wanted: u64) {
    let seed = number("EQUIPOISE_FUZZ_SEED", 7);
    let mut fuzz = Fuzz::new(seed);
    while fuzz.mutations < wanted {
        fuzz.family();
        if fuzz.mutations.is_multiple_of(5_000) {
            println!("{}", fuzz.report());
        }
    }
    println!("{}", fuzz.report());
    assert!(fuzz.unsound.is_empty(), "{}", fuzz.unsound.join("\n\n"));
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

struct Fuzz {
    random: Random,
    catalog: Catalog,
    context: SessionContext,
    /// Which database the tables show.
    shown: Arc<AtomicUsize>,
    mutations: u64,
    unbound: u64,
    failed: u64,
    compared: u64,
    refined: u64,
    /// First query and its results per fingerprint.
    seen: HashMap<String, (String, Option<Vec<String>>)>,
    unsound: Vec<String>,
    planning: std::time::Duration,
    running: std::time::Duration,
    /// What took longest, in milliseconds: a query whose form grows without bounds would eat all the time.
    slowest: (u128, String),
}

impl Fuzz {
    fn new(seed: u64) -> Fuzz {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let shown = Arc::new(AtomicUsize::new(0));
        let databases: Vec<Database> = SIZES
            .into_iter()
            .map(|rows| database(&mut random, rows))
            .collect();
        let context = session(databases, &shown);
        Fuzz {
            random,
            catalog: catalog(),
            context,
            shown,
            mutations: 0,
            unbound: 0,
            failed: 0,
            compared: 0,
            refined: 0,
            seen: HashMap::new(),
            unsound: vec![],
            planning: std::time::Duration::ZERO,
            running: std::time::Duration::ZERO,
            slowest: (0, String::new()),
        }
    }

    /// One query and a walk of mutations from it.
    fn family(&mut self) {
        let mut query = Query::random(&mut self.random);
        self.seen.clear();
        for step in 0..40 {
            let sql = query.sql();
            self.look_at(&sql);
            self.mutations += 1;
            if step % 8 == 7 {
                query = Query::random(&mut self.random);
                self.seen.clear();
            }
            query.mutate(&mut self.random);
        }
    }

    fn look_at(&mut self, sql: &str) {
        let start = std::time::Instant::now();
        let hash = self.fingerprint(sql);
        self.planning += start.elapsed();
        self.slowest = (self.slowest.clone()).max((start.elapsed().as_millis(), sql.to_string()));
        let Some(hash) = hash else {
            self.unbound += 1;
            return;
        };
        let Some((first, results)) = self.seen.get(&hash).cloned() else {
            self.seen.insert(hash, (sql.to_string(), None));
            return;
        };
        if first == sql {
            return;
        }
        let start = std::time::Instant::now();
        let (expected, found) = (results.or_else(|| self.run(&first)), self.run(sql));
        self.running += start.elapsed();
        let (Some(expected), Some(found)) = (expected, found) else {
            self.failed += 1;
            return;
        };
        self.compared += 1;
        self.refined += u64::from(expected.iter().any(|rows| rows.lines().count() > 1));
        if expected != found {
            let place = expected
                .iter()
                .zip(&found)
                .position(|(one, other)| one != other)
                .expect("they differ");
            self.unsound.push(format!(
                "{first}\n{sql}\ndatabase {place}:\n{}\n{}",
                expected[place], found[place]
            ));
        }
        self.seen.insert(hash, (first, Some(expected)));
    }

    fn fingerprint(&self, sql: &str) -> Option<String> {
        crate::runtime().block_on(async {
            let state = self.context.state();
            let plan = state.create_logical_plan(sql).await.ok()?;
            let bound = canonical::bind(&state, plan, &|_| None).ok()?;
            Some(canonical::canonicalise(&bound, &self.catalog).hash)
        })
    }

    /// The sorted rows of every database, planned once; `None` when the engine refuses the query.
    fn run(&self, sql: &str) -> Option<Vec<String>> {
        crate::runtime().block_on(async {
            let plan = self
                .context
                .sql(sql)
                .await
                .ok()?
                .create_physical_plan()
                .await
                .ok()?;
            let mut results = vec![];
            for index in 0..SIZES.len() {
                self.shown.store(index, Ordering::SeqCst);
                let fresh = reset_plan_states(plan.clone()).ok()?;
                results.push(sorted_rows(
                    &collect(fresh, self.context.task_ctx()).await.ok()?,
                ));
            }
            Some(results)
        })
    }

    fn report(&self) -> String {
        format!(
            "fuzz: {} mutations, {} did not bind, {} pairs of equal fingerprints run ({} with several rows), {} refused by the engine, {} unsound; fingerprints took {:?}, runs {:?}, the slowest fingerprint {} ms: {}",
            self.mutations,
            self.unbound,
            self.compared,
            self.refined,
            self.failed,
            self.unsound.len(),
            self.planning,
            self.running,
            self.slowest.0,
            self.slowest.1
        )
    }
}

fn sorted_rows(batches: &[RecordBatch]) -> String {
    let mut lines = vec![];
    for batch in batches {
        let options = FormatOptions::default().with_null("NULL");
        let columns: Vec<ArrayFormatter> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a format"))
            .collect();
        let mut order: Vec<usize> = (0..columns.len()).collect();
        order.sort_by_key(|index| batch.schema().field(*index).name().clone());
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = order
                .iter()
                .map(|index| rounded(&columns[*index].value(row).to_string()))
                .collect();
            lines.push(cells.join("|"));
        }
    }
    lines.sort();
    lines.join("\n")
}

/// Rows per table of each database.
const SIZES: [usize; 4] = [0, 4, 8, 14];

type Database = Vec<(&'static str, RecordBatch)>;

/// A session that plans plainly, because most of the time would go into optimising, and whose tables show the database
/// that `shown` says: one plan runs on all of them.
fn session(databases: Vec<Database>, shown: &Arc<AtomicUsize>) -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_config(SessionConfig::new().with_target_partitions(1))
        .with_default_features()
        .with_optimizer_rules(vec![
            Arc::new(ReplaceDistinctWithAggregate::new()),
            Arc::new(SimplifyExpressions::new()),
            Arc::new(DecorrelatePredicateSubquery::new()),
            Arc::new(ScalarSubqueryToJoin::new()),
        ])
        .with_physical_optimizer_rules(vec![Arc::new(EnsureRequirements::new())])
        .build();
    let context = SessionContext::new_with_state(state);
    for (index, (name, batch)) in databases[0].iter().enumerate() {
        let batches = databases
            .iter()
            .map(|database| database[index].1.clone())
            .collect();
        let partition = Switched {
            schema: batch.schema(),
            batches,
            shown: shown.clone(),
        };
        let table =
            StreamingTable::try_new(batch.schema(), vec![Arc::new(partition)]).expect("one schema");
        context
            .register_table(*name, Arc::new(table))
            .expect("a fresh name");
    }
    context
}

#[derive(Debug)]
struct Switched {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    shown: Arc<AtomicUsize>,
}

impl PartitionStream for Switched {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batch = self.batches[self.shown.load(Ordering::SeqCst)].clone();
        Box::pin(MemoryStream::try_new(vec![batch], self.schema.clone(), None).expect("one schema"))
    }
}

/// Float sums may differ in the last bits with the order of rows.
fn rounded(cell: &str) -> String {
    match cell.parse::<f64>() {
        Ok(value) if cell.contains('.') => format!("{value:.9}"),
        _ => cell.to_string(),
    }
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let table = |not_null: &[&str], unique: &[&str]| Table {
        not_null: names(not_null).into_iter().collect(),
        unique: unique
            .iter()
            .map(|column| vec![column.to_string()])
            .collect(),
        ..Table::default()
    };
    catalog
        .tables
        .insert("t".into(), table(&["id", "c", "q"], &["id"]));
    catalog
        .tables
        .insert("u".into(), table(&["id"], &["id", "k"]));
    catalog.tables.insert("w".into(), table(&[], &[]));
    catalog
}

/// t(id, a, b, c, s, p, q, f), u(id, k, v, s), w(k, v, s): id unique and there, u.k unique with NULLs, t.c and t.q there.
fn database(random: &mut Random, rows: usize) -> Database {
    let ids: Vec<Option<i64>> = (0..rows as i64).map(|id| Some(id - 2)).collect();
    let mut keys = ids.clone();
    for key in keys.iter_mut().skip(1).step_by(3) {
        *key = None;
    }
    let mut ints = |null_in: u64| -> Vec<Option<i64>> {
        (0..rows)
            .map(|_| {
                if null_in > 0 && random.below(null_in) == 0 {
                    None
                } else {
                    Some(random.below(4) as i64 - 1)
                }
            })
            .collect()
    };
    let (a, b, c, v, wk, wv) = (ints(3), ints(4), ints(0), ints(3), ints(4), ints(3));
    let mut texts = || -> Vec<Option<&str>> {
        (0..rows)
            .map(|_| random.pick(&[None, Some(""), Some("x"), Some("X"), Some("y")]))
            .collect()
    };
    let (s, us, ws) = (texts(), texts(), texts());
    let mut truths = |null_in: u64| -> Vec<Option<bool>> {
        (0..rows)
            .map(|_| {
                if null_in > 0 && random.below(null_in) == 0 {
                    None
                } else {
                    Some(random.below(2) == 0)
                }
            })
            .collect()
    };
    let (p, q) = (truths(3), truths(0));
    let f: Vec<Option<f64>> = (0..rows)
        .map(|_| random.pick(&[None, Some(0.0), Some(-0.0), Some(0.5), Some(-1.25)]))
        .collect();
    let int = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let text = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let truth = |values: Vec<Option<bool>>| Arc::new(BooleanArray::from(values)) as ArrayRef;
    let float = Arc::new(Float64Array::from(f)) as ArrayRef;
    let t = vec![
        ("id", int(ids.clone())),
        ("a", int(a)),
        ("b", int(b)),
        ("c", int(c)),
        ("s", text(s)),
        ("p", truth(p)),
        ("q", truth(q)),
        ("f", float),
    ];
    let u = vec![
        ("id", int(ids)),
        ("k", int(keys)),
        ("v", int(v)),
        ("s", text(us)),
    ];
    let w = vec![("k", int(wk)), ("v", int(wv)), ("s", text(ws))];
    vec![("t", batch(t)), ("u", batch(u)), ("w", batch(w))]
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let kind = |array: &ArrayRef| -> DataType { array.data_type().clone() };
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, kind(array), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("a batch")
}

/// Random queries and one database that can be perturbed, for other tests.
pub struct Bench {
    random: Random,
    context: SessionContext,
    shown: Arc<AtomicUsize>,
    columns: Vec<Origin>,
}

impl Bench {
    /// Database 0 is the plain one; each further one has one column changed.
    pub fn new(seed: u64) -> Bench {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let plain = database(&mut random, 12);
        let mut databases = vec![plain.clone()];
        let mut columns = vec![];
        for (place, (table, rows)) in plain.iter().enumerate() {
            for (index, field) in rows.schema().fields().iter().enumerate() {
                let mut changed = plain.clone();
                changed[place].1 = rotated(rows, index);
                databases.push(changed);
                columns.push(Origin {
                    relation: table.to_string(),
                    column: field.name().clone(),
                });
            }
        }
        let shown = Arc::new(AtomicUsize::new(0));
        Bench {
            random,
            context: session(databases, &shown),
            shown,
            columns,
        }
    }

    pub fn query(&mut self) -> String {
        Query::random(&mut self.random).sql()
    }

    pub fn plan(&self, sql: &str) -> Option<LogicalPlan> {
        crate::runtime()
            .block_on(self.context.state().create_logical_plan(sql))
            .ok()
    }

    /// For each perturbed column the outputs whose bag of values changed.
    pub fn perturbed(&self, sql: &str) -> Option<Vec<(Origin, Vec<String>)>> {
        crate::runtime().block_on(async {
            let plan = self
                .context
                .sql(sql)
                .await
                .ok()?
                .create_physical_plan()
                .await
                .ok()?;
            let mut results = vec![];
            for index in 0..=self.columns.len() {
                self.shown.store(index, Ordering::SeqCst);
                let fresh = reset_plan_states(plan.clone()).ok()?;
                results.push(by_column(
                    &collect(fresh, self.context.task_ctx()).await.ok()?,
                ));
            }
            let plain = results.remove(0);
            let names: Vec<String> = plan
                .schema()
                .fields()
                .iter()
                .map(|field| field.name().clone())
                .collect();
            let changed = |result: &Vec<Vec<String>>| {
                let differs = |index: &usize| result.get(*index) != plain.get(*index);
                (0..names.len())
                    .filter(differs)
                    .map(|index| names[index].clone())
                    .collect()
            };
            Some(
                self.columns
                    .iter()
                    .cloned()
                    .zip(results.iter().map(changed))
                    .collect(),
            )
        })
    }
}

/// The sorted values of each column.
fn by_column(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let mut columns: Vec<Vec<String>> = vec![];
    for batch in batches {
        for (index, column) in batch.columns().iter().enumerate() {
            columns.resize(columns.len().max(index + 1), vec![]);
            let options = FormatOptions::default().with_null("NULL");
            let format = ArrayFormatter::try_new(column.as_ref(), &options).expect("a format");
            columns[index]
                .extend((0..batch.num_rows()).map(|row| rounded(&format.value(row).to_string())));
        }
    }
    columns.iter_mut().for_each(|column| column.sort());
    columns.retain(|column| !column.is_empty());
    columns
}

/// The rows with one column's values moved by one row: other values, the same constraints.
fn rotated(rows: &RecordBatch, index: usize) -> RecordBatch {
    let mut columns = rows.columns().to_vec();
    let last = rows.num_rows() - 1;
    let parts = [columns[index].slice(last, 1), columns[index].slice(0, last)];
    columns[index] = datafusion::arrow::compute::concat(&[&parts[0], &parts[1]]).expect("one type");
    RecordBatch::try_new(rows.schema(), columns).expect("the same shape")
}

/// Xorshift: the same walk for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Truth {
    And(Vec<Truth>),
    Or(Vec<Truth>),
    Not(Box<Truth>),
    Compare(&'static str, Number, Number),
    Text(&'static str, &'static str, &'static str),
    In(Number, Vec<i64>, bool),
    Between(Number, i64, i64, bool),
    IsNull(Number, bool),
    IsTrue(Box<Truth>, &'static str),
    Column(&'static str),
    Constant(&'static str),
    Distinct(Number, Number, bool),
    Case(Box<Truth>, Box<Truth>, Option<Box<Truth>>),
    Coalesce(Box<Truth>, bool),
    Equals(Box<Truth>, bool),
    Exists(Box<Truth>, bool),
    InQuery(Number, &'static str, bool),
}

#[derive(Clone, Debug, PartialEq)]
enum Number {
    Column(&'static str),
    Constant(i64),
    Null,
    Operator(&'static str, Box<Number>, Box<Number>),
    Case(Box<Truth>, Box<Number>, Option<Box<Number>>),
    Case2(
        Box<Truth>,
        Box<Number>,
        Box<Truth>,
        Box<Number>,
        Option<Box<Number>>,
    ),
    Coalesce(Box<Number>, Box<Number>),
    Nullif(Box<Number>, Box<Number>),
    Cast(Box<Number>),
}

const NUMBERS: [&str; 6] = ["t.id", "t.a", "t.b", "t.c", "u.v", "u.k"];
const OPERATORS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

impl Truth {
    fn random(random: &mut Random, depth: u64) -> Truth {
        if depth == 0 || random.chance(4) {
            return Truth::leaf(random);
        }
        let inner = |random: &mut Random| Box::new(Truth::random(random, depth - 1));
        match random.below(11) {
            0..=2 => Truth::And(
                (0..2 + random.below(2))
                    .map(|_| Truth::random(random, depth - 1))
                    .collect(),
            ),
            3..=5 => Truth::Or(
                (0..2 + random.below(2))
                    .map(|_| Truth::random(random, depth - 1))
                    .collect(),
            ),
            6 => Truth::Not(inner(random)),
            7 => Truth::IsTrue(
                inner(random),
                random.pick(&[
                    "IS TRUE",
                    "IS NOT TRUE",
                    "IS FALSE",
                    "IS NOT FALSE",
                    "IS NULL",
                    "IS NOT NULL",
                ]),
            ),
            8 => {
                let otherwise = random.chance(2).then(|| inner(random));
                Truth::Case(inner(random), inner(random), otherwise)
            }
            9 => Truth::Coalesce(inner(random), random.chance(2)),
            _ => Truth::Equals(inner(random), random.chance(2)),
        }
    }

    fn leaf(random: &mut Random) -> Truth {
        match random.below(16) {
            0..=4 => Truth::Compare(
                random.pick(&OPERATORS),
                Number::random(random, 1),
                Number::random(random, 1),
            ),
            5 => Truth::Text(
                random.pick(&["t.s", "u.s"]),
                random.pick(&["=", "<>", "<", "LIKE", "NOT LIKE"]),
                random.pick(&["'x'", "'y'", "''", "'%x'", "NULL"]),
            ),
            6 | 7 => Truth::In(
                Number::column(random),
                (0..1 + random.below(3))
                    .map(|_| random.below(4) as i64 - 1)
                    .collect(),
                random.chance(2),
            ),
            8 => Truth::Between(
                Number::column(random),
                random.below(3) as i64 - 1,
                random.below(3) as i64,
                random.chance(3),
            ),
            9 => Truth::IsNull(Number::random(random, 1), random.chance(2)),
            10 => Truth::Column(random.pick(&["t.p", "t.q"])),
            11 => Truth::Constant(random.pick(&["TRUE", "FALSE", "CAST(NULL AS BOOLEAN)"])),
            12 => Truth::Distinct(
                Number::column(random),
                Number::random(random, 0),
                random.chance(2),
            ),
            13 => Truth::Compare(
                "=",
                Number::Column("t.a"),
                Number::Constant(random.below(3) as i64),
            ),
            14 => {
                let inner = random.pick(&[
                    "w.k = t.a",
                    "w.k = t.id",
                    "w.k = t.c AND w.v > 0",
                    "w.v = t.b",
                    "w.k IS NULL",
                    "w.k = t.a OR w.v = 1",
                ]);
                Truth::Exists(Box::new(Truth::Constant(inner)), random.chance(2))
            }
            _ => Truth::InQuery(
                Number::column(random),
                random.pick(&[
                    "SELECT k FROM w",
                    "SELECT id FROM u",
                    "SELECT v FROM u WHERE v IS NOT NULL",
                    "SELECT DISTINCT k FROM w WHERE v > 0",
                    "SELECT k FROM w GROUP BY k",
                ]),
                random.chance(2),
            ),
        }
    }

    fn sql(&self) -> String {
        let list = |items: &[Truth], word: &str| {
            items
                .iter()
                .map(|item| format!("({})", item.sql()))
                .collect::<Vec<_>>()
                .join(word)
        };
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Truth::And(items) => list(items, " AND "),
            Truth::Or(items) => list(items, " OR "),
            Truth::Not(inner) => format!("NOT ({})", inner.sql()),
            Truth::Compare(operator, left, right) => {
                format!("{} {operator} {}", left.sql(), right.sql())
            }
            Truth::Text(column, operator, literal) => format!("{column} {operator} {literal}"),
            Truth::In(subject, items, negated) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                format!(
                    "{} {}IN ({})",
                    subject.sql(),
                    not(negated),
                    items.join(", ")
                )
            }
            Truth::Between(subject, low, high, negated) => {
                format!("{} {}BETWEEN {low} AND {high}", subject.sql(), not(negated))
            }
            Truth::IsNull(subject, negated) => format!("{} IS {}NULL", subject.sql(), not(negated)),
            Truth::IsTrue(inner, test) => format!("({}) {test}", inner.sql()),
            Truth::Column(name) | Truth::Constant(name) => name.to_string(),
            Truth::Distinct(left, right, negated) => format!(
                "{} IS {}DISTINCT FROM {}",
                left.sql(),
                not(negated),
                right.sql()
            ),
            Truth::Case(when, then, otherwise) => {
                let otherwise = otherwise
                    .as_ref()
                    .map(|inner| format!(" ELSE {}", inner.sql()))
                    .unwrap_or_default();
                format!(
                    "CASE WHEN {} THEN {}{otherwise} END",
                    when.sql(),
                    then.sql()
                )
            }
            Truth::Coalesce(inner, value) => format!("COALESCE(({}), {value})", inner.sql()),
            Truth::Equals(inner, value) => format!("({}) = {value}", inner.sql()),
            Truth::Exists(inner, negated) => format!(
                "{}EXISTS (SELECT 1 FROM w WHERE {})",
                not(negated),
                inner.sql()
            ),
            Truth::InQuery(subject, query, negated) => {
                format!("{} {}IN ({query})", subject.sql(), not(negated))
            }
        }
    }

    fn mutate(&mut self, random: &mut Random) {
        let deeper = !random.chance(3);
        match self {
            Truth::And(items) | Truth::Or(items) if deeper => {
                let index = random.below(items.len() as u64) as usize;
                items[index].mutate(random);
            }
            Truth::Not(inner)
            | Truth::IsTrue(inner, _)
            | Truth::Coalesce(inner, _)
            | Truth::Equals(inner, _)
                if deeper =>
            {
                inner.mutate(random)
            }
            Truth::Case(when, then, _) if deeper => {
                if random.chance(2) {
                    when.mutate(random)
                } else {
                    then.mutate(random)
                }
            }
            Truth::Compare(_, left, right) | Truth::Distinct(left, right, _) if deeper => {
                if random.chance(2) {
                    left.mutate(random)
                } else {
                    right.mutate(random)
                }
            }
            _ => self.rewrite(random),
        }
    }

    /// Some of these keep the meaning always, some sometimes, some never.
    fn rewrite(&mut self, random: &mut Random) {
        let own = self.clone();
        *self = match (own, random.below(12)) {
            (Truth::And(mut items), 0..=2) => {
                items.reverse();
                Truth::And(items)
            }
            (Truth::Or(mut items), 0..=2) => {
                items.rotate_left(1);
                Truth::Or(items)
            }
            (Truth::And(items), 3..=5) => Truth::Not(Box::new(Truth::Or(
                items
                    .into_iter()
                    .map(|item| Truth::Not(Box::new(item)))
                    .collect(),
            ))),
            (Truth::Or(items), 3..=5) => Truth::Not(Box::new(Truth::And(
                items
                    .into_iter()
                    .map(|item| Truth::Not(Box::new(item)))
                    .collect(),
            ))),
            (Truth::And(mut items), 6) => {
                items.push(items[0].clone());
                Truth::And(items)
            }
            (Truth::And(items), 7) => Truth::Or(items),
            (Truth::Or(items), 7) => Truth::And(items),
            (Truth::Or(mut items), 6) => {
                let both = Truth::And(vec![items[0].clone(), Truth::leaf(random)]);
                items.push(both);
                Truth::Or(items)
            }
            (Truth::Not(inner), 0..=3) => match *inner {
                Truth::And(items) => Truth::Or(
                    items
                        .into_iter()
                        .map(|item| Truth::Not(Box::new(item)))
                        .collect(),
                ),
                Truth::Or(items) => Truth::And(
                    items
                        .into_iter()
                        .map(|item| Truth::Not(Box::new(item)))
                        .collect(),
                ),
                Truth::Compare(operator, left, right) => {
                    Truth::Compare(opposite(operator), left, right)
                }
                Truth::In(subject, items, negated) => Truth::In(subject, items, !negated),
                Truth::Between(subject, low, high, negated) => {
                    Truth::Between(subject, low, high, !negated)
                }
                Truth::Not(inner) => *inner,
                other => Truth::Not(Box::new(other)),
            },
            (Truth::Compare(operator, left, right), 0..=3) => {
                Truth::Compare(flipped(operator), right, left)
            }
            (Truth::Compare(operator, left, Number::Constant(value)), 4..=6) => match operator {
                "<" => Truth::Compare("<=", left, Number::Constant(value - 1)),
                "<=" => Truth::Compare("<", left, Number::Constant(value + 1)),
                ">" => Truth::Compare(">=", left, Number::Constant(value + 1)),
                ">=" => Truth::Compare(">", left, Number::Constant(value - 1)),
                "=" => Truth::In(left, vec![value, value], false),
                _ => Truth::In(left, vec![value], true),
            },
            (Truth::Compare(operator, left, right), 7) => Truth::Or(vec![
                Truth::Compare(operator, left.clone(), right),
                Truth::IsNull(left, false),
            ]),
            (Truth::Compare(operator, left, right), 8) => Truth::And(vec![
                Truth::Compare(operator, left.clone(), right),
                Truth::IsNull(left, true),
            ]),
            (Truth::Compare("=", left, right), 9) => Truth::Distinct(left, right, true),
            (Truth::Compare("<>", left, right), 9) => Truth::Distinct(left, right, false),
            (Truth::Distinct(left, right, true), 0..=3) => Truth::Or(vec![
                Truth::Compare("=", left.clone(), right.clone()),
                Truth::And(vec![
                    Truth::IsNull(left, false),
                    Truth::IsNull(right, false),
                ]),
            ]),
            (Truth::Distinct(left, right, negated), 4..=6) => Truth::Distinct(right, left, negated),
            (Truth::In(subject, items, negated), 0..=3) => {
                let each = |value| {
                    Truth::Compare(
                        if negated { "<>" } else { "=" },
                        subject.clone(),
                        Number::Constant(value),
                    )
                };
                let parts = items.into_iter().map(each).collect();
                if negated {
                    Truth::And(parts)
                } else {
                    Truth::Or(parts)
                }
            }
            (Truth::In(subject, mut items, negated), 4..=6) => {
                items.reverse();
                items.push(items[0]);
                Truth::In(subject, items, negated)
            }
            (Truth::Between(subject, low, high, false), 0..=5) => Truth::And(vec![
                Truth::Compare("<=", subject.clone(), Number::Constant(high)),
                Truth::Compare(">", subject, Number::Constant(low - 1)),
            ]),
            (Truth::IsNull(subject, negated), 0..=3) => match subject {
                Number::Operator(_, left, right) => {
                    let parts = vec![
                        Truth::IsNull(*left, negated),
                        Truth::IsNull(*right, negated),
                    ];
                    if negated {
                        Truth::And(parts)
                    } else {
                        Truth::Or(parts)
                    }
                }
                subject => Truth::Not(Box::new(Truth::IsNull(subject, !negated))),
            },
            (Truth::IsTrue(inner, "IS TRUE"), 0..=4) => Truth::Coalesce(inner, false),
            (Truth::IsTrue(inner, "IS NOT TRUE"), 0..=3) => Truth::Or(vec![
                Truth::Not(inner.clone()),
                Truth::IsTrue(inner, "IS NULL"),
            ]),
            (Truth::Coalesce(inner, false), 0..=4) => Truth::Case(
                inner,
                Box::new(Truth::Constant("TRUE")),
                Some(Box::new(Truth::Constant("FALSE"))),
            ),
            (Truth::Coalesce(inner, true), 0..=4) => Truth::IsTrue(inner, "IS NOT FALSE"),
            (Truth::Equals(inner, true), 0..=5) => *inner,
            (Truth::Equals(inner, false), 0..=5) => Truth::Not(inner),
            (Truth::Case(when, then, Some(otherwise)), 0..=2) => {
                Truth::Case(Box::new(Truth::Not(when)), otherwise, Some(then))
            }
            (Truth::Case(when, then, None), 0..=2) => Truth::And(vec![*when, *then]),
            (Truth::InQuery(subject, query, negated), 0..=5) => {
                let inner = match query {
                    "SELECT k FROM w" | "SELECT k FROM w GROUP BY k" => "w.k",
                    _ => return,
                };
                let equal = match (subject, inner) {
                    (Number::Column("t.a"), _) => "w.k = t.a",
                    (Number::Column("t.id"), _) => "w.k = t.id",
                    _ => return,
                };
                Truth::Exists(Box::new(Truth::Constant(equal)), negated)
            }
            (Truth::InQuery(subject, "SELECT k FROM w", negated), _) => Truth::InQuery(
                subject,
                random.pick(&[
                    "SELECT DISTINCT k FROM w",
                    "SELECT k FROM w WHERE k IS NOT NULL",
                    "SELECT k FROM w GROUP BY k",
                ]),
                negated,
            ),
            (Truth::Exists(_, negated), 0) => Truth::Exists(
                Box::new(Truth::Constant(random.pick(&["w.k = t.a", "w.k = t.id"]))),
                negated,
            ),
            (own, 9) => Truth::And(vec![own, Truth::Constant("TRUE")]),
            (own, 10) => Truth::Not(Box::new(Truth::Not(Box::new(own)))),
            (_, 11) => Truth::random(random, 1),
            (own, _) => Truth::Or(vec![own, Truth::Constant("FALSE")]),
        };
    }
}

fn flipped(operator: &str) -> &'static str {
    match operator {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        "=" => "=",
        _ => "<>",
    }
}

fn opposite(operator: &str) -> &'static str {
    match operator {
        "<" => ">=",
        "<=" => ">",
        ">" => "<=",
        ">=" => "<",
        "=" => "<>",
        _ => "=",
    }
}

impl Number {
    fn random(random: &mut Random, depth: u64) -> Number {
        if depth == 0 || random.chance(2) {
            return match random.below(8) {
                0 | 1 => Number::Constant(random.below(4) as i64 - 1),
                2 if random.chance(4) => Number::Null,
                _ => Number::column(random),
            };
        }
        let inner = |random: &mut Random| Box::new(Number::random(random, depth - 1));
        match random.below(9) {
            0..=3 => Number::Operator(random.pick(&["+", "-", "*"]), inner(random), inner(random)),
            4 => {
                let otherwise = random.chance(2).then(|| inner(random));
                Number::Case(Box::new(Truth::random(random, 1)), inner(random), otherwise)
            }
            5 => Number::Case2(
                Box::new(Truth::random(random, 1)),
                inner(random),
                Box::new(Truth::random(random, 1)),
                inner(random),
                random.chance(2).then(|| inner(random)),
            ),
            6 => Number::Coalesce(inner(random), inner(random)),
            7 => Number::Nullif(inner(random), inner(random)),
            _ => Number::Cast(inner(random)),
        }
    }

    fn column(random: &mut Random) -> Number {
        Number::Column(random.pick(&NUMBERS))
    }

    fn sql(&self) -> String {
        let otherwise = |inner: &Option<Box<Number>>| {
            inner
                .as_ref()
                .map(|inner| format!(" ELSE {}", inner.sql()))
                .unwrap_or_default()
        };
        match self {
            Number::Column(name) => name.to_string(),
            Number::Constant(value) if *value < 0 => format!("({value})"),
            Number::Constant(value) => value.to_string(),
            Number::Null => "CAST(NULL AS BIGINT)".into(),
            Number::Operator(operator, left, right) => {
                format!("({} {operator} {})", left.sql(), right.sql())
            }
            Number::Case(when, then, last) => format!(
                "CASE WHEN {} THEN {}{} END",
                when.sql(),
                then.sql(),
                otherwise(last)
            ),
            Number::Case2(one, first, two, second, last) => {
                format!(
                    "CASE WHEN {} THEN {} WHEN {} THEN {}{} END",
                    one.sql(),
                    first.sql(),
                    two.sql(),
                    second.sql(),
                    otherwise(last)
                )
            }
            Number::Coalesce(left, right) => format!("COALESCE({}, {})", left.sql(), right.sql()),
            Number::Nullif(left, right) => format!("NULLIF({}, {})", left.sql(), right.sql()),
            Number::Cast(inner) => format!("CAST({} AS BIGINT)", inner.sql()),
        }
    }

    fn mutate(&mut self, random: &mut Random) {
        let deeper = random.chance(2);
        match self {
            Number::Operator(_, left, right)
            | Number::Coalesce(left, right)
            | Number::Nullif(left, right)
                if deeper =>
            {
                if random.chance(2) {
                    left.mutate(random)
                } else {
                    right.mutate(random)
                }
            }
            Number::Case(when, then, _) | Number::Case2(when, then, ..) if deeper => {
                if random.chance(2) {
                    when.mutate(random)
                } else {
                    then.mutate(random)
                }
            }
            _ => self.rewrite(random),
        }
    }

    fn rewrite(&mut self, random: &mut Random) {
        let own = self.clone();
        *self = match (own, random.below(8)) {
            (Number::Operator(operator @ ("+" | "*"), left, right), 0..=2) => {
                Number::Operator(operator, right, left)
            }
            (Number::Operator("-", left, right), 0..=2) => Number::Operator(
                "+",
                left,
                Box::new(Number::Operator("*", Box::new(Number::Constant(-1)), right)),
            ),
            (Number::Operator("-", left, right), 3) => Number::Operator("-", right, left),
            (Number::Operator("*", left, right), 3) => match *left {
                Number::Operator(operator, one, other) if operator != "*" => Number::Operator(
                    operator,
                    Box::new(Number::Operator("*", one, right.clone())),
                    Box::new(Number::Operator("*", other, right)),
                ),
                left => Number::Operator("*", right, Box::new(left)),
            },
            (Number::Coalesce(left, right), 0..=2) => Number::Case(
                Box::new(Truth::IsNull((*left).clone(), true)),
                left,
                Some(right),
            ),
            (Number::Coalesce(left, right), 3) => Number::Case(
                Box::new(Truth::IsNull((*left).clone(), false)),
                right,
                Some(left),
            ),
            (Number::Nullif(left, right), 0..=2) => Number::Case(
                Box::new(Truth::Compare("=", (*left).clone(), *right)),
                Box::new(Number::Null),
                Some(left),
            ),
            (Number::Nullif(left, right), 3) => Number::Case(
                Box::new(Truth::Compare("<>", (*left).clone(), *right)),
                left,
                None,
            ),
            (Number::Case(when, then, Some(last)), 0..=2) => {
                Number::Case(Box::new(Truth::Not(when)), last, Some(then))
            }
            (Number::Case(when, then, Some(last)), 3) => Number::Case(
                Box::new(Truth::IsTrue(when, "IS NOT TRUE")),
                last,
                Some(then),
            ),
            (Number::Case(when, then, None), 0..=2) => {
                Number::Case(when, then, Some(Box::new(Number::Null)))
            }
            (Number::Case2(one, first, two, second, last), 0..=2) => {
                Number::Case2(two, second, one, first, last)
            }
            (Number::Case2(one, first, two, second, last), 3) => {
                Number::Case(one, first, Some(Box::new(Number::Case(two, second, last))))
            }
            (Number::Cast(inner), 0..=4) => *inner,
            (Number::Constant(value), 0..=3) => Number::Operator(
                "+",
                Box::new(Number::Constant(value - 2)),
                Box::new(Number::Constant(2)),
            ),
            (own, 4) => Number::Operator("+", Box::new(own), Box::new(Number::Constant(0))),
            (own, 5) => Number::Cast(Box::new(own)),
            (own, 6) => Number::Operator("*", Box::new(Number::Constant(1)), Box::new(own)),
            _ => Number::random(random, 1),
        };
    }
}

#[derive(Clone, Debug)]
struct Call {
    function: &'static str,
    is_distinct: bool,
    argument: Option<Number>,
    filter: Option<Truth>,
}

impl Call {
    fn random(random: &mut Random) -> Call {
        let function = random.pick(&["SUM", "SUM", "COUNT", "COUNT", "MIN", "MAX", "AVG"]);
        let argument = if function == "COUNT" && random.chance(2) {
            None
        } else {
            Some(Number::random(random, 2))
        };
        let is_distinct = argument.is_some() && random.chance(6);
        let filter = random.chance(4).then(|| Truth::random(random, 1));
        Call {
            function,
            is_distinct,
            argument,
            filter,
        }
    }

    fn sql(&self) -> String {
        let argument = self.argument.as_ref().map_or("*".into(), Number::sql);
        let filter = self
            .filter
            .as_ref()
            .map(|filter| format!(" FILTER (WHERE {})", filter.sql()))
            .unwrap_or_default();
        format!(
            "{}({}{argument}){filter}",
            self.function,
            if self.is_distinct { "DISTINCT " } else { "" }
        )
    }

    fn mutate(&mut self, random: &mut Random) {
        match random.below(10) {
            0..=2 => self
                .filter
                .get_or_insert(Truth::Constant("TRUE"))
                .mutate(random),
            3 => {
                let (Some(filter), Some(argument)) = (self.filter.take(), self.argument.take())
                else {
                    return;
                };
                self.argument = Some(Number::Case(Box::new(filter), Box::new(argument), None));
            }
            4 => match self.argument.take() {
                Some(Number::Case(when, then, None)) => {
                    self.argument = Some(*then);
                    self.filter = Some(*when);
                }
                other => self.argument = other,
            },
            5 => match (self.function, self.argument.take(), self.filter.take()) {
                ("COUNT", None, None) => self.argument = Some(Number::Constant(1)),
                ("COUNT", None, Some(filter)) => {
                    self.function = "SUM";
                    self.argument = Some(Number::Case(
                        Box::new(filter),
                        Box::new(Number::Constant(1)),
                        Some(Box::new(Number::Constant(0))),
                    ));
                }
                ("COUNT", Some(Number::Constant(_)), filter) => self.filter = filter,
                (_, argument, filter) => (self.argument, self.filter) = (argument, filter),
            },
            6 => self.is_distinct = self.argument.is_some() && !self.is_distinct,
            7 => *self = Call::random(random),
            _ => {
                if let Some(argument) = &mut self.argument {
                    argument.mutate(random);
                }
            }
        }
    }
}

/// How `t` and `u` come together, and in what shape the rows are read.
#[derive(Clone, Debug)]
struct Query {
    join: u64,
    on: Truth,
    filter: Truth,
    late_filter: Option<Truth>,
    shape: u64,
    keys: Vec<Number>,
    calls: Vec<Call>,
    having: Option<Truth>,
    nesting: u64,
    spelling: u64,
}

impl Query {
    fn random(random: &mut Random) -> Query {
        Query {
            join: random.below(8),
            on: Query::on(random),
            filter: if random.chance(4) {
                Truth::random(random, 3)
            } else {
                Truth::random(random, 1)
            },
            late_filter: None,
            shape: random.below(8),
            keys: (0..1 + random.below(2))
                .map(|_| Number::column(random))
                .collect(),
            calls: (0..1 + random.below(2))
                .map(|_| Call::random(random))
                .collect(),
            having: random.chance(4).then(|| {
                Truth::Compare(
                    random.pick(&OPERATORS),
                    Number::Column("h.a0"),
                    Number::Constant(random.below(3) as i64),
                )
            }),
            nesting: random.below(3),
            spelling: 0,
        }
    }

    fn on(random: &mut Random) -> Truth {
        let equal = Truth::Compare(
            "=",
            Number::Column(random.pick(&["t.id", "t.a", "t.c"])),
            Number::Column(random.pick(&["u.id", "u.k", "u.v"])),
        );
        if random.chance(3) {
            Truth::And(vec![equal, Truth::leaf(random)])
        } else {
            equal
        }
    }

    fn mutate(&mut self, random: &mut Random) {
        match random.below(20) {
            0..=6 => self.filter.mutate(random),
            7 | 8 => self.on.mutate(random),
            9..=12 => {
                let index = random.below(self.calls.len() as u64) as usize;
                self.calls[index].mutate(random);
            }
            13 => self.join = random.below(8),
            14 => self.shape = random.below(8),
            15 => self.nesting = random.below(3),
            16 | 17 => self.spelling = random.below(4),
            18 => std::mem::swap(
                &mut self.filter,
                self.late_filter.get_or_insert(Truth::Constant("TRUE")),
            ),
            _ => {
                let index = random.below(self.keys.len() as u64) as usize;
                self.keys[index].mutate(random);
            }
        }
    }

    /// `FROM` with a filter that may stand in ON, in WHERE or in a subquery.
    fn source(&self) -> String {
        let (on, filter) = (self.on.sql(), self.filter.sql());
        let late = self.late_filter.as_ref().map_or("TRUE".into(), Truth::sql);
        let narrowed = if self.nesting == 1 {
            "(SELECT v, s, k, id FROM u)"
        } else {
            "u"
        };
        let deduplicated = "(SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v, s) AS rn FROM w) x WHERE rn = 1)";
        let wanted = format!("({filter}) AND ({late})");
        match self.join {
            0 => format!("FROM t JOIN {narrowed} AS u ON {on} WHERE {wanted}"),
            1 => format!("FROM {narrowed} AS u CROSS JOIN t WHERE ({on}) AND {wanted}"),
            2 => format!("FROM t LEFT JOIN {narrowed} AS u ON {on} WHERE {wanted}"),
            3 => format!("FROM {narrowed} AS u RIGHT JOIN t ON {on} WHERE {wanted}"),
            4 => format!(
                "FROM t LEFT JOIN u ON {on} LEFT JOIN {deduplicated} AS w2 ON w2.k = t.a WHERE {wanted}"
            ),
            5 => format!("FROM t JOIN u ON {on} JOIN t AS t2 ON t2.id = t.id WHERE {wanted}"),
            6 => format!("FROM t FULL JOIN u ON {} = {} WHERE {wanted}", "t.a", "u.k"),
            _ => format!("FROM t LEFT JOIN u ON {on} JOIN w AS w3 ON w3.k = t.c WHERE {wanted}"),
        }
    }

    fn sql(&self) -> String {
        let keys: Vec<String> = self
            .keys
            .iter()
            .enumerate()
            .map(|(index, key)| format!("{} AS k{index}", key.sql()))
            .collect();
        let calls: Vec<String> = self
            .calls
            .iter()
            .enumerate()
            .map(|(index, call)| format!("{} AS a{index}", call.sql()))
            .collect();
        let places: Vec<String> = (1..=keys.len()).map(|place| place.to_string()).collect();
        let (source, keys, calls, places) = (
            self.source(),
            keys.join(", "),
            calls.join(", "),
            places.join(", "),
        );
        let having = self
            .having
            .as_ref()
            .map(|having| format!(" WHERE {}", having.sql()))
            .unwrap_or_default();
        let grouped = format!("SELECT {keys}, {calls} {source} GROUP BY {places}");
        match (self.shape, self.spelling % 2) {
            (0 | 1, 0) => format!("SELECT * FROM ({grouped}) AS h{having}"),
            (0 | 1, _) => format!("WITH h AS ({grouped}) SELECT * FROM h{having}"),
            (2, _) => format!("SELECT {calls} {source}"),
            (3, 0) => format!("SELECT DISTINCT {keys} {source}"),
            (3, _) => format!("SELECT {keys} {source} GROUP BY {places}"),
            (4, 0) => format!("SELECT {keys} {source}"),
            (4, _) => format!("SELECT * FROM (SELECT {keys}, t.s AS extra {source}) AS h").replace(
                '*',
                &(0..self.keys.len())
                    .map(|index| format!("k{index}"))
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
            (5, 0) => format!(
                "SELECT k0, SUM(n) AS n FROM (SELECT {keys}, t.c AS n {source} UNION ALL SELECT {keys}, t.b * 2 AS n {source}) AS h GROUP BY k0"
            ),
            (5, _) => format!(
                "SELECT k0, SUM(n) AS n FROM (SELECT {keys}, t.b + t.b AS n {source} UNION ALL SELECT {keys}, t.c AS n {source}) AS h GROUP BY k0"
            ),
            (6, 0) => format!(
                "SELECT k0, SUM(n) AS n, MAX(m) AS m FROM (SELECT {keys}, t.s, COUNT(*) AS n, MAX(t.b) AS m {source} GROUP BY {places}, t.s) AS h GROUP BY k0"
            ),
            (6, _) => format!(
                "SELECT k0, COUNT(*) AS n, MAX(b) AS m FROM (SELECT {keys}, t.b {source}) AS h GROUP BY k0"
            ),
            (_, 0) => format!(
                "SELECT k0, n FROM (SELECT {keys}, SUM(t.c) OVER (PARTITION BY {}) AS n {source}) AS h{}",
                self.keys[0].sql(),
                if self.spelling > 1 {
                    " WHERE k0 > 0"
                } else {
                    ""
                }
            ),
            (_, _) => format!(
                "SELECT k0, n FROM (SELECT {keys}, SUM(t.c) OVER (PARTITION BY {} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS n {source}{}) AS h",
                self.keys[0].sql(),
                if self.spelling > 1 {
                    format!(" AND {} >= 1", self.keys[0].sql())
                } else {
                    String::new()
                }
            ),
        }
    }
}
