# SPDX-License-Identifier: Apache-2.0
"""Decides how to start a command: from the facts to a command line and its reasons.

Only facts.py looks at the machine and its environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from launch.allocation import Allocation, find_allocation, names_of
from launch.facts import MPICH, Facts
from launch.options import Options, Refusal
from launch.shape import Shape, find_shape
from launch.start import environment_of, find_starter, start_command


@dataclass(frozen=True)
class Plan:
    why: tuple[str, ...]
    environment: Mapping[str, str]  # what is set besides the environment there is
    command: tuple[str, ...]


def plan(facts: Facts, options: Options, arguments: tuple[str, ...]) -> Plan:
    """Returns how to start the program of the facts with these arguments. Throws Refusal."""
    if not facts.program.found:
        raise Refusal(
            f"there is no program {arguments[0]}. Has it been built, is its path right, and may it be "
            "executed?"
        )
    refuse_ranks_and_workers(facts)
    allocation = find_allocation(facts, options)
    shape = find_shape(facts, options, allocation)
    starter = find_starter(facts, options, allocation)
    why = [
        allocation.where,
        *shape.why,
        binding_text(allocation, shape, bool(starter.srun)),
        starter.why,
    ]
    why += ssh_advice(facts, options, allocation)
    launcher = starter.launcher
    if shape.crowded and launcher.abi == MPICH:
        why.append(f"ranks of {launcher.name} keep their core while they wait: this will be slow")
    start = start_command(facts, starter, allocation, shape)
    # Other hosts may have another PATH.
    program = facts.program.path if allocation.named else arguments[0]
    environment = environment_of(facts, launcher, shape)
    return Plan(tuple(why), environment, (*start, program, *arguments[1:]))


def refuse_ranks_and_workers(facts: Facts) -> None:
    """Refuses where the ranks are there already, or where none can be started.

    src/app/launcher.cpp has the launchers' variables.
    """
    environment = facts.environment
    sizes = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"]
    if "SLURM_PTY_PORT" not in environment:
        sizes.append("SLURM_STEP_NUM_TASKS")
    for size in sizes:
        if facts.number(size, 1) > 1:
            raise Refusal(
                f"this process is one of several ranks already ({size}={environment[size]}). "
                "Start this program by itself: it starts the ranks."
            )
    if environment.get("K_MPI_JOB_ROLE") == "worker":
        raise Refusal(
            "this is a worker of an MPIJob (K_MPI_JOB_ROLE=worker), which only the launcher reaches. "
            "Make it the command of the launcher's container."
        )


def binding_text(allocation: Allocation, shape: Shape, by_srun: bool) -> str:
    if by_srun:
        return "ranks are bound to processors as Slurm is configured"
    if shape.bound:
        return "each rank is bound to a NUMA domain, next to its memory"
    if not allocation.domains:
        return "ranks are not bound: NUMA domains are not known"
    if len(allocation.domains) == 1:
        return "ranks are not bound: there is one NUMA domain"
    return "ranks are not bound: they do not fit the NUMA domains evenly"


AGENT_VARIABLES = (
    "OMPI_MCA_plm_rsh_agent",
    "PRTE_MCA_plm_ssh_agent",
    "HYDRA_LAUNCHER",
    "HYDRA_LAUNCHER_EXEC",
    "I_MPI_HYDRA_BOOTSTRAP",
)


def ssh_advice(facts: Facts, options: Options, allocation: Allocation) -> list[str]:
    """Returns how to see whether ssh reaches the other hosts of a hostfile.

    What mpirun says where it does not is long, and does not name ssh.
    """
    others = [
        host.name for host in allocation.hosts if facts.machine.names.isdisjoint(names_of(host))
    ]
    if (
        not options.hostfile
        or not others
        or not facts.environment.keys().isdisjoint(AGENT_VARIABLES)
    ):
        return []
    return [
        "other hosts are reached by ssh, which must not ask for anything; if this fails, try "
        f"`ssh -o BatchMode=yes {others[0]} true`"
    ]
