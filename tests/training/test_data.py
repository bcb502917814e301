"""The order of the data: items follow from the step, whoever makes the batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from diffhmr.batch import ImageBatch
from diffhmr.body.model import BodyModel
from diffhmr.datasets import build_dataset
from diffhmr.errors import UserError
from diffhmr.training.data import StepSampler, StepSlice, step_batches
from diffhmr.training.people_task import people_for_statistics
from tests.training.runs import make_config


def test_items_follow_from_the_step() -> None:
    assert list(StepSampler(StepSlice(0, 3, 4, 0, 4), 100)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    whole = list(StepSampler(StepSlice(0, 5, 4, 0, 4), 7))
    assert whole[1] == [4, 5, 6, 0]
    assert list(StepSampler(StepSlice(3, 5, 4, 0, 4), 7)) == whole[3:]
    halves = [list(StepSampler(StepSlice(0, 5, 4, first, 2), 7)) for first in (0, 2)]
    assert [left + right for left, right in zip(*halves, strict=True)] == whole
    assert len(StepSampler(StepSlice(3, 5, 4, 0, 4), 7)) == 2


def test_workers_change_no_number(tmp_path: Path, free_body: BodyModel) -> None:
    config = make_config(tmp_path)
    dataset = build_dataset(config.data, free_body, "train")
    threads = torch.get_num_threads()
    streams = [list(step_batches(dataset, StepSlice(2, 6, 8, 0, 8), workers)) for workers in (0, 1, 2)]
    assert torch.get_num_threads() == threads
    for batches in zip(*streams, strict=True):
        for other in batches[1:]:
            assert torch.equal(batches[0].item_seed, other.item_seed)
            assert torch.equal(batches[0].keypoints, other.keypoints)
            assert torch.equal(batches[0].targets.joints3d, other.targets.joints3d)
            assert torch.equal(batches[0].targets.params.body_pose, other.targets.params.body_pose)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_for_the_user_stay_one_line(workers: int) -> None:
    class Damaged:
        def __len__(self) -> int:
            return 100

        def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
            if 9 in indices:
                raise UserError("cannot read b.png; remove it")
            return ImageBatch(torch.tensor(indices))

    batches = step_batches(Damaged(), StepSlice(0, 5, 4, 0, 4), workers)
    assert [next(batches).item_seed.tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(UserError) as caught:
        next(batches)
    assert str(caught.value) == "cannot read b.png; remove it"


def test_statistics_come_from_the_people_of_the_images(tmp_path: Path, free_body: BodyModel) -> None:
    config = make_config(tmp_path, data={"images": True})
    params, camera = people_for_statistics(config.data, free_body, 40)
    batch = build_dataset(config.data.model_copy(update={"images": False}), free_body, "train").__getitems__(range(40))
    assert batch.targets is not None
    assert tuple(params.shape) == (40,)
    assert torch.equal(camera, batch.targets.camera)
    assert torch.equal(params.body_pose, batch.targets.params.body_pose)
    few, _ = people_for_statistics(config.data.model_copy(update={"train_items": 10}), free_body, 40)
    assert tuple(few.shape) == (10,)
