"""SMPLify (Bogo et al., "Keep it SMPL", ECCV 2016) for many people at once, in the form of SPIN.

Two stages of Adam, as in Kolotouros et al. (ICCV 2019): first the root and the camera on hips and shoulders, then root,
body pose and shape on all joints under the priors. All weights belong to pixels of SPIN's crop of 224 px, whatever the
size of the pictures. Nobody's fit depends on who else is fitted at the same time (up to rounding), and the keypoints
that are given are never written to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.fitting.prior import PosePrior, angle_prior
from diffhmr.geometry.camera import FOCAL_HALF_CROP, crop_translation, fit_crop_camera, project_crop
from diffhmr.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle

ITERATIONS = 100
"""Steps of Adam in each of the two stages, as in SPIN."""

MIN_JOINTS = 6
"""People with fewer labelled joints are not worth a fit: almost any body lies well on them."""

_HALF_CROP_PX = 112.0
_MIN_SCALE = 0.05  # of the crop camera: a crop 40 m wide
_LEARNING_RATE = 1e-2
_SIGMA_PX = 100.0
_POSE_WEIGHT = 4.78**2
_ANGLE_WEIGHT = 15.2**2
_SHAPE_WEIGHT = 5.0**2
_DEPTH_WEIGHT = 100.0**2

# OpenPose's neck and everybody's hips lie elsewhere than the body's.
_IGNORED = (1, 9, 12, 25 + 2, 25 + 3)
# Right and left hip, right and left shoulder: OpenPose's, then those of the annotators.
_TORSO = (9, 12, 2, 5, 25 + 2, 25 + 3, 25 + 8, 25 + 9)


@dataclass(frozen=True)
class Fit:
    """Bodies fitted to the keypoints of B people.

    Attributes:
        params: ``[B]`` in the frame of the crop camera; ``transl`` is None.
        camera: ``[B, 3]`` (s, tx, ty).
        score: ``[B]`` see :func:`reprojection_score`.
    """

    params: SmplParams
    camera: Tensor
    score: Tensor


def geman_mcclure(residual: Tensor, sigma: float) -> Tensor:
    """``sigma^2 x^2 / (sigma^2 + x^2)``: a square that no outlier can raise above ``sigma^2``. Any shape."""
    square = residual.square()
    return square * (sigma**2 / (sigma**2 + square))


def reprojection_score(joints: Tensor, camera: Tensor, keypoints: Tensor) -> Tensor:
    """How far joints lie from keypoints: SPIN's score of a fit, in square pixels of a 224 px crop.

    The mean over all 49 places of ``confidence^2`` times the robust squared distance; places without label or with a
    joint that SMPLify leaves out count as 0.

    Args:
        joints: ``[..., 49, 3]`` metres, SPIN49.
        camera: ``[..., 3]`` of the crop.
        keypoints: ``[..., 49, 3]`` x, y in [-1, 1] over the crop, confidence.

    Returns:
        ``[...]``.
    """
    points, weight = _used(keypoints)
    return _reprojection(project_crop(joints, camera), points, weight).mean(-1)


def labelled_joints(keypoints: Tensor) -> Tensor:
    """How many different joints of SPIN49 with a label ``[..., 49, 3]`` a fit uses, ``[...]``."""
    _, weight = _used(keypoints)
    names = sorted(set(SPIN49.joint_names))
    places = [[i for i, name in enumerate(SPIN49.joint_names) if name == wanted] for wanted in names]
    return torch.stack([(weight[..., place] > 0).any(-1) for place in places], dim=-1).sum(-1)


def camera_for(params: SmplParams, body: BodyModel, keypoints: Tensor) -> Tensor:
    """The camera ``[B, 3]`` under which the bodies lie best on ``keypoints [B, 49, 3]`` (weighted least squares).

    For a body that is turned far from the keypoints, upside down for example, the best scale is tiny or negative. Then
    the scale is the one that gives the joints the spread of the keypoints.
    """
    points, weight = _used(keypoints)
    joints = body.joints(params, SPIN49)
    fitted = fit_crop_camera(joints, points, weight)
    share = (weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)).unsqueeze(-1)
    flat = joints[..., :2]
    mean, mean2d = (share * flat).sum(-2, keepdim=True), (share * points).sum(-2, keepdim=True)
    spread, spread2d = ((share * (p - m).square()).sum((-2, -1)) for p, m in ((flat, mean), (points, mean2d)))
    scale = (spread2d / spread.clamp_min(1e-12)).sqrt().clamp_min(_MIN_SCALE).unsqueeze(-1)
    rough = torch.cat([scale, mean2d.squeeze(-2) / scale - mean.squeeze(-2)], dim=-1)
    return torch.where(fitted[..., :1] < 0.5 * scale, rough, fitted)


def smplify(
    body: BodyModel,
    prior: PosePrior,
    keypoints: Tensor,
    start: SmplParams,
    camera: Tensor | None = None,
    iterations: int = ITERATIONS,
) -> Fit:
    """Fit ``body`` to ``keypoints``, beginning at ``start``.

    Each stage ends with the best of all its iterates, the one it began with included: a step that overshoots, or one
    whose loss is not finite, is lost work and nothing else.

    Args:
        body: on the device of the keypoints.
        prior: of the body pose, on that device.
        keypoints: ``[B, 49, 3]`` SPIN49: x, y in [-1, 1] over the crop, confidence; 0 for points that are not labelled.
        start: ``[B]``.
        camera: ``[B, 3]`` to begin with; None for the one under which ``start`` lies best on the keypoints.
        iterations: of each stage.
    """
    if camera is None:
        camera = camera_for(start, body, keypoints)
    with torch.enable_grad(), torch.autocast(keypoints.device.type, enabled=False):
        problem = _Problem(body, prior, *_used(keypoints), _torso_weight(keypoints))
        orient = matrix_to_axis_angle(start.global_orient.detach().float())
        pose = matrix_to_axis_angle(start.body_pose.detach().float()).flatten(-2)
        betas = start.betas.detach().float()
        transl = crop_translation(camera.detach().float())
        depth = transl[:, 2]
        orient, transl = _minimise(
            lambda turned, moved: problem.camera_loss(turned, pose, betas, moved, depth), (orient, transl), iterations
        )
        orient, pose, betas = _minimise(
            lambda turned, posed, shaped: problem.body_loss(turned, posed, shaped, transl),
            (orient, pose, betas),
            iterations,
        )
    params = _params(orient, pose, betas)
    fitted_camera = torch.cat([FOCAL_HALF_CROP / transl[:, 2:], transl[:, :2]], dim=-1)
    return Fit(params, fitted_camera, reprojection_score(body.joints(params, SPIN49), fitted_camera, keypoints))


@dataclass(frozen=True)
class _Problem:
    """What the losses of both stages know: places ``[B, 49, 2]`` and weights ``[B, 49]``, ``[B, 8]`` of the torso."""

    body: BodyModel
    prior: PosePrior
    points: Tensor
    weight: Tensor
    torso_weight: Tensor

    def camera_loss(self, orient: Tensor, pose: Tensor, betas: Tensor, transl: Tensor, depth: Tensor) -> Tensor:
        """Stage one, ``[B]``: squared distances of hips and shoulders, and a camera that keeps its distance."""
        projected = self._project(orient, pose, betas, transl)
        difference = torch.where(self.torso_weight.unsqueeze(-1) > 0, (projected - self.points)[:, list(_TORSO)], 0)
        squared = (_HALF_CROP_PX * difference).square().sum(-1)
        return (self.torso_weight * squared).sum(-1) + _DEPTH_WEIGHT * (transl[:, 2] - depth).square()

    def body_loss(self, orient: Tensor, pose: Tensor, betas: Tensor, transl: Tensor) -> Tensor:
        """Stage two, ``[B]``: robust distances of all joints and the three priors."""
        projected = self._project(orient, pose, betas, transl)
        return (
            _reprojection(projected, self.points, self.weight).sum(-1)
            + _POSE_WEIGHT * self.prior(pose)
            + _ANGLE_WEIGHT * angle_prior(pose)
            + _SHAPE_WEIGHT * betas.square().sum(-1)
        )

    def _project(self, orient: Tensor, pose: Tensor, betas: Tensor, transl: Tensor) -> Tensor:
        joints = self.body.joints(_params(orient, pose, betas), SPIN49) + transl.unsqueeze(-2)
        return FOCAL_HALF_CROP * joints[..., :2] / joints[..., 2:].clamp_min(1e-3)


def _minimise(loss: Callable[..., Tensor], start: Sequence[Tensor], iterations: int) -> tuple[Tensor, ...]:
    """Adam on ``loss(*values) [B]`` from ``start``, ``[B, D]`` each; the best iterate of each item."""
    values = [value.clone().requires_grad_() for value in start]
    optimizer = torch.optim.Adam(values, lr=_LEARNING_RATE)
    best = [value.detach() for value in start]
    best_loss = torch.full_like(start[0][:, 0], torch.inf)
    for iteration in range(iterations + 1):
        current = loss(*values)
        better = (current < best_loss).detach()
        best_loss = torch.where(better, current.detach(), best_loss)
        pairs = zip(values, best, strict=True)
        best = [torch.where(better.unsqueeze(-1), value.detach(), kept) for value, kept in pairs]
        if iteration < iterations:
            optimizer.zero_grad()
            current.sum().backward()
            optimizer.step()
    return tuple(best)


def _used(keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """Places ``[..., 49, 2]``, 0 where there is no label, and confidences ``[..., 49]`` of the joints that count."""
    confidence = keypoints[..., 2].clamp_min(0).clone()
    confidence[..., list(_IGNORED)] = 0
    known = keypoints[..., 2:] > 0
    return torch.where(known, keypoints[..., :2], 0), confidence


def _torso_weight(keypoints: Tensor) -> Tensor:
    """``[B, 8]``: OpenPose's hips and shoulders where all four are there, else those of the annotators."""
    labelled = keypoints[..., list(_TORSO), 2] > 0
    detected, annotated = labelled[..., :4], labelled[..., 4:]
    complete = detected.all(-1, keepdim=True)
    return torch.cat([complete.expand_as(detected), annotated & ~complete], dim=-1).to(keypoints.dtype)


def _reprojection(projected: Tensor, points: Tensor, confidence: Tensor) -> Tensor:
    """``confidence^2`` times the robust squared distance, per joint ``[..., 49]``, in square pixels."""
    difference = torch.where(confidence.unsqueeze(-1) > 0, projected - points, 0)
    return confidence.square() * geman_mcclure(_HALF_CROP_PX * difference, _SIGMA_PX).sum(-1)


def _params(orient: Tensor, pose: Tensor, betas: Tensor) -> SmplParams:
    vectors = torch.cat([orient.unsqueeze(-2), pose.unflatten(-1, (-1, 3))], dim=-2)
    return SmplParams.from_rotations(axis_angle_to_matrix(vectors), betas)
