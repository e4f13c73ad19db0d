# SPDX-License-Identifier: Apache-2.0
"""Pages: templates with what goes into them, and the file that they become."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from . import numbers


@dataclass(frozen=True)
class Page:
    html: str
    summary: list[str]  # lines for the terminal


def _with_code(text: str) -> Markup:
    """Returns a sentence in which what stands between backquotes is code."""
    parts = [Markup("<code>{}</code>").format(part) if i % 2 else escape(part)
             for i, part in enumerate(text.split("`"))]  # fmt: skip
    return Markup("").join(parts)


def _capitalize_first(text: str) -> str:
    """Returns a sentence's text with its first letter large, and all others as they are."""
    return text[:1].upper() + text[1:]


def _unbroken(command: str) -> Markup:
    """Returns a command whose lines are broken between options alone."""
    first, *options = command.split(" --")
    return escape(first) + Markup("").join(
        Markup(" <span>--{}</span>").format(option) for option in options
    )


_environment = Environment(
    loader=PackageLoader("syncbn.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
for _filter in (
    numbers.seconds,
    numbers.seconds_range,
    numbers.times,
    numbers.times_range,
    numbers.percent,
    numbers.error,
    numbers.size,
    numbers.digits,
    numbers.brief,
    numbers.signed,
    numbers.amount,
    numbers.listed,
):
    _environment.filters[_filter.__name__] = _filter
_environment.filters["grouped"] = numbers.count
_environment.filters["code"] = _with_code
_environment.filters["unbroken"] = _unbroken
_environment.filters["capitalize_first"] = _capitalize_first


def render(template: str, **context: Any) -> Markup:
    """Returns what a template of templates/ gives. Text in the context is escaped, Markup is not."""
    return Markup(_environment.get_template(template).render(**context))


_FIGURE = re.compile(r'<div class="wide" data-figure="([^"]*)">(<svg .*?</svg>)\s*</div>', re.S)


def figures(html: str) -> dict[str, str]:
    """Returns the figures of a page by name, as files of their own, in their wide versions. They are
    light or dark as whoever looks at them prefers."""
    style = f"<style>{render('colours.css')}text {{ font-family: var(--sans); }}</style>"
    return {
        name: svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
            "</title>", f"</title>{style}", 1
        )
        for name, svg in _FIGURE.findall(html)
    }


def write(file: Path, text: str) -> None:
    """Writes a file, which is there whole or as it was before."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
