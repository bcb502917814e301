"""People of label files as batches: crops of their pictures, keypoints, and whatever labels there are.

No label is made up: what a file does not hold has confidence 0 or a flag that is False. The one label that is derived
is the camera of people whose SMPL parameters and 2D points are known: the crop camera under which the joints of the
parameters fall on the points.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Targets
from diffhmr.body.joints import COCO17_FROM_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import KeypointNoiseConfig
from diffhmr.datasets.augment import (
    Augmentation,
    boxes_of_parts,
    exchange_sides,
    mirror,
    no_augmentation,
    turn,
)
from diffhmr.datasets.crops import one_opencv_thread, read_crops, write_planes
from diffhmr.datasets.keypoints import corrupt_keypoints
from diffhmr.datasets.labels import Labels
from diffhmr.datasets.painting.dice import LookStream, cast
from diffhmr.datasets.painting.objects import OBJECT_NUMBERS, PixelGrid, draw_object
from diffhmr.datasets.painting.textures import TextureBank
from diffhmr.datasets.people import covered, sample_occluders
from diffhmr.errors import UserError
from diffhmr.geometry.camera import crop_matrix, fit_crop_camera, pixel_to_normalised
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.random import Seeds, item_seeds

# Where annotations of COCO's points are in SPIN's 24: the hips are those of the LSP annotators there.
_COCO17_ANNOTATED = tuple(25 + slot for slot in (19, 20, 21, 22, 23, 9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0))
_CAMERA_POINTS = 6  # fewest points that a camera is fitted to
_SMALLEST_SCALE = 0.05
_MAX_OBJECTS = 2


@dataclass(frozen=True)
class PeopleOptions:
    """How rows of labels become items.

    Attributes:
        size: side of the crops in pixels.
        images: pictures are read; False: keypoints only.
        body: float64 and on the CPU; gives the camera of people with SMPL parameters. None: no camera is known.
        noise: what happens to the keypoints of the input; None: they are the labels.
        occluder: share of people with objects drawn in front of them.
        openpose_weight: factor on the confidence of the 2D joints of OpenPose.
        reach: 2D joints farther than this from the middle, in half crops, have confidence 0; None: all count.
    """

    size: int
    images: bool = True
    body: BodyModel | None = None
    noise: KeypointNoiseConfig | None = None
    occluder: float = 0.0
    openpose_weight: float = 1.0
    reach: float | None = None


@dataclass(frozen=True)
class Rows:
    """Rows of labels that become one batch of B.

    Attributes:
        labels: B rows.
        pictures: their files.
        origin: where each comes from, for messages.
        item: ``(B,)`` int64, see :class:`Targets`.
        seeds: ``(B,)`` int64, of the items.
    """

    labels: Labels
    pictures: Sequence[Path]
    origin: Sequence[str]
    item: np.ndarray
    seeds: Seeds


class LabelledPeople:
    """The people of one label file in its order, without augmentation: for evaluation.

    Args:
        labels: of the file.
        image_root: folder to which ``labels.imgname`` is relative.
        size: side of the crops in pixels.
        body: gives the camera of people with SMPL parameters; None: no camera is known.
        rows: ``(N,)`` which rows of ``labels`` are the items, in this order; None: all.
        images: pictures are read; False: keypoints only.
        name: of the label file, for messages.

    Attributes:
        labels: of the whole file.
        rows: ``(N,)`` of the items.
    """

    def __init__(
        self,
        labels: Labels,
        image_root: str | Path,
        size: int,
        body: BodyModel | None = None,
        *,
        rows: np.ndarray | None = None,
        images: bool = True,
        name: str = "labels",
    ) -> None:
        self.labels = labels
        self.rows = np.arange(len(labels)) if rows is None else np.asarray(rows, dtype=np.int64)
        self._root = Path(image_root)
        self._name = name
        self._options = PeopleOptions(size, images, None if body is None else exact_body(body))
        self._maker = BatchMaker(self._options)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ImageBatch:
        """The batch of the one item ``index``."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        """The items ``indices`` as one batch on the CPU.

        Raises:
            IndexError: an index is negative or not smaller than the number of rows.
            UserError: a picture is missing or damaged.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"index outside the {len(self)} people of {self._name}")
        rows = self.rows[chosen]
        some = self.labels.rows(rows)
        batch = Rows(
            labels=some,
            pictures=[self._root / name for name in some.imgname],
            origin=[f"{self._name}, row {row}" for row in rows],
            item=rows,
            seeds=item_seeds(0, "test", rows),
        )
        return self._maker.batch(batch, no_augmentation(len(rows)))


def exact_body(body: BodyModel) -> BodyModel:
    """``body`` in float64 on the CPU, where rounding to float32 hides that sums depend on the size of the batch."""
    return copy.deepcopy(body).cpu().double()


@dataclass
class BatchMaker:
    """Makes batches of rows of labels.

    Attributes:
        options: how.
    """

    options: PeopleOptions
    _bank: TextureBank | None = field(default=None, init=False)

    def batch(self, rows: Rows, augmentation: Augmentation) -> ImageBatch:
        """One batch on the CPU; an item does not depend on the others.

        Raises:
            UserError: a picture is missing or damaged.
        """
        options, labels = self.options, rows.labels
        matrix = _crop_matrices(labels, augmentation, options.size)
        flip = torch.from_numpy(augmentation.flip)
        points = _points_in_crop(labels, matrix, flip, options.size)
        joints2d = _weighted(points, options)
        params, joints3d = _people(labels, augmentation)
        has_params = torch.from_numpy(labels.has_smpl.copy())
        camera, has_camera = self._cameras(params, has_params, points)
        occluders = torch.from_numpy(sample_occluders(rows.seeds, points[..., :2].numpy(), options.occluder))
        unhidden = (points[..., 2] > 0) & (points[..., :2].abs() <= 1).all(-1)
        hidden = covered(points[..., :2], occluders)
        coco = coco_points(points)
        coco_known = coco[..., 2] > 0
        coco_hidden = covered(coco[..., :2], occluders) & coco_known
        targets = Targets(
            params=params.map(Tensor.float),
            camera=camera.float(),
            joints3d=joints3d.float(),
            joints2d=joints2d.float(),
            visible=unhidden & ~hidden,
            has_params=has_params,
            has_camera=has_camera,
            occluded=coco_hidden.any(1),
            truncated=((coco[..., :2].abs() > 1).any(-1) & coco_known).any(1),
            gender=torch.from_numpy(labels.gender.astype(np.int64)),
            item=torch.from_numpy(rows.item.copy()),
        )
        return ImageBatch(
            item_seed=torch.from_numpy(rows.seeds.copy()),
            image=self._images(rows, matrix, augmentation, occluders) if options.images else None,
            keypoints=self._keypoints(coco, coco_hidden, rows.seeds),
            targets=targets,
        )

    def _cameras(self, params: SmplParams, has_params: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Cameras ``[B, 3]`` under which the joints of ``params`` fall on ``points``, and where they are known."""
        body, count = self.options.body, len(has_params)
        seen = has_params & ((points[..., 2] > 0).sum(1) >= _CAMERA_POINTS)
        camera = points.new_zeros(count, 3)
        camera[:, 0] = 1
        if body is None or not bool(seen.any()):
            return camera, torch.zeros(count, dtype=torch.bool)
        chosen = params.map(lambda value: value[seen])
        fitted = fit_crop_camera(body.joints(chosen, SPIN49), points[seen][..., :2], points[seen][..., 2])
        known = seen.clone()
        known[seen] = fitted[:, 0] > _SMALLEST_SCALE
        camera[known] = fitted[fitted[:, 0] > _SMALLEST_SCALE]
        return camera, known

    def _keypoints(self, coco: Tensor, hidden: Tensor, seeds: Seeds) -> Tensor:
        """The input ``[B, 17, 3]`` float32 from the labels ``coco [B, 17, 3]``, of which some are ``hidden``."""
        known = coco[..., 2] > 0
        if self.options.noise is not None:
            visible = known & ~hidden
            return corrupt_keypoints(coco[..., :2], visible, seeds, self.options.noise, known, clicked=True)
        inside = known & ~hidden & (coco[..., :2].abs() <= 1).all(-1)
        return (coco * inside.unsqueeze(-1)).float()

    def _images(self, rows: Rows, matrix: np.ndarray, augmentation: Augmentation, occluders: Tensor) -> Tensor:
        """``[B, 3, S, S]`` in [0, 1]. Every picture is read once, however many of its people are in the batch."""
        size = self.options.size
        images = np.empty((len(matrix), 3, size, size), np.float32)
        of_picture: dict[Path, list[int]] = {}
        for k, path in enumerate(rows.pictures):
            of_picture.setdefault(path, []).append(k)
        with one_opencv_thread():
            for path, people in of_picture.items():
                try:
                    crops = read_crops(path, [matrix[k] for k in people], size)
                except UserError as error:
                    raise UserError(f"{rows.origin[people[0]]}: {error}") from error
                for k, crop in zip(people, crops, strict=True):
                    write_planes(crop, images[k], augmentation.gain[k].tolist())
        result = torch.from_numpy(images)
        if bool((occluders[..., 5] > 0).any()):
            self._draw(result, occluders, rows.seeds)
        return result

    def _draw(self, images: Tensor, occluders: Tensor, seeds: Seeds) -> None:
        """Draw the objects in place."""
        if self._bank is None:
            self._bank = TextureBank(self.options.size, torch.device("cpu"))
        grid = PixelGrid(self.options.size, torch.device("cpu"))
        dice = cast(seeds, LookStream.OBJECT, _MAX_OBJECTS * OBJECT_NUMBERS)
        for image, objects, numbers in zip(images, occluders.tolist(), dice, strict=True):
            for occluder in objects:
                draw_object(image, occluder, numbers, grid, self._bank)


def coco_points(points: Tensor) -> Tensor:
    """COCO-17 ``[B, 17, 3]`` out of SPIN49 ``[B, 49, 3]``: what was annotated, else what OpenPose found."""
    annotated, detected = points[:, list(_COCO17_ANNOTATED)], points[:, list(COCO17_FROM_SPIN49)]
    return torch.where(annotated[..., 2:] > 0, annotated, detected)


def _crop_matrices(labels: Labels, augmentation: Augmentation, size: int) -> np.ndarray:
    """``(B, 2, 3)`` float64 from the pixels of the pictures to those of the crops."""
    center, side = labels.center.astype(np.float64), labels.side.astype(np.float64)
    if (augmentation.part >= 0).any():
        coco = coco_points(torch.from_numpy(labels.keypoints)).double().numpy()
        center, side = boxes_of_parts(augmentation.part, coco[..., :2], coco[..., 2] > 0, center, side)
    matrix: np.ndarray = crop_matrix(
        torch.from_numpy(center),
        torch.from_numpy(side * augmentation.scale),
        size,
        torch.from_numpy(augmentation.rotation),
        torch.from_numpy(augmentation.flip),
    ).numpy()
    return matrix


def _points_in_crop(labels: Labels, matrix: np.ndarray, flip: Tensor, size: int) -> Tensor:
    """2D labels ``[B, 49, 3]`` float64 in crop coordinates; those without label are 0."""
    keypoints = torch.from_numpy(labels.keypoints).double()
    affine = torch.from_numpy(matrix)
    pixels = keypoints[..., :2] @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]
    points = torch.cat([pixel_to_normalised(pixels, size), keypoints[..., 2:]], dim=-1)
    return exchange_sides(torch.where(keypoints[..., 2:] > 0, points, 0), flip)


def _weighted(points: Tensor, options: PeopleOptions) -> Tensor:
    """The 2D targets: ``points`` with the confidence that they get in the loss."""
    confidence = points[..., 2].clone()
    confidence[:, :25] *= options.openpose_weight
    if options.reach is not None:
        confidence = confidence * (points[..., :2].abs() <= options.reach).all(-1)
    return torch.cat([points[..., :2], confidence.unsqueeze(-1)], dim=-1)


def _people(labels: Labels, augmentation: Augmentation) -> tuple[SmplParams, Tensor]:
    """SMPL parameters ``[B]`` and 3D labels ``[B, 49, 4]`` as the crops show the people; float64."""
    pose = torch.from_numpy(labels.pose).double().unflatten(1, (24, 3))
    params = SmplParams.from_rotations(axis_angle_to_matrix(pose), torch.from_numpy(labels.betas).double())
    params, joints3d = turn(params, torch.from_numpy(labels.joints3d).double(), torch.from_numpy(augmentation.rotation))
    return mirror(params, joints3d, torch.from_numpy(augmentation.flip))

