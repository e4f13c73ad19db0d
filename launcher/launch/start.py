# SPDX-License-Identifier: Apache-2.0
"""Decides what starts the ranks, srun or an mpirun, and with which options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from launch.allocation import Allocation
from launch.facts import OPEN_MPI, Facts, Launcher
from launch.options import Options, Refusal
from launch.shape import Shape


@dataclass(frozen=True)
class Starter:
    launcher: Launcher  # of the program's MPI
    srun: str  # the kind of `srun --mpi` that starts the ranks; "" if the launcher does
    why: str


def find_starter(facts: Facts, options: Options, allocation: Allocation) -> Starter:
    """Returns what starts the ranks: srun where the program's MPI takes it, or else its mpirun."""
    launcher, reason = matching_launcher(facts)
    if options.launcher == "srun" and not allocation.slurm:
        raise Refusal(
            "--launcher srun needs an allocation of Slurm (SLURM_JOB_ID is not set). Start this in a "
            "batch file (launcher/slurm), or behind salloc."
        )
    mpirun = f"{launcher.name} {launcher.version}, {reason}"
    if not allocation.slurm or options.launcher == "mpirun":
        return Starter(launcher, "", mpirun)
    kind, refusal = srun_kind(facts, launcher)
    if kind:
        why = f"srun --mpi={kind}, which {launcher.name} takes: {reason}"
        return Starter(launcher, kind, why)
    if options.launcher == "srun":
        raise Refusal(f"srun cannot start this ({refusal}). Leave out --launcher srun.")
    return Starter(launcher, "", f"{mpirun}; not srun: {refusal}")


def srun_kind(facts: Facts, launcher: Launcher) -> tuple[str, str]:
    """Returns the kind of `srun --mpi` for this MPI, or "" and why there is none."""
    kind = "pmix" if launcher.abi == OPEN_MPI else "pmi2"
    if kind not in facts.srun_kinds:
        kinds = ", ".join(facts.srun_kinds) or "none"
        return "", f"{launcher.name} needs srun --mpi={kind}, and srun has {kinds}"
    if launcher.name == "Intel MPI" and "I_MPI_PMI_LIBRARY" not in facts.environment:
        return "", "Intel MPI finds srun's ranks by I_MPI_PMI_LIBRARY, which is not set"
    return kind, ""


def matching_launcher(facts: Facts) -> tuple[Launcher, str]:
    """Returns the first launcher of the MPI that the program is linked with, and why it is that."""
    program = facts.program
    if not facts.launchers:
        raise Refusal(
            "there is no mpirun of an MPI that is known here (Open MPI, MPICH, Intel MPI). Install "
            "one, load its module, or give --mpirun PATH."
            if not facts.named_launcher
            else f"--mpirun {facts.named_launcher} cannot be used (it is not there, or is no launcher "
            "of Open MPI, MPICH or Intel MPI). Is the path right? Without it one is looked for."
        )
    if program.abi is None:
        launcher = facts.launchers[0]
        return launcher, f"the first found ({launcher.path}); the command does not tell its MPI"
    for launcher in facts.launchers:
        if launcher.abi == program.abi:
            return launcher, f"as {program.path} is linked with {program.library}"
    others = ", ".join(f"{launcher.path} is {launcher.name}'s" for launcher in facts.launchers)
    raise Refusal(
        f"{program.path} is linked with {program.abi} ({program.library}), but {others}: it would "
        "start as so many single processes. Load the module of the MPI that it was built with, or "
        "give that one's --mpirun PATH."
    )


def start_command(
    facts: Facts, starter: Starter, allocation: Allocation, shape: Shape
) -> tuple[str, ...]:
    """Returns the words before the program's own that start it on every rank."""
    if starter.srun:
        return srun_command(starter.srun, allocation, shape, facts.machine.threads_per_core)
    if starter.launcher.abi == OPEN_MPI:
        return open_mpi_command(starter.launcher, allocation, shape, facts.environment)
    return hydra_command(starter.launcher, allocation, shape)


def srun_command(
    kind: str, allocation: Allocation, shape: Shape, threads_per_core: int
) -> tuple[str, ...]:
    command = ["srun", f"--mpi={kind}", "--kill-on-bad-exit=1"]
    command += [f"--nodes={len(shape.counts)}", f"--ntasks={shape.ranks}"]
    if shape.even:
        command.append(f"--ntasks-per-node={shape.counts[0]}")
    if shape.crowded:
        return (*command, "--overcommit", "--cpu-bind=none")
    if shape.threads:
        processors = shape.threads * threads_per_core
        if allocation.processors is None or max(shape.counts) * processors <= allocation.processors:
            command.append(f"--cpus-per-task={processors}")
    return tuple(command)


def open_mpi_command(
    launcher: Launcher, allocation: Allocation, shape: Shape, environment: Mapping[str, str]
) -> tuple[str, ...]:
    command = [launcher.path, "-n", str(shape.ranks)]
    if allocation.named:
        command += ["--host", hosts_with_counts(allocation, shape)]
    if shape.bound:
        mapping = f"ppr:{shape.counts[0] // len(allocation.domains)}:numa"
    elif shape.even:
        mapping = f"ppr:{shape.counts[0]}:node"
    else:
        mapping = "slot"
    # The plan has counted cores; Open MPI would count slots.
    command += ["--map-by", f"{mapping}:oversubscribe"]
    command += ["--bind-to", "numa" if shape.bound else "none"]
    if allocation.named or allocation.slurm:
        for name in sorted({*environment, *(["OMP_NUM_THREADS"] if shape.threads else [])}):
            if is_for_ranks(name):
                command += ["-x", name]
    return tuple(command)


def is_for_ranks(name: str) -> bool:
    """Returns whether ranks on other hosts need the variable, which Open MPI does not pass on."""
    return name in ("LD_LIBRARY_PATH", "PYTHONPATH") or (
        name.startswith(("OMP_", "SYNCBN_", "NCCL_")) and name != "SYNCBN_STARTED_BY"
    )


def hydra_command(launcher: Launcher, allocation: Allocation, shape: Shape) -> tuple[str, ...]:
    command = [launcher.path, "-n", str(shape.ranks)]
    if allocation.named:
        command += ["-hosts", hosts_with_counts(allocation, shape)]
    elif allocation.slurm and shape.even:
        command += ["-ppn", str(shape.counts[0])]
    if shape.bound and launcher.name == "MPICH":
        command += ["-bind-to", "numa", "-map-by", "numa"]
    return tuple(command)


def hosts_with_counts(allocation: Allocation, shape: Shape) -> str:
    pairs = (f"{host.name}:{shape.counts[i]}" for i, host in enumerate(allocation.hosts))
    return ",".join(pairs)


def environment_of(facts: Facts, launcher: Launcher, shape: Shape) -> dict[str, str]:
    """Returns the variables to set. What the user has set of MPI stays."""
    wanted = {}
    if launcher.abi == OPEN_MPI:
        if facts.root:
            wanted["OMPI_ALLOW_RUN_AS_ROOT"] = wanted["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
        if shape.crowded:
            wanted["OMPI_MCA_mpi_yield_when_idle"] = "1"
    if launcher.name == "Intel MPI":
        wanted["I_MPI_PIN" + ("_DOMAIN" if shape.bound else "")] = "numa" if shape.bound else "0"
    settings = {name: value for name, value in wanted.items() if name not in facts.environment}
    if launcher.needs_in_path:
        path = facts.environment.get("PATH", os.defpath)
        settings["PATH"] = f"{launcher.needs_in_path}{os.pathsep}{path}"
    if shape.threads:
        settings["OMP_NUM_THREADS"] = str(shape.threads)
    return settings
