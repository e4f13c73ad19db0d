# SPDX-License-Identifier: Apache-2.0
"""SVG as a part of a page: what matplotlib writes, with the page's colours and names of its own.

matplotlib writes fixed colours. Figures are painted in colours that occur nowhere else, and these are
then replaced by variables of the page's style sheet, so that one SVG serves light and dark pages.
"""

from __future__ import annotations

import re

from markupsafe import escape

# By the name of the variable: the colour that stands for it.
STAND_INS = {
    "ink": "#010203",
    "muted": "#010204",
    "grid": "#010205",
    "surface": "#010206",
    "c1": "#010211",
    "c2": "#010212",
    "c3": "#010213",
    "c4": "#010214",
    "c5": "#010215",
}


def _shorter(number: re.Match[str]) -> str:
    """Returns a coordinate to the hundredth of a pixel."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def inline(svg: str, key: str, label: str) -> str:
    """Returns an SVG of matplotlib's as a part of a page, with names of its own and without what only
    a file needs."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r"<svg[^>]*?viewBox=\"([^\"]*)\"[^>]*>", r"<svg \1>", svg, count=1, flags=re.S)
    box = svg[len("<svg ") : svg.index(">")]
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r' id="(?!m[0-9a-f]{6}|p[0-9a-f]{6}|h[0-9a-f]{6})[^"]*"', "", body)
    body = re.sub(r'\bid="', f'id="{key}-', body)
    body = body.replace('xlink:href="#', f'href="#{key}-').replace("url(#", f"url(#{key}-")
    for name, colour in STAND_INS.items():
        body = body.replace(colour, f"var(--{name})")
    body = re.sub(
        r"font: (?:(bold|\d+) )?([\d.]+)px [^;\"]*",
        lambda found: f"font-size: {found[2]}px" + ("; font-weight: 600" if found[1] else ""),
        body,
    )
    body = re.sub(r'\s*<style type="text/css">.*?</style>', "", body, flags=re.S)
    body = re.sub(r">\s+<", "><", body)
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _shorter, tag[0]), body)
    body = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"\s+", " ", path[0]).strip(), body)
    width = box.split()[2]
    return (
        f'<svg viewBox="{box}" style="max-width: {float(width):g}px" role="img" '
        f'aria-label="{escape(label)}"><title>{escape(label)}</title>{body}'
    )
