"""What a run reports about the model while it learns: errors on the validation people, and pictures of hypotheses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from diffhmr.batch import ImageBatch, Targets
from diffhmr.body.joints import COCO17_FROM_SPIN49, J14_FROM_SPIN49, PELVIS_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.config import SamplerConfig
from diffhmr.datasets.labelled import coco_points
from diffhmr.geometry.camera import normalised_to_pixel, project_crop
from diffhmr.metrics.distribution import energy_score_mm
from diffhmr.metrics.joints import point_errors_mm
from diffhmr.models import HmrModel
from diffhmr.render.skeleton import draw_skeleton
from diffhmr.training.data import BatchDataset

NUM_SAMPLES = 10
PICTURE_PEOPLE = 6
PICTURE_SAMPLES = 4
_PICTURE_PIXELS = 128
_CHUNK = 64


@dataclass(frozen=True)
class Validation:
    """Everything but the weights that a validation depends on.

    Attributes:
        dataset: validation people with known 3D joints or SMPL parameters.
        body: on the device of the model.
        sampler: how hypotheses are drawn.
        seed: of the hypotheses' noise; the same at every step, so that curves show the weights only.
    """

    dataset: BatchDataset[ImageBatch]
    body: BodyModel
    sampler: SamplerConfig
    seed: int

    def batches(self) -> Iterator[ImageBatch]:
        """All people, on the device of the body."""
        device = self.body.v_template.device
        for start in range(0, len(self.dataset), _CHUNK):
            yield self.dataset.__getitems__(range(start, min(start + _CHUNK, len(self.dataset)))).to(device)


def validate(model: HmrModel, validation: Validation) -> dict[str, float]:
    """Errors in millimetres over J14 relative to the pelvis, means over the validation people whose truth is known.

    ``mode_mpjpe_mm`` is that of the single answer, ``random_mpjpe_mm`` of a random hypothesis,
    ``min_of_10_mpjpe_mm`` of the best of ten random ones (chosen with the truth), ``energy_score_mm`` of the ten as a
    distribution.
    """
    scores: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for batch in validation.batches():
            assert batch.targets is not None
            prediction = model.sample(batch, 1 + NUM_SAMPLES, validation.sampler, validation.seed)
            joints = _relative(validation.body.joints(prediction.params, SPIN49))
            truth, known = _truth(batch.targets, validation.body)
            joints, truth = joints[known], truth[known]
            errors = point_errors_mm(joints, truth.unsqueeze(1)).mean(-1)
            samples = errors[:, 1:]
            values = {
                "mode_mpjpe_mm": errors[:, 0],
                "random_mpjpe_mm": samples.mean(1),
                f"min_of_{NUM_SAMPLES}_mpjpe_mm": samples.amin(1),
                "energy_score_mm": energy_score_mm(joints[:, 1:], truth),
            }
            for name, value in values.items():
                scores.setdefault(name, []).append(value)
    return {name: float(torch.cat(parts).mean()) for name, parts in scores.items()}


def _truth(targets: Targets, body: BodyModel) -> tuple[Tensor, Tensor]:
    """J14 relative to the pelvis: the labels, else the joints of the SMPL parameters; and where there are either."""
    labelled = (targets.joints3d[:, [PELVIS_SPIN49, *J14_FROM_SPIN49], 3] > 0).all(1)
    joints = targets.joints3d[..., :3]
    if not bool(labelled.all()):
        joints = torch.where(labelled[:, None, None], joints, body.joints(targets.params, SPIN49))
    return _relative(joints), labelled | targets.has_params


def _relative(joints: Tensor) -> Tensor:
    """J14 of SPIN49 relative to the pelvis."""
    return joints[..., list(J14_FROM_SPIN49), :] - joints[..., PELVIS_SPIN49, None, :]


def hypotheses_picture(model: HmrModel, validation: Validation) -> Tensor:
    """A sheet ``[3, H, W]`` in [0, 1]: one validation person per row.

    Columns: the input, the truth, the single answer, random hypotheses, and all hypotheses seen from the right of the
    image (depth runs to the right), where what an image leaves open shows.
    """
    count = min(PICTURE_PEOPLE, len(validation.dataset))
    batch = validation.dataset.__getitems__(range(count)).to(validation.body.v_template.device)
    assert batch.targets is not None
    with torch.no_grad():
        prediction = model.sample(batch, 1 + PICTURE_SAMPLES, validation.sampler, validation.seed)
        joints = validation.body.joints(prediction.params, SPIN49)
    points = project_crop(joints, prediction.camera)[..., list(COCO17_FROM_SPIN49), :].cpu()
    side = _side_view(joints, prediction.camera)[..., list(COCO17_FROM_SPIN49), :].cpu()
    labels = batch.targets.joints2d
    detected = labels[:, list(COCO17_FROM_SPIN49)]
    truth = torch.where(detected[..., 2:] > 0, detected, coco_points(labels)).cpu()
    rows = []
    for person, picture in enumerate(_input_pictures(batch)):
        cells = [picture, _drawn(picture, truth[person, :, :2], seen=truth[person, :, 2] > 0)]
        cells += [_drawn(picture, points[person, hypothesis]) for hypothesis in range(points.shape[1])]
        depth = torch.ones_like(picture)
        for hypothesis in range(side.shape[1]):
            depth = _drawn(depth, side[person, hypothesis], opacity=1.0 if hypothesis == 0 else 0.4)
        rows.append(torch.cat([*cells, depth], dim=2))
    return torch.cat(rows, dim=1)


def _side_view(joints: Tensor, camera: Tensor) -> Tensor:
    """Orthographic projection onto the (z, y) plane in the scale of the crop, the pelvis at the middle column."""
    depth = joints[..., 2] - joints[..., PELVIS_SPIN49, None, 2]
    height = joints[..., 1] + camera[..., 2, None]
    return camera[..., :1, None] * torch.stack([depth, height], dim=-1)


def _input_pictures(batch: ImageBatch) -> list[Tensor]:
    """What the model saw, ``[3, P, P]`` each: the image, else the keypoints on white."""
    size = _PICTURE_PIXELS
    if batch.image is not None:
        return list(functional.interpolate(batch.image, (size, size), mode="bilinear", antialias=True).cpu())
    assert batch.keypoints is not None
    blank = torch.ones(3, size, size)
    points = batch.keypoints.cpu()
    return [_drawn(blank, person[:, :2], seen=person[:, 2] > 0) for person in points]


def _drawn(picture: Tensor, points: Tensor, seen: Tensor | None = None, opacity: float = 1.0) -> Tensor:
    return draw_skeleton(picture, normalised_to_pixel(points, picture.shape[-1]), seen=seen, opacity=opacity)
