"""From a video, or from its keypoints alone, to motions in files: what ``demo.py --video`` does."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from diffhmr.body.files import find_smpl
from diffhmr.checkpoint import REPOSITORY, load_checkpoint
from diffhmr.clip_checkpoint import LoadedClipModel, load_clip_model
from diffhmr.errors import UserError, some_of, warnings_if_it_succeeds
from diffhmr.files import ensure_folder, require_file
from diffhmr.inference.keypoint_formats import KNOWN_FORMATS
from diffhmr.inference.predict import KEYPOINT_CHECKPOINT, PredictOptions
from diffhmr.inference.tracks import Track
from diffhmr.inference.video.exports import Export, write_export, write_skeleton
from diffhmr.inference.video.footage import Footage, count_frames, open_footage, parse_size, plain_footage
from diffhmr.inference.video.initial import InitialMotion, read_initial
from diffhmr.inference.video.motions import ClipMotionModel, FilteredMotionModel, FrameMotionModel, MotionModel
from diffhmr.inference.video.pictures import write_overlay
from diffhmr.inference.video.placing import camera_metadata, camera_of, can_be_placed, place_track
from diffhmr.inference.video.result_files import ResultFolder
from diffhmr.inference.video.track_result import TrackResult, save_track
from diffhmr.inference.video.tracking import chosen_tracks, tracks_from_detector, tracks_from_file
from diffhmr.model_file import IMAGE_MODEL, is_of_format
from diffhmr.motion_checkpoint import read_motion_metadata
from diffhmr.motion_filter import FilterOptions, parse_filter
from diffhmr.render.overlay import MeshRenderer, render_mesh

ModelKind = Literal["diffmesh", "diffhmr"]
CLIP_CHECKPOINT = REPOSITORY / "data/checkpoints/diffmesh_synthetic.safetensors"
_FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class VideoOptions:
    """What is asked for.

    Attributes:
        video: the file; None for keypoints alone.
        keypoints: file or folder; None lets a detector look for people.
        size: width and height of the picture, for keypoints alone.
        fps: frames per second; None for what the video says.
        track: ``largest``, ``all`` or the number of a track.
        model: None for that of the checkpoint, or the clip model.
        checkpoint: None for the shipped one.
        initial: file with SMPL parameters of the track, for a checkpoint that refines them.
        filter: what smooths the rotations over time; None: nothing.
        predict: hypotheses, sampler, seed, focal length, guidance.
        guided: a guidance was asked for, which models of clips do not know.
        exports: further files per track.
        pictures: write the overlay and the skeleton videos.

    Raises:
        UserError: these do not go together.
    """

    video: Path | None = None
    keypoints: Path | None = None
    size: tuple[int, int] | None = None
    fps: float | None = None
    track: str = "largest"
    model: ModelKind | None = None
    checkpoint: Path | None = None
    initial: Path | None = None
    filter: FilterOptions | None = None
    predict: PredictOptions = field(default_factory=lambda: PredictOptions(num_samples=1))
    guided: bool = False
    exports: tuple[Export, ...] = ()
    pictures: bool = True

    def __post_init__(self) -> None:
        if self.video is None and (self.keypoints is None or self.size is None):
            raise UserError("give --video FILE, or --keypoints FILE with --size WxH of the video it is of")
        if self.video is not None and self.size is not None:
            raise UserError("--size is for keypoints without a video: leave it out, the video has its own size")
        if self.track not in ("largest", "all") and not self.track.isdecimal():
            raise UserError(f"--track is {self.track!r}: give largest, all or the number of a track")
        if self.initial is not None and self.track == "all":
            raise UserError("--initial is of one person: choose the track that it is of with --track")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What is read: files, or a folder of keypoints."""
        given = (self.video, self.keypoints, self.initial, self.checkpoint)
        return tuple(path for path in given if path is not None)


def options_of(arguments: argparse.Namespace) -> VideoOptions:
    """What the options of the command line ask for (:mod:`diffhmr.inference.demo_options`).

    Raises:
        UserError: they do not go together, or a value makes no sense.
    """
    numbers = (arguments.num_samples, arguments.steps, arguments.seed, arguments.focal_px)
    return VideoOptions(
        video=arguments.video,
        keypoints=arguments.keypoints,
        size=None if arguments.size is None else parse_size(arguments.size),
        fps=arguments.fps,
        track=arguments.track or "largest",
        model=arguments.model,
        checkpoint=arguments.checkpoint,
        initial=arguments.initial,
        filter=None if arguments.filter is None else parse_filter(arguments.filter),
        predict=PredictOptions(*numbers, max_batch=_FRAMES_AT_ONCE, guidance=arguments.guidance),
        guided=arguments.guided,
        exports=arguments.mesh,
        pictures=not arguments.data_only,
    )


@dataclass(frozen=True)
class VideoRun:
    """What was done, for a summary.

    Attributes:
        footage: the video.
        tracks: everybody in it.
        results: of the chosen ones.
        files: everything that was written.
        older: results of earlier runs beside them.
        model: what the motions come from, in words.
    """

    footage: Footage
    tracks: Sequence[Track]
    results: Sequence[TrackResult]
    files: Sequence[Path]
    older: Sequence[Path]
    model: str

    def summary(self) -> Iterator[str]:
        """Lines for the person at the keyboard."""
        width, height = self.footage.size
        name = self.footage.path or self.footage.name
        yield f"{name}: {self.footage.num_frames} frames of {width} x {height} at {self.footage.fps:g} per second"
        yield f"  {len(self.tracks)} {'person' if len(self.tracks) == 1 else 'people'} in it; {self.model}"
        for result in self.results:
            about, fit = result.metadata["track"], result.metadata["reprojection"]["mean"]
            missing = f"{about['missing']} of them missing and marked, " if about["missing"] else ""
            yield (
                f"  track {about['id']}: frames {about['first_frame']} to {about['last_frame']}, {missing}"
                f"{fit['pixels']:.1f} px ({100 * fit['share_of_box']:.1f} % of the box) off its keypoints"
            )
        yield from (f"  {path}" for path in self.files)
        if self.older:
            names = some_of([path.name for path in self.older], 8)
            yield f"  beside them of an earlier run, not written anew: {names}; delete what is out of date"


def process_video(
    options: VideoOptions,
    out: str | Path,
    device: torch.device | str = "cpu",
    renderer: MeshRenderer = render_mesh,
) -> VideoRun:
    """Recover the motion of people in a video and write it into ``out/NAME_OF_THE_VIDEO``.

    Per track ``trackID.npz`` and ``.json`` (:mod:`diffhmr.inference.video.track_result`), ``trackID_skeleton.mp4`` and
    the exports; ``overlay.mp4`` with everybody. Numbers are written first, so that nothing is lost if a picture cannot
    be drawn. What earlier runs left there and this one does not write stays: it may be of another track or format.

    Raises:
        UserError: something cannot be read, used or written, or a result would overwrite an input.
    """
    footage = _footage(options)
    model = load_motion_source(options, device)
    if model.needs_pictures and footage.path is None:
        raise UserError("the checkpoint is a model of pictures and needs --video; or choose one of keypoints")
    ensure_folder(out)
    place = ResultFolder(Path(out) / footage.name, options.exports, options.pictures, options.inputs)
    place.check()
    footage, tracks, chosen = _people(options, footage, place, model, device)
    ensure_folder(place.path)
    camera = camera_of(footage, options.predict.focal_px)
    about: dict[str, Any] = {
        **model.about(),
        "camera": camera_metadata(camera, given=options.predict.focal_px is not None),
        "keypoints": "torchvision Keypoint R-CNN" if options.keypoints is None else str(options.keypoints),
    }
    motions = model.motions(footage, chosen, camera)
    results = [
        place_track(footage, track, motion, camera, model.body, about)
        for track, motion in zip(chosen, motions, strict=True)
    ]
    files = _write(place, footage, results, model, renderer)
    checkpoint = about["checkpoint"]
    words = f"{checkpoint['path']} ({checkpoint['model']}), body: {model.body.name}"
    return VideoRun(footage, tracks, results, files, place.left(files), words)


def _people(
    options: VideoOptions, footage: Footage, place: ResultFolder, model: MotionModel, device: torch.device | str
) -> tuple[Footage, list[Track], list[Track]]:
    """The video with the number of its frames, everybody in it, and who is chosen, whose results can be written."""

    def choose(tracks: list[Track]) -> list[Track]:
        chosen = chosen_tracks(
            tracks, options.track, lambda track: model.can_use(track) and can_be_placed(track, model.body)
        )
        place.check(track.track_id for track in chosen)
        return chosen

    if options.keypoints is None:
        footage, tracks = tracks_from_detector(footage, device)
        return footage, tracks, choose(tracks)
    if footage.path is not None:
        footage = count_frames(footage)
    # What is odd about a file matters to nobody if it cannot be used at all.
    with warnings_if_it_succeeds("diffhmr.inference"):
        footage, tracks = tracks_from_file(options.keypoints, footage)
        return footage, tracks, choose(tracks)


def load_motion_source(options: VideoOptions, device: torch.device | str = "cpu") -> MotionModel:
    """The model that is asked for, with its filter; ``options.checkpoint`` alone says by itself which kind it is.

    Raises:
        UserError: the checkpoint or the parameters to be refined cannot be used, or do not go together.
    """
    model = _load_model(options, device)
    return model if options.filter is None else FilteredMotionModel(model, options.filter)


def _load_model(options: VideoOptions, device: torch.device | str) -> MotionModel:
    kind = options.model
    if kind is None:
        pictures = options.checkpoint is not None and is_of_format(options.checkpoint, IMAGE_MODEL)
        kind = "diffhmr" if pictures else "diffmesh"
    if kind == "diffhmr":
        if options.initial is not None:
            raise UserError("--initial is for models of clips that refine: leave it out with models of pictures")
        checkpoint = options.checkpoint or KEYPOINT_CHECKPOINT
        return FrameMotionModel(load_checkpoint(checkpoint, device), checkpoint, options.predict)
    if options.guided:
        raise UserError("--guidance is for models of pictures (--model diffhmr): leave it out")
    initial = None if options.initial is None else read_initial(options.initial)
    checkpoint = options.checkpoint or CLIP_CHECKPOINT
    # Weights of others name no body file: they are SMPL's.
    imported = "config" not in read_motion_metadata(checkpoint)
    loaded = load_clip_model(checkpoint, device, find_smpl("neutral") if imported else None)
    _require_fit(loaded, checkpoint, initial)
    return ClipMotionModel(loaded, checkpoint, options.predict, initial)


def _require_fit(loaded: LoadedClipModel, checkpoint: Path, initial: InitialMotion | None) -> None:
    if initial is None and loaded.model.refines:
        raise UserError(
            f"{checkpoint} refines given SMPL parameters: give them with --initial FILE.npz, such as a track that "
            "demo.py --video --model diffhmr wrote"
        )
    if initial is not None and not loaded.model.refines:
        raise UserError(
            f"{checkpoint} does not refine given parameters: leave --initial out, or give a --checkpoint that was "
            "trained with model.refine"
        )
    if initial is not None and initial.body_sha256 not in (None, loaded.body.sha256):
        raise UserError(
            f"the parameters in {initial.path} are of another body than those of {checkpoint} ({loaded.body.name}): "
            "recover them with a model of that body"
        )


def _footage(options: VideoOptions) -> Footage:
    if options.keypoints is not None and not options.keypoints.is_dir():
        # Counting the frames of a long video takes a while: what can be said before is said before.
        require_file(options.keypoints, "keypoint file", KNOWN_FORMATS)
    if options.video is not None:
        return open_footage(options.video, options.fps)
    assert options.keypoints is not None and options.size is not None
    return plain_footage(options.keypoints, options.size, options.fps)


def _write(
    place: ResultFolder,
    footage: Footage,
    results: Sequence[TrackResult],
    model: MotionModel,
    renderer: MeshRenderer,
) -> list[Path]:
    numbers = [result.metadata["track"]["id"] for result in results]
    place.clean(numbers)
    stems = [place.stem(number) for number in numbers]
    written = [path for stem, result in zip(stems, results, strict=True) for path in save_track(result, stem)]
    for kind in place.exports:
        written += [write_export(kind, stem, result, model.body) for stem, result in zip(stems, results, strict=True)]
    if place.pictures:
        written.append(write_overlay(place.overlay, footage, results, model.body, renderer))
        written += [write_skeleton(stem, result, model.body) for stem, result in zip(stems, results, strict=True)]
    return written
