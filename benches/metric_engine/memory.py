"""Resident memory of a command over time, as a picture.

python memory.py OUT.svg COMMAND [ARGUMENT ...]

Samples /proc/PID/status every 5 ms; prints the peak and when it was reached. The command's exit status is this one's.
"""
import re
import subprocess
import sys
import time

out, command = sys.argv[1], sys.argv[2:]
started = time.monotonic()
process = subprocess.Popen(command)
samples = []
while process.poll() is None:
    try:
        status = open(f"/proc/{process.pid}/status").read()
    except FileNotFoundError:
        break
    if resident := re.search(r"VmRSS:\s+(\d+) kB", status):
        samples.append((time.monotonic() - started, int(resident[1]) / 1024))
    time.sleep(0.005)
code = process.wait()
if not samples:
    sys.exit(code or "the command ended before it could be looked at")
at, peak = max(samples, key=lambda sample: sample[1])
print(f"peak {peak:.0f} MB after {at:.2f} of {samples[-1][0]:.2f} s")

try:
    import matplotlib
except ImportError:
    sys.exit(code or "no plot: matplotlib is not installed")
matplotlib.use("svg")
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3))
axes.plot([second for second, _ in samples], [resident for _, resident in samples])
axes.set_xlabel("seconds")
axes.set_ylabel("resident MB")
axes.set_ylim(bottom=0)
figure.tight_layout()
figure.savefig(out)
sys.exit(code)
