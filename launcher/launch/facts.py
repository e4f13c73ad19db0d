# SPDX-License-Identifier: Apache-2.0
"""Finds out what a job can run on and what can start it. Decides nothing."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

PATIENCE = 30  # s for a program that is asked for its version
HOSTFILE_VARIABLES = (
    "PBS_NODEFILE",
    "OMPI_MCA_orte_default_hostfile",  # Open MPI 4; the Kubernetes MPI operator sets it
    "PRTE_MCA_prte_default_hostfile",  # Open MPI 5
    "HYDRA_HOST_FILE",  # MPICH
    "I_MPI_HYDRA_HOST_FILE",  # Intel MPI
)

# An ABI is what a program is linked with, and so which launchers can start it.
OPEN_MPI = "Open MPI"
MPICH = "MPICH"  # Intel MPI and MVAPICH have it too


@dataclass(frozen=True)
class Processor:
    """A processor that this process may use: a hardware thread of a core."""

    number: int
    core: int
    domain: int  # NUMA domain


@dataclass(frozen=True)
class Machine:
    names: frozenset[str]
    processors: tuple[Processor, ...]
    quota: float | None = None  # processors' worth of time that the control groups grant
    online: int | None = None  # processors that the machine has, whoever may use them

    @property
    def threads_per_core(self) -> int:
        """Returns how many processors the core with the most has."""
        counts: dict[int, int] = {}
        for processor in self.processors:
            counts[processor.core] = counts.get(processor.core, 0) + 1
        return max(counts.values())

    @property
    def cores_by_domain(self) -> tuple[int, ...]:
        cores: dict[int, set[int]] = {}
        for processor in self.processors:
            cores.setdefault(processor.domain, set()).add(processor.core)
        return tuple(len(cores[domain]) for domain in sorted(cores))


@dataclass(frozen=True)
class Program:
    path: str
    abi: str | None = None  # none if it is not known to be linked with MPI
    library: str = ""  # of MPI that it is linked with
    found: bool = True


@dataclass(frozen=True)
class Launcher:
    path: str
    abi: str
    name: str  # "Open MPI", "MPICH" or "Intel MPI"
    version: str
    needs_in_path: str = ""  # a directory, where it has to find a program before all others of PATH

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0] or 0)


@dataclass(frozen=True)
class Facts:
    machine: Machine
    environment: Mapping[str, str]
    program: Program
    launchers: tuple[Launcher, ...] = ()  # the preferred ones first
    srun_kinds: tuple[str, ...] = ()  # what `srun --mpi` takes; empty without srun
    hostfiles: Mapping[str, str] | None = None  # texts by path
    root: bool = False
    named_launcher: str = ""  # by --mpirun

    def number(self, variable: str, default: int) -> int:
        """Returns the number that a variable of the environment has."""
        text = self.environment.get(variable, "")
        return int(text) if text.isdigit() else default


def gather(program: str, hostfile: str | None, mpirun: str | None) -> Facts:
    """Looks at this machine, this process's environment and the named files."""
    environment = dict(os.environ)
    found = find_program(program)
    named = [hostfile, *(environment.get(variable) for variable in HOSTFILE_VARIABLES)]
    return Facts(
        machine=this_machine(),
        environment=environment,
        program=found,
        launchers=tuple(find_launchers(found, mpirun)),
        srun_kinds=srun_kinds() if "SLURM_JOB_ID" in environment else (),
        hostfiles={path: text for path in named if path and (text := text_of(path)) is not None},
        root=os.geteuid() == 0,
        named_launcher=mpirun or "",
    )


def text_of(path: str | Path) -> str | None:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        return None


def output_of(*command: str, first_in_path: Path | None = None) -> str:
    """Returns what the command prints, "" if it cannot be run or does not end."""
    path = os.environ.get("PATH", os.defpath)
    if first_in_path:
        path = f"{first_in_path}{os.pathsep}{path}"
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


# --- the machine ----------------------------------------------------------------------------------


def this_machine(root: Path = Path("/")) -> Machine:
    name = socket.gethostname()
    cpus = root / "sys/devices/system/cpu"
    domain_of = {
        number: int(node.name.removeprefix("node"))
        for node in (root / "sys/devices/system/node").glob("node[0-9]*")
        for number in numbers(text_of(node / "cpulist") or "")
    }
    processors = []
    for number in sorted(os.sched_getaffinity(0)):
        siblings = numbers(text_of(cpus / f"cpu{number}/topology/thread_siblings_list") or "")
        core = min(siblings, default=number)
        processors.append(Processor(number, core, domain_of.get(number, 0)))
    names = frozenset({name, name.partition(".")[0], "localhost"})
    return Machine(names, tuple(processors), cpu_quota(root), os.cpu_count())


def numbers(ranges: str) -> list[int]:
    """Returns the numbers of a list like "0-3,8"."""
    found: list[int] = []
    for part in filter(None, ranges.strip().split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def cpu_quota(root: Path) -> float | None:
    """Returns the least quota of the control groups of this process, in processors.

    As in src/core/cpu_quota.cpp, which says where they are. None without a limit.
    """
    quotas = []
    mounts = root / "sys/fs/cgroup"
    for line in (text_of(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        places = (controllers, "cpu") if controllers else (".", "unified")
        for mount in (mounts / place for place in places):
            below = mount / group.lstrip("/")
            for directory in (below, *below.parents):
                quotas.append(quota_of(directory))
                if directory == mount:
                    break
    return min((quota for quota in quotas if quota is not None), default=None)


def quota_of(group: Path) -> float | None:
    text = text_of(group / "cpu.max")  # of version 2
    if text is None:
        text = f"{text_of(group / 'cpu.cfs_quota_us')} {text_of(group / 'cpu.cfs_period_us')}"
    time, _, period = " ".join(text.split()).partition(" ")
    return int(time) / int(period) if time.isdigit() and period.isdigit() else None


# --- programs -------------------------------------------------------------------------------------


def find_program(name: str) -> Program:
    path = shutil.which(name)
    if path is None:
        return Program(name, found=False)
    libraries = output_of("ldd", path)
    for library, abi in ((r"libmpi\.so\.[2-9]\d", OPEN_MPI), (r"libmpi(?:ch)?\.so\.12", MPICH)):
        found = re.search(rf"^\s*({library})\b(?: => (/\S+))?", libraries, re.MULTILINE)
        if found:
            return Program(path, abi, found[2] or found[1])
    return Program(path)


def find_launchers(program: Program, given: str | None) -> Iterator[Launcher]:
    """Yields the launcher that is given, or else what there is.

    The one that was installed with the program's library comes first.
    """
    names = (
        [given]
        if given
        else [
            *(
                str(prefix / "bin" / name)
                for prefix in prefixes_of(program.library)
                for name in ("mpirun", "mpiexec")
            ),
            *("mpirun", "mpiexec", "mpirun.openmpi", "mpirun.mpich", "mpiexec.hydra"),
        ]
    )
    seen = set()
    for path in filter(None, map(shutil.which, names)):
        real = Path(os.path.realpath(path))
        if real in seen:
            continue
        seen.add(real)
        launcher = launcher_of(path, output_of(path, "--version", first_in_path=real.parent))
        if launcher:
            hydra = shutil.which("mpiexec.hydra")
            # Intel MPI's mpirun is a script, which starts the first mpiexec.hydra of PATH.
            foreign = hydra is None or not is_same(real.parent / "mpiexec.hydra", hydra)
            if launcher.name == "Intel MPI" and foreign:
                launcher = replace(launcher, needs_in_path=str(real.parent))
            yield launcher


def prefixes_of(library: str) -> Iterator[Path]:
    """Yields where the library is installed, and also where it is if its path is a link."""
    if library.startswith("/"):
        yield Path(library).parent.parent
        yield Path(os.path.realpath(library)).parent.parent


def is_same(path: Path, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def launcher_of(path: str, says: str) -> Launcher | None:
    """Returns the launcher whose --version says that, none if it is not a known one."""
    for pattern, abi, name in (
        (r"\((?:Open MPI|OpenRTE)\) (\d[\d.]*)", OPEN_MPI, "Open MPI"),
        (r"Intel\(R\) MPI Library.*Version (\d[\d.]*)", MPICH, "Intel MPI"),
        (r"HYDRA build details:\s+Version:\s+(\d[\d.]*)", MPICH, "MPICH"),
    ):
        found = re.search(pattern, says)
        if found:
            return Launcher(path, abi, name, found[1])
    return None


def srun_kinds() -> tuple[str, ...]:
    return tuple(words_of_list(output_of("srun", "--mpi=list").splitlines()))


def words_of_list(lines: Iterable[str]) -> Iterator[str]:
    """Yields the kinds of `srun --mpi=list`, which has words of explanation and versions too."""
    for line in lines:
        word = line.removeprefix("srun:").strip()
        if re.fullmatch(r"[a-z_]+\d?", word):
            yield word
