"""Fits as supervision: SPIN's loop of a regressor that starts SMPLify and of SMPLify that supervises the regressor.

Kolotouros et al., "Learning to Reconstruct 3D Human Pose and Shape via Model-fitting in the Loop", ICCV 2019, section
3.5. People with SMPL labels keep them. For the others the dictionary has the best fit so far; it supervises if it lies
well enough on the 2D joints. With ``fitting.in_the_loop`` every visit makes a new fit, which begins at the present
model's answer, and the better of old and new stays.

Unlike in SPIN, fits are made and compared in the frame of the label's own box: what the model says of an augmented crop
is first taken back there. Scores of different visits are then of one kind, and no fit is replaced by a worse one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Targets
from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import ExperimentConfig
from diffhmr.datasets.augment import draw_augmentation, mirror, turn
from diffhmr.datasets.mixture import Member
from diffhmr.errors import UserError
from diffhmr.fitting.fits import FitDictionary, Source, fit_values
from diffhmr.fitting.prior import load_prior
from diffhmr.fitting.smplify import MIN_JOINTS, camera_for, labelled_joints, reprojection_score, smplify
from diffhmr.geometry.camera import box_to_normalised
from diffhmr.models import HmrModel
from diffhmr.training.processes import Processes

FITS_FOLDER = "fits"
EXTREME_BETA = 3.0
"""A fit with a larger coefficient, up or down, supervises with the mean shape in its place."""


class FitSupervision:
    """The dictionary of fits of a run, and what is done with it in every step.

    Args:
        config: the experiment; fits are wanted.
        members: its label files, in the order of the settings.
        body: that is fitted, on the device of the model.
        processes: of the run; all hold the same dictionary.

    Attributes:
        fits: the dictionary.
        shares: of the last batch: ``used`` of its people are supervised by a fit, and for ``improved`` the fit became
            better in this step; scalar tensors.

    Raises:
        UserError: the folder of the fits or the pose prior cannot be used.
    """

    def __init__(
        self, config: ExperimentConfig, members: Sequence[Member], body: BodyModel, processes: Processes
    ) -> None:
        self._config = config
        self._settings = config.fitting
        self._members = list(members)
        self._first = np.array([member.first for member in members])
        self._body = body
        self._processes = processes
        self.shares: dict[str, Tensor] = {}
        sources = [Source(_file_name(member.name), len(member.labels)) for member in members]
        self.fits = FitDictionary(sources)
        if self._settings.fits is not None:
            self.fits.load(self._settings.fits)
        self._prior = load_prior(self._settings.prior).to(processes.device) if self._settings.in_the_loop else None

    def supervise(self, batch: ImageBatch, model: HmrModel | None) -> ImageBatch:
        """``batch`` with the fits of those people as targets who have no SMPL labels.

        Args:
            batch: of the training data, on the device of the body.
            model: whose answers start new fits; None: the fits that are there are used. It keeps its mode.
        """
        targets = batch.targets
        assert targets is not None and targets.item is not None, "only rows of label files can be fitted"
        items = targets.item.cpu()
        keypoints = self._keypoints(items).to(batch.device)
        wanted = ~targets.has_params & (labelled_joints(keypoints) >= MIN_JOINTS)
        self._rate(items, keypoints, wanted)
        improved = torch.zeros_like(wanted)
        if self._prior is not None and model is not None:
            improved = self._fit(batch, model, items, keypoints, wanted)
        used = wanted & (self.fits.score[items].to(batch.device) < self._settings.max_score)
        self.shares = {"used": used.float().mean(), "improved": improved.float().mean()}
        return replace(batch, targets=self._with_fits(targets, batch.item_seed, items, used))

    def save(self, folder: Path, step: int) -> None:
        """Write the dictionary for the state of ``step`` into the run's folder; those of other states stay."""
        if self._settings.in_the_loop:
            self.fits.save(folder / FITS_FOLDER / str(step))

    def forget_others(self, folder: Path, step: int) -> None:
        """Delete what :meth:`save` wrote for other steps: the state of ``step`` is in place."""
        if self._settings.in_the_loop:
            for other in (folder / FITS_FOLDER).iterdir():
                # Copies and notes that somebody keeps there are not ours.
                if other.name.isdigit() and other.is_dir() and other.name != str(step):
                    shutil.rmtree(other)

    def restore(self, folder: Path, step: int) -> None:
        """Go on with the dictionary of ``step``.

        Raises:
            UserError: it is missing or damaged.
        """
        if self._settings.in_the_loop:
            self.fits.load(folder / FITS_FOLDER / str(step), complete=True)

    def _keypoints(self, items: Tensor) -> Tensor:
        """2D labels ``[B, 49, 3]`` of the rows ``items [B]`` in [-1, 1] over the box of the label."""
        rows = items.numpy()
        files = np.searchsorted(self._first, rows, side="right") - 1
        parts = []
        for file, row in zip(files.tolist(), rows.tolist(), strict=True):
            labels, place = self._members[file].labels, row - self._first[file]
            points, centre, side = labels.keypoints[place], labels.center[place], labels.side[place]
            parts.append((torch.from_numpy(points), torch.from_numpy(centre), torch.tensor(side)))
        points, centre, side = (torch.stack(values).float() for values in zip(*parts, strict=True))
        return torch.cat([box_to_normalised(points[..., :2], centre, side), points[..., 2:]], dim=-1)

    def _rate(self, items: Tensor, keypoints: Tensor, wanted: Tensor) -> None:
        """Give scores to the fits that were read without."""
        if not bool(self.fits.score[items].isnan().any()):
            return
        params = self.fits.params(items).to(keypoints.device)
        camera = camera_for(params, self._body, keypoints)
        score = reprojection_score(self._body.joints(params, SPIN49), camera, keypoints)
        self.fits.rate(items, torch.where(wanted, score, torch.nan).cpu())

    def _fit(self, batch: ImageBatch, model: HmrModel, items: Tensor, keypoints: Tensor, wanted: Tensor) -> Tensor:
        """Make new fits where ``wanted [B]`` and keep the better ones; bool ``[B]``: a fit became better."""
        assert self._prior is not None
        values = torch.zeros(len(items), self.fits.values.shape[1], device=batch.device)
        score = torch.full((len(items),), torch.inf, device=batch.device)
        if bool(wanted.any()):
            start = self._predict(_rows_of(batch, wanted), model)
            fit = smplify(self._body, self._prior, keypoints[wanted], start, iterations=self._settings.iterations)
            values[wanted], score[wanted] = fit_values(fit.params), fit.score
        known = self.fits.score[items].to(batch.device)
        mine = (items.to(batch.device), known, values, score)
        all_items, all_known, *all_new = (self._processes.gather(value).cpu() for value in mine)
        self.fits.rate(all_items, all_known)
        taken = self.fits.improve(all_items, *all_new).to(batch.device)
        first = self._processes.rank * len(items)
        return taken[first : first + len(items)]

    def _predict(self, batch: ImageBatch, model: HmrModel) -> SmplParams:
        """The model's single answers, taken back to the pictures as they are."""
        training = model.training
        model.eval()
        prediction = model.sample(batch, 1, self._config.sampler, self._config.seed)
        model.train(training)
        flip, angle = self._augmentation(batch.item_seed)
        params = prediction.params.map(lambda value: value[:, 0])
        nobody = params.betas.new_zeros(len(flip), 49, 4)
        return turn(mirror(params, nobody, flip)[0], nobody, -angle)[0]

    def _augmentation(self, item_seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the items ``[B]`` are mirrored, and the angles by which they are turned before, radians."""
        augmentation = draw_augmentation(item_seeds.cpu().numpy(), self._config.data.augment)
        flip, angle = torch.from_numpy(augmentation.flip), torch.from_numpy(augmentation.rotation).float()
        return flip.to(item_seeds.device), angle.to(item_seeds.device)

    def _with_fits(self, targets: Targets, item_seeds: Tensor, items: Tensor, used: Tensor) -> Targets:
        """``targets`` with the fits of ``items [B]`` where ``used [B]``, in the frame of the augmented crops."""
        params = self.fits.params(items).to(used.device)
        extreme = (params.betas.abs() > EXTREME_BETA).any(-1, keepdim=True)
        params = SmplParams(params.global_orient, params.body_pose, torch.where(extreme, 0, params.betas))
        flip, angle = self._augmentation(item_seeds)
        nobody = params.betas.new_zeros(len(flip), 49, 4)
        params = mirror(turn(params, nobody, angle)[0], nobody, flip)[0]
        camera = camera_for(params, self._body, targets.joints2d)
        placed = used & (labelled_joints(targets.joints2d) >= MIN_JOINTS)
        return replace(
            targets,
            params=_choose(used, params, targets.params),
            has_params=targets.has_params | used,
            camera=torch.where(placed.unsqueeze(-1), camera, targets.camera),
            has_camera=targets.has_camera | placed,
        )


def _choose(where: Tensor, params: SmplParams, other: SmplParams) -> SmplParams:
    """``params [B]`` where ``where [B]``, else ``other [B]``."""
    return SmplParams.from_rotations(
        torch.where(where[:, None, None, None], params.rotations, other.rotations),
        torch.where(where[:, None], params.betas, other.betas),
    )


def _rows_of(batch: ImageBatch, chosen: Tensor) -> ImageBatch:
    """The input of some of the people."""
    image, keypoints = (None if value is None else value[chosen] for value in (batch.image, batch.keypoints))
    return ImageBatch(batch.item_seed[chosen], image, keypoints)


def _file_name(name: str) -> str:
    """``name``, if it can be part of the name of a file.

    Raises:
        UserError: it cannot.
    """
    if not re.fullmatch(r"[\w.+-]+", name):
        raise UserError(f"data.sources: {name!r} gives its name to a file of fits; use letters, digits, '-', '_', '.'")
    return name
