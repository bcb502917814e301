"""MotionBERT's files of noise: what they say reaches the points, in their unit, and other files are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.model import BodyModel
from diffhmr.config_clips import ClipAugmentConfig
from diffhmr.datasets import build_lifting_dataset
from diffhmr.datasets.corruption import NOISE, Corruption, corrupt
from diffhmr.datasets.official_noise import read_official_noise
from diffhmr.datasets.synthetic_lifting import corruption_of
from diffhmr.errors import UserError
from diffhmr.random import item_seeds
from tests.releases.motionbert import CURVE, tensors, write_noise
from tests.training.task_files import pretraining, task_config


def test_both_files_in_the_unit_of_the_keypoints(tmp_path: Path) -> None:
    noise = read_official_noise(*write_noise(tmp_path, tensors(), {k: np.float64(v) for k, v in CURVE.items()}))
    assert (noise.half_distance, noise.slope, noise.confidence_mean, noise.confidence_deviation) == (
        0.028, 1.1, -0.00459, 0.1431,
    )  # fmt: skip
    assert (noise.width, noise.tremble, noise.unit) == (0.06, 0.002, "picture")
    np.testing.assert_allclose(noise.mean[16], [0.016, -0.032], rtol=1e-6)
    np.testing.assert_allclose(noise.deviation[16], [0.026, 0.036], rtol=1e-6)
    np.testing.assert_allclose(noise.normal[[0, 16]], [0.5, 0.82], rtol=1e-6)
    assert noise.mean.shape == noise.deviation.shape == (17, 2) and noise.normal.shape == (17,)
    for width in (0.1, torch.tensor(0.1), torch.tensor([0.1])):
        found = read_official_noise(*write_noise(tmp_path, tensors(uniform_range=width), CURVE))
        assert found.width == pytest.approx(0.1) and found.half_distance == 0.028


def test_points_are_moved_and_doubted_as_by_the_official_code(tmp_path: Path) -> None:
    """The displacement of a small person is that of a large one, and the confidence is a / (d + a) + b d + N(m, s)."""
    content = tensors(weight=torch.ones(17))
    curve = CURVE | {"s": 0.0}
    noise = read_official_noise(*write_noise(tmp_path, content, curve))
    clean = np.zeros((400, 27, 17, 3))
    clean[..., :2] = np.random.default_rng(0).uniform(-0.5, 0.5, (17, 2))
    clean[..., 2] = 1
    seeds = item_seeds(0, "train", range(400))
    moved = corrupt(clean, seeds, Corruption(noise, 0, 0))
    shift = (moved - clean)[..., :2]
    small = clean * [0.1, 0.1, 1]
    np.testing.assert_allclose((corrupt(small, seeds, Corruption(noise, 0, 0)) - small)[..., :2], shift, atol=1e-12)
    first = shift[:, 0]  # of a key frame
    np.testing.assert_allclose(first.mean(0), content["mean"].numpy(), atol=0.006)
    expected = np.sqrt(content["std"].numpy() ** 2 + 0.002**2)
    np.testing.assert_allclose(first.std(0), expected, rtol=0.15)
    d = np.linalg.norm(shift, axis=-1)
    confidence = np.clip(0.028 / (d + 0.028) + 1.1 * d - 0.00459, 0, 1)
    np.testing.assert_allclose(moved[..., 2], confidence, atol=1e-9)
    # In shares of the box the same numbers would move the small person a tenth as far.
    ours = Corruption(NOISE, 0, 0)
    small_shift, large_shift = ((corrupt(one, seeds, ours) - one)[..., :2] for one in (small, clean))
    np.testing.assert_allclose(small_shift, 0.1 * large_shift, atol=1e-12)


def test_the_settings_choose_the_noise(tmp_path: Path, toy_body: BodyModel) -> None:
    first, second = write_noise(tmp_path, tensors(std=torch.zeros(17, 2), weight=torch.ones(17)), CURVE)
    files = {"noise_file": str(first), "confidence_file": str(second)}
    assert corruption_of(ClipAugmentConfig()).noise is NOISE
    chosen = corruption_of(ClipAugmentConfig.model_validate(files)).noise
    assert chosen is not None and chosen.unit == "picture"
    # Files and synthetic clips alike: the last joint is always moved by the mean.
    for config in (pretraining(tmp_path), task_config(tmp_path, "pretrain", "lifting")):
        augment = ClipAugmentConfig.model_validate({"flip": 0.0, "mask_joint": 0.0, "mask_frame": 0.0, **files})
        config = config.model_copy(update={"data": config.data.model_copy(update={"augment": augment})})
        batch = build_lifting_dataset(config, toy_body, "train").__getitems__([0])
        shift = (batch.keypoints - batch.positions)[:, :, 16, :2].double()
        torch.testing.assert_close(shift.mean((0, 1)), torch.tensor([0.016, -0.032]).double(), atol=0.002, rtol=0)
    gone = augment.model_copy(update={"noise_file": tmp_path / "none.pth"})
    config = config.model_copy(update={"data": config.data.model_copy(update={"augment": gone})})
    with pytest.raises(UserError, match=r"MotionBERT's noise of keypoints not found: \S*none.pth"):
        build_lifting_dataset(config, toy_body, "train")


@pytest.mark.parametrize(
    ("noise", "curve", "words"),
    [
        (tensors(mean=None), CURVE, "mean is missing or no tensor"),
        (tensors(std=torch.zeros(2, 17)), CURVE, r"std has shape \(2, 17\), expected \(17, 2\)"),
        (tensors(weight=torch.zeros(17, 1)), CURVE, r"weight has shape \(17, 1\)"),
        (tensors(weight=torch.full((17,), 1.1)), CURVE, "weight is no share"),
        (tensors(mean=torch.full((17, 2), torch.nan)), CURVE, "mean is not finite"),
        (tensors(std=torch.full((17, 2), 30.0)), CURVE, "no lengths in halves of a picture"),
        (tensors(std=torch.full((17, 2), -0.1)), CURVE, "no lengths in halves of a picture"),
        (tensors(uniform_range="wide"), CURVE, "uniform_range is missing or no tensor"),
        (tensors(uniform_range=torch.zeros(2)), CURVE, "expected one number"),
        (torch.zeros(17), CURVE, "holds a Tensor, not the dictionary"),
        (tensors(mean=Path("x")), CURVE, "holds more than tensors and is not loaded"),
        (tensors(), {"a": 1.0, "b": 1.0, "m": 0.0}, "has no number s"),
        (tensors(), CURVE | {"b": "steep"}, "has no number b"),
        (tensors(), CURVE | {"m": [1.0, 2.0]}, "m is not one finite number"),
        (tensors(), CURVE | {"m": float("inf")}, "m is not one finite number"),
        (tensors(), CURVE | {"a": 0.0}, "a is 0.0 and s 0.1431, but"),
        (tensors(), [1.0], "holds a list, not the dictionary of MotionBERT's confidences"),
        (tensors(), CURVE | {"b": Path("x")}, "could run code; it is not loaded"),
    ],
)
def test_other_files_get_a_line(noise: Any, curve: Any, words: str, tmp_path: Path) -> None:
    files = write_noise(tmp_path, noise, curve)
    with pytest.raises(UserError, match=words) as caught:
        read_official_noise(*files)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_exchanged_cut_and_empty_files_get_a_line(tmp_path: Path) -> None:
    first, second = write_noise(tmp_path, tensors(), CURVE)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(first.read_bytes()[:200])
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    for pair in ((second, second), (first, first), (cut, second), (first, cut), (empty, second), (first, empty)):
        with pytest.raises(UserError) as caught:
            read_official_noise(*pair)
        assert "\n" not in str(caught.value)
