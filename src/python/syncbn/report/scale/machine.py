# SPDX-License-Identifier: Apache-2.0
"""The machine card: all that times may depend on."""

from __future__ import annotations

from dataclasses import replace

from ..page import render
from .measurements import Host, Scale
from .section import Section


def hosts_alike(hosts: list[Host]) -> list[list[Host]]:
    """Returns the hosts in lists of those that differ in name, ranks and load alone."""
    found: dict[str, list[Host]] = {}
    for host in hosts:
        kind = repr(replace(host, name="", ranks=[], load=None))
        found.setdefault(kind, []).append(host)
    return list(found.values())


def bindings_of(binding: list[str]) -> dict[str, list[int]]:
    """Returns the ranks that may run on the same processors, by these."""
    found: dict[str, list[int]] = {}
    for rank, processors in enumerate(binding):
        found.setdefault(processors, []).append(rank)
    return found


def section(scale: Scale) -> Section:
    body = render(
        "scale/machine.html.j2", scale=scale, hosts=hosts_alike(scale.machine.hosts),
        bindings=bindings_of(scale.machine.binding),
    )  # fmt: skip
    return Section("machine", "The machine", body)
