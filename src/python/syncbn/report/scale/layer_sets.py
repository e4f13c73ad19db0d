# SPDX-License-Identifier: Apache-2.0
"""The layers that a group measured, together: what a pass through all of them takes."""

from __future__ import annotations

from dataclasses import dataclass

from ..distribution import Interval
from ..numbers import amount
from .measurements import Group, LayerCell, Scale
from .section import in_order, largest_of

# Channels, side and number of the batch norm layers of ResNet-50 for 224 x 224 pixels
# (src/app/bench/shapes.cpp).
_RESNET_50 = {
    (64, 112): 1, (64, 56): 6, (256, 56): 4, (128, 56): 1, (128, 28): 7, (512, 28): 5,
    (256, 28): 1, (256, 14): 11, (1024, 14): 7, (512, 14): 1, (512, 7): 5, (2048, 7): 4,
}  # fmt: skip
# A forward has to read x and to write y, a backward to read x and dy and to write dx, where what is read
# twice comes from the cache the second time: 5 tensors. A copy reads one and writes one.
COPIES_OF_A_LAYER = 2.5


@dataclass(frozen=True)
class SetOfLayers:
    """All layers that a group measured, each as often as the network has it."""

    group: Group
    cells: list[LayerCell]

    @property
    def sync(self) -> float:
        return sum(cell.layers * cell.sync for cell in self.cells)

    @property
    def local(self) -> float:
        return sum(cell.layers * cell.local for cell in self.cells)

    @property
    def copy(self) -> float | None:
        """The time of as many bytes as the layers cannot do without, copied; seconds."""
        copies = [cell.layers * cell.copy for cell in self.cells if cell.copy is not None]
        return COPIES_OF_A_LAYER * sum(copies) if len(copies) == len(self.cells) else None

    @property
    def price(self) -> Interval:
        """Each shape's interval, weighted by its part of the local time. That is the interval of the
        sum if all shapes err the same way at once, and too wide rather than too narrow if they do
        not."""
        parts = [cell.layers * cell.local / self.local for cell in self.cells]
        return Interval(
            self.sync / self.local,
            sum(part * cell.price.low for part, cell in zip(parts, self.cells, strict=True)),
            sum(part * cell.price.high for part, cell in zip(parts, self.cells, strict=True)),
        )

    def phase(self, name: str) -> float:
        return sum(
            cell.layers * cell.phases[name].median for cell in self.cells if name in cell.phases
        )


def sets_of_layers(scale: Scale) -> list[SetOfLayers]:
    """Returns the sets of the groups that measured every shape, the smallest group first."""
    cells = scale.of(LayerCell)
    shapes = {cell.shape for cell in cells}
    found = []
    for group in in_order([cell.group for cell in cells]):
        own = [cell for cell in cells if cell.group == group]
        if {cell.shape for cell in own} == shapes:
            found.append(SetOfLayers(group, sorted(own, key=lambda cell: -cell.bytes)))
    return found


def largest_set(scale: Scale) -> SetOfLayers | None:
    sets = sets_of_layers(scale)
    if not sets:
        return None
    group = largest_of([one.group for one in sets])
    return next(one for one in sets if one.group == group)


def network_of(cells: list[LayerCell]) -> str:
    """Returns "ResNet-50" if these are its layers, "" if not."""
    found = {}
    for cell in cells:
        sizes = [int(size) for size in cell.shape.split("x") if size.isdigit()]
        if len(sizes) != 4 or sizes[2] != sizes[3]:
            return ""
        found[sizes[1], sizes[2]] = cell.layers
    return "ResNet-50" if found == _RESNET_50 else ""


def whole_name(cells: list[LayerCell]) -> str:
    """Returns the set of layers in words."""
    layers = amount(sum(cell.layers for cell in cells), "batch norm layer")
    network = network_of(cells)
    return f"{network}'s {layers}" if network else f"the {layers} that were measured"
