"""The terms of an evaluation: everything that another implementation must do alike to get comparable numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np

from diffhmr.body.joints import (
    COCO17,
    EXTRA_REGRESSOR,
    H36M_REGRESSOR,
    J19_REGRESSOR,
    JOINT_SETS,
    REGRESSOR_FILES,
    SPIN49,
    JointSet,
    joint_source,
)
from diffhmr.errors import UserError

if TYPE_CHECKING:  # importing a data set imports torch, which takes seconds; commands look at their options first
    from diffhmr.datasets.labels import Labels

TruthBody = Literal["gendered", "neutral", "model"]
"""On which body the labelled parameters are put: SMPL of the person's gender, neutral SMPL, or the model's own body."""


class TruthTerms(Protocol):
    """What one must know of a protocol to put labelled parameters on a body."""

    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def full_name(self) -> str:
        """With the version."""

    @property
    def truth_body(self) -> TruthBody | None:
        """Of the labelled parameters."""

    @property
    def needs_smpl(self) -> bool:
        """Labelled parameters are those of SMPL."""


MIN_OF = (1, 5, 10, 25, 50, 100, 200, 500, 1000)
PIXEL_CROP = 256
"""Image errors are given in pixels of a crop of this side, as HuManiFlow and HuMR do."""
PCK_MM = 150.0
AUC_MM = tuple(float(5 * step) for step in range(31))
"""Thresholds of MPI-INF-3DHP's official evaluation: 0, 5 ... 150 mm."""


@dataclass(frozen=True)
class RowFilter:
    """Which rows of the label files are measured. Rows that a file itself left out when it was made do not count.

    Attributes:
        valid_only: where the labels have ``valid``, rows with False are left out.
        sequences: beginnings of the names of the sequences; empty for all.
        camera: number of the camera, or empty for all.
    """

    valid_only: bool = True
    sequences: tuple[str, ...] = ()
    camera: str = ""

    def select(self, labels: Labels) -> np.ndarray:
        """The rows ``(M,)`` to be measured, in order.

        Raises:
            UserError: the labels do not say from which camera a picture is.
        """
        kept = np.ones(len(labels), bool)
        if self.valid_only and "valid" in labels.extra:
            kept &= labels.extra["valid"]
        if self.sequences:
            names = labels.extra.get("sequence")
            if names is None:  # imageFiles/SEQUENCE/image_00000.jpg
                names = np.array([name.rpartition("/")[0].rpartition("/")[2] for name in labels.imgname], np.str_)
            kept &= np.logical_or.reduce([np.char.startswith(names, begin) for begin in self.sequences])
        if self.camera:
            cameras = labels.extra.get("camera")
            if cameras is None:  # S9_Directions_1.60457274_000001.jpg
                cameras = np.array([name.rpartition("/")[2].partition(".")[2][:8] for name in labels.imgname], np.str_)
                if not all(camera.isdigit() for camera in np.unique(cameras)):
                    raise UserError(
                        "the labels do not say from which camera the pictures are; make them with scripts.prepare_h36m"
                    )
            kept &= cameras == self.camera
        return np.flatnonzero(kept)

    def describe(self) -> str:
        """In words, for result files."""
        words = ["rows that are not marked as invalid"] if self.valid_only else ["all rows"]
        if self.sequences:
            words.append(f"of sequences whose names begin with {', '.join(self.sequences)}")
        if self.camera:
            words.append(f"of camera {self.camera}")
        return " ".join(words)


@dataclass(frozen=True)
class EvaluationProtocol:
    """One way to measure a model on a data set.

    Attributes:
        name: as on the command line.
        version: goes up when anything that moves a number changes.
        dataset: as on the command line.
        files: names that the label file of the split can have; the first that exists is read.
        folders: of ``data/`` in which it can be; empty for the name of the data set.
        joint_set: of the prediction, a name of ``JOINT_SETS``; empty for protocols in the image.
        root: joints of the prediction whose mean is its root.
        truth_set: of the truth; the same names for parameters, others for stored joints.
        truth_root: joints of the truth whose mean is its root.
        stored: the truth is the 3D joints of the label file, not the joints of its parameters.
        truth_body: of the labelled parameters, None where the truth has no mesh.
        pa_pve: what fits the similarity of PA-PVE: all vertices, or the joints. None: not measured.
        turned_joints: of SMPL's 24, whose angular error is measured; empty: not measured.
        pck3d: measure 3DPCK and its AUC.
        pck2d: measure the share of 2D points within these shares of the tight box's longer side.
        visibility: the labels say exactly which joints can be seen.
        rows: which rows of the label file are measured.
        box: of the label files that this project prepares; those from elsewhere may have another.
        num_samples: n of the hypotheses, unless the command line says otherwise.
        mode_counts: the single answer (hypothesis 0, zero noise) is one of the n.
        whole_curve: the minimum of n is reported for every n as a list, and by name for the largest.
        min_of: those n of which it is reported by name.
        slices: parts of the people that are reported by themselves: attributes of ``Targets``, and ``clean``.
        source: the work whose convention it is.
    """

    name: str
    dataset: str
    files: tuple[str, ...]
    source: str
    joint_set: str = ""
    root: tuple[str, ...] = ()
    truth_set: str = ""
    truth_root: tuple[str, ...] = ()
    stored: bool = False
    truth_body: TruthBody | None = None
    pa_pve: Literal["vertices", "joints"] | None = None
    turned_joints: tuple[str, ...] = ()
    pck3d: bool = False
    pck2d: tuple[float, ...] = ()
    visibility: bool = False
    folders: tuple[str, ...] = ()
    rows: RowFilter = field(default_factory=RowFilter)
    box: str = ""
    num_samples: int = 25
    mode_counts: bool = False
    whole_curve: bool = True
    min_of: tuple[int, ...] = MIN_OF
    slices: tuple[str, ...] = ()
    version: int = 1

    @property
    def full_name(self) -> str:
        """With the version."""
        return f"{self.name}-v{self.version}"

    @property
    def joints(self) -> JointSet:
        """The set of the prediction."""
        return JOINT_SETS[self.joint_set]

    @property
    def truth_joints(self) -> JointSet:
        """The set of the truth, in the same order of body parts."""
        return JOINT_SETS[self.truth_set or self.joint_set]

    @property
    def needs_smpl(self) -> bool:
        """Labelled parameters are those of SMPL: on another body they would mean another person."""
        return self.truth_body in ("gendered", "neutral")

    def regressors(self) -> tuple[str, ...]:
        """Names of the files with the regressors of what is measured on the prediction: joints, root, 2D points."""
        joints = self.joints.joint_names if self.joint_set else ()
        in_image = COCO17 if self.visibility else SPIN49
        return regressors_of((*joints, *self.root, *in_image.joint_names))

    def truth_regressors(self) -> tuple[str, ...]:
        """Names of the files with the regressors that the bodies of the truth need."""
        if self.stored or not self.joint_set:
            return ()
        return regressors_of((*self.truth_joints.joint_names, *(self.truth_root or self.root)))

    def num_random(self, num_samples: int) -> int:
        """Random hypotheses that are drawn for ``num_samples``; at least one, for the error of a random one."""
        return max(1, num_samples - 1) if self.mode_counts else num_samples

    def describe(self) -> dict[str, Any]:
        """Everything that does not depend on the files at hand, as JSON values."""
        described: dict[str, Any] = {"name": self.full_name, "source": self.source}
        if self.joint_set:
            described |= self._describe_joints()
        if self.pck2d:
            described["pck"] = (
                "share of the labelled 2D points (confidence above 0.5, slots of SPIN49) within "
                f"{', '.join(map(str, self.pck2d))} of the longer side of the tight box: per slot over all people, "
                "then the mean over the slots"
            )
        described |= {
            "rows": self.rows.describe(),
            "box": "center and scale of the label file" + (f"; as prepared here: {self.box}" if self.box else ""),
            "mode": f"the single answer (zero-noise start); {'counted' if self.mode_counts else 'not counted'} among "
            "the samples",
            "random": "mean over the random samples",
            "reprojection_px": f"{'visible COCO17' if self.visibility else 'labelled SPIN49'} joints, pixels of a "
            f"{PIXEL_CROP} x {PIXEL_CROP} crop",
        }
        return described

    def _describe_joints(self) -> dict[str, Any]:
        sources = regressors_of((*self.joints.joint_names, *self.root))
        described: dict[str, Any] = {
            "joint_set": self.joint_set,
            "joint_names": list(self.joints.joint_names),
            "joint_source": " and ".join(REGRESSOR_FILES[key] for key in sources) or "kinematic tree",
            "root": {
                "prediction": f"mean of {', '.join(self.root)}",
                "truth": f"mean of {', '.join(self.truth_root or self.root)}",
            },
            "truth": self._describe_truth(),
            "alignment": {
                "mpjpe_mm": "root",
                "pa_mpjpe_mm": "similarity with scale, per hypothesis",
            },
            "mean_of_samples": "error of the mean of the root-aligned points of the random samples",
            "min_of": "uses ground truth to choose: minimum per metric over n samples"
            + (", one of them the single answer" if self.mode_counts else "")
            + ", expectation over all subsets of the random ones",
            "mean_pose": "the mean parameters of the training people, the same for everybody",
            "energy_score_mm": f"mean over the joints of {self.joint_set}; equals MPJPE for a single answer",
            "ece": f"{self.joint_set}; Pierzchlewicz et al. 2022; 21 quantiles, median over joints",
            "diversity": "COCO17 relative to the root, distance to the mean of the samples",
        }
        if self.truth_body is not None:
            described["alignment"]["pve_mm"] = "root joint, all vertices"
            if self.pa_pve is not None:
                described["alignment"]["pa_pve_mm"] = f"similarity with scale that fits the {self.pa_pve}"
        if self.turned_joints:
            names = ", ".join(self.turned_joints)
            described["alignment"]["mpjae_deg"] = f"none; rotations relative to the camera of {names}"
            described["alignment"]["pa_mpjae_deg"] = "the rotation of the similarity of PA-MPJPE"
            described["mean_of_samples"] += "; of rotations their chordal mean"
        if self.pck3d:
            described["pck"] = (
                f"share of the joints whose error, after the alignment of MPJPE (or, with _pa, of PA-MPJPE), is below "
                f"{PCK_MM:.0f} mm; auc: mean of that share over the thresholds 0, 5 ... 150 mm"
            )
        return described

    def _describe_truth(self) -> str:
        if self.stored:
            return f"the 3D joints of the label file ({self.truth_joints.name} of SPIN49)"
        body = {
            "gendered": "SMPL of the person's gender",
            "neutral": "neutral SMPL",
            "model": "the body of the model for all genders: NOT comparable with results on SMPL",
        }
        assert self.truth_body is not None
        return f"labelled parameters on {body[self.truth_body]}"


def regressors_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the files with the regressors of these joints; none for joints of the tree and surface points."""
    kinds = {"extra": EXTRA_REGRESSOR, "h36m": H36M_REGRESSOR, "j19": J19_REGRESSOR}
    sources = [joint_source(name).kind for name in names]
    return tuple(dict.fromkeys(kinds[kind] for kind in sources if kind in kinds))


def stored_slots(joint_set: JointSet | tuple[str, ...]) -> tuple[int, ...]:
    """Places of joints in ``SPIN49`` among its last 24, which hold what annotators and motion capture gave."""
    names = joint_set.joint_names if isinstance(joint_set, JointSet) else joint_set
    return tuple(25 + SPIN49.joint_names[25:].index(name) for name in names)


class NamedTerms(Protocol):
    """What all kinds of protocols have in common."""

    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def full_name(self) -> str:
        """With the version."""

    @property
    def dataset(self) -> str:
        """As on the command line."""


_Named = TypeVar("_Named", bound=NamedTerms)


def find_among(protocols: Sequence[_Named], dataset: str, name: str | None, what: str) -> _Named:
    """The protocol ``name`` of ``dataset``, with or without its version; None: the first one.

    Args:
        protocols: all of a kind.
        dataset: as on the command line.
        name: of the protocol.
        what: what their data sets are called.

    Raises:
        UserError: there is no such data set, or it has no such protocol.
    """
    theirs = [protocol for protocol in protocols if protocol.dataset == dataset]
    if not theirs:
        known = dict.fromkeys(protocol.dataset for protocol in protocols)
        raise UserError(f"unknown {what} {dataset!r}; choose one of {', '.join(known)}")
    if name is None:
        return theirs[0]
    for protocol in theirs:
        if name in (protocol.name, protocol.full_name):
            return protocol
    raise UserError(f"{dataset} has no protocol {name!r}; choose one of {', '.join(one.name for one in theirs)}")
