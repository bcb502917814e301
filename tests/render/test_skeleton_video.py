"""Skeleton videos: who is where in both views, what moves, what is left out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from diffhmr.body.joints import COCO17, H36M17, SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.errors import UserError
from diffhmr.motion.sequence import Motion
from diffhmr.render.colors import PALETTE
from diffhmr.render.skeleton_video import skeleton_frames, write_skeleton_video
from tests.motion.test_sequence import random_motion

SIZE = 200
INDEX = {name: index for index, name in enumerate(SMPL24.joint_names)}


@pytest.fixture(scope="module")
def standing(free_body: BodyModel) -> np.ndarray:
    """Joints ``[1, 10, 24, 3]`` of somebody who stands on the floor y = 0 and faces +z."""
    rest = free_body.rest_joints.view(24, 3).double().numpy()
    lowest = float(free_body.v_template.view(3, -1)[1].min())
    motion = Motion(np.tile(np.eye(3), (10, 24, 1, 1)), np.tile(rest[0] - [0.0, lowest, 0.0], (10, 1)), 10.0)
    return motion.joints(rest)[None]


def draw(joints: np.ndarray, **options: object) -> list[np.ndarray]:
    return list(skeleton_frames(joints, 10.0, size=SIZE, **options))  # type: ignore[arg-type]


def where(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Pixels ``[N, 2]`` (row, column) of a colour."""
    return np.argwhere(np.abs(picture.astype(int) - colour).max(-1) < 12)


def views(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert frame.shape == (SIZE, 2 * SIZE, 3) and frame.dtype == np.uint8
    return frame[:, :SIZE], frame[:, SIZE:]


def test_both_views_show_the_person_as_seen_from_there(standing: np.ndarray) -> None:
    front, side = views(draw(standing)[4])
    left, right = (where(front, PALETTE[k]) for k in (0, 1))
    assert len(left) > 100 and len(right) > 100
    # Who faces us has the left side on our right.
    assert left[:, 1].min() > SIZE / 2 - 5 and right[:, 1].max() < SIZE / 2 + 5
    np.testing.assert_allclose(np.sort(left[:, 1]).mean() - SIZE / 2, SIZE / 2 - np.sort(right[:, 1]).mean(), atol=3)
    # From +x the arms are stretched towards and away from us: only legs and feet stand out, the toes to the left.
    body = where(side, PALETTE[0])
    assert np.ptp(body[:, 1]) < 0.15 * SIZE
    toes = body[body[:, 0] > body[:, 0].max() - 4]
    assert toes[:, 1].mean() < np.median(body[:, 1])
    assert not np.array_equal(front, side)


def test_heads_are_up_and_sizes_are_right(standing: np.ndarray) -> None:
    front, _ = views(draw(standing, floor=0.0)[0])
    person = np.concatenate([where(front[22 : SIZE - 22], colour) for colour in (*PALETTE[:2], (110, 110, 110))])
    # 2.5 m fill the picture at the person's distance.
    assert np.ptp(person[:, 0]) / SIZE * 2.5 == pytest.approx(1.7, abs=0.1)
    assert where(front, PALETTE[0])[:, 0].max() > SIZE / 2 + 40
    assert where(front[: SIZE // 3], PALETTE[0]).size == 0, "hands of a T-pose are below the head"


def test_the_camera_goes_along_and_the_floor_stands_still(standing: np.ndarray) -> None:
    walk = standing[:, :1].repeat(40, axis=1) + np.linspace(0, 4, 40)[None, :, None, None] * [1.0, 0.0, 0.0]
    frames = draw(walk, floor=0.0)[17:23]
    places = [where(views(frame)[0], PALETTE[0])[:, 1].mean() for frame in frames]
    assert np.ptp(places) < 2
    assert len({frame[SIZE - 60 : SIZE - 25, :SIZE].tobytes() for frame in frames}) == 6
    still = draw(standing, floor=0.0)
    assert len({frame[: SIZE - 40].tobytes() for frame in still}) == 1


def test_slow_motions_do_not_jump_from_pixel_to_pixel(standing: np.ndarray) -> None:
    moved = standing.copy()
    moved[:, 5, INDEX["left_elbow"], 1] += 0.002  # a sixth of a pixel
    first, second = draw(moved, floor=0.0)[4:6]
    assert 0 < np.abs(first.astype(int) - second)[: SIZE - 40].max() < 160


def test_the_floor_is_found_under_the_feet(standing: np.ndarray) -> None:
    given, raised = draw(standing, floor=0.0)[5], draw(standing + np.array([0.0, 3.0, 0.0]))[5]
    assert np.abs(given.astype(int) - raised).mean() < 1.0
    jump = standing + np.array([0, 0, 0, 0.3, 0.4, 0.3, 0, 0, 0, 0])[None, :, None, None] * [0.0, 1.0, 0.0]
    frames = draw(jump)
    rows = [where(views(frame)[0], PALETTE[0])[:, 0].max() for frame in frames]
    assert rows[4] < rows[0] - 20, "who jumps leaves the floor"


def test_samples_are_thin_lines_behind_the_answer(standing: np.ndarray) -> None:
    samples = np.concatenate([standing, standing])
    samples[1, :, INDEX["left_wrist"], 1] += 0.3
    alone, together = draw(standing)[0], draw(samples)[0]
    changed = np.argwhere(np.abs(alone.astype(int) - together).max(-1) > 20)
    assert 20 < len(changed) < 400 and changed[:, 1].max() < 2 * SIZE
    assert len(where(alone, PALETTE[0])) == pytest.approx(len(where(together, PALETTE[0])), abs=40)


def test_frames_without_a_person_say_so(standing: np.ndarray) -> None:
    gaps = np.concatenate([standing, standing])
    gaps[:, 3:5] = np.nan
    frames = draw(gaps, frame_numbers=range(100, 110))
    for index, frame in enumerate(frames):
        assert (len(where(frame, PALETTE[0])) == 0) == (index in (3, 4))
    label = slice(SIZE - 25, SIZE), slice(0, 130)
    assert (frames[3][label] < 100).sum() > (frames[2][label] < 100).sum()
    nobody = draw(np.full((1, 2, 24, 3), np.nan))
    assert len(nobody) == 2 and np.isfinite(nobody[0]).all()
    one_sample_only = standing.copy().repeat(2, axis=0)
    one_sample_only[1] = np.nan
    np.testing.assert_array_equal(draw(one_sample_only)[0], draw(standing)[0])


def test_skeletons_of_motion_capture(standing: np.ndarray) -> None:
    joints = np.zeros((1, 3, 17, 3))
    joints[:, :] = np.linspace(0, 1.6, 17)[:, None] * [0.0, 1.0, 0.0]
    for name, x in (("left_knee_h36m17", 0.4), ("right_knee_h36m17", -0.4)):
        joints[:, :, H36M17.joint_names.index(name), 0] = x
    front, _ = views(draw(joints, joint_set=H36M17)[0])
    assert where(front, PALETTE[0])[:, 1].mean() > where(front, PALETTE[1])[:, 1].mean() + 20
    for bad, options in ((standing[0], {}), (standing[:, :0], {}), (standing, {"joint_set": H36M17}),
                         (joints, {"joint_set": COCO17}), (standing, {"frame_numbers": [1]})):  # fmt: skip
        with pytest.raises(ValueError, match=r"joints of shape|no skeleton|frame numbers"):
            draw(bad, **options)


def test_far_away_samples_do_no_harm(free_body: BodyModel) -> None:
    joints = random_motion(3).joints(free_body.rest_joints.view(24, 3).double().numpy())[None].repeat(3, axis=0)
    joints[1] += [0.0, 0.0, 1e6]
    joints[2] *= 1e6
    assert len(draw(joints)) == 3


def test_the_video_has_the_frames(tmp_path: Path, standing: np.ndarray) -> None:
    path = write_skeleton_video(tmp_path / "new" / "skeleton.mp4", standing, 25.0, size=SIZE + 1)
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(25) and video.get(cv2.CAP_PROP_FRAME_COUNT) == 10
    fine, picture = video.read()
    expected = next(skeleton_frames(standing, 25.0, size=SIZE))
    assert fine and np.abs(picture[..., ::-1].astype(int) - expected).mean() < 5
    assert [item.name for item in path.parent.iterdir()] == ["skeleton.mp4"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write_skeleton_video(tmp_path / "file" / "a.mp4", standing, 25.0)
