"""A project over generated logs, to time `equipoise` itself: facts by unit, 200 experiments, 50 metrics with a covariate.

python project.py LOGS PROJECT

LOGS is a folder of `equipoise generate --format parquet --split daily`. Deliveries that came twice are left to `cluster_by`.
"""
import json
import pathlib
import sys

logs, out = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
truth = json.loads((logs / "truth.json").read_text())


def write(name, text):
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


write("project.yml", "name: metric_engine\n")
write("models/sources.yml", "sources:\n  - name: shop\n    tables:\n" + "".join(
    f"      - {{name: {table}, location: {logs / table}}}\n" for table in ("events", "conversions", "assignments")
))
write("models/fact_metric_events.yml", """models:
  - name: fact_metric_events
    description: One row per event that a metric is measured on.
    fact: {unit: user_id, time: occurred_at, event: event_name}
    config:
      materialized: incremental
      cluster_by: {unit: user_id, time: occurred_at, id: event_id, buckets: 16}
""")
write("models/fact_metric_events.sql", """select event_id, user_id, event_name, occurred_at, cast(coalesce(load_ms, engaged_seconds, cast(is_success as int)) as double) as value
from {{ source('shop', 'events') }}
union all
select event_id, user_id, event_name, occurred_at, amount as value
from {{ source('shop', 'conversions') }}
""")
write("models/fact_assignments.yml", """models:
  - name: fact_assignments
    description: One row per assignment of a unit to a variant.
    config:
      materialized: incremental
      cluster_by: {unit: unit_id, time: assigned_at, id: event_id, buckets: 16}
""")
write("models/fact_assignments.sql", """select
    event_id, unit_id, experiment_key, variant, occurred_at as assigned_at,
    cast('2026-01-01' as timestamp) as period_starts_at, cast('2027-01-01' as timestamp) as measured_until, true as is_analysed
from {{ source('shop', 'assignments') }}
""")
write("models/metric_aggregates.sql", """{{ config(materialized='table') }}
select * from {{ metric_aggregates(units=ref('fact_assignments')) }} as aggregates
""")
write("models/experiment_results.sql", """{{ config(materialized='table') }}
{{ experiment_results(aggregates=ref('metric_aggregates')) }}
""")

names = "session_start page_load page_view product_view search add_to_cart checkout_started payment_visit error support_ticket order refund".split()
valued = "session_start page_load payment_visit order refund".split()
metrics = [(f"{event}_14d", event, "mean", "count", 14) for event in names]
metrics += [(f"{event}_sum_14d", event, "mean", "sum", 14) for event in valued]
metrics += [(f"{event}_7d", event, "mean", "count", 7) for event in names]
metrics += [(f"{event}_any", event, "proportion", "any", 14) for event in names]
metrics += [(f"{event}_sum_7d", event, "mean", "sum", 7) for event in valued]
metrics += [(f"{event}_3d", event, "mean", "count", 3) for event in ("order", "add_to_cart", "search", "session_start")]


def metric(name, event, kind, aggregation, days):
    lines = [f"  - name: {name}", f"    description: {name}.", f"    kind: {kind}", f"    event: {event}", f"    agg: {aggregation}"]
    lines += ["    expr: value"] if aggregation == "sum" else []
    lines += [f"    window: {{start: 0d, length: {days}d}}", "    direction: increase", "    covariate: {lookback: 10d}"] + ["    fill: zero"]
    return "\n".join(lines) + "\n"


write("metrics/all.yml", "defaults:\n  fact: fact_metric_events\n  maturity: partial\n  owner: bench\n\nmetrics:\n" + "".join(metric(*each) for each in metrics))
secondary = ", ".join(name for name, *_ in metrics if name != "order_14d")
write("experiments/all.yml", "experiments:\n" + "".join(f"""  - key: {experiment['key']}
    hypothesis: It does something.
    owner: bench
    unit: user
    variants: {{control: 0.5, treatment: 0.5}}
    period: {{from: 2026-03-01, to: 2026-12-31}}
    assignments: {{model: fact_assignments, keep: first, exclude: [crossed_over]}}
    metrics: {{primary: order_14d, secondary: [{secondary}]}}
""" for experiment in truth["experiments"]))
