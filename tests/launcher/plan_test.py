#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What launcher/run decides on machines, allocations and hostfiles that are made up."""

from __future__ import annotations

import sys
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "launcher"))
from launch.facts import (
    MPICH,
    OPEN_MPI,
    Facts,
    Launcher,
    Machine,
    Processor,
    Program,
    cpu_quota,
    launcher_of,
    numbers,
    words_of_list,
)
from launch.options import Options, Refusal
from launch.plan import Plan, plan

OPEN_MPI_4 = Launcher("/usr/bin/mpirun", OPEN_MPI, "Open MPI", "4.1.4")
MPICH_4 = Launcher("/usr/bin/mpirun.mpich", MPICH, "MPICH", "4.0.2")
INTEL = Launcher("/opt/intel/bin/mpirun", MPICH, "Intel MPI", "2021.8")
LINKED_WITH_OPEN_MPI = Program("/opt/app", OPEN_MPI, "/lib/libmpi.so.40")
LINKED_WITH_MPICH = Program("/opt/app", MPICH, "/lib/libmpich.so.12")


def machine(
    *domains: int, threads: int = 1, quota: float | None = None, online: int | None = None
) -> Machine:
    """A machine named here, with so many cores in each NUMA domain, each of so many processors."""
    processors: list[Processor] = []
    for domain, cores in enumerate(domains):
        for _ in range(cores):
            core = len(processors)
            processors += [Processor(core + i, core, domain) for i in range(threads)]
    return Machine(frozenset({"here", "localhost"}), tuple(processors), quota, online)


LAPTOP = Facts(machine(8, threads=2), {}, LINKED_WITH_OPEN_MPI, (OPEN_MPI_4, MPICH_4))
SOCKETS = replace(LAPTOP, machine=machine(16, 16, threads=2))


def slurm(facts: Facts, **variables: str) -> Facts:
    """The facts in a batch script of an allocation of two whole nodes."""
    processors = str(len(facts.machine.processors))
    environment = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_CPUS_PER_NODE": f"{processors}(x2)",
        "SLURM_TASKS_PER_NODE": f"{processors}(x2)",
        "SLURMD_NODENAME": "node1",
        **variables,
    }
    return replace(facts, environment=environment, srun_kinds=("none", "pmi2", "pmix"))


def hostfile(facts: Facts, text: str, variable: str = "", **variables: str) -> Facts:
    environment = {**variables, **({variable: "hosts"} if variable else {})}
    return replace(facts, environment=environment, hostfiles={"hosts": text})


def planned(facts: Facts, **options: Any) -> Plan:
    return plan(facts, Options(**options), ("app", "--flag"))


class Plans(unittest.TestCase):
    def expect(self, expected: str, found: Plan, *why: str, **environment: str) -> None:
        self.assertEqual(expected, " ".join(found.command))
        self.assertEqual(environment, found.environment)
        for reason in why:
            self.assertIn(reason, "\n".join(found.why))

    def refuses(self, why: str, facts: Facts, **options: Any) -> None:
        with self.assertRaisesRegex(Refusal, why) as caught:
            planned(facts, **options)
        self.assertRegex(str(caught.exception), r"\. \w[^.]*|\?$", "no suggestion")


class ThisMachine(Plans):
    def test_a_laptop_gets_two_ranks_that_share_its_cores(self) -> None:
        self.expect(
            "/usr/bin/mpirun -n 2 --map-by ppr:2:node:oversubscribe --bind-to none app --flag",
            planned(LAPTOP),
            "this machine: 8 cores, 1 NUMA domain",
            "linked with /lib/libmpi.so.40",
            OMP_NUM_THREADS="4",
        )

    def test_two_sockets_get_a_rank_each_which_is_bound_there(self) -> None:
        self.expect(
            "/usr/bin/mpirun -n 2 --map-by ppr:1:numa:oversubscribe --bind-to numa app --flag",
            planned(SOCKETS),
            "32 cores, 2 NUMA domains",
            "each rank is bound to a NUMA domain",
            OMP_NUM_THREADS="16",
        )

    def test_ranks_that_do_not_fit_the_domains_are_not_bound(self) -> None:
        for ranks, mapping, binding in ((3, "ppr:3:node", "none"), (8, "ppr:4:numa", "numa")):
            command = " ".join(planned(SOCKETS, ranks=ranks).command)
            self.assertIn(f"--map-by {mapping}:oversubscribe --bind-to {binding} ", command)
        self.assertIn("--bind-to none", " ".join(planned(SOCKETS, threads=17).command))

    def test_domains_of_which_an_affinity_mask_leaves_different_parts_count_as_one(self) -> None:
        self.expect(
            "/usr/bin/mpirun -n 2 --map-by ppr:2:node:oversubscribe --bind-to none app --flag",
            planned(replace(LAPTOP, machine=machine(16, 2))),
            "18 cores, 1 NUMA domain",
            OMP_NUM_THREADS="9",
        )

    def test_a_quota_counts_in_place_of_cores(self) -> None:
        limited = replace(LAPTOP, machine=machine(16, 16, quota=4.5))
        self.expect(
            "/usr/bin/mpirun -n 2 --map-by ppr:2:node:oversubscribe --bind-to none app --flag",
            planned(limited),
            "quota is worth 4.5 processors",
            OMP_NUM_THREADS="2",
        )

    def test_one_core_gets_one_rank(self) -> None:
        self.assertIn("-n 1 ", " ".join(planned(replace(LAPTOP, machine=machine(1))).command))

    def test_more_ranks_than_cores_yield_and_it_is_said(self) -> None:
        crowd = planned(LAPTOP, ranks=9)
        self.assertIn("9 ranks share 8 cores", "\n".join(crowd.why))
        yielding = {"OMP_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
        self.assertEqual(yielding, crowd.environment)
        self.assertNotIn("ranks share", "\n".join(planned(LAPTOP, ranks=8).why))

    def test_under_mpich_it_is_said_that_ranks_do_not_yield(self) -> None:
        facts = replace(LAPTOP, program=LINKED_WITH_MPICH)
        self.assertIn("this will be slow", "\n".join(planned(facts, ranks=9).why))

    def test_threads_are_those_that_are_asked_for(self) -> None:
        variable = replace(LAPTOP, environment={"OMP_NUM_THREADS": "3"})
        self.assertEqual("3", planned(variable).environment["OMP_NUM_THREADS"])
        self.assertEqual("5", planned(variable, threads=5).environment["OMP_NUM_THREADS"])

    def test_processors_that_a_mask_leaves_out_are_told(self) -> None:
        masked = "leaves 1 of 8 processors"
        for online, is_told in ((8, True), (1, False), (None, False)):
            found = planned(replace(LAPTOP, machine=machine(1, online=online)))
            self.assertEqual(is_told, masked in "\n".join(found.why), online)

    def test_more_threads_than_cores_are_told(self) -> None:
        for threads, is_told in (("64", True), ("4", False)):
            found = planned(replace(LAPTOP, environment={"OMP_NUM_THREADS": threads}))
            told = "128 threads share 8 cores of a host" in "\n".join(found.why)
            self.assertEqual(is_told, told, found.why)
        self.assertIn("slower than --threads 4", "\n".join(planned(LAPTOP, threads=5).why))

    def test_refuses_ranks_that_would_take_the_machine_down(self) -> None:
        planned(LAPTOP, ranks=8 * 256)
        self.refuses("2049 ranks on a host of 8 cores", LAPTOP, ranks=8 * 256 + 1)
        self.refuses("999999 ranks", hostfile(LAPTOP, "here slots=999999"), hostfile="hosts")

    def test_root_may_use_open_mpi(self) -> None:
        allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        self.assertLessEqual(
            allowed.items(), planned(replace(LAPTOP, root=True)).environment.items()
        )
        self.assertNotIn("OMPI_ALLOW_RUN_AS_ROOT", planned(LAPTOP).environment)


class Mpis(Plans):
    def test_the_mpi_is_the_one_the_program_is_linked_with(self) -> None:
        self.expect(
            "/usr/bin/mpirun.mpich -n 2 -bind-to numa -map-by numa app --flag",
            planned(replace(SOCKETS, program=LINKED_WITH_MPICH)),
            "MPICH 4.0.2",
            OMP_NUM_THREADS="16",
        )

    def test_a_program_that_does_not_tell_gets_the_first_mpirun(self) -> None:
        unknown = replace(LAPTOP, program=Program("/bin/app"), launchers=(MPICH_4, OPEN_MPI_4))
        self.assertIn("/usr/bin/mpirun.mpich", planned(unknown).command)

    def test_intel_mpi_has_variables_for_binding(self) -> None:
        facts = replace(SOCKETS, program=LINKED_WITH_MPICH, launchers=(INTEL,))
        pinned = planned(facts)
        self.assertEqual("numa", pinned.environment["I_MPI_PIN_DOMAIN"])
        self.assertNotIn("-bind-to", pinned.command)
        self.assertEqual("0", planned(facts, ranks=3).environment["I_MPI_PIN"])

    def test_a_launcher_finds_its_parts_before_others(self) -> None:
        foreign = replace(INTEL, needs_in_path="/opt/intel/bin")
        facts = replace(SOCKETS, program=LINKED_WITH_MPICH, environment={"PATH": "/usr/bin"})
        for launcher, path in ((foreign, "/opt/intel/bin:/usr/bin"), (INTEL, None)):
            found = planned(replace(facts, launchers=(launcher,)))
            self.assertEqual(path, found.environment.get("PATH"))

    def test_refuses_a_launcher_of_another_mpi(self) -> None:
        self.refuses(
            "linked with MPICH .* /usr/bin/mpirun is Open MPI's",
            replace(LAPTOP, program=LINKED_WITH_MPICH, launchers=(OPEN_MPI_4,)),
        )
        self.refuses("no mpirun", replace(LAPTOP, launchers=()))
        self.refuses("--mpirun /nowhere", replace(LAPTOP, launchers=(), named_launcher="/nowhere"))

    def test_refuses_a_program_that_is_not_there(self) -> None:
        self.refuses("no program app", replace(LAPTOP, program=Program("app", found=False)))

    def test_refuses_to_start_ranks_from_ranks(self) -> None:
        for variable in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"):
            self.refuses("one of several ranks", replace(LAPTOP, environment={variable: "2"}))
            planned(replace(LAPTOP, environment={variable: "1"}))
        shell = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PTY_PORT": "1"}
        planned(replace(LAPTOP, environment=shell))


class Slurm(Plans):
    START = "srun --mpi=pmix --kill-on-bad-exit=1 --nodes=2"

    def test_srun_starts_a_rank_on_each_numa_domain(self) -> None:
        self.expect(
            f"{self.START} --ntasks=4 --ntasks-per-node=2 --cpus-per-task=32 app --flag",
            planned(slurm(SOCKETS)),
            "2 nodes node[1-2], each 32 cores, 2 NUMA domains",
            "srun --mpi=pmix, which Open MPI takes",
            OMP_NUM_THREADS="16",
        )

    def test_tasks_that_slurm_was_asked_for_count(self) -> None:
        facts = slurm(
            SOCKETS,
            SLURM_NTASKS="16",
            SLURM_TASKS_PER_NODE="8(x2)",
            SLURM_CPUS_PER_TASK="4",
        )
        self.expect(
            f"{self.START} --ntasks=16 --ntasks-per-node=8 --cpus-per-task=4 app --flag",
            planned(facts),
            OMP_NUM_THREADS="2",
        )
        uneven = slurm(SOCKETS, SLURM_NTASKS="3", SLURM_TASKS_PER_NODE="2,1")
        self.assertIn("--ntasks=3 --cpus-per-task", " ".join(planned(uneven).command))

    def test_processors_that_slurm_does_not_grant_do_not_count(self) -> None:
        part = planned(slurm(SOCKETS, SLURM_JOB_CPUS_PER_NODE="16,12"))
        self.assertIn("each 6 cores", part.why[0])
        self.assertEqual("6", part.environment["OMP_NUM_THREADS"])

    def test_mpich_takes_pmi2(self) -> None:
        facts = slurm(replace(SOCKETS, program=LINKED_WITH_MPICH))
        self.assertIn("--mpi=pmi2", planned(facts).command)

    def test_without_the_kind_that_the_mpi_takes_mpirun_starts(self) -> None:
        facts = replace(slurm(SOCKETS), srun_kinds=("none", "pmi2"))
        self.expect(
            "/usr/bin/mpirun -n 4 --map-by ppr:1:numa:oversubscribe --bind-to numa "
            "-x OMP_NUM_THREADS app --flag",
            planned(facts),
            "not srun: Open MPI needs srun --mpi=pmix, and srun has none, pmi2",
            OMP_NUM_THREADS="16",
        )
        self.refuses("srun cannot start this", facts, launcher="srun")

    def test_intel_mpi_takes_srun_where_it_knows_its_library(self) -> None:
        facts = slurm(replace(SOCKETS, program=LINKED_WITH_MPICH, launchers=(INTEL,)))
        self.assertEqual("/opt/intel/bin/mpirun", planned(facts).command[0])
        told = {**facts.environment, "I_MPI_PMI_LIBRARY": "/lib/libpmi2.so"}
        self.assertEqual("srun", planned(replace(facts, environment=told)).command[0])

    def test_mpirun_can_be_asked_for(self) -> None:
        self.assertEqual("/usr/bin/mpirun", planned(slurm(SOCKETS), launcher="mpirun").command[0])
        hydra = slurm(replace(SOCKETS, program=LINKED_WITH_MPICH))
        self.assertIn("-n 4 -ppn 2 ", " ".join(planned(hydra, launcher="mpirun").command))

    def test_on_a_login_node_cores_are_not_known(self) -> None:
        facts = slurm(SOCKETS)
        elsewhere = {n: v for n, v in facts.environment.items() if n != "SLURMD_NODENAME"}
        self.expect(
            f"{self.START} --ntasks=2 --ntasks-per-node=1 app --flag",
            planned(replace(facts, environment=elsewhere)),
            "each rank finds out how many threads",
        )
        crowd = planned(replace(facts, environment=elsewhere), ranks_per_node=65)
        self.assertIn("--overcommit", crowd.command)

    def test_more_ranks_than_cores_overcommit(self) -> None:
        self.assertIn("--overcommit", planned(slurm(SOCKETS), ranks_per_node=33).command)
        self.assertNotIn("--overcommit", planned(slurm(SOCKETS), ranks_per_node=32).command)

    def test_refuses_srun_outside(self) -> None:
        self.refuses("needs an allocation", LAPTOP, launcher="srun")


class Hostfiles(Plans):
    def test_slots_are_ranks(self) -> None:
        self.expect(
            "/usr/bin/mpirun -n 5 --host here:4,there:1 --map-by slot:oversubscribe --bind-to none "
            "-x OMP_NUM_THREADS /opt/app --flag",
            planned(hostfile(LAPTOP, "here slots=4\nthere slots=1 # old\n"), hostfile="hosts"),
            "2 hosts of hosts (--hostfile), each 8 cores",
            OMP_NUM_THREADS="2",
        )

    def test_uneven_ranks_are_not_bound(self) -> None:
        facts = hostfile(SOCKETS, "here slots=2\nthere slots=4\n")
        command = " ".join(planned(facts, hostfile="hosts").command)
        self.assertIn("--map-by slot:oversubscribe --bind-to none", command)

    def test_hosts_without_slots_get_a_rank_on_each_domain(self) -> None:
        facts = hostfile(replace(SOCKETS, program=LINKED_WITH_MPICH), "here\nthere\n")
        self.expect(
            "/usr/bin/mpirun.mpich -n 4 -hosts here:2,there:2 -bind-to numa -map-by numa /opt/app "
            "--flag",
            planned(facts, hostfile="hosts"),
            OMP_NUM_THREADS="16",
        )

    def test_ranks_are_dealt_out(self) -> None:
        facts = hostfile(LAPTOP, "here:8\nthere:8\n")
        command = " ".join(planned(facts, hostfile="hosts", ranks=3).command)
        self.assertIn("-n 3 --host here:2,there:1 ", command)
        self.refuses("less than the 2 hosts", facts, hostfile="hosts", ranks=1)

    def test_variables_for_ranks_are_passed_on(self) -> None:
        facts = hostfile(
            LAPTOP, "here\n", "OMPI_MCA_orte_default_hostfile", SYNCBN_TIMEOUT="9", HOME="/root"
        )
        self.assertIn("-x OMP_NUM_THREADS -x SYNCBN_TIMEOUT", " ".join(planned(facts).command))

    def test_it_is_said_how_to_see_whether_ssh_reaches_other_hosts(self) -> None:
        advice = "`ssh -o BatchMode=yes there true`"
        for text, variables, is_told in (
            ("here\nthere\n", {}, True),
            ("here\n", {}, False),
            ("there\n", {"OMPI_MCA_plm_rsh_agent": "rsh"}, False),
        ):
            found = planned(hostfile(LAPTOP, text, **variables), hostfile="hosts")
            self.assertEqual(is_told, advice in "\n".join(found.why), text)

    def test_a_nodefile_of_pbs_names_hosts_as_often_as_it_has_ranks_for_them(self) -> None:
        facts = hostfile(LAPTOP, "here.site\nhere.site\nthere.site\nthere.site\n", "PBS_NODEFILE")
        self.assertIn("-n 4 --host here.site:2,there.site:2", " ".join(planned(facts).command))
        chunk = hostfile(LAPTOP, "here.site\nthere.site\n", "PBS_NODEFILE", NCPUS="12")
        self.assertEqual("6", planned(chunk).environment["OMP_NUM_THREADS"])

    def test_the_kubernetes_operator_has_a_launcher_that_is_unlike_its_workers(self) -> None:
        facts = hostfile(
            replace(LAPTOP, machine=machine(1)),
            "job-worker-0.job.ns.svc slots=4\njob-worker-1.job.ns.svc slots=4\n",
            "OMPI_MCA_orte_default_hostfile",
            K_MPI_JOB_ROLE="launcher",
        )
        self.expect(
            "/usr/bin/mpirun -n 8 --host job-worker-0.job.ns.svc:4,job-worker-1.job.ns.svc:4 "
            "--map-by ppr:4:node:oversubscribe --bind-to none /opt/app --flag",
            planned(facts),
            "their cores are not known",
        )
        self.refuses(
            "worker of an MPIJob", replace(facts, environment={"K_MPI_JOB_ROLE": "worker"})
        )

    def test_a_hostfile_comes_before_slurm_only_if_it_is_given(self) -> None:
        text = {"hosts": "here\nthere\nelsewhere\n"}
        facts = replace(slurm(LAPTOP), hostfiles=text)
        self.assertIn("--nodes=2", planned(facts).command)
        self.assertIn("-n 3", " ".join(planned(facts, hostfile="hosts").command))

    def test_refuses_hostfiles_that_cannot_be_used(self) -> None:
        self.refuses("cannot be read", LAPTOP, hostfile="hosts")
        self.refuses("names no host", hostfile(LAPTOP, "# none\n"), hostfile="hosts")
        for line in ("here slots=0", "here slots=x", "here:", "{}"):
            self.refuses("it is no host", hostfile(LAPTOP, line + "\n"), hostfile="hosts")


class WhatPrograms(unittest.TestCase):
    """What is read from files and from what programs print."""

    def test_launchers_tell_their_version(self) -> None:
        hydra = "HYDRA build details:\n    Version:                                 4.0.2\n"
        intel = "Intel(R) MPI Library for Linux* OS, Version 2021.8 Build 20221129 (id: 339)\n"
        self.assertEqual(OPEN_MPI_4, launcher_of("/usr/bin/mpirun", "mpirun (Open MPI) 4.1.4\n"))
        self.assertEqual(MPICH_4, launcher_of("/usr/bin/mpirun.mpich", hydra))
        self.assertEqual(INTEL, launcher_of("/opt/intel/bin/mpirun", intel))
        self.assertIsNone(launcher_of("/bin/mpirun", "mpirun 1.0\n"))

    def test_srun_lists_its_kinds(self) -> None:
        old = ["srun: MPI types are...", "srun: pmi2", "srun: none"]
        new = [
            "MPI plugin types are...",
            "\tnone",
            "\tpmix",
            "specific pmix plugin versions available: pmix_v4",
        ]
        self.assertEqual(["pmi2", "none"], list(words_of_list(old)))
        self.assertEqual(["none", "pmix"], list(words_of_list(new)))

    def test_ranges_of_processors(self) -> None:
        self.assertEqual([0, 1, 2, 3, 8], numbers("0-3,8\n"))
        self.assertEqual([], numbers("\n"))

    def test_the_least_quota_of_all_groups_counts(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            for name, text in (
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/cpu.max", "400000 100000\n"),
            ):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            self.assertEqual(1.5, cpu_quota(root))
            (root / "sys/fs/cgroup/a/cpu.max").unlink()
            self.assertEqual(4, cpu_quota(root))
            (root / "proc/self/cgroup").write_text("4:cpu,cpuacct:/job\n")
            group = root / "sys/fs/cgroup/cpu,cpuacct/job"
            group.mkdir(parents=True)
            (group / "cpu.cfs_quota_us").write_text("-1\n")
            (group / "cpu.cfs_period_us").write_text("100000\n")
            self.assertIsNone(cpu_quota(root))
            (group / "cpu.cfs_quota_us").write_text("250000\n")
            self.assertEqual(2.5, cpu_quota(root))


if __name__ == "__main__":
    unittest.main()
