# SPDX-License-Identifier: Apache-2.0
"""The machines that a run was on, and their card: all that times may depend on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .documents import DocumentError, Member
from .page import render
from .section import Section


@dataclass(frozen=True)
class Host:
    name: str
    ranks: list[int]
    processor: str
    processors: int
    quota: float | None
    kernel: str
    governor: str | None
    memory_bytes: float
    huge_pages: str | None
    load: float | None
    boot: str | None = None  # which start of which kernel, if the run tells


@dataclass(frozen=True)
class Machine:
    transport: str
    instruction_set: str
    compiler: str
    build_type: str
    ranks: int
    threads: int
    oversubscribed: bool
    hosts: list[Host]
    binding: list[str]

    @property
    def computers(self) -> list[list[Host]]:
        """The hosts by the computer that they are on: namespaces and containers share one.

        Without the kernel's own name for its start, hosts are taken to share one if they tell the same
        kernel, memory and load to all digits.
        """
        found: dict[object, list[Host]] = {}
        for host in self.hosts:
            same = host.boot or (host.kernel, host.memory_bytes, host.load or host.name)
            found.setdefault(same, []).append(host)
        return list(found.values())

    @property
    def crowded(self) -> bool:
        """Whether some computer has more ranks x threads than processors."""
        return self.oversubscribed or any(
            sum(len(host.ranks) for host in hosts) * self.threads > hosts[0].processors
            for hosts in self.computers
        )

    def waits(self, members: list[int]) -> float:
        """Returns how many of these ranks' threads wait for each processor, on the fullest computer."""
        return max(
            0.0,
            *(
                sum(rank in host.ranks for host in hosts for rank in members)
                * self.threads
                / hosts[0].processors
                - 1
                for hosts in self.computers
            ),
        )


def read_machine(member: Member) -> Machine:
    hosts = [
        Host(
            host["name"].text(),
            host["ranks"].integers(),
            host["processor"].text(),
            host["processors"].integer(),
            host.optional("quota", Member.number),
            host["kernel"].text(),
            host.optional("governor", Member.text),
            host["memory_bytes"].number(),
            host.optional("huge_pages", Member.text),
            host.optional("load", Member.number),
            host.optional("boot", Member.text),
        )
        for host in member["hosts"]
    ]
    if not hosts:
        raise DocumentError(f"{member.file}: {member.place}.hosts is empty (a run has a host).")
    return Machine(
        member["transport"].text(),
        member["instruction_set"].text(),
        member["compiler"].text(),
        member["build_type"].text(),
        member["ranks"].integer(),
        member["threads"].integer(),
        member["oversubscribed"].truth(),
        hosts,
        [one.text() for one in member["binding"]],
    )


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


def section(machine: Machine) -> Section:
    body = render(
        "machine.html.j2", machine=machine, hosts=hosts_alike(machine.hosts),
        bindings=bindings_of(machine.binding),
    )  # fmt: skip
    return Section("machine", "The machine", body)
