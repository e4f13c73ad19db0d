# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from spack_repo.builtin.build_systems.cmake import CMakePackage
from spack_repo.builtin.build_systems.cuda import CudaPackage

from spack.package import *


class Syncbn(CMakePackage, CudaPackage):
    """Synchronized batch norm for data-parallel training: a library for C++ and C, a layer for
    PyTorch, and a tool that trains, checks and measures."""

    # There is no release yet. The source is the branch main of the checkout with this file.
    git = Path(__file__).resolve().parents[4].as_uri()

    license("Apache-2.0")

    version("main", branch="main")

    variant("shared", default=True, description="Build shared libraries")
    variant("mpi", default=True, description="Build the library for ranks of MPI")
    variant("openmp", default=True, description="Use threads inside the kernels")
    variant("nccl", default=False, when="+cuda", description="Sum device memory over NCCL")
    variant("python", default=False, description="Install the Python package")
    variant("tool", default=True, description="Build the command line tool")
    variant("onednn", default=True, when="+tool", description="Build the tool's train and study")

    generator("ninja")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("highway@1.0.3:")
    depends_on("nlohmann-json@3.9:", type="build")
    depends_on("mpi@3:", when="+mpi")
    depends_on("cuda@12:", when="+cuda")
    depends_on("nccl@2.19:", when="+nccl")
    depends_on("boost@1.70: +program_options", when="+tool")
    depends_on("fmt@9:", when="+tool")
    depends_on("onednn@2.6:", when="+onednn")
    depends_on("zlib-api", when="+onednn")
    depends_on("python@3.11:", type="run", when="+tool")  # for syncbn-run

    # PyTorch is no dependency: it comes in many builds, and any from 2.9 on will do.
    extends("python@3.11:", when="+python")

    conflicts("%gcc@:10", msg="C++20 takes GCC 11 or newer")
    for arch in CudaPackage.cuda_arch_values:
        if int(arch.rstrip("af")) < 80:
            conflicts(f"cuda_arch={arch}", msg="devices are supported from cuda_arch=80 on")
        else:
            depends_on(f"nccl cuda_arch={arch}", when=f"+nccl cuda_arch={arch}")

    def cmake_args(self):
        args = [
            self.define_from_variant("BUILD_SHARED_LIBS", "shared"),
            self.define_from_variant("SYNCBN_MPI", "mpi"),
            self.define_from_variant("SYNCBN_OPENMP", "openmp"),
            self.define_from_variant("SYNCBN_CUDA", "cuda"),
            self.define("SYNCBN_NCCL", self.spec.satisfies("+nccl")),
            self.define_from_variant("SYNCBN_PYTHON", "python"),
            self.define_from_variant("SYNCBN_TOOL", "tool"),
            self.define("SYNCBN_ONEDNN", self.spec.satisfies("+onednn")),
            self.define("SYNCBN_SIMULATION", False),
            self.define("SYNCBN_DOCS", False),
            self.define("SYNCBN_TESTS", False),
            self.define("SYNCBN_UNITY", True),
        ]
        if self.spec.satisfies("+cuda") and not self.spec.satisfies("cuda_arch=none"):
            architectures = self.spec.variants["cuda_arch"].value
            args.append(self.define("CMAKE_CUDA_ARCHITECTURES", architectures))
        if self.spec.satisfies("+nccl"):  # which is opened by name, when it is first used
            libraries = [self.prefix.lib, self.prefix.lib64, *self.spec["nccl"].libs.directories]
            args.append(self.define("CMAKE_INSTALL_RPATH", libraries))
        if self.spec.satisfies("+python"):
            args.append(self.define("SYNCBN_PYTHON_DIR", self.spec["python"].package.platlib))
        return args

    def test_check(self):
        """compare the layer with batch norm in extended precision"""
        if self.spec.satisfies("~tool"):
            raise SkipTest("the tool, which checks, is not installed")
        which(self.prefix.bin.syncbn, required=True)("check", "--quick")
