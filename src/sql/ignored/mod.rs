//! Clauses that are parsed and then not heeded by the planner (DataFusion 55): a query with one would get the answer of another query.
//! In: a parsed statement. Out: the first such clause, where it stands. What the planner refuses by itself it mostly says without a
//! place; what belongs to a clause here is said here too. Calls of functions are in [`calls`].

mod calls;
mod places;

use std::ops::ControlFlow;

use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Cte, DataType, ExactNumberInfo, Expr, ForClause, GroupByExpr, GroupByWithModifier, LimitClause,
    LockType, OrderBy, OrderByExpr, OrderByKind, PipeOperator, Query, Select, SelectFlavor,
    SelectItem, SetExpr, SetOperator, TableAlias, TableFactor, TableWithJoins, Visit, Visitor,
};

use super::analyze::{SqlError, SqlErrorKind};
use places::Places;

/// The first clause that would be ignored.
pub(super) fn ignored(sql: &str, statement: &Statement, state: &SessionState) -> Option<SqlError> {
    match statement {
        Statement::Statement(statement) => {
            let read = |places| match statement.visit(&mut Reader { places, state }) {
                ControlFlow::Break(refused) => Some(*refused),
                ControlFlow::Continue(()) => None,
            };
            // Places cost more than the walk: they are looked up in a second one, which most queries do not need.
            read(Places::nowhere()).and_then(|_| read(Places::of(sql)))
        }
        Statement::Explain(explained) => ignored(sql, &explained.statement, state),
        _ => None,
    }
}

/// What is refused breaks the walk. In a box: the walk is deep, and what it carries lies on its stack.
type Verdict = ControlFlow<Box<SqlError>>;

struct Reader<'a> {
    places: Places<'a>,
    state: &'a SessionState,
}

impl Reader<'_> {
    /// `words` begin the clause, at `after` or later.
    fn refuse(&self, words: &str, after: usize, hint: &str) -> Verdict {
        let message = format!("`{words}` is not supported");
        self.refuse_as(message, words, after, hint)
    }

    fn refuse_as(&self, message: String, words: &str, after: usize, hint: &str) -> Verdict {
        ControlFlow::Break(Box::new(SqlError {
            kind: SqlErrorKind::Meaning,
            message,
            hint: (!hint.is_empty()).then(|| hint.to_string()),
            range: self.places.find(words, after),
            word: String::new(),
        }))
    }
}

impl Visitor for Reader<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &Query) -> Verdict {
        // Every field by its name, here and below: one that a new parser adds does not compile before somebody has looked what becomes of it.
        let Query {
            with: _,
            body: _,
            order_by: _,
            limit_clause: _,
            fetch: _,
            locks: _,
            for_clause: _,
            settings: _,
            format_clause: _,
            pipe_operators: _,
        } = query;
        let start = self.places.start(query);
        self.end_of_query(query, start)?;
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let is_recursive = query.with.as_ref().is_some_and(|with| with.recursive);
            self.cte(cte, is_recursive)?;
        }
        for operator in &query.pipe_operators {
            self.pipe_operator(operator, start)?;
        }
        Verdict::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Verdict {
        let Select {
            select_token,
            // Comments, which change no rows anywhere.
            optimizer_hints: _,
            select_modifiers: _,
            top: _,
            top_before_distinct: _,
            exclude: _,
            into: _,
            lateral_views: _,
            prewhere: _,
            connect_by: _,
            group_by: _,
            cluster_by: _,
            distribute_by: _,
            sort_by: _,
            named_window: _,
            window_before_qualify: _,
            value_table_mode: _,
            flavor: _,
            // Planned as they are.
            distinct: _,
            projection: _,
            from: _,
            selection: _,
            having: _,
            qualify: _,
        } = select;
        let start = self.places.offset(select_token.0.span.start);
        self.rows_of_select(select, start)?;
        self.groups_of_select(select, start)?;
        self.columns_of_select(select, start)?;
        self.windows_of_select(select)?;
        for table in &select.from {
            self.joins(table)?;
        }
        Verdict::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Verdict {
        let start = self.places.start(factor);
        match factor {
            TableFactor::Table { .. } => self.table(factor, start)?,
            TableFactor::Derived { sample, .. } if sample.is_some() => {
                self.sample(self.places.end(factor))?;
            }
            TableFactor::Function {
                with_ordinality: true,
                ..
            } => self.refuse("with ordinality", start, ORDINALITY)?,
            TableFactor::NestedJoin {
                table_with_joins, ..
            } => self.joins(table_with_joins)?,
            _ => {}
        }
        match factor {
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::NestedJoin { alias, .. }
            | TableFactor::UNNEST { alias, .. } => self.alias(alias.as_ref()),
            _ => Verdict::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> Verdict {
        let start = self.places.start(expression);
        match expression {
            Expr::SimilarTo { .. } => self.refuse(
                "similar to",
                start,
                "write `like`, or `regexp_like(text, '^(...)$')` with a regular expression",
            ),
            Expr::Trim {
                trim_characters: Some(characters),
                ..
            } if characters.len() > 1 => self.refuse_as(
                "`trim` takes one text of characters to remove".into(),
                "trim",
                0,
                "write all of them as one text: `trim(both 'ab' from text)`",
            ),
            Expr::Cast {
                data_type: DataType::Float(precision),
                ..
            } if *precision != ExactNumberInfo::None => self.refuse_as(
                "the digits of `float` are not supported".into(),
                "float",
                start,
                "write `real` for 24 binary digits, `double` for 53",
            ),
            Expr::Function(call) => self.call(call),
            _ => Verdict::Continue(()),
        }
    }
}

const ORDINALITY: &str = "number the rows with `row_number() over (order by ...)`";
const READS_ONLY: &str = "a query reads, and nothing else: leave it out";
const ORDER_BY: &str = "write `order by` at the end of the query";
const SAMPLE: &str = "filter by a hash of the key, which chooses the same rows each time";

impl Reader<'_> {
    fn end_of_query(&self, query: &Query, start: usize) -> Verdict {
        // What stands after the body stands after the last thing in it that has a place.
        let body = self.places.end(query.body.as_ref()).max(start);
        if let Some(lock) = query.locks.first() {
            let words = match lock.lock_type {
                LockType::Update => "for update",
                LockType::Share => "for share",
            };
            self.refuse(words, body, READS_ONLY)?;
        }
        if let Some(clause) = &query.for_clause {
            let words = match clause {
                ForClause::Browse => "for browse",
                ForClause::Json { .. } => "for json",
                ForClause::Xml { .. } => "for xml",
            };
            self.refuse(words, body, READS_ONLY)?;
        }
        if query.settings.is_some() {
            self.refuse("settings", body, READS_ONLY)?;
        }
        if query.format_clause.is_some() {
            let hint = "how rows are printed is said by `--output`: leave it out";
            self.refuse("format", body, hint)?;
        }
        if query.fetch.is_some() {
            self.refuse("fetch", body, "write `limit`; rows that tie with the last one are `qualify rank() over (order by ...) <= 10`")?;
        }
        if let Some(LimitClause::LimitOffset { limit_by, .. }) = &query.limit_clause
            && !limit_by.is_empty()
        {
            let hint =
                "write `qualify row_number() over (partition by ... order by ...) <= 10` instead";
            self.refuse_as(
                "`limit ... by` is not supported".into(),
                "limit",
                body,
                hint,
            )?;
        }
        match &query.order_by {
            Some(order) => self.order_of_query(order, body),
            None => Verdict::Continue(()),
        }
    }

    fn order_of_query(&self, order: &OrderBy, after: usize) -> Verdict {
        if order.interpolate.is_some() {
            self.refuse("interpolate", after, "join with a series of all values")?;
        }
        match &order.kind {
            // Not in this dialect.
            OrderByKind::All(_) => Verdict::Continue(()),
            OrderByKind::Expressions(orders) => self.orders(orders, after),
        }
    }

    fn orders(&self, orders: &[OrderByExpr], after: usize) -> Verdict {
        if orders.iter().any(|order| order.with_fill.is_some()) {
            self.refuse("with fill", after, "join with a series of all values")?;
        }
        for order in orders {
            self.no_named_window(&order.expr)?;
        }
        Verdict::Continue(())
    }

    fn cte(&self, cte: &Cte, is_recursive: bool) -> Verdict {
        let start = self.places.offset(cte.alias.name.span.start);
        if cte.from.is_some() {
            self.refuse("from", self.places.end(cte.query.as_ref()), "leave it out")?;
        }
        self.alias(Some(&cte.alias))?;
        let is_union = matches!(
            cte.query.body.as_ref(),
            SetExpr::SetOperation {
                op: SetOperator::Union,
                ..
            }
        );
        if !(is_recursive && is_union) {
            return Verdict::Continue(());
        }
        // Of a recursive union only both sides are planned.
        let body = self.places.end(cte.query.body.as_ref()).max(start);
        let hint = "write it in the query that reads this one";
        let inside = "does not work at the end of a recursive query";
        if cte.query.order_by.is_some() {
            self.refuse_as(format!("`order by` {inside}"), "order by", body, hint)?;
        }
        if let Some(clause) = &cte.query.limit_clause {
            let word = match clause {
                LimitClause::LimitOffset { limit: None, .. } => "offset",
                _ => "limit",
            };
            self.refuse_as(format!("`{word}` {inside}"), word, body, hint)?;
        }
        if cte.query.with.is_some() {
            let message = "`with` does not work inside of a recursive query".to_string();
            let hint = "define these queries before it";
            self.refuse_as(message, "with", start, hint)?;
        }
        Verdict::Continue(())
    }

    fn pipe_operator(&self, operator: &PipeOperator, start: usize) -> Verdict {
        match operator {
            PipeOperator::Aggregate {
                full_table_exprs,
                group_by_expr,
            } => {
                let has_order = full_table_exprs
                    .iter()
                    .chain(group_by_expr)
                    .any(|part| part.order_by.asc.is_some() || part.order_by.nulls_first.is_some());
                if has_order {
                    let message = "the order within `aggregate` is not supported".to_string();
                    self.refuse_as(message, "aggregate", start, "add `|> order by ...`")?;
                }
                Verdict::Continue(())
            }
            PipeOperator::OrderBy { exprs } => self.orders(exprs, start),
            _ => Verdict::Continue(()),
        }
    }

    /// Clauses that choose rows, or say where they go.
    fn rows_of_select(&self, select: &Select, start: usize) -> Verdict {
        if select.flavor == SelectFlavor::FromFirstNoSelect {
            let message = "nothing is selected".to_string();
            self.refuse_as(message, "from", start, "write `select * from ...`")?;
        }
        let has_modifiers = select.select_modifiers.as_ref();
        if has_modifiers.is_some_and(|modifiers| modifiers.is_any_set()) {
            let message = "modifiers of `select` are not supported".to_string();
            self.refuse_as(message, "select", start, "leave them out")?;
        }
        if select.top.is_some() {
            self.refuse("top", start, "write `limit` at the end of the query")?;
        }
        if select.value_table_mode.is_some() {
            let message = "`select as` is not supported".to_string();
            let hint = "name the columns; a struct is `named_struct('name', value)`";
            self.refuse_as(message, "as", start, hint)?;
        }
        if select.into.is_some() {
            let hint = "a query reads, and nothing else: the name of a model's file is the name of its table";
            self.refuse("into", start, hint)?;
        }
        if select.prewhere.is_some() {
            self.refuse("prewhere", start, "write `where`")?;
        }
        if !select.connect_by.is_empty() {
            let words = match self.places.find("start with", start) {
                Some(_) => "start with",
                None => "connect by",
            };
            self.refuse(words, start, "write `with recursive`")?;
        }
        if !select.lateral_views.is_empty() {
            let hint =
                "write `cross join lateral (select unnest(...) as value)`, or `unnest` in `select`";
            self.refuse("lateral view", start, hint)?;
        }
        Verdict::Continue(())
    }

    /// Clauses that group or arrange rows.
    fn groups_of_select(&self, select: &Select, start: usize) -> Verdict {
        let modifiers = match &select.group_by {
            GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => modifiers,
        };
        match modifiers.first() {
            Some(GroupByWithModifier::Rollup) => {
                self.refuse("with rollup", start, "write `group by rollup (...)`")?;
            }
            Some(GroupByWithModifier::Cube) => {
                self.refuse("with cube", start, "write `group by cube (...)`")?;
            }
            Some(GroupByWithModifier::Totals) => {
                let hint = "write `group by grouping sets ((...), ())`";
                self.refuse("with totals", start, hint)?;
            }
            Some(GroupByWithModifier::GroupingSets(_)) => {
                let message =
                    "`grouping sets` after other keys is not supported without a comma".to_string();
                let hint = "write `group by grouping sets (...)` with all keys inside";
                self.refuse_as(message, "grouping sets", start, hint)?;
            }
            None => {}
        }
        if !select.sort_by.is_empty() {
            self.refuse("sort by", start, ORDER_BY)?;
        }
        if !select.cluster_by.is_empty() {
            let hint = "how a table lies is said by `cluster_by` in the model's YAML";
            self.refuse("cluster by", start, hint)?;
        }
        if !select.distribute_by.is_empty() {
            self.refuse("distribute by", start, "leave it out")?;
        }
        Verdict::Continue(())
    }

    fn columns_of_select(&self, select: &Select, start: usize) -> Verdict {
        if select.exclude.is_some() {
            let message = "`exclude` at the end of the columns is not supported".to_string();
            let hint = "write it behind the star: `* exclude (...)`";
            self.refuse_as(message, "exclude", start, hint)?;
        }
        for item in &select.projection {
            if let SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) = item
                && options.opt_ilike.is_some()
            {
                let message = "`* ilike` is not supported".to_string();
                self.refuse_as(message, "ilike", start, "name the columns")?;
            }
        }
        Verdict::Continue(())
    }

    fn joins(&self, table: &TableWithJoins) -> Verdict {
        match table.joins.iter().any(|join| join.global) {
            true => {
                let start = self.places.end(&table.relation);
                self.refuse("global", start, "leave it out: there is one machine")
            }
            false => Verdict::Continue(()),
        }
    }

    fn table(&self, factor: &TableFactor, start: usize) -> Verdict {
        let TableFactor::Table {
            name,
            alias: _,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } = factor
        else {
            return Verdict::Continue(());
        };
        let end = self.places.end(name);
        if sample.is_some() {
            self.sample(end)?;
        }
        if !partitions.is_empty() {
            let hint = "filter by the columns of the partition with `where`";
            self.refuse("partition", end, hint)?;
        }
        if version.is_some() {
            let message = "an older version of a relation cannot be asked for".to_string();
            let hint = "keep the versions of rows in a model of its own: `materialized: snapshot`";
            let word = self.places.word_after(end);
            self.refuse_as(message, &word, end, hint)?;
        }
        if !with_hints.is_empty() || !index_hints.is_empty() {
            let message = "hints to a table are not supported".to_string();
            let word = self.places.word_after(end);
            self.refuse_as(message, &word, end, "leave them out")?;
        }
        if *with_ordinality {
            self.refuse("with ordinality", end, ORDINALITY)?;
        }
        if json_path.is_some() {
            let message = "a path behind the name of a relation is not supported".to_string();
            let word = self.places.word_after(start);
            self.refuse_as(message, &word, start, "take fields in `select`")?;
        }
        if args.as_ref().is_some_and(|args| args.settings.is_some()) {
            self.refuse("settings", end, "leave it out")?;
        }
        Verdict::Continue(())
    }

    fn sample(&self, after: usize) -> Verdict {
        let words = match self.places.find("tablesample", after) {
            Some(_) => "tablesample",
            None => "sample",
        };
        self.refuse(words, after, SAMPLE)
    }

    fn alias(&self, alias: Option<&TableAlias>) -> Verdict {
        let Some(alias) = alias else {
            return Verdict::Continue(());
        };
        let start = self.places.offset(alias.name.span.start);
        if alias.at.is_some() {
            self.refuse("at", start, ORDINALITY)?;
        }
        match alias
            .columns
            .iter()
            .find(|column| column.data_type.is_some())
        {
            Some(column) => self.refuse_as(
                format!("the type of `{}` has no effect here", column.name.value),
                &column.name.value,
                start,
                "write the name alone, and cast the column in `select`",
            ),
            None => Verdict::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests;
