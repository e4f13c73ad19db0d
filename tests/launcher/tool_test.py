#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The built tool under launcher/run with an MPI from PyPI: with another than it was built with, where the
two have one ABI, and with its own.

PATH has the launchers of the system's MPIs, as it does where no module of the other is loaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "launcher"))
from launch.facts import MPICH, OPEN_MPI, find_program

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "launcher" / "run"
LIMIT = 120  # s for a job


@dataclass(frozen=True)
class Mpi:
    abi: str
    plan: str  # how launcher/run names it
    name: str  # how it names itself
    wrong: str  # a launcher of another


MPIS = {
    "intelmpi": Mpi(MPICH, "Intel MPI 2021", "Intel(R) MPI Library 2021", "mpirun.openmpi"),
    "mpich5": Mpi(MPICH, "MPICH 5", "MPICH Version 5", "mpirun.openmpi"),
    "openmpi": Mpi(OPEN_MPI, "Open MPI 5", "Open MPI v5", "mpirun.mpich"),
}


def environment(**changed: str) -> dict[str, str]:
    """This process's without what says how to start ranks, such as CTest sets."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMPI_", "PRTE_", "PMIX_", "PMI_", "I_MPI_", "OMP_", "SLURM_"))
    }
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return {**ours, **as_root, "OMP_NUM_THREADS": "1", **changed}


class Tool(unittest.TestCase):
    tool: Path
    prefix: Path
    mpi: Mpi

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)
        self.libraries = ""  # what the dynamic loader finds first
        if self.mpi.abi == MPICH:
            # Debian names MPICH's libmpi.so.12 otherwise.
            (self.scratch / "libmpich.so.12").symlink_to(self.prefix / "lib" / "libmpi.so.12")
            needed = (self.scratch, self.prefix / "lib", self.prefix / "lib" / "mpich")
            self.libraries = os.pathsep.join(map(str, needed))

    def start(self, *command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)),
            env=environment(LD_LIBRARY_PATH=self.libraries),
            cwd=self.scratch,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    def test_ranks_give_the_result_of_one_process(self) -> None:
        done = self.start(RUN, "--ranks", 2, self.tool, "check", "--quick")
        self.assertEqual(0, done.returncode, done.stderr + done.stdout)
        self.assertIn("PASS: 2 ranks", done.stdout)
        self.assertIn(f"== {self.mpi.plan}", done.stderr)

    def test_the_library_is_the_one_that_was_meant(self) -> None:
        done = self.start(RUN, "--ranks", 2, self.tool, "info")
        self.assertIn(f"over {self.mpi.name}", done.stdout, done.stderr)
        self.assertRegex(done.stdout, r"ranks +2")
        if self.mpi.abi == MPICH:
            self.libraries = ""
            self.assertNotIn(self.mpi.name, self.start(self.tool, "info").stdout)

    def test_ranks_train(self) -> None:
        done = self.start(RUN, "--ranks", 2, self.tool, "train", "--model", "cnn", "--steps", 20)
        if "--data" in done.stderr and not Path("/usr/share/datasets/fashion-mnist").exists():
            self.skipTest("there is no data set (dataset-fashion-mnist)")
        self.assertEqual(0, done.returncode, done.stderr + done.stdout)
        self.assertIn("\n2 ranks, 64 samples a step, 20 steps\n", done.stdout)

    def test_the_first_line_names_the_launcher_of_another_mpi(self) -> None:
        if not shutil.which(self.mpi.wrong):
            self.skipTest(f"there is no {self.mpi.wrong}")
        done = self.start(self.mpi.wrong, "-n", 2, self.tool, "check", "--quick")
        self.assertNotEqual(0, done.returncode)
        lines = done.stderr.splitlines()
        if self.mpi.abi == OPEN_MPI:  # which has a word of its own first, that it found no PMIx
            lines = [line for line in lines if line.startswith("syncbn")]
        first = lines[0]
        self.assertRegex(first, "^syncbn check: started as 2 processes by ")
        self.assertIn(f"but this build has {self.mpi.name}", first)
        self.assertRegex(first, rf"`{self.prefix}/bin/mpi(exec.hydra|run) -n 2 syncbn check")

    def test_run_refuses_the_launcher_of_another_mpi(self) -> None:
        if not shutil.which(self.mpi.wrong):
            self.skipTest(f"there is no {self.mpi.wrong}")
        done = self.start(RUN, "--mpirun", self.mpi.wrong, "--ranks", 2, self.tool, "info")
        self.assertEqual((2, ""), (done.returncode, done.stdout))
        self.assertIn("is linked with", done.stderr)


def main() -> None:
    tool, name = sys.argv[1:]
    Tool.mpi = MPIS[name]
    Tool.tool = Path(tool).resolve()
    Tool.prefix = ROOT / "build" / name
    if find_program(tool).abi != Tool.mpi.abi:
        sys.exit(f"{tool} is not linked with an MPI of the ABI of {name}")
    installed = subprocess.run(
        [ROOT / "tests" / "launcher" / "pypi_mpi", name], stdout=subprocess.PIPE, text=True
    )
    if installed.returncode != 0:
        print(installed.stdout, end="")
        sys.exit(installed.returncode)
    unittest.main(argv=sys.argv[:1], verbosity=2)


if __name__ == "__main__":
    main()
