//! Templates: what dbt's words print, and that every piece of rendered SQL finds its way back to the user's file.

use std::collections::BTreeMap;
use std::sync::Arc;

use equipoise::diagnostics::{Code, Diagnostic};
use equipoise::project::SqlFile;
use equipoise::template::{Relations, Rendered, Scope, Surroundings, Templates};

/// Knows every relation by its own name, except `nothing`.
#[derive(Debug)]
struct Everything;

impl Relations for Everything {
    fn reference(&self, name: &str) -> Result<String, Diagnostic> {
        if name == "nothing" {
            Err(Diagnostic::error(Code::E0203, "unknown model `nothing`"))
        } else {
            Ok(name.to_string())
        }
    }

    fn source(&self, source: &str, table: &str) -> Result<String, Diagnostic> {
        Ok(format!("{source}.{table}"))
    }

    fn domain(
        &self,
        function: &str,
        arguments: &BTreeMap<String, String>,
    ) -> Result<String, Diagnostic> {
        Ok(format!("{function}{arguments:?}"))
    }
}

fn file(path: &str, text: &str) -> SqlFile {
    SqlFile {
        path: path.into(),
        text: text.into(),
    }
}

fn render_with(macros: &str, text: &str) -> Result<Rendered, Vec<Diagnostic>> {
    let templates = Templates::new(&[file("macros/m.sql", macros)]);
    assert!(
        templates.diagnostics.is_empty(),
        "{:?}",
        templates.diagnostics
    );
    let surroundings = Surroundings {
        project_name: "shop".to_string(),
        vars: serde_json::Map::from_iter([
            ("days".to_string(), 7.into()),
            ("names".to_string(), serde_json::json!(["a", "b"])),
        ]),
        environment_variables: BTreeMap::from([("PLACE".to_string(), "Kiel".to_string())]),
        target: BTreeMap::from([("name".to_string(), "dev".into())]),
        run_started_at: "2026-01-20T08:00:00Z".to_string(),
        ..Surroundings::default()
    };
    let mut scope = Scope::new(Arc::new(surroundings), Arc::new(Everything), "model_x");
    scope.execute = true;
    let rendered = templates
        .value
        .render(&file("models/x.sql", text), &Arc::new(scope));
    if rendered.diagnostics.is_empty() {
        Ok(rendered.value)
    } else {
        Err(rendered.diagnostics)
    }
}

fn render(text: &str) -> String {
    render_with("", text).expect("it renders").sql
}

#[test]
fn the_words_of_dbt_print_what_they_print_in_dbt() {
    for (text, expected) in [
        ("{{ ref('orders') }}", "orders"),
        ("{{ ref('other_package', 'orders') }}", "orders"),
        ("{{ source('shop', 'orders') }}", "shop.orders"),
        ("{{ this }}", "model_x"),
        ("{{ target.name }}", "dev"),
        ("{{ var('days') }} {{ var('weeks', 2) }}", "7 2"),
        (
            "{% for name in var('names') %}{{ name }}{{ ',' if not loop.last }}{% endfor %}",
            "a,b",
        ),
        (
            "{{ env_var('PLACE') }} {{ env_var('LAND', 'DE') }}",
            "Kiel DE",
        ),
        ("{{ run_started_at }}", "2026-01-20T08:00:00Z"),
        ("{{ config(materialized='table') }}x", "x"),
        ("{{ log('seen', info=true) }}x", "x"),
        ("{% if execute %}yes{% endif %}", "yes"),
        ("{{ 'A'.lower() }}", "a"),
        ("{% set xs = ['b'] %}{{ xs | join(', ') }}", "b"),
    ] {
        assert_eq!(render(text), expected, "{text}");
    }
}

#[test]
fn macros_take_arguments_return_values_and_dispatch() {
    let macros = "{% macro twice(x, by=2) %}{{ x }} * {{ by }}{% endmacro %}\n\
        {% macro listed() %}{{ return(['a', 'b']) }}{% endmacro %}\n\
        {% macro default__now() %}now(){% endmacro %}\n\
        {% macro current() %}{{ adapter.dispatch('now')() }}{% endmacro %}";
    let sql = |text| render_with(macros, text).expect("it renders").sql;
    assert_eq!(
        sql("{{ twice('n') }}, {{ twice('n', by=3) }}"),
        "n * 2, n * 3"
    );
    assert_eq!(
        sql("{% for x in listed() %}[{{ x }}]{% endfor %}"),
        "[a][b]"
    );
    assert_eq!(sql("{{ current() }}"), "now()");
}

/// The place in the user's files that the map gives for a word of the rendered SQL.
fn place(macros: &str, text: &str, word: &str) -> String {
    let rendered = render_with(macros, text).expect("it renders");
    let start = rendered.sql.find(word).expect("the word was rendered");
    rendered
        .map
        .span(start, start + word.len(), word)
        .expect("there is a place")
        .to_string()
}

#[test]
fn rendered_text_knows_where_it_was_written() {
    assert_eq!(
        place("", "select a,\n  {{ ref('t') }}.wrong\nfrom t", "wrong"),
        "models/x.sql:2:18"
    );
    assert_eq!(
        place(
            "",
            "{%- if true -%}\n\n  select 1,\n    wrong\n{%- endif -%}",
            "wrong"
        ),
        "models/x.sql:4:5"
    );
    assert_eq!(
        place("", "{# a\nb #}\nselect é, wrong", "wrong"),
        "models/x.sql:3:11"
    );
    assert_eq!(
        place(
            "",
            "{% for x in [1, 2] %}\nselect {{ x }} as wrong\n{% endfor %}",
            "wrong"
        ),
        "models/x.sql:2:19"
    );
}

#[test]
fn text_of_a_macro_is_found_in_the_macro_and_a_value_at_the_tag_that_prints_it() {
    let macros = "{# cents #}\n{% macro cents(column) -%}\n  cast({{ column }} * 100 as wrong)\n{%- endmacro %}";
    assert_eq!(
        place(macros, "select\n  {{ cents('amount') }}", "wrong"),
        "macros/m.sql:3:30"
    );
    assert_eq!(
        place(
            "",
            "{% set name = 'wrong' %}\nselect 1,\n  {{ name }} as x",
            "wrong"
        ),
        "models/x.sql:3:3"
    );
}

#[test]
fn every_unknown_relation_is_reported_where_it_is_named() {
    let found = render_with(
        "{% macro m() %}\n{{ ref('nothing') }}{% endmacro %}",
        "{{ ref('nothing') }}\n{{ m() }}",
    )
    .expect_err("two are unknown");
    let places: Vec<String> = found
        .iter()
        .filter_map(|problem| problem.span.as_ref())
        .map(ToString::to_string)
        .collect();
    assert_eq!(places, ["models/x.sql:1:8", "macros/m.sql:2:8"]);
}

#[test]
fn a_macro_of_the_project_replaces_one_of_the_library() {
    let macros = "{% test not_null(model, column_name) %}mine {{ column_name }}{% endtest %}";
    assert_eq!(
        render_with(macros, "{{ test_not_null('t', column_name='id') }}")
            .expect("it renders")
            .sql,
        "mine id"
    );
}

#[test]
fn what_stops_a_template_has_a_code_and_a_place() {
    for (text, code, place) in [
        ("select\n  {{ var('x') }}", Code::E0404, "models/x.sql:2:6"),
        ("{{ env_var('X') }}", Code::E0404, "models/x.sql:1:4"),
        (
            "{{ exceptions.raise_compiler_error('no') }}",
            Code::E0403,
            "models/x.sql:1:14",
        ),
        ("{{ nothing }}", Code::E0402, "models/x.sql:1:4"),
        ("{{ nothing() }}", Code::E0402, "models/x.sql:1:4"),
        ("{% if %}", Code::E0401, "models/x.sql:1:7"),
    ] {
        let found = render_with("", text).expect_err("it stops");
        assert_eq!(found[0].code, code, "{text}");
        assert_eq!(
            found[0].span.as_ref().map(ToString::to_string).as_deref(),
            Some(place),
            "{text}"
        );
    }
}
