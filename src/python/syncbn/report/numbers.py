# SPDX-License-Identifier: Apache-2.0
"""Numbers as text, with units, to three digits or fewer."""

from __future__ import annotations

import math

from .distribution import Interval

NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PREFIXES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def digits(value: float, significant: int = 3) -> str:
    """Returns a number to so many significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{significant - 1}e}")
    decimals = max(0, significant - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}".replace(",", NARROW_SPACE)


def power_of_ten(exponent: int) -> str:
    """Returns 10 to a power."""
    if exponent in (0, 1):
        return f"{10**exponent}"
    return "10" + str(exponent).translate(_RAISED)


def brief(value: float, significant: int = 3) -> str:
    """Returns a number to so many significant digits, with a power of ten if it is very small or large."""
    if value == 0 or not math.isfinite(value) or 1e-3 <= abs(value) < 1e6:
        return digits(value, significant).replace("-", MINUS)
    mantissa, exponent = f"{value:.{significant - 1}e}".split("e")
    return f"{mantissa}·{power_of_ten(int(exponent))}".replace("-", MINUS)


def signed(value: float) -> str:
    """Returns a difference, briefly and with its sign."""
    return f"{'+' if value > 0 else ''}{brief(value)}"


def seconds(value: float, significant: int = 3) -> str:
    """Returns a time in the unit that suits it."""
    size = abs(float(f"{value:.{significant - 1}e}"))
    for factor, unit in _PREFIXES:
        if size >= factor * 0.9999999:
            return f"{digits(value / factor, significant)}{NARROW_SPACE}{unit}"
    return "0" if value == 0 else f"{digits(value / 1e-9, significant)}{NARROW_SPACE}ns"


def short_seconds(value: float) -> str:
    """Returns a time as it stands at a tick of an axis."""
    number, _, unit = seconds(value, 3).rpartition(NARROW_SPACE)
    return f"{float(number.replace(NARROW_SPACE, '')):g}{NARROW_SPACE}{unit}" if number else unit


def _ratio(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= value < 10 else digits(value, 2 if value < 1 else 3)


def times(value: float) -> str:
    """Returns a ratio."""
    return f"{_ratio(value)}×"


def _span(low: str, high: str) -> str:
    """Returns a range whose line is not broken at the dash."""
    return f"{low}\N{WORD JOINER}–\N{WORD JOINER}{high}"


def times_range(interval: Interval) -> str:
    """Returns a ratio with its interval."""
    return f"{times(interval.value)} ({_span(_ratio(interval.low), _ratio(interval.high))})"


def seconds_range(interval: Interval) -> str:
    """Returns a time with its interval, both in the unit of the time."""
    text = seconds(interval.value)
    unit = text.rsplit(NARROW_SPACE, 1)[-1]
    factor = next((size for size, name in _PREFIXES if name == unit), 1.0)
    return f"{text} ({_span(digits(interval.low / factor), digits(interval.high / factor))})"


def error(share: float) -> str:
    """Returns how far a prediction is off: in per cent, or how many times too large it is."""
    return percent(share) if share < 2 else f"{digits(1 + share, 2)}×"


def percent(share: float) -> str:
    value = 100 * share
    if value == 0:
        return f"0{NARROW_SPACE}%"
    if abs(value) < 1:
        return f"{digits(value, 1 if abs(value) < 0.1 else 2)}{NARROW_SPACE}%"
    return f"{value:.1f}{NARROW_SPACE}%" if abs(value) < 10 else f"{count(value)}{NARROW_SPACE}%"


def count(number: float) -> str:
    """Returns a whole number in groups of three digits."""
    return f"{number:,.0f}".replace(",", NARROW_SPACE)


def amount(number: int, singular: str, plural: str = "") -> str:
    """Returns how many there are of something: 1 rank, 2 ranks."""
    return f"{count(number)} {singular if number == 1 else plural or singular + 's'}"


def size(number: float) -> str:
    """Returns a number of bytes, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            text = f"{number:.0f}" if number == int(number) else digits(number)
            return f"{text}{NARROW_SPACE}{unit}"
        number /= 1024
    return f"{digits(number)}{NARROW_SPACE}TiB"


def listed(words: list[str]) -> str:
    """Returns words as a list in a sentence."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
