# SPDX-License-Identifier: Apache-2.0
"""Decides how many ranks each host gets, and what each rank gets."""

from __future__ import annotations

from dataclasses import dataclass

from launch.allocation import Allocation, count
from launch.facts import Facts
from launch.options import Options, Refusal

# So many ranks for each core are taken for a typing error: they would take the machine down.
MOST_RANKS_PER_CORE = 256


@dataclass(frozen=True)
class Shape:
    """How many ranks each host gets, and what each rank gets."""

    counts: tuple[int, ...]  # ranks by host
    threads: int | None  # of a rank; None: each finds out by itself
    bound: bool  # to a NUMA domain, with as many ranks on each
    crowded: bool  # more ranks than cores
    why: tuple[str, ...]

    @property
    def ranks(self) -> int:
        return sum(self.counts)

    @property
    def even(self) -> bool:
        return len(set(self.counts)) == 1


def find_shape(facts: Facts, options: Options, allocation: Allocation) -> Shape:
    counts, reason = rank_counts(options, allocation)
    most = max(counts)
    cores, domains = allocation.cores, len(allocation.domains)
    threads, threads_reason = thread_count(facts, options, allocation, most)
    room = cores or allocation.processors
    crowded = room is not None and most > room
    if room is not None and most > MOST_RANKS_PER_CORE * room:
        raise Refusal(
            f"{count(most, 'rank')} on a host of {count(room, 'core')} is refused (more than "
            f"{MOST_RANKS_PER_CORE} for each core; {reason}). Ask for fewer."
        )
    bound = (
        domains > 1
        and len(set(counts)) == 1
        and most % domains == 0
        and threads is not None
        and most // domains * threads <= allocation.domains[0]
    )
    why = [f"{count(sum(counts), 'rank')}: {reason}", threads_reason]
    if crowded:
        why.append(
            f"{count(most, 'rank')} share {count(room or 0, 'core')} of a host: they wait for each "
            "other, and times tell of the system's scheduler"
        )
    if room is not None and threads is not None and threads > 1 and most * threads > room:
        why.append(
            f"{most * threads} threads share {count(room, 'core')} of a host: this may be slower than "
            f"--threads {max(1, room // most)}"
        )
    return Shape(counts, threads, bound, crowded, tuple(why))


def rank_counts(options: Options, allocation: Allocation) -> tuple[tuple[int, ...], str]:
    """Returns the ranks of each host, and why."""
    hosts = len(allocation.hosts)
    if options.ranks_per_node:
        return (options.ranks_per_node,) * hosts, "--ranks-per-node asks for them"
    slots = tuple(host.slots for host in allocation.hosts)
    if options.ranks:
        if options.ranks < hosts:
            raise Refusal(
                f"--ranks {options.ranks} is less than the {hosts} hosts there are (each gets one at "
                "least). Ask for more ranks, or for fewer hosts."
            )
        least, more = divmod(options.ranks, hosts)
        return tuple(least + (i < more) for i in range(hosts)), "--ranks asks for them"
    granted = tuple(number for number in slots if number is not None)
    if len(granted) == hosts:
        return granted, "Slurm's tasks" if allocation.slurm else "the slots of the hosts"
    if not allocation.domains:
        return (1,) * hosts, "one on each host (--ranks-per-node asks for others)"
    if hosts == 1 and len(allocation.domains) == 1 and (allocation.cores or 1) > 1:
        return (2,), "one alone would have nobody to synchronize with"
    return (len(allocation.domains),) * hosts, "one on each NUMA domain"


def thread_count(
    facts: Facts, options: Options, allocation: Allocation, ranks: int
) -> tuple[int | None, str]:
    """Returns the threads of each of so many ranks on a host, and why."""
    set_already = facts.number("OMP_NUM_THREADS", 0)
    if options.threads:
        return options.threads, f"{count(options.threads, 'thread')} each: --threads"
    if set_already:
        return set_already, f"{count(set_already, 'thread')} each: OMP_NUM_THREADS is set"
    if allocation.threads_of_task:
        threads = allocation.threads_of_task
        return threads, f"{count(threads, 'thread')} each: Slurm's processors of a task"
    if allocation.cores is None:
        return None, "each rank finds out how many threads to have (--threads tells them)"
    threads = max(1, allocation.cores // ranks)
    return threads, f"{count(threads, 'thread')} each: the cores of a host, shared among its ranks"
