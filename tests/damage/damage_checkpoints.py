#!/usr/bin/env python3
"""Damages checkpoints, kills their writers and takes their disk away, and sees that nothing is lost.

  damaged     the newest of two checkpoints, cut short or with one bit flipped at random places: deeplab-train --resume
              names it, goes on from the older one and ends in the state of a run that nothing happened to
              (a flip that changes nothing the file says may also be taken: same state, no warning)
  leftover    a temporary file of a writer killed after any number of bytes: resumed from the whole one, removed
  killed      deeplab-train with a checkpoint after every step, SIGKILL at random moments, then --resume to the end: same
              state
  full_disk   a run on a small tmpfs: it goes on with a warning while an older checkpoint is whole and ends with exit
              code 4, without one it ends with 4 at once; the older one is whole
  read_only   the same on a file system that becomes read-only: the older one is whole

Crashes, hangs, other exit codes and other states are failures. full_disk and read_only need the right to mount and are
skipped with a message elsewhere.

usage: damage_checkpoints.py --bin DIR [--damages N] [--leftovers N] [--kills N] [--minutes M] [--seed N]
       [--json FILE] [--csv FILE]
"""
import argparse
import collections
import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CONFIG = """\
[model]
backbone = "mobilenet_v2"
[data]
train_split = "train"
crop = 33
resize = {mode = "none"}
[train]
iterations = 2
global_batch = 2
log_every = 1
[checkpoint]
every = 1
keep = 2
"""
LIMIT_S = 300  # of one program; it needs some seconds on a machine that has nothing else to do


class Bench:
    """A packed split, a finished run of two checkpoints, and what came of each damage."""

    def __init__(self, programs, work, minutes):
        self.programs, self.work = programs, work
        self.counts = collections.Counter()
        self.rows, self.failures = [], []
        self.end = time.monotonic() + 60 * minutes
        (work / "config.toml").write_text(CONFIG)
        data = work / "data"
        self.expect_ok("deeplab-make-shapes", "--out", data, "--train", 4, "--val", 1, "--size", "48x40")
        self.expect_ok("deeplab-pack", "--voc", data, "--classes", data / "classes.toml", "--split", "train",
                       "--out", work / "shards")
        self.whole = work / "whole"
        code, text = self.run(self.train_command(self.whole))
        if code != 0:
            sys.exit(f"training ended with {code}, so there is nothing to damage:\n{text}")
        self.state = self.state_of(text)
        self.older, self.newest = (self.whole / f"checkpoints/step-000000{step}.h5" for step in (1, 2))

    def train_command(self, run, *more):
        return [self.programs / "deeplab-train", "--config", self.work / "config.toml", "--data", self.work / "shards",
                "--out", run, "--device", "cpu", "--threads", "1", *more]

    def run(self, command):
        try:
            done = subprocess.run([*map(str, command)], capture_output=True, timeout=LIMIT_S, check=False)
            return done.returncode, (done.stdout + done.stderr).decode(errors="replace")
        except subprocess.TimeoutExpired:
            return "timeout", ""

    def expect_ok(self, program, *arguments):
        code, text = self.run([self.programs / program, *arguments])
        if code != 0:
            sys.exit(f"{program} ended with {code}, so there is nothing to damage:\n{text}")

    @staticmethod
    def state_of(text):
        found = re.search(r"^done: .* state ([0-9a-f]{16})", text, re.MULTILINE)
        return found.group(1) if found else ""

    def in_time(self):
        return time.monotonic() < self.end

    def fresh_copy(self):
        run = self.work / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.whole, run, symlinks=True)
        return run

    def record(self, kind, what, outcome, good, text):
        self.counts[f"{kind}: {outcome}"] += 1
        self.rows.append((kind, what, outcome))
        if not good:
            self.failures.append(f"{kind} {what}: {outcome}\n{text[-2000:]}")


def damage(bench, kind, what, content):
    run = bench.fresh_copy()
    file = run / "checkpoints" / bench.newest.name
    file.write_bytes(content)
    code, text = bench.run(bench.train_command(run, "--resume"))
    named = "skipped: checkpoint" in text and file.name in text
    good = code == 0 and bench.state_of(text) == bench.state
    taken = good and not named and "resuming at step 2" in text
    skipped = good and named and "resuming at step 1" in text
    outcome = "skipped, same state" if skipped else "taken, same state" if taken else f"exit code {code}"
    # A flip in bytes that mean nothing (padding, a reserved field) is no damage.
    bench.record(kind, what, outcome, skipped or (taken and kind == "flip"), text)


def damages(bench, number, source):
    original = bench.newest.read_bytes()
    for i in range(number):
        if not bench.in_time():
            return
        length = source.randrange(len(original))
        damage(bench, "truncation", length, original[:length])
        # Half of them in the last parts, where HDF5's own structure and the attributes are dense.
        bit = source.randrange(8 * len(original)) if i % 2 else 8 * len(original) - 1 - source.randrange(8 * 40000)
        content = bytearray(original)
        content[bit // 8] ^= 1 << bit % 8
        damage(bench, "flip", bit, bytes(content))


def leftovers(bench, number, source):
    original = bench.newest.read_bytes()
    for _ in range(number):
        if not bench.in_time():
            return
        length = source.randrange(len(original) + 1)
        run = bench.fresh_copy()
        folder = run / "checkpoints"
        (folder / bench.newest.name).unlink()
        (folder / "latest.h5").unlink()
        (folder / "latest.h5").symlink_to(bench.older.name)
        left = folder / (bench.newest.name + ".tmp-12345-0")
        left.write_bytes(original[:length])
        code, text = bench.run(bench.train_command(run, "--resume"))
        good = code == 0 and bench.state_of(text) == bench.state and not left.exists()
        bench.record("leftover", length, "same state" if good else f"exit code {code}", good, text)


def kills(bench, number, source):
    """Starts until one of them ends; all but the last are killed. The steps' time is what the first one needs."""
    iterations = 12
    more = ("--resume", "--set", f"train.iterations={iterations}")
    began = time.monotonic()
    code, text = bench.run(bench.train_command(bench.work / "reference", *more))
    took, state = time.monotonic() - began, bench.state_of(text)
    if code != 0 or not state:
        sys.exit(f"the reference of the killed run ended with {code}:\n{text}")
    done = 0
    while done < number and bench.in_time():
        run = bench.work / "killed"
        shutil.rmtree(run, ignore_errors=True)
        for _ in range(source.randint(1, 4)):
            process = subprocess.Popen([*map(str, bench.train_command(run, *more))], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            time.sleep(source.uniform(0.1, took))
            process.send_signal(signal.SIGKILL)
            killed = process.wait() == -signal.SIGKILL
            done += killed
            left = len(list((run / "checkpoints").glob("*.tmp-*"))) if killed else 0
            bench.counts["killed: left a half file"] += left
        code, text = bench.run(bench.train_command(run, *more))
        good = code == 0 and bench.state_of(text) == state and "skipped" not in text
        good = good and not list(run.rglob("*.tmp-*"))
        bench.record("killed", done, "same state" if good else f"exit code {code}", good, text)
    bench.counts["killed: SIGKILL"] = done


class Mounted:
    """A small tmpfs, or None where this process may not mount."""

    def __init__(self, folder, size):
        self.folder = folder
        folder.mkdir()
        self.command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]

    def __enter__(self):
        done = subprocess.run(self.command, capture_output=True, check=False)
        return self.folder if done.returncode == 0 else None

    def __exit__(self, *_):
        subprocess.run(["umount", str(self.folder)], capture_output=True, check=False)
        self.folder.rmdir()


def whole_at(bench, run):
    """The step that --resume would go on from: a copy elsewhere is resumed."""
    copy = bench.work / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy, symlinks=True)
    code, text = bench.run(bench.train_command(copy, "--resume"))
    found = re.search(r"resuming at step (\d+)", text)
    same = code == 0 and bench.state_of(text) == bench.state and "skipped" not in text
    return int(found.group(1)) if found and same else 0


def full_disk(bench):
    size = bench.newest.stat().st_size
    for kind, room in (("full_disk_at_second", size * 3 // 2), ("full_disk_at_first", size // 2)):
        with Mounted(bench.work / "small", room) as folder:
            if folder is None:
                print(f"{kind} skipped: no right to mount a tmpfs")
                continue
            code, text = bench.run(bench.train_command(folder / "run"))
            left = list(folder.rglob("*.tmp-*"))
            step = whole_at(bench, folder / "run") if kind.endswith("second") else 0
            good = code == 4 and "No space left" in text and not left and step == int(kind.endswith("second"))
            bench.record(kind, room, f"exit code {code}, step {step} whole", good, text)


def read_only(bench):
    with Mounted(bench.work / "small", bench.newest.stat().st_size * 4) as folder:
        if folder is None:
            print("read_only skipped: no right to mount a tmpfs")
            return
        run = folder / "run"
        more = ("--set", "train.iterations=2000", "--set", "checkpoint.every=1")
        process = subprocess.Popen([*map(str, bench.train_command(run, *more))], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        began = time.monotonic()
        while not (run / "checkpoints/latest.h5").exists() and time.monotonic() - began < LIMIT_S:
            time.sleep(0.01)
        # A file that is open for writing keeps the file system from becoming read-only: the folder does instead.
        subprocess.run(["mount", "--bind", run / "checkpoints", run / "checkpoints"], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", run / "checkpoints"], check=True)
        try:
            time.sleep(3)
            going_on = process.poll() is None
            process.send_signal(signal.SIGTERM)
            text = process.communicate(timeout=LIMIT_S)[0].decode(errors="replace")
        finally:
            subprocess.run(["umount", run / "checkpoints"], check=False)
        files = sorted((run / "checkpoints").glob("step-*.h5"))
        copy = bench.work / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy, symlinks=True)
        step = int(files[-1].stem.split("-")[1])
        code, again = bench.run(bench.train_command(copy, "--resume", "--set", f"train.iterations={step + 1}"))
        good = going_on and process.returncode == 2 and "Read-only file system" in text and code == 0
        good = good and f"resuming at step {step} " in again and "skipped" not in again
        bench.record("read_only", step, f"exit code {process.returncode}, newest one whole: {code == 0}", good, text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of the programs")
    parser.add_argument("--damages", type=int, default=200, help="truncations, and flips")
    parser.add_argument("--leftovers", type=int, default=50)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing after that; the counts tell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path, help="where the counts go")
    parser.add_argument("--csv", type=pathlib.Path, help="where each damage goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deeplab-damage-") as folder:
        bench = Bench(options.bin.resolve(), pathlib.Path(folder), options.minutes)
        source = random.Random(options.seed)
        size = bench.newest.stat().st_size
        full_disk(bench)
        read_only(bench)
        damages(bench, options.damages, source)
        leftovers(bench, options.leftovers, source)
        kills(bench, options.kills, source)
    for failure in bench.failures[:20]:
        print(failure)
    text = json.dumps({"checkpoint_bytes": size, **dict(sorted(bench.counts.items())),
                       "failures": len(bench.failures)}, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    if options.csv:
        options.csv.write_text("kind,where,outcome\n" + "".join(f'{k},{w},"{o}"\n' for k, w, o in bench.rows))
    sys.exit(1 if bench.failures else 0)


main()
