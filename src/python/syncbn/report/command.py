# SPDX-License-Identifier: Apache-2.0
"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .documents import DocumentError, Member, read

# What a directory has when a run is done, with the command that wrote it.
REPORTS = {"scale.json": "syncbn scale", "study.json": "syncbn study"}
ACCEPTED = (
    "a directory of `syncbn scale --output` or `syncbn study --output`, or its scale.json or study.json, "
    "or a file of `syncbn bench --json` or `syncbn check --json`"
)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m syncbn.report",
        description="Writes a page, one HTML file, that shows what the tool syncbn has measured.",
        epilog="Prints the main results and the path of the page.",
    )
    parser.add_argument("source", metavar="DIR|FILE", type=Path, help=ACCEPTED.replace("%", "%%"))
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="where to write the page (default: report.html in DIR, or FILE with the suffix .html)",
    )
    parser.add_argument(
        "--figures",
        metavar="DIR",
        type=Path,
        help="also write each figure there, as a file NAME.svg",
    )
    return parser.parse_args(arguments)


def _source(path: Path) -> Path:
    """Returns the file to read."""
    if not path.is_dir():
        return path
    found = [name for name in REPORTS if (path / name).exists()]
    if len(found) > 1:
        raise DocumentError(
            f"{path} has reports of several commands ({', '.join(found)}). Give one of these files."
        )
    if found:
        return path / found[0]
    if (path / "run.json").exists():
        raise DocumentError(
            f"{path} has a run that was not finished. Start `{_command_of(path / 'run.json')}` once more "
            "with the same options: it goes on where it was."
        )
    raise DocumentError(
        f"{path} has no {' and no '.join(REPORTS)}. Give the directory that `syncbn scale --output` or "
        "`syncbn study --output` wrote."
    )


def _command_of(run: Path) -> str:
    """Returns the command whose run was not finished."""
    document = read(run)
    told = document["format"].text() if document.has("format") else ""
    known = [command for command in REPORTS.values() if told.startswith(command)]
    return known[0] if known else " or ".join(REPORTS.values())


def _place(source: Path, file: Path) -> Path:
    """Returns where the page goes unless told otherwise."""
    if source.is_dir() or file.name in REPORTS:
        return file.with_name("report.html")
    return file.with_suffix(".html")


def _what_it_is(document: Member) -> str:
    value = document.value
    if not isinstance(value, dict):
        return f"a {type(value).__name__} in JSON"
    if "format" in value:
        return f"a document of format {value['format']!r}"
    return f"an object with the members {', '.join(list(value)[:6]) or '(none)'}"


def _run(options: argparse.Namespace) -> None:
    try:
        from . import bench, check, page
        from .scale import page as scale
        from .study import page as study
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        if name not in ("matplotlib", "jinja2", "markupsafe", "numpy"):
            raise
        raise DocumentError(
            f"syncbn.report needs matplotlib and Jinja2 (there is no module {name}): "
            "pip install matplotlib jinja2"
        ) from error
    file = _source(options.source)
    document = read(file)
    kinds = [kind for kind in (scale, study, bench, check) if kind.recognizes(document)]
    if not kinds:
        raise DocumentError(
            f"{file} is {_what_it_is(document)}, of which there is no page. Accepted: {ACCEPTED}."
        )
    made = kinds[0].build(document)
    place = options.output or _place(options.source, file)
    if place.resolve() == file.resolve():
        raise DocumentError(f"the page would replace what it is made of ({file}). Give --output.")
    try:
        page.write(place, made.html)
        if options.figures:
            options.figures.mkdir(parents=True, exist_ok=True)
            for name, svg in page.figures(made.html).items():
                page.write(options.figures / f"{name}.svg", svg)
    except OSError as error:
        raise DocumentError(
            f"cannot write {error.filename or place} ({error.strerror})."
        ) from error
    print("\n".join([*made.summary, str(place)]).replace("\N{WORD JOINER}", ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 after an error, 2 where the arguments are wrong."""
    options = _arguments(arguments)
    try:
        _run(options)
    except DocumentError as error:
        print(f"syncbn.report: {error}", file=sys.stderr)
        return 1
    return 0
