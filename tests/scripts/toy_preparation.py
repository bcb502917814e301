"""A data set for the tests of the shared part of preparations.

Environment variables say what befalls it: at the piece TOY_KILL_AT it is killed, at TOY_SLEEP_AT it sleeps; TOY_LOG is
a file that gets the name of each piece and the number of the process.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from diffhmr.errors import UserError
from scripts.preparation.contract import COUNT, Finding, Piece, State
from scripts.preparation.job import main

SPLITS = {"train": ("a", "b", "c"), "test": ("d",)}
SIZE = (90, 70)
PEOPLE = 2


@dataclass(frozen=True)
class Toy:
    """Pictures ``RAW/KEY/0.png`` and ``1.png`` with two people each; as files or as if they came from videos."""

    shift: float = 0.0
    videos: bool = False

    name = "toy"
    source = "https://example.org"
    licence = "none"

    def check(self, root: Path) -> list[Finding]:
        findings = []
        for split, keys in SPLITS.items():
            there = [key for key in keys if (root / key).is_dir()]
            state: State = "found" if len(there) == len(keys) else "incomplete" if there else "missing"
            detail = f"{len(there)} of {len(keys)} folders"
            findings.append(Finding(f"{split} folders", root, state, detail, True, "draw them", (split,)))
        findings.append(Finding("extras", root / "extras", "missing", needed=False, remedy="make them up"))
        return findings

    def pieces(self, root: Path, splits: Sequence[str] | None) -> list[Piece]:
        return [
            Piece(split, key, rows=2 * PEOPLE, picture_bytes=10_000 if self.videos else 0)
            for split in SPLITS
            if splits is None or split in splits
            for key in SPLITS[split]
            if (root / key).is_dir()
        ]

    def convert(self, root: Path, piece: Piece) -> dict[str, np.ndarray]:
        assert (root / piece.key).is_dir()
        if log := os.environ.get("TOY_LOG"):
            with open(log, "a", encoding="utf-8") as stream:
                stream.write(f"{piece.key} {os.getpid()}\n")
        if os.environ.get("TOY_KILL_AT") == piece.key:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("TOY_SLEEP_AT") == piece.key:
            time.sleep(60)
        if (root / piece.key / "damaged").exists():
            raise UserError(f"{root / piece.key} is damaged; draw it again")
        rng = np.random.default_rng(ord(piece.key))
        count = 2 * PEOPLE
        center = rng.uniform((20, 20), (70, 50), (count, 2)) + self.shift
        part = np.concatenate([center[:, None] + rng.uniform(-9, 9, (count, 24, 2)), np.ones((count, 24, 1))], axis=-1)
        part[:, 3] = 0
        return {
            "imgname": np.array([f"{piece.key}/{picture}.png" for picture in range(2) for _ in range(PEOPLE)]),
            "center": center,
            "scale": np.full(count, 20 / 200),
            "part": part,
            "bbox": np.concatenate([center - 8, np.full((count, 2), 16.0)], axis=1),
            "area": np.full(count, 200.0),
            f"{COUNT}people who walked away": np.array(1),
        }

    def image_root(self, root: Path) -> Path:
        return root

    def extracted_images(self, root: Path, piece: Piece) -> Iterator[tuple[str, np.ndarray]] | None:
        return self._frames(root, piece) if self.videos else None

    def _frames(self, root: Path, piece: Piece) -> Iterator[tuple[str, np.ndarray]]:
        for picture in range(2):
            image = cv2.imread(str(root / piece.key / f"{picture}.png"))
            if image is not None:  # as a video that is too short
                yield f"{piece.key}/{picture}.png", image


def write_toy(root: Path) -> None:
    """The pictures: smooth, so that JPEG hardly changes them."""
    across, down = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    for keys in SPLITS.values():
        for key in keys:
            for picture in range(2):
                path = root / key / f"{picture}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image = np.stack([across * 2, down * 2, np.full_like(down, 40 * picture)], axis=-1).astype(np.uint8)
                assert cv2.imwrite(str(path), image)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shift", type=float, default=0.0)
    parser.add_argument("--videos", action="store_true")


def prepare(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return main(lambda arguments: Toy(arguments.shift, arguments.videos), argv, add_options=_add_options)
