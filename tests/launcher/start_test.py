#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""launcher/run starts ranks of each MPI that is here, ends as they do, and leaves none behind.

These are Debian's, and the Open MPI 5 that tests/launcher/pypi_mpi installs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "launcher"))
from launch.facts import OPEN_MPI, Facts, Machine, Processor, find_launchers, find_program
from launch.options import Options
from launch.plan import plan

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "launcher" / "run"
LIMIT = 60  # s for a job
COMPILERS = ["mpicc.openmpi", "mpicc.mpich", str(ROOT / "build/openmpi/bin/mpicc")]

# Each rank says who it is. With `wait` they stay until SIGUSR1, and then end with 75; else they end
# with the number given.
PROGRAM = r"""
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t asked;
static void note(int signal) { asked = signal; }

int main(int argc, char** argv) {
  int rank, size;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  signal(SIGUSR1, note);
  printf("rank %d of %d, threads %s\n", rank, size, getenv("OMP_NUM_THREADS"));
  fflush(stdout);
  for (; strcmp(argv[1], "wait") == 0 && !asked;) {
    usleep(1000);
  }
  MPI_Finalize();
  return asked ? 75 : atoi(argv[1]);
}
"""


def clean_environment() -> dict[str, str]:
    """This process's without what says how to start ranks, such as CTest sets."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMPI_", "PRTE_", "PMIX_", "OMP_", "SLURM_"))
    }


def processes_of(program: Path) -> list[str]:
    """Numbers of the processes that run the program and have not ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "exe") == str(program):
                found.append(process.name)
        except OSError:  # ended, or another user's
            pass
    return found


class Started(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = Path(scratch.name).resolve()
        self.programs: dict[str, Path] = {}
        (self.directory / "program.c").write_text(PROGRAM)
        for compiler in COMPILERS:
            if shutil.which(compiler):
                program = self.directory / str(len(self.programs))
                command = [compiler, "program.c", "-o", str(program)]
                subprocess.run(command, cwd=self.directory, check=True, timeout=LIMIT)
                self.programs[compiler] = program
        self.assertTrue(self.programs)

    def run_it(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(RUN), *map(str, arguments)],
            env={**clean_environment(), **environment},
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    def test_ranks_of_each_mpi_find_each_other(self) -> None:
        for compiler, program in self.programs.items():
            with self.subTest(compiler):
                done = self.run_it("--ranks", 2, "--threads", 3, program, 0)
                self.assertEqual(0, done.returncode, done.stderr)
                lines = [line for line in done.stdout.splitlines() if line.startswith("rank")]
                expected = [f"rank {rank} of 2, threads 3" for rank in (0, 1)]
                self.assertEqual(expected, sorted(lines), done.stderr)

    def test_ranks_are_bound_to_the_domain_that_is_planned(self) -> None:
        """hwloc, which each MPI asks, makes up a machine with two NUMA domains of two cores."""
        two_domains = Machine(frozenset(), tuple(Processor(i, i, i // 2) for i in range(4)))
        made_up = {"HWLOC_SYNTHETIC": "pack:2 numa:1 core:2 pu:1", "HWLOC_THISSYSTEM": "0"}
        for compiler, path in self.programs.items():
            with self.subTest(compiler):
                program = find_program(str(path))
                launchers = tuple(find_launchers(program, None))
                facts = Facts(two_domains, {}, program, launchers, root=os.geteuid() == 0)
                planned = plan(facts, Options(), ("true",))
                command = list(planned.command)
                if program.abi == OPEN_MPI:
                    command[1:1] = ["--display-map", "--do-not-launch"]
                done = subprocess.run(
                    command,
                    env={
                        **clean_environment(),
                        **planned.environment,
                        **made_up,
                        "HYDRA_TOPO_DEBUG": "1",
                    },
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=LIMIT,
                )
                lines = re.findall(r".*(?:Bound: |Binding: |binding: ).*", done.stdout)
                bindings = sorted(line.strip() for line in lines)  # by rank: they come as they come
                self.assertEqual(2, len(bindings), done.stdout)
                self.assertRegex(bindings[0], r"socket 0.*core 1|package\[0\].*0-1|1100")
                self.assertRegex(bindings[1], r"socket 1.*core 3|package\[1\].*2-3|0011")

    def test_more_ranks_than_cores_start(self) -> None:
        ranks = 2 * len(os.sched_getaffinity(0)) + 1
        for compiler, program in self.programs.items():
            with self.subTest(compiler):
                done = self.run_it("--ranks", ranks, program, 0)
                self.assertEqual(0, done.returncode, done.stderr)
                self.assertEqual(ranks, done.stdout.count(f"of {ranks}, threads 1"), done.stderr)
                self.assertIn("share", done.stderr)

    def test_ends_with_the_status_of_the_command(self) -> None:
        for compiler, program in self.programs.items():
            with self.subTest(compiler):
                self.assertEqual(7, self.run_it("--ranks", 2, program, 7).returncode)

    def test_a_dry_run_says_what_it_would_start(self) -> None:
        for compiler, program in self.programs.items():
            with self.subTest(compiler):
                done = self.run_it("--dry-run", "--ranks", 2, program, 0)
                self.assertEqual((0, ""), (done.returncode, done.stdout))
                self.assertRegex(done.stderr.splitlines()[-1], rf"^== .* -n 2 .*{program} 0$")

    def test_packages_of_others_are_not_taken_for_its_own(self) -> None:
        (self.directory / "launch").mkdir()
        (self.directory / "launch" / "__init__.py").write_text("raise SystemExit('of others')")
        for safe in ("", "1"):
            others = {"PYTHONPATH": str(self.directory), "PYTHONSAFEPATH": safe}
            done = self.run_it("--dry-run", "true", **others)
            self.assertEqual(0, done.returncode, done.stderr)

    def test_a_misspelt_option_is_refused_with_where_they_are_listed(self) -> None:
        done = self.run_it("--rank", 2, "printenv")
        self.assertEqual((2, ""), (done.returncode, done.stdout))
        self.assertRegex(done.stderr, r"--rank\b.*\. Try '.*run --help'\.\n$")

    def test_batch_files_say_where_to_submit_them(self) -> None:
        for file in sorted((ROOT / "launcher" / "slurm").glob("*.sbatch")):
            with self.subTest(file.name):
                for elsewhere, status, said in (
                    (
                        self.directory,
                        2,
                        rf"no {self.directory}/launcher/run .*\. Call sbatch at the top",
                    ),
                    (ROOT, 2, r"no program /nowhere/syncbn\. Has it been built"),
                ):
                    done = subprocess.run(
                        ["bash", str(file)],
                        env={
                            **clean_environment(),
                            "SLURM_SUBMIT_DIR": str(elsewhere),
                            "SLURM_JOB_ID": "7",
                            "SYNCBN": "/nowhere/syncbn",
                        },
                        cwd=self.directory,
                        capture_output=True,
                        text=True,
                        timeout=LIMIT,
                    )
                    self.assertEqual((status, ""), (done.returncode, done.stdout))
                    self.assertRegex(done.stderr, said)

    def test_starts_what_is_linked_with_no_mpi(self) -> None:
        done = self.run_it("--ranks", 2, "printenv", "PLANTED", PLANTED="word")
        self.assertEqual((0, "word\nword\n"), (done.returncode, done.stdout), done.stderr)

    def test_refuses_the_launcher_of_another_mpi(self) -> None:
        if not {"mpicc.openmpi", "mpicc.mpich"} <= self.programs.keys():
            self.skipTest("takes Open MPI and MPICH")
        for compiler, other in (("mpicc.openmpi", "mpich"), ("mpicc.mpich", "openmpi")):
            done = self.run_it("--mpirun", f"mpirun.{other}", self.programs[compiler], 0)
            self.assertEqual((2, ""), (done.returncode, done.stdout))
            self.assertIn("is linked with", done.stderr)

    def test_leaves_nothing_behind_when_it_is_ended(self) -> None:
        for compiler, program in self.programs.items():
            for sent, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
                with self.subTest(compiler, signal=sent):
                    self.assertEqual(status, self.status_after(sent, program))
                    self.assertEqual([], processes_of(program))

    def test_passes_sigusr1_on_to_the_ranks(self) -> None:
        for compiler, program in self.programs.items():
            with self.subTest(compiler):
                # mpirun of MPICH 4.0.2 by itself loses the status after a signal, 22 times of 60.
                statuses = {75, 0} if compiler == "mpicc.mpich" else {75}
                self.assertIn(self.status_after(signal.SIGUSR1, program), statuses)

    def status_after(self, sent: signal.Signals, program: Path) -> int:
        """Returns the exit status of a job of two ranks that gets the signal when both are there."""
        with subprocess.Popen(
            [str(RUN), "--ranks", "2", str(program), "wait"],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as job:
            assert job.stdout
            watchdog = threading.Timer(LIMIT, job.kill)
            watchdog.start()
            for _ in range(2):
                self.assertRegex(job.stdout.readline(), "rank . of 2")
            job.send_signal(sent)
            status = job.wait(LIMIT)
            watchdog.cancel()
            return status


if __name__ == "__main__":
    if not any(map(shutil.which, COMPILERS)):
        print("SKIPPED: there is no MPI to start ranks of (mpicc.openmpi, mpicc.mpich)")
        sys.exit(77)
    unittest.main(verbosity=2)
