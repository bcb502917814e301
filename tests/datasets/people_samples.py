"""A few people for the tests of the renderer."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import DataConfig
from diffhmr.datasets.people import People, sample_people
from diffhmr.geometry.camera import fit_crop_camera
from diffhmr.random import item_seeds


def some_people(body: BodyModel, count: int, seed: int = 0) -> People:
    """People of the training stream."""
    return sample_people(body, item_seeds(seed, "train", np.arange(count)), DataConfig())


def take(people: People, index: Tensor | slice) -> People:
    """Some of ``people``."""
    tensors = {field.name: getattr(people, field.name)[index] for field in fields(People) if field.name != "params"}
    return People(params=people.params.map(lambda value: value[index]), **tensors)


def standing_person(body: BodyModel, heading: float = 0.0, distance: float = 4.0) -> People:
    """One person in T-pose, upright, who faces the camera at heading 0 and turns away with it; nothing in front."""
    cosine, sine = float(np.cos(heading)), float(np.sin(heading))
    upright = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    turn = torch.tensor([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    params = SmplParams((upright @ turn)[None], torch.eye(3).expand(1, 23, 3, 3), torch.zeros(1, 10))
    joints = body.joints(params, SPIN49)
    transl = torch.tensor([[0.0, 0.0, distance]]) - joints.mean(1) * torch.tensor([1.0, 1, 0])
    focal = torch.tensor([distance / 1.2])
    points = joints + transl[:, None]
    joints2d = focal[:, None, None] * points[..., :2] / points[..., 2:]
    return People(
        params=params,
        transl=transl,
        focal=focal,
        camera=fit_crop_camera(joints, joints2d, torch.ones(1, 49)),
        joints3d=joints,
        joints2d=joints2d,
        occluders=torch.zeros(1, 2, 6),
        item_seed=torch.tensor([8]),
        truncated=torch.tensor([False]),
        border=torch.tensor([[-1.0, -1, 1, 1]]),
    )


def with_occluder(people: People, *shape: float) -> People:
    """The same people behind one object (cx, cy, half width, half height, angle, kind)."""
    occluders = people.occluders.clone()
    occluders[:, 0] = torch.tensor(shape)
    return replace(people, occluders=occluders)
