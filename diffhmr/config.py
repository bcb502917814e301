"""The settings of an experiment as typed sections, one per component.

A section is plain data: only the function that builds the component (``build_model``, ``build_dataset``) reads it,
and leaves get plain arguments. ``load_config`` in ``diffhmr/config_file.py`` reads the sections from YAML.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

StatePart = Literal["pose", "shape", "camera"]


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values keep their type, nothing changes after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BodyConfig(Section):
    """Which SMPL-format body is used."""

    path: Path = Field(default=Path("data/body/free_body.npz"), strict=False)


class EncoderConfig(Section):
    """g(.): what turns the input into the pooled feature z."""

    kind: Literal["image", "keypoints"] = "image"
    # image: a torchvision ResNet. The paper's comparison tables say ResNet-50.
    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"
    weights: Literal["none", "imagenet"] = "none"  # not stated in the paper; SPIN starts from ImageNet
    norm: Literal["batch", "frozen"] = "batch"  # frozen: BatchNorm uses its running statistics and does not learn
    pooling: Literal["average", "joints"] = "average"  # joints: through detected keypoints; not in the paper
    # keypoints, and image with pooling joints, which has to have an mlp: a network over 17 COCO points
    network: Literal["transformer", "mlp"] = "transformer"  # mlp: much cheaper, for training on a CPU
    width: int = Field(default=256, gt=0)
    layers: int = Field(default=4, gt=0)
    heads: int = Field(default=4, gt=0)  # transformer

    @model_validator(mode="after")
    def _network_behind_the_detector(self) -> EncoderConfig:
        if self.kind == "image" and self.pooling == "joints" and self.network != "mlp":
            raise ValueError(f"network is {self.network}, but behind detected keypoints (pooling: joints) there is "
                             "always an mlp: write network: mlp")  # fmt: skip
        return self


class RegressorConfig(Section):
    """SPIN's iterative regressor."""

    iterations: int = Field(default=3, gt=0)
    width: int = Field(default=1024, gt=0)
    dropout: float = Field(default=0.5, ge=0, lt=1)


class DenoiserConfig(Section):
    """f_omega: the network inside the reverse process."""

    kind: Literal["unet", "mlp"] = "mlp"  # the paper's figure shows a U-Net
    dim: int = Field(default=64, gt=0)  # unet: channels of the first level; not stated in the paper
    mults: tuple[int, ...] = Field(default=(1, 2, 4, 8), strict=False)  # unet; not stated in the paper
    width: int = Field(default=768, gt=0)  # mlp
    blocks: int = Field(default=3, gt=0)  # mlp
    condition_dropout: float = Field(default=0.0, ge=0, lt=1)  # share of items trained without z
    condition_on_estimate: bool = True  # the regressor's estimate joins z as a condition; not in the paper


class DiffusionConfig(Section):
    """The forward process and what the network predicts."""

    steps: int = Field(default=1000, gt=0)  # T; not stated in the paper
    schedule: Literal["cosine", "linear"] = "cosine"  # not stated in the paper
    target: Literal["noise", "x0", "v"] = "v"  # not stated in the paper
    loss_weight: Literal["uniform", "min_snr", "snr"] = "uniform"  # not stated in the paper
    draws_per_item: int = Field(default=1, gt=0)  # (t, noise) pairs per item and step: z is computed once for all


class ModelConfig(Section):
    """Which network is built."""

    kind: Literal["diffhmr", "spin"] = "diffhmr"
    # [pose]: betas and camera come from the regressor, as in the paper's figure.
    state: tuple[StatePart, ...] = Field(default=("pose", "shape", "camera"), strict=False)
    # What the rotations of estimate and state are relative to; not stated in the paper. SPIN and SMPL: the parent joint
    rotations: Literal["parent", "camera"] = "parent"
    encoder: EncoderConfig = EncoderConfig()
    regressor: RegressorConfig = RegressorConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    diffusion: DiffusionConfig = DiffusionConfig()

    @model_validator(mode="after")
    def _known_state(self) -> ModelConfig:
        if self.state not in (("pose",), ("pose", "shape", "camera")):
            raise ValueError("state must be [pose] or [pose, shape, camera]")
        return self


class LossConfig(Section):
    """Weights of the loss terms; 0 switches a term off. The names are those of the terms in TensorBoard."""

    diffusion: float = Field(default=1.0, ge=0)
    # On the regressor, with SPIN's relative weights (5 L3D + 5 L2D + 1 pose + 0.001 shape + 1 scale).
    regressor_pose: float = Field(default=1.0, ge=0)
    regressor_shape: float = Field(default=0.001, ge=0)
    regressor_joints3d: float = Field(default=5.0, ge=0)
    regressor_joints2d: float = Field(default=5.0, ge=0)
    regressor_scale: float = Field(default=1.0, ge=0)
    # On the maps of an image encoder with pooling "joints"; without such an encoder there are no such terms.
    encoder_joints2d: float = Field(default=0.2, ge=0)
    encoder_visible: float = Field(default=0.2, ge=0)
    encoder_parts: float = Field(default=0.5, ge=0)  # which bone each place shows; needs data that know it
    # On the denoiser's estimate of the clean state, weighted by alpha_bar(t); not stated in the paper.
    x0_joints3d: float = Field(default=0.0, ge=0)
    x0_joints2d: float = Field(default=0.0, ge=0)


class SamplerConfig(Section):
    """How noise becomes a hypothesis."""

    name: Literal["ddpm", "ddim", "dpm_solver_pp_2m"] = "dpm_solver_pp_2m"
    steps: int = Field(default=8, gt=0)
    eta: float = Field(default=0.0, ge=0, le=1)  # ddim only: 0 deterministic, 1 as random as ddpm


class KeypointNoiseConfig(Section):
    """What a 2D detector does to the 17 points of a person; lengths are shares of the box's side."""

    jitter: float = Field(default=0.01, ge=0)  # standard deviation of a point in the median person
    outlier: float = Field(default=0.01, ge=0, le=1)  # share of points that lie somewhere else
    drop_point: float = Field(default=0.08, ge=0, le=1)  # share of single points lost
    drop_limb: float = Field(default=0.12, ge=0, le=1)  # share of people who lose a whole arm, leg or the face
    drop_hidden: float = Field(default=0.5, ge=0, le=1)  # share of hidden points that the detector does not report
    swap: float = Field(default=0.02, ge=0, le=1)  # share of people whose left and right limbs are exchanged


class SourceConfig(Section):
    """A label file and its pictures; see data/README.md for the formats."""

    name: str = Field(min_length=1)
    labels: Path = Field(strict=False)  # .npz of scripts/prepare_*.py, SPIN, EFT, ProHMR or HMR 2.0
    images: Path = Field(strict=False)  # folder to which the names of the pictures are relative
    # Share of the training items. Sources without one share what the others leave, in proportion to their size.
    weight: float | None = Field(default=None, gt=0, le=1)
    scale_unit: Literal["200px", "pixels"] | None = None  # of the array scale; null: found out and checked


class AugmentConfig(Section):
    """What is done to labelled pictures in training; the defaults are SPIN's."""

    flip: float = Field(default=0.5, ge=0, le=1)  # share of mirrored items
    rotate: float = Field(default=0.4, ge=0, le=1)  # share of turned items
    rotation: float = Field(default=30.0, ge=0)  # standard deviation in degrees; at most twice that
    scale: float = Field(default=0.25, ge=0, lt=1)  # of the box: standard deviation and most that it changes
    colour: float = Field(default=0.4, ge=0, le=1)  # most that a colour channel is dimmed or brightened
    occluder: float = Field(default=0.0, ge=0, le=1)  # share of people with objects drawn in front of them
    extreme_crop: float = Field(default=0.0, ge=0, le=1)  # share of boxes around a part of the person only


class DataConfig(Section):
    """The stream of people: synthetic ones, or label files with pictures.

    Synthetic people serve as validation of labelled data too, unless ``validation`` names a label file.
    """

    kind: Literal["synthetic", "labelled"] = "synthetic"
    seed: int = Field(default=0, ge=0, lt=2**63)
    images: bool = True  # False: nothing is rendered or decoded, keypoints only
    image_size: int = Field(default=128, ge=32)
    keypoint_noise: KeypointNoiseConfig = KeypointNoiseConfig()
    # labelled
    sources: tuple[SourceConfig, ...] = Field(default=(), strict=False)
    validation: SourceConfig | None = None  # its people whose 3D joints are known, at most val_items, evenly chosen
    augment: AugmentConfig = AugmentConfig()
    openpose_weight: float = Field(default=1.0, ge=0, le=1)  # factor on the confidence of OpenPose's joints; SPIN: 0
    # synthetic
    occluder: float = Field(default=0.4, ge=0, le=1)  # share of people with an object in front of them
    truncation: float = Field(default=0.2, ge=0, le=1)  # share of people cut by the border of the crop
    archive: Path | None = Field(default=None, strict=False)  # folder of AMASS-layout .npz; None: procedural poses
    backgrounds: Path | None = Field(default=None, strict=False)  # folder of pictures; None: procedural
    train_items: int = Field(default=2**31, gt=0, lt=2**63)
    val_items: int = Field(default=500, gt=0, lt=2**63)
    test_items: int = Field(default=2000, gt=0, lt=2**63)

    @property
    def validates_on_test(self) -> bool:
        """Whether the validation people are a test set, going by the words in the name of their label file."""
        return self.validation is not None and "test" in re.split(r"[^a-z]+", self.validation.labels.stem.lower())

    @model_validator(mode="after")
    def _sources_fit(self) -> DataConfig:
        if self.kind == "synthetic":
            if self.sources or self.validation is not None:
                raise ValueError("data.sources and data.validation belong to data.kind: labelled, which is not set")
            return self
        if not self.sources:
            raise ValueError("data.kind is labelled but data.sources is empty: list {name, labels, images} of each")
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"data.sources names {max(names, key=names.count)} twice: give every source its own name")
        if self.validation is not None and self.validation.weight is not None:
            raise ValueError("data.validation.weight has no meaning: leave it out")
        return self


class FittingConfig(Section):
    """Bodies fitted to 2D joints as supervision of labelled people without SMPL parameters, as in SPIN."""

    # Folder with NAME_fits.npy of the sources called NAME: SPIN's static fits, or those that another run improved.
    fits: Path | None = Field(default=None, strict=False)
    in_the_loop: bool = False  # every step fits anew from the model's answers (SMPLify) and keeps the better fit
    iterations: int = Field(default=100, gt=0)  # of each of SMPLify's two stages
    prior: Path | None = Field(default=None, strict=False)  # gmm_08.pkl of SMPLify or .npz; null: the shipped one
    max_score: float = Field(default=100.0, gt=0)  # worse fits do not supervise; square pixels of a 224 px crop

    @property
    def active(self) -> bool:
        """Whether there is anything to supervise with."""
        return self.in_the_loop or self.fits is not None

    @model_validator(mode="after")
    def _used(self) -> FittingConfig:
        for name in ("iterations", "prior"):
            if not self.in_the_loop and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"fitting.{name} belongs to fitting.in_the_loop, which is off")
        if not self.active and self.max_score != type(self).model_fields["max_score"].default:
            raise ValueError("fitting.max_score needs fitting.fits or fitting.in_the_loop")
        return self


class TrainConfig(Section):
    """The loop."""

    steps: int = Field(default=1000, gt=0)
    batch_size: int = Field(default=64, gt=0)  # over all processes
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_steps: int = Field(default=100, ge=0)
    decay: Literal["cosine", "constant"] = "cosine"
    grad_clip: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    amp: Literal["bf16", "off"] = "bf16"  # around the encoder only; diffusion stays in fp32
    workers: int = Field(default=1, ge=0)
    log_every: int = Field(default=20, gt=0)
    picture_every: int = Field(default=1000, gt=0)
    checkpoint_every: int = Field(default=1000, gt=0)
    validate_every: int = Field(default=2000, gt=0)
    statistics_items: int = Field(default=8192, gt=1)  # people whose parameters give the codec's mean and std


class Experiment(Section):
    """What training runs of all kinds have."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = Field(default=0, ge=0, lt=2**63)
    output: Path = Field(default=Path("runs"), strict=False)  # the run goes to output/name
    body: BodyConfig = BodyConfig()
    train: TrainConfig = TrainConfig()


class ExperimentConfig(Experiment):
    """Everything that defines a training run on pictures of people; stored inside its checkpoints."""

    # Checkpoint whose weights are the start. SPIN and Diff-HMR give each other encoder and regressor.
    # One of keypoints gives a model of images, with pooling joints, everything behind the detector.
    init: Path | None = Field(default=None, strict=False)
    # Checkpoint with an image encoder of pooling joints, whose backbone and detector are the start.
    init_detector: Path | None = Field(default=None, strict=False)
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    fitting: FittingConfig = FittingConfig()
    sampler: SamplerConfig = SamplerConfig()

    @model_validator(mode="after")
    def _sampler_fits(self) -> ExperimentConfig:
        # Validation would only find out after the first thousands of steps.
        if self.sampler.steps > self.model.diffusion.steps:
            raise ValueError(f"sampler.steps is {self.sampler.steps}, more than the {self.model.diffusion.steps} of "
                             "model.diffusion.steps")  # fmt: skip
        if self.sampler.eta and self.sampler.name != "ddim":
            raise ValueError(f"sampler.eta is {self.sampler.eta}, but it belongs to ddim: leave it at 0")
        return self

    @model_validator(mode="after")
    def _rows_to_fit(self) -> ExperimentConfig:
        if self.fitting.active and self.data.kind != "labelled":
            raise ValueError("fitting is for label files (data.kind: labelled): synthetic people have SMPL parameters")
        return self

    @model_validator(mode="after")
    def _images_for_image_encoder(self) -> ExperimentConfig:
        if self.model.encoder.kind == "image" and not self.data.images:
            raise ValueError("model.encoder.kind is image but data.images is off: switch data.images on")
        return self
