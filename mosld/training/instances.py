"""Sentence embeddings of the texts of a batch, from the frozen backbone, for methods that route by what a text is about.

- `Instances`: embeddings of a batch's text rows, computed once for all arms.
- `give_instances`: to the arms whose method asks for them, with centroids fitted on training rows.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mosld.backbones.base import Backbone, Batch
from mosld.tasks.base import Task

if TYPE_CHECKING:
    from mosld.training.arms import Arm

FIT_ROWS = 512  # questions that the centroids are fitted on, in equal parts from every task
CHUNK = 64  # questions embedded in one forward pass
KEPT = 256  # batches whose embeddings are kept: the rows that are scored come again and again


class Instances:
    """Call it with a batch: unit-length embeddings [M, d] of its text rows, without gradient.

    Whole batches are kept, not single texts: the last bits of an embedding depend on the other rows of its batch, and a run that goes on
    from a checkpoint must find the bits it would have had.
    """

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self._kept: OrderedDict[tuple, Tensor] = OrderedDict()

    def __call__(self, batch: Batch) -> Tensor:
        key = (batch.input_ids.shape, batch.input_ids.cpu().numpy().tobytes(), batch.attention_mask.cpu().numpy().tobytes())
        if key not in self._kept:
            with torch.inference_mode(False), torch.no_grad():  # what is kept may serve training later
                self._kept[key] = self.backbone.embed(batch)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def give_instances(arms: list[Arm], backbone: Backbone, tasks: list[Task], device: torch.device) -> None:
    """Hand the same `Instances` to every arm that routes by embeddings, and fit its centroids on the questions of training rows."""
    asking = [arm for arm in arms if arm.handle.clusters]
    if not asking:
        return
    points = []
    for index, task in enumerate(tasks):
        rows = task.train[: -(-FIT_ROWS // len(tasks))]
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            batch = backbone.batch(chunk, [index] * len(chunk)).to(device)
            # a decoder's rows hold question and option: of each question the first is taken
            row = batch.question_row if backbone.kind == "encoder" else batch.option_row[:, 0]
            with torch.no_grad():
                points.append(backbone.embed(batch)[row])
    instances = Instances(backbone)
    for arm in asking:
        arm.instances = instances
        arm.handle.fit(torch.cat(points))
