"""The settings of an experiment on clips of keypoints: MotionBERT's four tasks, of which the third is also DiffMesh's.

As in ``diffhmr/config.py``, a section is plain data. ``load_config`` takes a file with the key ``task``
for one of these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from diffhmr.config import Experiment, SamplerConfig, Section, TrainConfig

Task = Literal["pretrain", "pose3d", "mesh", "action"]
Head = Literal["lifting", "motionbert", "released", "paper", "ours", "classifier", "embedding"]

HEADS: dict[str, tuple[Head, ...]] = {
    "pretrain": ("lifting",),
    "pose3d": ("lifting",),
    "mesh": ("motionbert", "released", "paper", "ours"),
    "action": ("classifier", "embedding"),
}
"""What can be on top of the backbone in each task."""

FORMATS: dict[str, tuple[str, ...]] = {
    "pretrain": ("motion3d", "posetrack18", "instavariety"),
    "pose3d": ("h36m_sh", "motion3d"),
    "mesh": ("mesh_det",),
    "action": ("pyskl",),
}
"""Files that each task can learn from."""


class BackboneConfig(Section):
    """DSTformer. The defaults are MotionBERT's; width 256 gives MotionBERT-Lite."""

    width: int = Field(default=512, gt=0)
    hidden: int = Field(default=1024, gt=0)
    depth: int = Field(default=5, gt=0)
    heads: int = Field(default=8, gt=0)
    features: int = Field(default=512, gt=0)
    max_frames: int = Field(default=243, gt=0)


class ChainConfig(Section):
    """DiffMesh's process, for the heads released and paper; the defaults are the official ones."""

    width: int = Field(default=128, gt=0)
    depth: int = Field(default=4, gt=0)
    heads: int = Field(default=4, gt=0)
    condition_width: int = Field(default=256, gt=0, multiple_of=8)
    condition_depth: int = Field(default=2, gt=0)
    warm_up: int = Field(default=14, ge=0)  # steps before the first frame; there are warm_up + window in all


class ClipDenoiserConfig(Section):
    """The network of the head ours: all frames of a window are denoised together."""

    width: int = Field(default=256, gt=0)
    head_blocks: int = Field(default=3, ge=0)  # residual layers of a frame's token before its estimate
    shortcut: bool = False  # a shallow way to the estimate beside the token: learns faster on a trained backbone
    depth: int = Field(default=4, gt=0)
    heads: int = Field(default=4, gt=0)
    steps: int = Field(default=1000, gt=0)
    schedule: Literal["cosine", "linear"] = "cosine"
    target: Literal["x0", "v"] = "v"
    noise_frames: float = Field(default=6.0, ge=0)  # width in frames over which the noise is correlated; 0: white
    noise_white: float = Field(default=0.03, gt=0, le=1)  # share of the noise's deviation that is independent
    smoothing: float = Field(default=2.0, ge=0)  # frames over which estimates and states are smoothed; 0: none


class ClipModelConfig(Section):
    """Which network is built on the backbone."""

    head: Head = "ours"
    backbone: BackboneConfig = BackboneConfig()
    window: int = Field(default=16, gt=0)  # frames that the network sees at once
    overlap: int = Field(default=4, ge=0)  # frames shared by windows of longer clips, cross-faded
    # What of the picture becomes [-1, 1]: its shorter side, or the box of the person in the window.
    input: Literal["picture", "person"] = "person"
    # lifting: positions relative to the root of every frame; else z counts from the root of the first frame.
    root_relative: bool = False
    hidden: int = Field(default=1024, gt=0)  # motionbert, refine: width of the layers before the outputs
    dropout: float = Field(default=0.1, ge=0, lt=1)  # motionbert, refine, classifier, embedding
    # released, paper: refine given SMPL parameters, which data.initial brings; their betas stay.
    refine: bool = False
    rotations: Literal["parent", "camera"] = "parent"  # ours: what the rotations of the state are relative to
    chain: ChainConfig = ChainConfig()
    denoiser: ClipDenoiserConfig = ClipDenoiserConfig()
    classes: int = Field(default=60, gt=1)  # classifier
    embedding: int = Field(default=2048, gt=0)  # embedding

    @model_validator(mode="after")
    def _windows(self) -> ClipModelConfig:
        if self.window > self.backbone.max_frames:
            raise ValueError(
                f"window is {self.window}, more than the {self.backbone.max_frames} of backbone.max_frames"
            )
        if 2 * self.overlap > self.window:
            raise ValueError(f"overlap is {self.overlap}, more than half a window of {self.window} frames")
        if self.head in ("released", "paper") and self.window < 2:
            raise ValueError("the chain of DiffMesh needs a window of at least 2 frames")
        if self.refine and self.head not in ("released", "paper"):
            raise ValueError(f"refine belongs to the heads released and paper, not to {self.head}: leave it out")
        return self


class ClipLossConfig(Section):
    """Weights of the loss terms; 0 switches a term off. The names are those of the terms in TensorBoard."""

    # mesh: MotionBERT's weights divided by 1,000, as lengths are metres here (0.5 per millimetre stays 0.5)
    joints3d: float = Field(default=0.5, ge=0)
    velocity: float = Field(default=10.0, ge=0)
    pose: float = Field(default=1.0, ge=0)
    shape: float = Field(default=0.001, ge=0)
    norm: float = Field(default=0.02, ge=0)
    condition: float = Field(default=1e-6, ge=0)  # released, paper: the prediction of the next condition
    acceleration: float = Field(default=0.0, ge=0)  # change of the velocity; MotionBERT has no such term
    diffusion: float = Field(default=0.5, ge=0)  # ours
    x0_joints3d: float = Field(default=0.5, ge=0)  # ours: joints of the denoiser's estimate, by its signal
    x0_velocity: float = Field(default=10.0, ge=0)  # ours: their velocity
    x0_acceleration: float = Field(default=0.0, ge=0)  # ours: their acceleration
    # pretrain, pose3d: MotionBERT's
    position: float = Field(default=1.0, ge=0)
    scaled_position: float = Field(default=0.5, ge=0)
    position_velocity: float = Field(default=20.0, ge=0)
    reprojection: float = Field(default=1.0, ge=0)
    # action
    cross_entropy: float = Field(default=1.0, ge=0)
    contrastive: float = Field(default=1.0, ge=0)


class ClipNoiseConfig(Section):
    """What a 2D detector does to the points of a person through a video; lengths are shares of the person's box."""

    jitter: float = Field(default=0.01, ge=0)  # standard deviation of a point in the median person
    outlier: float = Field(default=0.005, ge=0, le=1)  # share of points that lie somewhere else
    drop_point: float = Field(default=0.04, ge=0, le=1)  # share of (point, frame) lost in runs
    drop_limb: float = Field(default=0.08, ge=0, le=1)  # share of (limb, frame) lost in runs
    drop_frame: float = Field(default=0.03, ge=0, le=1)  # share of frames without any point, in runs
    drop_hidden: float = Field(default=0.6, ge=0, le=1)  # share of hidden points that the detector does not report
    swap: float = Field(default=0.02, ge=0, le=1)  # share of frames in which left and right are exchanged, in runs


class ClipSourceConfig(Section):
    """A file or folder of clips; see data/README.md for the formats."""

    name: str = Field(min_length=1)
    format: Literal["mesh_det", "motion3d", "h36m_sh", "posetrack18", "instavariety", "pyskl"]
    path: Path = Field(strict=False)
    split: str = "train"  # of the file
    # Share of the training items. Sources without one share what the others leave, in proportion to their size.
    weight: float | None = Field(default=None, gt=0, le=1)
    resolution: int | None = Field(default=None, gt=0)  # mesh_det: all pictures count as squares; null: their own sizes
    ground_truth_2d: bool = False  # motion3d in pose3d: the truth's x and y are what is seen, with confidence 1

    @property
    def is_test(self) -> bool:
        """Whether the clips are those of a test set; NTU's test sets are called xsub_val and the like."""
        return self.split == "test" or (self.format == "pyskl" and self.split.endswith("_val"))

    @model_validator(mode="after")
    def _options_are_used(self) -> ClipSourceConfig:
        if self.resolution is not None and self.format != "mesh_det":
            raise ValueError(f"the source {self.name} has a resolution, but only the format mesh_det takes one")
        if self.ground_truth_2d and self.format != "motion3d":
            raise ValueError(f"the source {self.name} has ground_truth_2d, but only the format motion3d takes it")
        return self


class ClipAugmentConfig(Section):
    """What is done to clips of files in training. Pretraining corrupts all clips, synthetic ones too.

    How it corrupts them and the shares of what is hidden are MotionBERT's. How far points are moved and how sure the
    detector then seems are this project's values (``NOISE`` in ``diffhmr/datasets/corruption.py``), unless MotionBERT's
    two files are given.
    """

    flip: float = Field(default=0.5, ge=0, le=1)  # share of mirrored clips
    noise: bool = True  # pretrain: points are moved as by a detector
    noise_file: Path | None = Field(default=None, strict=False)  # MotionBERT's synthetic_noise.pth; null: our noise
    confidence_file: Path | None = Field(default=None, strict=False)  # its d2c_params.pkl, which belongs to that file
    mask_joint: float = Field(default=0.05, ge=0, le=1)  # pretrain: share of (joint, frame) hidden
    mask_frame: float = Field(default=0.1, ge=0, le=1)  # pretrain: share of frames hidden
    flat_from: float = Field(default=1 / 3, ge=0, le=1)  # pretrain: 2D-only data from this share of the steps on

    @model_validator(mode="after")
    def _noise_is_one(self) -> ClipAugmentConfig:
        if (self.noise_file is None) != (self.confidence_file is None):
            raise ValueError("noise_file and confidence_file are of one detector and in one unit: give both or neither")
        if self.noise_file is not None and not self.noise:
            raise ValueError("noise_file says how points are moved, but noise is off: switch it on, or drop both files")
        return self


class ClipDataConfig(Section):
    """The stream of clips: synthetic ones, or files. Synthetic clips serve every task."""

    kind: Literal["synthetic", "files"] = "synthetic"
    seed: int = Field(default=0, ge=0, lt=2**63)
    frames: int = Field(default=64, gt=0)  # of a training clip
    stride: int | None = Field(default=None, gt=0)  # files: between the beginnings of training clips; null: frames
    fps: float = Field(default=30.0, gt=0)
    # Clips bring SMPL parameters to be refined: synthetic ones the truth disturbed, those of mesh_det pred_smpl_*.
    initial: bool = False
    # synthetic
    motions: Path | None = Field(default=None, strict=False)  # folder of .npz in the layout of AMASS; null: procedural
    activities: tuple[str, ...] = Field(default=(), strict=False)  # procedural: only these; of an action model: classes
    keypoint_noise: ClipNoiseConfig = ClipNoiseConfig()
    occluder: float = Field(default=0.4, ge=0, le=1)  # share of clips with an object in front of the person
    truncation: float = Field(default=0.2, ge=0, le=1)  # share of clips cut by the border of the picture
    test_frames: int = Field(default=150, gt=0)  # of a validation or test sequence
    train_items: int = Field(default=2**31, gt=0, lt=2**63)
    val_items: int = Field(default=32, gt=0, lt=2**63)
    test_items: int = Field(default=100, gt=0, lt=2**63)
    # files
    sources: tuple[ClipSourceConfig, ...] = Field(default=(), strict=False)
    validation: ClipSourceConfig | None = None
    augment: ClipAugmentConfig = ClipAugmentConfig()

    @property
    def validates_on_test(self) -> bool:
        """Whether the validation clips are those of a test set."""
        return self.validation is not None and self.validation.is_test

    @model_validator(mode="after")
    def _one_kind_of_motion(self) -> ClipDataConfig:
        if self.motions is not None and self.activities:
            raise ValueError(
                "data.activities chooses procedural motion, but data.motions has recorded motion, of which nobody says "
                "what people do: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _sources_fit(self) -> ClipDataConfig:
        if self.kind == "synthetic" and (self.sources or self.validation is not None):
            raise ValueError("data.sources and data.validation belong to data.kind: files, which is not set")
        if self.kind == "files" and not self.sources:
            raise ValueError("data.kind is files but data.sources is empty: list {name, format, path} of each")
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"data.sources names {max(names, key=names.count)} twice: give every source its own name")
        return self


class ClipTrainConfig(TrainConfig):
    """The loop."""

    batch_size: int = Field(default=16, gt=0)  # clips
    backbone_lr: float | None = Field(default=None, gt=0)  # of the backbone's weights; null: lr


class ClipExperimentConfig(Experiment):
    """Everything that defines a training run on clips; stored inside its checkpoints."""

    task: Task
    init: Path | None = Field(default=None, strict=False)  # a motion model file whose backbone is the start
    init_head: bool = True  # its head too, if it is of the same kind and sizes
    model: ClipModelConfig = ClipModelConfig()
    loss: ClipLossConfig = ClipLossConfig()
    data: ClipDataConfig = ClipDataConfig()
    sampler: SamplerConfig = SamplerConfig()  # of ours; the single answer takes one step
    train: ClipTrainConfig = ClipTrainConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> ClipExperimentConfig:
        if self.model.head not in HEADS[self.task]:
            raise ValueError(
                f"model.head is {self.model.head}, but task {self.task} has {' or '.join(HEADS[self.task])}"
            )
        for source in (*self.data.sources, *(() if self.data.validation is None else (self.data.validation,))):
            if source.format not in FORMATS[self.task]:
                raise ValueError(
                    f"the source {source.name} has the format {source.format}, but task {self.task} reads "
                    f"{' or '.join(FORMATS[self.task])}"
                )
            if source.ground_truth_2d and self.task != "pose3d":
                raise ValueError(
                    f"the source {source.name} has ground_truth_2d, but it belongs to task pose3d: leave it out"
                )
        if self.data.augment.noise_file is not None and self.task != "pretrain":
            raise ValueError(f"data.augment.noise_file belongs to task pretrain, not to {self.task}: leave it out")
        if self.model.refine != self.data.initial:
            raise ValueError("model.refine refines what data.initial brings: set both to true, or leave both out")
        if self.sampler.steps > self.model.denoiser.steps:
            raise ValueError(
                f"sampler.steps is {self.sampler.steps}, more than the {self.model.denoiser.steps} of "
                "model.denoiser.steps"
            )
        if self.model.head == "embedding":
            self._pairs_fit()
        if self.sampler.eta and self.sampler.name != "ddim":
            raise ValueError(f"sampler.eta is {self.sampler.eta}, but it belongs to ddim: leave it at 0")
        return self

    def _pairs_fit(self) -> None:
        """The head embedding learns from pairs of a class, all classes alike; a batch of one pair says nothing."""
        batch_size, items = self.train.batch_size, self.data.train_items
        if batch_size % 2 or batch_size < 4:
            raise ValueError(
                f"train.batch_size is {batch_size}, but the head embedding compares pairs of clips of a class: set it "
                "to an even number from 4 on"
            )
        if items % 2:
            raise ValueError(f"data.train_items is {items}, but the head embedding takes pairs: set an even number")
        for source in self.data.sources:
            if source.weight is not None:
                raise ValueError(
                    f"the source {source.name} has a weight, but the head embedding takes all classes equally often: "
                    "leave it out"
                )
