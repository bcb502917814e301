"""Test-time guidance by 2D keypoints: hypotheses are pulled to bodies that project onto them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from diffhmr.geometry.camera import project_crop


@dataclass(frozen=True)
class KeypointGuidance:
    """Observed keypoints and how much they are trusted.

    Attributes:
        keypoints: ``[B, 17, 3]`` COCO-17 points: x, y in [-1, 1] over the box, confidence (0 = unseen).
        deviation: standard deviation of a point with confidence 1, in the same unit.
        outlier: distance at which a point's pull begins to fade, in the same unit (the scale of Geman and McClure).
        scale: strength; 1 treats the loss as a negative log-likelihood.
        iterations: gradient evaluations per sampling step.
    """

    keypoints: Tensor
    deviation: float = 0.03
    outlier: float = 0.2
    scale: float = 1.0
    iterations: int = 5

    def items(self, index: slice) -> KeypointGuidance:
        """The guidance of some of the items."""
        return replace(self, keypoints=self.keypoints[index])

    def loss(self, joints: Tensor, camera: Tensor) -> Tensor:
        """Robust negative log-likelihood ``[B, S]`` of the keypoints.

        Args:
            joints: COCO-17 joints of the hypotheses ``[B, S, 17, 3]``.
            camera: ``[B, S, 3]``.
        """
        observed = self.keypoints.to(joints).unsqueeze(1)
        squared = (project_crop(joints, camera) - observed[..., :2]).square().sum(-1)
        bound = self.outlier**2
        robust = squared * bound / (squared + bound)
        return (observed[..., 2] * robust).sum(-1) / (2 * self.deviation**2)
