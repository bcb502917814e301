"""Maps of joints: positions are those of the maps, and what is behind them is the network of keypoints."""

from __future__ import annotations

import pytest
import torch

from diffhmr.batch import ImageBatch
from diffhmr.body.joints import COCO17_FROM_SPIN49
from diffhmr.models.encoders import ImageEncoder, KeypointMlpEncoder
from diffhmr.models.joint_detector import NUM_JOINTS, NUM_PARTS, JointDetector, expected_positions


def test_a_single_hot_cell_is_the_position() -> None:
    scores = torch.zeros(1, 2, 4, 8)
    scores[0, 0, 1, 6] = 100.0
    scores[0, 1, 3, 0] = 100.0
    positions, peaks = expected_positions(scores)
    # Column 6 of 8 and row 1 of 4: cell centres at (6.5 / 8, 1.5 / 4) of the picture.
    assert torch.allclose(positions[0, 0], torch.tensor([2 * 6.5 / 8 - 1, 2 * 1.5 / 4 - 1]), atol=1e-5)
    assert torch.allclose(positions[0, 1], torch.tensor([2 * 0.5 / 8 - 1, 2 * 3.5 / 4 - 1]), atol=1e-5)
    assert torch.allclose(peaks, torch.ones(1, 2), atol=1e-5)


def test_equal_scores_mean_the_centre_and_two_cells_their_middle() -> None:
    scores = torch.full((1, 2, 4, 4), -100.0)
    scores[0, 0] = 0.0
    scores[0, 1, 0, 0] = scores[0, 1, 0, 2] = 0.0
    positions, peaks = expected_positions(scores)
    assert torch.allclose(positions[0, 0], torch.zeros(2), atol=1e-6)
    assert torch.allclose(positions[0, 1], torch.tensor([-0.25, -0.75]), atol=1e-6)
    assert torch.allclose(peaks[0], torch.tensor([1 / 16, 1 / 2]), atol=1e-6)


def test_half_precision_scores_give_float32_positions() -> None:
    positions, peaks = expected_positions(torch.randn(2, 3, 4, 4).bfloat16())
    assert positions.dtype == peaks.dtype == torch.float32


def test_shapes_of_the_maps() -> None:
    torch.manual_seed(0)
    detector = JointDetector((4, 8, 16), 16)
    features = [torch.randn(3, 4, 8, 8), torch.randn(3, 8, 4, 4), torch.randn(3, 16, 2, 2)]
    maps = detector(features, torch.randn(3, 16))
    assert maps.scores.shape == (3, NUM_JOINTS, 16, 16)
    assert maps.parts.shape == (3, NUM_PARTS, 16, 16)
    assert maps.visible.shape == (3, NUM_JOINTS)


@pytest.mark.parametrize("size", [64, 96, 128])
def test_a_mirrored_map_mirrors_the_positions(size: int) -> None:
    scores = torch.randn(2, NUM_JOINTS, size // 8, size // 8, generator=torch.Generator().manual_seed(size))
    positions, _ = expected_positions(scores)
    mirrored, _ = expected_positions(scores.flip(-1))
    assert torch.allclose(mirrored[..., 0], -positions[..., 0], atol=1e-6)
    assert torch.allclose(mirrored[..., 1], positions[..., 1], atol=1e-6)


def test_encoder_sees_where_a_bright_spot_is() -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder("resnet18", pooling="joints", width=64, layers=1).eval()
    image = torch.zeros(2, 3, 64, 64)
    image[0, :, 8:16, 8:16] = 1
    image[1, :, 48:56, 48:56] = 1
    with torch.no_grad():
        z, maps = encoder(ImageBatch(torch.arange(2), image=image))
    assert z.shape == (2, encoder.dim) == (2, 64)
    assert maps is not None and maps.scores.shape == (2, NUM_JOINTS, 16, 16)
    left, right = expected_positions(maps.scores)[0]
    # Random maps react to the spot one way or the other; all that is asked is that the place matters.
    assert (left - right).abs().amax() > 1e-4


def test_z_is_that_of_the_keypoint_network_for_the_detected_points() -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder("resnet18", pooling="joints", width=64, layers=2).eval()
    keypoints = KeypointMlpEncoder(64, 2).eval()
    keypoints.load_state_dict(encoder.lifter.state_dict())
    torch.nn.init.zeros_(encoder.appearance.output.weight)
    torch.nn.init.constant_(encoder.detector.visible.bias, 40.0)  # certain that all are seen
    with torch.no_grad():
        z, maps = encoder(ImageBatch(torch.arange(2), image=torch.rand(2, 3, 64, 64)))
        positions = expected_positions(maps.scores)[0][:, list(COCO17_FROM_SPIN49)]
        points = torch.cat([positions, torch.ones(2, 17, 1)], dim=-1)
        expected = keypoints(ImageBatch(torch.arange(2), keypoints=points)).z
    torch.testing.assert_close(z, expected, atol=1e-5, rtol=0)
