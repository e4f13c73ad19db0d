#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The shared libraries export the public names and nothing else, and need only what they say.

Usage: symbols_test.py [--nm PROGRAM] [--readelf PROGRAM] [--mpi LIBSYNCBN_MPI] [--static ARCHIVE]
                       LIBSYNCBN
"""

import argparse
import re
import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent

# A name of C++ in namespace syncbn: a function, or a class's table or type information.
OURS = re.compile(r"_Z(NK?|T[VIS]N)6syncbn")
INTERNAL = re.compile(r"_Z(NK?|T[VIS]N)6syncbn4(comm|capi)")
NODE = re.compile(r"SYNCBN(_MPI)?_\d+\.\d+(\.\d+_INTERNAL)?")  # version nodes are symbols, too
# What only programs that ask for it may need: by library, and by function.
BACKEND_LIBRARY = re.compile(r"lib(\w*mpi\w*|open-\w+|nccl|cuda|cudart|nvidia\S*)\.so")
BACKEND_FUNCTION = re.compile(r"P?MPIX?_|nccl[A-Z]|cu[A-Z]")  # cuda... is the runtime, linked statically


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def symbols(*options):
    """Names that nm lists, each with its version, "" for none."""
    found = {}
    for line in output(ARGUMENTS.nm, *options).splitlines():
        if line and not line.endswith(":"):
            name, _, version = line.split()[-1].partition("@")
            found[name] = version.lstrip("@")
    return found


def exported(library):
    return {name: version for name, version in symbols("-D", "--defined-only", library).items()
            if not NODE.fullmatch(name)}


def undefined(*files):
    return set(symbols("--undefined-only", *files))


def needed(library):
    return re.findall(r"\(NEEDED\).*\[(.+)\]", output(ARGUMENTS.readelf, "-dW", library))


def version_of_headers():
    header = (HERE.parent.parent / "include/syncbn/c/version.h").read_text()
    return ".".join(re.findall(r"#define SYNCBN_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header))


def listed(name):
    return set((HERE / name).read_text().split())


def differences(names, expected, file):
    return ([f"{name} is exported and not in {file}" for name in sorted(names - expected)] +
            [f"{name} is in {file} and not exported" for name in sorted(expected - names)])


def without_call(functions, text):
    return sorted(name for name in functions if not re.search(rf"\b{name}\(", text))


def strangers(names):
    """What is neither of our C interface nor of our C++ one."""
    return sorted(name for name in names if not name.startswith("syncbn_") and not OURS.match(name))


def any_of_its_kind(name):
    """A constructor or destructor stands in a library once for objects of its own class and once for
    a base; programs use either."""
    return re.sub(r"([CD])[12](?=E)", r"\g<1>?", name)


class Exports(unittest.TestCase):
    def check_c_functions(self, library, file):
        names = {name for name in exported(library) if name.startswith("syncbn_")}
        expected = listed(file)
        self.assertEqual([], differences(names, expected, file))
        # The comparison finds one that is missing, and one that was added.
        least = min(names)
        self.assertEqual([f"{least} is in {file} and not exported"],
                         differences(names - {least}, expected, file))
        self.assertEqual([f"{least} is exported and not in {file}"],
                         differences(names, expected - {least}, file))

    def test_c_functions_are_those_listed(self):
        self.check_c_functions(ARGUMENTS.library, "libsyncbn.symbols")

    def test_every_c_function_is_called_by_a_test(self):
        tests = "".join(file.read_text() for file in sorted((HERE.parent / "capi").glob("*.c")))
        functions = listed("libsyncbn.symbols") | listed("libsyncbn_mpi.symbols")
        self.assertEqual([], without_call(functions, tests))
        self.assertEqual(["syncbn_of_no_test"], without_call(functions | {"syncbn_of_no_test"}, tests))

    def test_c_functions_of_mpi_are_those_listed(self):
        if not ARGUMENTS.mpi:
            self.skipTest("built without MPI")
        self.check_c_functions(ARGUMENTS.mpi, "libsyncbn_mpi.symbols")

    def test_nothing_else_is_exported(self):
        for library in filter(None, [ARGUMENTS.library, ARGUMENTS.mpi]):
            self.assertEqual([], strangers(exported(library)), library)
        seeds = ["_ZN3hwy16SupportedTargetsEv", "_ZNSt6vectorIdSaIdEE17_M_realloc_insertEv", "main",
                 "_ZTIN8nlohmann6detail9exceptionE"]
        self.assertEqual(sorted(seeds), strangers(["syncbn_version", "_ZN6syncbn7versionEv", *seeds]))

    def test_internals_have_a_version_of_their_own(self):
        versions = exported(ARGUMENTS.library)
        internals = {name for name in versions if INTERNAL.match(name)}
        self.assertEqual(internals, {name for name, version in versions.items()
                                     if version.endswith("_INTERNAL")})

    def test_internals_are_those_that_libsyncbn_mpi_uses(self):
        if not ARGUMENTS.mpi:
            self.skipTest("built without MPI")
        internals = set(filter(INTERNAL.match, exported(ARGUMENTS.library)))
        asked_for = {name: version for name, version in
                     symbols("-D", "--undefined-only", ARGUMENTS.mpi).items() if INTERNAL.match(name)}
        used = set(asked_for)
        self.assertTrue(used)
        self.assertEqual(sorted({*map(any_of_its_kind, used)}),
                         sorted({*map(any_of_its_kind, internals)}))
        # The loader refuses a library that has not the same version.
        self.assertEqual({f"SYNCBN_{version_of_headers()}_INTERNAL"}, set(asked_for.values()))


class Needs(unittest.TestCase):
    def test_libsyncbn_needs_no_backend(self):
        self.assertEqual([], list(filter(BACKEND_LIBRARY.match, needed(ARGUMENTS.library))))
        self.assertEqual([], list(filter(BACKEND_FUNCTION.match, undefined("-D", ARGUMENTS.library))))

    def test_the_static_library_needs_no_backend(self):
        if not ARGUMENTS.static:
            self.skipTest("shared libraries were built")
        functions = undefined(ARGUMENTS.static)
        self.assertTrue(functions)
        self.assertEqual([], list(filter(BACKEND_FUNCTION.match, functions)))

    def test_libsyncbn_mpi_needs_mpi(self):
        if not ARGUMENTS.mpi:
            self.skipTest("built without MPI")
        self.assertTrue(list(filter(BACKEND_LIBRARY.match, needed(ARGUMENTS.mpi))))
        self.assertIn("MPI_Initialized", filter(BACKEND_FUNCTION.match, undefined("-D", ARGUMENTS.mpi)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nm", default="nm")
    parser.add_argument("--readelf", default="readelf")
    parser.add_argument("--mpi")
    parser.add_argument("--static")
    parser.add_argument("library")
    ARGUMENTS, others = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *others])
