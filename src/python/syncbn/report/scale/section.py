# SPDX-License-Identifier: Apache-2.0
"""What the sections of the page have in common: how groups are named."""

from __future__ import annotations

from collections.abc import Sequence

from ..numbers import amount
from .measurements import Group, Scale


def name_of(group: Group) -> str:
    """Returns a group in words: "4 ranks on 2 hosts, packed"."""
    text = amount(group.ranks, "rank")
    if group.hosts == 1:
        return text
    return f"{text} on {amount(group.hosts, 'host')}, {group.placement}"


def short_name(group: Group, several_hosts: bool) -> str:
    """Returns a group for a tick of an axis: "4", or "4" above its number of hosts."""
    return f"{group.ranks}\n{group.hosts}" if several_hosts else f"{group.ranks}"


def has_several_hosts(scale: Scale) -> bool:
    return any(group.hosts > 1 for group in scale.groups)


def in_order(groups: Sequence[Group]) -> list[Group]:
    """Returns groups once each, the smallest first, of one size those on the fewest hosts first."""
    once = {group.number: group for group in groups}
    return sorted(once.values(), key=lambda group: (group.ranks, group.hosts, group.number))


def largest_of(groups: Sequence[Group]) -> Group:
    """Returns the largest group, of one size the packed one."""
    return max(groups, key=lambda group: (group.ranks, group.placement == "packed", -group.hosts))


def warning_of(scale: Scale) -> str:
    """Returns what has to stand above every figure, "" if there is nothing."""
    return "OVERSUBSCRIBED: more ranks than processors" if scale.machine.crowded else ""
