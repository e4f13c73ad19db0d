#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""launcher/simulate with measurements whose times are planted: simulate_test.py PROGRAM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

SIMULATE = Path(__file__).resolve().parents[2] / "launcher" / "simulate"
# Of bytes the one-way time in s: nearly flat, then a jump as where MPI changes its protocol, then a
# longer message that is faster, then a slope.
PLANTED = {
    8: 26e-6,
    64: 26.2e-6,
    1064: 28e-6,
    4096: 31e-6,
    8192: 90e-6,
    16384: 80e-6,
    65536: 150e-6,
}
POLL = 1 / 32  # of the least one-way time; a rank sees a message so much late at most


def ping(between: list[int], length: int, time: float) -> dict[str, Any]:
    return {"kind": "ping", "between": between, "bytes": length, "one_way": {"median": time}}


class Simulate(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = Path(scratch.name)

    def plant(self, *cells: dict[str, Any]) -> None:
        groups = [
            {"ranks": 2, "hosts": 2, "most_on_a_host": 1},
            {"ranks": 4, "hosts": 2, "most_on_a_host": 2},
            {"ranks": 3, "hosts": 3, "most_on_a_host": 1},
        ]
        scale = {"format": "syncbn scale 1", "groups": groups, "cells": cells}
        (self.directory / "scale.json").write_text(json.dumps(scale))

    def plant_pings(self, factor: float = 1) -> None:
        self.plant(*(ping([0, 1], length, factor * time) for length, time in PLANTED.items()))

    def run_it(self, *options: str, path: str = "") -> subprocess.CompletedProcess[str]:
        build = Path(sys.argv[1]).parents[1]
        command = [str(SIMULATE), str(self.directory), "--build", str(build), *options]
        environment = {**os.environ, "PATH": path + os.pathsep + os.environ["PATH"]}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def simulated(self, *options: str) -> dict[str, Any]:
        done = self.run_it(*options)
        self.assertEqual(0, done.returncode, done.stderr)
        found: dict[str, Any] = json.loads((self.directory / "simulated.json").read_text())
        return found

    def times(self, *options: str) -> dict[tuple[int, int], float]:
        points = self.simulated(*options)["points"]
        return {(point["hosts"], point["doubles"]): point["seconds"] for point in points}

    def test_simulated_pings_are_the_planted_ones(self) -> None:
        self.plant_pings()
        calibration = self.simulated("--hosts", "2", "--doubles", "1")["calibration"]
        self.assertEqual(list(PLANTED), calibration["bytes"])
        self.assertEqual(list(PLANTED.values()), calibration["one_way"])
        self.assertEqual("ping cells between ranks 0 and 1", calibration["source"])
        self.assertLess(calibration["worst_error"], 1e-3)

    def test_of_several_pairs_the_median_counts(self) -> None:
        self.plant(
            *(
                ping(between, length, factor * time)
                for between, factor in (([0, 1], 1.0), ([0, 2], 1.1), ([1, 2], 9.0))
                for length, time in PLANTED.items()
            )
        )
        calibration = self.simulated("--hosts", "2", "--doubles", "1")["calibration"]
        self.assertEqual([1.1 * time for time in PLANTED.values()], calibration["one_way"])

    def test_an_exchange_takes_log2_hosts_messages(self) -> None:
        self.plant_pings()
        times = self.times("--hosts", "2,64", "--doubles", "130")
        message = PLANTED[1064]  # 130 doubles and a header of 24 bytes
        for hosts, steps in ((2, 1), (64, 6)):
            least = steps * message
            self.assertGreater(times[hosts, 130], 0.999 * least)
            self.assertLess(times[hosts, 130], least + 1.5 * steps * POLL * PLANTED[8])

    def test_doubled_pings_double_the_times(self) -> None:
        self.plant_pings()
        once = self.times("--hosts", "4", "--doubles", "130,1026")
        self.plant_pings(factor=2)
        twice = self.times("--hosts", "4", "--doubles", "130,1026")
        self.assertEqual({(4, 130), (4, 1026)}, once.keys())
        for point, time in once.items():
            self.assertAlmostEqual(2, twice[point] / time, delta=0.05)

    def test_host_counts_that_were_measured_are_simulated(self) -> None:
        exchanges = [
            {"kind": "exchange", "group": group, "by": by, "doubles": 514, "time": {"median": 1e-4}}
            for group, by in ((0, "MPI_Allreduce"), (1, "builtin"), (2, "builtin"))
        ]
        self.plant(*exchanges)
        times = self.times("--hosts", "4", "--doubles", "130", "--network", "1e-6,1e10")
        self.assertEqual({(3, 130), (3, 514), (4, 130)}, times.keys())

    def test_a_network_can_be_given(self) -> None:
        options = ("--hosts", "2", "--doubles", "130", "--network", "2e-5,1e9")
        found = self.simulated(*options)
        self.assertEqual("the option --network", found["calibration"]["source"])
        expected = 2e-5 + 1064 / 1e9
        self.assertAlmostEqual(1, found["points"][0]["seconds"] / expected, delta=1.5 * POLL)

    def refused(self, why: str, path: str = "") -> None:
        done = self.run_it("--hosts", "2", path=path)
        self.assertEqual(1, done.returncode, done.stdout)
        self.assertIn(why, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertFalse((self.directory / "simulated.json").exists())

    def test_refuses_a_directory_without_pings(self) -> None:
        self.refused("no ping cells")
        self.plant()
        self.refused("no ping cells")

    def test_refuses_another_file(self) -> None:
        (self.directory / "scale.json").write_text('{"format": "something else"}')
        self.refused("not of format")
        (self.directory / "scale.json").write_text("{")
        self.refused("cannot read")

    def test_refuses_a_network_that_it_does_not_reproduce(self) -> None:
        self.plant_pings()
        # A simulator that gets another latency than it is given.
        smpirun = self.directory / "smpirun"
        wrong = '"${@/#--cfg=smpi\\/lat-factor:*/--cfg=smpi\\/lat-factor:0:1.2}"'
        smpirun.write_text(f"#!/bin/bash\nexec {shutil.which('smpirun')} {wrong}\n")
        smpirun.chmod(0o755)
        self.refused("off the measured one", path=str(self.directory))


if __name__ == "__main__":
    if not sys.argv[1]:
        print("SKIPPED: no SimGrid was found to simulate ranks with (Debian: libsimgrid-dev)")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], "-v"])
