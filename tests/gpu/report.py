#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The report of tests/gpu/run.

Usage: report.py DIRECTORY FILE    writes FILE, from what the steps left in DIRECTORY
       report.py --print FILE      shows it in short
"""

import importlib.metadata
import json
import os
import re
import statistics
import sys
import xml.etree.ElementTree
from pathlib import Path

RIVALS = ("batch_norm", "sync_batch_norm")
PASSES = ("forward", "backward")
LINES_OF_A_FAILURE = 60


def table(path):
    return [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []


def loaded(path):
    """What a step wrote as JSON; nothing if it did not come so far."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def version_of(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def nccl_version(directory):
    log = directory / "configure.log"
    found = re.search(r"sums over NCCL *yes, NCCL ([0-9.]+)", log.read_text()) if log.exists() else None
    return found and found[1]


def facts(directory):
    known = {name: value or None for name, value in table(directory / "facts.tsv")}
    known["budget"] = int(known["budget"])
    known["nccl"] = nccl_version(directory)
    known["torch"] = version_of("torch")
    return known


def cases_of_junit(path):
    """What CTest wrote as JUnit's XML when it was done."""
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        output = case.findtext("system-out") or ""
        one = {"name": case.get("name"), "outcome": "passed", "seconds": float(case.get("time", 0))}
        skipped = re.search(r"SKIPPED: (.*)", output)
        if case.get("status") == "notrun" and skipped:
            one |= {"outcome": "skipped", "reason": skipped[1]}
        elif case.get("status") != "run":
            failure = re.search(r"Failure\n((?:.*\n){1,4})", output)
            messages = [each.get("message") for each in case if each.tag in ("failure", "skipped")]
            one |= {"outcome": "failed",
                    "reason": failure[1].strip() if failure else (messages + [None])[0]}
        yield one


def cases_of_log(path):
    """What CTest had printed when it was cut off."""
    outcomes = {"Passed": "passed", "Skipped": "skipped"}
    for name, outcome, seconds in re.findall(
            r"Test +#\d+: (\S+) \.*[ *]*(\w+).*? ([0-9.]+) sec", path.read_text(errors="replace")):
        yield {"name": name, "outcome": outcomes.get(outcome, "failed"), "seconds": float(seconds)}


def tests(directory):
    if (directory / "tests.xml").exists():
        cases = list(cases_of_junit(directory / "tests.xml"))
    elif (directory / "tests.log").exists():
        cases = list(cases_of_log(directory / "tests.log"))
    else:
        return None
    counts = {outcome: sum(case["outcome"] == outcome for case in cases)
              for outcome in ("passed", "failed", "skipped")}
    return counts | {"cases": cases}


def step(directory, name, outcome, seconds, reason):
    """A step; of one that failed also the end of its output."""
    whole = {"name": name, "outcome": outcome, "seconds": int(seconds), "reason": reason or None}
    log = directory / f"{name.replace('/', '.')}.log"
    if outcome == "failed" and log.exists():
        whole["output"] = log.read_text(errors="replace").splitlines()[-LINES_OF_A_FAILURE:]
    return whole


def median_of(layer, phase):
    return layer.get("phases", {}).get(phase, {}).get("median")


def against_torch(bench, torch):
    """Of every layer that both have timed: seconds, and PyTorch's over ours: of the layer without
    an exchange, as PyTorch's have none."""
    theirs = {(run["dtype"], run["layout"], layer["shape"]): layer
              for run in (torch or {}).get("runs", []) for layer in run["layers"]}
    rows = []
    for run in bench:
        for layer in run.get("layers", []):
            other = theirs.get((run.get("dtype"), run.get("layout"), layer.get("shape")))
            if other is None:
                continue
            row = {"dtype": run["dtype"], "layout": run["layout"], "shape": layer["shape"]}
            for each in PASSES:
                ours = median_of(layer, f"local_{each}")
                row[each] = {"syncbn": ours}
                for rival in RIVALS:
                    seconds = median_of(other, f"{rival}_{each}")
                    row[each][rival] = seconds
                    row[each][f"{rival}_ratio"] = seconds / ours if seconds and ours else None
            rows.append(row)
    return rows


def medians(rows):
    """Of the ratios over the layers, for each type, order, pass and rival."""
    ratios = {}
    for row in rows:
        for each in PASSES:
            for rival in RIVALS:
                if row[each][f"{rival}_ratio"] is not None:
                    name = f"{row['dtype']} {row['layout']} {each}, {rival} / syncbn"
                    ratios.setdefault(name, []).append(row[each][f"{rival}_ratio"])
    return {name: statistics.median(values) for name, values in ratios.items()}


def report(directory):
    bench = [run for run in map(loaded, sorted(directory.glob("bench.*.json"))) if run]
    torch = loaded(directory / "torch.json")
    rows = against_torch(bench, torch)
    return {
        **facts(directory),
        "steps": [step(directory, *columns) for columns in table(directory / "steps.tsv")],
        "tests": tests(directory),
        "check": loaded(directory / "check.json"),
        "bench": bench,
        "torch_bench": torch,
        "against_torch": rows,
        "median_ratios": medians(rows),
    }


def write(whole, path):
    """All of it or, if something goes wrong, what was there before."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(whole, indent=1) + "\n")
    unfinished.replace(path)


def show(whole):
    print()
    for each in whole["steps"]:
        print(f"{each['name']:<32} {each['outcome'].replace('_', ' '):<8} {each['seconds']:>4} s"
              f"  {each['reason'] or ''}".rstrip())
    if whole["tests"]:
        counts = whole["tests"]
        print(f"tests: {counts['passed']} passed, {counts['failed']} failed, "
              f"{counts['skipped']} skipped")
        for case in counts["cases"]:
            if case["outcome"] != "passed":
                print(f"  {case['name']} {case['outcome']}: {case.get('reason', 'see tests.log')}")
    if whole["median_ratios"] and whole["device"].startswith("emulated"):
        print("rehearsed: the times are of the host, and these ratios tell nothing")
    for name, ratio in whole["median_ratios"].items():
        print(f"{name}: {ratio:.2f}")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    path = Path(sys.argv[2])
    if sys.argv[1] == "--print":
        show(loaded(path))
        print(f"report: {path}")
    else:
        write(report(Path(sys.argv[1])), path)


if __name__ == "__main__":
    main()
