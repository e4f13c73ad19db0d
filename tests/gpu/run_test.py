#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/gpu/run without a device and on a machine that is made up.

Usage: run_test.py [-v]
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
STEPS = ["configure", "build", "tests", "check",
         "bench/f32/channels_first", "bench/f32/channels_last", "bench/bf16/channels_first", "bench/bf16/channels_last", "torch",
         *(f"{tool}/{name}" for tool in ("memcheck", "racecheck")
           for name in ("kernels/cuda_on_device", "comm/stamp_on_device", "bn/device_graph")),
         *(f"torch_layer/{name}" for name in ("layer", "ranks", "device", "derivative", "checkpoint",
                                              "accumulate", "memory"))]

# What the machine has in its PATH.
NVIDIA_SMI = "echo 'NVIDIA H100 80GB HBM3, 580.00, 9.0'"
CMAKE = """case $1 in
  -S) echo '--   sums over NCCL    yes, NCCL 2.28.9' ;;
  --version) echo 'cmake version 3.25.1' ;;
esac"""
CTEST = """if [[ $* == *-N* ]]; then echo '  Test #1: bn/a'; exit; fi
while [[ $1 != --output-junit ]]; do shift; done
cat > "$2" <<END
<testsuite>
  <testcase name="bn/a" time="1.5" status="run"/>
  <testcase name="bn/b" time="0.5" status="notrun">
    <system-out>SKIPPED: one CUDA device</system-out>
  </testcase>
  <testcase name="bn/c" time="0" status="notrun">
    <skipped message="Unable to find executable"/>
  </testcase>
  <testcase name="bn/d" time="0" status="fail">
    <failure message=""/>
    <system-out>a.cpp:3: Failure
1 is not 2
    </system-out>
  </testcase>
</testsuite>
END"""
CTEST_CUT_OFF = """echo '  Test #1: bn/a'
[[ $* != *-N* ]] || exit 0
echo '1/4 Test #1: bn/a .............   Passed    0.62 sec'
echo '2/4 Test #2: bn/b .............***Skipped   0.00 sec'
echo '3/4 Test #3: bn/c .............***Timeout  60.01 sec'
echo '    Start 4: bn/d'
exit 124  # as timeout does"""
SYNCBN = """if [[ $* == *--help* ]]; then echo '--device WHERE --json FILE'; exit; fi
if [[ $1 == check ]]; then echo 'bn1: off by 3'; exit 1; fi
while (($# > 1)); do declare "${1#--}=$2"; shift; done
echo '{"dtype": "'$dtype'", "layout": "'$layout'", "layers": [{"shape": "8x4x2x2", "phases":
  {"local_forward": {"median": 2}, "local_backward": {"median": 4}}}]}' > "$json"
"""
PYTHON = """if [[ $1 == -c ]]; then exit; fi
if [[ $1 == *torch_bench.py ]]; then
  while [[ $1 != --json ]]; do shift; done
  echo '{"runs": [{"dtype": "f32", "layout": "channels_first", "layers": [{"shape": "8x4x2x2", "phases":
    {"batch_norm_forward": {"median": 3}, "batch_norm_backward": {"median": 4}}}]}]}' > "$2"
  exit
fi
exec REAL "$@"
""".replace("REAL", sys.executable)


class Run(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)
        self.output = self.scratch / "report" / "report.json"

    def program(self, path, text):
        path = self.scratch / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def start(self, *arguments, devices=""):
        environment = os.environ | {"PATH": f"{self.scratch}/programs:{os.environ['PATH']}",
                                    "CUDA_VISIBLE_DEVICES": devices}
        return subprocess.Popen(
            [HERE / "run", "--build", self.scratch / "build", "--output", self.output, *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run_script(self, *arguments, devices=""):
        with self.start(*arguments, devices=devices) as started:
            output, errors = started.communicate()
        return subprocess.CompletedProcess(started.args, started.returncode, output, errors)

    def report(self):
        whole = json.loads(self.output.read_text())
        return whole, {step["name"]: (step["outcome"], step["reason"]) for step in whole["steps"]}

    def test_stops_without_a_device_and_says_what_to_do(self):
        ended = self.run_script()
        self.assertEqual(ended.returncode, 1)
        self.assertIn("no CUDA device", ended.stderr)
        self.assertIn("--without-device", ended.stderr)
        self.assertFalse(self.output.exists())

    def test_refuses_what_cannot_be_the_report(self):
        self.output.parent.mkdir()
        os.mkfifo(self.output)
        ended = self.run_script("--without-device", "--no-build")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("is not a regular file", ended.stderr)
        self.assertTrue(self.output.is_fifo())
        ended = self.run_script("--plan", "--prefix", "")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("--prefix wants a value", ended.stderr)

    def test_reports_what_could_not_be_done(self):
        ended = self.run_script("--without-device", "--no-build", "--commit", "some")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        whole, steps = self.report()
        self.assertEqual(list(steps), STEPS)
        self.assertEqual(steps["build"], ("not_run", "--no-build"))
        self.assertEqual(steps["tests"], ("not_run", "no CUDA device"))
        self.assertEqual((whole["device"], whole["commit"], whole["tests"]), (None, "some", None))

    def test_keeps_to_its_time(self):
        ended = self.run_script("--without-device", "--budget", "1")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertEqual(self.report()[1]["configure"],
                         ("not_run", "the 1 s for everything are used up"))

    def test_says_why_it_could_not_build(self):
        self.program("programs/cmake", "echo; echo 'no compiler'; exit 3")
        ended = self.run_script("--without-device")
        self.assertEqual(ended.returncode, 1)
        steps = self.report()[1]
        self.assertEqual(steps["configure"], ("failed", "exit status 3: no compiler"))
        self.assertEqual(steps["build"], ("not_run", "it could not be configured"))

    def test_puts_everything_into_the_report(self):
        for name, text in {"nvidia-smi": NVIDIA_SMI, "cmake": CMAKE, "ctest": CTEST, "python3": PYTHON,
                           "compute-sanitizer": "echo 'no driver for it'; exit 77"}.items():
            self.program(f"programs/{name}", text)
        self.program("build/bin/syncbn", SYNCBN)
        ended = self.run_script(devices="0")
        self.assertEqual(ended.returncode, 1, ended.stderr)  # for the check
        whole, steps = self.report()
        self.assertEqual(list(steps), STEPS)
        self.assertEqual(steps["check"], ("failed", "exit status 1: bn1: off by 3"))
        self.assertEqual(steps["tests"], ("passed", None))
        self.assertIn({"name": "check", "outcome": "failed", "seconds": 0, "output": ["bn1: off by 3"],
                       "reason": "exit status 1: bn1: off by 3"}, [
                           each | {"seconds": 0} for each in whole["steps"]])
        self.assertEqual(steps["memcheck/bn/device_graph"], ("not_run", "no driver for it"))
        self.assertEqual((whole["device"], whole["driver"], whole["architecture"], whole["nccl"]),
                         ("NVIDIA H100 80GB HBM3", "580.00", "90", "2.28.9"))
        tests = whole["tests"]
        self.assertEqual((tests["passed"], tests["failed"], tests["skipped"]), (1, 2, 1))
        self.assertEqual([case.get("reason") for case in tests["cases"]],
                         [None, "one CUDA device", "Unable to find executable", "1 is not 2"])
        self.assertEqual(len(whole["bench"]), 4)
        self.assertEqual(len(whole["against_torch"]), 1)
        self.assertEqual(whole["median_ratios"],
                         {"f32 channels_first forward, batch_norm / syncbn": 1.5,
                          "f32 channels_first backward, batch_norm / syncbn": 1.0})
        self.assertEqual(list(self.output.parent.iterdir()), [self.output])

    def test_does_not_take_skipped_tests_for_passed_ones(self):
        for name, text in {"nvidia-smi": NVIDIA_SMI, "cmake": CMAKE,
                           "ctest": CTEST.replace('status="run"', 'status="notrun"')}.items():
            self.program(f"programs/{name}", text)
        self.assertEqual(self.run_script(devices="0").returncode, 1)
        self.assertEqual(self.report()[1]["tests"],
                         ("failed", "exit status 1: error: every test was skipped"))

    def test_counts_the_tests_until_they_were_cut_off(self):
        for name, text in {"nvidia-smi": NVIDIA_SMI, "cmake": CMAKE, "ctest": CTEST_CUT_OFF}.items():
            self.program(f"programs/{name}", text)
        ended = self.run_script(devices="0")
        self.assertEqual(ended.returncode, 1, ended.stderr)
        whole, steps = self.report()
        self.assertEqual(steps["tests"], ("failed", "not done within 180 s"))
        self.assertEqual([(case["name"], case["outcome"]) for case in whole["tests"]["cases"]],
                         [("bn/a", "passed"), ("bn/b", "skipped"), ("bn/c", "failed")])

    def test_keeps_what_it_has_when_it_is_stopped(self):
        self.program("programs/nvidia-smi", NVIDIA_SMI)
        self.program("programs/cmake", CMAKE)
        self.program("programs/ctest", CTEST)
        self.program("build/bin/syncbn", f"""[[ $* != *--help* ]] || {{ echo '--device WHERE --json FILE'; exit; }}
touch {self.scratch}/checking; sleep 60""")
        with self.start(devices="0") as started:
            deadline = time.monotonic() + 60
            while not (self.scratch / "checking").exists():
                self.assertLess(time.monotonic(), deadline, "the check did not begin within 60 s")
                time.sleep(0.05)
            started.send_signal(signal.SIGTERM)
            _, errors = started.communicate(timeout=30)
        self.assertEqual(started.returncode, 143, errors)
        whole, steps = self.report()
        self.assertEqual(list(steps), STEPS)
        self.assertEqual(steps["tests"], ("passed", None))
        self.assertEqual(whole["tests"]["passed"], 1)
        self.assertEqual(steps["check"], ("not_run", "SIGTERM cut it off"))
        self.assertEqual(steps["bench/f32/channels_last"], ("not_run", "SIGTERM stopped the run before"))

    def test_does_only_the_steps_that_are_asked_for(self):
        self.program("programs/cmake", CMAKE)
        self.program("build/bin/syncbn", SYNCBN)
        ended = self.run_script("--emulated", "--no-build", "--only", "check|bench/.*")
        self.assertEqual(ended.returncode, 1, ended.stderr)
        steps = self.report()[1]
        self.assertEqual(list(steps), STEPS)
        self.assertEqual(steps["check"], ("failed", "exit status 1: bn1: off by 3"))
        self.assertEqual(steps["bench/f32/channels_first"], ("passed", None))
        self.assertEqual(steps["torch"][0], "not_run")
        self.assertEqual(steps["racecheck/bn/device_graph"], ("not_run", "compute-sanitizer takes a CUDA device"))

    def test_plans_the_same_steps(self):
        ended = self.run_script("--plan")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertEqual([line.split()[0] for line in ended.stdout.splitlines()[:-1]], STEPS)
        self.assertFalse(self.output.exists())


class TorchBench(unittest.TestCase):
    def test_runs_on_the_host(self):
        ended = subprocess.run(
            [sys.executable, HERE / "torch_bench.py", "--device", "cpu", "--shapes", "2x3x4x4",
             "--repeat", "2"], capture_output=True, text=True, check=False)
        if "PyTorch is not installed" in ended.stderr:
            self.skipTest("PyTorch is not installed")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertEqual(ended.stdout.count("batch_norm_backward"), 4)


if __name__ == "__main__":
    unittest.main()
