#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what the compiler has made of the kernels for CUDA devices.

Usage: device_code_test.py PTXAS OBJECT... [-v]    objects of nvcc, or a library of them

A device of each architecture in DEVICES is looked at. Of those that the objects have no code for, PTXAS, the
assembler beside nvcc, makes it from their PTX. It takes cuobjdump and nvdisasm: CUDA's, or those that Triton
brings along in the environment of the PyTorch tests. Exit status 77: there are none.
"""

import collections
import copy
import glob
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PTXAS = None
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
# A Device is what loops are compared with: bytes that it copies per second (read and written), its
# multiprocessors, clock, shared memory of a multiprocessor, and operations of double in a cycle of one.
Device = collections.namedtuple("Device", "name bandwidth multiprocessors clock shared_memory doubles")
# An H200's memory was seen to copy at 4.3 TB/s, nine tenths of its data sheet's; the same is taken of the others
# (data sheets of A100 80GB SXM, H200 and HGX B200). An H100 has the H200's multiprocessors and slower memory.
# The rest is of the CUDA C++ Programming Guide, compute capabilities and arithmetic instructions, and of the
# architectures' white papers; a B200's 148 multiprocessors and clock were seen by Chips and Cheese ("Nvidia's
# B200", 2025).
DEVICES = {80: Device("an A100", 0.9 * 2.039e12, 108, 1.41e9, 164 * 1024, 32),
           90: Device("an H200", 4.3e12, 132, 1.98e9, 228 * 1024, 64),
           100: Device("a B200", 0.9 * 8e12, 148, 1.965e9, 228 * 1024, 64)}
# From a load to its value an H200 was seen to take 0.65 us when memory is busy; the others are taken to do so. A
# multiprocessor has 65,536 registers, room for 2,048 threads, and four schedulers that each start an instruction of
# a warp (32 threads) in a cycle. It converts 16 numbers to or from double.
LATENCY, REGISTERS, MOST_THREADS, CONVERSIONS = 0.65e-6, 65536, 2048, 16
THREADS, WARP, VECTOR = 256, 32, 16
GOAL = 0.85  # of the speed of a copy
# These loops are slower: a thread of this kernel has a vector of three tensors under way, and registers have room
# for two blocks. A B200 would want a second vector.
SHORT = {(100, "Elementwise<GradientElements<BFloat16, (Extras)2>, Columns<8> >")}

# A kernel's code has a batch's loads three times: of the first batch, of the next one in the loop, and
# where vectors are cut; its stores in the two ways of taking a batch.
LOADS, STORES = 3, 2
# Kernels whose blocks write to common words: by atomic operations alone.
ATOMIC = ("TallyChannels", "WeightCount")
# The kernels around a message on a device, and how often they post a word for the host.
POSTS = {"stamp": 1, "verify": 2}
# Code that is made for other architectures is that of f32 and bf16, which most networks are trained in, and of exact
# sums that of bf16, which needs most registers. To make all of it would take three times as long.
LEFT_OUT = r"<double|\bFloat16|MagnitudeTally|FixedPointTally<float"
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


def output_of(home, *arguments, at=None):
    return subprocess.run([Path(home, "cuobjdump"), *arguments], capture_output=True, text=True,
                          check=True, cwd=at, env={"PATH": f"{home}:/usr/bin:/bin"}).stdout


def demangled(names):
    return subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                          check=True).stdout.splitlines() if names else []


def assemble_for(architecture, directory):
    """Returns objects with code for another architecture, made from the PTX for 90. For an earlier one, this loses
    what only 90 has, the wait for the kernel ahead, as launch.cuh's #if does."""
    objects = []
    for index, path in enumerate(OBJECTS):
        of_object = directory / f"{index}"
        of_object.mkdir(exist_ok=True)
        printed = output_of(disassembler(), "-xptx", "all", Path(path).resolve(), at=of_object)
        for name, options in re.findall(r": (\S+\.sm_90\.ptx) -arch=\S+(.*)", printed):
            text = (of_object / name).read_text()
            if architecture < 90:
                text = re.sub(r"griddepcontrol\.\w+;", "", text).replace(".target sm_90", f".target sm_{architecture}")
            entries = re.findall(r"\.entry (\w+)", text)
            wanted = [entry for entry, plain in zip(entries, demangled(entries)) if not re.search(LEFT_OUT, plain)]
            ptx = of_object / f"{architecture}.{name}"
            ptx.write_text(text)
            objects.append(ptx.with_suffix(".cubin"))
            subprocess.run([PTXAS, f"-arch=sm_{architecture}", *options.split(), "--entry", ",".join(wanted), ptx,
                            "-o", objects[-1]], check=True)
    return objects


Instruction = collections.namedtuple("Instruction", "address name operands")


class Kernel:
    """One kernel's instructions, by the name that C++ has for it."""

    def __init__(self, name, architecture, text):
        plain = re.sub(r"syncbn::(kernels::cuda::)?", "", name)
        self.name = re.sub(r"^void run<|>\(.*", "", plain).strip()
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
        access, loop, device = self.access(), self.loop(), DEVICES[self.architecture]
        doubles = sum(bool(re.match(DOUBLE, each)) for each in loop)
        conversions = sum(bool(re.match(CONVERSION, each)) for each in loop)
        moved = WARP * VECTOR * access.batch * (access.read + (access.written > 0))
        cycles = max(len(loop) / 4, doubles * WARP / device.doubles, conversions * WARP / CONVERSIONS)
        wanted = device.bandwidth / device.multiprocessors
        under_way = blocks * THREADS * VECTOR * access.batch * access.read
        return under_way / LATENCY / wanted, moved / cycles * device.clock / wanted

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


def blocks_at_once(device, registers, shared):
    """Returns for how many blocks a device's multiprocessor has room, by the registers of a thread and the shared
    memory of a block."""
    of_warp = -(-registers * WARP // 256) * 256  # they are given out in pieces of 256
    return min(REGISTERS // (of_warp * THREADS // WARP), MOST_THREADS // THREADS,
               device.shared_memory // (shared + 1024))


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
        names = demangled([function.split("\n", 1)[0].strip() for function in functions])
        kernels += [kind(name, int(architecture[1]), function)
                    for name, function in zip(names, functions)
                    if wanted in name and architecture]
    return kernels


def parse_posts(text):
    return parse(text, "syncbn::comm::cuda::(anonymous namespace)::", Post)


def usage_of(text):
    """Returns the registers, stack, shared and local memory of each kernel in cuobjdump's output, by its name."""
    rows = re.findall(r"Function (\S+?):?\s*\n\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", text)
    names = [Kernel(name, 0, "").name for name in demangled([row[0] for row in rows])]
    return {name: [int(number) for number in row[1:]] for name, row in zip(names, rows)}


class DeviceCode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.kernels, cls.posts, cls.usage = [], [], collections.defaultdict(dict)
        cls.look_at(OBJECTS)
        if not cls.kernels or not cls.posts:
            raise AssertionError(f"there is no device code of the library in {OBJECTS}")
        if 90 in cls.architectures():
            with tempfile.TemporaryDirectory() as directory:
                for architecture in set(DEVICES) - cls.architectures():
                    cls.look_at(assemble_for(architecture, Path(directory)))

    @classmethod
    def look_at(cls, objects):
        for path in objects:
            text = output_of(disassembler(), "-sass", path)
            cls.kernels += parse(text)
            cls.posts += parse_posts(text)
            for part in output_of(disassembler(), "-res-usage", path).split("arch = sm_"):
                architecture = re.match(r"\d+", part) or re.search(r"code for sm_(\d+)", text)
                if architecture:
                    cls.usage[int(re.search(r"\d+$", architecture[0])[0])] |= usage_of(part)

    @classmethod
    def architectures(cls):
        return {kernel.architecture for kernel in cls.kernels}

    def kernels_of(self, architecture):
        return [kernel for kernel in self.kernels if kernel.architecture == architecture]

    def test_every_device_is_looked_at(self):
        if 90 in self.architectures():
            self.assertGreaterEqual(self.architectures(), set(DEVICES))
        for architecture in self.architectures():
            self.assertGreater(sum(kernel.access() is not None for kernel in self.kernels_of(architecture)), 30)

    def test_kernels_read_vectors_wait_and_spill_nothing(self):
        faults = [f"sm_{kernel.architecture} {kernel.name} {fault}"
                  for kernel in self.kernels for fault in kernel.faults()]
        self.assertEqual(faults, [])
        for kernel in self.kernels:
            _, stack, _, local = self.usage[kernel.architecture][kernel.name]
            self.assertEqual((stack, local), (0, 0), f"sm_{kernel.architecture} {kernel.name}")

    def test_words_for_the_host_are_posted_behind_a_fence(self):
        for architecture in self.architectures():
            posts = [post for post in self.posts if post.architecture == architecture]
            self.assertEqual({post.name for post in posts}, set(POSTS))
            self.assertEqual([fault for post in posts for fault in post.faults()], [])
            without = [fault for post in posts for fault in post.with_fault(r"MEMBAR\S*", "NOP").faults()]
            self.assertEqual(len(without), len(posts), "without their fences all are at fault")

    def test_planted_faults_are_found(self):
        """Shows that the first check sees a scalar load, a spill, a kernel that does not wait, a missing
        barrier, and additions that are not atomic, on each architecture."""
        for pattern, replacement, fault in (
                (r"LDG\.E((?:\.CONSTANT)?)\.128", r"LDG.E\1.64", "loads of 16 bytes"),
                (r"STG\.E\.128", "STG.E.64", "stores of 16 bytes"),
                (r"BAR\.SYNC\S*", "STL", "local memory"),
                (r"BAR\.SYNC\S*", "NOP", "has no barrier"),
                (r"(?:REDG?|ATOMG)\.\S*", "STG.E.64", "other than atomic"),
                (r"FADD", "DADD", "operations of double"),
                (r"ACQBULK", "NOP", "before it has waited")):
            for architecture in self.architectures():
                found = any(fault in each for kernel in self.kernels_of(architecture)
                            for each in kernel.with_fault(pattern, replacement).faults())
                self.assertTrue(found or (architecture < 90 and "waited" in fault), f"sm_{architecture} {fault}")

    def test_loops_are_as_fast_as_memory(self):
        """Prints how fast each loop is expected to be beside a copy, and how far it is from what would hold
        it up: too few loads under way, or too many instructions. It is a prediction, of large tensors. The
        first runs on an H200 (tests/gpu/results) had 0.7 to 0.85 of it, with all of a layer's kernels."""
        for architecture in self.architectures() & set(DEVICES):
            device, lines, scalar, short = DEVICES[architecture], [], [], set()
            for kernel in self.kernels_of(architecture):
                if not kernel.access():
                    continue
                registers, _, shared, _ = self.usage[architecture][kernel.name]
                blocks = blocks_at_once(device, registers, shared)
                loads, instructions = kernel.speed(blocks)
                share = min(loads, instructions, 1)
                lines.append((share, f"{kernel.name:<66} {registers:>4} {shared:>6} {blocks:>6} {loads:>6.2f} "
                                     f"{len(kernel.loop()):>5} {instructions:>6.2f} {share:>6.2f}"))
                scalar.append(loads / 4)
                if share < GOAL:
                    short.add((architecture, kernel.name))
            print(f"\n{'on ' + device.name:<66} {'regs':>4} {'shared':>6} {'blocks':>6} {'loads':>6} {'loop':>5} "
                  f"{'instr.':>6} {'copy':>6} (goal {GOAL})")
            print("\n".join(line for _, line in sorted(lines)))
            self.assertEqual(short, {each for each in SHORT if each[0] == architecture}, device.name)
            self.assertLess(min(scalar), GOAL, "loads of 4 bytes would be enough")


if __name__ == "__main__":
    PTXAS, *OBJECTS = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not disassembler():
        print("SKIPPED: there is no cuobjdump with nvdisasm (CUDA's, or Triton's).")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *(each for each in sys.argv[1:] if each.startswith("-"))])
