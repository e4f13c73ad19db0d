#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what the compiler has made of the kernels for CUDA devices.

Usage: device_code_test.py OBJECT... [-v]    objects of nvcc, or a library of them

It takes cuobjdump and nvdisasm: CUDA's, or those that Triton brings along in the environment of the
PyTorch tests. Exit status 77: there are none.
"""

import collections
import copy
import glob
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = []

# What a kernel reads and writes of each element (Extras of normalized.hpp: 0 none, 1 activation, 2 all),
# and how many vectors of each tensor a thread loads back to back.
Access = collections.namedtuple("Access", "read written batch")
ACCESSES = {
    "ForwardTerms": lambda extras: Access(1, 0, 4),
    "BackwardTerms": lambda extras: Access(3 if extras == 2 else 2, 0, 2),
    "NormalizedElements": lambda extras: Access(2, 1, 2) if extras == 2 else Access(1, 1, 4),
    "GradientElements": lambda extras: Access(3, 2, 1) if extras == 2 else Access(2, 2, 2),
}
# For comparison with the threads that may run at once, and with what memory gives: an H200. Its memory was
# seen to copy at 4.3 TB/s. From a load to its value it is 0.65 us when memory is busy. A multiprocessor has
# 65,536 registers, room for 2,048 threads, and four schedulers that each start an instruction of a warp (32
# threads) in a cycle; it starts half as many of double precision, and converts 16 numbers to or from double
# (CUDA C++ Programming Guide, arithmetic instructions, compute capability 9.0).
BANDWIDTH, LATENCY, MULTIPROCESSORS, CLOCK = 4.3e12, 0.65e-6, 132, 1.98e9
REGISTERS, MOST_THREADS, SHARED_MEMORY = 65536, 2048, 227 * 1024
THREADS, WARP, VECTOR = 256, 32, 16
GOAL = 0.85  # of the speed of a copy

# A kernel's code has a batch's loads three times: of the first batch, of the next one in the loop, and
# where vectors are cut; its stores in the two ways of taking a batch.
LOADS, STORES = 3, 2
# Kernels whose blocks write to common words: by atomic operations alone.
ATOMIC = ("TallyChannels", "WeightCount")
# The kernels around a message on a device, and how often they post a word for the host.
POSTS = {"stamp": 1, "verify": 2}
DOUBLE = r"D(ADD|MUL|FMA|SETP|MNMX)"
CONVERSION = r"F2F\.F64|F2F\.F32\.F64|[IU]2F\.F64|F2[IU].*F64"


def disassembler():
    """Returns the directory of cuobjdump, None if there is none."""
    environment = subprocess.run([ROOT / "tests/torch/environment", "--installed"],
                                 capture_output=True, text=True, check=False)
    lines = environment.stdout.split()
    homes = ["/usr/local/cuda/bin"]
    if environment.returncode == 0 and lines:
        homes += glob.glob(str(Path(lines[-1]).parents[1] /
                               "lib/python*/site-packages/triton/backends/nvidia/bin"))
    found = shutil.which("cuobjdump")
    homes = ([str(Path(found).parent)] if found else []) + homes
    return next((home for home in homes
                 if Path(home, "cuobjdump").exists() and Path(home, "nvdisasm").exists()), None)


def output_of(home, *arguments):
    return subprocess.run([Path(home, "cuobjdump"), *arguments], capture_output=True, text=True,
                          check=True, env={"PATH": f"{home}:/usr/bin:/bin"}).stdout


Instruction = collections.namedtuple("Instruction", "address name operands")


class Kernel:
    """One kernel's instructions, by the name that C++ has for it."""

    def __init__(self, name, architecture, text):
        plain = re.sub(r"syncbn::(kernels::cuda::)?", "", name)
        self.name = re.sub(r"^void run<|>\(.*", "", plain)
        self.architecture = architecture
        self.code = [Instruction(int(address, 16), name, operands) for address, name, operands in re.findall(
            r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_.]+)([^;]*);", text)]

    def with_fault(self, pattern, replacement):
        """Returns the kernel with some of its instructions replaced."""
        other = copy.copy(self)
        other.code = [each._replace(name=re.sub(f"^{pattern}", replacement, each.name)) for each in self.code]
        return other

    @property
    def instructions(self):
        return [each.name for each in self.code]

    def count(self, pattern):
        return sum(bool(re.match(pattern, each)) for each in self.instructions)

    def access(self):
        """Returns what is known of its accesses, None for a kernel that goes through no tensor."""
        terms = re.search(r"<(\w+)<\w+(?:, \(Extras\)(\d))?>, (?:Planes|Columns)", self.name)
        find = terms and ACCESSES.get(terms[1])
        return find and find(int(terms[2] or 0))

    def loop(self):
        """Returns the names of the instructions of the loop that takes a batch: the shortest one with all of
        a batch's loads."""
        access = self.access()
        bodies = []
        for end in self.code:
            target = re.search(r"0x([0-9a-f]+)", end.operands)
            if end.name.startswith("BRA") and target and int(target[1], 16) < end.address:
                body = [each.name for each in self.code if int(target[1], 16) <= each.address <= end.address]
                if sum(bool(re.match(r"LDG\.E.*\.128", each)) for each in body) == access.batch * access.read:
                    bodies.append(body)
        return min(bodies, key=len, default=[])

    def doubles_at_most(self):
        """Returns how much arithmetic in double the loop is to have: a run's two sums are added in double,
        for each column of a vector or for all (channel_sums.hpp). Elements of double are all in it."""
        columns = re.search(r"Columns<(\d+)>", self.name)
        if "<double" in self.name:
            return None
        return 2 * (int(columns[1]) if columns else 1) if self.name.startswith("SumParts") else 0

    def speed(self, blocks):
        """Returns the share of a copy's speed that the loop is expected to reach with so many blocks on a
        multiprocessor: as far as loads are under way, and as far as instructions start. Above 1 it is no limit."""
        access, loop = self.access(), self.loop()
        doubles = sum(bool(re.match(DOUBLE, each)) for each in loop)
        conversions = sum(bool(re.match(CONVERSION, each)) for each in loop)
        moved = WARP * VECTOR * access.batch * (access.read + (access.written > 0))
        cycles = max(len(loop) / 4, doubles / 2, conversions * WARP / 16)
        wanted = BANDWIDTH / MULTIPROCESSORS
        under_way = blocks * THREADS * VECTOR * access.batch * access.read
        return under_way / LATENCY / wanted, moved / cycles * CLOCK / wanted

    def faults(self):
        """Yields what is wrong with the code."""
        if self.count("LDL|STL"):
            yield "uses local memory"
        first_access = next((i for i, each in enumerate(self.instructions)
                             if re.match("LDG|STG|ATOM|RED", each)), None)
        waits = "ACQBULK" in self.instructions[:first_access]
        if self.architecture >= 90 and first_access is not None and not waits:
            yield "touches memory before it has waited for the kernel ahead of it"
        if not self.count("BAR"):
            yield "has no barrier, where its phases end"
        if self.name.startswith(ATOMIC) and (self.count("STG") or not self.count(r"REDG?\.|ATOMG")):
            yield "writes common words by other than atomic operations"
        access = self.access()
        if access:
            doubles = sum(bool(re.match(DOUBLE, each)) for each in self.loop())
            if not self.loop():
                yield "has no loop that loads a batch"
            elif self.doubles_at_most() is not None and doubles > self.doubles_at_most():
                yield f"has {doubles} operations of double in its loop, not {self.doubles_at_most()}"
            for what, found, expected in (
                    ("loads", self.count(r"LDG\.E.*\.128"), LOADS * access.batch * access.read),
                    ("stores", self.count(r"STG\.E.*\.128") if access.written else 0,
                     STORES * access.batch * access.written)):
                if found != expected:
                    yield f"has {found} {what} of 16 bytes, not {expected}"


def blocks_at_once(registers, shared):
    """Returns for how many blocks a multiprocessor has room, by the registers of a thread and the shared
    memory of a block."""
    of_warp = -(-registers * WARP // 256) * 256  # they are given out in pieces of 256
    return min(REGISTERS // (of_warp * THREADS // WARP), MOST_THREADS // THREADS,
               SHARED_MEMORY // (shared + 1024))


class Post(Kernel):
    """A kernel around a message (stamp.cu)."""

    def __init__(self, name, architecture, text):
        super().__init__(name, architecture, text)
        self.name = re.search(r"(\w+)\(\w+(?:::\w+)*\)$", name)[1]

    def faults(self):
        fenced = sum(bool(re.match(r"MEMBAR\.\w+\.SYS", each)) for each in self.instructions)
        if fenced != POSTS[self.name]:
            yield f"has {fenced} fences for the host, not {POSTS[self.name]}"


def parse(text, wanted="cuda::run<", kind=Kernel):
    """Returns the kernels of launch.cuh, or others, in cuobjdump's output."""
    kernels = []
    for part in re.split(r"\n(?=\s*code for sm_)", text):
        architecture = re.match(r"\s*code for sm_(\d+)", part)
        functions = re.split(r"\n\s*Function : ", part)[1:]
        names = [function.split("\n", 1)[0].strip() for function in functions]
        demangled = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                                   check=True).stdout.splitlines() if names else []
        kernels += [kind(name, int(architecture[1]), function)
                    for name, function in zip(demangled, functions)
                    if wanted in name and architecture]
    return kernels


def parse_posts(text):
    return parse(text, "syncbn::comm::cuda::(anonymous namespace)::", Post)


class DeviceCode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        texts = [output_of(disassembler(), "-sass", path) for path in OBJECTS]
        cls.kernels = [kernel for text in texts for kernel in parse(text)]
        cls.posts = [kernel for text in texts for kernel in parse_posts(text)]

    def test_kernels_read_vectors_wait_and_spill_nothing(self):
        tensors = [kernel for kernel in self.kernels if kernel.access()]
        self.assertGreater(len(tensors), 50)
        faults = [f"sm_{kernel.architecture} {kernel.name} {fault}"
                  for kernel in self.kernels for fault in kernel.faults()]
        self.assertEqual(faults, [])

    def test_words_for_the_host_are_posted_behind_a_fence(self):
        self.assertEqual({kernel.name for kernel in self.posts}, set(POSTS))
        self.assertEqual([fault for kernel in self.posts for fault in kernel.faults()], [])
        without = [fault for kernel in self.posts
                   for fault in kernel.with_fault(r"MEMBAR\S*", "NOP").faults()]
        self.assertEqual(len(without), len(self.posts), "without their fences all are at fault")

    def test_planted_faults_are_found(self):
        """Shows that the first check sees a scalar load, a spill, a kernel that does not wait, a missing
        barrier, and additions that are not atomic."""
        for pattern, replacement, fault in (
                (r"LDG\.E((?:\.CONSTANT)?)\.128", r"LDG.E\1.64", "loads of 16 bytes"),
                (r"STG\.E\.128", "STG.E.64", "stores of 16 bytes"),
                (r"BAR\.SYNC\S*", "STL", "local memory"),
                (r"BAR\.SYNC\S*", "NOP", "has no barrier"),
                (r"(?:REDG?|ATOMG)\.\S*", "STG.E.64", "other than atomic"),
                (r"FADD", "DADD", "operations of double"),
                (r"ACQBULK", "NOP", "before it has waited")):
            found = any(fault in each for kernel in self.kernels
                        for each in kernel.with_fault(pattern, replacement).faults())
            oldest = all(kernel.architecture < 90 for kernel in self.kernels)
            self.assertTrue(found or (oldest and "waited" in fault), fault)

    def test_loops_are_as_fast_as_memory(self):
        """Prints how fast each loop is expected to be beside a copy, and how far it is from what would hold
        it up: too few loads under way, or too many instructions. It is a prediction, of large tensors. The
        first runs on an H200 (tests/gpu/results) had 0.7 to 0.85 of it, with all of a layer's kernels."""
        rows = [row for path in OBJECTS
                for part in output_of(disassembler(), "-res-usage", path).split("arch = ")
                if part.startswith("sm_90")
                for row in re.findall(
                    r"Function (\S+?):?\s*\n\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", part)]
        names = subprocess.run(["c++filt"], input="\n".join(row[0] for row in rows),
                               capture_output=True, text=True, check=True).stdout.splitlines()
        usage = {Kernel(name, 0, "").name: [int(number) for number in row[1:]] for name, row in zip(names, rows)}
        lines, scalar = [], []
        for kernel in self.kernels:
            if not kernel.access() or kernel.architecture != 90:
                continue
            registers, stack, shared, local = usage[kernel.name]
            self.assertEqual((stack, local), (0, 0), kernel.name)
            blocks = blocks_at_once(registers, shared)
            loads, instructions = kernel.speed(blocks)
            share = min(loads, instructions, 1)
            lines.append((share, f"{kernel.name:<66} {registers:>4} {shared:>6} {blocks:>6} {loads:>6.2f} "
                                 f"{len(kernel.loop()):>5} {instructions:>6.2f} {share:>6.2f}"))
            self.assertGreaterEqual(share, GOAL, lines[-1][1])
            scalar.append(loads / 4)
        oldest = all(kernel.architecture != 90 for kernel in self.kernels)
        self.assertTrue(oldest or len(lines) > 50)
        self.assertTrue(oldest or min(scalar) < GOAL, "loads of 4 bytes would be enough")
        print(f"\n{'on an H200':<66} {'regs':>4} {'shared':>6} {'blocks':>6} {'loads':>6} {'loop':>5} {'instr.':>6} "
              f"{'copy':>6} (goal {GOAL})")
        print("\n".join(line for _, line in sorted(lines)))


if __name__ == "__main__":
    OBJECTS = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not disassembler():
        print("SKIPPED: there is no cuobjdump with nvdisasm (CUDA's, or Triton's).")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *(each for each in sys.argv[1:] if each.startswith("-"))])
