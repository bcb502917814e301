"""Masked supervision: each function returns one value per item, and exactly 0 where the item has no label.

Nothing here averages over the batch. The models take the mean over all items, labelled or not, so that the loss of a
batch is the mean of the losses of its halves and an item's share does not depend on its neighbours. Missing labels may
hold any number, NaN included: the difference is masked before it is squared.

The terms on parameters and joints are those of SPIN (Kolotouros et al., ICCV 2019, section 3.4).
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from diffhmr.batch import Targets
from diffhmr.body.frames import RotationFrame, to_frame
from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.geometry.camera import project_crop

HIPS_SPIN49 = (25 + 2, 25 + 3)
"""Right and left hip of the LSP annotators in SPIN49: SPIN centres 3D joints on their mean."""

_STEEPEST_EXPONENT = 2.0


def state_error(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error ``[...]`` of state vectors ``[..., D]`` over the entries where ``valid [..., D]``.

    Invalid entries count as 0 in a mean over all D.
    """
    return _masked_difference(pred, target, valid).square().mean(-1)


def rotation_error(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference ``[...]`` of rotation matrices ``[..., J, 3, 3]`` of the items where ``valid [...]``."""
    return _masked_difference(pred, target, valid[..., None, None, None]).square().mean((-3, -2, -1))


def shape_error(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference ``[...]`` of betas ``[..., 10]`` of the items where ``valid [...]``."""
    return _masked_difference(pred, target, valid.unsqueeze(-1)).square().mean(-1)


def joints3d_error(pred: Tensor, target: Tensor) -> Tensor:
    """Confidence-weighted squared error ``[...]`` in square metres, mean over joints and coordinates.

    Both sides are centred on the mean of the two LSP hips. Items whose hips have no label get 0.

    Args:
        pred: ``[..., 49, 3]`` metres, SPIN49.
        target: ``[..., 49, 4]`` metres and confidence.
    """
    confidence = target[..., 3]
    hips = list(HIPS_SPIN49)
    confidence = confidence * (confidence[..., hips] > 0).all(-1, keepdim=True)
    labelled = (confidence > 0).unsqueeze(-1)
    truth = torch.where(labelled, target[..., :3], 0)
    pred_centre = pred[..., hips, :].mean(-2, keepdim=True)
    truth_centre = truth[..., hips, :].mean(-2, keepdim=True)
    difference = _masked_difference(pred - pred_centre, truth - truth_centre, labelled)
    return (confidence.clamp_min(0).unsqueeze(-1) * difference.square()).mean((-2, -1))


def joints2d_error(pred: Tensor, target: Tensor) -> Tensor:
    """Confidence-weighted squared error ``[...]`` in crop units, mean over joints and coordinates.

    Args:
        pred: ``[..., K, 2]`` in [-1, 1] over the crop.
        target: ``[..., K, 3]`` and confidence.
    """
    confidence = target[..., 2:]
    difference = _masked_difference(pred, target[..., :2], confidence > 0)
    return (torch.where(confidence > 0, confidence, 0) * difference.square()).mean((-2, -1))


def heatmap_error(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy ``[...]`` of score maps against blurred positions, in nats, mean over joints; confidence-weighted.

    The wanted distribution over the cells is a Gaussian about the position with a deviation of one cell.

    Args:
        scores: ``[..., K, H, W]`` logits of the cells.
        target: ``[..., K, 3]`` x, y in [-1, 1] from edge to edge of the map, and confidence.
    """
    height, width = scores.shape[-2:]
    confidence = target[..., 2].clamp_min(0)
    place = torch.where(confidence.unsqueeze(-1) > 0, target[..., :2], 0)
    x, y = (
        torch.arange(count, device=scores.device) + 0.5 - (place[..., axis, None] + 1) * (count / 2)
        for axis, count in ((0, width), (1, height))
    )
    wanted = (y.square().unsqueeze(-1) + x.square().unsqueeze(-2)).mul(-0.5).flatten(-2).softmax(-1)
    entropy = -(wanted * scores.flatten(-2).log_softmax(-1)).sum(-1)
    return (confidence * entropy).mean(-1)


def part_error(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy ``[B]`` in nats of what each place shows, mean over the places.

    Args:
        scores: ``[B, 25, h, w]`` logits of background and the 24 bones.
        target: ``[B, H, W]`` bone or -1 for background; a place has the label of its middle pixel.
    """
    height, width = scores.shape[-2:]
    rows, columns = (
        ((torch.arange(count, device=target.device) + 0.5) * (size / count)).long()
        for count, size in ((height, target.shape[-2]), (width, target.shape[-1]))
    )
    label = target[:, rows[:, None], columns].long() + 1
    return functional.cross_entropy(scores, label, reduction="none").mean((-2, -1))


def visibility_error(scores: Tensor, visible: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy ``[...]`` in nats of the logits ``scores [..., K]``, mean over all K joints.

    Args:
        scores: of a joint being seen.
        visible: bool ``[..., K]``.
        known: bool ``[..., K]``; the other joints count 0.
    """
    entropy = functional.binary_cross_entropy_with_logits(scores, visible.to(scores.dtype), reduction="none")
    return torch.where(known, entropy, 0).mean(-1)


def scale_penalty(camera: Tensor) -> Tensor:
    """``exp(-10 s)^2``, ``[...]``, of cameras ``[..., 3]``: keeps the scale s positive (SPIN, ``train/trainer.py``).

    Needs no label. Below s = -0.1 it goes on along its tangent: one item whose scale was thrown far into the negative
    would otherwise be the whole gradient, or an infinite one.
    """
    exponent = -20 * camera[..., 0]
    start = exponent.clamp(max=_STEEPEST_EXPONENT)
    return start.exp() * (1 + exponent - start)


def regressor_terms(
    params: SmplParams,
    camera: Tensor,
    targets: Targets,
    body: BodyModel,
    active: frozenset[str],
    frame: RotationFrame = "parent",
) -> dict[str, Tensor]:
    """SPIN's terms on a point estimate, ``[B]`` each, of those named in ``active``.

    Args:
        params: estimate for B items.
        camera: estimated ``[B, 3]``.
        targets: the truth.
        body: gives the joints.
        active: names of the terms that are wanted; others than the five of the regressor are ignored.
        frame: in which rotations are compared.
    """
    terms = {}
    if "regressor_pose" in active:
        pred, truth = to_frame(params.rotations, frame), to_frame(targets.params.rotations, frame)
        terms["regressor_pose"] = rotation_error(pred, truth, targets.has_params)
    if "regressor_shape" in active:
        terms["regressor_shape"] = shape_error(params.betas, targets.params.betas, targets.has_params)
    if "regressor_scale" in active:
        terms["regressor_scale"] = scale_penalty(camera)
    if active & {"regressor_joints3d", "regressor_joints2d"}:
        joints = body.joints(params, SPIN49)
        if "regressor_joints3d" in active:
            terms["regressor_joints3d"] = joints3d_error(joints, targets.joints3d)
        if "regressor_joints2d" in active:
            terms["regressor_joints2d"] = joints2d_error(project_crop(joints, camera), targets.joints2d)
    return terms


def x0_terms(
    params: SmplParams, camera: Tensor, targets: Targets, body: BodyModel, active: frozenset[str]
) -> dict[str, Tensor]:
    """Geometry of R estimates of the clean state per item, ``[B, R]`` each, of the terms named in ``active``.

    2D joints count where they are visible only: behind an occluder a sample has to be plausible, not right.

    Args:
        params: estimates ``[B, R]``.
        camera: ``[B, R, 3]``.
        targets: the truth of the B items.
        body: gives the joints.
        active: names of the terms that are wanted; others than ``x0_joints3d`` and ``x0_joints2d`` are ignored.
    """
    terms: dict[str, Tensor] = {}
    if not active & {"x0_joints3d", "x0_joints2d"}:
        return terms
    joints = body.joints(params, SPIN49)
    if "x0_joints3d" in active:
        terms["x0_joints3d"] = joints3d_error(joints, targets.joints3d.unsqueeze(1))
    if "x0_joints2d" in active:
        terms["x0_joints2d"] = joints2d_error(project_crop(joints, camera), seen_joints2d(targets).unsqueeze(1))
    return terms


def seen_joints2d(targets: Targets) -> Tensor:
    """``targets.joints2d [B, 49, 3]`` with confidence 0 for the joints that cannot be seen."""
    seen = targets.joints2d[..., 2] * targets.visible
    return torch.cat([targets.joints2d[..., :2], seen.unsqueeze(-1)], dim=-1)


def _masked_difference(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    # The mask comes before any arithmetic on the difference: the gradient of an unlabelled entry is 0, not 0 times NaN.
    return torch.where(valid, pred - target, 0)
