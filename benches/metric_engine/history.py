"""Day after day joins the days before it, each beside the same day alone; with the days on which files are merged.

    python3 history.py LOGS FOLDER FIRST [EQUIPOISE]

LOGS is what `equipoise generate --split daily` wrote. FOLDER gets a project over all days before FIRST, a date, with both facts built at once;
then each later day is built by itself. CPU seconds of the process (user and system).
"""

import shutil
import subprocess
import sys
from pathlib import Path

from days import build, copy, set_up


def alone(equipoise, logs, folder, day):
    """CPU seconds of both facts of one day without any other."""
    for name in ("alone", "alone_project"):
        shutil.rmtree(folder / name, ignore_errors=True)
    copy(logs, folder / "alone", lambda other: other == day)
    writer = Path(__file__).with_name("project.py")
    subprocess.run([sys.executable, writer, folder / "alone", folder / "alone_project"], check=True)
    return build(equipoise, folder / "alone_project")


def main():
    logs, folder, first = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3]
    equipoise = sys.argv[4] if len(sys.argv) > 4 else "equipoise"
    set_up(equipoise, logs, folder, first)
    days = sorted(file.stem for file in (logs / "events").glob("*.parquet") if file.stem >= first)
    all_alone = all_joining = 0
    for day in days:
        by_itself = alone(equipoise, logs, folder, day)
        copy(logs, folder / "before", lambda other: other == day)
        joining = build(equipoise, folder / "before_project")
        print(f"{day}: alone {by_itself:.2f} s, joins {joining:.2f} s, ratio {joining / by_itself:.2f}", flush=True)
        all_alone, all_joining = all_alone + by_itself, all_joining + joining
    print(f"{len(days)} days: alone {all_alone:.2f} s, join {all_joining:.2f} s, ratio {all_joining / all_alone:.2f}")


main()
