#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rehearses tests/gpu/run in a bare environment, on the device that a build emulates.

Usage: rehearsal_test.py BUILD [-v]    BUILD has the tests labelled gpu, the tool and the Python package

Of the PyTorch layer's tests one file is run, as CTest runs all of them by themselves.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = None
BUDGET = 400
DONE = ("tests", "check", "bench/f32/channels_first", "bench/f32/channels_last", "bench/bf16/channels_first",
        "bench/bf16/channels_last")
OF_TORCH = ("torch", "torch_layer/layer")  # where there is a PyTorch


class Rehearsal(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.output = Path(scratch.name) / "report.json"
        # No more than a login has, and nothing of what runs this. PyTorch's environment is named by the python3.
        python = Path(shutil.which("python3")).parent
        self.environment = {"PATH": f"{python}:/usr/local/bin:/usr/bin:/bin", "HOME": os.environ["HOME"]}

    def rehearse(self, *arguments):
        return subprocess.run([HERE / "run", "--emulated", "--no-build", "--build", BUILD, "--output", self.output,
                               *arguments], env=self.environment, capture_output=True, text=True, check=False)

    def outcomes(self):
        return {step["name"]: (step["outcome"], step["reason"])
                for step in json.loads(self.output.read_text())["steps"]}

    def test_every_step_has_an_outcome_and_none_fails(self):
        ended = self.rehearse("--budget", str(BUDGET), "--only", "|".join((*DONE, *OF_TORCH, "(mem|race)check/.*")))
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        planned = subprocess.run([HERE / "run", "--plan"], env=self.environment, capture_output=True, text=True,
                                 check=True).stdout.splitlines()[:-1]
        outcomes = self.outcomes()
        self.assertEqual(list(outcomes), [line.split()[0] for line in planned])
        for name, (outcome, reason) in outcomes.items():
            if name in DONE or (name in OF_TORCH and "no PyTorch" not in (reason or "")):
                self.assertEqual((outcome, reason), ("passed", None), name)
            else:
                self.assertEqual(outcome, "not_run", name)
                self.assertTrue(reason, name)
        whole = json.loads(self.output.read_text())
        self.assertGreater(whole["tests"]["passed"], 4)
        self.assertEqual(whole["tests"]["failed"], 0)
        self.assertTrue(whole["check"]["pass"])
        self.assertIn("emulated", whole["device"])
        self.assertEqual([len(run["layers"]) for run in whole["bench"]], [1] * 4)
        if outcomes["torch"][0] == "passed":
            self.assertEqual(len(whole["against_torch"]), 4)


if __name__ == "__main__":
    BUILD = sys.argv.pop(1)
    unittest.main()
