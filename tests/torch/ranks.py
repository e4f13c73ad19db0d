# SPDX-License-Identifier: Apache-2.0
"""Processes of a gloo group, which run the tests' functions."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist

# How long the other processes may go on once one has failed: they may be waiting for it.
_AFTER_A_FAILURE = 5.0  # [s]
# How long the first of them may take to import torch, much of it from the disk, and all to meet.
_TO_START = 300.0  # [s]
# Processes are forks of one that has imported torch, which takes seconds, and has done nothing else.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["torch.distributed"])


def _serve(rank: int, count: int, port: int, connection: Connection, stacks: str) -> None:
    """Runs in the process: calls what it is sent, and answers with the result or the traceback."""
    # The processes find each other whatever this host's name resolves to.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    with tempfile.NamedTemporaryFile("w", dir=Path(stacks).parent, delete=False) as stacks_file:
        faulthandler.register(signal.SIGUSR1, file=stacks_file, all_threads=True)
        os.rename(stacks_file.name, stacks)  # the file says that the signal is safe
        torch.set_num_threads(1)
        store = dist.TCPStore("127.0.0.1", port, None, is_master=False)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
        connection.send_bytes(pickle.dumps((True, None)))
        while True:
            try:
                function, arguments = pickle.loads(connection.recv_bytes())
            except EOFError:
                break
            answer: tuple[bool, Any]
            try:
                answer = True, function(rank, count, *arguments)
            except BaseException:
                answer = False, traceback.format_exc()
            connection.send_bytes(pickle.dumps(answer))
    os._exit(0)  # the other processes may be gone already, and torch would wait for them


class Ranks:
    """Some processes of one group. They start with the first call, and live until the end.

    After a call that failed, the next one starts others. Their environment is that of the test file
    when its first process started.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._processes: list[BaseProcess] = []
        self._connections: list[Connection] = []

    def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        deadline: float = 180.0,
        lost: frozenset[int] = frozenset(),
    ) -> list[Any]:
        """Calls function(rank, count, *arguments) in each process and returns the results by rank.

        The ranks `lost` are to die, or to stop, and are killed once the others are done; their results
        are None. Fails with the processes' tracebacks if one raises, dies or is not done at the
        deadline [s]; then all are killed.
        """
        if not self._processes:
            self._start()
            self._answers(_TO_START)
        call = pickle.dumps((function, arguments))
        for connection in self._connections:
            connection.send_bytes(call)
        return self._answers(deadline, lost)

    def _answers(self, deadline: float, lost: frozenset[int] = frozenset()) -> list[Any]:
        results: list[Any] = [None] * self.count
        failures: list[str] = []
        waiting = {connection: rank for rank, connection in enumerate(self._connections)}
        end = time.monotonic() + deadline
        while waiting and time.monotonic() < end:
            if lost.issuperset(waiting.values()):
                for rank in waiting.values():
                    self._processes[rank].kill()
            for ready in wait(list(waiting), timeout=max(0.0, end - time.monotonic())):
                assert isinstance(ready, Connection)
                rank = waiting.pop(ready)
                failure = self._receive(rank, results, lost)
                if failure:
                    failures.append(failure)
                    end = min(end, time.monotonic() + _AFTER_A_FAILURE)
        if waiting:
            failures += self._describe(sorted(waiting.values()), deadline)
        if failures or lost:
            self.kill()
        assert not failures, "\n".join(failures)
        return results

    def _receive(self, rank: int, results: list[Any], lost: frozenset[int]) -> str:
        """Takes a process's answer. Returns what is wrong with it."""
        try:
            succeeded, result = pickle.loads(self._connections[rank].recv_bytes())
        except EOFError:
            self._processes[rank].join(5)
            if rank in lost:
                return ""
            return f"rank {rank} ended with exit code {self._processes[rank].exitcode}"
        if rank in lost:
            return f"rank {rank} was to die, and did not"
        if not succeeded:
            return f"rank {rank} failed:\n{result}"
        results[rank] = result
        return ""

    def _describe(self, ranks: list[int], deadline: float) -> list[str]:
        """Returns what processes that are late are doing."""
        for rank in ranks:
            pid = self._processes[rank].pid
            assert pid is not None
            if self._stacks(rank).exists():  # else it has not begun, and the signal would end it
                os.kill(pid, signal.SIGUSR1)
        time.sleep(0.5)  # they write their stacks
        return [
            f"rank {rank} was not done after {deadline:g} s (or {_AFTER_A_FAILURE:g} s after another"
            f" failed). It was here:\n{self._text_of(rank) or '(it says nothing)'}"
            for rank in ranks
        ]

    def _text_of(self, rank: int) -> str:
        path = self._stacks(rank)
        return path.read_text() if path.exists() else "at its start"

    def _stacks(self, rank: int) -> Path:
        return Path(self._directory.name) / str(rank)

    def _start(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        # This process holds the store, so that a lost rank 0 does not take it along.
        self._store = dist.TCPStore("127.0.0.1", 0, None, is_master=True, wait_for_workers=False)
        for rank in range(self.count):
            here, there = _forks.Pipe()
            process = _forks.Process(
                target=_serve,
                args=(rank, self.count, self._store.port, there, str(self._stacks(rank))),
                daemon=True,
            )
            process.start()
            there.close()
            self._processes.append(process)
            self._connections.append(here)

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
        for process, connection in zip(self._processes, self._connections, strict=True):
            process.join()
            connection.close()
        self._processes, self._connections = [], []

    def __enter__(self) -> Ranks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
