# SPDX-License-Identifier: Apache-2.0
"""The command line: what it accepts, what it refuses in which words, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import planted
from pages import report
from planted import Truth

SMALL = Truth(hosts=1, train=False, noise=False, layers=False, mpi=False)


def cut(run: dict[str, Any]) -> str:
    return json.dumps(run)[:-1000]


def without_a_median(run: dict[str, Any]) -> str:
    del run["cells"][0]["time"]["median"]
    return json.dumps(run)


def text_for_a_number(run: dict[str, Any]) -> str:
    run["cells"][0]["doubles"] = "many"
    return json.dumps(run)


def no_such_group(run: dict[str, Any]) -> str:
    run["cells"][0]["group"] = 17
    return json.dumps(run)


def too_few_quantiles(run: dict[str, Any]) -> str:
    run["cells"][0]["time"]["quantiles"].pop()
    return json.dumps(run)


def not_a_number(run: dict[str, Any]) -> str:
    run["seconds"] = float("nan")
    return json.dumps(run)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "scale.json is no JSON"),
        (without_a_median, "cells[0].time.median is missing"),
        (text_for_a_number, 'cells[0].doubles is no number ("many")'),
        (no_such_group, "cells[0].group is 17 (groups has 2)"),
        (too_few_quantiles, "cells[0].time.quantiles has 14 values"),
        (not_a_number, "seconds is no finite number"),
    ],
)
def test_spoiled_run_is_refused_with_the_place(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], str], message: str
) -> None:
    (tmp_path / "scale.json").write_text(spoil(planted.scale(SMALL)))
    (tmp_path / "report.html").write_text("earlier page")
    done = report(tmp_path, expect=1)
    assert message in done.stderr
    assert (tmp_path / "report.html").read_text() == "earlier page"
    assert sorted(os.listdir(tmp_path)) == ["report.html", "scale.json"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[1, 2]", "is a list in JSON"),
        ('{"a": 1}', "is an object with the members a"),
        ('{"format": "syncbn scale 7"}', "is a document of format 'syncbn scale 7'"),
        ('{"layers": []}', "layers is empty"),
        ('{"results": []}', "results is empty"),
    ],
)
def test_other_documents_are_refused_with_what_they_are(
    tmp_path: Path, text: str, what: str
) -> None:
    file = tmp_path / "some.json"
    file.write_text(text)
    done = report(file, expect=1)
    assert what in done.stderr


def test_simulation_of_another_format_is_refused(tmp_path: Path) -> None:
    planted.write(tmp_path, SMALL)
    (tmp_path / "simulated.json").write_text('{"format": "syncbn simulation 9"}')
    assert "simulated.json: format is 'syncbn simulation 9'" in report(tmp_path, expect=1).stderr


def test_directory_without_a_run_and_missing_files_are_told(tmp_path: Path) -> None:
    assert "has no scale.json" in report(tmp_path, expect=1).stderr
    done = report(tmp_path / "none.json", expect=1)
    assert "cannot read" in done.stderr and "No such file" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [(["run"], 0, r"/report\.html\n$"), (["none"], 1, "^syncbn.report: "), ([], 2, "^usage: ")],
)
def test_module_is_a_command(tmp_path: Path, arguments: list[str], code: int, told: str) -> None:
    """Its process ends with the exit code, after the page's path on stdout or an error on stderr."""
    planted.write(tmp_path / "run", SMALL)
    done = subprocess.run(
        [sys.executable, "-m", "syncbn.report", *arguments], cwd=tmp_path,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert re.search(told, done.stderr if code else done.stdout), done
    assert (tmp_path / "run" / "report.html").exists() == (code == 0)


def test_wrong_arguments_end_with_2() -> None:
    assert "usage:" in report(expect=2).stderr
    assert "usage:" in report("a", "--nonsense", expect=2).stderr


def test_output_goes_where_it_is_wanted(tmp_path: Path) -> None:
    directory = planted.write(tmp_path / "run", SMALL)
    report(directory, "--output", tmp_path / "page.html")
    assert (tmp_path / "page.html").exists() and not (directory / "report.html").exists()
    report(directory / "scale.json")
    assert (directory / "report.html").stat().st_mode & 0o444 == 0o444


def test_source_is_not_replaced_and_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    directory = planted.write(tmp_path / "run", SMALL)
    before = (directory / "scale.json").read_text()
    done = report(directory, "--output", directory / "scale.json", expect=1)
    assert "would replace" in done.stderr
    assert (directory / "scale.json").read_text() == before
    done = report(directory, "--output", tmp_path / "none" / "page.html", expect=1)
    assert "cannot write" in done.stderr and "No such file" in done.stderr


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_missing_libraries_are_named_with_what_installs_them(tmp_path: Path, module: str) -> None:
    directory = planted.write(tmp_path, SMALL)
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from syncbn.report.command import main; sys.exit(main([sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, directory], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"no module {module}" in done.stderr and "pip install matplotlib jinja2" in done.stderr


def test_package_has_its_pages_without_the_binary_module() -> None:
    program = """
import sys
sys.modules["syncbn._core"] = None
import syncbn, syncbn.report.command
assert "CommError" in dir(syncbn)
try:
    syncbn.CommError
except ImportError:
    sys.exit(0)
sys.exit("the binary module was there")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_figures_are_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "scale.json").write_text(json.dumps(planted.scale(SMALL)))
    report(tmp_path, "--figures", str(tmp_path / "figures"))
    written = sorted((tmp_path / "figures").iterdir())
    assert "exchange.svg" in [file.name for file in written]
    for file in written:
        root = ElementTree.parse(file).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme: dark" in file.read_text()
