# SPDX-License-Identifier: Apache-2.0
"""Runs of the command, and what is looked at in the pages that it writes."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from syncbn.report.command import main

# HTML's elements without an end tag.
VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}


def report(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Calls the command in this process. It must end with this exit code.

    A process of its own takes more than a second to begin.
    """
    words = [*map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
    assert code == expect, err.getvalue()
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


class Page(HTMLParser):
    """A page, which must be well-formed: each element that begins ends, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = text
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        joined = re.search(r"[a-z)%][.;:,](?!json|html|nn\b|cpp|hpp)[A-Z][a-z ]", self.text)
        assert not joined, f"words without a space between them: {joined[0]!r}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "srcset", "data", "action"):
                self.references.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (
            f"</{tag}> ends {self.open[-1:]} at {self.getpos()}"
        )
        self.open.pop()

    def handle_data(self, text: str) -> None:
        if not {"svg", "style"} & set(self.open):
            self.words.append(text)

    @property
    def text(self) -> str:
        """What is read on the page, outside of figures, with plain spaces."""
        return " ".join(" ".join(self.words).replace("\N{WORD JOINER}", "").split())

    @property
    def figures(self) -> list[ElementTree.Element]:
        """The SVGs, which must parse as XML."""
        parts = self.source.split("<svg")[1:]
        return [
            ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>") for part in parts
        ]


def page_of(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def needs_nothing_else(page: Page) -> None:
    """Checks that a page refers to nothing but itself, and has no scripts."""
    assert len(page.ids) == len(set(page.ids))
    for reference in page.references:
        assert reference.startswith(("#", "data:")), reference
        assert not reference.startswith("#") or reference[1:] in page.ids
    for used in re.findall(r"url\(([^)]*)\)", page.source):
        assert used.strip("\"'#") in page.ids
    assert "<script" not in page.source and "@import" not in page.source
    assert "http" not in re.sub(r"xmlns(:\w+)?=\"[^\"]*\"", "", page.source)


def the_style_of_figures(page: Page) -> None:
    """Checks that figures come in pairs, have titles and text, and colours of the page."""
    assert len(page.figures) % 2 == 0
    for figure in page.figures:
        (title,) = [one.text for one in figure if one.tag.endswith("title")]
        assert title and figure.get("aria-label") == title
        assert len([one for one in figure.iter() if one.tag.endswith("text")]) > 3
    inside = "".join(page.source.split("<svg")[1:])
    assert "var(--ink)" in inside and "#0102" not in inside
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", inside)) <= {"#000000"}
