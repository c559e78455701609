#!/usr/bin/env python3
"""Kills ranks of a training with SIGKILL, at random moments, and restarts it until it ends: nothing may be lost.

A small network is trained under mpirun on generated data, with a checkpoint after every second step. One rank, drawn at
random, is killed; the job must end with 137 and leave no process; then it is started again with --resume. Moments are
drawn among the start-up, a save, an evaluation and any time. A training that ends before there were enough kills is
followed by another one in a fresh folder.

After each kill every checkpoint under a final name must be whole, the next start must resume from the newest of them and
skip none. At the end metrics.jsonl must have every step and evaluation once and in order. On an unchanging number of ranks
(--ranks 3) its values, times aside, and the state must be those of an uninterrupted run, bit for bit; with --ranks 3,1,2,4
each start draws its number.

usage: soak.py --bin DIR --mpirun PROGRAM [--ranks N[,N...]] [--kills N] [--seed N] [--csv FILE] [--json FILE]
"""
import argparse
import collections
import csv
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ITERATIONS, EVAL_EVERY, SAVE_EVERY = 12, 4, 2
CONFIG = f"""\
[model]
backbone = "mobilenet_v2"
[data]
train_split = "train"
val_split = "val"
crop = 33
[train]
iterations = {ITERATIONS}
global_batch = 12
log_every = 1
eval_every = {EVAL_EVERY}
[checkpoint]
every = {SAVE_EVERY}
keep = 2
"""
LIMIT_S = 180  # of one job, and of what is left of it
LAUNCHER_LIMIT_S = 30  # of mpirun, after the last rank
TIMES = ("images_per_s", "data_wait", "comm_exposed")


class Failure(Exception):
    pass


def ensure(good, message):
    if not good:
        raise Failure(message)


def processes_of(run):
    """Rank by process id of the deeplab-train processes that write to `run` (-1: the launcher and others)."""
    found = {}
    needle = str(run).encode()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            if needle not in arguments:
                continue
            rank = -1
            if arguments[0].endswith(b"deeplab-train"):
                variables = dict(v.split(b"=", 1) for v in (entry / "environ").read_bytes().split(b"\0") if b"=" in v)
                rank = int(variables.get(b"OMPI_COMM_WORLD_RANK", b"-1"))
            found[int(entry.name)] = rank
        except OSError:
            continue  # it has ended
    return found


class Job:
    """One start of the training under mpirun."""

    def __init__(self, bench, run, ranks, resume):
        self.run, self.ranks, self.log, self.pids = run, ranks, bench.work / "job.log", {}
        self.killed, self.launcher_hung = None, False
        command = [bench.mpirun, "--oversubscribe", "--bind-to", "none", "-n", ranks, bench.programs / "deeplab-train",
                   "--config", bench.work / "config.toml", "--data", bench.work / "shards", "--out", run, "--device", "cpu",
                   "--threads", 1, *(["--resume"] if resume else [])]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*map(str, command)], stdout=log, stderr=subprocess.STDOUT,
                                            start_new_session=True)

    def text(self):
        return self.log.read_text(errors="replace")

    def phase(self):
        # Those of killed writers stay until the next start has removed them.
        if any(any((self.run / "checkpoints").glob(f"*.tmp-{pid}-*")) for pid in self.pids.values()):
            return "save"
        text = self.text()
        steps = re.findall(r"step (\d+)/\d+ ", text)
        if not steps:
            return "start-up"
        evaluated = re.findall(r"evaluation at step (\d+) ", text)
        due = int(steps[-1]) % EVAL_EVERY == 0 and steps[-1] not in evaluated
        return "evaluation" if due else "step"

    def wait_for_ranks(self):
        end = time.monotonic() + LIMIT_S
        while self.process.poll() is None and time.monotonic() < end:
            found = {rank: pid for pid, rank in processes_of(self.run).items() if rank >= 0}
            if len(found) == self.ranks:
                return found
            time.sleep(0.01)
        return {}

    def kill(self, aim, source):
        """Kills one rank at the moment aimed at. The rank, the phase; None when the job ended before."""
        pids = self.pids = self.wait_for_ranks()
        victim, delay = source.randrange(self.ranks), source.random()
        end = time.monotonic() + (0.6 * delay if aim == "start-up" else LIMIT_S)
        while self.process.poll() is None and time.monotonic() < end:
            if aim != "start-up" and (self.phase() == aim or (aim == "any" and self.phase() != "start-up")):
                time.sleep({"save": 0.01, "evaluation": 0.05, "any": 2.0}[aim] * delay)
                break
            time.sleep(0.002)
        if self.process.poll() is not None or victim not in pids:
            return None
        phase = self.phase()
        try:
            os.kill(pids[victim], signal.SIGKILL)
        except ProcessLookupError:
            return None
        self.killed = victim, phase
        return self.killed

    def finish(self):
        end, alone = time.monotonic() + LIMIT_S, None
        while (code := self.process.poll()) is None:
            if time.monotonic() > end:
                states = self.states()
                self.end_all()
                raise Failure(f"the job did not end within {LIMIT_S} s; killed: {self.killed}; what still ran:\n{states}\n"
                              f"its output:\n{self.text()}")
            # PMIx 4.2 under Open MPI 4.1 may wait for itself, for ever, in mpirun's end: with no rank left that is its own.
            alone = None if any(rank >= 0 for rank in processes_of(self.run).values()) else alone or time.monotonic()
            if self.killed and alone and time.monotonic() > alone + LAUNCHER_LIMIT_S:
                self.process.kill()
                self.launcher_hung = True
            time.sleep(0.05)
        if self.launcher_hung:
            code = 137
        end = time.monotonic() + 10
        while (left := processes_of(self.run)) and time.monotonic() < end:
            time.sleep(0.02)
        self.end_all()
        ensure(not left, f"{len(left)} processes stayed after the job")
        return code

    def states(self):
        """A line for each process that is left: who it is, and what each of its threads waits in."""
        lines = []
        for pid in sorted({self.process.pid, *processes_of(self.run)}):
            folder = pathlib.Path("/proc") / str(pid)
            try:
                rank = processes_of(self.run).get(pid, -1)
                waits = [(task / "stat").read_text().rpartition(")")[2].split()[0] + ":" + (task / "wchan").read_text()
                         for task in (folder / "task").iterdir()]
                lines.append(f"{pid} {(folder / 'comm').read_text().strip()} rank {rank}: {' '.join(waits)}")
            except OSError:
                lines.append(f"{pid}: ended")
        return "\n".join(lines)

    def end_all(self):
        for pid in [self.process.pid, *processes_of(self.run)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Bench:
    def __init__(self, programs, mpirun, work):
        self.programs, self.mpirun, self.work = programs, mpirun, work
        (work / "config.toml").write_text(CONFIG)
        data = work / "data"
        self.call("deeplab-make-shapes", "--out", data, "--train", 24, "--val", 12, "--size", "32x32")
        for split in ("train", "val"):
            self.call("deeplab-pack", "--voc", data, "--classes", data / "classes.toml", "--split", split,
                      "--out", work / "shards")

    def call(self, program, *arguments):
        done = subprocess.run([*map(str, [self.programs / program, *arguments])], capture_output=True, timeout=LIMIT_S,
                              check=False)
        ensure(done.returncode == 0, f"{program} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')}")

    def newest_whole(self, run):
        files = sorted((run / "checkpoints").glob("step-*.h5"))
        for file in files:
            self.call("deeplab-weights", "info", file)
        return int(files[-1].stem.split("-")[1]) if files else 0


def metrics_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for name in TIMES:
            line.pop(name, None)
    return lines


def check_order(lines):
    expected = []
    for step in range(1, ITERATIONS + 1):
        expected.append((step, "step"))
        if step % EVAL_EVERY == 0:
            expected.append((step, "evaluation"))
    found = [(line["step"], "evaluation" if "miou" in line else "step") for line in lines]
    ensure(found == expected, f"metrics.jsonl has gaps or duplicates: {found}")


def soak(bench, ranks, kills, source, rows):
    reference = bench.work / "uninterrupted"
    code = Job(bench, reference, ranks[0], False).finish()
    ensure(code == 0, f"the uninterrupted run ended with {code}:\n" + (bench.work / "job.log").read_text())
    expected = metrics_of(reference)
    check_order(expected)
    rounds = starts = hung = 0
    while len(rows) < kills:
        rounds += 1
        run = bench.work / f"run-{rounds}"
        newest, ended = 0, False
        while not ended:
            job = Job(bench, run, source.choice(ranks), True)
            starts += 1
            aim = source.choice(("start-up", "save", "evaluation", "any", "any"))
            killed = job.kill(aim, source) if len(rows) < kills else None
            code, text = job.finish(), job.text()
            hung += job.launcher_hung
            ensure("skipped:" not in text, f"a damaged checkpoint under its final name:\n{text}")
            resumed = re.search(r"resuming at step (\d+) ", text)
            ensure(not resumed or int(resumed.group(1)) == newest, f"not resumed from step {newest}:\n{text}")
            ensure(resumed or not newest or killed, f"not resumed:\n{text}")
            ended = code == 0
            ensure(code == (137 if killed else 0) or (killed and ended), f"exit code {code}, killed: {killed}:\n{text}")
            newest = bench.newest_whole(run)
            if killed:
                rows.append((len(rows) + 1, rounds, job.ranks, *killed, aim, code, newest))
                print(*rows[-1], flush=True)
        lines = metrics_of(run)
        check_order(lines)
        if len(ranks) == 1:
            ensure(lines == expected, "metrics.jsonl differs from the uninterrupted run's")
        shutil.rmtree(run)
    return {"rounds": rounds, "starts": starts, "launchers_that_hung": hung, "state_hash": expected[-1]["state_hash"],
            "state": "as uninterrupted, bit for bit" if len(ranks) == 1 else "not compared: the number of ranks changes"}


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--mpirun", required=True)
    parser.add_argument("--ranks", default="3")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--csv", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    ranks = [int(n) for n in options.ranks.split(",")]
    rows, result, failure, start = [], {}, "", time.monotonic()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="deeplab-soak-") as folder:
        # Open MPI's own folder in TMPDIR is every job's of this user: one that ends may remove what another needs.
        os.environ["OMPI_MCA_orte_tmpdir_base"] = folder
        try:
            bench = Bench(options.bin.resolve(), options.mpirun, pathlib.Path(folder))
            result = soak(bench, ranks, options.kills, random.Random(options.seed), rows)
        except Failure as problem:
            failure = str(problem)
    phases = collections.Counter(row[4] for row in rows)
    summary = {"seed": options.seed, "ranks": ranks, "iterations": ITERATIONS, "kills": len(rows),
               "kills_by_phase": dict(sorted(phases.items())),
               "kills_by_rank": {str(k): v for k, v in sorted(collections.Counter(row[3] for row in rows).items())},
               "exit_codes": {str(k): v for k, v in sorted(collections.Counter(row[6] for row in rows).items())},
               **result, "seconds": round(time.monotonic() - start), "failure": failure}
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("kill", "round", "ranks", "rank", "phase", "aim", "exit_code", "newest_checkpoint"))
            writer.writerows(rows)
    text = json.dumps(summary, indent=2)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)
    sys.exit(1 if failure else 0)


if __name__ == "__main__":
    main()
