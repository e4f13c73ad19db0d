#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes a model of timm's with synchronized batch norm, and gives the model itself back:

    torchrun --nproc-per-node 2 pretrained.py --model resnet18 --pretrained

Its state has the same names and shapes before, while and after layers are synchronized, so checkpoints
go from one to the other.
"""

import argparse
import os

import timm
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import syncbn.torch as sbn


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tunes a model of timm's for a step.")
    parser.add_argument("--model", default="resnet18", help="timm.list_models() has the names")
    parser.add_argument("--pretrained", action="store_true", help="download weights")
    parser.add_argument("--image-size", type=int, default=64)
    options = parser.parse_args()

    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    os.environ.update({**alone, **os.environ})
    dist.init_process_group("gloo")
    rank = dist.get_rank()

    torch.manual_seed(1)  # without pretrained weights all processes draw the same
    network = timm.create_model(options.model, pretrained=options.pretrained, num_classes=10)
    classes = [type(layer) for layer in network.modules()]
    before = {name: values.clone() for name, values in network.state_dict().items()}

    sbn.convert_sync_batchnorm(network)
    network.load_state_dict(before)
    model = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    torch.manual_seed(rank)
    images = torch.randn(4, 3, options.image_size, options.image_size)
    loss = nn.functional.cross_entropy(model(images), torch.arange(4))
    loss.backward()
    optimizer.step()

    trained = {name: values.clone() for name, values in network.state_dict().items()}
    sbn.revert_sync_batchnorm(network)
    after = network.state_dict()
    assert [type(layer) for layer in network.modules()] == classes
    assert after.keys() == before.keys()
    assert all(torch.equal(values, trained[name]) for name, values in after.items())
    if rank == 0:
        changed = sum(not torch.equal(values, before[name]) for name, values in after.items())
        print(f"{options.model}: loss {loss.item():.4f}; {changed} of {len(after)} tensors trained")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
