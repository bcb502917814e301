from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.body.model import BodyModel
from diffhmr.config_clips import ClipDataConfig
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.datasets.synthetic_actions import SyntheticActions
from diffhmr.errors import UserError

ACTIVITIES = ("walk", "squat", "punch")
DATA = ClipDataConfig(frames=10, test_frames=30, activities=ACTIVITIES, test_items=31)


def test_clips_one_by_one_or_in_a_batch(toy_body: BodyModel) -> None:
    for split in ("train", "test"):
        clips = SyntheticActions(toy_body, DATA, split)
        batch = clips.__getitems__([7, 2, 4, 0])
        assert batch.keypoints.shape == (4, 1, 10, 17, 3)
        for place, index in enumerate([7, 2, 4, 0]):
            one = clips.__getitems__([index])
            assert torch.equal(one.keypoints[0], batch.keypoints[place])
            assert one.label[0] == batch.label[place] and one.item_seed[0] == batch.item_seed[place]


def test_each_clip_shows_its_activity(toy_body: BodyModel) -> None:
    clips = SyntheticActions(toy_body, DATA, "train")
    batch = clips.__getitems__(range(6))
    for index in range(6):
        name = ACTIVITIES[int(batch.label[index])]
        alone = SyntheticClips(toy_body, DATA.model_copy(update={"activities": (name,)}), "train")
        assert torch.equal(alone.__getitems__([index]).keypoints, batch.keypoints[index])


def test_all_activities_are_equally_frequent_in_an_order_of_the_seed(toy_body: BodyModel) -> None:
    clips = SyntheticActions(toy_body, DATA, "test")
    assert len(clips) == 31 and clips.classes == ACTIVITIES
    labels = clips.labels(np.arange(3000))
    assert np.array_equal(np.sort(labels.reshape(-1, 3), axis=1), np.tile(np.arange(3), (1000, 1)))
    orders, counts = np.unique(labels.reshape(-1, 3), axis=0, return_counts=True)
    assert len(orders) == 6 and counts.min() > 120
    other = SyntheticActions(toy_body, DATA.model_copy(update={"seed": 1}), "test")
    assert not np.array_equal(other.labels(np.arange(30)), labels[:30])
    assert not np.array_equal(SyntheticActions(toy_body, DATA, "train").labels(np.arange(30)), labels[:30])


def test_pairs_show_the_same_activity(toy_body: BodyModel) -> None:
    clips = SyntheticActions(toy_body, DATA, "train", in_pairs=True)
    labels = clips.labels(np.arange(600))
    assert np.array_equal(labels[::2], labels[1::2])
    assert np.array_equal(labels[::2], SyntheticActions(toy_body, DATA, "train").labels(np.arange(300)))
    batch = clips.__getitems__(range(6))
    assert batch.label.tolist() == labels[:6].tolist()
    assert all(not torch.equal(batch.keypoints[k], batch.keypoints[k + 1]) for k in (0, 2, 4))


def test_what_gives_no_classes_is_refused(toy_body: BodyModel) -> None:
    for changes, message in (
        ({"activities": ("walk",)}, "at least two"),
        ({"activities": ("walk", "fly")}, "no activity fly"),
        ({"activities": ("walk", "Walk")}, "twice"),
        ({"motions": Path("folder")}, "does not say what people do"),
    ):
        with pytest.raises(UserError, match=message):
            SyntheticActions(toy_body, DATA.model_copy(update=changes), "train")
    with pytest.raises(IndexError):
        SyntheticActions(toy_body, DATA, "test").__getitems__([31])
