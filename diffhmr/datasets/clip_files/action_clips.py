"""Clips of one or two people with the action they do, of pyskl's files.

As in MotionBERT: two people who exchange their places in the file are followed; each recording is resampled to the same
number of frames, at random places in training; a missing second person is 0. Models move and frame the clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from diffhmr.body.joints import COCO17, H36M17
from diffhmr.body.keypoint_maps import map_keypoints
from diffhmr.clip_batch import ActionBatch
from diffhmr.config_clips import ClipDataConfig, ClipSourceConfig
from diffhmr.datasets.clip_files.lifting_frames import Floats32
from diffhmr.datasets.clip_files.mesh_det import to_shorter_side
from diffhmr.datasets.clip_files.mirror import mirror_where
from diffhmr.datasets.clip_files.order import ClipOrder, draw_flips, join, sources_of
from diffhmr.datasets.clip_files.pyskl import ActionClip, read_pyskl
from diffhmr.datasets.clip_files.videos import Indices
from diffhmr.datasets.synthetic import Split
from diffhmr.errors import UserError
from diffhmr.random import Floats, Stream, uniforms

PEOPLE = 2

_LEAST_SCORE = 1e-6


class ActionClips:
    """Recordings as batches of ``config.frames`` frames; give indices to ``__getitems__`` many at a time.

    Outside of training the frames are evenly spaced and nothing is mirrored.

    Attributes:
        num_classes: one more than the highest label.

    Args:
        coco_scores: as of :func:`two_people`; not for training.
        in_pairs: the training items 2k and 2k + 1 are two recordings of one class, and all classes come equally often
            (:class:`diffhmr.datasets.class_pairs.ClassPairs`); weights of the files then mean nothing.

    Raises:
        UserError: a file cannot be used, or the weights do not add up.
    """

    def __init__(self, config: ClipDataConfig, split: Split, coco_scores: bool = False, in_pairs: bool = False) -> None:
        assert not (coco_scores and split == "train"), "a mirror would exchange scores that are not those of the points"
        self._coco_scores = coco_scores
        self._train = split == "train"
        self._flip = config.augment.flip if self._train else 0.0
        self.num_frames = config.frames
        self._sources = [_read(source) for source in sources_of(config, split)]
        labels = [np.array([clip.label for clip in clips], np.int64) for clips in self._sources]
        sizes = [len(clips) for clips in self._sources]
        self._order = ClipOrder(config, split, sizes, pairs=labels if in_pairs else None)
        self.num_classes = 1 + max(int(one.max()) for one in labels)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> ActionBatch:
        """The batch of the one recording ``index``."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> ActionBatch:
        """The recordings ``indices`` as one batch on the CPU.

        Raises:
            IndexError: an index is negative or not smaller than the length.
            UserError: a recording has numbers that are not finite.
        """
        batches, places = [], []
        for part in self._order.parts(indices):
            clips = [self._sources[part.source][row] for row in part.rows.tolist()]
            chance = uniforms(part.seeds, Stream.CLIP_RESAMPLING, self.num_frames) if self._train else None
            chances = [None] * len(clips) if chance is None else list(chance)
            keypoints = np.stack([
                two_people(clip, self._coco_scores)[:, resampled(clip.frames, self.num_frames, uniform)]
                for clip, uniform in zip(clips, chances, strict=True)
            ])  # fmt: skip
            flip = torch.from_numpy(draw_flips(part.seeds, self._flip))
            labels = torch.tensor([clip.label for clip in clips])
            points = mirror_where(torch.from_numpy(keypoints), flip)
            batches.append(ActionBatch(torch.from_numpy(part.seeds), points, labels))
            places.append(part.places)
        return join(batches, places)


def _read(source: ClipSourceConfig) -> list[ActionClip]:
    try:
        return read_pyskl(source.path, source.split)
    except UserError as error:
        raise UserError(f"{source.name}: {error}") from error


def two_people(clip: ActionClip, coco_scores: bool = False) -> Floats32:
    """``(2, T, 17, 3)`` float32: Human3.6M's points of two people, from the middle of the picture.

    x and y are in halves of the picture's shorter side, unseen points and missing people all 0. Of more than two the
    most certain are taken.

    Args:
        coco_scores: the scores stay in COCO's order while the points become Human3.6M's, so that number k is the score
            of COCO's point k: thus MotionBERT's official weights were trained (``lib/data/dataset_action.py``). No
            point is then unseen but those of people who are missing in a frame.
    """
    points = clip.keypoints()
    size = np.array([clip.size], np.float32)
    for person in points:
        to_shorter_side(person, size)
    there = np.asarray((points[..., 2] > 0).any(axis=-1))
    points[~there if coco_scores else points[..., 2] <= 0] = 0
    people = map_keypoints(points, COCO17, H36M17)
    if coco_scores:
        people[..., 2] = np.where(there[..., None], np.maximum(points[..., 2], _LEAST_SCORE), 0)
    if len(people) > PEOPLE:
        certainty = people[..., 2].mean(axis=(1, 2))
        people = people[np.sort(np.argsort(-certainty, kind="stable")[:PEOPLE])]
    if len(people) < PEOPLE:
        return np.concatenate([people, np.zeros_like(people)])
    return follow(people)


def follow(people: Floats32) -> Floats32:
    """``people (2, T, 17, 3)``, each with one identity: where the first is nearer to the second of the frame before,
    both change places from there on. Frames in which one of the two is missing decide nothing.
    """
    there = np.asarray((people[..., 2] > 0).any(axis=-1))
    first = people[0, 1:, :, :2]
    stayed, changed = (
        np.linalg.norm(first - people[person, :-1, :, :2], axis=-1).sum(axis=-1) for person in range(PEOPLE)
    )
    decided = there[0, 1:] & there[:, :-1].all(axis=0)
    exchanged = np.concatenate([[False], np.cumsum(decided & (stayed > changed)) % 2 == 1])
    return np.where(exchanged[None, :, None, None], people[::-1], people)


def resampled(length: int, frames: int, uniform: Floats | None = None) -> Indices:
    """``[frames]``: which frames of a recording of ``length`` are taken, in order.

    Args:
        length: of the recording.
        frames: how many are wanted.
        uniform: ``[frames]`` numbers in (0, 1) that choose a frame of each of ``frames`` equal parts, or if there are
            fewer frames than parts, the frame before or after its beginning; None: the beginnings of the parts.
    """
    even = np.arange(frames) * length / frames
    if uniform is None:
        chosen = np.floor(even)
    elif length < frames:
        chosen = np.sort(np.where(uniform < 0.5, np.floor(even), np.ceil(even)))
    else:
        chosen = np.floor(even + uniform * (length / frames))
    result: NDArray[np.int64] = np.minimum(chosen, length - 1).astype(np.int64)
    return result
