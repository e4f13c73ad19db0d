# SPDX-License-Identifier: Apache-2.0
"""Decides how to start a command: from facts (launch_facts.py) to a command line and its reasons.

Nothing here looks at the machine or the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from launch_facts import HOSTFILE_VARIABLES, MPICH, OPEN_MPI, Facts, Launcher


class Refusal(Exception):
    """What was asked for cannot be done: the problem, why, and what to do about it."""


@dataclass(frozen=True)
class Options:
    """What the user asks for. None leaves it to the plan."""

    ranks: int | None = None
    ranks_per_node: int | None = None
    threads: int | None = None
    hostfile: str | None = None
    launcher: str | None = None  # "srun" or "mpirun"


@dataclass(frozen=True)
class Host:
    name: str  # "" where the launcher knows it from Slurm
    slots: int | None = None  # ranks that the scheduler or the hostfile grants


@dataclass(frozen=True)
class Place:
    """The hosts that a job has. Each is taken to have what this machine has, if that is known."""

    where: str
    hosts: tuple[Host, ...]
    domains: tuple[int, ...] = ()  # cores that each NUMA domain of a host has; empty: unknown
    slurm: bool = False
    threads_of_task: int | None = None  # that the user asked Slurm for
    processors: int | None = None  # of a host, that Slurm grants

    @property
    def cores(self) -> int | None:
        return sum(self.domains) or None

    @property
    def named(self) -> bool:
        return bool(self.hosts[0].name)


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
    refuse_ranks_and_workers(facts.environment)
    place = find_place(facts, options)
    shape = find_shape(facts, options, place)
    srun, launcher, by = choose_starter(facts, options, place)
    if srun:
        start = srun_command(srun, place, shape, facts.machine.threads_per_core)
    elif launcher.abi == OPEN_MPI:
        start = open_mpi_command(launcher, place, shape, facts.environment)
    else:
        start = hydra_command(launcher, place, shape)
    why = [place.where, *shape.why, binding_text(place, shape, bool(srun)), by]
    why += ssh_advice(facts, options, place)
    if shape.crowded and launcher.abi == MPICH:
        why.append(f"ranks of {launcher.name} keep their core while they wait: this will be slow")
    # Other hosts may have another PATH.
    program = facts.program.path if place.named else arguments[0]
    environment = environment_of(facts, launcher, shape)
    return Plan(tuple(why), environment, (*start, program, *arguments[1:]))


def refuse_ranks_and_workers(environment: Mapping[str, str]) -> None:
    """Refuses where the ranks are there already, or where none can be started.

    src/app/launcher.cpp has the launchers' variables.
    """
    sizes = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"]
    if "SLURM_PTY_PORT" not in environment:
        sizes.append("SLURM_STEP_NUM_TASKS")
    for size in sizes:
        if number_in(environment, size, 1) > 1:
            raise Refusal(
                f"this process is one of several ranks already ({size}={environment[size]}). "
                "Start this program by itself: it starts the ranks."
            )
    if environment.get("K_MPI_JOB_ROLE") == "worker":
        raise Refusal(
            "this is a worker of an MPIJob (K_MPI_JOB_ROLE=worker), which only the launcher reaches. "
            "Make it the command of the launcher's container."
        )


def number_in(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    return int(text) if text.isdigit() else default


# --- where ----------------------------------------------------------------------------------------


def find_place(facts: Facts, options: Options) -> Place:
    """Returns the hosts of the first that is there: --hostfile, Slurm, a hostfile, this machine."""
    environment = facts.environment
    if options.hostfile:
        return place_of_hostfile(facts, "--hostfile", options.hostfile)
    if "SLURM_JOB_ID" in environment:
        return place_of_slurm(facts)
    for variable in HOSTFILE_VARIABLES:
        if environment.get(variable):
            return place_of_hostfile(facts, variable, environment[variable])
    domains = usable_domains(facts)
    limits = f"{mask_text(facts)}{quota_text(facts)}"
    return Place(f"this machine: {cores_text(domains)}{limits}", (Host(""),), domains)


def usable_domains(facts: Facts, processors: int | None = None) -> tuple[int, ...]:
    """Returns the cores of each NUMA domain that this process may use.

    `processors` is how many of them a scheduler grants. Where not all cores are granted, or the
    domains are not alike, they count as one domain.
    """
    machine = facts.machine
    domains = machine.cores_by_domain
    cores = sum(domains)
    if processors is not None:
        cores = min(cores, ceil(processors / machine.threads_per_core))
    if machine.quota is not None:
        cores = min(cores, max(1, int(machine.quota)))
    return domains if cores == sum(domains) and len(set(domains)) == 1 else (cores,)


def place_of_slurm(facts: Facts) -> Place:
    environment = facts.environment
    nodes = number_in(environment, "SLURM_JOB_NUM_NODES", 1)
    processors = min(repeated(environment.get("SLURM_JOB_CPUS_PER_NODE", "")), default=None)
    # Without these Slurm has a number of tasks too, which nobody has asked for.
    asked = "SLURM_NTASKS" in environment or "SLURM_NTASKS_PER_NODE" in environment
    tasks = repeated(environment.get("SLURM_TASKS_PER_NODE", "")) if asked else []
    slots: list[int | None] = [*tasks] if len(tasks) == nodes else [None] * nodes
    on_node = "SLURMD_NODENAME" in environment
    domains = usable_domains(facts, processors) if on_node else ()
    has = cores_text(domains) if on_node else f"{processors or 'some'} processors"
    names = environment.get("SLURM_JOB_NODELIST", "")
    where = f"Slurm job {environment['SLURM_JOB_ID']}: {count(nodes, 'node')} {names}, each {has}"
    threads = number_in(environment, "SLURM_CPUS_PER_TASK", 0)
    return Place(
        where,
        tuple(Host("", granted) for granted in slots),
        domains,
        slurm=True,
        threads_of_task=ceil(threads / facts.machine.threads_per_core) or None,
        processors=processors,
    )


def repeated(text: str) -> list[int]:
    """Returns the numbers of Slurm's "2(x3),1"."""
    found: list[int] = []
    for number, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        found.extend([int(number)] * int(times or 1))
    return found


def place_of_hostfile(facts: Facts, by: str, path: str) -> Place:
    text = (facts.hostfiles or {}).get(path)
    if text is None:
        raise Refusal(f"{path} cannot be read ({by} names it as the hostfile). Is the path right?")
    hosts = tuple(parsed_hosts(text, path))
    if not hosts:
        raise Refusal(f"{path} names no host ({by}). Write one a line: HOST slots=RANKS.")
    where = f"{count(len(hosts), 'host')} of {path} ({by})"
    if facts.machine.names.isdisjoint(name for host in hosts for name in names_of(host)):
        return Place(f"{where}; this machine is none of them, so their cores are not known", hosts)
    granted = facts.environment.get("NCPUS", "") if by == "PBS_NODEFILE" else ""
    domains = usable_domains(facts, int(granted) if granted.isdigit() else None)
    return Place(f"{where}, each {cores_text(domains)} like this machine", hosts, domains)


def names_of(host: Host) -> tuple[str, str]:
    return host.name, host.name.partition(".")[0]


def parsed_hosts(text: str, path: str) -> Iterator[Host]:
    """Yields the hosts of "NAME slots=N" (Open MPI) or "NAME:N" (MPICH) lines.

    A name that stands there several times has as many slots, as in a nodefile of PBS. Once, and
    without a number, it leaves the number to the plan.
    """
    slots: dict[str, int | None] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        found = re.fullmatch(r"([\w.-]+)(?::(\d+))?", words[0])
        given = [word.partition("=")[2] for word in words[1:] if word.startswith("slots=")]
        number = given[0] if given else (found[2] if found else None)
        if found is None or (number is not None and not re.fullmatch(r"[1-9]\d*", number)):
            raise Refusal(
                f"{path} has a line {line.strip()!r} (it is no host). "
                "Write lines of the form HOST slots=RANKS."
            )
        name = found[1]
        if name in slots:
            slots[name] = (slots[name] or 1) + int(number or 1)
        else:
            slots[name] = int(number) if number else None
    return (Host(name, number) for name, number in slots.items())


# --- how many -------------------------------------------------------------------------------------


# So many ranks for each core are taken for a typing error: they would take the machine down.
MOST_RANKS_PER_CORE = 256


def find_shape(facts: Facts, options: Options, place: Place) -> Shape:
    counts, reason = rank_counts(options, place)
    most = max(counts)
    cores, domains = place.cores, len(place.domains)
    threads, threads_reason = thread_count(facts, options, place, most)
    room = cores or place.processors
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
        and most // domains * threads <= place.domains[0]
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


def binding_text(place: Place, shape: Shape, by_srun: bool) -> str:
    if by_srun:
        return "ranks are bound to processors as Slurm is configured"
    if shape.bound:
        return "each rank is bound to a NUMA domain, next to its memory"
    if not place.domains:
        return "ranks are not bound: NUMA domains are not known"
    if len(place.domains) == 1:
        return "ranks are not bound: there is one NUMA domain"
    return "ranks are not bound: they do not fit the NUMA domains evenly"


def rank_counts(options: Options, place: Place) -> tuple[tuple[int, ...], str]:
    """Returns the ranks of each host, and why."""
    hosts = len(place.hosts)
    if options.ranks_per_node:
        return (options.ranks_per_node,) * hosts, "--ranks-per-node asks for them"
    slots = tuple(host.slots for host in place.hosts)
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
        return granted, "Slurm's tasks" if place.slurm else "the slots of the hosts"
    if not place.domains:
        return (1,) * hosts, "one on each host (--ranks-per-node asks for others)"
    if hosts == 1 and len(place.domains) == 1 and (place.cores or 1) > 1:
        return (2,), "one alone would have nobody to synchronize with"
    return (len(place.domains),) * hosts, "one on each NUMA domain"


def thread_count(
    facts: Facts, options: Options, place: Place, ranks: int
) -> tuple[int | None, str]:
    """Returns the threads of each of so many ranks on a host, and why."""
    set_already = facts.environment.get("OMP_NUM_THREADS", "")
    if options.threads:
        return options.threads, f"{count(options.threads, 'thread')} each: --threads"
    if set_already.isdigit() and int(set_already) > 0:
        threads = int(set_already)
        return threads, f"{count(threads, 'thread')} each: OMP_NUM_THREADS is set"
    if place.threads_of_task:
        threads = place.threads_of_task
        return threads, f"{count(threads, 'thread')} each: Slurm's processors of a task"
    if place.cores is None:
        return None, "each rank finds out how many threads to have (--threads tells them)"
    threads = max(1, place.cores // ranks)
    return threads, f"{count(threads, 'thread')} each: the cores of a host, shared among its ranks"


# --- by what --------------------------------------------------------------------------------------


def choose_starter(facts: Facts, options: Options, place: Place) -> tuple[str, Launcher, str]:
    """Returns the kind of `srun --mpi`, "" for mpirun; the launcher, and why it is that."""
    launcher, reason = matching_launcher(facts)
    if options.launcher == "srun" and not place.slurm:
        raise Refusal(
            "--launcher srun needs an allocation of Slurm (SLURM_JOB_ID is not set). Start this in a "
            "batch file (launcher/slurm), or behind salloc."
        )
    if not place.slurm or options.launcher == "mpirun":
        return "", launcher, f"{launcher.name} {launcher.version}, {reason}"
    kind, refusal = srun_kind(facts, launcher)
    if kind:
        return kind, launcher, f"srun --mpi={kind}, which {launcher.name} takes: {reason}"
    if options.launcher == "srun":
        raise Refusal(f"srun cannot start this ({refusal}). Leave out --launcher srun.")
    return "", launcher, f"{launcher.name} {launcher.version}, {reason}; not srun: {refusal}"


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


def srun_command(kind: str, place: Place, shape: Shape, threads_per_core: int) -> tuple[str, ...]:
    command = ["srun", f"--mpi={kind}", "--kill-on-bad-exit=1"]
    command += [f"--nodes={len(shape.counts)}", f"--ntasks={shape.ranks}"]
    if shape.even:
        command.append(f"--ntasks-per-node={shape.counts[0]}")
    if shape.crowded:
        return (*command, "--overcommit", "--cpu-bind=none")
    if shape.threads:
        processors = shape.threads * threads_per_core
        if place.processors is None or max(shape.counts) * processors <= place.processors:
            command.append(f"--cpus-per-task={processors}")
    return tuple(command)


def open_mpi_command(
    launcher: Launcher, place: Place, shape: Shape, environment: Mapping[str, str]
) -> tuple[str, ...]:
    command = [launcher.path, "-n", str(shape.ranks)]
    if place.named:
        command += ["--host", hosts_with_counts(place, shape)]
    if shape.bound:
        mapping = f"ppr:{shape.counts[0] // len(place.domains)}:numa"
    elif shape.even:
        mapping = f"ppr:{shape.counts[0]}:node"
    else:
        mapping = "slot"
    # The plan has counted cores; Open MPI would count slots.
    command += ["--map-by", f"{mapping}:oversubscribe"]
    command += ["--bind-to", "numa" if shape.bound else "none"]
    if place.named or place.slurm:
        for name in sorted({*environment, *(["OMP_NUM_THREADS"] if shape.threads else [])}):
            if is_for_ranks(name):
                command += ["-x", name]
    return tuple(command)


def is_for_ranks(name: str) -> bool:
    """Returns whether ranks on other hosts need the variable, which Open MPI does not pass on."""
    return name in ("LD_LIBRARY_PATH", "PYTHONPATH") or (
        name.startswith(("OMP_", "SYNCBN_", "NCCL_")) and name != "SYNCBN_STARTED_BY"
    )


def hydra_command(launcher: Launcher, place: Place, shape: Shape) -> tuple[str, ...]:
    command = [launcher.path, "-n", str(shape.ranks)]
    if place.named:
        command += ["-hosts", hosts_with_counts(place, shape)]
    elif place.slurm and shape.even:
        command += ["-ppn", str(shape.counts[0])]
    if shape.bound and launcher.name == "MPICH":
        command += ["-bind-to", "numa", "-map-by", "numa"]
    return tuple(command)


def hosts_with_counts(place: Place, shape: Shape) -> str:
    pairs = (f"{host.name}:{shape.counts[i]}" for i, host in enumerate(place.hosts))
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


AGENT_VARIABLES = (
    "OMPI_MCA_plm_rsh_agent",
    "PRTE_MCA_plm_ssh_agent",
    "HYDRA_LAUNCHER",
    "HYDRA_LAUNCHER_EXEC",
    "I_MPI_HYDRA_BOOTSTRAP",
)


def ssh_advice(facts: Facts, options: Options, place: Place) -> list[str]:
    """Returns how to see whether ssh reaches the other hosts of a hostfile.

    What mpirun says where it does not is long, and does not name ssh.
    """
    others = [host.name for host in place.hosts if facts.machine.names.isdisjoint(names_of(host))]
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


# --- words ----------------------------------------------------------------------------------------


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def cores_text(domains: tuple[int, ...]) -> str:
    return f"{count(sum(domains), 'core')}, {count(len(domains), 'NUMA domain')}"


def mask_text(facts: Facts) -> str:
    usable, online = len(facts.machine.processors), facts.machine.online
    if online is None or usable >= online:
        return ""
    return (
        f" (an affinity mask, as of taskset or a container, leaves {usable} of {online} processors)"
    )


def quota_text(facts: Facts) -> str:
    quota = facts.machine.quota
    return "" if quota is None else f" (the container's quota is worth {quota:g} processors)"
