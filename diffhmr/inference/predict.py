"""From people in photos to bodies in the camera of the full image."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffhmr.batch import Prediction
from diffhmr.body.joints import COCO17, SMPL24, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import REPOSITORY, LoadedModel
from diffhmr.config import SamplerConfig
from diffhmr.errors import UserError
from diffhmr.geometry.camera import (
    crop_to_full,
    estimate_translation,
    intrinsics,
    normalised_to_box,
    project,
    project_crop,
)
from diffhmr.inference.people import PersonInput, given_keypoints, make_batch
from diffhmr.inference.result import FORMAT, VERSION, PersonResult
from diffhmr.models import HmrModel
from diffhmr.models.diff_hmr import DiffHMR
from diffhmr.models.keypoint_guidance import KeypointGuidance

log = logging.getLogger(__name__)

KEYPOINT_CHECKPOINT = REPOSITORY / "data/checkpoints/diffhmr_keypoints.safetensors"
IMAGE_CHECKPOINT = REPOSITORY / "data/checkpoints/diffhmr_synthetic.safetensors"

_MIN_SCALE = 0.02  # of a crop camera: at this s the crop would be 100 m wide
_MIN_DISTANCE = 0.1  # metres between a body and the camera of the photo
_MAX_FOCAL_PX = 1e9


@dataclass(frozen=True)
class PredictOptions:
    """How people are predicted.

    Attributes:
        num_samples: hypotheses per person, the single answer included.
        steps: of the sampler; None for those of the checkpoint's settings.
        seed: of the random samples.
        focal_px: focal length of the photos in pixels; None for :func:`default_focal`.
        max_batch: people given to the model at once.
        guidance: how strongly a diffusion model's hypotheses are pulled to the keypoints, where there are any; 1 takes
            them as observations with an error of 1.5 % of the crop, 0 leaves the hypotheses as the model draws them.
    """

    num_samples: int = 25
    steps: int | None = None
    seed: int = 0
    focal_px: float | None = None
    max_batch: int = 16
    guidance: float = 1.0

    def __post_init__(self) -> None:
        checks = {
            "--num-samples": (self.num_samples, 1 <= self.num_samples < 2**31, "at least 1, and less than 2^31"),
            "--steps": (self.steps, self.steps is None or self.steps >= 1, "at least 1"),
            "--seed": (self.seed, self.seed >= 0, "0 or more"),
            "--focal-px": (
                self.focal_px,
                self.focal_px is None or 0 < self.focal_px <= _MAX_FOCAL_PX,
                f"a positive number of pixels, at most {_MAX_FOCAL_PX:g}",
            ),
            "--guidance": (
                self.guidance, math.isfinite(self.guidance) and self.guidance >= 0, "0 or more"
            ),
            "max_batch": (self.max_batch, self.max_batch >= 1, "at least 1"),
        }
        for name, (value, fine, range_) in checks.items():
            if not fine:
                raise UserError(f"{name} is {value}: it has to be {range_}")


def choose_checkpoints(people: Sequence[PersonInput]) -> dict[Path, list[PersonInput]]:
    """Which shipped model is for whom: that of keypoints for all who have some, that of images for the others.

    Args:
        people: those of one photo.

    Raises:
        UserError: the image model is needed and not there.
    """
    without = [person for person in people if person.keypoints is None]
    if without and not IMAGE_CHECKPOINT.exists():
        raise UserError(
            f"{without[0].photo.path.name}, person {without[0].index} has no keypoints, and there is no image model at "
            f"{IMAGE_CHECKPOINT}: give --keypoints (or --boxes with keypoints), or --checkpoint with an image model of "
            "your own"
        )
    if 0 < len(without) < len(people):
        log.warning(
            "%s: of person %s there are no keypoints: the image model is used, which is less accurate",
            without[0].photo.path.name, ", ".join(str(person.index) for person in without),
        )  # fmt: skip
    groups = {KEYPOINT_CHECKPOINT: [person for person in people if person.keypoints is not None]}
    return {path: some for path, some in (groups | {IMAGE_CHECKPOINT: without}).items() if some}


def default_focal(width: int, height: int) -> float:
    """Focal length in pixels for a photo of unknown camera: the diagonal, which is a field of view of 53 degrees.

    A wrong focal length scales the distance of the bodies and leaves their place in the image as it is.
    """
    return math.hypot(width, height)


def predict(
    loaded: LoadedModel, people: Sequence[PersonInput], options: PredictOptions, checkpoint: str | Path
) -> list[PersonResult]:
    """Hypotheses for ``people``, in their order; who else is predicted at the same time changes nothing.

    Args:
        loaded: an image or a keypoint model.
        people: from any number of photos.
        options: number of hypotheses, sampler, seed, camera.
        checkpoint: the file of ``loaded``, for the record.

    Raises:
        UserError: the model needs keypoints and somebody has none, or its output is not finite.
    """
    source = _Source(loaded, with_steps(loaded.config.sampler, options.steps), options, str(checkpoint))
    results = []
    for start in range(0, len(people), options.max_batch):
        chunk = people[start : start + options.max_batch]
        prediction = sample_people(loaded, chunk, options)
        with torch.no_grad():
            results += [_place_row(person, prediction, row, source) for row, person in enumerate(chunk)]
    return results


def with_steps(sampler: SamplerConfig, steps: int | None) -> SamplerConfig:
    """``sampler`` with another number of steps, if one is given."""
    return sampler if steps is None else sampler.model_copy(update={"steps": steps})


def _place_row(person: PersonInput, prediction: Prediction, row: int, source: _Source) -> PersonResult:
    """Row ``row`` of a prediction in the camera of the full image."""
    params, camera = prediction.params.map(lambda value: value[row]), prediction.camera[row]
    values = (params.global_orient, params.body_pose, params.betas, camera)
    if not all(bool(value.isfinite().all()) for value in values):
        name = f"{person.photo.path.name}, person {person.index}"
        raise UserError(f"{name}: the model's output is not finite; use another checkpoint")
    about = source.about(person, prediction.deterministic)
    focal, body = source.options.focal_px, source.loaded.body
    return place(person, params, camera, body, focal, prediction.deterministic, about)


@torch.no_grad()
def sample_people(loaded: LoadedModel, people: Sequence[PersonInput], options: PredictOptions) -> Prediction:
    """Hypotheses for ``people`` in the frames of their crops' cameras, all at once, guided by their keypoints.

    Raises:
        UserError: the model needs keypoints and somebody has none.
    """
    model, sampler = loaded.model, with_steps(loaded.config.sampler, options.steps)
    images = loaded.config.model.encoder.kind == "image"
    batch = make_batch(people, loaded.config.data.image_size, images).to(next(model.parameters()).device)
    if not isinstance(model, DiffHMR) or options.guidance == 0:
        return model.sample(batch, options.num_samples, sampler, options.seed)
    keypoints = torch.stack([given_keypoints(person) for person in people]).to(batch.device)
    guidance = KeypointGuidance(keypoints, scale=options.guidance) if bool((keypoints[..., 2] > 0).any()) else None
    return model.sample(batch, options.num_samples, sampler, options.seed, guidance)


def _guidance(model: HmrModel, person: PersonInput, options: PredictOptions) -> float:
    """The guidance that a person really gets: none with a deterministic model or without keypoints."""
    seen = bool((given_keypoints(person)[:, 2] > 0).any())
    return options.guidance if isinstance(model, DiffHMR) and seen else 0.0


def to_full_camera(
    params: SmplParams, camera: Tensor, person: PersonInput, intrinsic: Tensor, body: BodyModel
) -> SmplParams:
    """Parameters ``[S]`` of the crop camera's frame, with ``camera [S, 3]``, as parameters in the full image's frame.

    The crop camera hardly knows perspective, a photo does. In training it is the best fit to the 49 projected joints;
    here the translation is chosen the other way round, so that the 49 joints, seen by the camera of the photo, lie best
    where the crop camera puts them (least squares). This undoes several times more of the perspective than the closed
    form of :func:`crop_to_full`, which decides only if the fit ends behind the camera.
    """
    camera = torch.cat([camera[..., :1].clamp_min(_MIN_SCALE), camera[..., 1:]], dim=-1)
    centre = torch.tensor(person.centre).to(camera).expand(*camera.shape[:-1], 2)
    side = torch.tensor(person.side).to(camera).expand(camera.shape[:-1])
    rotation, transl = crop_to_full(camera, centre, side, intrinsic)
    # SMPL's global_orient turns a body about its pelvis p, not about the origin: its points R x are those of the turned
    # parameters moved by R p - p.
    pelvis = body.joints(params, SMPL24)[..., 0, :]
    offset = (rotation @ pelvis.unsqueeze(-1)).squeeze(-1) - pelvis
    joints = body.joints(params, SPIN49)
    wanted = normalised_to_box(project_crop(joints, camera), centre, side)
    turned = joints @ rotation.transpose(-1, -2)
    fitted = estimate_translation(
        turned, wanted, intrinsic.expand(*camera.shape[:-1], 3, 3), torch.ones_like(joints[..., 0])
    )
    transl = torch.where(fitted[..., 2:] > _MIN_DISTANCE, fitted, transl)
    return SmplParams(rotation @ params.global_orient, params.body_pose, params.betas, transl + offset)


def spread_mm(points: Tensor, root: Tensor, deterministic: bool) -> Tensor:
    """Mean distance ``[N]`` in mm of ``points [S, N, 3]`` (metres) from their mean over the random samples.

    Points are taken relative to ``root [S, 3]``, so the uncertain distance of the body from the camera does not count.
    Hypothesis 0, the single answer, is no sample and is left out. With fewer than two samples, or with a model that has
    one answer only, it is 0.
    """
    samples = (points - root.unsqueeze(-2))[1:]
    if deterministic or len(samples) < 2:
        return points.new_zeros(points.shape[1])
    return 1000 * torch.linalg.vector_norm(samples - samples.mean(0), dim=-1).mean(0)


def reprojection(pixels: Tensor, keypoints: Tensor, longer_side: float) -> dict[str, Any]:
    """Distances in the image between predicted joints and the labelled keypoints.

    Args:
        pixels: ``[S, 17, 2]`` projected COCO joints.
        keypoints: ``[17, 4]`` pixels x, y, confidence and 1 if labelled.
        longer_side: of the person's box, in pixels.

    Returns:
        ``answer``: mean distance of hypothesis 0; ``samples``: mean over the random samples (E2D) and the best of them
        (chosen with these keypoints); each in pixels and as a share of the box's longer side. ``points``: how many.
    """
    labelled = keypoints[:, 3] > 0
    distance = torch.linalg.vector_norm(pixels - keypoints[:, :2], dim=-1)[:, labelled].mean(-1)

    def entry(value: Tensor) -> dict[str, float]:
        return {"pixels": round(float(value), 3), "share_of_box": round(float(value) / longer_side, 5)}

    samples = distance[1:]
    return {
        "points": int(labelled.sum()),
        "box_longer_side_px": round(longer_side, 2),
        "answer": entry(distance[0]),
        "samples": {"mean": entry(samples.mean()), "best": entry(samples.min())} if len(samples) else None,
    }


@dataclass(frozen=True)
class _Source:
    """What all results of one run have in common."""

    loaded: LoadedModel
    sampler: SamplerConfig
    options: PredictOptions
    checkpoint: str

    def about(self, person: PersonInput, deterministic: bool) -> dict[str, Any]:
        """Metadata that say which model predicted ``person``, and how."""
        loaded = self.loaded
        return {
            "checkpoint": {
                "path": self.checkpoint,
                "sha256": loaded.sha256,
                "step": loaded.step,
                "config": loaded.config.name,
                "model": loaded.config.model.kind,
                "input": loaded.config.model.encoder.kind,
            },
            "sampling": {
                "hypotheses": self.options.num_samples,
                "single_answer": 0,
                "deterministic": deterministic,
                "seed": self.options.seed,
                "sampler": self.sampler.name,
                "steps": self.sampler.steps,
                "eta": self.sampler.eta,
            },
            # 0 when nothing was pulled; otherwise the reprojection error is to the points that pulled.
            "guidance": _guidance(loaded.model, person, self.options),
        }


def place(
    person: PersonInput,
    params: SmplParams,
    camera: Tensor,
    body: BodyModel,
    focal_px: float | None,
    deterministic: bool,
    about: Mapping[str, Any],
) -> PersonResult:
    """S bodies in the frame of a crop camera as a result in the camera of the full image.

    Args:
        person: whose bodies they are.
        params: ``[S]``; number 0 is the single answer.
        camera: ``[S, 3]`` of the crop.
        body: to which the parameters belong.
        focal_px: of the photo; None for :func:`default_focal`.
        deterministic: all S are the same.
        about: metadata that say where the bodies come from.
    """
    photo = person.photo
    focal = focal_px or default_focal(photo.width, photo.height)
    intrinsic = intrinsics(focal, photo.width, photo.height).to(camera)
    params = to_full_camera(params, camera, person, intrinsic, body)
    smpl, coco = body.joints(params, SMPL24), body.joints(params, COCO17)
    keypoints = None
    if person.keypoints is not None:
        labelled = torch.from_numpy(person.keypoints.labelled).float().unsqueeze(-1)
        keypoints = torch.cat([torch.from_numpy(person.keypoints.points).float(), labelled], dim=-1)
    pixels = project(coco, intrinsic).cpu()
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "body": {"name": body.name, "file": str(body.path), "sha256": body.sha256},
        **about,
        **_about_picture(person, intrinsic, given=focal_px is not None),
        "reprojection": None if keypoints is None else reprojection(pixels, keypoints, person.longer_side),
    }
    vertices, root = body(params).vertices, smpl[:, 0]
    return PersonResult(
        params=params.to("cpu"),
        intrinsic=intrinsic.cpu(),
        image_size=(photo.width, photo.height),
        box=person.box,
        crop=(*person.centre, person.side),
        joints_smpl24=smpl.cpu(),
        joints_coco17=coco.cpu(),
        keypoints=keypoints,
        joint_spread_mm=spread_mm(smpl, root, deterministic).cpu(),
        vertex_spread_mm=spread_mm(vertices, root, deterministic).cpu(),
        metadata=metadata,
    )


def _about_picture(person: PersonInput, intrinsic: Tensor, *, given: bool) -> dict[str, Any]:
    """Metadata of photo, person, camera and box; ``given``: the focal length of the camera is no guess."""
    photo = person.photo
    return {
        "image": {"path": str(photo.path), "width": photo.width, "height": photo.height},
        "person": {"index": person.index, "item_seed": person.item_seed},
        "camera": {
            "focal_px": round(float(intrinsic[0, 0]), 3),
            "focal_source": "given" if given else "default: diagonal of the image",
            "K": intrinsic.double().tolist(),
        },
        "box": {
            "x0_y0_x1_y1": [round(value, 3) for value in person.box],
            "source": person.box_source,
            "crop_centre": [round(value, 3) for value in person.centre],
            "crop_side": round(person.side, 3),
        },
    }
