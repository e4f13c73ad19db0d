# SPDX-License-Identifier: Apache-2.0
"""Clusters that SimGrid's SMPI simulates, and runs of programs on them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ENVELOPE = 16  # bytes that SMPI adds to each message
LINK_BANDWIDTH = 1e10  # bytes/s; factors make other bandwidths of it
FASTEST = 1e-14  # s/byte; SMPI has no infinite bandwidth


class SimulationError(Exception):
    """The simulation did not end well."""


@dataclass(frozen=True)
class Network:
    """One-way times between any two hosts.

    A message takes as long as the line says through the two points between which its length is.
    Messages share the link of a host that they leave at the same time, or that they reach.
    """

    lengths: tuple[int, ...]  # bytes; two or more, ascending
    one_way: tuple[float, ...]  # s, positive

    @classmethod
    def of(cls, latency: float, bandwidth: float) -> Network:
        """Returns the network with this latency [s] and bandwidth [bytes/s]."""
        longest = 1 << 20
        return cls((0, longest), (latency, latency + longest / bandwidth))

    @property
    def latency(self) -> float:
        """Least one-way time. [s]"""
        return min(self.one_way)

    def options(self) -> list[str]:
        """Returns options of SMPI that turn links of `latency` and LINK_BANDWIDTH into this network.

        SMPI has a latency and a bandwidth for each range of lengths, none of which can be negative.
        Where that does not allow for the line, the longer one of its two points is still on it.
        Messages shorter than the first point take as long as it.
        """
        begins = [0, *(length + ENVELOPE for length in self.lengths[:-1])]
        slopes = [FASTEST]  # s/byte
        points = zip(self.lengths, self.one_way, strict=True)
        for (length, time), (longer, its_time) in pairwise(points):
            slope = (its_time - time) / (longer - length)
            slopes.append(max(FASTEST, min(slope, its_time / (longer + ENVELOPE))))
        latencies = []
        bandwidths = []
        for begin, end, time, slope in zip(begins, self.lengths, self.one_way, slopes, strict=True):
            latency = time - slope * (end + ENVELOPE)
            latencies.append(f"{begin}:{latency / self.latency:.9g}")
            bandwidths.append(f"{begin}:{1 / (slope * LINK_BANDWIDTH):.9g}")
        return [
            "--cfg=smpi/lat-factor:" + ";".join(latencies),
            "--cfg=smpi/bw-factor:" + ";".join(bandwidths),
            "--cfg=network/TCP-gamma:1e18",  # no window that a long way could fill
        ]


@dataclass(frozen=True)
class Cluster:
    """Hosts with as many ranks each, which share one network."""

    hosts: int
    ranks_per_host: int
    network: Network
    poll: float  # s from one look of a waiting rank for messages to the next

    def options(self) -> list[str]:
        """Returns the options with which SMPI simulates this cluster on links as in `platform`."""
        # Computation takes no simulated time, nor does MPI: only the turns of ranks that wait do
        # (SYNCBN_POLL). What shortens the simulation: messages in one direction do not slow those
        # in the other; every send waits for its receive, as MPI allows, because SimGrid searches a
        # list of those that did not; and MPI's own collectives take log2(ranks) steps.
        return [
            *self.network.options(),
            "--cfg=smpi/test:0",
            "--cfg=smpi/iprobe:0",
            "--cfg=smpi/wtime:0",
            "--cfg=smpi/grow-injected-times:no",
            "--cfg=smpi/simulate-computation:no",
            "--cfg=network/crosstraffic:no",
            "--cfg=smpi/send-is-detached-thresh:0",
            "--cfg=smpi/coll-selector:ompi",
            "--cfg=smpi/bcast:binomial_tree",
            "--cfg=smpi/allreduce:rdb",
            "--cfg=smpi/allgather:bruck",
            "--cfg=smpi/allgatherv:ompi_bruck",
        ]

    def platform(self) -> str:
        """Returns SimGrid's description of the hosts. A message takes the links of two of them."""
        return f"""<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <zone id="world" routing="Full">
    <cluster id="cluster" prefix="host" suffix="" radical="0-{self.hosts - 1}" speed="100Gf"
             bw="{LINK_BANDWIDTH:.9g}Bps" lat="{self.network.latency / 2:.12g}s"
             sharing_policy="SPLITDUPLEX" loopback_bw="20GBps" loopback_lat="0.2us"/>
  </zone>
</platform>
"""

    def run(self, program: Path, *arguments: object, seconds: int) -> str:
        """Runs the program as ranks of this cluster, at most that long, and returns its output.

        Throws SimulationError if it fails.
        """
        ranks = self.hosts * self.ranks_per_host
        with tempfile.TemporaryDirectory() as directory:
            platform = Path(directory, "cluster.xml")
            platform.write_text(self.platform())
            hosts = Path(directory, "ranks")
            hosts.write_text("".join(f"host{i // self.ranks_per_host}\n" for i in range(ranks)))
            # Nobody but timeout would end smpirun's child. All ranks share the program's globals,
            # as ranks that are threads do.
            command = ["smpirun", "-np", ranks, "-no-privatize", "-quiet", "-platform", platform]
            command += ["-hostfile", hosts]
            command += ["-wrapper", f"timeout --foreground --signal=KILL {seconds}"]
            command += [*self.options(), "--log=root.thres:error", program.resolve(), *arguments]
            try:
                done = subprocess.run(
                    [str(word) for word in command],
                    env={
                        **os.environ,
                        "TMPDIR": directory,
                        "SYNCBN_POLL": str(max(1, round(1e9 * self.poll))),
                    },
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                )
            except FileNotFoundError:
                raise SimulationError(
                    "there is no smpirun in PATH. Install SimGrid (Debian's libsimgrid-dev)."
                ) from None
        if done.returncode == KILLED:
            raise SimulationError(f"{self.hosts} hosts were not simulated within {seconds} s")
        if done.returncode != 0:
            raise SimulationError(
                f"the simulation of {self.hosts} hosts failed:\n{done.stdout}{done.stderr}"
            )
        return done.stdout


KILLED = 137  # smpirun's exit status if timeout has killed the program


def simulator() -> str:
    """Returns the simulator's name and version."""
    found = subprocess.run(["smpirun", "-version"], capture_output=True, text=True, check=True)
    return found.stdout.strip().replace(" version", "", 1)
