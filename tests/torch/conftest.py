# SPDX-License-Identifier: Apache-2.0
"""Processes that the tests of a file share: to start one takes seconds."""

import os
from collections.abc import Iterator

# Compilers of torch's start no processes of their own, which outlive those that a test kills.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import pytest
import torch

from ranks import Ranks


@pytest.fixture(scope="module")
def pair() -> Iterator[Ranks]:
    """Two processes of a group."""
    with Ranks(2) as ranks:
        yield ranks


@pytest.fixture(scope="module")
def trio() -> Iterator[Ranks]:
    """Three processes of a group."""
    with Ranks(3) as ranks:
        yield ranks


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1)
