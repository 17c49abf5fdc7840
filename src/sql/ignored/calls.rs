//! What stands in or behind a call and changes nothing there: `upper(distinct name)`, `abs(x) over (...)`, `rank() filter (...)`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, NamedWindowExpr, NullTreatment, ObjectNamePart, Select, WindowSpec,
    WindowType, visit_expressions,
};

use super::{Reader, Verdict};

/// Window functions that can pass over nulls.
const PASS_OVER_NULLS: [&str; 5] = ["lag", "lead", "first_value", "last_value", "nth_value"];

impl Reader<'_> {
    pub(super) fn call(&self, call: &Function) -> Verdict {
        let Function {
            name,
            uses_odbc_syntax: _,
            parameters: _,
            args: _,
            filter: _,
            null_treatment: _,
            over: _,
            within_group: _,
        } = call;
        let [ObjectNamePart::Identifier(written)] = name.0.as_slice() else {
            return Verdict::Continue(());
        };
        let name = match written.quote_style {
            Some(_) => written.value.clone(),
            None => written.value.to_lowercase(),
        };
        let call = Call {
            call,
            name: &name,
            written: &written.value,
            start: self.offset_of(written),
        };
        self.arguments(&call)?;
        if let Some(WindowType::WindowSpec(window)) = &call.call.over {
            self.window(window)?;
        }
        let is_scalar = self.state.scalar_functions().contains_key(&name)
            || self.state.higher_order_functions().contains_key(&name)
            || ["unnest", "unnest_outer", "make_map"].contains(&name.as_str());
        match self.state.aggregate_functions().get(&name) {
            _ if is_scalar => self.scalar(&call),
            Some(aggregate) if !PASS_OVER_NULLS.contains(&aggregate.name()) => {
                self.null_treatment(&call, aggregate.supports_null_handling_clause())?;
                self.order_in_place_of_argument(&call, aggregate.supports_within_group_clause())
            }
            _ if call.call.over.is_some() => self.window_function(&call),
            _ => Verdict::Continue(()),
        }
    }

    fn offset_of(&self, name: &datafusion::sql::sqlparser::ast::Ident) -> usize {
        self.places.offset(name.span.start)
    }

    fn arguments(&self, call: &Call<'_>) -> Verdict {
        if call.call.parameters != FunctionArguments::None {
            let message = format!("`{}` takes one list of arguments", call.name);
            self.refuse_as(message, call.written, call.start, "")?;
        }
        if matches!(call.call.args, FunctionArguments::Subquery(_)) {
            let message = format!("`{}` takes no query", call.name);
            let hint = "aggregate within a query in brackets: `(select array_agg(x) from ...)`";
            self.refuse_as(message, call.written, call.start, hint)?;
        }
        Verdict::Continue(())
    }

    /// A function of one row has no rows to choose, to order or to pass over.
    fn scalar(&self, call: &Call<'_>) -> Verdict {
        let list = call.list();
        let found = [
            (call.call.over.is_some(), "over"),
            (call.call.filter.is_some(), "filter"),
            (!call.call.within_group.is_empty(), "within group"),
            (call.nulls().is_some(), "nulls"),
            (
                list.is_some_and(|list| list.duplicate_treatment.is_some()),
                "distinct",
            ),
            (call.order().is_some(), "order by"),
        ];
        match found.iter().find(|(is_there, _)| *is_there) {
            Some((_, words)) => self.refuse_as(
                format!(
                    "`{}` is computed row by row: it takes no `{words}`",
                    call.name
                ),
                words,
                call.start,
                "",
            ),
            None => Verdict::Continue(()),
        }
    }

    fn window_function(&self, call: &Call<'_>) -> Verdict {
        if call.call.filter.is_some() {
            let message = format!("`{}` takes no `filter`", call.name);
            let hint = "filter the rows in a query before it";
            self.refuse_as(message, "filter", call.start, hint)?;
        }
        let is_distinct = |list: &FunctionArgumentList| list.duplicate_treatment.is_some();
        if call.list().is_some_and(is_distinct) {
            let message = format!("`{}` takes no `distinct`", call.name);
            self.refuse_as(message, "distinct", call.start, "")?;
        }
        self.null_treatment(call, PASS_OVER_NULLS.contains(&call.name))
    }

    fn null_treatment(&self, call: &Call<'_>, can_pass_over: bool) -> Verdict {
        let words = match call.nulls() {
            Some(NullTreatment::IgnoreNulls) => "ignore nulls",
            Some(NullTreatment::RespectNulls) => "respect nulls",
            None => return Verdict::Continue(()),
        };
        match can_pass_over {
            true => Verdict::Continue(()),
            false => {
                let message = format!("`{}` takes no `{words}`", call.name);
                self.refuse_as(message, words, call.start, "")
            }
        }
    }

    /// `percentile_cont(a, 0.5 order by b)` is planned as one over `b`.
    fn order_in_place_of_argument(&self, call: &Call<'_>, is_ordered_set: bool) -> Verdict {
        let (Some(list), Some(order)) = (call.list(), call.order()) else {
            return Verdict::Continue(());
        };
        let is_other = match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(first)), _, ..] => first != order,
            _ => false,
        };
        if !is_ordered_set || !is_other {
            return Verdict::Continue(());
        }
        let message = format!("`{}` orders by its first argument only", call.name);
        let hint = format!("write `{}(...) within group (order by ...)`", call.name);
        self.refuse_as(message, "order by", call.start, &hint)
    }

    /// Named windows are put in their places in the columns of `select`, and nowhere else.
    pub(super) fn windows_of_select(&self, select: &Select) -> Verdict {
        for definition in &select.named_window {
            if let NamedWindowExpr::WindowSpec(window) = &definition.1 {
                self.window(window)?;
            }
        }
        match &select.qualify {
            Some(condition) => self.no_named_window(condition),
            None => Verdict::Continue(()),
        }
    }

    pub(super) fn no_named_window(&self, expression: &Expr) -> Verdict {
        visit_expressions(expression, |inner| {
            match inner {
            Expr::Function(call) => match &call.over {
                Some(WindowType::NamedWindow(name)) => self.refuse_as(
                    format!("the window `{}` has no meaning here", name.value),
                    &name.value,
                    self.offset_of(name),
                    "compute it as a column of `select`, and use that here; or write the window in brackets",
                ),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
        })
    }

    fn window(&self, window: &WindowSpec) -> Verdict {
        match &window.window_name {
            Some(name) => self.refuse_as(
                format!("a window cannot build on the window `{}`", name.value),
                &name.value,
                self.offset_of(name),
                "write the whole window in the brackets",
            ),
            None => Verdict::Continue(()),
        }
    }
}

struct Call<'a> {
    call: &'a Function,
    name: &'a str,
    written: &'a str,
    start: usize,
}

impl<'a> Call<'a> {
    fn list(&self) -> Option<&'a FunctionArgumentList> {
        match &self.call.args {
            FunctionArguments::List(list) => Some(list),
            _ => None,
        }
    }

    fn nulls(&self) -> Option<NullTreatment> {
        let clauses = self.list().map(|list| list.clauses.as_slice());
        let inside = clauses
            .into_iter()
            .flatten()
            .find_map(|clause| match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(nulls) => Some(*nulls),
                _ => None,
            });
        self.call.null_treatment.or(inside)
    }

    /// What the first `order by` among the arguments orders by.
    fn order(&self) -> Option<&'a Expr> {
        let clauses = self.list().map(|list| list.clauses.as_slice());
        clauses
            .into_iter()
            .flatten()
            .find_map(|clause| match clause {
                FunctionArgumentClause::OrderBy(orders) => orders.first().map(|order| &order.expr),
                _ => None,
            })
    }
}
