#!/usr/bin/env python3
"""Makes a table of a campaign's records, and the figures of its summary.

usage: table.py RECORDS VERDICTS > table.md
       table.py --summary RECORDS VERDICTS > summary.json

RECORDS: what campaign.py wrote. VERDICTS: JSON, by a survivor's id: {"now": the test that catches it since, or
"equivalent" or "a device", "why": one sentence}.
"""
import json
import pathlib
import sys


def last_records(path):
    records = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["result"] != "does not compile":
            records[record["id"]] = record
    return sorted(records.values(), key=lambda r: (r["operator"], r["file"], r["line"]))


def code(text):
    text = text if len(text) <= 110 else text[:107] + "…"
    return "`" + text.replace("|", "\\|").replace("`", "'") + "`"


def differing(record):
    """What differs, with some of the line around it."""
    before, after = record["before"], record["after"]
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    start = max(start - 30, 0)
    cut = "…" if start else ""
    return f"{code(cut + before[start:])} → {code(cut + after[start:])}"


def table(records, verdicts):
    print("| operator | place | change | before | after | now |\n|---|---|---|---|---|---|")
    for record in records:
        if record["result"] == "not asked":
            continue
        caught = record["result"] == "caught"
        by = f"{record['by']}: {record['test']}" if caught else "—"
        before = by if caught and record["caught_before"] else "—"
        verdict = verdicts.get(record["id"])
        now = "caught" if caught else "**open**" if verdict is None else f"{verdict['now']}: {verdict['why']}"
        place = f"{record['file'].removeprefix('src/')}:{record['line']}"
        print(f"| {record['operator']} | {place} | {differing(record)} | {before} | {by} | {now} |")


def summary(records, verdicts):
    caught = [record for record in records if record["result"] == "caught"]
    survivors = [record for record in records if record["result"] == "survived"]
    kinds = [verdicts.get(record["id"], {"now": "open"})["now"] for record in survivors]
    seconds = sum(record.get("build_s", 0) + record.get("test_s", 0) for record in records)
    figures = {
        "mutants_drawn": len(records),
        "mutants_asked": len(caught) + len(survivors),
        "caught_before": sum(record["caught_before"] for record in caught),
        "caught_after": len(caught),
        "equivalent": kinds.count("equivalent"),
        "a_device_alone": kinds.count("a device"),
        "open": kinds.count("open"),
        "caught_by_tests_made_for_them": sum(kind not in ("equivalent", "a device", "open") for kind in kinds),
        "seconds_of_a_mutant": round(seconds / max(len(caught) + len(survivors), 1), 1),
    }
    print(json.dumps(figures, indent=1))


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--summary"]
    if len(arguments) != 2:
        sys.exit(__doc__)
    records, verdicts = last_records(pathlib.Path(arguments[0])), json.loads(pathlib.Path(arguments[1]).read_text())
    (summary if "--summary" in sys.argv else table)(records, verdicts)


if __name__ == "__main__":
    main()
