#!/usr/bin/env python3
"""Changes one file as the list says, links one test program with it, and expects the named test to fail.

Neither the sources nor the build are changed (relink.py).

usage: one.py --source DIR --build DIR --scratch DIR NAME
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
from relink import CannotBuild, FinishedBuild, resolved  # noqa: E402


class Failure(Exception):
    pass


def changed(source, mutant):
    text = (source / mutant["file"]).read_text()
    found = text.count(mutant["before"])
    if found != 1:
        raise Failure(f"{mutant['file']} has \"{mutant['before']}\" {found} times, once is wanted: the file has changed;"
                      " change the mutant in tests/mutants/ci.json likewise")
    return text.replace(mutant["before"], mutant["after"])


def check(source, build, scratch, mutant):
    text = changed(source, mutant)
    linked = FinishedBuild(source, build, scratch).with_file(mutant["file"], text, (mutant["program"],))
    if not linked:
        raise Failure(f"{mutant['program']} is not linked with {mutant['file']}")
    environment = {**os.environ, **mutant.get("environment", {})}
    result = subprocess.run([linked[mutant["program"]], f"--gtest_filter={mutant['test']}", "--gtest_color=no"], cwd=scratch,
                            env=environment, stdin=subprocess.DEVNULL, text=True, errors="replace", stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, check=False, timeout=300)
    if f"[ RUN      ] {mutant['test']}" not in result.stdout:
        raise Failure(f"{mutant['program']} has no test {mutant['test']}:\n{result.stdout[-3000:]}")
    if result.returncode == 0 or f"[       OK ] {mutant['test']}" in result.stdout:  # it may also end the program
        raise Failure(f"{mutant['test']} does not see that {mutant['file']} has \"{mutant['after']}\" where"
                      f" \"{mutant['before']}\" belongs:\n{result.stdout[-3000:]}")
    print(f"{mutant['test']} fails, as it has to, with \"{mutant['after']}\" for \"{mutant['before']}\" in {mutant['file']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for folder in ("source", "build", "scratch"):
        parser.add_argument(f"--{folder}", type=resolved, required=True)
    parser.add_argument("name")
    options = parser.parse_args()
    if not (options.build / "build.ninja").exists() or shutil.which("ninja") is None:
        print("skipped: the commands of the build are read from Ninja")
        return
    listed = json.loads((pathlib.Path(__file__).parent / "ci.json").read_text())
    mutants = {mutant["name"]: mutant for mutant in listed}
    scratch = options.scratch / options.name
    try:
        check(options.source, options.build, scratch, mutants[options.name])
    except (Failure, CannotBuild) as failure:
        sys.exit(f"{options.name}: {failure}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
