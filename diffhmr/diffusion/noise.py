"""Random numbers that belong to a sample, not to a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor


def sample_seed(seed: int, item_id: int | str, k: int) -> int:
    """A stable seed in [0, 2^63) for hypothesis ``k`` of one item: the same in every process and on every platform."""
    digest = hashlib.blake2b(f"{seed}/{item_id}/{k}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Noise(Protocol):
    """What stochastic samplers draw from."""

    def draw(
        self, shape: Sequence[int], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The next ``[N, *shape]`` of noise for N samples."""
        ...


class SampleNoise:
    """Unit normal noise for N samples, each from a generator of its own.

    A sample's numbers depend on its seed and on how often noise was drawn, never on its neighbours in the batch. They
    are drawn on the CPU, so that every device sees the same ones. A generator is made at a sample's first draw; a
    deterministic sampler draws once, for the start of the chain.

    Args:
        seeds: one per sample, see :func:`sample_seed`.
        zero: per sample, True for the zero-noise path: it starts at zero and gets zero at every stochastic step. None
            means that every sample is random.

    Raises:
        ValueError: the two have different lengths.
    """

    def __init__(self, seeds: Sequence[int], zero: Sequence[bool] | Tensor | None = None) -> None:
        self._seeds = [int(seed) for seed in seeds]
        self._zero = [False] * len(self._seeds) if zero is None else [bool(flag) for flag in zero]
        if len(self._zero) != len(self._seeds):
            raise ValueError(f"{len(self._seeds)} seeds but {len(self._zero)} zero-noise flags")
        self._generators: list[torch.Generator | None] = [None] * len(self._seeds)

    @classmethod
    def for_items(cls, seed: int, item_ids: Iterable[int | str] | Tensor, num_samples: int) -> SampleNoise:
        """Noise for ``B * num_samples`` samples in item-major order; hypothesis 0 of every item is the zero-noise one.

        Hypothesis k of an item gets the same noise however many hypotheses are asked for.
        """
        items = item_ids.tolist() if isinstance(item_ids, Tensor) else list(item_ids)
        seeds = [sample_seed(seed, item, k) for item in items for k in range(num_samples)]
        return cls(seeds, [k == 0 for _ in items for k in range(num_samples)])

    def __len__(self) -> int:
        return len(self._seeds)

    def draw(
        self, shape: Sequence[int], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The next ``[N, *shape]`` of unit normal noise; zero for the samples of the zero-noise path."""
        noise = torch.zeros(len(self._seeds), *shape, dtype=dtype)
        for index, (row, seed, zero) in enumerate(zip(noise.unbind(0), self._seeds, self._zero, strict=True)):
            if zero:
                continue
            generator = self._generators[index]
            if generator is None:
                generator = torch.Generator().manual_seed(seed)
                self._generators[index] = generator
            row.normal_(generator=generator)
        return noise.to(device)
