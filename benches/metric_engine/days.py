"""One more day that joins the days before it, beside the same day alone, by turns.

    python3 days.py LOGS FOLDER DAYS ROUNDS [EQUIPOISE]

LOGS is what `equipoise generate --split daily` wrote, DAYS are dates with commas between. For each, FOLDER gets a project over all
days before it, with both facts built, and one over that day alone. CPU seconds of the process (user and system), medians.
"""

import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

TABLES = ("events", "conversions", "assignments")


def build(equipoise, project):
    """Builds both facts; the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    facts = ["--select", "fact_metric_events", "fact_assignments"]
    subprocess.run([equipoise, "run", "--project-dir", project, "--threads", "1", "--quiet", *facts], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def copy(logs, to, is_wanted):
    """Copies the days that are wanted. Links would change the inodes of files that another day's project has read already."""
    for table in TABLES:
        (to / table).mkdir(parents=True, exist_ok=True)
        for file in logs.joinpath(table).glob("*.parquet"):
            if is_wanted(file.stem) and not (to / table / file.name).exists():
                shutil.copy(file, to / table)
    shutil.copy(logs / "truth.json", to)


def set_up(equipoise, logs, folder, day):
    """A project over the days before one, with its facts built, and one over that day alone."""
    shutil.rmtree(folder, ignore_errors=True)
    copy(logs, folder / "before", lambda other: other < day)
    copy(logs, folder / "alone", lambda other: other == day)
    for name in ("before", "alone"):
        writer = Path(__file__).with_name("project.py")
        subprocess.run([sys.executable, writer, folder / name, folder / f"{name}_project"], check=True)
    build(equipoise, folder / "before_project")


def measure(equipoise, logs, folder, day):
    """CPU seconds of the day alone, and of the day that joins."""
    taken = []
    for name in ("alone", "before"):
        project = folder / "tried"
        shutil.rmtree(project, ignore_errors=True)
        subprocess.run(["cp", "-a", folder / f"{name}_project", project], check=True)
        if name == "before":
            copy(logs, folder / "before", lambda other: other == day)
        taken.append(build(equipoise, project))
    for table in TABLES:
        (folder / "before" / table / f"{day}.parquet").unlink()
    return taken


def main():
    logs, folder, rounds = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), int(sys.argv[4])
    days = sys.argv[3].split(",")
    equipoise = sys.argv[5] if len(sys.argv) > 5 else "equipoise"
    for day in days:
        set_up(equipoise, logs, folder / day, day)
    taken = {day: [] for day in days}
    for _ in range(rounds):
        for day in days:
            taken[day].append(measure(equipoise, logs, folder / day, day))
    for day, rows in taken.items():
        alone, joins = (statistics.median(column) for column in zip(*rows))
        print(f"{day}: alone {alone:.2f} s, joins {joins:.2f} s, ratio {joins / alone:.2f}", rows)


if __name__ == "__main__":
    main()
