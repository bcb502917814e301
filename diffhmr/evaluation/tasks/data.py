"""Which clips an evaluation of lifting or of actions measures: synthetic ones, or those of files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import REPOSITORY
from diffhmr.config_clips import ClipDataConfig, ClipExperimentConfig, ClipSourceConfig
from diffhmr.datasets.clip_files.action_clips import ActionClips
from diffhmr.datasets.clip_files.lifting_clips import LiftingSequence, lifting_sequences
from diffhmr.datasets.synthetic_actions import SyntheticActions
from diffhmr.datasets.synthetic_lifting import SyntheticLifting
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.data import synthetic_motion
from diffhmr.evaluation.tasks.protocols import TaskProtocol, find_task_protocol
from diffhmr.motion.acting.score import Activity

ACTION_ITEMS = 1000
"""Clips of the synthetic test of actions."""

_EVERYTHING = 2**31


@dataclass(frozen=True)
class TaskSource:
    """What a model is evaluated on.

    Attributes:
        dataset: name of the data set.
        protocol: name of one of its protocols; None for the default.
        data: its folder or file; None for the folders that the protocol names in ``data/``.

    Raises:
        UserError: there is no such data set or protocol, or an option does not belong to it.
    """

    dataset: str
    protocol: str | None = None
    data: Path | None = None

    def __post_init__(self) -> None:
        if not self.terms.files and self.data is not None:
            raise UserError("synthetic clips are made on demand: --data belongs to other data sets")

    @property
    def terms(self) -> TaskProtocol:
        """The protocol."""
        return find_task_protocol(self.dataset, self.protocol)

    def find_file(self) -> Path:
        """The file of the data.

        Raises:
            UserError: there is none.
        """
        if self.data is not None and self.data.is_file():
            return self.data
        if self.data is not None:
            places = [self.data / Path(name).name for name in self.terms.files]
        else:
            folder = Path("data") if Path("data").exists() else REPOSITORY / "data"
            places = [folder / name for name in self.terms.files]
        for place in places:
            if place.is_file():
                return place
        raise UserError(
            f"the data of {self.terms.full_name} are missing: there is no {' or '.join(map(str, places))}; "
            "data/README.md says whence they come, and --data FILE says where they are"
        )


def synthetic_sequences(body: BodyModel) -> Iterator[LiftingSequence]:
    """The test sequences of :func:`synthetic_motion`, for lifting."""
    clips = SyntheticLifting(body, synthetic_motion(), "test", "pose3d")
    for index in range(len(clips)):
        yield LiftingSequence(f"clip {index:03d}", clips.__getitems__([index]))


def file_sequences(path: Path, protocol: TaskProtocol) -> Iterator[LiftingSequence]:
    """The sequences of Human3.6M that ``protocol`` measures.

    Raises:
        UserError: the file cannot be used.
    """
    source = ClipSourceConfig(name=path.name, format="h36m_sh", path=path, split=protocol.split)
    return (one for one in lifting_sequences(source) if not one.name.startswith(protocol.excluded))


def synthetic_actions(
    body: BodyModel, protocol: TaskProtocol, config: ClipExperimentConfig
) -> tuple[SyntheticActions, SyntheticActions | None]:
    """The test clips, and the exemplars of an embedding: of the activities that the model has or has not learned.

    Raises:
        UserError: there are no such activities.
    """
    known = tuple(name.lower() for name in config.data.activities)
    if protocol.task == "embedding":
        classes = tuple(one.name.lower() for one in Activity if one.name.lower() not in known)
    else:
        classes = known
    alike = {"activities": classes, "frames": config.data.frames, "fps": config.data.fps}
    sizes = {"test_items": ACTION_ITEMS, "val_items": max(1, len(classes))}
    data = synthetic_motion().model_copy(update=alike | sizes)
    test = SyntheticActions(body, data, "test")
    return test, SyntheticActions(body, data, "val") if protocol.task == "embedding" else None


def file_actions(
    path: Path, protocol: TaskProtocol, frames: int, coco_scores: bool
) -> tuple[ActionClips, ActionClips | None]:
    """The same of a file, resampled to ``frames``, with scores as the model knows them (its ``coco_scores``).

    Raises:
        UserError: the file cannot be used.
    """

    def clips(split: str) -> ActionClips:
        source = ClipSourceConfig(name=path.name, format="pyskl", path=path, split=split)
        data = ClipDataConfig(kind="files", frames=frames, sources=(source,), validation=source, test_items=_EVERYTHING)
        return ActionClips(data, "test", coco_scores)

    return clips(protocol.split), clips(protocol.exemplars) if protocol.task == "embedding" else None
