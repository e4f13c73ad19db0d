#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes go one way, and each of the library's two switches is in one place."""

import re
import shutil
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Part of src -> the other parts whose headers it may include. All may include public headers.
MAY_INCLUDE = {
    "core": set(),
    "state": {"core"},
    "cuda": {"core"},
    "channels": {"core"},
    "kernels": {"channels", "cuda", "core"},
    "comm": {"cuda", "core"},
    "bn": {"kernels", "channels", "comm", "cuda", "state", "core"},
    "capi": {"bn", "core"},
    "python": {"cuda", "core"},
    "trainer": set(),
    "app": {"trainer", "comm", "state", "cuda", "core"},
    "simulation": set(),
}
# Part of src -> its rooms -> the other rooms whose headers each may include. "" is the part's own
# directory; comm has nothing there.
ROOMS = {
    "comm": {
        "group": set(),
        "node": {"group"},
        "host": {"node", "group"},
        "mpi": {"host", "node", "group"},
        "device": {"group"},
        "nccl": {"device", "group"},
    },
    "bn": {
        "": {"host", "device"},
        "host": {""},
        "device": {""},
    },
}
# The files that may include headers of a backend.
BACKEND_HEADER = re.compile(r"<(mpi\.h|mpi-ext\.h|nccl\.h|cuda.*)>")
SEES_BACKEND = re.compile(r"include/syncbn/(mpi\.hpp|c/mpi\.h)|src/(comm|capi|app)/.*mpi.*"
                          r"|src/((kernels|comm/device)/)?cuda/.*|src/comm/nccl/.*|src/simulation/.*")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"][^">]+[">])', re.MULTILINE)
# The library's own two switches; the tool may have its own mappings.
TOOL = re.compile(r"src/(trainer|app)/.*")
DTYPE_SWITCH = re.compile(r"\bcase\s+(syncbn::)?DType::")
DTYPE_SWITCH_AT = {"include/syncbn/dtype.hpp", "src/core/visit_dtype.hpp"}
BACKEND_SWITCH = re.compile(r"\bcase\s+(syncbn::)?Backend::|[=!]=\s*(syncbn::)?Backend::")
BACKEND_SWITCH_AT = {"include/syncbn/backend.hpp", "src/kernels/select.cpp"}


def sources(root):
    for top in ("include", "src"):
        for file in sorted((root / top).rglob("*")):
            if file.suffix in (".cpp", ".hpp", ".c", ".h", ".cu", ".cuh"):
                yield file.relative_to(root).as_posix(), file.read_text()


def without_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def wrong_include(name, header):
    """Why the file may not include <header> or "header", or None."""
    if header.startswith("<"):
        if BACKEND_HEADER.match(header) and not SEES_BACKEND.fullmatch(name):
            return "only files of that backend may"
        if header.startswith("<syncbn/"):
            return "our headers are included in quotes"
        return None
    target = header.strip('"').split("/")[0]
    if target == "syncbn":
        return None
    if name.startswith("include/"):
        return "public headers include public headers only"
    if target not in MAY_INCLUDE:
        return "name the header from src, as in \"core/visit_dtype.hpp\""
    part = name.split("/")[1]
    if target != part and target not in MAY_INCLUDE[part]:
        return not_allowed(part, MAY_INCLUDE[part])
    if target == part and part in ROOMS:
        from_room, to_room = room_of(name.removeprefix("src/")), room_of(header.strip('"'))
        allowed = ROOMS[part].get(from_room, set())
        if to_room != from_room and to_room not in allowed:
            return not_allowed(f"{part}/{from_room}", {f"{part}/{room}" for room in allowed})
    return None


def room_of(path):
    """The directory inside a part, "" for the part's own."""
    between = path.split("/")[1:-1]
    return between[0] if between else ""


def not_allowed(place, others):
    allowed = ", ".join(sorted(others)) or "no others"
    return f"{place} may include: {allowed}"


def violations(root):
    found = [f"src/{directory.name}: not in the table of tests/layers_test.py"
             for directory in sorted((root / "src").iterdir())
             if directory.is_dir() and directory.name not in MAY_INCLUDE]
    if found:
        return found
    for name, text in sources(root):
        for header in INCLUDE.findall(text):
            why = wrong_include(name, header)
            if why:
                found.append(f"{name} includes {header}: {why}")
        if TOOL.fullmatch(name):
            continue
        code = without_comments(text)
        if DTYPE_SWITCH.search(code) and name not in DTYPE_SWITCH_AT:
            found.append(f"{name} switches on DType: use visit_dtype")
        if BACKEND_SWITCH.search(code) and name not in BACKEND_SWITCH_AT:
            found.append(f"{name} looks at a Backend: use kernels::select")
    return found


class Layers(unittest.TestCase):
    def test_this_tree(self):
        self.assertEqual([], violations(ROOT))

    def test_finds_what_is_seeded(self):
        seeds = [
            ("src/core/seed.hpp", '#include "kernels/kernels.hpp"'),
            ("src/channels/seed.hpp", '#include "kernels/kernels.hpp"'),
            ("src/kernels/seed.cpp", '#include "comm/group/group.hpp"'),
            ("src/kernels/cuda/seed.cu", '#include "bn/host/phases.hpp"'),
            ("src/cuda/seed.cuh", '#include "kernels/kernels.hpp"'),
            ("src/kernels/seed.cpp", "#include <cuda_runtime.h>"),
            ("src/comm/group/seed.cpp", '# include "bn/validate.hpp"'),
            ("src/comm/group/seed.cpp", '#include "comm/node/exchange.hpp"'),
            ("src/comm/device/seed.cpp", '#include "comm/nccl/comm.hpp"'),
            ("src/comm/seed.cpp", '#include "comm/group/group.hpp"'),
            ("src/bn/host/seed.cpp", '#include "bn/device/place.hpp"'),
            ("src/bn/device/seed.cpp", '#include "bn/host/phases.hpp"'),
            ("src/trainer/seed.cpp", '#include "core/visit_dtype.hpp"'),
            ("src/simulation/seed.cpp", '#include "comm/group/group.hpp"'),
            ("src/bn/seed.cpp", "#include <mpi.h>"),
            ("src/bn/seed.cpp", '#include "../core/visit_dtype.hpp"'),
            ("src/bn/seed.cpp", "void f(DType d) { switch (d) { case DType::f32: break; } }"),
            ("src/bn/seed.cpp", "bool f(Backend b) { return b == Backend::cpu; }"),
            ("src/colour/seed.cpp", ""),
            ("include/syncbn/seed.hpp", "#include <mpi.h>"),
            ("include/syncbn/seed.hpp", "#include <cuda_runtime.h>"),
            ("include/syncbn/seed.hpp", '#include "core/float16.hpp"'),
        ]
        for name, line in seeds:
            with self.subTest(name=name, line=line), tempfile.TemporaryDirectory() as copy:
                for top in ("include", "src"):
                    shutil.copytree(ROOT / top, Path(copy, top))
                seed = Path(copy, name)
                seed.parent.mkdir(exist_ok=True)
                seed.write_text(line + "\n")
                self.assertEqual(1, len(set(violations(Path(copy))) - set(violations(ROOT))))


if __name__ == "__main__":
    unittest.main()
