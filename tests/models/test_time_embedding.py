from __future__ import annotations

import pytest
import torch

from diffhmr.models.time_embedding import TimeEmbedding, sinusoidal


def test_sinusoids_of_known_angles() -> None:
    embedding = sinusoidal(torch.tensor([[0, 1000]]), 4)
    assert embedding.shape == (1, 2, 4)
    torch.testing.assert_close(embedding[0, 0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    angles = torch.tensor([1000.0, 0.1])
    torch.testing.assert_close(embedding[0, 1], torch.cat([angles.sin(), angles.cos()]), atol=1e-4, rtol=0)


def test_all_indices_are_told_apart() -> None:
    embedding = sinusoidal(torch.arange(1000), 64)
    distance = torch.cdist(embedding, embedding) + 10 * torch.eye(1000)
    assert distance.min().item() > 0.1


@pytest.mark.parametrize("dim", [2, 7])
def test_odd_sizes_are_refused(dim: int) -> None:
    with pytest.raises(ValueError, match="even size"):
        sinusoidal(torch.arange(3), dim)


def test_embedding_has_the_asked_size() -> None:
    assert TimeEmbedding(16, 24)(torch.zeros(2, 3, dtype=torch.long)).shape == (2, 3, 24)
