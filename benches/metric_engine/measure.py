"""Medians of alternating runs of the metric engine beside decoding alone; exponents and plots of how the cost grows.

python measure.py BINARY FOLDER OUT [FOLDER_OF_ANOTHER_SIZE ...]

CPU seconds (user and system) of the process are compared, because they bear a loaded machine best.
"""
import json
import math
import re
import statistics
import subprocess
import sys

binary, folder, out, others = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
LINE = re.compile(r"^(decode|run) .*?cpu ([\d.]+)(ms|s)\b")


def measured(folder, repeats=5, segments="all", metrics=50, experiments=1000):
    command = [binary, "run", folder, str(repeats), segments, str(metrics), str(experiments)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {"decode": [], "run": []}
    for line in text.splitlines():
        if match := LINE.match(line):
            found[match[1]].append(float(match[2]) / (1000 if match[3] == "ms" else 1))
    memory = int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) / 1024
    median = {name: statistics.median(times) for name, times in found.items()}
    rows = re.search(r"\[(\d+), (\d+)\]", text)
    return {
        "decode": median["decode"], "run": median["run"], "ratio": median["run"] / median["decode"],
        "spread": [min(found["run"]), max(found["run"])], "peak_mb": memory,
        "events": int(rows[1]), "assignments": int(rows[2]),
    }


def exponent(points):
    """Slope of the least-squares line through the logarithms."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    x, y = statistics.mean(xs), statistics.mean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys)) / sum((a - x) ** 2 for a in xs)


report = {
    "all": measured(folder),
    "two segment dimensions and their combinations": measured(folder, segments="segments"),
    "by metrics": {n: measured(folder, 3, metrics=n) for n in (1, 5, 12, 25, 50)},
    "by experiments": {n: measured(folder, 3, experiments=n) for n in (10, 50, 100, 200)},
    "by rows": {},
}
for other in [folder, *others]:
    found = measured(other, 3)
    report["by rows"][found["events"] + found["assignments"]] = found
report["exponents"] = {
    name: exponent([(n, found["run"]) for n, found in report[name].items()])
    for name in ("by metrics", "by experiments", "by rows")
    if len(report[name]) > 1
}
print(json.dumps(report, indent=1))
open(f"{out}/results.json", "w").write(json.dumps(report, indent=1) + "\n")

try:
    import matplotlib
except ImportError:
    sys.exit("no plots: matplotlib is not installed")
matplotlib.use("svg")
import matplotlib.pyplot as plt

for name in ("by metrics", "by experiments", "by rows"):
    points = sorted(report[name].items())
    if len(points) < 2:
        continue
    figure, axes = plt.subplots(figsize=(4.5, 3))
    for what in ("run", "decode"):
        axes.plot([n for n, _ in points], [found[what] for _, found in points], marker="o", label=what)
    axes.set_xlabel(name.removeprefix("by "))
    axes.set_ylabel("CPU seconds")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.tight_layout()
    figure.savefig(f"{out}/{name.replace(' ', '_')}.svg")
