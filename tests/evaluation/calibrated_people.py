"""People whose poses are drawn from a known distribution, and models that draw from it too, or know the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Prediction, Targets
from diffhmr.body.joints import COCO17_FROM_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import SamplerConfig
from diffhmr.evaluation.measures import Measurer
from diffhmr.evaluation.protocols import SYNTHETIC
from diffhmr.evaluation.run import Evaluation, EvaluationOptions, evaluate
from diffhmr.evaluation.truth import Bodies
from diffhmr.geometry.camera import project_crop
from diffhmr.geometry.rotation import axis_angle_to_matrix

SAMPLER = SamplerConfig()
COUNT = 40
ANGLE_STD = 0.15


def posed(angles: Tensor) -> SmplParams:
    """Bodies from axis-angles ``[..., 24, 3]``, of mean shape."""
    return SmplParams.from_rotations(axis_angle_to_matrix(angles), torch.zeros(*angles.shape[:-2], 10))


class People:
    """Poses drawn around a centre pose of each item, so that the right conditional distribution is known."""

    def __init__(self, body: BodyModel, count: int = COUNT) -> None:
        generator = torch.Generator().manual_seed(0)
        self.body = body
        self.centres = 0.3 * torch.randn(count, 24, 3, generator=generator)
        self.angles = self.centres + ANGLE_STD * torch.randn(count, 24, 3, generator=generator)
        self.camera = torch.tensor([0.9, 0.1, 0.2]).expand(count, 3)
        self.occluded = torch.arange(count) % 4 == 0
        self.truncated = torch.arange(count) % 5 == 0
        self.hidden_joints = [COCO17_FROM_SPIN49[index] for index in (9, 10)]

    def __len__(self) -> int:
        return len(self.centres)

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        chosen = torch.tensor(list(indices))
        params = posed(self.angles[chosen])
        joints = self.body.joints(params, SPIN49)
        ones = torch.ones(len(chosen), 49, 1)
        points = project_crop(joints, self.camera[chosen])
        visible = torch.ones(len(chosen), 49, dtype=torch.bool)
        visible[:, self.hidden_joints] = False
        labelled = torch.ones(len(chosen), dtype=torch.bool)
        targets = Targets(
            params=params,
            camera=self.camera[chosen],
            joints3d=torch.cat([joints, ones], -1),
            joints2d=torch.cat([points, ones], -1),
            visible=visible,
            has_params=labelled,
            has_camera=labelled,
            occluded=self.occluded[chosen],
            truncated=self.truncated[chosen],
        )
        return ImageBatch(item_seed=chosen, keypoints=torch.zeros(len(chosen), 17, 3), targets=targets)


@dataclass
class Spread:
    """Samples around the centres with ``factor`` times the true spread; hypothesis 0 is the centre itself."""

    people: People
    factor: float = 1.0
    asked: int = 0

    def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
        assert isinstance(sampler, SamplerConfig)
        self.asked = max(self.asked, num_samples)
        noise = torch.stack(
            [
                torch.randn(num_samples, 24, 3, generator=torch.Generator().manual_seed(seed * 1000 + int(item)))
                for item in batch.item_seed
            ]
        )
        noise[:, 0] = 0
        angles = self.people.centres[batch.item_seed][:, None] + self.factor * ANGLE_STD * noise
        return Prediction(posed(angles), self.people.camera[batch.item_seed][:, None].expand(-1, num_samples, -1))


@dataclass
class Answer:
    """One answer: the truth, with the camera moved to the right by ``shift``."""

    people: People
    shift: float = 0.0

    def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
        assert isinstance(sampler, SamplerConfig) and seed >= 0
        angles = self.people.angles[batch.item_seed][:, None].expand(-1, num_samples, -1, -1)
        camera = self.people.camera[batch.item_seed] + torch.tensor([0.0, self.shift, 0.0])
        return Prediction(posed(angles), camera[:, None].expand(-1, num_samples, -1), deterministic=True)


def evaluate_on(people: People, model: Any, **options: Any) -> Evaluation:
    """Evaluate ``model`` on ``people`` under the protocol of the synthetic people."""
    return evaluate(model, people, measurer_on(people.body), SAMPLER, EvaluationOptions(**options))


def measurer_on(body: BodyModel) -> Measurer:
    return Measurer(SYNTHETIC, Bodies(body, {}), posed(torch.zeros(24, 3)))
