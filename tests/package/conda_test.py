#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The conda recipe, rendered by rattler-build: what it makes for which MPI, and that faults are found.
Nothing is built, as that takes conda-forge's servers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import unittest
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "cmake" / "conda" / "recipe.yaml"
LIMIT = 300  # s
RATTLER = "py-rattler-build==0.73.0"
# Prints [name, version, build string] of what a recipe makes. conda-forge pins compilers for all recipes.
RENDER = """
import json, sys
from rattler_build import Stage0Recipe, VariantConfig
pinned = "c_compiler: [gcc]\\ncxx_compiler: [gxx]\\nc_stdlib: [sysroot]\\nc_stdlib_version: ['2.28']\\n"
variants = VariantConfig.from_yaml(pinned + open(sys.argv[2]).read())
made = Stage0Recipe.from_yaml(open(sys.argv[1]).read()).render(variants)
print(json.dumps([[each.recipe.package.name, str(each.recipe.package.version),
                   each.recipe.build.string] for each in made]))
"""


class Recipe(unittest.TestCase):
    python: Path

    def render(self, text: str) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as scratch:
            recipe = Path(scratch) / "recipe.yaml"
            recipe.write_text(text)
            variants = RECIPE.with_name("conda_build_config.yaml")
            return subprocess.run(
                [self.python, "-c", RENDER, recipe, variants],
                capture_output=True,
                text=True,
                timeout=LIMIT,
            )

    def test_makes_a_library_and_a_tool_for_each_mpi_and_one_python_package(self) -> None:
        done = self.render(RECIPE.read_text())
        self.assertEqual(0, done.returncode, done.stderr)
        made = json.loads(done.stdout)
        parts = (ROOT / "include/syncbn/c/version.h").read_text()
        version = ".".join(re.findall(r"VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", parts))
        self.assertEqual({version}, {each[1] for each in made})
        different = {(name, build) for name, _, build in made}
        builds = sorted(
            f"{name} {re.sub('_?h[0-9a-f]{7}_0', '', build)}" for name, build in different
        )
        expected = [
            f"{name} mpi_{mpi}"
            for name in ("libsyncbn", "syncbn-tools")
            for mpi in ("mpich", "nompi", "openmpi")
        ]
        self.assertEqual(sorted([*expected, "syncbn "]), builds)

    def test_a_misspelt_field_or_variable_is_found(self) -> None:
        text = RECIPE.read_text()
        for right, wrong in (("    requirements:", "    requirments:"), ("{{ mpi }}", "{{ mpy }}")):
            self.assertIn(right, text)
            done = self.render(text.replace(right, wrong))
            self.assertNotEqual(0, done.returncode, wrong)
            self.assertIn(wrong.strip(" {}:"), done.stderr)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        Recipe.python = Path(scratch) / "bin" / "python"
        done = subprocess.run(
            [Recipe.python, "-m", "pip", "install", "--quiet", "--retries", "2", RATTLER],
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        if done.returncode != 0:
            print(f"SKIPPED: pip could not install {RATTLER} ({done.stderr.strip()[-200:]})")
            sys.exit(77)
        unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
