"""States through the product beside a scan of the columns that they are made of, by turns.

    python3 scan.py PROJECT [ROUNDS [EQUIPOISE]]

PROJECT is one that project.py wrote, with both facts built. Wall and CPU seconds of the process, less those of a query that
reads nothing; the scan gives its rows to nobody (`explain analyze`).
"""

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

EVENTS = "select user_id, occurred_at, event_name, value from fact_metric_events"
ASSIGNMENTS = """
    select unit_id, assigned_at, experiment_key, variant, period_starts_at, measured_until, is_analysed
    from fact_assignments"""


def seconds(equipoise, project, queries):
    """Wall and CPU seconds of some queries, one process each."""
    usage, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for query in queries:
        subprocess.run([equipoise, "sql", "-"], cwd=project, input=query, text=True, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime


def main():
    project = Path(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    equipoise = sys.argv[3] if len(sys.argv) > 3 else "equipoise"
    states = (project / "target/compiled/models/metric_aggregates.sql").read_text()
    work = {
        "nothing": ["select 1"],
        "scan": [f"explain analyze {EVENTS}", f"explain analyze {ASSIGNMENTS}"],
        "states": [f"explain analyze {states}"],
    }
    taken = {what: [] for what in work}
    for round_ in range(rounds + 1):
        for what, queries in work.items():
            measured = seconds(equipoise, project, queries)
            # The first round fills the page cache.
            if round_ > 0:
                taken[what].append(measured)
    for position, name in enumerate(("wall", "CPU")):
        median = {what: statistics.median(row[position] for row in rows) for what, rows in taken.items()}
        scan = median["scan"] - 2 * median["nothing"]
        run = median["states"] - median["nothing"]
        print(f"{name}: scan {scan:.2f} s, states {run:.2f} s, ratio {run / scan:.2f}")
    for what, rows in taken.items():
        print(what, ", ".join(f"{wall:.2f} ({cpu:.2f})" for wall, cpu in rows))


main()
