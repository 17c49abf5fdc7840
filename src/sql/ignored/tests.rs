use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::SessionContext;

use crate::sql::{Analyzer, functions};

fn analyzer() -> Analyzer {
    let context = SessionContext::new();
    functions::register(&context);
    let analyzer = Analyzer::new(context);
    let columns = [
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int64, true),
        Field::new("word", DataType::Utf8, true),
    ];
    for relation in ["t", "u"] {
        let schema = Arc::new(Schema::new(columns.to_vec()));
        analyzer.add_relation(relation, schema).expect("added");
    }
    analyzer
}

/// All of them, so that one wrong one hides no other.
async fn check(marked: &[&str]) {
    let mut wrong = Vec::new();
    for marked in marked {
        wrong.extend(wrong_with(marked).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is refused stands between `[` and `]`; without them, the query is good.
async fn wrong_with(marked: &str) -> Option<String> {
    let sql = marked.replace(['[', ']'], "");
    let expected = marked.find('[').zip(marked.find(']'));
    let expected = expected.map(|(start, end)| (start, end - 1));
    let (found, message) = match analyzer().analyze(&sql).await {
        Ok(_) => (None, String::new()),
        Err(refused) => (refused.range, refused.message),
    };
    let is_said = expected.is_none()
        || message.starts_with(|first: char| first.is_lowercase() || first == '`');
    let is_ours = !message.contains("not implemented");
    let is_good = found == expected && message.is_empty() == expected.is_none();
    (!(is_good && is_said && is_ours)).then(|| format!("{marked}: {found:?} {message}"))
}

#[tokio::test]
async fn clauses_that_the_planner_does_not_heed_are_refused_where_they_stand() {
    check(&[
        "select a from t group by a [with rollup]",
        "select a, b from t group by all [with rollup]",
        "select a from t group by a [with cube]",
        "select a from t group by a [with totals]",
        "select a from t [prewhere] a > 1",
        "select a from (select a from t [prewhere] a > 1) as x",
        "with x as (select a from t [prewhere] a > 1) select * from x where a > 1",
        "select a from t where a in (select a from u [prewhere] b > 1)",
        "select a from t [start with] a = 1 connect by b = prior a",
        "select a from t [connect by] b = prior a",
        "select * from t [partition] (p)",
        "select * from t [tablesample] bernoulli (10)",
        "select * from t [sample] (10)",
        "select * from (select * from t) as x [tablesample] (10)",
        "select a from t [for update]",
        "select a from t limit 1 [for share]",
        "select a from t [for json] path",
        "select a from t [settings] max_threads = 1",
        "select a from t [format] CSV",
        "select a from t [sort by] a",
        "select a from t [cluster by] a",
        "select a from t [distribute by] a",
        "select a from t [lateral view] explode(a) x as y",
        "select a [into] x from t",
        "select a [into] x from t union all select a from u",
        "select a from t order by a [fetch] first 1 rows with ties",
        "select a from t [limit] 1 by b",
        "select a from t order by a [with fill]",
        "select a, b from t order by a [interpolate] (b as b + 1)",
        "[from] t",
        "select * [ilike] '%a%' from t",
        "select * from t [with] (nolock)",
        "select * from t [with ordinality]",
        "select t.a from t [global] join u on t.a = u.a",
        "select t.a from t join (u [global] join t as v on u.a = v.a) on t.a = u.a",
        "select * from t as x([a] int, b, word)",
        "select word [similar to] 'a%' from t",
        "select word not [similar to] 'a%' from t",
        "select [trim](word, 'a', 'b') from t",
        "select cast(a as [float](53)) from t",
        "with recursive x as (select 1 as n union all select n + 1 from x [order by] n) select * from x",
        "with recursive x as (select 1 as n union all select n + 1 from x [limit] 5) select * from x",
    ])
    .await;
}

#[tokio::test]
async fn what_changes_nothing_in_a_call_is_refused() {
    check(&[
        "select abs(a) [over] (order by a) from t",
        "select abs(a) [filter] (where a > 1) from t",
        "select upper([distinct] word) from t",
        "select upper(word [order by] a) from t",
        "select upper(word) [within group] (order by a) from t",
        "select upper(word) ignore [nulls] from t",
        "select row_number() [filter] (where a > 1) over (order by a) from t",
        "select rank() [ignore nulls] over (order by a) from t",
        "select sum(a) [ignore nulls] over (order by a) from t",
        "select [quantile](0.5)(a) from t",
        "select [array](select a from t)",
        "select percentile_cont(a, 0.5 [order by] b) from t",
        "select sum(a) over ([w] rows 1 preceding) from t window w as (order by a)",
        "select a from t window w as (order by a) qualify sum(a) over [w] > 1",
        "select a from t window w as (order by a) order by sum(a) over [w]",
    ])
    .await;
}

#[tokio::test]
async fn what_works_is_not_refused() {
    check(&[
        "select a from t group by rollup (a)",
        "select a, count(*) from t group by grouping sets ((a), ())",
        "select a, sum(b) as total from t group by all",
        "select distinct on (a) a, b from t order by a, b",
        "select a, row_number() over w as n from t window w as (order by a)",
        "select a from t qualify row_number() over (partition by a order by b) = 1",
        "select lag(a) ignore nulls over (order by b) from t",
        "select first_value(a ignore nulls) over (order by b) from t",
        "select first_value(a) ignore nulls from t",
        "select array_agg(distinct a order by a) filter (where b > 1) from t",
        "select string_agg(word, ',' order by a) from t",
        "select percentile_cont(0.5) within group (order by a) from t",
        "select percentile_cont(a, 0.5 order by a) from t",
        "select count(distinct a) over (partition by b) from t",
        "select sum(a) filter (where b > 1) over (partition by word) from t",
        "select * exclude (a) from t",
        "select * except (a) from t",
        "select * replace (a + 1 as a) from t",
        "select trim(both 'ab' from word) as x, cast(a as float) as y from t",
        "select * from t as x(a, b, c)",
        "from t select a",
        "select a from t limit 5 offset 2",
        "select t.a from t cross join lateral (select u.b from u where u.a = t.a) as x",
        "select value from unnest(make_array(1, 2)) as x(value), (select 1) as y",
        "with recursive x as (select 1 as n union all select n + 1 from x where n < 5) select * from x order by n limit 3",
        "with x as (select a from t) select * from x /*+ hint */",
        "select extract(year from now()) as year, interval '1' day as day, word like 'a%' as is_a from t",
        "select \"sample\", \"format\" from (select a as \"sample\", b as \"format\" from t) as x -- for update",
        "select a as partition, b as format, word as settings from t",
    ])
    .await;
}
