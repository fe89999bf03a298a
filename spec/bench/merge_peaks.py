"""merge_peaks.py: what `distac merge` holds beside file pages, method by method: seconds, the peak of its own (anonymous)
memory, sampled, and of all that is resident, as lines of a table. Called by merge.sh; needs Linux.
usage: merge_peaks.py PROGRAM FOLDER OUT METHOD[:MODELS[:LIMIT_MIB]] ...
FOLDER: base.safetensors and m1.safetensors ... of any size (make_models.lua l14: 10.9 GB). Two models for slerp and nuslerp,
else 8. Ends with status 1 if a method fails or holds more than its limit, 1024 MiB by default (2048 for methods on whole
matrices)."""
import os
import subprocess
import sys
import time

WHOLE = ("tsvm", "iso_c", "iso_cts", "knots", "wudi")
PAIRS = ("slerp", "nuslerp")


def anonymous(pid):
    total = 0
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1])
    except OSError:
        pass
    return total / 1024


def measure(words):
    begun, peak = time.monotonic(), 0.0
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while True:
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        if done:
            return time.monotonic() - begun, peak, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.01)


def main():
    program, folder, out = sys.argv[1:4]
    failed = False
    print("| method | models | seconds | peak of its own, MiB | with file pages, MiB |\n|---|---|---|---|---|", flush=True)
    for item in sys.argv[4:]:
        parts = item.split(":")
        method = parts[0]
        count = int(parts[1]) if len(parts) > 1 and parts[1] else 2 if method in PAIRS else 8
        limit = float(parts[2]) if len(parts) > 2 else 2048 if method in WHOLE else 1024
        path = f"{out}/merge_peaks.safetensors"
        words = [program, "merge", "--quiet", "--force", "--base", folder + "/base.safetensors", "--method", method, "-o", path]
        seconds, own, resident, status = measure(words + [f"{folder}/m{i + 1}.safetensors" for i in range(count)])
        bad = status != 0 or not own <= limit
        failed = failed or bad
        print(f"| {method} | {count} | {seconds:.1f} | {own:.0f} | {resident:.0f} |{' FAILED' if bad else ''}", flush=True)
        if os.path.exists(path):
            os.remove(path)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
