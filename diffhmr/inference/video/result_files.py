"""The folder of a video's results: what is written there, that no input is lost by it, and what lay there before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffhmr.errors import UserError
from diffhmr.files import ensure_folder, remove_leftovers
from diffhmr.inference.video.exports import Export

_ENDINGS: dict[Export, str] = {"glb": ".glb", "bvh": ".bvh", "obj": "_obj"}
_FOLDERS = ("_obj",)
_NAMES = re.compile(r"track\d+(\.npz|\.json|\.glb|\.bvh|_obj|_skeleton\.mp4)|overlay\.mp4")


@dataclass(frozen=True)
class ResultFolder:
    """Where the results of a video go.

    Attributes:
        path: the folder; need not exist.
        exports: further files per track.
        pictures: the overlay and the skeleton videos are written.
        inputs: files and folders that are read.
    """

    path: Path
    exports: tuple[Export, ...]
    pictures: bool
    inputs: tuple[Path, ...]

    def stem(self, track_id: int) -> Path:
        """What the paths of a track's files begin with."""
        return self.path / f"track{track_id}"

    @property
    def overlay(self) -> Path:
        """The video with everybody."""
        return self.path / "overlay.mp4"

    def targets(self, track_ids: Iterable[int]) -> list[Path]:
        """All files, and folders of meshes, that are written if these tracks are."""
        endings = [".npz", ".json", *(_ENDINGS[kind] for kind in self.exports)]
        endings += ["_skeleton.mp4"] if self.pictures else []
        paths = [self.path / f"{self.stem(number).name}{ending}" for number in track_ids for ending in endings]
        return paths + ([self.overlay] if self.pictures else [])

    def check(self, track_ids: Iterable[int] = ()) -> None:
        """Make sure before the work that its results can be written and no input is lost by that.

        Args:
            track_ids: whose files are written; without any, what is written in any case is looked at.

        Raises:
            UserError: a result would overwrite an input or lie among the files of one, or something else is in its
                place.
        """
        if self.path.exists():
            ensure_folder(self.path)
        for target in self.targets(track_ids):
            for given in self.inputs:
                if _same(target, given):
                    raise UserError(f"the demo would overwrite its input {given}; choose another --out")
                if given.is_dir() and _same(self.path, given):
                    raise UserError(f"{target} would lie among the files of the input {given}; choose another --out")
            if target.exists() and target.is_dir() != target.name.endswith(_FOLDERS):
                what = "folder" if target.is_dir() else "file"
                raise UserError(f"cannot write {target}: a {what} of this name is there; choose another --out")

    def clean(self, track_ids: Iterable[int]) -> None:
        """Delete what killed runs left half written of the files of these tracks. No other run may be at work there."""
        for target in self.targets(track_ids):
            remove_leftovers(target)

    def left(self, written: Sequence[Path]) -> list[Path]:
        """Results of earlier runs in the folder that are not among those ``written`` now; inputs are none."""
        known = {path.name for path in written}
        return sorted(
            path
            for path in self.path.iterdir()
            if _NAMES.fullmatch(path.name) and path.name not in known
            if not any(_same(path, given) for given in self.inputs)
        )


def _same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file or folder, also by links and where case does not matter."""
    return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))
