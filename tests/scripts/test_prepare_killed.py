"""Every preparation that gets SIGKILL and is started again makes, byte for byte, what an undisturbed one makes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from diffhmr.body.model import BodyModel
from scripts.preparation import people2d
from scripts.preparation.outputs import Output
from tests.releases.amass import write_amass
from tests.releases.coco import write_coco
from tests.releases.emdb import write_emdb
from tests.releases.h36m import write_h36m
from tests.releases.hr_lspet import write_hr_lspet
from tests.releases.lsp import write_lsp
from tests.releases.mpi_inf_3dhp import write_mpi_inf_3dhp
from tests.releases.mpii import write_mpii
from tests.releases.three_dpw import write_three_dpw
from tests.scripts.preparing import run_until_killed, tree

RELEASES: dict[str, Callable[[Path, BodyModel], object]] = {
    "3dpw": write_three_dpw,
    "amass": lambda root, _: write_amass(root),
    "coco": write_coco,
    "emdb": write_emdb,
    "h36m": partial(write_h36m, people=6, scenes=[("S1", "Directions 1")]),
    "hr_lspet": partial(write_hr_lspet, people=3),
    "lsp": write_lsp,
    "motion3d": lambda root, _: write_amass(root),
    "mpi_inf_3dhp": partial(write_mpi_inf_3dhp, people=11, sequences=[("S1", "Seq1")]),
    "mpii": write_mpii,
}
SPLITS = {"emdb": "emdb1"}
KEPT = 1


def words(folder: Path, name: str, out: str) -> list[str]:
    split = SPLITS.get(name, "train")
    return ["--root", str(folder / "raw" / name), "--out", str(folder / out / name), "--splits", split, "--partial"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, free_body: BodyModel) -> Path:
    """``raw`` has all releases, ``killed`` what preparations leave when they are killed in their second piece."""
    made = tmp_path_factory.mktemp("killed")
    for name, write in RELEASES.items():
        write(made / "raw" / name, free_body)
    commands = [(f"scripts.prepare_{name}", words(made, name, "killed")) for name in RELEASES]
    run_until_killed(commands, after=KEPT)
    return made


def test_no_preparation_is_forgotten() -> None:
    scripts = (Path(__file__).parents[2] / "scripts").glob("prepare_*.py")
    assert sorted(path.stem.removeprefix("prepare_") for path in scripts) == sorted(RELEASES)


@pytest.mark.parametrize("name", RELEASES)
def test_killed_and_started_again_gives_the_same_bytes(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    save = Output.save

    def counted(self: Output, piece: people2d.Piece, rows: people2d.Rows) -> None:
        done.append(piece.key)
        save(self, piece, rows)

    monkeypatch.setattr(Output, "save", counted)
    monkeypatch.setattr(people2d, "PIECE_ROWS", 1)
    main = import_module(f"scripts.prepare_{name}").main
    left = [Path(path) for path in tree(folder / "killed" / name)]
    assert len([path for path in left if path.parts[0] == ".parts" and path.suffix == ".npz"]) == KEPT
    assert all(path.parts[0] in (".parts", "images") for path in left)

    assert main(words(folder, name, "killed")) == 0
    after = done.copy()
    assert main(words(folder, name, "whole")) == 0
    assert done[len(after) :][KEPT:] == after and after
    assert tree(folder / "killed" / name) == tree(folder / "whole" / name)
