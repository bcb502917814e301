"""The synthetic stream: people with keypoints and, if wanted, rendered images, made on demand.

Item k of a split is a pure function of (data seed, split, k): the same in any batch, order, worker or process.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Targets
from diffhmr.body.joints import COCO17_FROM_SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.datasets.archive import MotionArchive
from diffhmr.datasets.capsules import hidden_by_body
from diffhmr.datasets.keypoints import corrupt_keypoints
from diffhmr.datasets.painting.scene import RenderedPeople, render_people
from diffhmr.datasets.people import People, covered, inside_border, sample_people
from diffhmr.datasets.poses import PoseSource, sample_poses
from diffhmr.random import item_seeds

Split = Literal["train", "val", "test"]


_LABELLED_REACH = 1.5  # in half crops from its centre: 2D joints beyond have confidence 0

class SyntheticPeople:
    """Synthetic people as batches; give its indices to ``__getitems__`` many at a time.

    All splits follow the same distribution and share no item. Without images, ``visible`` comes from a capsule model of
    the body; with images it is what the renderer saw.

    Attributes:
        protocol: name of the data for result files.

    Raises:
        UserError: the motion archive of the settings cannot be used.
    """

    protocol = "synthetic"

    def __init__(self, body: BodyModel, config: DataConfig, split: Split) -> None:
        self._config = config
        self._split: Split = split
        self._body = body if body.v_template.device.type == "cpu" else copy.deepcopy(body).cpu()
        self._size = {"train": config.train_items, "val": config.val_items, "test": config.test_items}[split]
        # In float64 the rounding to float32 hides that the order of sums depends on the size of the batch.
        self._exact_body = copy.deepcopy(self._body).double()
        self._poses: PoseSource = sample_poses if config.archive is None else MotionArchive(config.archive)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> ImageBatch:
        """The batch of the one item ``index``."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        """The items ``indices`` as one batch on the CPU.

        Raises:
            IndexError: an index is negative or not smaller than the size of the split.
        """
        array = np.asarray(indices, dtype=np.int64)
        if array.size and (array.min() < 0 or array.max() >= self._size):
            raise IndexError(f"index outside the {self._size} items of the split {self._split}")
        people = self.people(array)
        unhidden = _unhidden(people)
        occluded = _occluded(people, unhidden)
        if not self._config.images:
            visible = unhidden & ~covered(people.joints2d, people.occluders)
            return self._batch(people, visible, occluded)
        rendered = render_people(people, self._body, self._config.image_size, self._config.backgrounds)
        return self._batch(people, rendered.visible, occluded, rendered)

    def people(self, indices: Sequence[int] | np.ndarray) -> People:
        """The people of the items ``indices``, before anything is drawn."""
        seeds = item_seeds(self._config.seed, self._split, np.asarray(indices, dtype=np.int64))
        return sample_people(self._exact_body, seeds, self._config, self._poses)

    def _batch(
        self,
        people: People,
        visible: Tensor,
        occluded: Tensor,
        rendered: RenderedPeople | None = None,
    ) -> ImageBatch:
        coco = list(COCO17_FROM_SPIN49)
        points = people.joints2d[:, coco]
        inside = inside_border(points, people.border)
        keypoints = corrupt_keypoints(
            points, visible[:, coco], people.item_seed.numpy(), self._config.keypoint_noise, inside
        )
        one = torch.ones(len(people), 49, 1)
        # Squared errors of points far outside the picture would drown all others, and nobody annotates such points.
        near = (people.joints2d.abs() <= _LABELLED_REACH).all(-1, keepdim=True)
        known = torch.ones(len(people), dtype=torch.bool)
        targets = Targets(
            params=people.params,
            camera=people.camera,
            joints3d=torch.cat([people.joints3d, one], dim=-1),
            joints2d=torch.cat([people.joints2d, near.float()], dim=-1),
            visible=visible,
            has_params=known,
            has_camera=known.clone(),
            occluded=occluded,
            truncated=people.truncated,
            mask=None if rendered is None else rendered.mask,
            part=None if rendered is None else rendered.part,
        )
        image = None if rendered is None else rendered.image
        return ImageBatch(item_seed=people.item_seed, image=image, keypoints=keypoints, targets=targets)


def _unhidden(people: People) -> Tensor:
    """``[B, 49]`` bool: inside the photograph and not behind the person's own body."""
    in_camera = people.joints3d.double() + people.transl[:, None].double()
    return inside_border(people.joints2d, people.border) & ~hidden_by_body(in_camera)


def _occluded(people: People, unhidden: Tensor) -> Tensor:
    """``[B]`` bool: an object hides a joint of COCO-17 that would be seen without it."""
    coco = list(COCO17_FROM_SPIN49)
    return (covered(people.joints2d, people.occluders) & unhidden)[:, coco].any(dim=1)
