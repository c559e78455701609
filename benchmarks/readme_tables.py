#!/usr/bin/env python3
"""Writes the tables of README.md from results/tables.toml and the summary.json of the folders it names.

    benchmarks/readme_tables.py             # writes them
    benchmarks/readme_tables.py --check     # writes nothing; 1 when README.md says something else
"""

import argparse
import difflib
import json
import pathlib
import re
import string
import sys
import tomllib


class Formatter(string.Formatter):
    def format_field(self, value, spec):
        if spec == "minutes":
            minutes, seconds = divmod(round(value), 60)
            return f"{minutes} min" + (f" {seconds:02} s" if seconds else "")
        if spec == "power":
            digits, exponent = f"{value:.1e}".split("e")
            return f"{digits}e{int(exponent)}"
        return super().format_field(value, spec)


def cells_of(row, results):
    folders = [row["folder"]] if isinstance(row.get("folder"), str) else row.get("folder", [])
    figures = {}
    for folder in folders:
        figures |= json.loads((results / folder / "summary.json").read_text())
    if not folders and re.search("[0-9]", row["figure"]):
        sys.exit(f"\"{row['figure']}\" (results/tables.toml) is of no folder — a figure needs what it comes from — name one")
    cells = []
    for name in "what", "where", "figure":
        try:
            cells.append(Formatter().vformat(row.get(name, ""), (), figures))
        except (KeyError, ValueError) as error:
            sys.exit(f"\"{row[name]}\" (results/tables.toml): {error!r} with {', '.join(folders) or 'no folder'} — the row "
                     "cannot be written — correct the key or its format")
    # Without the date and the machine: "2026-11-25-2cores-pack" is shown as "pack".
    links = [f"[{re.sub(r'^[0-9-]{10}-[^-]+-', '', folder)}](results/{folder})" for folder in folders]
    return [*cells, ", ".join(links)]


def table(description, results):
    rows = [description["columns"], *(cells_of(row, results) for row in description["rows"])]
    lines = [f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in rows]
    return lines[0] + "|---" * len(rows[0]) + "|\n" + "".join(lines[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    options = parser.parse_args()
    readme = options.root / "README.md"
    before = after = readme.read_text()
    for name, description in tomllib.loads((options.root / "results" / "tables.toml").read_text()).items():
        begin, end = f"<!-- {name}: made by benchmarks/readme_tables.py -->\n", f"<!-- /{name} -->\n"
        if after.count(begin) != 1 or after.count(end) != 1:
            sys.exit(f"README.md needs one line {begin.strip()} and one {end.strip()} — the table has no place — add them")
        head, rest = after.split(begin)
        after = head + begin + table(description, options.root / "results") + end + rest.split(end)[1]
    if not options.check:
        readme.write_text(after)
    elif before != after:
        print("".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "README.md", "results/")), end="")
        sys.exit("README.md and results/ disagree — one of them is wrong — run benchmarks/readme_tables.py")


if __name__ == "__main__":
    main()
