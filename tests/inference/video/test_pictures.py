from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diffhmr.body.model import BodyModel
from diffhmr.inference.video import pictures as pictures_module
from diffhmr.inference.video.footage import Footage, open_footage
from diffhmr.inference.video.pictures import write_overlay
from diffhmr.render.overlay import render_mesh
from tests.inference.video.scenes import SIZE, film, walk
from tests.inference.video.test_placing import placed


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    return list(open_footage(path).frames())


def changed(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.abs(first.astype(int) - second.astype(int)).max(-1) > 50


def test_the_body_lies_on_the_person(tmp_path: Path, free_body: BodyModel) -> None:
    truth = walk(free_body, 4)
    stage = open_footage(film(tmp_path / "stage.mp4", [truth], free_body, drawn=False)).counted(4)
    path = write_overlay(tmp_path / "overlay.mp4", stage, [placed(free_body, truth, [0, 1, 2, 3])], free_body)
    drawn = frames_of(path)
    assert len(drawn) == 4 and open_footage(path).fps == 25
    for row, (before, after) in enumerate(zip(stage.frames(), drawn, strict=True)):
        vertices = free_body(truth.params.map(lambda v, k=row: v[k : k + 1])).vertices
        alpha = render_mesh(vertices, free_body.faces, truth.intrinsic, (SIZE[1], SIZE[0]), torch.ones(3))[1][0]
        mine, true = changed(before, after), alpha.numpy() > 0.5
        assert (mine & true).sum() / (mine | true).sum() > 0.8, "also upright and not mirrored"


def test_missing_frames_are_paler_and_long_gaps_empty(tmp_path: Path, toy_body: BodyModel) -> None:
    count = 80
    truth = walk(toy_body, count, start=(-0.8, 0.0, 4.0))
    result = placed(toy_body, truth, [0, 1, 2, *range(70, count)])
    footage = Footage(None, "walk", SIZE, 25.0, count + 4)
    drawn = frames_of(write_overlay(tmp_path / "overlay.mp4", footage, [result], toy_body))
    assert len(drawn) == count + 4
    strength = [float((240 - frame[..., 0].astype(float)).clip(min=20).max() - 20) for frame in drawn]
    assert min(strength[:3]) > 90 and min(strength[72:80]) > 90
    assert all(20 < value < 90 for value in (*strength[5:25], *strength[47:68])), "paler"
    assert max(strength[30:42]) < 15 and max(strength[81:]) < 15, "nobody for more than a second on both sides; the end"


def test_large_and_odd_videos(tmp_path: Path, toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = walk(toy_body, 3)
    result = placed(toy_body, truth, [0, 1, 2])
    footage = Footage(None, "walk", SIZE, 25.0, 3)
    whole = frames_of(write_overlay(tmp_path / "whole.mp4", footage, [result], toy_body))
    monkeypatch.setattr(pictures_module, "MAX_SIDE", 161)
    small = frames_of(write_overlay(tmp_path / "small.mp4", footage, [result], toy_body))
    assert small[0].shape == (120, 160, 3), "121 rows would be odd"
    shrunk = cv2.resize(whole[1], (160, 120), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small[1]).mean() < 2, "the body is on the same place"


def test_several_people_have_numbers_and_colours(tmp_path: Path, toy_body: BodyModel) -> None:
    results = [placed(toy_body, walk(toy_body, 2, start=(x, 0.0, 4.0)), [0, 1]) for x in (-0.8, 0.6)]
    footage = Footage(None, "walk", SIZE, 25.0, 2)
    drawn = frames_of(write_overlay(tmp_path / "both.mp4", footage, results, toy_body))[0].astype(int)
    left, right = (drawn[:, part][drawn[:, part].std(axis=-1) > 15] for part in (slice(0, 160), slice(160, 320)))
    assert left[:, 2].mean() > left[:, 0].mean() + 30 and right[:, 0].mean() > right[:, 2].mean() + 30, "blue, orange"
    alone = frames_of(write_overlay(tmp_path / "one.mp4", footage, results[:1], toy_body))[0].astype(int)
    assert (drawn[:70, :160] < 90).all(-1).sum() > (alone[:70, :160] < 90).all(-1).sum() + 5, (
        "the number's dark letters"
    )


def test_one_frame_at_a_time(tmp_path: Path, toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[NDArray[np.uint8]]] = []
    most = 0

    def counting(_footage: Footage) -> Iterator[NDArray[np.uint8]]:
        nonlocal most
        for _ in range(40):
            frame = np.full((SIZE[1], SIZE[0], 3), 200, np.uint8)
            alive.append(weakref.ref(frame))
            most = max(most, sum(other() is not None for other in alive))
            yield frame

    monkeypatch.setattr(Footage, "frames", counting)
    truth = walk(toy_body, 5)
    footage = Footage(None, "walk", SIZE, 25.0, 40)
    write_overlay(tmp_path / "a.mp4", footage, [placed(toy_body, truth, [0, 1, 2, 3, 4])], toy_body)
    assert len(alive) == 40 and most <= 3
