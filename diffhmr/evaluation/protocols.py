"""The built-in protocols: named, versioned terms, so that a number says what it is.

The conventions are those of the projects that introduced them, and differ in what moves a number by millimetres: the
joint regressor, the root, the body of the ground truth, the choice of frames, and what counts as a hypothesis. A
change to a protocol gives it a new version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from diffhmr.body.joints import J19_REGRESSOR
from diffhmr.evaluation.terms import EvaluationProtocol, RowFilter, find_among

_HIPS = ("left_hip", "right_hip")
_EMDB_TURNED = (
    "pelvis", *_HIPS, "left_knee", "right_knee", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
)  # fmt: skip
OCC_SEQUENCES = (
    "courtyard_backpack", "courtyard_basketball", "courtyard_bodyScannerMotions", "courtyard_box", "courtyard_golf",
    "courtyard_jacket", "courtyard_laceShoe", "downtown_stairs", "flat_guitar", "flat_packBags", "outdoors_climbing",
    "outdoors_crosscountry", "outdoors_fencing", "outdoors_freestyle", "outdoors_golf", "outdoors_parcours",
    "outdoors_slalom",
)  # fmt: skip
"""Beginnings of the names of 3DPW-OCC's sequences, of whatever split (the list of PARE; Kocabas et al., ICCV 2021)."""


def on_free_body(protocol: EvaluationProtocol) -> EvaluationProtocol:
    """The variant in which the model's own body stands in for SMPL of any gender, under a name that says so."""
    joint_set, root = protocol.joint_set, protocol.root
    if J19_REGRESSOR in protocol.regressors():  # made for SMPL's mesh only: the joints of the same names
        joint_set, root = "J14", ("pelvis_mpii",)
    return replace(protocol, name=f"{protocol.name}-free-body", truth_body="model", joint_set=joint_set, root=root)


_H36M_ROOT = ("pelvis_h36m17",)
_SPIN = "SPIN (Kolotouros et al., ICCV 2019)"

SYNTHETIC = EvaluationProtocol(
    name="synthetic",
    dataset="synthetic",
    files=(),
    source="this project",
    joint_set="J14",
    root=("pelvis_mpii",),
    stored=True,
    truth_body="model",
    visibility=True,
    whole_curve=False,
    min_of=(1, 5, 10, 25),
    slices=("occluded", "truncated", "clean"),
)

_THREEDPW_SPIN = EvaluationProtocol(
    name="3dpw-spin",
    dataset="3dpw",
    files=("test.npz", "3dpw_test.npz"),
    source=_SPIN,
    joint_set="J14_H36M",
    root=_H36M_ROOT,
    truth_body="gendered",
    pa_pve="vertices",
    box="1.2 x the box of the 2D pose",
)
_THREEDPW_PROHMR = replace(
    _THREEDPW_SPIN,
    name="3dpw-prohmr",
    source="ProHMR (Kolotouros et al., ICCV 2021), HMR 2.0 (Goel et al., ICCV 2023)",
    joint_set="J14_J19",
    root=("pelvis_mpii_j19",),
    mode_counts=True,
)
_H36M_P1 = EvaluationProtocol(
    name="h36m-p1",
    dataset="h36m",
    files=("valid_protocol1.npz", "h36m_valid_protocol1.npz"),
    source=f"{_SPIN}; subjects S9 and S11, every fifth frame, all cameras",
    joint_set="J14_H36M",
    root=_H36M_ROOT,
    truth_set="J14",
    truth_root=("pelvis_mpii",),
    stored=True,
    box="0.9 x the annotated box of the person's mask",
)

_GENDERED = (
    _THREEDPW_SPIN,
    _THREEDPW_PROHMR,
    replace(
        _THREEDPW_SPIN,
        name="3dpw-occ",
        files=("occ.npz", "3dpw_occ.npz"),
        source="Zhang et al., CVPR 2020; sequences as listed by PARE (Kocabas et al., ICCV 2021)",
        rows=RowFilter(sequences=OCC_SEQUENCES),
    ),
    EvaluationProtocol(
        name="emdb1-24",
        dataset="emdb",
        files=("emdb1.npz", "test.npz"),
        source="EMDB (Kaufmann et al., ICCV 2023), official evaluation, EMDB 1",
        joint_set="SMPL24",
        root=_HIPS,
        truth_body="gendered",
        pa_pve="joints",
        turned_joints=_EMDB_TURNED,
        box="1.2 x the box of the data set",
    ),
)
_NEUTRAL17 = replace(
    _THREEDPW_SPIN,
    name="3dpw-neutral17",
    source="MotionBERT (Zhu et al., ICCV 2023), but all frames instead of whole clips of 16",
    joint_set="H36M17",
    truth_body="neutral",
)

_ALL = (
    SYNTHETIC,
    *_GENDERED,
    _NEUTRAL17,
    replace(
        _THREEDPW_PROHMR,
        name="3dpw-prohmr-stored",
        files=("3dpw_test.npz", "test.npz"),  # scripts.prepare_3dpw's test.npz has no stored joints
        box="",
        source="ProHMR (Kolotouros et al., ICCV 2021), with its own label file",
        truth_set="J14",
        truth_root=("pelvis_mpii",),
        stored=True,
        truth_body=None,
        pa_pve=None,
    ),
    _H36M_P1,
    replace(
        _H36M_P1,
        name="h36m-p2",
        files=("valid_protocol2.npz", "h36m_valid_protocol2.npz"),
        source=f"{_SPIN}; as P1, the frontal camera only",
        rows=RowFilter(camera="60457274"),
    ),
    EvaluationProtocol(
        name="mpi-inf-3dhp",
        dataset="mpi_inf_3dhp",
        files=("valid.npz", "test.npz", "mpi_inf_3dhp_valid.npz", "mpi_inf_3dhp_test.npz"),
        source=f"{_SPIN}; valid frames with all 17 joints in the picture; 3DPCK and AUC as in MPI-INF-3DHP (Mehta et "
        "al., 3DV 2017), over these joints",
        joint_set="J17_H36M",
        root=_H36M_ROOT,
        truth_set="J17",
        truth_root=("pelvis_mpii",),
        stored=True,
        pck3d=True,
        box="1.2 x the box of the 2D joints",
    ),
    EvaluationProtocol(
        name="coco-pck",
        dataset="coco",
        files=("val.npz", "coco_val.npz"),
        folders=("coco", "coco2017", "coco2014"),
        source="HMR 2.0 (Goel et al., ICCV 2023), with the hips where the label file has them: as LSP's in part, as "
        "SMPL's in openpose",
        pck2d=(0.05, 0.1),
        box="1.2 x the annotated box",
    ),
    *(on_free_body(protocol) for protocol in (*_GENDERED, _NEUTRAL17)),
)
PROTOCOLS: Mapping[str, EvaluationProtocol] = {protocol.name: protocol for protocol in _ALL}
"""By name; the first of a data set is its default."""

EVALUATED_DATASETS = tuple(dict.fromkeys(protocol.dataset for protocol in _ALL))


def find_protocol(dataset: str, name: str | None = None) -> EvaluationProtocol:
    """The protocol ``name`` of ``dataset``, with or without its version; None: the default one.

    Raises:
        UserError: there is no such data set, or it has no such protocol.
    """
    return find_among(_ALL, dataset, name, "data set")


def name_of_run(full_name: str, measured: int, total: int, partial_release: bool = False) -> str:
    """Name of a run over the first ``measured`` of the ``total`` people of a release, of which some may be missing."""
    words = [f"first {measured} of {total}"] if measured < total else []
    words += ["partial release"] if partial_release else []
    return f"{full_name} ({', '.join(words)})" if words else full_name
