#!/usr/bin/env python3
"""Draws single changes of src/cuda and src/comm and asks which of the project's tests see them.

Needs a finished build with all parts (tests/run.sh's), of which programs are linked anew with one mutant at a time
(relink.py). The suites of its file run until the first that fails. A program that tests start is put in its place in
the build meanwhile: no other test may run there. A mutant that does not compile, or that a warning refuses, is drawn
again.

usage: campaign.py --source DIR --build DIR --scratch DIR --records FILE [--seed N] [--each N] [--only PATTERN]
                   [--suites NAME,…]
       campaign.py --list --source DIR [--seed N] [--each N]

--records: a line of JSON a mutant, the last one counts; what it has is not done again. --each: mutants an operator.
"""
import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from operators import OPERATORS, sites  # noqa: E402
from relink import CannotBuild, FinishedBuild, resolved  # noqa: E402
from suites import SUITES, commands, first_failure, mutated_files, suites_of  # noqa: E402

# A mutant that never ends is caught: by a process's time on processors, or by the clock where it waits.
RUN_LIMIT_S, PROCESSOR_LIMIT_S = 900, 150


def drawn(root, seed):
    """All sites of each operator, in the order of the draw."""
    found = {operator: [] for operator in OPERATORS}
    for name in mutated_files(root):
        for operator, places in sites(name, (root / name).read_text()).items():
            found[operator] += places
    for operator, places in found.items():
        random.Random(f"{seed} {operator}").shuffle(places)
    return found


def described(site, text):
    line_begin = text.rfind("\n", 0, site.begin) + 1
    line_end = text.find("\n", site.end)
    return {
        "id": f"{site.operator} {site.file}:{site.line(text)}:{site.begin - line_begin}",
        "operator": site.operator,
        "file": site.file,
        "line": site.line(text),
        "before": " ".join(text[line_begin:line_end].split()),
        "after": " ".join((text[line_begin : site.begin] + site.new + text[site.end : line_end]).split()),
    }


def limit_processor_time():
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_LIMIT_S, PROCESSOR_LIMIT_S))


def run(command, limit_s, environment=None, cwd=None):
    """Exit code (None: ended after the limit), output, seconds."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=cwd,
                               env={**os.environ, **(environment or {})}, start_new_session=True,
                               preexec_fn=limit_processor_time, text=True, errors="replace")
    try:
        output, _ = process.communicate(timeout=limit_s)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        code = None
    return code, output, time.monotonic() - began


class Campaign:
    def __init__(self, options):
        self.source, self.records, self.prefix = options.source, options.records, shlex.split(options.prefix)
        self.tests = options.build / "tests"
        self.build = FinishedBuild(options.source, options.build, options.scratch, self.prefix)
        self.chosen_suites = options.suites.split(",") if options.suites else list(SUITES)
        self.done, self.texts = {}, {}
        for line in self.records.read_text().splitlines() if self.records.exists() else ():
            record = json.loads(line)
            self.done[record["id"]] = record

    def missing_suites(self, file, name):
        """That have not been asked yet: none, where one has caught it."""
        known = self.done.get(name, {"result": "survived"})
        wanted = suites_of(file) if known["result"] in ("survived", "not asked") else ()
        return [suite for suite in wanted if suite in self.chosen_suites and suite not in known.get("suites", ())
                and (self.tests / SUITES[suite].program).exists()]

    def write(self, record):
        with self.records.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def suite_fails(self, name, linked):
        """(test, why) of the first failure, or None; and the seconds. `linked`: the programs that have the mutant."""
        suite, total = SUITES[name], 0.0
        for command in commands(suite, linked.get(suite.program, self.tests / suite.program)):
            code, output, seconds = run([*self.prefix, *command], RUN_LIMIT_S, dict(suite.environment), self.tests)
            total += seconds
            if code is None:
                return (first_failure(output, code)[0].split(" (")[0] + " (time limit)", output[-500:]), total
            if code != 0:
                return first_failure(output, code), total
        return None, total

    @contextlib.contextmanager
    def in_place(self, suite, linked):
        """Programs that tests of the suite start."""
        kept = [(self.tests / helper, self.tests / f"{helper}.kept") for helper in suite.starts if helper in linked]
        for own, aside in kept:
            own.rename(aside)
            shutil.copy2(linked[own.name], own)
        try:
            yield
        finally:
            for own, aside in kept:
                aside.replace(own)

    def judge(self, site, text, names):
        """What became of one mutant."""
        building = testing = 0.0
        asked = []
        for name in names:
            suite, began = SUITES[name], time.monotonic()
            try:
                linked = self.build.with_file(site.file, site.applied(text), (suite.program, *suite.starts))
            except CannotBuild as error:
                return {"result": "does not compile", "why": str(error)[-1500:]}
            building += time.monotonic() - began
            asked.append(name)
            if not linked:
                continue
            with self.in_place(suite, linked):
                failure, seconds = self.suite_fails(name, linked)
            testing += seconds
            if failure:
                return {"result": "caught", "by": name, "test": failure[0], "why": failure[1],
                        "caught_before": not suite.added, "build_s": round(building, 1), "test_s": round(testing, 1)}
        return {"result": "survived", "suites": asked, "build_s": round(building, 1), "test_s": round(testing, 1)}

    def run_all(self, chosen):
        """Mutants of a file follow each other, so that little is built twice."""
        for site in sorted(chosen, key=lambda s: (s.file, s.begin)):
            text = (self.source / site.file).read_text()
            record = described(site, text)
            record |= self.judge(site, text, self.missing_suites(site.file, record["id"]))
            record["suites"] = self.done.get(record["id"], {}).get("suites", []) + record.get("suites", [])
            self.done[record["id"]] = record
            self.write(record)
            print(record["result"], record["id"], record.get("by", ""), record.get("test", ""), flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=resolved, required=True)
    parser.add_argument("--build", type=resolved)
    parser.add_argument("--scratch", type=resolved)
    parser.add_argument("--records", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=20261201)
    parser.add_argument("--each", type=int, default=4)
    parser.add_argument("--only", default="", help="mutants whose id has this regular expression")
    parser.add_argument("--suites", help="these alone, separated by commas")
    parser.add_argument("--prefix", default="", help="before every compilation and test, such as nice")
    parser.add_argument("--list", action="store_true")
    return parser.parse_args()


def show(order, text, each):
    print(f"{sum(len(places) for places in order.values())} sites")
    for operator, places in order.items():
        print(f"{operator} ({len(places)} sites)")
        for site in places[:each]:
            record = described(site, text[site.file])
            print(f"  {record['id']}\n    {record['before']}\n    {record['after']}")


def main():
    options = parse_arguments()
    order = drawn(options.source, options.seed)
    text = {name: (options.source / name).read_text() for name in mutated_files(options.source)}
    if options.list:
        show(order, text, options.each)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # programs go back to their places
    campaign = Campaign(options)

    def name_of(site):
        return described(site, text[site.file])["id"]

    while True:
        chosen = []
        for places in order.values():
            valid = [site for site in places if campaign.done.get(name_of(site), {}).get("result") != "does not compile"]
            chosen += valid[: options.each]
        missing = [site for site in chosen
                   if re.search(options.only, name_of(site)) and campaign.missing_suites(site.file, name_of(site))]
        if not missing:
            return
        campaign.run_all(missing)


if __name__ == "__main__":
    main()
