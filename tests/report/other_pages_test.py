# SPDX-License-Identifier: Apache-2.0
"""Pages of `syncbn bench --json` and `syncbn check --json`, of the tool itself where it was built."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pages import page_of, report

PHASES = {
    "copy": 2, "sums": 1, "exchange": 0, "normalize": 2, "forward": 3, "backward_sums": 2,
    "input_gradient": 3, "backward": 5, "local_forward": 3, "local_backward": 5,
}  # fmt: skip


def bench() -> dict[str, Any]:
    """Returns what the tool writes of two shapes. A pass takes 1 ms, exchanges 0.2 ms."""

    def phase(passes: int, extra: float) -> dict[str, Any]:
        time = 1e-3 * passes + extra
        entry = {
            "repetitions": 30, "median": time, "lower_quartile": 0.9 * time,
            "upper_quartile": 1.1 * time, "min": 0.8 * time, "max": 3 * time,
        }  # fmt: skip
        return {**entry, "gb_per_s": 6.4} if passes else entry

    def phases() -> dict[str, Any]:
        synchronized = ("exchange", "forward", "backward")
        return {
            name: phase(passes, 2e-4 if name in synchronized else 0.0)
            for name, passes in PHASES.items()
        }

    return {
        "version": "0.1.0", "ranks": 4, "threads": 2, "transport": "builtin over Open MPI 4.1.4",
        "instruction_set": "AVX3", "device": None, "dtype": "f32", "layout": "channels_first",
        "layers": [
            {"shape": "8x64x56x56", "samples": 8, "channels": 64, "positions": 3136, "layers": 6,
             "phases": phases()},
            {"shape": "8x512x7x7", "samples": 8, "channels": 512, "positions": 49, "layers": 5,
             "phases": phases()},
        ],
    }  # fmt: skip


def check(passed: bool = True) -> dict[str, Any]:
    results = [
        {"dtype": dtype, "quantity": quantity, "error": 2e-8, "tolerance": 1e-7, "pass": True,
         "case": "5 channels"}
        for dtype in ("f32", "f64") for quantity in ("y", "dx", "running_mean")
    ]  # fmt: skip
    if not passed:
        results[1].update({"error": None, "pass": False})  # not finite
    return {
        "version": "0.1.0", "ranks": 2, "transport": "builtin", "device": None, "seed": 1,
        "cases": 100, "seconds": 3.5, "pass": passed, "same_bits": True,
        "local_control": {"error": 0.1, "tolerance": 1e-7, "pass": True}, "exact": None,
        "results": results,
    }  # fmt: skip


def page_from(directory: Path, document: dict[str, Any]) -> str:
    file = directory / "some.json"
    file.write_text(json.dumps(document))
    report(file)
    page = page_of(directory / "some.html")
    assert page.figures
    return page.text


def test_bench_tells_the_ratio_of_all_layers(tmp_path: Path) -> None:
    text = page_from(tmp_path, bench())
    # 11 layers; forward and backward 8 ms, synchronized with two exchanges 8.4 ms.
    assert (
        "Synchronized layers take 1.05× as long as local ones on 4 ranks: 92.4 ms against 88.0 ms"
        in text
    )


def test_bench_without_passes_to_compare_says_so(tmp_path: Path) -> None:
    document = bench()
    for layer in document["layers"]:
        layer["phases"] = {"sums": layer["phases"]["sums"]}
    (tmp_path / "some.json").write_text(json.dumps(document))
    report(tmp_path / "some.json")
    assert "Forward and backward were not timed." in page_of(tmp_path / "some.html").text


def test_check_that_passed_says_how_near_it_came(tmp_path: Path) -> None:
    text = page_from(tmp_path, check())
    assert "what one process would compute? Yes 2 ranks trained 100 layers" in text
    assert "The largest error is 20 % of what rounding may cause: y in f32." in text
    assert "is told apart: it is off by 1 000 000 times the tolerance" in text


def test_check_that_failed_says_so(tmp_path: Path) -> None:
    text = page_from(tmp_path, check(passed=False))
    assert "would compute? No" in text and "1 comparison of 6 is beyond the tolerance" in text


@pytest.mark.skipif("SYNCBN_TOOL" not in os.environ, reason="the tool was not built")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench", "--shapes", "4x8x10x10,2x16x5x5"], "What batch norm layers take"),
        (["check"], "Is synchronized batch norm what one process would compute? Yes"),
    ],
)
def test_pages_of_the_tool_itself(tmp_path: Path, arguments: list[str], words: str) -> None:
    file = tmp_path / "some.json"
    tool = os.environ["SYNCBN_TOOL"]
    subprocess.run([tool, *arguments, "--json", file], check=True, capture_output=True, timeout=600)
    report(file)
    assert words in page_of(tmp_path / "some.html").text
