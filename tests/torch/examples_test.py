# SPDX-License-Identifier: Apache-2.0
"""The examples, each run for a few seconds."""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

import pytest
import torch

from launch_test import run

EXAMPLES = Path(__file__).parents[2] / "src/python/examples"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
IMAGES = 320


def write_idx(path: Path, values: torch.Tensor) -> None:
    header = bytes([0, 0, 8, values.dim()]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    path.write_bytes(gzip.compress(header + values.numpy().tobytes()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files like Fashion-MNIST's, of noise with a bright row that tells the class."""
    directory = tmp_path_factory.mktemp("data")
    for name, count in (("train", IMAGES), ("t10k", 100)):
        labels = (torch.arange(count) % 10).to(torch.uint8)
        images = torch.randint(0, 100, (count, 28, 28), dtype=torch.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 + 2 * int(label)] = 255
        write_idx(directory / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(directory / f"{name}-labels-idx1-ubyte.gz", labels)
    return directory


def losses_of(printed: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"epoch \d+: loss (\S+), test accuracy", printed)]


def test_fashion_mnist_trains_two_processes_like_one(data: Path, tmp_path: Path) -> None:
    program = EXAMPLES / "fashion_mnist.py"
    checkpoint = tmp_path / "model.pt"
    arguments = ["--data", str(data), "--epochs", "2", "--batch-size", "32"]
    status, printed = run([*TORCHRUN, str(program), *arguments, "--checkpoint", str(checkpoint)])
    assert status == 0, printed
    assert f"2 processes, {IMAGES} images" in printed
    assert "All 6 batch norm layers take the statistics of the whole batch of 2" in printed, printed
    state = torch.load(checkpoint)
    # Every batch was counted once. (To be verified, a layer's statistics are put aside.)
    assert state["1.num_batches_tracked"] == 2 * IMAGES // 32
    assert not list(tmp_path.glob("*.unfinished"))
    # Without the marked lines, one process trains with torch's batch norm.
    lines = program.read_text().splitlines()
    plain = tmp_path / "plain.py"
    plain.write_text("\n".join(line for line in lines if not line.endswith("# syncbn")))
    status, of_one = run([sys.executable, str(plain), *arguments])
    assert status == 0 and "syncbn" not in plain.read_text().split('"""')[2], of_one
    losses, expected = losses_of(printed), losses_of(of_one)
    assert len(losses) == len(expected) == 2
    # Ten and twenty steps in float32 move the losses by less than what is printed, 1e-4. Batch norm of
    # each process alone moves them by 0.03 and 0.06.
    assert losses == pytest.approx(expected, rel=0, abs=2e-3)
    assert losses[1] < losses[0]


def test_pretrained_reverts_to_the_model(tmp_path: Path) -> None:
    status, printed = run(
        [*TORCHRUN, str(EXAMPLES / "pretrained.py"), "--model", "resnet10t", "--image-size", "32"]
    )
    assert status == 0, printed
    assert re.search(r"resnet10t: loss \d+\.\d+; \d+ of \d+ tensors trained", printed), printed
