#!/usr/bin/env python3
"""Damages a packed split at random and sees that it is refused.

Every truncation and every flipped bit of a shard must end `deeplab-pack verify` and `deeplab-train` with exit code 3 and a
message that names the shard; with data.verify=false training may also take what it does not notice (exit code 0). A
manifest has no checksum: there exit code 0 is right where the meaning is the same, or differs only in what the program has
no second source for. Crashes, hangs and every other exit code are failures.

usage: damage_shards.py --bin DIR [--truncations N] [--flips N] [--manifest N] [--seed N] [--json FILE]
"""
import argparse
import collections
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

# The batch is the whole split: every record is read.
CONFIG = """\
[model]
backbone = "mobilenet_v2"
[data]
train_split = "train"
crop = 33
resize = {mode = "none"}
[train]
iterations = 1
global_batch = 6
"""
LIMIT_S = 120  # of one program; it needs less than a second
# Keys of the manifest that nothing else tells (names and colours of the classes, what was left out by the packer), those
# that verify compares with the shards and training does not need, and the shard's checksum, which data.verify switches off.
UNCHECKED = {"name", "color", "skipped"}
COUNTED = {"pixels", "images", "ignore_pixels", "list_hash"}
MAY_CHANGE = {"verify": UNCHECKED, "train": UNCHECKED | COUNTED, "train_without_verify": UNCHECKED | COUNTED | {"crc32"}}


class Bench:
    """The packed split, the three programs, and what came of each damage."""

    def __init__(self, programs, work):
        self.programs, self.work = programs, work
        self.shards, self.run = work / "shards", work / "run"
        self.counts = collections.Counter()
        self.failures = []
        (work / "config.toml").write_text(CONFIG)
        data = work / "data"
        self.expect_ok("deeplab-make-shapes", "--out", data, "--train", 6, "--val", 1, "--size", "48x40")
        self.expect_ok("deeplab-pack", "--voc", data, "--classes", data / "classes.toml", "--split", "train",
                       "--out", self.shards)
        self.manifest = self.shards / "train.json"
        self.shard = self.shards / json.loads(self.manifest.read_text())["shards"][0]["file"]

    def start(self, program, *arguments):
        command = [self.programs / program, *map(str, arguments)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
            return done.returncode, (done.stdout + done.stderr).decode(errors="replace")
        except subprocess.TimeoutExpired:
            return "timeout", ""

    def expect_ok(self, *command):
        code, text = self.start(*command)
        if code != 0:
            sys.exit(f"{command} ended with {code}, so there is nothing to damage:\n{text}")

    def verify(self):
        return self.start("deeplab-pack", "verify", self.shards)

    def train(self, *more):
        shutil.rmtree(self.run, ignore_errors=True)
        return self.start("deeplab-train", "--config", self.work / "config.toml", "--data", self.shards, "--out",
                          self.run, "--device", "cpu", "--threads", 1, *more)

    def all_programs(self):
        yield "verify", self.verify()
        yield "train", self.train()
        yield "train_without_verify", self.train("--set", "data.verify=false")

    def record(self, kind, name, code, good, what, text):
        self.counts[f"{kind}_{name}_exit_{code}"] += 1
        if not good:
            self.failures.append(f"{kind} {what}: {name} ended with {code}\n{text}")


def damages(original, truncations, flips, source):
    """(kind, what, damaged bytes) for each damage; the whole file is no truncation."""
    for _ in range(truncations):
        length = source.randrange(len(original))
        yield "truncation", f"to {length} bytes", original[:length]
    for _ in range(flips):
        bit = source.randrange(8 * len(original))
        damaged = bytearray(original)
        damaged[bit // 8] ^= 1 << bit % 8
        yield "flip", f"of bit {bit % 8} of byte {bit // 8}", bytes(damaged)


def differing_keys(a, b, key=""):
    """Keys under which two JSON trees differ."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return set().union(*(differing_keys(a[k], b[k], k) for k in a))
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return set().union(*(differing_keys(x, y, key) for x, y in zip(a, b)))
    return set() if a == b else {key}


def damage_shard(bench, truncations, flips, source):
    original = bench.shard.read_bytes()
    for kind, what, damaged in damages(original, truncations, flips, source):
        bench.shard.write_bytes(damaged)
        for name, (code, text) in bench.all_programs():
            refused = code == 3 and bench.shard.name in text
            good = refused or (name == "train_without_verify" and code == 0)
            bench.record(f"shard_{kind}", name, code, good, what, text)
    bench.shard.write_bytes(original)


def damage_manifest(bench, each, source):
    original = bench.manifest.read_bytes()
    meaning = json.loads(original)
    for kind, what, damaged in damages(original, each, each, source):
        bench.manifest.write_bytes(damaged)
        try:
            changed = differing_keys(meaning, json.loads(damaged))
        except ValueError:
            changed = {"not JSON"}
        for name, (code, text) in bench.all_programs():
            # A shard of another length or checksum than the manifest's is named itself.
            named = bench.manifest.name in text or bench.shard.name in text
            good = (code == 3 and named) or (code == 0 and changed <= MAY_CHANGE[name])
            bench.record(f"manifest_{kind}", name, code, good, f"{what}, keys {sorted(changed)}", text)
    bench.manifest.write_bytes(original)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of the programs")
    parser.add_argument("--truncations", type=int, default=200)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--manifest", type=int, default=200, help="truncations, and flips, of the manifest")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path, help="where the counts go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deeplab-damage-") as folder:
        bench = Bench(options.bin.resolve(), pathlib.Path(folder))
        for name, (code, text) in bench.all_programs():
            if code != 0:
                sys.exit(f"{name} refuses the undamaged split with {code}:\n{text}")
        source = random.Random(options.seed)
        damage_shard(bench, options.truncations, options.flips, source)
        damage_manifest(bench, options.manifest, source)
        for name, (code, text) in bench.all_programs():
            if code != 0:
                sys.exit(f"{name} refuses the repaired split with {code}:\n{text}")
        counts = {"shard_bytes": bench.shard.stat().st_size, **dict(sorted(bench.counts.items())),
                  "failures": len(bench.failures)}
    for failure in bench.failures[:20]:
        print(failure)
    text = json.dumps(counts, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    sys.exit(1 if bench.failures else 0)


main()
