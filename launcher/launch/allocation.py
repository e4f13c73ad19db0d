# SPDX-License-Identifier: Apache-2.0
"""Finds the hosts that a job has: those of a hostfile, of a scheduler, or this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from launch.facts import HOSTFILE_VARIABLES, Facts
from launch.options import Options, Refusal


@dataclass(frozen=True)
class Host:
    name: str  # "" where the launcher knows it from Slurm
    slots: int | None = None  # ranks that the scheduler or the hostfile grants


@dataclass(frozen=True)
class Allocation:
    """The hosts that a job has. Each is taken to have what this machine has, if that is known."""

    where: str
    hosts: tuple[Host, ...]
    domains: tuple[int, ...] = ()  # cores that each NUMA domain of a host has; empty: unknown
    slurm: bool = False
    threads_of_task: int | None = None  # that the user asked Slurm for
    processors: int | None = None  # of a host, that Slurm grants

    @property
    def cores(self) -> int | None:
        return sum(self.domains) or None

    @property
    def named(self) -> bool:
        return bool(self.hosts[0].name)


def find_allocation(facts: Facts, options: Options) -> Allocation:
    """Returns the hosts of the first that is there: --hostfile, Slurm, a hostfile, this machine."""
    environment = facts.environment
    if options.hostfile:
        return hostfile_allocation(facts, "--hostfile", options.hostfile)
    if "SLURM_JOB_ID" in environment:
        return slurm_allocation(facts)
    for variable in HOSTFILE_VARIABLES:
        if environment.get(variable):
            return hostfile_allocation(facts, variable, environment[variable])
    domains = usable_domains(facts)
    limits = f"{mask_text(facts)}{quota_text(facts)}"
    return Allocation(f"this machine: {cores_text(domains)}{limits}", (Host(""),), domains)


def usable_domains(facts: Facts, processors: int | None = None) -> tuple[int, ...]:
    """Returns the cores of each NUMA domain that this process may use.

    `processors` is how many of them a scheduler grants. Where not all cores are granted, or the
    domains are not alike, they count as one domain.
    """
    machine = facts.machine
    domains = machine.cores_by_domain
    cores = sum(domains)
    if processors is not None:
        cores = min(cores, ceil(processors / machine.threads_per_core))
    if machine.quota is not None:
        cores = min(cores, max(1, int(machine.quota)))
    return domains if cores == sum(domains) and len(set(domains)) == 1 else (cores,)


def slurm_allocation(facts: Facts) -> Allocation:
    environment = facts.environment
    nodes = facts.number("SLURM_JOB_NUM_NODES", 1)
    processors = min(repeated(environment.get("SLURM_JOB_CPUS_PER_NODE", "")), default=None)
    # Without these Slurm has a number of tasks too, which nobody has asked for.
    asked = "SLURM_NTASKS" in environment or "SLURM_NTASKS_PER_NODE" in environment
    tasks = repeated(environment.get("SLURM_TASKS_PER_NODE", "")) if asked else []
    slots: list[int | None] = [*tasks] if len(tasks) == nodes else [None] * nodes
    on_node = "SLURMD_NODENAME" in environment
    domains = usable_domains(facts, processors) if on_node else ()
    has = cores_text(domains) if on_node else f"{processors or 'some'} processors"
    names = environment.get("SLURM_JOB_NODELIST", "")
    where = f"Slurm job {environment['SLURM_JOB_ID']}: {count(nodes, 'node')} {names}, each {has}"
    threads = facts.number("SLURM_CPUS_PER_TASK", 0)
    return Allocation(
        where,
        tuple(Host("", granted) for granted in slots),
        domains,
        slurm=True,
        threads_of_task=ceil(threads / facts.machine.threads_per_core) or None,
        processors=processors,
    )


def repeated(text: str) -> list[int]:
    """Returns the numbers of Slurm's "2(x3),1"."""
    found: list[int] = []
    for number, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        found.extend([int(number)] * int(times or 1))
    return found


def hostfile_allocation(facts: Facts, by: str, path: str) -> Allocation:
    text = (facts.hostfiles or {}).get(path)
    if text is None:
        raise Refusal(f"{path} cannot be read ({by} names it as the hostfile). Is the path right?")
    hosts = tuple(parsed_hosts(text, path))
    if not hosts:
        raise Refusal(f"{path} names no host ({by}). Write one a line: HOST slots=RANKS.")
    where = f"{count(len(hosts), 'host')} of {path} ({by})"
    if facts.machine.names.isdisjoint(name for host in hosts for name in names_of(host)):
        return Allocation(
            f"{where}; this machine is none of them, so their cores are not known", hosts
        )
    granted = facts.number("NCPUS", 0) if by == "PBS_NODEFILE" else 0
    domains = usable_domains(facts, granted or None)
    return Allocation(f"{where}, each {cores_text(domains)} like this machine", hosts, domains)


def names_of(host: Host) -> tuple[str, str]:
    return host.name, host.name.partition(".")[0]


def parsed_hosts(text: str, path: str) -> Iterator[Host]:
    """Yields the hosts of "NAME slots=N" (Open MPI) or "NAME:N" (MPICH) lines.

    A name that stands there several times has as many slots, as in a nodefile of PBS. Once, and
    without a number, it leaves the number to the plan.
    """
    slots: dict[str, int | None] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        found = re.fullmatch(r"([\w.-]+)(?::(\d+))?", words[0])
        given = [word.partition("=")[2] for word in words[1:] if word.startswith("slots=")]
        number = given[0] if given else (found[2] if found else None)
        if found is None or (number is not None and not re.fullmatch(r"[1-9]\d*", number)):
            raise Refusal(
                f"{path} has a line {line.strip()!r} (it is no host). "
                "Write lines of the form HOST slots=RANKS."
            )
        name = found[1]
        if name in slots:
            slots[name] = (slots[name] or 1) + int(number or 1)
        else:
            slots[name] = int(number) if number else None
    return (Host(name, number) for name, number in slots.items())


def cores_text(domains: tuple[int, ...]) -> str:
    return f"{count(sum(domains), 'core')}, {count(len(domains), 'NUMA domain')}"


def mask_text(facts: Facts) -> str:
    usable, online = len(facts.machine.processors), facts.machine.online
    if online is None or usable >= online:
        return ""
    return (
        f" (an affinity mask, as of taskset or a container, leaves {usable} of {online} processors)"
    )


def quota_text(facts: Facts) -> str:
    quota = facts.machine.quota
    return "" if quota is None else f" (the container's quota is worth {quota:g} processors)"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
