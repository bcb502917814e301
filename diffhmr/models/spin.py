"""The deterministic baseline: SPIN's network (Kolotouros et al., ICCV 2019) in the same loop as Diff-HMR."""

from __future__ import annotations

import torch

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.config import SamplerConfig
from diffhmr.errors import UserError
from diffhmr.models.point_estimator import PointEstimator, without_autocast


class SPIN(PointEstimator):
    """Encoder and iterative regressor; one answer per item."""

    @torch.no_grad()
    def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:  # noqa: ARG002
        """``num_samples`` identical hypotheses; ``sampler`` and ``seed`` are those of the common interface.

        Raises:
            UserError: ``num_samples`` is below 1.
        """
        if num_samples < 1:
            raise UserError(f"the number of samples must be at least 1, got {num_samples}")
        z = self.encode(batch)
        with without_autocast(z):
            estimate = self.regressor(z)
        params = estimate.params.map(lambda value: value.unsqueeze(1).repeat_interleave(num_samples, dim=1))
        camera = estimate.camera.unsqueeze(1).repeat_interleave(num_samples, dim=1)
        return Prediction(params, camera, deterministic=True)
