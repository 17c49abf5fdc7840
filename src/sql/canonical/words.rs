//! What a query does, said in lines that people read and that a diff can compare.
//! In: a canonical query, usually one model over its parents. Out: [`Fact`]s: its sources, joins, filters, groups and columns.
//! The lines are for reading only; no fingerprint is made of them.

use super::Canonical;
use super::form::{
    Aggregate, Block, ColumnRef, Comparison, Expr, Group, Instance, Limit, Monomial, Node,
    Relation, SortKey, Source, WindowCall,
};
use super::literal::Literal;
use super::types::Type;

/// One thing that a query does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fact {
    pub kind: FactKind,
    /// The output column for [`FactKind::Column`], empty otherwise.
    pub subject: String,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKind {
    Source,
    Join,
    Filter,
    Group,
    Window,
    Limit,
    Union,
    Column,
}

impl FactKind {
    pub fn word(self) -> &'static str {
        match self {
            FactKind::Source => "source",
            FactKind::Join => "join",
            FactKind::Filter => "filter",
            FactKind::Group => "grouping",
            FactKind::Window => "window",
            FactKind::Limit => "limit",
            FactKind::Union => "union",
            FactKind::Column => "column",
        }
    }

    pub fn from_word(word: &str) -> Option<FactKind> {
        let all = [
            FactKind::Source,
            FactKind::Join,
            FactKind::Filter,
            FactKind::Group,
            FactKind::Window,
            FactKind::Limit,
            FactKind::Union,
            FactKind::Column,
        ];
        all.into_iter().find(|kind| kind.word() == word)
    }
}

/// The facts of a query, sorted, each once.
pub fn facts(canonical: &Canonical) -> Vec<Fact> {
    let mut found = vec![];
    let Relation::Select { block, outputs } = &canonical.relation else {
        return found;
    };
    block_facts(block, &mut found);
    let words = Words::of(block);
    for (name, output) in canonical.names.iter().zip(outputs) {
        found.push(Fact {
            kind: FactKind::Column,
            subject: name.clone(),
            text: words.expr(output),
        });
    }
    found.sort();
    found.dedup();
    found
}

/// The outputs of a query and what they are, every column with its table.
pub fn columns(canonical: &Canonical) -> Vec<(String, String)> {
    let Relation::Select { block, outputs } = &canonical.relation else {
        return vec![];
    };
    let words = Words {
        is_qualified: true,
        ..Words::of(block)
    };
    canonical
        .names
        .iter()
        .zip(outputs)
        .map(|(name, output)| (name.clone(), words.expr(output)))
        .collect()
}

/// An expression over a block's columns, in words.
pub(super) fn expr_in(block: &Block, expr: &Expr) -> String {
    Words::of(block).expr(expr)
}

/// The outputs of a select, in words.
pub(super) fn expr_of(relation: &Relation) -> String {
    let Relation::Select { block, outputs } = relation else {
        return String::new();
    };
    outputs
        .iter()
        .map(|output| expr_in(block, output))
        .collect::<Vec<_>>()
        .join(", ")
}

fn block_facts(block: &Block, found: &mut Vec<Fact>) {
    let words = Words::of(block);
    let mut add = |kind, text: String| {
        found.push(Fact {
            kind,
            subject: String::new(),
            text,
        })
    };
    for source in &block.sources {
        if let Relation::Scan(scan) = &source.relation {
            add(FactKind::Source, scan.table.clone());
        }
    }
    for predicate in &block.predicates {
        let instances = predicate.instances();
        let is_join =
            instances.len() > 1 && predicate.subquery().is_none() && !predicate.has_subquery();
        add(
            if is_join {
                FactKind::Join
            } else {
                FactKind::Filter
            },
            words.expr(predicate),
        );
    }
    for optional in &block.optional {
        let on: Vec<String> = optional.on.iter().map(|on| words.expr(on)).collect();
        add(
            FactKind::Join,
            format!(
                "left join {} on {}",
                words.source_name(&optional.source),
                on.join(" and ")
            ),
        );
    }
    for source in block.all_sources() {
        relation_facts(&source.relation, found);
    }
}

fn relation_facts(relation: &Relation, found: &mut Vec<Fact>) {
    let mut add = |kind, text: String| {
        found.push(Fact {
            kind,
            subject: String::new(),
            text,
        })
    };
    match relation {
        Relation::Scan(_) | Relation::Values { .. } => {}
        Relation::Select { block, .. } => block_facts(block, found),
        Relation::Group(group) => {
            add(FactKind::Group, group_words(group));
            block_facts(&group.block, found);
        }
        Relation::Window { block, calls, .. } => {
            let words = Words::of(block);
            calls
                .iter()
                .for_each(|call| add(FactKind::Window, words.window(call)));
            block_facts(block, found);
        }
        Relation::Limit(limit) => {
            add(FactKind::Limit, limit_words(limit));
            block_facts(&limit.block, found);
        }
        Relation::Union { branches } => {
            add(
                FactKind::Union,
                format!("{} branches, repeats kept", branches.len()),
            );
            branches
                .iter()
                .for_each(|branch| relation_facts(branch, found));
        }
        Relation::Full { left, right, on } => {
            add(
                FactKind::Join,
                format!("full join on {} conditions", on.len()),
            );
            relation_facts(&left.relation, found);
            relation_facts(&right.relation, found);
        }
        Relation::Opaque { text, inputs, .. } => {
            add(FactKind::Window, text.clone());
            inputs
                .iter()
                .for_each(|input| relation_facts(&input.relation, found));
        }
    }
}

fn group_words(group: &Group) -> String {
    let words = Words::of(&group.block);
    let keys: Vec<String> = group.keys.iter().map(|key| words.expr(key)).collect();
    match (group.aggregates.is_empty(), group.is_grouped) {
        (true, true) => format!("distinct {}", keys.join(", ")),
        (_, true) => format!("by {}", keys.join(", ")),
        (_, false) => "over all rows".into(),
    }
}

fn limit_words(limit: &Limit) -> String {
    let words = Words::of(&limit.block);
    let fetch = limit
        .fetch
        .map(|fetch| format!("first {fetch}"))
        .unwrap_or_else(|| "all".into());
    format!("{fetch} ordered by {}", words.order(&limit.order))
}

/// Names the columns of a block.
struct Words<'a> {
    sources: Vec<&'a Source>,
    is_qualified: bool,
    outer: Option<&'a Words<'a>>,
}

impl<'a> Words<'a> {
    fn of(block: &'a Block) -> Words<'a> {
        let sources = block.all_sources();
        Words {
            is_qualified: sources.len() > 1,
            sources,
            outer: None,
        }
    }

    fn source_name(&self, source: &Source) -> String {
        match &source.relation {
            Relation::Scan(scan) => scan.table.clone(),
            relation => {
                let mut tables = vec![];
                collect_tables(relation, &mut tables);
                tables.join(" and ")
            }
        }
    }

    fn column(&self, column: ColumnRef) -> String {
        let Some(source) = self.find(column.instance) else {
            return self
                .outer
                .map_or_else(|| "?".into(), |outer| outer.column(column));
        };
        let name = output_words(&source.relation, column.index);
        match (&source.relation, self.is_qualified) {
            (Relation::Scan(scan), true) => format!("{}.{name}", scan.table),
            _ => name,
        }
    }

    fn find(&self, instance: Instance) -> Option<&'a Source> {
        self.sources
            .iter()
            .copied()
            .find(|source| source.instance == instance)
    }

    fn expr(&self, expr: &Expr) -> String {
        let one = |expr: &Expr| self.operand(expr);
        match &expr.node {
            Node::Column(column) => self.column(*column),
            Node::Literal(literal) => literal.to_sql(&expr.ty),
            Node::And(items) => self.joined(items, " and "),
            Node::Or(items) => self.joined(items, " or "),
            Node::Not(inner) => match &inner.node {
                Node::IsNull(tested) => format!("{} is not null", one(tested)),
                Node::IsTrue(tested) => format!("{} is not true", one(tested)),
                Node::DistinctFrom(left, right) => {
                    format!("{} is not distinct from {}", one(left), one(right))
                }
                _ => format!("not {}", one(inner)),
            },
            Node::Compare(comparison, left, right) => self.comparison(*comparison, left, right),
            Node::InSet(subject, set, is_negated) => {
                let items: Vec<String> = set.iter().map(|item| item.to_sql(&subject.ty)).collect();
                match (items.as_slice(), is_negated) {
                    ([only], false) => format!("{} = {only}", one(subject)),
                    ([only], true) => format!("{} <> {only}", one(subject)),
                    (_, false) => format!("{} in ({})", one(subject), items.join(", ")),
                    (_, true) => format!("{} not in ({})", one(subject), items.join(", ")),
                }
            }
            Node::IsNull(inner) => format!("{} is null", one(inner)),
            Node::IsTrue(inner) => format!("{} is true", one(inner)),
            Node::DistinctFrom(left, right) => {
                format!("{} is distinct from {}", one(left), one(right))
            }
            Node::Sum(terms) => self.sum(terms),
            Node::Case(arms, otherwise) => {
                let mut text = String::from("case");
                for (when, then) in arms {
                    text += &format!(" when {} then {}", self.expr(when), self.expr(then));
                }
                if let Some(otherwise) = otherwise {
                    text += &format!(" else {}", self.expr(otherwise));
                }
                text + " end"
            }
            // Row numbers are unsigned, and the engine widens them by itself.
            Node::Cast(inner) if is_unsigned(&inner.ty) => self.expr(inner),
            Node::Cast(inner) => format!("cast({} as {})", self.expr(inner), expr.ty),
            Node::TryCast(inner) => format!("try_cast({} as {})", self.expr(inner), expr.ty),
            Node::Call(name, arguments, _) => self.call(name, arguments),
            Node::Exists(relation) => format!("exists ({})", self.query(relation)),
            Node::InQuery(needle, relation) => {
                format!("{} in ({})", one(needle), self.query(relation))
            }
            Node::Scalar(relation) => format!("({})", self.query(relation)),
        }
    }

    /// Literals stand on the right, as people write them.
    fn comparison(&self, comparison: Comparison, left: &Expr, right: &Expr) -> String {
        let is_flipped = left.as_literal().is_some();
        let (left, right) = if is_flipped {
            (right, left)
        } else {
            (left, right)
        };
        let operator = match (comparison, is_flipped) {
            (Comparison::Equal, _) => "=",
            (Comparison::NotEqual, _) => "<>",
            (Comparison::Less, false) => "<",
            (Comparison::Less, true) => ">",
            (Comparison::LessOrEqual, false) => "<=",
            (Comparison::LessOrEqual, true) => ">=",
        };
        format!("{} {operator} {}", self.operand(left), self.operand(right))
    }

    fn operand(&self, expr: &Expr) -> String {
        match expr.node {
            Node::And(_) | Node::Or(_) => format!("({})", self.expr(expr)),
            _ => self.expr(expr),
        }
    }

    /// A part of a product or of a binary operation.
    fn factor(&self, expr: &Expr) -> String {
        let is_binary = match &expr.node {
            Node::Sum(_) | Node::Compare(..) => true,
            Node::Call(name, ..) => !name.starts_with(char::is_alphabetic),
            _ => false,
        };
        match is_binary {
            true => format!("({})", self.expr(expr)),
            false => self.operand(expr),
        }
    }

    fn joined(&self, items: &[Expr], word: &str) -> String {
        items
            .iter()
            .map(|item| self.operand(item))
            .collect::<Vec<_>>()
            .join(word)
    }

    fn sum(&self, terms: &[Monomial]) -> String {
        let mut text = String::new();
        for term in terms {
            let factors: Vec<String> = term
                .factors
                .iter()
                .map(|factor| self.factor(factor))
                .collect();
            let size = term.coefficient.unsigned_abs();
            let product = match (size, factors.is_empty()) {
                (1, false) => factors.join(" * "),
                (size, true) => size.to_string(),
                (size, false) => format!("{size} * {}", factors.join(" * ")),
            };
            match (text.is_empty(), term.coefficient < 0) {
                (true, false) => text = product,
                (true, true) => text = format!("-{product}"),
                (false, false) => text += &format!(" + {product}"),
                (false, true) => text += &format!(" - {product}"),
            }
        }
        text
    }

    fn call(&self, name: &str, arguments: &[Expr]) -> String {
        let texts: Vec<String> = arguments
            .iter()
            .map(|argument| self.expr(argument))
            .collect();
        match (name, texts.as_slice()) {
            ("engine", _) => arguments
                .first()
                .and_then(Expr::as_literal)
                .map(Literal::to_string)
                .unwrap_or_default(),
            ("like" | "ilike", [subject, pattern, ..]) => format!("{subject} {name} {pattern}"),
            (name, [_, _]) if !name.starts_with(char::is_alphabetic) => {
                let [left, right] = [0, 1].map(|side: usize| self.factor(&arguments[side]));
                format!("{left} {name} {right}")
            }
            _ => format!("{name}({})", texts.join(", ")),
        }
    }

    fn query(&self, relation: &Relation) -> String {
        let mut tables = vec![];
        collect_tables(relation, &mut tables);
        let Some(block) = relation.block() else {
            return tables.join(", ");
        };
        let inner = Words {
            sources: block.all_sources(),
            is_qualified: true,
            outer: Some(self),
        };
        let filters: Vec<String> = block
            .predicates
            .iter()
            .map(|predicate| inner.expr(predicate))
            .collect();
        match filters.is_empty() {
            true => format!("rows of {}", tables.join(", ")),
            false => format!(
                "rows of {} where {}",
                tables.join(", "),
                filters.join(" and ")
            ),
        }
    }

    fn aggregate(&self, call: &Aggregate) -> String {
        let arguments: Vec<String> = call
            .arguments
            .iter()
            .map(|argument| self.expr(argument))
            .collect();
        let arguments = if arguments.is_empty() {
            "*".into()
        } else {
            arguments.join(", ")
        };
        let filter: Vec<String> = call.filter.iter().map(|filter| self.expr(filter)).collect();
        let filter = if filter.is_empty() {
            String::new()
        } else {
            format!(" where {}", filter.join(" and "))
        };
        let order = if call.order.is_empty() {
            String::new()
        } else {
            format!(" order by {}", self.order(&call.order))
        };
        format!(
            "{}({}{arguments}{filter}{order})",
            call.function,
            if call.is_distinct { "distinct " } else { "" }
        )
    }

    fn window(&self, call: &WindowCall) -> String {
        let arguments: Vec<String> = call
            .arguments
            .iter()
            .map(|argument| self.expr(argument))
            .collect();
        let partition: Vec<String> = call.partition.iter().map(|part| self.expr(part)).collect();
        let frame = if call.frame == super::windows::WHOLE {
            String::new()
        } else {
            format!(" {}", call.frame)
        };
        format!(
            "{}({}) over (partition by {} order by {}{frame})",
            call.function,
            arguments.join(", "),
            partition.join(", "),
            self.order(&call.order)
        )
    }

    fn order(&self, keys: &[SortKey]) -> String {
        let key = |key: &SortKey| {
            let direction = if key.is_descending { " desc" } else { "" };
            let nulls = if key.nulls_first { "first" } else { "last" };
            format!("{}{direction} nulls {nulls}", self.expr(&key.expr))
        };
        keys.iter().map(key).collect::<Vec<_>>().join(", ")
    }
}

fn is_unsigned(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Integer {
            is_signed: false,
            ..
        }
    )
}

/// An output of a relation as the expression that makes it.
fn output_words(relation: &Relation, index: usize) -> String {
    let in_block = |block: &Block, expr: Option<&Expr>| {
        expr.map(|expr| Words::of(block).expr(expr))
            .unwrap_or_default()
    };
    match relation {
        Relation::Scan(scan) => scan.columns[index].0.clone(),
        Relation::Select { block, outputs } | Relation::Limit(Limit { block, outputs, .. }) => {
            in_block(block, outputs.get(index))
        }
        Relation::Group(group) => {
            match group.aggregates.get(index.wrapping_sub(group.keys.len())) {
                Some(call) => Words::of(&group.block).aggregate(call),
                None => in_block(&group.block, group.keys.get(index)),
            }
        }
        Relation::Window {
            block,
            outputs,
            calls,
        } => match calls.get(index.wrapping_sub(outputs.len())) {
            Some(call) => Words::of(block).window(call),
            None => in_block(block, outputs.get(index)),
        },
        Relation::Union { branches } => {
            let texts: Vec<String> = branches
                .iter()
                .map(|branch| output_words(branch, index))
                .collect();
            format!("one of ({})", texts.join(" | "))
        }
        Relation::Full { left, right, .. } => match index.checked_sub(left.relation.width()) {
            Some(index) => output_words(&right.relation, index),
            None => output_words(&left.relation, index),
        },
        Relation::Values { .. } | Relation::Opaque { .. } => format!("column {}", index + 1),
    }
}

fn collect_tables(relation: &Relation, tables: &mut Vec<String>) {
    if let Relation::Scan(scan) = relation {
        tables.push(scan.table.clone());
    }
    relation
        .inputs()
        .into_iter()
        .for_each(|input| collect_tables(input, tables));
}
