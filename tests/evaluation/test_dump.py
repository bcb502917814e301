"""The file of errors and predictions of every person."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.body.params import SmplParams
from diffhmr.evaluation.dump import Dump
from diffhmr.geometry.rotation import axis_angle_to_matrix


def params_of(pose: torch.Tensor) -> SmplParams:
    return SmplParams.from_rotations(axis_angle_to_matrix(pose), pose[..., :10, 0])


def test_batches_are_joined_and_read_back(tmp_path: Path) -> None:
    pose = 0.3 * torch.randn(5, 3, 24, 3, generator=torch.Generator().manual_seed(0))
    errors = torch.arange(15.0).reshape(5, 3)
    for name, cuts in (("a.npz", (0, 2, 4, 5)), ("b.npz", (0, 5))):
        with Dump(tmp_path / name, 5) as dump:
            for start, end in itertools.pairwise(cuts):
                more = {"camera": pose[start:end, :, 0], "mpjpe_mm": errors[start:end]}
                dump.add(params_of(pose[start:end]), more)
            dump.finish({"num_items": 5}, row=np.arange(5), imgname=np.array(["x.jpg"] * 5))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {"pose", "betas", "camera", "mpjpe_mm", "row", "imgname", "result"}
        np.testing.assert_allclose(archive["pose"], pose.flatten(2).numpy(), atol=1e-5)
        np.testing.assert_array_equal(archive["betas"], pose[..., :10, 0].numpy())
        np.testing.assert_array_equal(archive["mpjpe_mm"], errors.numpy())
        assert str(archive["result"]) == '{"num_items": 5}' and archive["row"].tolist() == [0, 1, 2, 3, 4]
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_nothing_is_left_of_an_evaluation_that_failed(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"before")
    with pytest.raises(RuntimeError, match="on the way"), Dump(tmp_path / "d.npz", 5) as dump:
        dump.add(params_of(torch.zeros(2, 3, 24, 3)), {})
        raise RuntimeError("on the way")
    assert [path.name for path in tmp_path.iterdir()] == ["d.npz"]
    assert (tmp_path / "d.npz").read_bytes() == b"before"
