#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""launcher/quickstart says what to do where it cannot go on.

It runs in a copy of its directory, with planted programs: nothing is installed or built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60  # s
NEEDED = [
    "awk",
    "bash",
    "cat",
    "cut",
    "dirname",
    "env",
    "grep",
    "head",
    "kill",
    "ls",
    "mktemp",
    "nproc",
]
NEEDED += ["ps", "readlink", "rm", "sed", "setsid", "sleep", "sort", "timeout", "tr"]


class Quickstart(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.checkout = Path(scratch.name).resolve() / "a checkout"
        self.programs = Path(scratch.name).resolve() / "bin"
        self.programs.mkdir()
        shutil.copytree(ROOT / "launcher", self.checkout / "launcher")
        for name in NEEDED:
            (self.programs / name).symlink_to(
                shutil.which(name) or self.fail(f"there is no {name}")
            )
        for name in ("ninja", "mpirun", "python3"):
            self.plant(name, "exit 0")
        self.plant("cmake", 'echo "cmake version 3.25.1"')

    def plant(self, name: str, script: str) -> None:
        (self.programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.programs / name).chmod(0o755)

    def refused(self, *options: str) -> str:
        done = subprocess.run(
            [str(self.checkout / "launcher" / "quickstart"), *options],
            env={"PATH": str(self.programs), "HOME": os.environ.get("HOME", "/")},
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        self.assertEqual(1, done.returncode, done.stdout + done.stderr)
        return done.stderr

    def test_a_program_that_is_missing(self) -> None:
        (self.programs / "ninja").unlink()
        self.assertIn("no ninja found. Install it", self.refused("--no-install"))

    def test_a_cmake_that_is_too_old(self) -> None:
        for version in ("3.22.6", "3.9"):
            self.plant("cmake", f'echo "cmake version {version}"')
            self.assertRegex(
                self.refused("--no-install"),
                rf"cmake is {version} \(3\.25 or newer .*pip install cmake",
            )

    def test_configuring_that_fails(self) -> None:
        for version in ("3.25.1", "3.31.2", "4.0.0-rc1"):
            self.plant(
                "cmake",
                f'[[ $1 == --version ]] && {{ echo "cmake version {version}"; exit; }}\n'
                "echo planted failure >&2; exit 1",
            )
            said = self.refused("--no-install")
            self.assertIn("planted failure", said)
            self.assertIn("launcher/install-packages build installs it", said)
            self.assertIn(f"rm -r '{self.checkout}/build/release'", said)

    def test_packages_without_network(self) -> None:
        self.plant("dpkg-query", "exit 0")
        self.plant("sudo", '"$@"')
        self.plant("apt-get", "[[ $* == *' update'* ]] || { echo planted failure >&2; exit 100; }")
        said = self.refused()
        self.assertRegex(said, r"could not install: cmake .*is there a network")
        self.assertIn("quickstart: cannot go on", said)

    def test_an_option_of_the_tool(self) -> None:
        self.assertIn("go behind --", self.refused("--epochs", "3"))


if __name__ == "__main__":
    unittest.main()
