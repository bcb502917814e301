"""Per-sample noise: reproducible, independent of the batch, zero where asked."""

from __future__ import annotations

import pytest
import torch

from diffhmr.diffusion.noise import SampleNoise, sample_seed


def test_seed_is_stable_across_processes_and_distinct() -> None:
    assert sample_seed(0, 7, 3) == sample_seed(0, 7, 3) == 8741953730061701127
    seeds = {sample_seed(seed, item, k) for seed in range(5) for item in range(20) for k in range(20)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert sample_seed(0, "photo.jpg", 0) != sample_seed(0, "photo.png", 0)
    assert sample_seed(1, 11, 1) != sample_seed(11, 1, 1)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    seeds = [sample_seed(0, 3, k) for k in range(5)]
    together, alone = SampleNoise(seeds), SampleNoise(seeds[2:3])
    for _ in range(3):
        assert torch.equal(together.draw((4, 6))[2:3], alone.draw((4, 6)))


def test_successive_draws_are_unit_normal_and_differ() -> None:
    noise = SampleNoise(range(2000))
    first, second = noise.draw((20,)), noise.draw((20,))
    assert not torch.equal(first, second)
    joint = torch.cat([first, second], dim=1)
    assert joint.mean().abs().item() < 0.02
    torch.testing.assert_close(torch.cov(joint.T), torch.eye(40), atol=0.12, rtol=0)


def test_zero_noise_path_is_zero_at_every_draw_and_disturbs_nobody() -> None:
    masked = SampleNoise([1, 2, 3], zero=[False, True, False])
    plain = SampleNoise([1, 2, 3])
    for _ in range(3):
        with_zero, without = masked.draw((5,)), plain.draw((5,))
        assert torch.equal(with_zero[1], torch.zeros(5))
        assert torch.equal(with_zero[[0, 2]], without[[0, 2]])


def test_for_items_puts_the_zero_path_first_and_keeps_hypotheses_when_more_are_asked_for() -> None:
    few = SampleNoise.for_items(4, torch.tensor([10, 20]), 3).draw((6,)).reshape(2, 3, 6)
    many = SampleNoise.for_items(4, [20], 8).draw((6,)).reshape(1, 8, 6)
    assert bool((few[:, 0] == 0).all()) and bool((few[:, 1:] != 0).all())
    assert torch.equal(few[1], many[0, :3])


def test_lengths_must_agree_and_length_is_known() -> None:
    assert len(SampleNoise([1, 2])) == 2
    with pytest.raises(ValueError, match="2 seeds but 1"):
        SampleNoise([1, 2], zero=[True])


@pytest.mark.gpu
def test_cuda_gets_the_numbers_of_the_cpu() -> None:
    cpu = SampleNoise([5, 6]).draw((9,))
    assert torch.equal(SampleNoise([5, 6]).draw((9,), "cuda").cpu(), cpu)
