#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Spack recipe, read by the Spack of SPACK_ROOT, or else of PATH: it passes the audit, and a fault in
it is found. Nothing is built, as that takes too long."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "cmake" / "spack"
LIMIT = 800  # s; Spack's first run reads thousands of recipes


class Recipe(unittest.TestCase):
    spack: str

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.recipes = Path(scratch.name) / "recipes"
        shutil.copytree(RECIPES, self.recipes)
        self.recipe = self.recipes / "packages" / "syncbn" / "package.py"
        self.scope = Path(scratch.name) / "scope"
        self.scope.mkdir()
        # JSON is YAML.
        repositories = {"repos": {"syncbn": str(self.recipes)}}
        (self.scope / "repos.yaml").write_text(json.dumps(repositories))

    def run_spack(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.spack, "--no-color", "--config-scope", self.scope, *arguments],
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )

    def test_the_audit_finds_no_fault(self) -> None:
        done = self.run_spack("audit", "packages", "syncbn")
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)

    def test_the_audit_finds_a_dependency_that_does_not_exist(self) -> None:
        text = self.recipe.read_text()
        self.assertIn('"highway@', text)
        self.recipe.write_text(text.replace('"highway@', '"highwey@'))
        done = self.run_spack("audit", "packages", "syncbn")
        self.assertNotEqual(0, done.returncode)
        self.assertIn("highwey", done.stdout + done.stderr)


def main() -> None:
    root = os.environ.get("SPACK_ROOT")
    found = shutil.which("spack", path=f"{root}/bin" if root else None)
    if found is None:
        where = f"SPACK_ROOT, {root}" if root else "PATH, and no SPACK_ROOT"
        print(f"SKIPPED: there is no Spack in {where}")
        sys.exit(77)
    Recipe.spack = found
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
