# SPDX-License-Identifier: Apache-2.0
"""Pages of planted runs: well-formed, self-contained, and true to what was planted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import planted
from pages import Page, needs_nothing_else, page_of, report, the_style_of_figures
from planted import Truth

ALL = ("machine", "price", "phases", "exchange", "model", "step", "skew", "noise", "guidelines",
       "rules", "reproduce")  # fmt: skip


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on four hosts, with a straggler, a noisy rank and a simulation, and its page."""
    directory = tmp_path_factory.mktemp("hosts")
    planted.write(directory, Truth(straggler=3, noisy=5, simulated=True, latency=80e-6))
    report(directory)
    return directory


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one host in which nothing is planted, with more ranks than processors, and its page."""
    directory = tmp_path_factory.mktemp("quiet")
    planted.write(directory, Truth(hosts=1, per_host=4, processors=2))
    report(directory)
    return directory


def data(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "scale.json").read_text())


def words(directory: Path) -> str:
    return page_of(directory / "report.html").text


def section(directory: Path, anchor: str) -> str:
    source = (directory / "report.html").read_text()
    found = source.split(f'<section id="{anchor}">')[1].split("</section>")[0]
    return Page(found).text


@pytest.mark.parametrize("run", ["hosts", "quiet"])
def test_page_is_well_formed_and_needs_nothing_else(
    run: str, request: pytest.FixtureRequest
) -> None:
    needs_nothing_else(page_of(request.getfixturevalue(run) / "report.html"))


@pytest.mark.parametrize("run", ["hosts", "quiet"])
def test_figures_parse_and_have_titles_text_and_colours_of_the_page(
    run: str, request: pytest.FixtureRequest
) -> None:
    page = page_of(request.getfixturevalue(run) / "report.html")
    assert len(page.figures) >= 20
    the_style_of_figures(page)


def test_headline_is_the_ratio_of_sums_of_the_data(hosts: Path) -> None:
    run = data(hosts)
    largest = max(range(len(run["groups"])), key=lambda i: run["groups"][i]["ranks"])
    cells = [one for one in run["cells"] if one["kind"] == "layer" and one["group"] == largest]
    assert sum(cell["layers"] for cell in cells) == 53

    def total(kind: str) -> float:
        return sum(
            cell["layers"] * cell[f"{kind}_{way}"]["median"]
            for cell in cells
            for way in ("forward", "backward")
        )

    def end(which: str) -> float:
        return sum(
            cell["price"][which]
            * cell["layers"]
            * sum(cell[f"local_{way}"]["median"] for way in ("forward", "backward"))
            for cell in cells
        ) / total("local")

    price = total("sync") / total("local")
    text = words(hosts)
    assert f"batch norm {price:.2f}× T sync / T local of 8 ranks on 4 hosts, packed" in text
    assert f"95 % interval {end('low'):.2f}× to {end('high'):.2f}×" in text
    extra = 1000 * (total("sync") - total("local"))
    assert f"ResNet-50's 53 batch norm layers takes {100 * (price - 1):.1f} % longer" in text
    assert f"{extra:.1f} ms in each training step" in text


def test_all_sections_stand_in_order(hosts: Path) -> None:
    page = page_of(hosts / "report.html")
    assert tuple(one for one in page.ids if one in ALL) == ALL
    assert 'class="missing"' not in page.source


def test_a_set_of_other_shapes_is_not_called_resnet_50(tmp_path: Path) -> None:
    run = planted.scale(Truth(hosts=1, per_host=2, train=False, noise=False))
    run["cells"] = [
        cell for cell in run["cells"] if cell["kind"] != "layer" or cell["channels"] != 2048
    ]
    (tmp_path / "scale.json").write_text(json.dumps(run))
    report(tmp_path)
    text = words(tmp_path)
    assert "the 49 batch norm layers that were measured" in text and "ResNet-50" not in text


def test_planted_straggler_is_named_and_no_other(hosts: Path) -> None:
    assert "Others wait for rank 3." in words(hosts)
    assert "Of the long waits in layers, rank 3 comes last in 90 %" in section(hosts, "skew")


def test_no_straggler_is_named_where_none_is(quiet: Path) -> None:
    assert "No rank stands out as a straggler." in section(quiet, "skew")


def test_planted_noisy_rank_is_named_and_no_other(hosts: Path, quiet: Path) -> None:
    assert "The machine takes 20 % of the time from rank 5, and 1.0 % from the others" in words(
        hosts
    )
    assert "No rank loses clearly more time than others: each 1.0 % of it." in words(quiet)


def test_more_ranks_than_processors_are_told_at_the_top_and_in_every_figure(
    quiet: Path, hosts: Path
) -> None:
    assert "This machine was oversubscribed" in words(quiet)
    for figure in page_of(quiet / "report.html").figures:
        assert (figure.get("aria-label") or "").startswith("OVERSUBSCRIBED")
    assert "OVERSUBSCRIBED" not in (hosts / "report.html").read_text()


@pytest.mark.parametrize("boot", [None, "6d1c0a5e"])
def test_hosts_that_are_one_computer_share_its_processors(tmp_path: Path, boot: str | None) -> None:
    truth = Truth(
        one_computer=True, processors=2, waiting=300e-6, layers=False, train=False, noise=False
    )
    run = planted.scale(truth)
    for number, host in enumerate(run["machine"]["hosts"]):
        host.update({"boot": boot, "load": number if boot else host["load"]})
    (tmp_path / "scale.json").write_text(json.dumps(run))
    lines = report(tmp_path).stdout.replace("\u202f", " ")
    assert re.search(r"w +waits for a processor +(29|30)\d µs", lines)
    text = words(tmp_path)
    assert "This machine was oversubscribed" in text
    assert "host1, host2, host3 and host4 are parts of one computer" in text
    assert ("as far as their kernel, memory and load tell" in text) == (boot is None)
    assert "the model gives each host its own" in section(tmp_path, "model")


def test_hosts_apart_are_not_taken_for_one_computer(hosts: Path) -> None:
    assert "one computer" not in words(hosts)


def test_model_states_its_errors_and_what_the_simulation_is_worth(hosts: Path) -> None:
    text = section(hosts, "model")
    assert "fitted to all sizes but the largest, 8 ranks" in text
    assert re.search(r"Largest size, not fitted [\d.]+ % / [\d.]+ %", text)
    assert re.search(r"1 024 × 1 130 [\d.]+ \w+ .* ±[\d.]+ % / [\d.]+ %", text)
    assert re.search(r"At the 12 points .* is off by (9|1\d)(\.\d)? % \(median\)", text)
    assert "valid only as far as this check allows" in text


def test_model_of_two_sizes_claims_no_error(quiet: Path) -> None:
    text = section(quiet, "model")
    assert "Only 2 sizes of groups were measured, fewer than 3" in text
    assert "Largest size, not fitted not known not known" in text
    assert "The model says nothing of several hosts" in text


def test_guidelines_are_kept_or_broken_with_the_worst_case(tmp_path: Path, hosts: Path) -> None:
    assert "no MPI" not in section(hosts, "guidelines")
    planted.write(
        tmp_path, Truth(hosts=1, mpi_over_ours=0.5, layers=False, train=False, noise=False)
    )
    report(tmp_path)
    text = section(tmp_path, "guidelines")
    assert re.search(
        r"no longer than MPI_Allreduce .*? no syncbn: 4 of 4 cases break it Worst, 2\.\d", text
    )


def test_amdahl_finds_the_planted_serial_part(hosts: Path) -> None:
    (share,) = re.findall(r"with ([\d.]+) % of a step that does not shrink", section(hosts, "step"))
    assert float(share) == pytest.approx(10, abs=1)


def test_one_rank_is_the_base_of_weak_scaling_too(hosts: Path) -> None:
    run = data(hosts)
    assert not [
        cell
        for cell in run["cells"]
        if cell["kind"] == "step" and cell["group"] == 0 and cell["scaling"] == "weak"
    ]
    labels = [figure.get("aria-label") or "" for figure in page_of(hosts / "report.html").figures]
    # Steps of 100 ms, and 10 ms of exchanges with several ranks.
    assert [label for label in labels if re.search(r"efficiency 0\.9[01]\d with 8 ranks", label)]


def test_missing_sections_say_why_and_what_gives_them(tmp_path: Path) -> None:
    planted.write(
        tmp_path,
        Truth(hosts=1, per_host=1, layers=False, train=False, noise=False),
    )
    done = report(tmp_path)
    assert "no price" in done.stdout
    for anchor, option in (
        ("price", "--measure layer"), ("phases", "--measure layer"), ("exchange", "mpirun -n 2"),
        ("model", "mpirun -n 2"), ("step", "--train"), ("skew", "mpirun -n 2"),
        ("noise", "--measure noise"), ("guidelines", "mpirun -n 2"),
    ):  # fmt: skip
        assert option in section(tmp_path, anchor), anchor
    assert "<svg" not in (tmp_path / "report.html").read_text()


def test_cells_without_their_interval_answer_rule_5_with_partly(tmp_path: Path) -> None:
    run = planted.scale(Truth(hosts=1, train=False, noise=False))
    run["cells"][0]["enough"] = False
    (tmp_path / "scale.json").write_text(json.dumps(run))
    report(tmp_path)
    count = len(run["cells"])
    assert f"{count - 1} of {count} measurements reached" in section(tmp_path, "rules")


def test_cells_of_a_later_version_are_told_and_skipped(tmp_path: Path) -> None:
    run = planted.scale(Truth(hosts=1, train=False, noise=False))
    run["cells"].append({"kind": "weather", "order": 99})
    (tmp_path / "scale.json").write_text(json.dumps(run))
    report(tmp_path)
    assert "1 cell of kind weather" in section(tmp_path, "reproduce")


def test_names_are_shown_as_text(tmp_path: Path) -> None:
    run = planted.scale(Truth(hosts=1, train=False, noise=False))
    run["command"] = run["machine"]["hosts"][0]["name"] = "<script>alert('$x$ & y')</script>"
    (tmp_path / "scale.json").write_text(json.dumps(run))
    report(tmp_path)
    page = page_of(tmp_path / "report.html")
    assert "<script" not in page.source and "<script>alert('$x$ & y')</script>" in page.text


def test_summary_has_prices_terms_errors_and_the_path(hosts: Path) -> None:
    lines = report(hosts).stdout
    assert re.search(r"8 ranks on 4 hosts, packed +1\.\d\d×", lines)
    assert re.search(r"α +rounds between hosts +[78]\d\.\d µs", lines.replace("\u202f", " "))
    assert "off at the largest size, not fitted" in lines
    assert lines.rstrip().endswith(str(hosts / "report.html"))
