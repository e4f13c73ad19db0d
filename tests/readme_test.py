#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the README says is true: its commands, programs, options, directories and links.

Usage: readme_test.py BUILD_DIR INSTALLED_PREFIX WORK_DIR [unittest options]
"""

import os
import re
import shlex
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TABLE_DIRECTORY = re.compile(r"^\| \[`([^`]+)`\]\(([^)]+)\) \|", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")

CONSUMER = """
cmake_minimum_required(VERSION 3.25)
project(readme LANGUAGES C CXX)
find_package(syncbn REQUIRED COMPONENTS MPI)
add_compile_options(-Wall -Wextra -Werror)
find_package(CUDAToolkit QUIET)
if(CUDAToolkit_FOUND)
  foreach(source IN LISTS device_sources)
    string(MAKE_C_IDENTIFIER ${source} name)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE syncbn::syncbn syncbn::mpi CUDA::cudart)
  endforeach()
endif()
foreach(source IN LISTS sources)
  string(MAKE_C_IDENTIFIER ${source} name)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE syncbn::syncbn syncbn::mpi)
  set_target_properties(${name} PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
endforeach()
"""


def blocks(*languages):
    return [text for language, text in BLOCK.findall(README) if language in languages]


def commands():
    """The lines of the README's shell blocks, without prompts and comments."""
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.split(" #")[0].strip()
            if line and not line.startswith("#"):
                yield line


def run(*command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300, check=False, **options)
    if done.returncode:
        raise AssertionError(f"{shlex.join(map(str, command))}: exit code {done.returncode}\n"
                             f"{done.stdout}")
    return done.stdout


def directories(parent):
    return {entry.name for entry in parent.iterdir()
            if entry.is_dir() and not entry.name.startswith(".") and entry.name != "build"}


class Readme(unittest.TestCase):
    def test_first_screen_has_the_two_commands(self):
        first_screen = README.splitlines()[:40]
        for command in ("./launcher/quickstart", "./tests/run"):
            self.assertTrue(any(line.startswith(command) for line in first_screen), command)

    def test_scripts_exist(self):
        scripts = [words[0] for words in map(str.split, commands()) if words[0].startswith("./")]
        self.assertTrue(scripts)
        for script in scripts:
            self.assertTrue(os.access(ROOT / script, os.X_OK), script)

    def test_top_level_directories(self):
        rows = TABLE_DIRECTORY.findall(README)
        named = {name for name, _ in rows}
        self.assertEqual(directories(ROOT), {name for name in named if "/" not in name})
        for name, target in rows:
            self.assertTrue((ROOT / target).is_dir(), target)

    def test_directories_of_src(self):
        text = (ROOT / "src/README.md").read_text()
        named = re.findall(r"^\*\*`(\w+)`\*\*", text, re.MULTILINE)
        self.assertEqual(sorted(directories(ROOT / "src")), sorted(named))

    def test_links(self):
        for document in [*ROOT.glob("*.md"), *ROOT.glob("src/*.md"), *ROOT.glob("tests/*/*.md")]:
            for link in LINK.findall(document.read_text()):
                if "://" not in link:
                    self.assertTrue((document.parent / link).exists(), f"{document.name}: {link}")

    def test_programs_compile_and_run(self):
        programs = [("cpp", text) for text in blocks("cpp")] + [("c", text) for text in blocks("c")]
        self.assertTrue(programs)
        work = WORK / "programs"
        work.mkdir(parents=True, exist_ok=True)
        (work / "CMakeLists.txt").write_text(CONSUMER)
        sources, device_sources = [], []
        for number, text in enumerate(blocks("cuda")):  # compiled where CUDA is, and not run
            device_sources.append(f"device{number}.cpp")
            (work / device_sources[-1]).write_text(text)
        self.assertTrue(device_sources)
        for number, (suffix, text) in enumerate(programs):
            sources.append(f"program{number}.{suffix}")
            (work / sources[-1]).write_text(text)
        run("cmake", "-S", work, "-B", work / "build", f"-DCMAKE_PREFIX_PATH={PREFIX}",
            "-DCMAKE_BUILD_TYPE=Release", "-Dsources=" + ";".join(sources),
            "-Ddevice_sources=" + ";".join(device_sources))
        run("cmake", "--build", work / "build")
        for source in sources:
            run("mpirun", "-n", "2", work / "build" / source.replace(".", "_"))

    def test_tool_commands(self):
        """Each `syncbn NAME` shown is a subcommand, and has the options shown with it."""
        shown = [re.search(r"\bsyncbn ([a-z]+)(.*)", line) for line in commands()]
        shown = [match for match in shown if match]
        self.assertTrue(shown)
        for match in shown:
            text = run(BUILD / "bin/syncbn", match[1], "--help")
            for option in OPTION.findall(match[2]):
                self.assertIn(option, OPTION.findall(text), match[0])

    def test_script_options(self):
        for line in commands():
            script, _, arguments = line.partition(" ")
            if script.startswith("./"):
                text = run(ROOT / script, "--help")
                for option in OPTION.findall(arguments.split(" -- ")[0]):
                    self.assertIn(option, OPTION.findall(text), line)


if __name__ == "__main__":
    BUILD, PREFIX, WORK = (Path(argument).resolve() for argument in sys.argv[1:4])
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
