"""Sequences out of label files and pickles, and the fixed synthetic ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.joints import H36M17
from diffhmr.body.model import BodyModel
from diffhmr.config_clips import ClipDataConfig
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.datasets.labels import write_labels
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.data import ClipSource, SyntheticMotion, open_clips, synthetic_motion
from diffhmr.evaluation.clips.protocols import CLIP_PROTOCOLS
from diffhmr.geometry.rotation import axis_angle_to_matrix
from tests.releases.motionbert import mesh_frames, write_splits


def video_rows(lengths: dict[tuple[str, str], list[int]], seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of a label file as of 3DPW: which frames there are of each (sequence, person), row by row mixed."""
    generator = np.random.default_rng(seed)
    people = [(name, person, frame) for (name, person), frames in lengths.items() for frame in frames]
    order = generator.permutation(len(people))
    people = [people[k] for k in order]
    count = len(people)
    shapes = {key: generator.normal(size=10) for key in lengths}
    openpose = np.zeros((count, 25, 3))
    openpose[:, [*range(8), *range(9, 19)]] = generator.uniform(0.2, 1, (count, 18, 3)) * [400, 900, 1]
    return {
        "imgname": np.array([f"imageFiles/{name}/image_{frame:05d}.jpg" for name, _, frame in people], np.str_),
        "center": np.full((count, 2), 300.0),
        "scale": np.full(count, 4.0),
        "openpose": openpose,
        "pose": generator.normal(0, 0.4, (count, 72)),
        "shape": np.stack([shapes[name, person] for name, person, _ in people]),
        "has_smpl": np.ones(count, np.uint8),
        "gender": np.array(["m" if person == "0" else "f" for _, person, _ in people], np.str_),
        "sequence": np.array([name for name, _, _ in people], np.str_),
        "subject": np.array([person for _, person, _ in people], np.str_),
        "frame": np.array([frame for _, _, frame in people]),
        "image_size": np.tile(np.array([600, 1000]), (count, 1)),
    }


VIDEOS = {("walk", "0"): [3, 4, 5, 8], ("walk", "1"): list(range(20)), ("talk", "0"): list(range(1, 6))}


def write_videos(folder: Path, **changes: Any) -> Path:
    """``test.npz`` with three people through time."""
    rows = video_rows(VIDEOS) | changes
    write_labels(
        folder / "test.npz", {k: v for k, v in rows.items() if v is not None}, {"dataset": "toy", "split": "test"}
    )
    return folder / "test.npz"


def _source(path: Path, protocol: str = "3dpw-video-gendered14") -> ClipSource:
    return ClipSource("3dpw-video", protocol, path)


def test_label_files_become_sequences(tmp_path: Path, toy_body: BodyModel) -> None:
    rows = video_rows(VIDEOS)
    clips, description = open_clips(_source(write_videos(tmp_path)), toy_body)
    lengths = dict(zip(clips.names, clips.lengths, strict=True))
    assert lengths == {"walk, person 0": 6, "walk, person 1": 20, "talk, person 0": 5}
    assert description["test_items"] == 3 and description["rows"]["measured"] == 29 and description["split"] == "test"
    taken = clips.take([clips.names.index("walk, person 0")])
    batch = taken.batch
    assert batch.targets is not None and batch.targets.gender is not None and taken.coco is not None
    # Frames 6 and 7 are missing.
    assert taken.valid[0].tolist() == [True, True, True, False, False, True]
    assert batch.keypoints[0, 3:5].abs().max() == 0 and taken.coco[0, 3:5].abs().max() == 0
    assert batch.targets.gender.tolist() == [0] and batch.fps.tolist() == [30.0]
    (row,) = np.flatnonzero((rows["sequence"] == "walk") & (rows["subject"] == "0") & (rows["frame"] == 8))
    pose = torch.from_numpy(rows["pose"][row]).float().unflatten(0, (24, 3))
    torch.testing.assert_close(batch.targets.rotations[0, 5], axis_angle_to_matrix(pose))
    torch.testing.assert_close(batch.targets.betas[0], torch.from_numpy(rows["shape"][row]).float())
    # For models of pictures the nose in halves of the shorter side of 600 x 1000 pixels from the middle, x and y from
    # the pixels' corners; for those of clips as in the pickles, as if the picture had 1920 x 1920.
    nose = rows["openpose"][row, 0]
    expected = torch.tensor([(nose[0] + 0.5 - 300) / 300, (nose[1] + 0.5 - 500) / 300, nose[2]]).float()
    torch.testing.assert_close(taken.coco[0, 5, 0], expected)
    squared = torch.tensor([nose[0] / 960 - 1, nose[1] / 960 - 1, nose[2]]).float()
    torch.testing.assert_close(batch.keypoints[0, 5, 9], squared)
    # Names, not places in the file, decide about random numbers.
    assert (
        open_clips(_source(tmp_path / "test.npz"), toy_body)[0]
        .take([0])
        .batch.item_seed.equal(clips.take([0]).batch.item_seed)
    )


def test_clips_of_sixteen_frames_drop_tails_and_short_sequences(tmp_path: Path, toy_body: BodyModel) -> None:
    clips, _ = open_clips(_source(write_videos(tmp_path), "3dpw-video-neutral17-labels-clips16"), toy_body)
    assert clips.names == ("walk, person 1 from 0",) and clips.lengths == (16,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame": None}, "does not say to which frame its rows belong; make it with python -m scripts.prepare_3dpw"),
        ({"openpose": None}, "has no 2D keypoints"),
        ({"has_smpl": np.zeros(29, np.uint8)}, "people without SMPL parameters"),
        ({"frame": np.zeros(29, np.int64)}, "two rows of the label file are of the same frame"),
    ],
)
def test_label_files_that_are_no_sequences_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, toy_body: BodyModel
) -> None:
    with pytest.raises(UserError, match=message):
        open_clips(_source(write_videos(tmp_path, **changes)), toy_body)


def test_pickles_of_motionbert_become_sequences(tmp_path: Path, toy_body: BodyModel) -> None:
    rng = np.random.default_rng(0)
    lengths = {"s_09_act_02_subact_01_ca_01": 20, "s_09_act_02_subact_01_ca_02": 5}
    train, test = (mesh_frames(lengths, rng, cameras=True, refine=True) for _ in range(2))
    write_splits(tmp_path / "mesh_det_h36m.pkl", train, test)
    clips, description = open_clips(ClipSource("h36m-video", data=tmp_path), toy_body)
    assert tuple(clips.names) == tuple(lengths) and tuple(clips.lengths) == (20, 5)
    assert description["split"] == "test" and description["rows"]["measured"] == 25
    taken = clips.take([1])
    assert taken.coco is None and taken.valid.all() and taken.batch.fps.tolist() == [50.0]
    assert taken.batch.targets is not None and taken.batch.initial is not None
    pose = torch.from_numpy(test.arrays["smpl_pose"][20:]).unflatten(-1, (24, 3))
    torch.testing.assert_close(taken.batch.targets.rotations[0], axis_angle_to_matrix(pose), atol=1e-5, rtol=0)
    cut, _ = open_clips(ClipSource("h36m-video", "h36m-video-neutral17-clips16", tmp_path), toy_body)
    initial = cut.take([0]).batch.initial
    assert cut.lengths == (16,) and initial is not None and tuple(initial.shape) == (1, 16)


def test_the_digest_is_of_everything_that_decides_a_number(tmp_path: Path, toy_body: BodyModel) -> None:
    def digest(path: Path, protocol: str) -> str:
        return str(open_clips(_source(path, protocol), toy_body)[1]["rows"]["sha256"])

    # What models of pictures see depends on the size of the picture, which the protocol sets for those of clips.
    plain = digest(write_videos(tmp_path), "3dpw-video-gendered14")
    assert digest(write_videos(tmp_path), "3dpw-video-gendered14") == plain
    assert digest(write_videos(tmp_path, image_size=np.tile([700, 1000], (29, 1))), "3dpw-video-gendered14") != plain
    # Parameters to be refined: none, some, another pose, another shape.
    found = set()
    for name, change in (("", 0.0), ("pred_smpl_pose", 0.0), ("pred_smpl_pose", 0.1), ("pred_smpl_shape", 0.1)):
        frames = mesh_frames({"walk": 4}, np.random.default_rng(0), refine=True)
        if name:
            frames.arrays[name] = frames.arrays[name] + np.float32(change)
        else:
            del frames.arrays["pred_smpl_pose"], frames.arrays["pred_smpl_shape"]
        write_splits(tmp_path / "f.pkl", frames, frames)
        found.add(digest(tmp_path / "f.pkl", "3dpw-video-neutral17"))
    assert len(found) == 4


def test_both_kinds_of_files_give_the_same_coordinates_under_their_own_names(
    tmp_path: Path, toy_body: BodyModel
) -> None:
    """MotionBERT's for 3DPW, whose pictures have 1920 x 1080 pixels: x / 1920 * 2 - 1 and y / 1920 * 2 - 1."""
    rows = video_rows({("walk", "0"): list(range(16))})
    rows["openpose"][:, 0], rows["image_size"][:] = (1200, 800, 0.5), (1920, 1080)
    labels, pickle = tmp_path / "test.npz", tmp_path / "mesh_det_pw3d.pkl"
    write_labels(labels, rows, {"dataset": "toy", "split": "test"})
    frames = mesh_frames({"walk": 16}, np.random.default_rng(0))
    nose = H36M17.joint_names.index("nose_h36m17")
    frames.arrays["joint_2d"][:, nose, :2], frames.arrays["confidence"][:, nose] = (1200, 800), 0.5
    write_splits(pickle, frames, frames)
    names = ("3dpw-video-gendered14", "3dpw-video-neutral17-labels", "3dpw-video-neutral17")
    for cut in ("", "-clips16", "-free-body", "-clips16-free-body"):
        for name, path in zip(names, (labels, labels, pickle), strict=True):
            if "clips16" in cut and name == names[0]:
                continue
            clips, description = open_clips(_source(path, name + cut), toy_body)
            taken = clips.take([0])
            assert taken.batch.keypoints.shape == (1, 16, 17, 3)
            expected = torch.tensor([0.25, -0.16666667, 0.5]).expand(1, 16, 3)
            torch.testing.assert_close(taken.batch.keypoints[:, :, nose], expected, atol=1e-6, rtol=0)
            kind = "a pickle of MotionBERT's format (mesh_det)" if path == pickle else "a label file (.npz)"
            assert description["input"] == f"the 2D keypoints of {kind}"
            assert description["labels"]["path"].endswith(path.name)
            terms = CLIP_PROTOCOLS[name + cut].describe()
            assert terms["file"] == kind and terms["pictures"] == "count as squares of 1920 px: x / 960 - 1, likewise y"
            assert ("NOT comparable" in terms["source"]) == (name == names[1])
    # A file of the other kind is another protocol.
    with pytest.raises(UserError, match=r"test.npz is a label file .*, or --protocol 3dpw-video-neutral17-labels$"):
        open_clips(_source(labels, "3dpw-video-neutral17"), toy_body)
    with pytest.raises(UserError, match=r"is a pickle .*labels-clips16-v1 measures on a label file"):
        open_clips(_source(pickle, "3dpw-video-neutral17-labels-clips16"), toy_body)
    with pytest.raises(UserError, match=r"measures on a label file \(.npz\); give another with --data$"):
        open_clips(_source(pickle), toy_body)


def test_the_synthetic_sequences_are_those_of_the_default_settings(free_body: BodyModel) -> None:
    """Whoever changes the defaults decides whether the protocol gets a new version."""
    assert synthetic_motion() == ClipDataConfig()
    clips = SyntheticMotion(SyntheticClips(free_body, ClipDataConfig(test_frames=6, test_items=3), "test"))
    one, both = clips.take([1]), clips.take([0, 1])
    assert clips.lengths == (6, 6, 6) and both.valid.all() and both.coco is not None and one.coco is not None
    assert one.coco[0].equal(both.coco[1]) and one.batch.keypoints[0].equal(both.batch.keypoints[1])


def test_missing_files_and_wrong_names_are_one_line(tmp_path: Path, toy_body: BodyModel) -> None:
    write_videos(tmp_path)  # which this protocol does not fall back to
    with pytest.raises(UserError, match=r"no \S*/mesh_det_pw3d.pkl; .*3dpw-video-neutral17-labels measures on"):
        open_clips(_source(tmp_path, "3dpw-video-neutral17"), toy_body)
    with pytest.raises(UserError, match="--data belongs to other data sets"):
        ClipSource("synthetic-motion", data=tmp_path)
    with pytest.raises(UserError, match="choose one of 3dpw-video-gendered14, "):
        ClipSource("3dpw-video", "3dpw-spin")
    with pytest.raises(UserError, match="unknown data set of clips 'emdb'"):
        ClipSource("emdb")
    short = tmp_path / "short.npz"
    write_labels(short, video_rows({("walk", "0"): [4, 5]}), {"dataset": "toy", "split": "test"})
    with pytest.raises(UserError, match="has no sequence that 3dpw-video-neutral17-labels-clips16-v1 measures"):
        open_clips(_source(short, "3dpw-video-neutral17-labels-clips16"), toy_body)
