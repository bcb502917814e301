"""The built-in protocols of lifting and of actions: named, versioned terms, so that a number says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from diffhmr.evaluation.terms import find_among

_MOTIONBERT = "MotionBERT (Zhu et al., ICCV 2023)"


@dataclass(frozen=True)
class TaskProtocol:
    """One way to measure models of lifting or of actions on a data set.

    Attributes:
        name: as on the command line.
        dataset: as on the command line.
        task: what the model does: positions from keypoints, scores of classes, or vectors to compare clips with.
        source: the work whose convention it is.
        files: where the file of the data can be in ``data/``; the first that exists is read. Empty: made on demand.
        split: of the file.
        exemplars: of embedding, the split with one example of each class.
        excluded: beginnings of the names of sequences that are not measured.
        version: goes up when anything that moves a number changes.
    """

    name: str
    dataset: str
    task: Literal["lifting", "classifier", "embedding"]
    source: str
    files: tuple[str, ...] = ()
    split: str = "test"
    exemplars: str = ""
    excluded: tuple[str, ...] = ()
    version: int = 1

    @property
    def full_name(self) -> str:
        """With the version."""
        return f"{self.name}-v{self.version}"

    def describe(self) -> dict[str, Any]:
        """Everything that does not depend on the files at hand, as JSON values."""
        common: dict[str, Any] = {"name": self.full_name, "source": self.source, "split": self.split}
        if self.task == "lifting":
            return common | {
                "input": "2D keypoints of a detector; mean of the answers to them and to their mirror image",
                "sequences": "whole, with their ends; longer ones than the model's window in windows that are joined",
                "errors": "of 17 joints relative to the root (H36M's pelvis), in millimetres: positions in the picture "
                "and depths in the same unit, times the millimetres per unit of each frame",
                "averages": "over the frames of each action, then over the actions; over all frames without actions",
                "excluded": list(self.excluded),
            }
        if self.task == "classifier":
            return common | {
                "input": "all frames of a recording, resampled to the length that the model was trained with",
                "top": "share of the clips of which fewer than n other classes have as high a score as the right one",
            }
        return common | {
            "exemplars": self.exemplars,
            "input": "all frames of a recording, resampled to the length that the model was trained with",
            "one_shot": "share of the clips whose vector has the greatest cosine with the exemplar of their class",
        }


_SYNTHETIC_LIFTING = TaskProtocol("synthetic-lifting", "synthetic-lifting", "lifting", "this project")
_H36M = TaskProtocol(
    name="h36m-lifting",
    dataset="h36m-lifting",
    task="lifting",
    source=f"{_MOTIONBERT}, but whole sequences instead of clips of 243 frames",
    files=(
        "motion3d/h36m_sh_conf_cam_source_final.pkl",
        "h36m/h36m_sh_conf_cam_source_final.pkl",
    ),
    excluded=("s_09_act_05_subact_02", "s_09_act_10_subact_02", "s_09_act_13_subact_01"),
)
_SYNTHETIC_ACTION = TaskProtocol("synthetic-action", "synthetic-action", "classifier", "this project")
_SYNTHETIC_ONE_SHOT = replace(
    _SYNTHETIC_ACTION,
    name="synthetic-action-oneshot",
    task="embedding",
    source="this project; the activities that the model was not trained with",
    exemplars="val, the first clip of each activity",
)
_NTU60 = TaskProtocol(
    name="ntu60-xsub",
    dataset="ntu60",
    task="classifier",
    source=f"NTU RGB+D (Shahroudy et al., CVPR 2016), cross-subject; frames as in {_MOTIONBERT}",
    files=("action/ntu60_hrnet.pkl", "ntu/ntu60_hrnet.pkl"),
    split="xsub_val",
)
_NTU120 = replace(
    _NTU60,
    name="ntu120-oneshot",
    dataset="ntu120",
    task="embedding",
    source=f"NTU RGB+D 120 (Liu et al., TPAMI 2019), one-shot; frames as in {_MOTIONBERT}",
    files=("action/ntu120_hrnet.pkl", "ntu/ntu120_hrnet.pkl"),
    split="oneshot_val",
    exemplars="oneshot_train",
)
_ALL = (
    _SYNTHETIC_LIFTING,
    _H36M,
    _SYNTHETIC_ACTION,
    _SYNTHETIC_ONE_SHOT,
    _NTU60,
    replace(_NTU60, name="ntu60-xview", split="xview_val", source=_NTU60.source.replace("subject", "view")),
    _NTU120,
)

TASK_PROTOCOLS: Mapping[str, TaskProtocol] = {protocol.name: protocol for protocol in _ALL}
"""By name; the first of a data set is its default."""

TASK_DATASETS = tuple(dict.fromkeys(protocol.dataset for protocol in _ALL))


def find_task_protocol(dataset: str, name: str | None = None) -> TaskProtocol:
    """The protocol ``name`` of ``dataset``, with or without its version; None: the default one.

    Raises:
        UserError: there is no such data set, or it has no such protocol.
    """
    return find_among(_ALL, dataset, name, "data set of clips")
