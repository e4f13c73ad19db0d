#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Spack recipe beside the build that it describes: it sets every option, by its name, and wants the
versions that CMake looks for. It takes no Spack; ./spack_test.py does."""

from __future__ import annotations

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPE = (ROOT / "cmake/spack/packages/syncbn/package.py").read_text()
OPTIONS = (ROOT / "CMakeLists.txt").read_text()
SEARCHES = (ROOT / "cmake/SyncbnDependencies.cmake").read_text()
# What CMake's find_package calls by another name.
SPACK_NAMES = {
    "nlohmann_json": "nlohmann-json",
    "MPI": "mpi",
    "CUDAToolkit": "cuda",
    "NCCL": "nccl",
    "Python": "python",
    "Boost": "boost",
}


def faults(recipe: str) -> list[str]:
    """What is wrong with a recipe, in sentences."""
    found = []
    known = set(re.findall(r"^(?:set|option)\((\w+) ", OPTIONS, re.MULTILINE))
    left_to_chance = set(re.findall(r"^set\((SYNCBN_\w+) AUTO CACHE", OPTIONS, re.MULTILINE))
    put = set(re.findall(r'self\.define(?:_from_variant)?\("((?:SYNCBN|BUILD)_\w+)"', recipe))
    found += [f"{each} is no option of CMakeLists.txt" for each in sorted(put - known)]
    found += [f"{each} is left at AUTO" for each in sorted(left_to_chance - put)]

    variants = set(re.findall(r'^    variant\("(\w+)"', recipe, re.MULTILINE)) | {"cuda"}
    used = set(re.findall(r'define_from_variant\("\w+", "(\w+)"', recipe))
    used |= set(re.findall(r'(?:when=f?|satisfies\()"[+~](\w+)', recipe))
    found += [f"{each} is no variant" for each in sorted(used - variants)]

    wanted = dict(re.findall(r'(?:depends_on|extends)\("([\w-]+)@([\d.]+):', recipe))
    searched = re.findall(r"find_package\((\w+) ([\d.]+)", SEARCHES)
    for name, version in sorted(set(searched)):
        of_recipe = wanted.get(SPACK_NAMES[name], "any")
        if re.sub(r"\.0$", "", version) != of_recipe:
            found.append(f"{name}: CMake looks for {version}, the recipe wants {of_recipe}")
    minimum = re.search(r"cmake_minimum_required\(VERSION ([\d.]+)", OPTIONS)
    assert minimum
    if wanted.get("cmake") != minimum[1]:
        found.append(f"CMake {minimum[1]} is needed, the recipe wants {wanted.get('cmake')}")
    return found


class Recipe(unittest.TestCase):
    def test_sets_what_the_build_has(self) -> None:
        self.assertEqual([], faults(RECIPE))

    def test_planted_faults_are_found(self) -> None:
        for right, wrong, said in (
            ('"SYNCBN_MPI"', '"SYNCBN_MPY"', "SYNCBN_MPY is no option of CMakeLists.txt"),
            ('self.define("SYNCBN_DOCS", False),\n', "", "SYNCBN_DOCS is left at AUTO"),
            ('"SYNCBN_TOOL", "tool"', '"SYNCBN_TOOL", "tol"', "tol is no variant"),
            ('when="+onednn"', 'when="+dnnl"', "dnnl is no variant"),
            ("boost@1.70:", "boost@1.69:", "Boost: CMake looks for 1.70, the recipe wants 1.69"),
            ("nccl@2.19:", "nccl", "NCCL: CMake looks for 2.19, the recipe wants any"),
            ("cmake@3.25:", "cmake@3.20:", "CMake 3.25 is needed, the recipe wants 3.20"),
        ):
            self.assertIn(right, RECIPE)
            self.assertIn(said, faults(RECIPE.replace(right, wrong)))


if __name__ == "__main__":
    unittest.main()
