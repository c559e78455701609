#!/usr/bin/env python3
"""usage: compare.py OUT (what command.sh wrote): losses and final states of the runs, as JSON."""
import json
import pathlib
import sys


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run):
    return {line["step"]: line["loss"] for line in lines(run) if "loss" in line}


def state(run):
    return [line["state_hash"] for line in lines(run) if "state_hash" in line][-1]


def main():
    out = pathlib.Path(sys.argv[1])
    summary = {}
    for crop in ("65x129", "129x65"):
        reference = losses(out / f"{crop}-cpu-1")
        for device in ("cpu", "cuda"):
            for ranks in (1, 2, 3):
                run = out / f"{crop}-{device}-{ranks}"
                other, key = losses(run), f"crop_{crop}_{device}_{ranks}_ranks"
                assert other.keys() == reference.keys() and len(other) == 6, run
                summary[f"{key}_loss_error"] = max(abs(other[s] - reference[s]) / reference[s] for s in reference)
                resumed = run.with_name(run.name + "-resumed")
                summary[f"{key}_resumed_same_bits"] = int(state(run) == state(resumed) and losses(resumed) == other)
        kept = out / f"{crop}-cuda-2-kept"
        summary[f"crop_{crop}_cuda_2_ranks_kept_on_device_same_bits"] = int(state(kept) == state(out / f"{crop}-cuda-2"))
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
