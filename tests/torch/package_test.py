# SPDX-License-Identifier: Apache-2.0
"""The source distribution, and the wheel that is built of it."""

from __future__ import annotations

import ast
import email
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from syncbn import _core

ROOT = Path(__file__).resolve().parent.parent.parent
# What every Linux has that a manylinux wheel may be installed on.
MAY_NEED = {
    "libc.so.6", "libgcc_s.so.1", "libm.so.6", "libstdc++.so.6",
    "ld-linux-x86-64.so.2", "libdl.so.2", "libpthread.so.0", "librt.so.1",
}  # fmt: skip
PARTS = {"__init__.py", "_core.abi3.so", "_core.pyi", "py.typed"}


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Runs a command, which must succeed, and returns its output."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", out, ROOT)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel with kernels for this machine's processor alone, which is quicker to build."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(source, filter="data")
    (directory,) = source.iterdir()
    run(
        sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out,
        "-Ccmake.define.SYNCBN_ONE_TARGET=ON", "-Ccmake.define.SYNCBN_UNITY=ON",
        "-Ccmake.define.SYNCBN_CUDA=OFF", "-Cbuild-dir=build", directory,
        CCACHE_BASEDIR=str(directory),  # so that ccache finds what it compiled in another directory
    )  # fmt: skip
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the programs of package_checks.txt."""
    directory = tmp_path_factory.mktemp("checks")
    venv.create(directory, with_pip=True)
    named = Path(__file__).parent / "package_checks.txt"
    install = [directory / "bin" / "pip", "install", "--quiet", "--retries", "2", "-r", named]
    done = subprocess.run(install, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        pytest.skip(f"pip could not install {named.name} ({done.stderr.strip()[-200:]})")
    return directory / "bin"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", target, wheel)
    return target


def test_sources_alone_say_that_they_are_to_be_installed() -> None:
    for program in (
        "import syncbn.torch",
        "from syncbn import Error",
        "import syncbn; syncbn.__version__",
    ):
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT / "src/python")},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert re.search(
            r"^ImportError: .*not beside .*src/python/syncbn/__init__.py \(.*pip install \.", last
        ), last


def test_a_build_without_headers_of_python_names_their_package(tmp_path: Path) -> None:
    options = ["PYTHON=ON", "MPI=OFF", "TOOL=OFF", "CUDA=OFF", "TESTS=OFF", "DOCS=OFF"]
    done = subprocess.run(
        ["cmake", "-S", ROOT, "-B", tmp_path, "-DCMAKE_DISABLE_FIND_PACKAGE_Python=ON",
         *(f"-DSYNCBN_{option}" for option in options)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "python3-dev" in done.stderr


def test_sdist_has_what_a_build_takes_and_no_more(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1].split("/")[0] for name in archive.getnames() if "/" in name}
    assert {
        "CMakeLists.txt",
        "LICENSE",
        "README.md",
        "cmake",
        "include",
        "pyproject.toml",
        "src",
    } <= names
    assert not {"tests", "docker", "launcher", "build"} & names


def test_wheel_serves_every_python_from_3_11_on(wheel: Path) -> None:
    version = re.findall(
        r"VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", (ROOT / "include/syncbn/c/version.h").read_text()
    )
    assert wheel.name.startswith(f"syncbn-{'.'.join(version)}-cp311-abi3-linux_")
    assert wheel.stat().st_size < 30e6
    with zipfile.ZipFile(wheel) as archive:
        parts = {name.split("/")[1] for name in archive.namelist() if name.startswith("syncbn/")}
    assert parts == {*PARTS, "lightning.py", "mmengine.py", "report", "torch"}


def test_wheel_is_a_manylinux_wheel_without_further_libraries(wheel: Path, tmp_path: Path) -> None:
    run(
        sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", tmp_path, wheel,
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )  # fmt: skip
    (repaired,) = tmp_path.iterdir()
    assert "-manylinux_2_" in repaired.name
    with zipfile.ZipFile(repaired) as archive:
        assert not [name for name in archive.namelist() if name.startswith("syncbn.libs/")]


def test_indexes_take_the_sdist_and_the_wheel(
    sdist: Path, wheel: Path, checks: Path, tmp_path: Path
) -> None:
    """Their readme renders, and the wheel has nothing that does not belong there."""
    run(checks / "twine", "check", "--strict", sdist, wheel)
    run(checks / "check-wheel-contents", wheel)
    planted = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(planted, "w") as copy:
        for name in whole.namelist():
            # The checker goes by this list of the files.
            listed = b"syncbn/planted.pyc,,\n" if name.endswith("/RECORD") else b""
            copy.writestr(name, whole.read(name) + listed)
        copy.writestr("syncbn/planted.pyc", b"")
    with pytest.raises(AssertionError, match="W001"):
        run(checks / "check-wheel-contents", planted)


def test_pyproject_has_known_fields_only(checks: Path, tmp_path: Path) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    run(checks / "validate-pyproject", ROOT / "pyproject.toml")
    planted = tmp_path / "pyproject.toml"
    planted.write_text(text.replace("requires-python", "requires-pythons"))
    with pytest.raises(AssertionError, match="requires-pythons"):
        run(checks / "validate-pyproject", planted)


def test_wheel_is_imported_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """It has no dependencies, so no index is asked."""
    directory = tmp_path / "fresh"
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-index", wheel, PYTHONPATH="")
    program = "import syncbn, syncbn._core as core; print(syncbn.__file__, core.__version__)"
    said = run(python, "-c", program, cwd=tmp_path, PYTHONPATH="")
    assert said.startswith(str(directory))
    assert said.split()[1] == wheel.name.split("-")[1]


def test_metadata_names_license_versions_and_what_it_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (directory,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = email.message_from_bytes(archive.read(f"{directory}/METADATA"))
        assert archive.read(f"{directory}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert sorted(metadata.get_all("Requires-Dist") or []) == [
        'jinja2>=3.1; extra == "report"',
        'matplotlib>=3.9; extra == "report"',
        'torch>=2.9; extra == "torch"',
    ]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier")


def test_binary_module_needs_no_torch_mpi_or_cuda(installed: Path) -> None:
    module = installed / "syncbn" / "_core.abi3.so"
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", module)))
    assert needed <= MAY_NEED
    exported = [
        line.split()[-1]
        for line in run("nm", "-D", "--defined-only", module).splitlines()
        if line.split()[-2] in "TDBRVW"
    ]
    assert exported == ["PyInit__core"]


def _names(scope: ast.Module | ast.ClassDef) -> set[str]:
    """Returns the names of classes, functions and variables that a stub declares in a scope."""
    names = {node.name for node in scope.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    return names | {
        node.target.id
        for node in scope.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def test_stub_declares_what_the_binary_module_has() -> None:
    stub = ast.parse((ROOT / "src/python/syncbn/_core.pyi").read_text())
    assert _names(stub) - {"Tensor", "__version__"} == {
        name for name in vars(_core) if not name.startswith("_")
    }
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            members = {name for name in vars(getattr(_core, node.name)) if not name.startswith("_")}
            assert _names(node) - {"__new__"} == members


ORDERS = {
    "before": "import syncbn._core, torch",
    "after": "import torch, syncbn._core",
}


def test_package_can_be_imported_without_torch(installed: Path, tmp_path: Path) -> None:
    program = """
import sys
sys.path.insert(0, sys.argv[1])
import syncbn
assert syncbn.__version__ and syncbn.__file__.startswith(sys.argv[1]), syncbn.__file__
assert "torch" not in sys.modules
"""
    run(sys.executable, "-c", program, installed, cwd=tmp_path, PYTHONPATH="")


@pytest.mark.parametrize("order", ORDERS)
def test_layers_run_on_the_threads_of_torch(order: str, installed: Path, tmp_path: Path) -> None:
    """Whether the package is imported before or after torch, and whichever computes first."""
    program = f"""
import os, sys
sys.path.insert(0, sys.argv[1])
{ORDERS[order]}
import syncbn.torch as sbn

def runtimes():
    with open("/proc/self/maps") as maps:
        return {{line.split()[-1] for line in maps if "omp" in line.split()[-1].split("/")[-1]}}

def threads_after(function):
    before = len(os.listdir("/proc/self/task"))
    function()
    return len(os.listdir("/proc/self/task")) - before

x = torch.ones(16, 8, 64, 64)
torch.set_num_threads(3)
ours = lambda: sbn.SyncBatchNorm(8)(x)
theirs = lambda: torch.nn.functional.relu(x)
first, second = (ours, theirs) if sys.argv[2] == "before" else (theirs, ours)
assert threads_after(first) == 2
assert threads_after(second) == 0, "the other has threads of its own"
torch.set_num_threads(5)
assert threads_after(ours) == 2
assert threads_after(theirs) == 0
assert len(runtimes()) == 1, runtimes()
"""
    run(
        sys.executable, "-c", program, installed, order,
        cwd=tmp_path, PYTHONPATH="", OMP_NUM_THREADS="1",
    )  # fmt: skip
