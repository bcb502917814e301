"""Fitting a body to the keypoints of people in photos, as results like those of the models."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffhmr.body.joints import COCO17_FROM_SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import NUM_BODY_JOINTS, SmplParams
from diffhmr.checkpoint import LoadedModel
from diffhmr.errors import UserError
from diffhmr.fitting.prior import PosePrior
from diffhmr.fitting.smplify import ITERATIONS, MIN_JOINTS, Fit, labelled_joints, smplify
from diffhmr.geometry.camera import box_to_normalised
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.inference.people import PersonInput, make_batch
from diffhmr.inference.predict import place
from diffhmr.inference.result import PersonResult
from diffhmr.models.diff_hmr import DiffHMR
from diffhmr.models.keypoint_guidance import KeypointGuidance

HEADINGS = 4
"""Without a model a person is begun facing the camera, facing away and from both sides; the best fit counts."""

ROUNDS = 3
"""And the fit is begun anew where it ended, which only so coarse a start needs."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitOptions:
    """How people are fitted.

    Attributes:
        iterations: of each of the two stages.
        focal_px: focal length of the photos in pixels; None for the default of the demo.
        max_batch: people fitted at once.
        prior_path: file of the pose prior, for the record; None for the shipped one.
    """

    iterations: int = ITERATIONS
    focal_px: float | None = None
    max_batch: int = 64
    prior_path: Path | None = None

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UserError(f"--iterations is {self.iterations}: it has to be at least 1")
        if self.focal_px is not None and not (math.isfinite(self.focal_px) and self.focal_px > 0):
            raise UserError(f"--focal-px is {self.focal_px}: it has to be a positive number of pixels")
        if self.max_batch < 1:
            raise UserError(f"max_batch is {self.max_batch}: it has to be at least 1")


def fittable(people: Sequence[PersonInput]) -> list[PersonInput]:
    """Those of ``people`` with enough keypoints for a fit; the others are left out with a warning."""
    chosen = []
    for person in people:
        count = 0 if person.keypoints is None else int(labelled_joints(spin49_keypoints(person)))
        if count >= MIN_JOINTS:
            chosen.append(person)
        else:
            log.warning(
                "%s, person %d: %d keypoints besides the hips, at least %d are needed for a fit; leaving it out",
                person.photo.path.name,
                person.index,
                count,
                MIN_JOINTS,
            )
    return chosen


def spin49_keypoints(person: PersonInput) -> Tensor:
    """``[49, 3]``: the COCO-17 keypoints at their places among the joints of SPIN49, x, y in [-1, 1] over the crop.

    Unlike the input of a model they include points outside the crop.
    """
    assert person.keypoints is not None
    points = torch.from_numpy(person.keypoints.points).float()
    centre, side = torch.tensor(person.centre), torch.tensor(person.side)
    result = torch.zeros(49, 3)
    result[list(COCO17_FROM_SPIN49), :2] = box_to_normalised(points[:, :2], centre, side)
    result[list(COCO17_FROM_SPIN49), 2] = points[:, 2]
    return torch.where(result[:, 2:] > 0, result, 0)


def fit_people(
    people: Sequence[PersonInput],
    body: BodyModel,
    prior: PosePrior,
    initial: LoadedModel | None,
    options: FitOptions,
) -> list[PersonResult]:
    """Bodies of ``people``, who all have keypoints, in their order; one hypothesis each.

    Args:
        people: from any number of photos; see :func:`fittable`.
        body: that is fitted; need not be that of ``initial``.
        prior: of the pose.
        initial: a keypoint model whose single answer is the start; None starts from the mean pose of the prior.
        options: iterations, camera.

    Raises:
        UserError: the body lacks surface points or regressors for the 49 joints.
    """
    results = []
    for start in range(0, len(people), options.max_batch):
        chunk = people[start : start + options.max_batch]
        keypoints = torch.stack([spin49_keypoints(person) for person in chunk]).to(body.v_template.device)
        if initial is None:
            fit = _fit_from_mean(keypoints, body, prior, options.iterations)
        else:
            fit = smplify(body, prior, keypoints, _predicted(chunk, initial), iterations=options.iterations)
        with torch.no_grad():
            results += [_result(person, fit, row, body, initial, options) for row, person in enumerate(chunk)]
    return results


def _predicted(people: Sequence[PersonInput], initial: LoadedModel) -> SmplParams:
    """The single answers of a keypoint model, pulled to the keypoints as in the demo."""
    if initial.config.model.encoder.kind != "keypoints":
        raise UserError("the start of a fit comes from a keypoint model, but this one takes images")
    model, sampler = initial.model, initial.config.sampler
    batch = make_batch(people, initial.config.data.image_size, images=False).to(next(model.parameters()).device)
    if isinstance(model, DiffHMR):
        assert batch.keypoints is not None
        prediction = model.sample(batch, 1, sampler, 0, KeypointGuidance(batch.keypoints))
    else:
        prediction = model.sample(batch, 1, sampler, 0)
    return prediction.params.map(lambda value: value[:, 0])


def _fit_from_mean(keypoints: Tensor, body: BodyModel, prior: PosePrior, iterations: int) -> Fit:
    """The best of several fits that begin with the mean pose, upright, in different headings."""
    count = len(keypoints)
    mean = prior.means[prior.cost.argmin()].reshape(NUM_BODY_JOINTS, 3)
    turns = torch.zeros(HEADINGS, 3).to(keypoints)
    turns[:, 1] = torch.arange(HEADINGS).to(keypoints) * (2 * math.pi / HEADINGS)
    # Half a turn about x leads from SMPL's y up, facing z, to the camera's y down, facing the viewer.
    upright = torch.tensor([1.0, -1.0, -1.0]).diag().to(keypoints) @ axis_angle_to_matrix(turns)
    params = SmplParams(
        upright.repeat_interleave(count, dim=0),
        axis_angle_to_matrix(mean).expand(HEADINGS * count, -1, -1, -1),
        keypoints.new_zeros(HEADINGS * count, body.num_betas),
    )
    repeated = keypoints.repeat(HEADINGS, 1, 1)
    for _ in range(ROUNDS):
        # Each round begins with the camera that is best for the fit so far: the first one took, say, a person who sits
        # for a small one who stands.
        fits = smplify(body, prior, repeated, params, iterations=iterations)
        params = fits.params
    best = fits.score.reshape(HEADINGS, count).argmin(0) * count + torch.arange(count, device=keypoints.device)
    return Fit(fits.params.map(lambda value: value[best]), fits.camera[best], fits.score[best])


def _result(
    person: PersonInput, fit: Fit, row: int, body: BodyModel, initial: LoadedModel | None, options: FitOptions
) -> PersonResult:
    about: dict[str, Any] = {
        "fit": {
            "method": "SMPLify",
            "start": "mean pose of the prior" if initial is None else "single answer of the checkpoint",
            "iterations_per_stage": options.iterations,
            "prior": "shipped" if options.prior_path is None else str(options.prior_path),
            "score_px2_at_224": round(float(fit.score[row]), 4),
        },
        "checkpoint": None if initial is None else {"sha256": initial.sha256, "step": initial.step},
        "sampling": {"hypotheses": 1, "single_answer": 0, "deterministic": True},
    }
    params = fit.params.map(lambda value: value[row : row + 1])
    return place(person, params, fit.camera[row : row + 1], body, options.focal_px, True, about)
