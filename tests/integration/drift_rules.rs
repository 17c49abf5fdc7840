//! Each rule by itself: pairs of metrics that mean the same and neighbours that do not.

use serde_json::{Value, json};

use super::drift_project::Project;

fn base() -> Project {
    let file: Value = serde_json::from_str(include_str!("drift_base.json")).expect("JSON");
    Project::base(&file)
}

/// `from` the rest of the query, per user.
fn per_user(value: &str, rest: &str) -> Value {
    json!({"metric": format!("SELECT user_id AS unit, {value} AS value FROM fct_orders {rest} GROUP BY user_id")})
}

fn metric(sql: &str) -> Value {
    json!({"metric": sql})
}

fn hash(overlay: &Value) -> String {
    base().overlaid(overlay).meaning().plan.hash
}

fn check(pairs: &[(&str, Value, Value)], is_same: bool) {
    let wrong: Vec<&str> = pairs
        .iter()
        .filter(|(_, before, after)| (hash(before) == hash(after)) != is_same)
        .map(|(name, ..)| *name)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} wrong of {}: {wrong:#?}",
        wrong.len(),
        pairs.len()
    );
}

#[test]
fn drift_rules_keep_what_means_the_same() {
    let w = |filter: &str| per_user("COUNT(*)", &format!("WHERE {filter}"));
    let v = |value: &str| per_user(value, "");
    check(
        &[
            (
                "conjuncts reordered",
                w("status = 'paid' AND amount_cents > 5"),
                w("amount_cents > 5 AND status = 'paid'"),
            ),
            (
                "in as or",
                w("status IN ('a', 'b')"),
                w("status = 'b' OR status = 'a'"),
            ),
            ("not equal", w("NOT (status = 'a')"), w("status <> 'a'")),
            (
                "not in as and",
                w("status NOT IN ('a', 'b')"),
                w("NOT (status = 'a' OR status = 'b')"),
            ),
            (
                "common conjunct",
                w("(plan = 'a' AND status = 'x') OR (plan = 'a' AND status = 'y')"),
                w("plan = 'a' AND status IN ('x', 'y')"),
            ),
            ("true and", w("1 = 1 AND status = 'a'"), w("status = 'a'")),
            (
                "absorbed",
                w("status = 'a' AND (status = 'a' OR plan = 'b')"),
                w("status = 'a'"),
            ),
            (
                "tighter range",
                w("amount_cents > 3 AND amount_cents > 5"),
                w("amount_cents > 5"),
            ),
            (
                "whole numbers",
                w("amount_cents > 4"),
                w("amount_cents >= 5"),
            ),
            (
                "double negation",
                w("NOT (NOT (status = 'a'))"),
                w("status = 'a'"),
            ),
            (
                "coalesce in a filter",
                w("COALESCE(status, '') = 'a'"),
                w("status = 'a'"),
            ),
            (
                "case in a filter",
                w("CASE WHEN status = 'a' THEN TRUE ELSE FALSE END"),
                w("status = 'a'"),
            ),
            ("is true", w("(status = 'a') IS TRUE"), w("status = 'a'")),
            (
                "not null declared",
                w("created_at IS NOT NULL"),
                v("COUNT(*)"),
            ),
            (
                "not distinct from a literal",
                w("status IS NOT DISTINCT FROM 'a'"),
                w("status = 'a'"),
            ),
            (
                "like without wildcard",
                w("status LIKE 'a'"),
                w("status = 'a'"),
            ),
            ("count of a key", v("COUNT(order_id)"), v("COUNT(*)")),
            (
                "count distinct of a key",
                v("COUNT(DISTINCT order_id)"),
                v("COUNT(*)"),
            ),
            (
                "count of what the filter needs",
                per_user("COUNT(status)", "WHERE status = 'a'"),
                w("status = 'a'"),
            ),
            (
                "count case",
                v("COUNT(CASE WHEN status = 'a' THEN 1 END)"),
                v("COUNT(*) FILTER (WHERE status = 'a')"),
            ),
            ("sum of ones", v("SUM(1)"), v("COUNT(*)")),
            (
                "sum case without else",
                v("SUM(CASE WHEN status = 'a' THEN amount_cents ELSE NULL END)"),
                v("SUM(amount_cents) FILTER (WHERE status = 'a')"),
            ),
            (
                "max filter",
                v("MAX(CASE WHEN status = 'a' THEN amount_cents END)"),
                v("MAX(amount_cents) FILTER (WHERE status = 'a')"),
            ),
            (
                "distinct in max",
                v("MAX(DISTINCT amount_cents)"),
                v("MAX(amount_cents)"),
            ),
            (
                "plus commutes",
                v("SUM(amount_cents + tax_cents)"),
                v("SUM(tax_cents + amount_cents)"),
            ),
            (
                "times commutes",
                v("SUM(amount_cents * tax_cents)"),
                v("SUM(tax_cents * amount_cents)"),
            ),
            (
                "subtraction as addition",
                v("SUM(amount_cents - tax_cents)"),
                v("SUM(-tax_cents + amount_cents)"),
            ),
            (
                "simple case",
                v("SUM(CASE status WHEN 'a' THEN 1 WHEN 'b' THEN 2 END)"),
                v("SUM(CASE WHEN status = 'a' THEN 1 WHEN status = 'b' THEN 2 END)"),
            ),
            (
                "disjoint arms",
                v("SUM(CASE WHEN status = 'a' THEN 1 WHEN status = 'b' THEN 2 ELSE 0 END)"),
                v("SUM(CASE WHEN status = 'b' THEN 2 WHEN status = 'a' THEN 1 ELSE 0 END)"),
            ),
            (
                "disjoint ranges",
                v("SUM(CASE WHEN amount_cents < 10 THEN 1 WHEN amount_cents >= 10 THEN 2 END)"),
                v("SUM(CASE WHEN amount_cents >= 10 THEN 2 WHEN amount_cents < 10 THEN 1 END)"),
            ),
            (
                "nullif",
                v("SUM(NULLIF(amount_cents, 0))"),
                v("SUM(CASE WHEN amount_cents = 0 THEN NULL ELSE amount_cents END)"),
            ),
            (
                "double cast",
                v("SUM(CAST(CAST(amount_cents AS BIGINT) AS BIGINT))"),
                v("SUM(amount_cents)"),
            ),
            (
                "timestamp spelled out",
                w("created_at < TIMESTAMP '2026-01-06'"),
                w("created_at < TIMESTAMP '2026-01-06 00:00:00'"),
            ),
            (
                "interval of a week",
                w("created_at < TIMESTAMP '2026-01-06' + INTERVAL '7' DAY"),
                w("created_at < TIMESTAMP '2026-01-06' + INTERVAL '1' WEEK"),
            ),
            (
                "subquery flattened",
                metric(
                    "SELECT user_id AS unit, COUNT(*) AS value FROM (SELECT * FROM (SELECT * FROM fct_orders WHERE plan = 'a') x WHERE status = 'b') y GROUP BY user_id",
                ),
                w("status = 'b' AND plan = 'a'"),
            ),
            (
                "group by position",
                metric("SELECT user_id AS unit, COUNT(*) AS value FROM fct_orders GROUP BY 1"),
                v("COUNT(*)"),
            ),
            (
                "distinct as group by",
                metric("SELECT DISTINCT user_id AS unit, plan AS value FROM fct_orders"),
                metric(
                    "SELECT user_id AS unit, plan AS value FROM fct_orders GROUP BY plan, user_id",
                ),
            ),
            (
                "distinct of a key",
                metric(
                    "SELECT user_id AS unit, COUNT(*) AS value FROM (SELECT DISTINCT order_id, user_id FROM stg_orders) t GROUP BY user_id",
                ),
                metric(
                    "SELECT user_id AS unit, COUNT(*) AS value FROM stg_orders GROUP BY user_id",
                ),
            ),
            (
                "having as where over a cte",
                metric(
                    "WITH g AS (SELECT user_id, SUM(amount_cents) AS s FROM fct_orders GROUP BY user_id) SELECT user_id AS unit, s AS value FROM g WHERE user_id > 3 AND s > 10",
                ),
                metric(
                    "SELECT user_id AS unit, SUM(amount_cents) AS value FROM fct_orders WHERE user_id > 3 GROUP BY user_id HAVING SUM(amount_cents) > 10",
                ),
            ),
            (
                "using",
                metric(
                    "SELECT user_id AS unit, COUNT(*) AS value FROM stg_orders JOIN stg_users USING (user_id) GROUP BY user_id",
                ),
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_users u JOIN stg_orders o ON o.user_id = u.user_id GROUP BY o.user_id",
                ),
            ),
            (
                "left join under a rejecting filter",
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o LEFT JOIN stg_users u ON o.user_id = u.user_id WHERE u.plan = 'a' GROUP BY o.user_id",
                ),
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o JOIN stg_users u ON o.user_id = u.user_id WHERE u.plan = 'a' GROUP BY o.user_id",
                ),
            ),
            (
                "filter in an inner join's on",
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o JOIN stg_users u ON o.user_id = u.user_id AND u.plan = 'a' GROUP BY o.user_id",
                ),
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o JOIN stg_users u ON o.user_id = u.user_id WHERE u.plan = 'a' GROUP BY o.user_id",
                ),
            ),
            (
                "on filters the optional side first",
                metric(
                    "SELECT u.user_id AS unit, COUNT(o.order_id) AS value FROM stg_users u LEFT JOIN stg_orders o ON o.user_id = u.user_id AND o.status = 'a' GROUP BY u.user_id",
                ),
                metric(
                    "SELECT u.user_id AS unit, COUNT(o.order_id) AS value FROM stg_users u LEFT JOIN (SELECT * FROM stg_orders WHERE status = 'a') o ON o.user_id = u.user_id GROUP BY u.user_id",
                ),
            ),
            (
                "two left joins swapped",
                metric(
                    "SELECT u.user_id AS unit, COUNT(o.order_id) + COUNT(e.value) AS value FROM stg_users u LEFT JOIN stg_orders o ON o.user_id = u.user_id LEFT JOIN stg_events e ON e.user_id = u.user_id GROUP BY u.user_id",
                ),
                metric(
                    "SELECT u.user_id AS unit, COUNT(e.value) + COUNT(o.order_id) AS value FROM stg_users u LEFT JOIN stg_events e ON u.user_id = e.user_id LEFT JOIN stg_orders o ON o.user_id = u.user_id GROUP BY u.user_id",
                ),
            ),
            (
                "in query as exists",
                metric(
                    "SELECT user_id AS unit, COUNT(*) AS value FROM stg_orders WHERE user_id IN (SELECT user_id FROM stg_users) GROUP BY user_id",
                ),
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o WHERE EXISTS (SELECT 1 FROM stg_users u WHERE u.user_id = o.user_id) GROUP BY o.user_id",
                ),
            ),
            (
                "exists as join to a key",
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o JOIN raw_exposures e ON e.user_id = o.user_id GROUP BY o.user_id",
                ),
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o WHERE EXISTS (SELECT 1 FROM raw_exposures e WHERE e.user_id = o.user_id) GROUP BY o.user_id",
                ),
            ),
            (
                "anti join",
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o LEFT JOIN raw_blocklist b ON b.user_id = o.user_id WHERE b.user_id IS NULL GROUP BY o.user_id",
                ),
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o WHERE NOT EXISTS (SELECT 1 FROM raw_blocklist b WHERE b.user_id = o.user_id) GROUP BY o.user_id",
                ),
            ),
            (
                "union as distinct union all",
                metric(
                    "SELECT unit, COUNT(*) AS value FROM (SELECT user_id AS unit FROM stg_orders UNION SELECT user_id FROM stg_events) t GROUP BY unit",
                ),
                metric(
                    "SELECT unit, COUNT(*) AS value FROM (SELECT DISTINCT * FROM (SELECT user_id AS unit FROM stg_events UNION ALL SELECT user_id FROM stg_orders) x) t GROUP BY unit",
                ),
            ),
            (
                "filter over a union",
                metric(
                    "SELECT unit, SUM(v) AS value FROM (SELECT user_id AS unit, amount_cents AS v FROM stg_orders UNION ALL SELECT user_id, value FROM stg_events) t WHERE v > 0 GROUP BY unit",
                ),
                metric(
                    "SELECT unit, SUM(v) AS value FROM (SELECT user_id AS unit, amount_cents AS v FROM stg_orders WHERE amount_cents > 0 UNION ALL SELECT user_id, value FROM stg_events WHERE value > 0) t GROUP BY unit",
                ),
            ),
            (
                "total of totals",
                metric(
                    "SELECT user_id AS unit, SUM(s) AS value FROM (SELECT user_id, plan, SUM(amount_cents) AS s FROM fct_orders GROUP BY user_id, plan) t GROUP BY user_id",
                ),
                v("SUM(amount_cents)"),
            ),
            (
                "qualify",
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM fct_orders QUALIFY ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY created_at, order_id) = 1",
                ),
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY created_at, order_id) AS rn FROM fct_orders) t WHERE rn = 1",
                ),
            ),
            (
                "filter on the partition",
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY created_at, order_id) AS rn FROM fct_orders) t WHERE rn = 1 AND user_id > 5",
                ),
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY created_at, order_id) AS rn FROM fct_orders WHERE user_id > 5) t WHERE rn = 1",
                ),
            ),
            (
                "first row numbers",
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY created_at, order_id) AS rn FROM fct_orders) t WHERE rn = 1",
                ),
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY created_at, order_id) AS rn FROM fct_orders) t WHERE rn < 2",
                ),
            ),
            (
                "star",
                json!({"models": {"stg_events": "SELECT * FROM raw_events WHERE user_id IS NOT NULL"}, "metric": "SELECT user_id AS unit, COUNT(*) AS value FROM stg_events GROUP BY user_id"}),
                metric(
                    "SELECT user_id AS unit, COUNT(*) AS value FROM stg_events GROUP BY user_id",
                ),
            ),
            (
                "column renamed with its readers",
                json!({"models": {"stg_orders": "SELECT order_id, user_id, device_id, amount_cents AS gross, tax_cents, currency, status, country, coupon, created_at FROM raw_orders WHERE is_test = false", "fct_orders": "SELECT o.order_id, o.user_id, o.gross AS amount_cents, o.status FROM stg_orders o JOIN stg_users u ON o.user_id = u.user_id"}}),
                json!({}),
            ),
            (
                "self join named the other way round",
                metric(
                    "SELECT a.user_id AS unit, COUNT(*) AS value FROM stg_orders a JOIN stg_orders b ON a.user_id = b.user_id AND a.created_at < b.created_at GROUP BY a.user_id",
                ),
                metric(
                    "SELECT y.user_id AS unit, COUNT(*) AS value FROM stg_orders x JOIN stg_orders y ON y.user_id = x.user_id AND x.created_at > y.created_at GROUP BY y.user_id",
                ),
            ),
            (
                "lookup of the same row",
                metric(
                    "SELECT f.user_id AS unit, SUM(f.amount_cents) AS value FROM fct_orders f JOIN stg_users u ON u.user_id = f.user_id GROUP BY f.user_id",
                ),
                v("SUM(amount_cents)"),
            ),
            (
                "seed column nobody reads",
                json!({"metric": "SELECT f.user_id AS unit, SUM(f.amount_cents * r.rate_bp) AS value FROM fct_orders f JOIN fx_rates r ON f.currency = r.currency GROUP BY f.user_id", "seeds": {"fx_rates": "currency,rate_bp,note\nUSD,10000,x\nEUR,10900,y\nGBP,12700,z\n"}}),
                metric(
                    "SELECT f.user_id AS unit, SUM(f.amount_cents * r.rate_bp) AS value FROM fct_orders f JOIN fx_rates r ON f.currency = r.currency GROUP BY f.user_id",
                ),
            ),
            (
                "except reordered",
                metric(
                    "SELECT user_id AS unit, 1 AS value FROM (SELECT user_id FROM stg_users EXCEPT SELECT user_id FROM raw_blocklist) t",
                ),
                metric(
                    "WITH b AS (SELECT user_id FROM raw_blocklist), u AS (SELECT user_id FROM stg_users) SELECT user_id AS unit, 1 AS value FROM (SELECT user_id FROM u EXCEPT SELECT user_id FROM b) t",
                ),
            ),
            (
                "order keys fixed by the partition",
                metric(
                    "SELECT user_id AS unit, SUM(r) AS value FROM (SELECT user_id, RANK() OVER (PARTITION BY user_id ORDER BY user_id, created_at) AS r FROM fct_orders) t GROUP BY user_id",
                ),
                metric(
                    "SELECT user_id AS unit, SUM(r) AS value FROM (SELECT user_id, RANK() OVER (PARTITION BY user_id ORDER BY created_at) AS r FROM fct_orders) t GROUP BY user_id",
                ),
            ),
            (
                "equality carries a filter",
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o JOIN stg_users u ON o.user_id = u.user_id WHERE o.user_id > 5 GROUP BY o.user_id",
                ),
                metric(
                    "SELECT u.user_id AS unit, COUNT(*) AS value FROM stg_orders o JOIN stg_users u ON o.user_id = u.user_id WHERE u.user_id > 5 GROUP BY u.user_id",
                ),
            ),
            (
                "boolean as a number",
                metric(
                    "SELECT user_id AS unit, SUM(CAST(is_test AS BIGINT)) AS value FROM raw_orders GROUP BY user_id",
                ),
                metric(
                    "SELECT user_id AS unit, COUNT(*) FILTER (WHERE is_test) AS value FROM raw_orders GROUP BY user_id",
                ),
            ),
            (
                "zero for the rest",
                metric(
                    "SELECT user_id AS unit, SUM(CASE WHEN is_test THEN order_id ELSE 0 END) AS value FROM raw_orders GROUP BY user_id",
                ),
                metric(
                    "SELECT user_id AS unit, COALESCE(SUM(order_id) FILTER (WHERE is_test), 0) AS value FROM raw_orders GROUP BY user_id",
                ),
            ),
        ],
        true,
    );
}

#[test]
fn drift_rules_leave_what_differs_apart() {
    let w = |filter: &str| per_user("COUNT(*)", &format!("WHERE {filter}"));
    let v = |value: &str| per_user(value, "");
    check(
        &[
            (
                "null is not a value",
                w("status <> 'a'"),
                w("status <> 'a' OR status IS NULL"),
            ),
            (
                "not of nothing",
                w("NOT (status = 'a')"),
                w("status IS DISTINCT FROM 'a'"),
            ),
            ("x equals x", v("COUNT(*)"), w("status = status")),
            ("boundary", w("amount_cents > 5"), w("amount_cents >= 5")),
            (
                "and or",
                w("status = 'a' AND (plan = 'b' OR plan = 'c')"),
                w("(status = 'a' AND plan = 'b') OR plan = 'c'"),
            ),
            (
                "case else zero under avg",
                v("AVG(CASE WHEN status = 'a' THEN amount_cents ELSE 0 END)"),
                v("AVG(CASE WHEN status = 'a' THEN amount_cents END)"),
            ),
            (
                "count without groups",
                metric(
                    "SELECT 1 AS unit, COUNT(*) FILTER (WHERE status = 'a') AS value FROM fct_orders",
                ),
                metric(
                    "SELECT 1 AS unit, SUM(CASE WHEN status = 'a' THEN 1 ELSE 0 END) AS value FROM fct_orders",
                ),
            ),
            (
                "sum else zero with nulls",
                v("SUM(CASE WHEN status = 'a' THEN amount_cents ELSE 0 END)"),
                v("SUM(amount_cents) FILTER (WHERE status = 'a')"),
            ),
            (
                "difference turned round",
                v("SUM(amount_cents - tax_cents)"),
                v("SUM(tax_cents - amount_cents)"),
            ),
            (
                "integer division placed otherwise",
                v("SUM(amount_cents / 100)"),
                v("SUM(amount_cents) / 100"),
            ),
            (
                "rounding placed otherwise",
                v("ROUND(AVG(amount_cents))"),
                v("AVG(ROUND(amount_cents))"),
            ),
            (
                "float sums reordered",
                v("SUM(CAST(amount_cents AS DOUBLE) + 0.1 + tax_cents)"),
                v("SUM(CAST(amount_cents AS DOUBLE) + tax_cents + 0.1)"),
            ),
            (
                "rows and range",
                metric(
                    "SELECT user_id AS unit, MAX(c) AS value FROM (SELECT user_id, SUM(amount_cents) OVER (PARTITION BY user_id ORDER BY created_at) AS c FROM fct_orders) t GROUP BY user_id",
                ),
                metric(
                    "SELECT user_id AS unit, MAX(c) AS value FROM (SELECT user_id, SUM(amount_cents) OVER (PARTITION BY user_id ORDER BY created_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS c FROM fct_orders) t GROUP BY user_id",
                ),
            ),
            (
                "union and union all",
                metric(
                    "SELECT unit, COUNT(*) AS value FROM (SELECT user_id AS unit FROM stg_orders UNION SELECT user_id FROM stg_events) t GROUP BY unit",
                ),
                metric(
                    "SELECT unit, COUNT(*) AS value FROM (SELECT user_id AS unit FROM stg_orders UNION ALL SELECT user_id FROM stg_events) t GROUP BY unit",
                ),
            ),
            (
                "on and where of a left join",
                metric(
                    "SELECT u.user_id AS unit, COUNT(o.order_id) AS value FROM stg_users u LEFT JOIN stg_orders o ON o.user_id = u.user_id AND u.plan = 'a' GROUP BY u.user_id",
                ),
                metric(
                    "SELECT u.user_id AS unit, COUNT(o.order_id) AS value FROM stg_users u LEFT JOIN stg_orders o ON o.user_id = u.user_id WHERE u.plan = 'a' GROUP BY u.user_id",
                ),
            ),
            (
                "optional filter in where",
                metric(
                    "SELECT u.user_id AS unit, COUNT(o.order_id) AS value FROM stg_users u LEFT JOIN stg_orders o ON o.user_id = u.user_id AND o.status = 'a' GROUP BY u.user_id",
                ),
                metric(
                    "SELECT u.user_id AS unit, COUNT(o.order_id) AS value FROM stg_users u LEFT JOIN stg_orders o ON o.user_id = u.user_id WHERE o.status = 'a' GROUP BY u.user_id",
                ),
            ),
            (
                "in query and a repeating join",
                metric(
                    "SELECT user_id AS unit, COUNT(*) AS value FROM stg_orders WHERE order_id IN (SELECT order_id FROM raw_refunds) GROUP BY user_id",
                ),
                metric(
                    "SELECT o.user_id AS unit, COUNT(*) AS value FROM stg_orders o JOIN raw_refunds r ON r.order_id = o.order_id GROUP BY o.user_id",
                ),
            ),
            (
                "join to a unique table that filters",
                json!({}),
                json!({"models": {"fct_orders": "SELECT o.order_id, o.user_id, o.amount_cents, o.status FROM stg_orders o"}}),
            ),
            (
                "anti test on a nullable column",
                metric(
                    "SELECT u.user_id AS unit, COUNT(*) AS value FROM stg_users u LEFT JOIN stg_orders o ON o.user_id = u.user_id WHERE o.coupon IS NULL GROUP BY u.user_id",
                ),
                metric(
                    "SELECT u.user_id AS unit, COUNT(*) AS value FROM stg_users u WHERE NOT EXISTS (SELECT 1 FROM stg_orders o WHERE o.user_id = u.user_id) GROUP BY u.user_id",
                ),
            ),
            (
                "count distinct of what repeats",
                v("COUNT(DISTINCT plan)"),
                v("COUNT(plan)"),
            ),
            (
                "filter after a window",
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY created_at) AS rn FROM fct_orders WHERE status = 'a') t WHERE rn = 1",
                ),
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY created_at) AS rn FROM fct_orders) t WHERE rn = 1 AND status = 'a'",
                ),
            ),
            (
                "limit",
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM fct_orders ORDER BY amount_cents LIMIT 10",
                ),
                metric("SELECT user_id AS unit, amount_cents AS value FROM fct_orders"),
            ),
            (
                "order of a limit",
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM fct_orders ORDER BY amount_cents LIMIT 10",
                ),
                metric(
                    "SELECT user_id AS unit, amount_cents AS value FROM fct_orders ORDER BY amount_cents DESC LIMIT 10",
                ),
            ),
            (
                "overlapping arms",
                v("SUM(CASE WHEN status = 'a' THEN 1 WHEN plan = 'b' THEN 2 ELSE 0 END)"),
                v("SUM(CASE WHEN plan = 'b' THEN 2 WHEN status = 'a' THEN 1 ELSE 0 END)"),
            ),
            (
                "case negated over null",
                v("SUM(CASE WHEN status = 'a' THEN 1 ELSE 2 END)"),
                v("SUM(CASE WHEN status <> 'a' THEN 2 ELSE 1 END)"),
            ),
            (
                "distinct drops rows",
                metric(
                    "SELECT user_id AS unit, COUNT(*) AS value FROM (SELECT user_id, value FROM stg_events) t GROUP BY user_id",
                ),
                metric(
                    "SELECT user_id AS unit, COUNT(*) AS value FROM (SELECT DISTINCT user_id, value FROM stg_events) t GROUP BY user_id",
                ),
            ),
            (
                "count of groups",
                metric(
                    "SELECT user_id AS unit, COUNT(*) AS value FROM (SELECT user_id, plan FROM fct_orders GROUP BY user_id, plan) t GROUP BY user_id",
                ),
                v("COUNT(*)"),
            ),
            (
                "mean of means",
                metric(
                    "SELECT user_id AS unit, AVG(m) AS value FROM (SELECT user_id, plan, AVG(amount_cents) AS m FROM fct_orders GROUP BY user_id, plan) t GROUP BY user_id",
                ),
                v("AVG(amount_cents)"),
            ),
            (
                "self join direction",
                metric(
                    "SELECT a.user_id AS unit, SUM(a.amount_cents) AS value FROM stg_orders a JOIN stg_orders b ON a.user_id = b.user_id AND a.created_at < b.created_at GROUP BY a.user_id",
                ),
                metric(
                    "SELECT a.user_id AS unit, SUM(b.amount_cents) AS value FROM stg_orders a JOIN stg_orders b ON a.user_id = b.user_id AND a.created_at < b.created_at GROUP BY a.user_id",
                ),
            ),
            (
                "seed value",
                json!({"metric": "SELECT f.user_id AS unit, SUM(f.amount_cents * r.rate_bp) AS value FROM fct_orders f JOIN fx_rates r ON f.currency = r.currency GROUP BY f.user_id", "seeds": {"fx_rates": "currency,rate_bp,note\nUSD,10000,base\nEUR,10901,ecb\nGBP,12700,boe\n"}}),
                metric(
                    "SELECT f.user_id AS unit, SUM(f.amount_cents * r.rate_bp) AS value FROM fct_orders f JOIN fx_rates r ON f.currency = r.currency GROUP BY f.user_id",
                ),
            ),
            (
                "full and left join",
                metric(
                    "SELECT u.user_id AS unit, COUNT(*) AS value FROM stg_users u LEFT JOIN stg_orders o ON o.user_id = u.user_id GROUP BY u.user_id",
                ),
                metric(
                    "SELECT u.user_id AS unit, COUNT(*) AS value FROM stg_users u FULL JOIN stg_orders o ON o.user_id = u.user_id GROUP BY u.user_id",
                ),
            ),
        ],
        false,
    );
}
