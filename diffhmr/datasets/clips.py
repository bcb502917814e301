"""Synthetic clips: people who move before a camera, as a 2D detector sees them, made on demand.

Clip k of a split is a pure function of (data seed, split, k): the same in any batch, order, worker or process. The test
split is thereby fixed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.joints import COCO17, H36M17, HALPE26, SMPL24, SPIN49, JointSet, extended
from diffhmr.body.keypoint_maps import map_keypoints
from diffhmr.body.model import BodyModel
from diffhmr.body.params import NUM_BETAS, SmplParams
from diffhmr.clip_batch import ClipBatch, ClipTargets
from diffhmr.config_clips import ClipDataConfig
from diffhmr.datasets.capsules import hidden_by_body
from diffhmr.datasets.clip_keypoints import DETECTED, Seen, detect
from diffhmr.datasets.clip_views import ClipViews, blocked, inside_picture, middle_extent, sample_views
from diffhmr.datasets.initial_estimates import initial_estimates
from diffhmr.datasets.motion_folder import MotionFolder
from diffhmr.datasets.synthetic import Split
from diffhmr.errors import UserError
from diffhmr.motion.acting.score import Activity
from diffhmr.motion.procedural import sample_motions
from diffhmr.random import Floats, Seeds, Stream, item_seeds, normals, uniforms

_RICH_SHARE = 0.35
"""Share of clips whose detector gives neck, pelvis and head itself; of the others they are midpoints."""
_ALL = extended(SPIN49, SMPL24.joint_names)
_SPIN = slice(0, 49)
_PELVIS = 49
_DETECTED_IN_ALL = [_ALL.joint_names.index(name) for name in DETECTED.joint_names]
_HALPE_LEFT_OUT = len(HALPE26) - len(DETECTED)


@dataclass(frozen=True)
class _Clips:
    """B clips of T frames before they become a batch; float64 numpy but for what is said.

    Attributes:
        seeds: ``[B]``.
        rotations: ``[B, T, 24, 3, 3]`` into the camera.
        betas: ``[B, 10]``.
        position: ``[B, T, 3]`` pelvis in the camera frame.
        visible: ``[B, T, 20]`` of the detected points.
        detected: ``[B, T, 20, 3]``.
        focal: ``[B]`` focal length of the cameras in halves of the picture's shorter side.
    """

    seeds: Seeds
    rotations: Floats
    betas: Floats
    position: Floats
    visible: NDArray[np.bool_]
    detected: Floats
    focal: Floats


class SyntheticClips:
    """Synthetic clips as batches; give its indices to ``__getitems__`` many at a time.

    Training clips have ``config.frames`` frames, those of the other splits ``config.test_frames``. All splits follow
    the same distribution and share no item. With ``config.initial`` they bring parameters to be refined, made from the
    truth (:mod:`diffhmr.datasets.initial_estimates`).

    Attributes:
        protocol: name of the data for result files.

    Raises:
        UserError: the folder of motions cannot be used, or an activity is unknown.
    """

    protocol = "synthetic-motion"

    def __init__(self, body: BodyModel, config: ClipDataConfig, split: Split) -> None:
        self._config = config
        self._split: Split = split
        # In float64 the rounding to float32 hides that the order of sums depends on the size of the batch.
        self._body = copy.deepcopy(body).cpu().double()
        self._size = {"train": config.train_items, "val": config.val_items, "test": config.test_items}[split]
        self.num_frames = config.frames if split == "train" else config.test_frames
        self._activities = parse_activities(config.activities)
        self._folder = None if config.motions is None else MotionFolder(config.motions, split, config.fps)

    def __len__(self) -> int:
        return self._size

    def doing(self, *activities: Activity) -> SyntheticClips:
        """The same people before the same cameras, who do nothing but ``activities``."""
        clips = copy.copy(self)
        clips._activities = activities
        return clips

    def __getitem__(self, index: int) -> ClipBatch:
        """The batch of the one clip ``index``."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> ClipBatch:
        """The clips ``indices`` as one batch on the CPU, with targets.

        Raises:
            IndexError: an index is negative or not smaller than the size of the split.
        """
        return self.with_focal(indices)[0]

    def with_focal(self, indices: Sequence[int]) -> tuple[ClipBatch, Tensor]:
        """The clips ``indices``, and the focal lengths ``[B]`` of their cameras in the unit of the keypoints."""
        clips = self._clips(indices)
        keypoints = self._h36m_keypoints(clips)
        targets = ClipTargets(
            rotations=torch.from_numpy(clips.rotations).float(),
            betas=torch.from_numpy(clips.betas).float(),
            position=torch.from_numpy(clips.position).float(),
            visible=torch.from_numpy(_visible_h36m(clips.visible)),
        )
        batch = ClipBatch(
            item_seed=torch.from_numpy(clips.seeds),
            keypoints=torch.from_numpy(keypoints).float(),
            fps=torch.full((len(clips.seeds),), self._config.fps),
            initial=_initial(clips) if self._config.initial else None,
            targets=targets,
        )
        return batch, torch.from_numpy(clips.focal).float()

    def coco_keypoints(self, indices: Sequence[int]) -> Tensor:
        """``[B, T, 17, 3]``: the points of COCO-17 in the same detections, for models that take those."""
        return torch.from_numpy(np.ascontiguousarray(self._clips(indices).detected[:, :, :17])).float()

    def _clips(self, indices: Sequence[int]) -> _Clips:
        array = np.asarray(indices, dtype=np.int64)
        if array.size and (array.min() < 0 or array.max() >= self._size):
            raise IndexError(f"index outside the {self._size} items of the split {self._split}")
        seeds = item_seeds(self._config.seed, self._split, array)
        rotations, position = self._motions(seeds)
        betas = np.clip(1.1 * normals(seeds, Stream.SHAPE, NUM_BETAS), -3.0, 3.0)
        views = sample_views(seeds, position, self._config.fps)
        rotations[:, :, 0] = views.rotations @ rotations[:, :, 0]
        pelvis = views.to_camera(position[:, :, None])[:, :, 0]
        joints = self._joints(rotations, betas, _ALL)
        joints = joints - joints[:, :, _PELVIS, None] + pelvis[:, :, None]
        visible, detected = self._detect(seeds, joints, views)
        return _Clips(seeds, rotations, betas, pelvis, visible, detected, views.focal)

    def _motions(self, seeds: Seeds) -> tuple[Floats, Floats]:
        if self._folder is not None:
            return self._folder(seeds, self.num_frames)
        batch = sample_motions(seeds, self.num_frames, self._config.fps, self._activities or None)
        return batch.rotations.copy(), batch.position

    def _joints(self, rotations: Floats, betas: Floats, joint_set: JointSet) -> Floats:
        shape = np.broadcast_to(betas[:, None], (*rotations.shape[:2], NUM_BETAS))
        params = SmplParams.from_rotations(torch.from_numpy(rotations), torch.from_numpy(shape.copy()))
        joints: Floats = self._body.joints(params, joint_set).numpy()
        return joints

    def _detect(self, seeds: Seeds, joints: Floats, views: ClipViews) -> tuple[NDArray[np.bool_], Floats]:
        size, frames = joints.shape[:2]
        in_picture = views.project(joints)
        points = in_picture[:, :, _DETECTED_IN_ALL]
        spin = in_picture[:, frames // 2, _SPIN]
        hidden = hidden_by_body(torch.from_numpy(joints[:, :, _SPIN].reshape(size * frames, -1, 3))).numpy()
        hidden = hidden.reshape(size, frames, -1)[:, :, _DETECTED_IN_ALL]
        inside = inside_picture(points, views) & (joints[:, :, _DETECTED_IN_ALL, 2] > 0.1)
        hidden |= blocked(seeds, points, spin, self._config.occluder, self._config.truncation)
        visible = inside & ~hidden
        seen = Seen(points, visible, inside, middle_extent(in_picture[:, :, _SPIN]).half_side, seeds)
        return visible, detect(seen, self._config.keypoint_noise)

    @staticmethod
    def _h36m_keypoints(clips: _Clips) -> Floats:
        detected = clips.detected
        padded = np.concatenate([detected, np.zeros((*detected.shape[:2], _HALPE_LEFT_OUT, 3))], axis=2)
        rich = map_keypoints(padded, HALPE26, H36M17)
        plain = map_keypoints(np.ascontiguousarray(detected[:, :, :17]), COCO17, H36M17)
        is_rich = uniforms(clips.seeds, Stream.CLIP_SOURCE, 3)[:, 2] < _RICH_SHARE
        return np.where(is_rich[:, None, None, None], rich, plain)


def _initial(clips: _Clips) -> SmplParams:
    rotations, betas = initial_estimates(clips.rotations, clips.betas, clips.seeds)
    shape = torch.from_numpy(betas).float().unsqueeze(1).expand(-1, rotations.shape[1], -1)
    return SmplParams.from_rotations(torch.from_numpy(rotations).float(), shape)


def parse_activities(names: Sequence[str]) -> tuple[Activity, ...]:
    """The procedural activities called ``names``, in this order.

    Raises:
        UserError: there is no such activity, or one is named twice.
    """
    known = {activity.name.lower(): activity for activity in Activity}
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        raise UserError(f"data.activities: there is no activity {unknown[0]}; choose from {', '.join(known)}")
    if len({name.lower() for name in names}) < len(names):
        raise UserError("data.activities names an activity twice; name each once")
    return tuple(known[name.lower()] for name in names)


def _visible_h36m(visible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``[B, T, 17]``: of H36M-17's joints from ``visible [B, T, 20]``; of the trunk, if one of both sides is seen."""
    nose, face = visible[..., :1], visible[..., :5].any(-1, keepdims=True)
    shoulders, hips = visible[..., 5:7].any(-1, keepdims=True), visible[..., 11:13].any(-1, keepdims=True)
    limbs = visible[..., [12, 14, 16, 11, 13, 15]], visible[..., [5, 7, 9, 6, 8, 10]]
    return np.concatenate([hips, limbs[0], hips | shoulders, shoulders, nose, face, limbs[1]], axis=-1)
