# SPDX-License-Identifier: Apache-2.0
"""A section of a page."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    body: Markup = field(default_factory=Markup)
    missing: str = ""  # why there is no body, and what gives it
