# SPDX-License-Identifier: Apache-2.0
"""Pages of a real study, and of what is left of it when parts are taken away or spoiled."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pages import Page, needs_nothing_else, page_of, report, the_style_of_figures
from syncbn.report.documents import Member
from syncbn.report.study import page as study

EXAMPLE = Path(__file__).parent.parent / "bench" / "study" / "study.json"
NAMES = (
    "faster-training", "activations", "learning-rates", "parameter-scale", "saturating",
    "regularization", "synchronize", "group-size", "leakage",
)  # fmt: skip
Document = dict[str, Any]


@pytest.fixture(scope="module")
def example() -> Document:
    return json.loads(EXAMPLE.read_text())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the example, with its page."""
    directory = tmp_path_factory.mktemp("study")
    (directory / "study.json").write_text(EXAMPLE.read_text())
    report(directory)
    return directory


def build(document: Document) -> Page:
    return Page(str(study.build(Member(document, Path("study.json"))).html))


def of(document: Document, *names: str) -> Document:
    """Returns a study of some of the experiments."""
    part = copy.deepcopy(document)
    part["experiments"] = [one for one in part["experiments"] if one["name"] in names]
    part["runs"] = [one for one in part["runs"] if set(names) & set(one["experiments"])]
    return part


def section(page: Page, anchor: str) -> str:
    return page.source.split(f'<section id="{anchor}">')[1].split("</section>")[0]


def figures_of(page: Page, anchor: str) -> Page:
    return Page(section(page, anchor))


def number(value: float) -> str:
    """Returns a number to three digits, as the page has it if it is neither very small nor large."""
    digits = f"{value:#.3g}".rstrip(".")
    return digits.replace("-", "\N{MINUS SIGN}")


def test_example_has_all_experiments(example: Document) -> None:
    assert [one["name"] for one in example["experiments"]] == list(NAMES)
    assert example["format"] == study.STUDY_FORMAT and example["most_steps"] is None


def test_page_is_well_formed_and_needs_nothing_else(drawn: Path) -> None:
    needs_nothing_else(page_of(drawn / "report.html"))


def test_figures_have_titles_text_and_colours_of_the_page(drawn: Path) -> None:
    page = page_of(drawn / "report.html")
    assert len(page.figures) == 2 * 11
    the_style_of_figures(page)


def test_page_opens_with_a_verdict_of_each_experiment(drawn: Path, example: Document) -> None:
    header = page_of(drawn / "report.html").source.split("</header>")[0].split("<header>")[1]
    text = Page(header).text
    held = sum(one["verdict"] == "held" for one in example["experiments"])
    assert f"{held} of 9 experiments held, over {len(example['seeds'])} seeds each" in text
    place = 0
    for one in example["experiments"]:
        main = one["claims"][0]
        place = text.index(f"{one['verdict']} {one['title']}", place)
        count = sum(claim["verdict"] == "held" for claim in one["claims"])
        line = text[place:].split(" held.")[0]
        assert main["quantity"][1:] in line
        assert f"{len(main['values'])} seeds)" in line
        assert line.endswith(f"{count} of {len(one['claims'])} claims") or count == len(
            one["claims"]
        )
        if one["verdict"] != main["verdict"]:
            controls = [claim for claim in one["claims"] if claim["control"]]
            reasons = [claim for claim in controls if claim["verdict"] == one["verdict"]]
            assert reasons and all(claim["claim"] in text[place:] for claim in reasons)


def test_sections_state_question_trainings_verdicts_and_source(
    drawn: Path, example: Document
) -> None:
    page = page_of(drawn / "report.html")
    assert tuple(one for one in page.ids if one in NAMES) == NAMES
    for one in example["experiments"]:
        text = Page(section(page, one["name"])).text
        runs = [run for run in example["runs"] if one["name"] in run["experiments"]]
        assert f"{len(runs)} trainings" in text and "?" in text
        assert f"syncbn study --experiments {one['name']} --seeds {len(example['seeds'])}" in text
        assert f"Source: {one['source']}." in text
        first = [run for run in runs if run["seed"] == example["seeds"][0]]
        assert all(run["command"] in text for run in first)
        for claim in one["claims"]:
            control = "Control: " if claim["control"] else ""
            assert f"{claim['verdict']} {control}{claim['claim']}: " in text


def test_amounts_are_those_of_the_data(drawn: Path, example: Document) -> None:
    text = page_of(drawn / "report.html").text
    compared = 0
    for one in example["experiments"]:
        for claim in one["claims"]:
            smallest = min(abs(claim[name]) for name in ("mean", "low", "high"))
            if claim["unit"] != "points" or smallest < 1e-3 or claim["low"] == claim["high"]:
                continue
            compared += 1
            mean, low, high = (
                ("+" if claim[name] > 0 else "") + number(claim[name])
                for name in ("mean", "low", "high")
            )
            seeds = len(claim["values"])
            assert f"{mean} points (95 % band {low} to {high}, {seeds} seeds)" in text
    assert compared >= 10


def test_every_figure_has_the_control(drawn: Path) -> None:
    for figure in page_of(drawn / "report.html").figures:
        words = " ".join(
            "".join(one.itertext()) for one in figure.iter() if one.tag.endswith("text")
        )
        assert "scale, shift" in words.lower(), figure.get("aria-label")


def test_common_options_and_those_that_differ_are_told(drawn: Path) -> None:
    text = Page(section(page_of(drawn / "report.html"), "learning-rates")).text
    assert "All with --model mlp" in text and "They differ in --norm , --learning-rate ." in text


def test_trainings_that_diverged_are_marked_and_told(example: Document) -> None:
    part = of(example, "learning-rates")
    for run in part["runs"]:
        run["results"]["diverged_at"] = None
    before = build(part)
    worst = [
        run for run in part["runs"] if run["variant"] == {"norm": "none", "learning_rate": 10.0}
    ]
    for run in worst[:2]:
        run["results"]["diverged_at"] = 7
        run["results"]["series"] = {name: [] for name in run["results"]["series"]}
        run["results"]["final"] = {"test_accuracy": 0.1, "train_accuracy": 0.1}
    page = build(part)
    assert "No training diverged." in before.text
    assert "Crosses: 2 trainings diverged there, and counted as guessing." in page.text
    assert "2 trainings of all seeds diverged." in page.text
    assert page.source.count("<path") > before.source.count("<path")


def test_curve_ends_where_a_seed_diverged(example: Document) -> None:
    part = of(example, "faster-training", "synchronize")
    for run in part["runs"]:
        if run["seed"] == example["seeds"][0]:
            series = run["results"]["series"]
            run["results"]["series"] = {name: values[:4] for name, values in series.items()}
            run["results"]["diverged_at"] = 1000
    assert len(build(part).figures) == 4


@pytest.mark.parametrize("kept", [0.03, 0.3, 0.8])
def test_any_part_of_the_runs_has_a_page_that_says_what_is_missing(
    example: Document, kept: float
) -> None:
    part = copy.deepcopy(example)
    chance = random.Random(f"{kept}")
    part["runs"] = [run for run in part["runs"] if chance.random() < kept]
    page = build(part)
    assert "Missing in the file: " in page.text and page.figures


def test_missing_control_and_seed_are_named(example: Document) -> None:
    part = of(example, "regularization")
    seed = example["seeds"][1]
    part["runs"] = [
        run
        for run in part["runs"]
        if run["variant"]["norm"] != "affine"
        and not (run["variant"] == {"norm": "none", "dropout": 0.0} and run["seed"] == seed)
    ]
    text = build(part).text
    assert f"Missing in the file: norm affine; norm none, dropout 0 with seed {seed}." in text


@pytest.mark.parametrize("name", NAMES)
def test_each_experiment_alone_has_a_page(example: Document, name: str) -> None:
    page = build(of(example, name))
    assert len(page.figures) in (2, 4)
    others = ", ".join(one for one in NAMES if one != name)
    command = f"syncbn study --experiments {others.replace(', ', ',')}"
    assert f"{others}: {command}" in page.text


def test_verdict_goes_by_the_main_claim_and_the_controls(example: Document) -> None:
    part = of(example, "leakage")
    (experiment,) = part["experiments"]
    for claim in experiment["claims"]:
        claim.update(test="above", margin=0, low=1.0, high=2.0, verdict="held")
    experiment["verdict"] = "held"
    aside = next(claim for claim in experiment["claims"][1:] if not claim["control"])
    aside.update(low=-2.0, high=-1.0, verdict="did not hold")
    assert "1 of 1 experiments held" in build(part).text
    control = next(claim for claim in experiment["claims"] if claim["control"])
    control.update(low=-1.0, verdict="not decided")
    experiment["verdict"] = "not decided"
    text = build(part).text
    assert f"Not decided: {control['claim']}." in text and "0 of 1 experiments held" in text


@pytest.mark.parametrize("name", NAMES)
def test_experiment_without_runs_shows_its_verdicts(example: Document, name: str) -> None:
    part = of(example, name)
    part["runs"] = []
    text = build(part).text
    assert part["experiments"][0]["claims"][0]["claim"] in text
    assert "no trainings of which a figure could be drawn" in text or name == "parameter-scale"


def test_experiment_of_a_later_version_is_shown_without_a_figure(example: Document) -> None:
    part = of(example, "leakage")
    part["experiments"][0]["name"] = "weather"
    for run in part["runs"]:
        run["experiments"] = ["weather"]
    page = build(part)
    assert "does not know the experiment weather" in page.text and not page.figures
    assert part["experiments"][0]["claims"][0]["claim"] in page.text


def test_one_seed_gives_no_band_and_decides_nothing(example: Document) -> None:
    part = of(example, "faster-training")
    part["seeds"] = part["seeds"][:1]
    part["runs"] = [run for run in part["runs"] if run["seed"] == part["seeds"][0]]
    for claim in part["experiments"][0]["claims"]:
        claim.update(values=claim["values"][:1], low=None, high=None, verdict="not decided")
    part["experiments"][0]["verdict"] = "not decided"
    text = build(part).text
    assert "0 of 1 experiments held, over 1 seed each; 1 is not decided" in text
    assert "(no band, 1 seed)" in text and "Lines: the one seed that was trained." in text


def test_study_that_was_cut_short_says_so(example: Document) -> None:
    part = of(example, "leakage")
    part["most_steps"] = 400
    text = build(part).text
    assert "no training took more than 400 steps" in text and "--steps 400" in text


def test_names_are_shown_as_text(example: Document) -> None:
    part = of(example, "leakage")
    part["command"] = part["experiments"][0]["title"] = "<script>alert('$x$ & y')</script>"
    page = build(part)
    assert "<script" not in page.source and "<script>alert('$x$ & y')</script>" in page.text


def cut(document: Document) -> str:
    return json.dumps(document)[:-1000]


def without_a_mean(document: Document) -> str:
    del document["experiments"][0]["claims"][0]["mean"]
    return json.dumps(document)


def other_verdict(document: Document) -> str:
    document["experiments"][0]["claims"][1].update(verdict="held", low=-1.0)
    return json.dumps(document)


def verdict_that_claims_do_not_give(document: Document) -> str:
    document["experiments"][0]["verdict"] = "not decided"
    document["experiments"][0]["claims"] = [
        {**claim, "verdict": "held", "test": "above", "margin": 0, "low": 1, "high": 2}
        for claim in document["experiments"][0]["claims"]
    ]
    return json.dumps(document)


def value_of_a_seed_too_many(document: Document) -> str:
    document["experiments"][0]["claims"][0]["values"].append(1.0)
    return json.dumps(document)


def unknown_test(document: Document) -> str:
    document["experiments"][0]["claims"][0]["test"] = "around"
    return json.dumps(document)


def text_in_a_series(document: Document) -> str:
    document["runs"][0]["results"]["series"]["loss"][0] = "low"
    return json.dumps(document)


def series_too_long(document: Document) -> str:
    document["runs"][0]["results"]["series"]["loss"].append(1.0)
    return json.dumps(document)


def no_seeds(document: Document) -> str:
    document["seeds"] = []
    return json.dumps(document)


def no_experiments(document: Document) -> str:
    document["experiments"] = []
    return json.dumps(document)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "study.json is no JSON"),
        (without_a_mean, "experiments[0].claims[0].mean is missing"),
        (other_verdict, "experiments[0].claims[1].verdict is 'held' (its band and margin make it"),
        (
            verdict_that_claims_do_not_give,
            "experiments[0].verdict is 'not decided' (its main claim and controls",
        ),
        (value_of_a_seed_too_many, "experiments[0].claims[0].values has"),
        (unknown_test, "experiments[0].claims[0].test is 'around' (known: above, below, within)"),
        (text_in_a_series, 'runs[0].results.series.loss[0] is no number ("low")'),
        (series_too_long, "runs[0].results.series.loss has"),
        (no_seeds, "seeds is empty"),
        (no_experiments, "experiments is empty"),
    ],
)
def test_spoiled_study_is_refused_with_the_place(
    tmp_path: Path, example: Document, spoil: Callable[[Document], str], message: str
) -> None:
    (tmp_path / "study.json").write_text(spoil(of(example, "faster-training")))
    (tmp_path / "report.html").write_text("earlier page")
    done = report(tmp_path, expect=1)
    assert message in done.stderr
    assert (tmp_path / "report.html").read_text() == "earlier page"


def test_unfinished_study_is_told_with_its_command(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": "syncbn study 1"}')
    done = report(tmp_path, expect=1)
    assert "was not finished" in done.stderr and "Start `syncbn study` once more" in done.stderr


def test_reports_of_two_commands_in_a_directory_are_not_guessed_at(tmp_path: Path) -> None:
    for name in ("scale.json", "study.json"):
        (tmp_path / name).write_text("{}")
    assert (
        "reports of several commands (scale.json, study.json)" in report(tmp_path, expect=1).stderr
    )


def test_summary_has_verdicts_amounts_and_the_path(drawn: Path, example: Document) -> None:
    lines = report(drawn).stdout.splitlines()
    for place, one in enumerate(example["experiments"]):
        verdict, amount = lines[1 + 2 * place : 3 + 2 * place]
        assert verdict.split(one["title"])[0].strip() == one["verdict"]
        assert one["claims"][0]["quantity"] in amount and " seeds)" in amount
    assert lines[-1] == str(drawn / "report.html")


def test_figures_are_files_of_their_own(tmp_path: Path, example: Document) -> None:
    (tmp_path / "study.json").write_text(json.dumps(of(example, "activations", "leakage")))
    report(tmp_path / "study.json", "--figures", tmp_path / "figures")
    names = sorted(file.name for file in (tmp_path / "figures").iterdir())
    assert names == ["activations-all.svg", "activations.svg", "leakage.svg"]


@pytest.mark.skipif("SYNCBN_TOOL" not in os.environ, reason="the tool was not built")
def test_page_of_the_tool_itself(tmp_path: Path) -> None:
    tool = os.environ["SYNCBN_TOOL"]
    arguments = ["study", "--experiments", "leakage", "--seeds", "2", "--steps", "2"]
    described = subprocess.run([tool, "--help"], capture_output=True, text=True, check=True)
    if "study" not in described.stdout:
        pytest.skip("the tool has no study")
    done = subprocess.run(
        [tool, *arguments, "--output", tmp_path],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode != 0 and ("without oneDNN" in done.stderr or "fashion-mnist" in done.stderr):
        pytest.skip("the tool was built without oneDNN, or there is no data set")
    assert done.returncode == 0, done.stderr
    report(tmp_path)
    page = page_of(tmp_path / "report.html")
    assert "Local batch norm leaks labels" in page.text and page.figures
