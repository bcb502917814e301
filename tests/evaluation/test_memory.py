"""The memory of an evaluation does not depend on the number of hypotheses."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffhmr.body.model import Body, BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import SamplerConfig
from diffhmr.evaluation import measures, truth
from diffhmr.evaluation.measures import Measurer
from diffhmr.evaluation.protocols import PROTOCOLS
from diffhmr.evaluation.run import EvaluationOptions, evaluate
from diffhmr.evaluation.terms import EvaluationProtocol
from tests.evaluation.measured_people import (
    CONSTANT,
    Noisy,
    bodies_for,
    labelled_for,
    people_of,
    same_for_all,
    write_bodies,
)

PEOPLE = 70


class PeakMemory(TorchDispatchMode):
    """Bytes of all tensors that were alive at the same time, as torch makes and frees them."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._watch(leaf.untyped_storage())
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._alive.pop(key)


def peak_bytes(protocol: EvaluationProtocol, body: BodyModel, folder: Path, num_samples: int) -> int:
    labels = labelled_for(protocol, body, folder, PEOPLE)
    people = people_of(labels)
    measurer = Measurer(protocol, bodies_for(protocol, body, same_for_all(body)), CONSTANT)
    evaluate(Noisy(), people, measurer, SamplerConfig(), EvaluationOptions(2, limit=2))  # fills caches
    with PeakMemory() as memory:
        evaluate(Noisy(), people, measurer, SamplerConfig(), EvaluationOptions(num_samples))
    return memory.peak


def test_the_meter_sees_what_is_alive() -> None:
    with PeakMemory() as memory:
        kept = torch.zeros(1000)
        for _ in range(5):
            torch.ones(500)
        assert (memory.now, memory.peak) == (4000, 6000)
        del kept
        assert memory.now == 0


@pytest.mark.parametrize("name", ["3dpw-spin", "emdb1-24", "mpi-inf-3dhp"])
def test_a_hundred_hypotheses_take_no_more_memory_than_twenty_five(
    name: str, neutral: BodyModel, tmp_path: Path
) -> None:
    few = peak_bytes(PROTOCOLS[name], neutral, tmp_path, 25)
    many = peak_bytes(PROTOCOLS[name], neutral, tmp_path, 100)
    assert few > 2**20 and many <= few


class Spied(BodyModel):
    """Notes how many bodies it is asked for at once."""

    meshes = joint_bodies = 0

    def forward(self, params: SmplParams) -> Body:
        """As ever."""
        self.meshes = max(self.meshes, params.shape.numel())
        return super().forward(params)

    def joints(self, params: SmplParams, joint_set: Any) -> Tensor:
        """As ever."""
        self.joint_bodies = max(self.joint_bodies, params.shape.numel())
        return super().joints(params, joint_set)


def test_one_person_with_very_many_hypotheses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More hypotheses of one person than bodies are computed at once: in pieces, with the same result."""
    path = write_bodies(tmp_path)["neutral"]
    protocol = PROTOCOLS["3dpw-spin"]
    labels = labelled_for(protocol, BodyModel.load(path), tmp_path, 2)
    results = []
    for meshes, joints in ((64, 1664), (7, 12)):
        monkeypatch.setattr(measures, "_BODIES_AT_ONCE", meshes)
        monkeypatch.setattr(truth, "JOINTS_AT_ONCE", joints)
        body = Spied.load(path)
        assert isinstance(body, Spied)
        measurer = Measurer(protocol, bodies_for(protocol, body, same_for_all(body)), CONSTANT)
        found = evaluate(Noisy(), people_of(labels), measurer, SamplerConfig(), EvaluationOptions(30))
        results.append(found.metrics)
        assert body.meshes <= meshes and body.joint_bodies <= max(joints, 62)
    for metric in ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pa_pve_mm"):
        for key in ("mode", "random", "mean_of_samples", "min_of_curve"):
            assert results[0][metric][key] == pytest.approx(results[1][metric][key], rel=1e-5)
