# SPDX-License-Identifier: Apache-2.0
"""JSON documents, read with errors that name the file and the member."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")


class DocumentError(Exception):
    """A file is not what it should be. The text is for whoever gave it."""


class Member:
    """A value in a document, which knows its place there."""

    def __init__(self, value: Any, file: Path, place: str = "") -> None:
        self.value = value
        self.file = file
        self.place = place

    def _refuse(self, wanted: str) -> DocumentError:
        shown = json.dumps(self.value)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        return DocumentError(
            f"{self.file}: {self.place or 'the document'} is no {wanted} ({shown})."
        )

    def has(self, name: str) -> bool:
        """Tells whether the object has a member of this name that is not null."""
        return self._object().get(name) is not None

    def _object(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self._refuse("object")
        return self.value

    def __getitem__(self, name: str) -> Member:
        """Returns a member of an object, which must be there."""
        members = self._object()
        place = f"{self.place}.{name}" if self.place else name
        if name not in members:
            raise DocumentError(
                f"{self.file}: {place} is missing (there are: {', '.join(members) or 'no members'}). "
                "Was the file written by another version of syncbn?"
            )
        return Member(members[name], self.file, place)

    def optional(self, name: str, read_it: Callable[[Member], Value]) -> Value | None:
        """Returns what is read of a member, None where the object does not have it."""
        return read_it(self[name]) if self.has(name) else None

    def names(self) -> list[str]:
        """Returns the names of an object's members."""
        return list(self._object())

    def __iter__(self) -> Iterator[Member]:
        """Goes through the values of a list."""
        if not isinstance(self.value, list):
            raise self._refuse("list")
        for i, value in enumerate(self.value):
            yield Member(value, self.file, f"{self.place}[{i}]")

    def number(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self._refuse("number")
        if not math.isfinite(self.value):
            raise self._refuse("finite number")
        return float(self.value)

    def integer(self) -> int:
        number = self.number()
        if number != int(number):
            raise self._refuse("whole number")
        return int(number)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self._refuse("text")
        return self.value

    def truth(self) -> bool:
        if not isinstance(self.value, bool):
            raise self._refuse("true or false")
        return self.value

    def numbers(self) -> list[float]:
        return [value.number() for value in self]

    def integers(self) -> list[int]:
        return [value.integer() for value in self]


def read(file: Path) -> Member:
    """Returns the document of a JSON file."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DocumentError(f"cannot read {file} ({why}).") from error
    try:
        return Member(json.loads(text), file)
    except ValueError as error:
        raise DocumentError(
            f"{file} is no JSON ({error}). Was it cut short? Give a file that syncbn has written."
        ) from error
