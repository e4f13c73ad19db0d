# SPDX-License-Identifier: Apache-2.0
"""Training programs that torchrun, torch.multiprocessing.spawn and mpirun start."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import launched

PROGRAM = [sys.executable, launched.__file__]
DEADLINE = 300.0  # [s] much of torch has to be read from the disk
LAUNCHERS = {
    "torchrun": [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        launched.__file__,
    ],
    "spawn": [*PROGRAM, "--spawn"],
    "mpirun": ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", *PROGRAM],
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run(command: list[str]) -> tuple[int, str]:
    """Runs a command on this host alone. Returns its exit status, and what it and its children print."""
    environment = {
        **os.environ, "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        printed, _ = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        pytest.fail(f"{command} was not done after {DEADLINE:g} s. It printed:\n{printed}")
    return process.returncode, printed


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launched_training_equals_one_process_and_ends_with_a_message(
    launcher: str, tmp_path: Path
) -> None:
    if launcher == "mpirun":
        path = shutil.which("mpirun")
        if path is None:
            pytest.skip("there is no mpirun")
        version = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        if "Open MPI" not in version:
            pytest.skip("mpirun is not Open MPI's")
    command = list(LAUNCHERS[launcher])
    command.insert(command.index(launched.__file__) + 1, str(tmp_path))
    status, printed = run(command)
    losses = json.loads((tmp_path / "losses.json").read_text())
    expected = launched.train(launched.make(convert=False), 0, 1)
    # Three steps of other roundings, 1e-13 of statistics each (whole_batch.py), of gradients below 10;
    # each step multiplies what is there by less than 10.
    assert losses == pytest.approx(expected, abs=1e-13 * 10 * 10**2, rel=0)
    assert status != 0
    assert "forward of 'norm' (C=5, f64)" in printed and "missing: rank 1 of 2" in printed, printed
    assert not list(tmp_path.glob("unharmed-*"))


def test_loss_with_statistics_of_each_process_is_another() -> None:
    """Shows that the comparison above sees whether layers are synchronized."""
    parts = torch.arange(launched.BATCH).tensor_split(2)
    loss = sum(launched.loss_of(launched.make(convert=False), 0, part).item() for part in parts)
    assert abs(loss - launched.train(launched.make(convert=False), 0, 1)[0]) > 1e-3
