"""Results never overwrite what is read, and what cannot be written is found before the work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from diffhmr.body.model import BodyModel
from diffhmr.errors import UserError
from diffhmr.inference.predict import PredictOptions
from diffhmr.inference.video import pipeline as pipeline_module
from diffhmr.inference.video.motions import ClipMotionModel
from diffhmr.inference.video.pipeline import VideoOptions, process_video
from diffhmr.inference.video.result_files import ResultFolder
from tests.inference.keypoint_motion import openpose_folder
from tests.inference.video.scenes import KnowingModel, alphapose, film, knowing, walk

FRAMES = 6
OPTIONS = PredictOptions()


@pytest.fixture
def model(toy_body: BodyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnowingModel:
    """Answers the pipeline, and says whether it was asked; ``walk.mp4`` and ``walk.json`` are what it knows."""
    truth = walk(toy_body, FRAMES)
    source: ClipMotionModel = knowing(truth.params, toy_body, OPTIONS)
    monkeypatch.setattr(pipeline_module, "load_motion_source", lambda *_arguments: source)
    film(tmp_path / "walk.mp4", [truth], toy_body, drawn=False)
    alphapose(tmp_path / "walk.json", [truth])
    assert isinstance(source.loaded.model, KnowingModel)
    return source.loaded.model


def refused(options: VideoOptions, out: Path, message: str, model: KnowingModel) -> None:
    with pytest.raises(UserError, match=message) as caught:
        process_video(options, out)
    assert "\n" not in str(caught.value) and "choose another" in str(caught.value)
    assert not model.seen, "found before the work"


@pytest.mark.parametrize("name", ["track1.npz", "track1.json", "track1.bvh", "track1_skeleton.mp4", "overlay.mp4"])
def test_no_input_is_overwritten(
    name: str, tmp_path: Path, model: KnowingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is given lies where a result would; also by a relative path and by a link."""
    given = tmp_path / "out/walk" / name
    given.parent.mkdir(parents=True)
    given.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(given)
    monkeypatch.chdir(given.parent)
    for path in (given, Path(name), tmp_path / "link"):
        options = VideoOptions(
            tmp_path / "walk.mp4", tmp_path / "walk.json", initial=path, predict=OPTIONS, exports=("bvh",)
        )
        refused(options, tmp_path / "out", f"the demo would overwrite its input {path}; choose another --out", model)
        refused(options, Path(".."), "would overwrite its input", model)
        options = VideoOptions(tmp_path / "walk.mp4", tmp_path / "walk.json", checkpoint=path, exports=("bvh",))
        refused(options, tmp_path / "out", "would overwrite its input", model)
    assert given.read_bytes() == b"precious"


def test_the_keypoints_and_the_video_are_not_overwritten(tmp_path: Path, model: KnowingModel) -> None:
    keypoints, video = tmp_path / "out/walk/track1.json", tmp_path / "out/overlay/overlay.mp4"
    for source, target in ((tmp_path / "walk.json", keypoints), (tmp_path / "walk.mp4", video)):
        target.parent.mkdir(parents=True)
        shutil.copy(source, target)
    before = keypoints.read_bytes(), video.read_bytes()
    refused(
        VideoOptions(tmp_path / "walk.mp4", keypoints),
        tmp_path / "out",
        "would overwrite its input .*track1.json",
        model,
    )
    refused(
        VideoOptions(video, tmp_path / "walk.json"), tmp_path / "out", "would overwrite its input .*overlay.mp4", model
    )
    assert before == (keypoints.read_bytes(), video.read_bytes())
    # Without pictures, or as another track, nothing is in the way.
    process_video(VideoOptions(video, tmp_path / "walk.json", pictures=False), tmp_path / "out")
    other = keypoints.rename(keypoints.with_name("track2.json"))
    run = process_video(VideoOptions(tmp_path / "walk.mp4", other, pictures=False), tmp_path / "out")
    assert other.read_bytes() == before[0] and run.older == []


def test_results_do_not_mix_with_a_folder_of_keypoints(
    tmp_path: Path, model: KnowingModel, toy_body: BodyModel
) -> None:
    (tmp_path / "out").mkdir()
    points = walk(toy_body, FRAMES).halpe.double().numpy()[None]
    folder = openpose_folder(tmp_path / "out/walk", points)
    count = len(list(folder.iterdir()))
    options = VideoOptions(tmp_path / "walk.mp4", folder, pictures=False)
    refused(options, tmp_path / "out", "would lie among the files of the input", model)
    assert len(list(folder.iterdir())) == count
    assert process_video(options, tmp_path / "elsewhere").files


def test_a_place_that_is_taken(tmp_path: Path, model: KnowingModel) -> None:
    options = VideoOptions(tmp_path / "walk.mp4", tmp_path / "walk.json", exports=("obj", "bvh"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a/walk").write_text("a file")
    refused(options, tmp_path / "a", "cannot write to the folder .*walk: it is a file; choose another one", model)
    for name, what in (
        ("track1.bvh", "folder"),
        ("track1.npz", "folder"),
        ("overlay.mp4", "folder"),
        ("track1_obj", "file"),
    ):
        place = tmp_path / what / name / "walk" / name
        place.parent.mkdir(parents=True)
        place.mkdir() if what == "folder" else place.write_text("x")
        refused(options, tmp_path / what / name, f"cannot write .*{name}: a {what} of this name is there", model)


@pytest.mark.usefixtures("model")
def test_what_earlier_runs_left_is_told_and_stays(tmp_path: Path) -> None:
    place = tmp_path / "out/walk"
    place.mkdir(parents=True)
    others = ["track1.txt", "track.npz", "mytrack1.npz", "overlay.mp4.bak", "notes.md"]
    older = ["track1.glb", "track1_skeleton.mp4", "track2.json", "track2.npz"]
    for name in (*others, *older, "track1.npz"):
        (place / name).write_text("old")
    options = VideoOptions(tmp_path / "walk.mp4", tmp_path / "walk.json", exports=("bvh", "obj"), pictures=False)
    run = process_video(options, tmp_path / "out")
    assert [path.name for path in run.older] == older
    line = list(run.summary())[-1]
    assert (
        "of an earlier run, not written anew: track1.glb, track1_skeleton.mp4, track2.json, track2.npz; delete" in line
    )
    assert all((place / name).read_text() == "old" for name in (*others, *older))
    assert (place / "track1.npz").read_bytes() != b"old"
    fresh = process_video(options, tmp_path / "fresh")
    assert fresh.older == [] and "earlier run" not in "\n".join(fresh.summary())


@pytest.mark.usefixtures("model")
def test_the_targets_are_what_is_written(tmp_path: Path) -> None:
    options = VideoOptions(tmp_path / "walk.mp4", tmp_path / "walk.json", exports=("obj", "glb", "bvh"))
    run = process_video(options, tmp_path / "out")
    place = ResultFolder(tmp_path / "out/walk", options.exports, True, ())
    assert sorted(place.targets([1])) == sorted(run.files) == sorted(place.path.iterdir())


@pytest.mark.usefixtures("model")
def test_what_a_killed_run_left_half_written_goes(tmp_path: Path) -> None:
    folder = tmp_path / "out/walk"
    (folder / ".track1_obj-a1b2c3d4").mkdir(parents=True)
    (folder / ".track1_obj-a1b2c3d4/000000.obj").write_text("half")
    for name in (".overlay-a1b2c3d4.mp4", ".track1-a1b2c3d4.npz", ".somebody's"):
        (folder / name).write_text("half")
    process_video(VideoOptions(tmp_path / "walk.mp4", tmp_path / "walk.json", exports=("obj",)), tmp_path / "out")
    assert [path.name for path in folder.glob(".*")] == [".somebody's"]
