"""Models that turn the keypoints of a video into motions: one that knows time, or one of pictures, frame by frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.batch import Prediction
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import LoadedModel
from diffhmr.clip_batch import ClipBatch
from diffhmr.clip_checkpoint import LoadedClipModel
from diffhmr.config import SamplerConfig
from diffhmr.errors import UserError
from diffhmr.geometry.clip_frame import normalise_clip
from diffhmr.geometry.rotation import look_rotation
from diffhmr.inference.annotations import Keypoints
from diffhmr.inference.clear_points import clear_points
from diffhmr.inference.people import PersonInput, box_from_keypoints
from diffhmr.inference.photo import Photo
from diffhmr.inference.predict import PredictOptions, sample_people, with_steps
from diffhmr.inference.tracks import DenseTrack, Track
from diffhmr.inference.video.camera import Pinhole
from diffhmr.inference.video.footage import Footage, progress, watched
from diffhmr.inference.video.initial import InitialMotion, bridged
from diffhmr.motion_filter import FilterOptions, filtered

_PICTURES_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Motion3D:
    """S hypotheses for the motion of a person in T successive frames, in the camera's frame but at no place in it.

    Attributes:
        params: ``[S, T]`` without ``transl``, on the CPU; hypothesis 0 is the single answer. The betas of all frames
            of a hypothesis are the same.
        deterministic: all S are the same.
    """

    params: SmplParams
    deterministic: bool


class MotionModel(Protocol):
    """What the pipeline asks of a model."""

    @property
    def body(self) -> BodyModel:
        """The body of the parameters."""

    @property
    def needs_pictures(self) -> bool:
        """The model looks at the video, not at keypoints only."""

    def about(self) -> dict[str, Any]:
        """Metadata that say which model it is, and how it is sampled."""

    def can_use(self, track: Track) -> bool:
        """Some point of the track is one that the model looks at."""

    def motions(self, footage: Footage, tracks: Sequence[Track], camera: Pinhole) -> list[Motion3D]:
        """The motion of each track from its first to its last frame."""


def track_span(track: Track) -> tuple[NDArray[np.int64], DenseTrack]:
    """The frame numbers ``[T]`` from the first to the last of a track, without a gap, and its points in them."""
    first, last = int(track.frames[0]), int(track.frames[-1])
    dense = track.filled(last + 1)
    return np.arange(first, last + 1), DenseTrack(dense.points[first:], dense.present[first:])


@dataclass(frozen=True)
class ClipMotionModel:
    """A model of clips of keypoints.

    Attributes:
        loaded: the model.
        checkpoint: its file, for the record.
        options: hypotheses, sampler and seed.
        initial: what a model that refines is given; None for other models.
    """

    loaded: LoadedClipModel
    checkpoint: Path
    options: PredictOptions
    initial: InitialMotion | None = None

    @property
    def body(self) -> BodyModel:
        """The body of the parameters."""
        return self.loaded.body

    @property
    def needs_pictures(self) -> bool:
        """Never: keypoints are enough."""
        return False

    @property
    def _sampler(self) -> SamplerConfig:
        config = self.loaded.config
        return with_steps(SamplerConfig() if config is None else config.sampler, self.options.steps)

    def about(self) -> dict[str, Any]:
        """Metadata that say which model it is, and how it is sampled."""
        config = self.loaded.config
        about = _about(self.loaded, self.checkpoint, self._sampler, self.options)
        about["checkpoint"] |= {
            "config": None if config is None else config.name,
            "model": type(self.loaded.model.network).__name__ if config is None else config.model.head,
            "input": "keypoints",
        }
        return about | ({} if self.initial is None else {"initial": self.initial.about()})

    def can_use(self, track: Track) -> bool:
        """Some point of Human3.6M-17 is seen."""
        return bool((track.h36m17().points[..., 2] > 0).any())

    def motions(self, footage: Footage, tracks: Sequence[Track], camera: Pinhole) -> list[Motion3D]:  # noqa: ARG002
        """The motion of each track from its first to its last frame.

        Raises:
            UserError: the model's output is not finite, or the parameters to be refined are not of this video.
        """
        device = next(self.loaded.model.parameters()).device
        found = []
        for track in watched(tracks, len(tracks), "recovering motions"):
            frames, dense = track_span(track.h36m17())
            points = torch.from_numpy(dense.points).float().unsqueeze(0)
            normalised = normalise_clip(points, footage.size)[0]
            # As in training: of points that are not seen the model knows nothing, also no interpolated place.
            keypoints = torch.where(points[..., 2:] > 0, normalised, 0.0)
            seed = torch.tensor([_item_seed(footage, track)], dtype=torch.int64)
            given = None if self.initial is None else self.initial.of(footage, frames, track.track_id)
            initial = None if given is None else given.map(lambda value: value.unsqueeze(0))
            batch = ClipBatch(seed, keypoints, torch.tensor([footage.fps]), initial).to(device)
            options = self.options
            prediction = self.loaded.model.sample(batch, options.num_samples, self._sampler, options.seed)
            params = prediction.params.map(lambda value: value[0]).to("cpu")
            _require_finite(params, track)
            params = _bridged_gaps(params, (keypoints[0, :, :, 2] > 0).any(-1), self.loaded.model.windows.frames // 2)
            found.append(Motion3D(params, prediction.deterministic))
        return found


@dataclass(frozen=True)
class FrameMotionModel:
    """A model of people in pictures, run on every frame. It knows nothing of time: its motions tremble.

    Attributes:
        loaded: the model.
        checkpoint: its file, for the record.
        options: hypotheses, sampler, seed and guidance.
    """

    loaded: LoadedModel
    checkpoint: Path
    options: PredictOptions

    @property
    def body(self) -> BodyModel:
        """The body of the parameters."""
        return self.loaded.body

    @property
    def needs_pictures(self) -> bool:
        """The model's input are crops of the video."""
        return self.loaded.config.model.encoder.kind == "image"

    def about(self) -> dict[str, Any]:
        """Metadata that say which model it is, and how it is sampled."""
        config = self.loaded.config
        about = _about(self.loaded, self.checkpoint, with_steps(config.sampler, self.options.steps), self.options)
        about["checkpoint"] |= {
            "config": config.name,
            "model": config.model.kind,
            "input": config.model.encoder.kind,
        }
        return about | {"guidance": self.options.guidance}

    def can_use(self, track: Track) -> bool:
        """Some point of COCO-17 is seen."""
        return bool((track.coco17().points[..., 2] > 0).any())

    def motions(self, footage: Footage, tracks: Sequence[Track], camera: Pinhole) -> list[Motion3D]:
        """The motion of each track from its first to its last frame, frame by frame.

        Hypothesis k has the same noise in all frames. Frames in which nobody was found lie between their neighbours.

        Raises:
            UserError: pictures are needed and there are none, nothing of somebody can be seen, or the model's output is
                not finite.
        """
        collected: list[_Answers] = [_Answers([], [], []) for _ in tracks]
        at_once = _PICTURES_AT_ONCE if self.needs_pictures else self.options.max_batch
        deterministic = False
        waiting: list[_Seen] = []
        total = sum(len(track) for track in tracks)
        with progress(total, "recovering bodies") as bar:
            for seen in self._people(footage, tracks):
                waiting.append(seen)
                if len(waiting) == at_once:
                    deterministic = self._answer(waiting, collected, camera)
                    bar.update(len(waiting))
                    waiting = []
            if waiting:
                deterministic = self._answer(waiting, collected, camera)
        return [
            Motion3D(_joined(track, answers), deterministic) for track, answers in zip(tracks, collected, strict=True)
        ]

    def _answer(self, seen: list[_Seen], collected: list[_Answers], camera: Pinhole) -> bool:
        prediction = sample_people(self.loaded, [one.person for one in seen], self.options)
        rotations = _in_picture(prediction, [one.person for one in seen], camera).cpu()
        betas = prediction.params.betas.cpu()
        for row, one in enumerate(seen):
            answers = collected[one.track]
            answers.frames.append(one.frame)
            answers.rotations.append(rotations[row])
            answers.betas.append(betas[row])
        return prediction.deterministic

    def _people(self, footage: Footage, tracks: Sequence[Track]) -> Iterator[_Seen]:
        """Everybody in every frame; a model of keypoints needs no pictures, and the video is not read."""
        if self.needs_pictures and footage.path is None:
            raise UserError(
                f"{self.checkpoint} is a model of pictures and needs --video; without one choose a model of keypoints"
            )
        path = footage.path or Path(footage.name)
        width, height = footage.size
        blank: NDArray[np.uint8] = np.broadcast_to(np.zeros(1, np.uint8), (height, width, 3))
        pictures = footage.frames() if self.needs_pictures else (blank for _ in range(footage.num_frames))
        points = [track.coco17() for track in tracks]
        rows = [{int(frame): row for row, frame in enumerate(track.frames)} for track in tracks]
        for frame, rgb in enumerate(pictures):
            photo = Photo(path, rgb)
            for index, track in enumerate(points):
                if frame in rows[index]:
                    person = _person(photo, track, track.points[rows[index][frame]])
                    if person is not None:
                        yield _Seen(index, frame, person)


@dataclass(frozen=True)
class _Seen:
    """A person in a frame."""

    track: int
    frame: int
    person: PersonInput


@dataclass(frozen=True)
class FilteredMotionModel:
    """A model with a filter behind it, for those that know nothing of time.

    Attributes:
        inner: the model.
        options: of the filter.
    """

    inner: MotionModel
    options: FilterOptions

    @property
    def body(self) -> BodyModel:
        """The body of the parameters."""
        return self.inner.body

    @property
    def needs_pictures(self) -> bool:
        """As the model."""
        return self.inner.needs_pictures

    def about(self) -> dict[str, Any]:
        """Metadata that say which model it is, how it is sampled and filtered."""
        return self.inner.about() | {"filter": self.options.about()}

    def can_use(self, track: Track) -> bool:
        """As the model."""
        return self.inner.can_use(track)

    def motions(self, footage: Footage, tracks: Sequence[Track], camera: Pinhole) -> list[Motion3D]:
        """Smoother motions of the model. Gaps are bridged before.

        Raises:
            UserError: as the model.
        """
        return [
            Motion3D(filtered(motion.params, footage.fps, self.options), motion.deterministic)
            for motion in self.inner.motions(footage, tracks, camera)
        ]


@dataclass(frozen=True)
class _Answers:
    """What the model says about a track: N frames, and of each rotations ``[S, 24, 3, 3]`` and betas ``[S, 10]``."""

    frames: list[int]
    rotations: list[Tensor]
    betas: list[Tensor]


def _person(photo: Photo, track: Track, points: NDArray[np.float64]) -> PersonInput | None:
    """The person with COCO-17 ``points [17, 3]``; None if nothing of them is seen."""
    seen = points[:, 2] > 0
    if not seen.any():
        return None
    box = box_from_keypoints(Keypoints(points, clear_points(points[:, 2])))
    return PersonInput(photo, track.track_id, box, "extent of the keypoints", Keypoints(points, seen))


def _in_picture(prediction: Prediction, people: Sequence[PersonInput], camera: Pinhole) -> Tensor:
    """Rotations ``[N, S, 24, 3, 3]``, turned from the cameras that look at the crops into that of the picture."""
    rotations = prediction.params.rotations
    centres = torch.tensor([person.centre for person in people]).to(rotations)
    tangent = (centres - torch.tensor(camera.centre).to(rotations)) / camera.focal
    turn = look_rotation(torch.cat([tangent, torch.ones_like(tangent[:, :1])], dim=-1))
    pelvis = turn[:, None] @ rotations[:, :, 0]
    return torch.cat([pelvis.unsqueeze(2), rotations[:, :, 1:]], dim=2)


def _bridged_gaps(params: SmplParams, seen: Tensor, longest: int) -> SmplParams:
    """Parameters ``[S, T]`` without what a model makes up in gaps of more than ``longest`` frames.

    Up to half a window without keypoints it goes on in a plausible way; beyond that its answers come from next to
    nothing. On 16 synthetic clips with a gap, MPJPE within it: 30 frames 93 mm, bridged 90; 60 frames 118 and 106; 100
    frames, longer than the window of 64, 242 and 134.

    Args:
        params: the model's answer.
        seen: ``[T]`` bool, frames with keypoints. What is before the first and after the last stays.
        longest: number of frames.
    """
    rows = seen.nonzero().flatten()
    unsure = torch.zeros_like(seen)
    for before, after in zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True):
        if after - before - 1 > longest:
            unsure[before + 1 : after] = True
    if not unsure.any():
        return params
    kept = (~unsure).nonzero().flatten()
    return SmplParams.from_rotations(bridged(params.rotations[:, kept], kept, len(seen)), params.betas)


def _joined(track: Track, answers: _Answers) -> SmplParams:
    """Parameters ``[S, T]`` of all frames of a track from those of some of them; one mean shape per hypothesis."""
    if not answers.frames:
        raise UserError(f"track {track.track_id} has no point of COCO-17 in any frame, which the model needs")
    first, last = int(track.frames[0]), int(track.frames[-1])
    rows = torch.tensor(answers.frames) - first
    rotations = bridged(torch.stack(answers.rotations, dim=1), rows, last - first + 1)
    betas = torch.stack(answers.betas, dim=1).mean(dim=1, keepdim=True).expand(-1, last - first + 1, -1)
    params = SmplParams.from_rotations(rotations, betas)
    _require_finite(params, track)
    return params


def _about(
    loaded: LoadedModel | LoadedClipModel, checkpoint: Path, sampler: SamplerConfig, options: PredictOptions
) -> dict[str, Any]:
    return {
        "checkpoint": {"path": str(checkpoint), "sha256": loaded.sha256, "step": loaded.step},
        "sampling": {
            "hypotheses": options.num_samples,
            "single_answer": 0,
            "seed": options.seed,
            "sampler": sampler.name,
            "steps": sampler.steps,
            "eta": sampler.eta,
        },
    }


def _item_seed(footage: Footage, track: Track) -> int:
    """Identifies a person by the names of the video and the track: nobody's samples depend on the others."""
    name = footage.path.name if footage.path is not None else footage.name
    digest = hashlib.sha256(f"{name}#{track.track_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _require_finite(params: SmplParams, track: Track) -> None:
    if not all(bool(value.isfinite().all()) for value in (params.global_orient, params.body_pose, params.betas)):
        raise UserError(f"track {track.track_id}: the model's output is not finite; use another checkpoint")
