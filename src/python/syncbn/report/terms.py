# SPDX-License-Identifier: Apache-2.0
"""The terms that the time of an exchange is made of.

h hosts, p ranks on the fullest of them, n doubles. `builtin` sums through shared memory within a host
(src/comm/node/exchange.hpp) and by recursive multiplying between hosts (src/comm/mpi/schedule.hpp).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """What a time depends on."""

    ranks: int
    hosts: int
    most_on_a_host: int
    doubles: int
    waits: float = 0.0  # ranks x threads / processors - 1 of the fullest host, at least 0


@dataclass(frozen=True)
class Term:
    """A part of the time: a coefficient times what the term says of the setting."""

    name: str
    symbol: str  # of the coefficient
    formula: str  # what it is multiplied by
    unit: str  # of the coefficient
    of: Callable[[Setting], float]


def rounds(hosts: int) -> tuple[int, int]:
    """Returns the rounds of recursive multiplying by twos and threes between hosts, and how many
    messages of a host go one after another in them (src/comm/mpi/schedule.hpp)."""
    core, twos, threes = 1, 0, 0
    power, exponent = 1, 0
    while power <= hosts:
        number, halvings = power, 0
        while 2 * number <= hosts:
            number, halvings = 2 * number, halvings + 1
        if number > core:
            core, twos, threes = number, halvings, exponent
        power, exponent = 3 * power, exponent + 1
    folding = 0 if core == hosts else 2
    return twos + threes + folding, twos + 2 * threes + folding


def _doublings(count: int) -> int:
    return (count - 1).bit_length()


def _sharing(at: Setting) -> int:
    """Returns how many ranks exchange through a host's memory; a rank alone there does not."""
    return at.most_on_a_host if at.most_on_a_host > 1 else 0


CALL = Term("call", "c₀", "1", "s", lambda at: 1.0)
WAITS = Term("waits for a processor", "w", "q(p)", "s", lambda at: at.waits)
BUILTIN = (
    CALL,
    Term("arrivals to look at", "a", "p", "s", _sharing),
    Term("values read of each other", "b", "p·n", "s", lambda at: _sharing(at) * at.doubles),
    Term("rounds between hosts", "α", "r(h)", "s", lambda at: rounds(at.hosts)[0]),
    Term("values between hosts", "β", "m(h)·n", "s", lambda at: rounds(at.hosts)[1] * at.doubles),
    WAITS,
)
MPI_ALLREDUCE = (
    CALL,
    Term("rounds within a host", "a", "⌈log₂ p⌉", "s", lambda at: _doublings(at.most_on_a_host)),
    Term(
        "values within a host", "b", "⌈log₂ p⌉·n", "s",
        lambda at: _doublings(at.most_on_a_host) * at.doubles,
    ),
    Term("rounds between hosts", "α", "⌈log₂ h⌉", "s", lambda at: _doublings(at.hosts)),
    Term(
        "values between hosts", "β", "⌈log₂ h⌉·n", "s",
        lambda at: _doublings(at.hosts) * at.doubles,
    ),
    WAITS,
)  # fmt: skip
