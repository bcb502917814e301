"""Labelled people with known truth on toy bodies, and models whose errors against it are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.body.files import BodyData, read_body
from diffhmr.body.joints import SPIN49, JointSet, extended
from diffhmr.body.model import Body, BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import SamplerConfig
from diffhmr.datasets.labelled import LabelledPeople
from diffhmr.datasets.labels import Labels, read_labels, write_labels
from diffhmr.evaluation.measures import Measurer
from diffhmr.evaluation.run import Evaluation, EvaluationOptions, evaluate
from diffhmr.evaluation.terms import EvaluationProtocol
from diffhmr.evaluation.truth import Bodies, genders_of
from diffhmr.geometry.camera import project_crop
from diffhmr.geometry.rotation import axis_angle_to_matrix
from tests.toy_body import make_fields

CAMERA = (0.9, 0.1, -0.05)
SIDE = 200.0  # of the boxes, pixels
TIGHT_SIDE = 160.0
CONSTANT = SmplParams.from_rotations(torch.eye(3).expand(24, 3, 3), torch.zeros(10))


def write_bodies(folder: Path) -> dict[str, Path]:
    """A male, a female and a neutral toy body with the same mesh and regressors but other shapes."""
    paths = {}
    for name, factor, seed in (("neutral", 1.0, 0), ("male", 1.1, 1), ("female", 0.9, 2)):
        fields = make_fields()
        fields["v_template"] = fields["v_template"] * np.float32(factor)
        fields["shapedirs"] = make_fields(seed=seed)["shapedirs"]
        paths[name] = folder / f"toy_{name}.npz"
        np.savez(paths[name], **fields)  # type: ignore[arg-type]
    return paths


def bodies_for(protocol: EvaluationProtocol, prediction: BodyModel, truth: dict[str, BodyModel]) -> Bodies:
    """``prediction`` and those of ``truth`` that the protocol needs."""
    return Bodies(prediction, {gender: truth[gender] for gender in genders_of(protocol.truth_body)})


def same_for_all(body: BodyModel) -> dict[str, BodyModel]:
    """The same truth for every gender."""
    return dict.fromkeys(("neutral", "male", "female"), body)


def random_rows(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of a label file: poses, shapes and genders."""
    generator = np.random.default_rng(seed)
    return {
        "imgname": np.array([f"imageFiles/seq_{row % 3:02d}/image_{row:05d}.jpg" for row in range(count)], np.str_),
        "center": np.full((count, 2), 150.0),
        "scale": np.full(count, SIDE / 200),
        "pose": generator.normal(0, 0.4, (count, 72)),
        "shape": generator.normal(0, 1, (count, 10)),
        "has_smpl": np.ones(count, np.uint8),
        "gender": np.array(["m" if row % 3 else "f" for row in range(count)], np.str_),
    }


def params_of(rows: dict[str, np.ndarray]) -> SmplParams:
    """The labelled parameters ``[N]``."""
    pose = torch.tensor(rows["pose"], dtype=torch.float32).unflatten(1, (24, 3))
    return SmplParams.from_rotations(axis_angle_to_matrix(pose), torch.tensor(rows["shape"], dtype=torch.float32))


def labelled_for(protocol: EvaluationProtocol, body: BodyModel, folder: Path, count: int = 12) -> Labels:
    """A label file that holds what the protocol needs; on ``body`` the labelled parameters have no error."""
    rows = random_rows(count)
    params = params_of(rows)
    if protocol.stored:
        joints = body.joints(params, extended(protocol.joints, protocol.root)).numpy()
        root = joints[:, len(protocol.joints) :].mean(1, keepdims=True)
        stored = np.zeros((count, 24, 4))
        names = SPIN49.joint_names[25:]
        places = [names.index(name) for name in protocol.truth_joints.joint_names]
        stored[:, places, :3] = joints[:, : len(protocol.joints)] - root
        stored[:, places, 3] = 1
        stored[:, names.index(protocol.truth_root[0]), 3] = 1
        rows["S"] = stored
    if protocol.pck2d:
        points = project_crop(body.joints(params, SPIN49), torch.tensor(CAMERA).expand(count, 3))[:, 25:].numpy()
        part = np.ones((count, 24, 3))
        part[..., :2] = 150 + points * SIDE / 2
        rows["part"] = part
        rows["bbox"] = np.tile(np.array([80.0, 60.0, 100.0, TIGHT_SIDE]), (count, 1))
    path = folder / f"{protocol.name}.npz"
    write_labels(path, rows, {"dataset": "toy", "split": "test"})
    return read_labels(path)


def people_of(labels: Labels) -> LabelledPeople:
    """The labelled people, without pictures."""
    return LabelledPeople(labels, "nowhere", 64, None, images=False)


@dataclass
class Oracle:
    """Answers with the labelled parameters, changed by ``change``; all hypotheses are the same."""

    change: Callable[[SmplParams], SmplParams] = lambda params: params
    camera: tuple[float, float, float] = CAMERA

    def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
        """The truth ``num_samples`` times."""
        assert batch.targets is not None and isinstance(sampler, SamplerConfig) and seed >= 0
        params = self.change(batch.targets.params)
        repeated = params.map(lambda value: value.unsqueeze(1).expand(-1, num_samples, *value.shape[1:]))
        camera = torch.tensor(self.camera, device=params.betas.device).expand(len(batch), num_samples, 3)
        return Prediction(repeated, camera, deterministic=True)


@dataclass
class Noisy:
    """Hypotheses around the truth; each depends on the person and its number only."""

    std: float = 0.15

    def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
        """Rotations and shapes around those of the truth."""
        assert batch.targets is not None and batch.targets.item is not None and isinstance(sampler, SamplerConfig)
        noise = torch.stack([self._draw(num_samples, 1000 * seed + int(item)) for item in batch.targets.item])
        params = batch.targets.params
        noise = noise.to(params.betas.device)
        turn = axis_angle_to_matrix(self.std * noise[..., :72].unflatten(-1, (24, 3)))
        rotations = turn @ params.rotations.unsqueeze(1)
        betas = params.betas.unsqueeze(1) + noise[..., 72:]
        camera = torch.tensor(CAMERA, device=betas.device).expand(len(batch), num_samples, 3)
        return Prediction(SmplParams.from_rotations(rotations, betas), camera)

    @staticmethod
    def _draw(count: int, seed: int) -> Tensor:
        return torch.stack(
            [torch.randn(82, generator=torch.Generator().manual_seed(7919 * seed + k)) for k in range(count)]
        )


class AlteredBody(BodyModel):
    """A body whose joints and vertices are changed after they were computed."""

    def __init__(self, data: BodyData, alter: Callable[[Tensor, JointSet | None], Tensor]) -> None:
        super().__init__(data)
        self._alter = alter

    def forward(self, params: SmplParams) -> Body:
        """The changed vertices."""
        body = super().forward(params)
        return Body(self._alter(body.vertices, None), body.joints)

    def joints(self, params: SmplParams, joint_set: JointSet) -> Tensor:
        """The changed joints."""
        return self._alter(super().joints(params, joint_set), joint_set)


def moved(names: tuple[str, ...], offset: Tensor) -> Callable[[Tensor, JointSet | None], Tensor]:
    """What moves the joints of these names and nothing else."""

    def alter(points: Tensor, joint_set: JointSet | None) -> Tensor:
        if joint_set is None:
            return points
        hit = torch.tensor([name in names for name in joint_set.joint_names])
        return points + hit.to(points).unsqueeze(-1) * offset

    return alter


def altered(path: Path, alter: Callable[[Tensor, JointSet | None], Tensor]) -> AlteredBody:
    """The body file ``path`` with ``alter(points, joint set or None for vertices)`` on everything it gives."""
    return AlteredBody(read_body(path), alter)


def measure(
    protocol: EvaluationProtocol, bodies: Bodies, labels: Labels, model: Any, num_samples: int = 3
) -> Evaluation:
    """Evaluate ``model`` on ``labels``."""
    measurer = Measurer(protocol, bodies, CONSTANT, torch.full((len(labels),), SIDE / TIGHT_SIDE))
    return evaluate(model, people_of(labels), measurer, SamplerConfig(), EvaluationOptions(num_samples))


def assert_alike(left: Any, right: Any) -> None:
    """Nested numbers that differ by rounding only."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_alike(left[key], right[key])
    elif left is None:
        assert right is None
    else:
        assert left == pytest.approx(right, rel=1e-4, abs=1e-3)
