"""The best model of a run: chosen by validation, kept through interruptions, never by a test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffhmr.config import DataConfig, SourceConfig
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.config_file import load_config
from diffhmr.errors import UserError
from diffhmr.model_file import read_header
from diffhmr.training import loop
from diffhmr.training.build import build_task
from diffhmr.training.clip_task import ClipTask
from diffhmr.training.loop import run
from diffhmr.training.selection import BEST_FILE, BestSoFar, Criterion
from tests.training.runs import ALONE, ROOT, make_clip_config, make_config, run_until
from tests.training.test_task import Line, LineTask
from tests.training.test_task import make_clip_config as make_line_config

ERROR = Criterion(("error",))


class ScriptedTask(LineTask):
    """Its validations give ``scores`` one after the other; every second one is that of the averaged weights."""

    chooses = ERROR
    scores: tuple[float, ...] = ()

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.seen: dict[int, dict[str, torch.Tensor]] = {}
        self.count = 0

    def validate(self, model: Line) -> dict[str, float]:
        # At step n, so that a run that goes on sees what one sees that never stopped.
        number = self.number()
        self.count += 1
        if self.count % 2 == 1:
            return {"error": -1e9}  # of the weights as they are: they are not what is kept
        self.seen[number] = {name: value.clone() for name, value in model.state_dict().items()}
        return {"error": self.scores[number]}

    def number(self) -> int:
        return self.first + self.count // 2

    first = 0


def script(monkeypatch: pytest.MonkeyPatch, *scores: float, chooses: Criterion | None = ERROR) -> list[ScriptedTask]:
    made: list[ScriptedTask] = []

    def build(config: Any, _: Any, *, resumed: bool = False) -> ScriptedTask:
        task = ScriptedTask(config)
        task.scores, task.chooses = scores, chooses  # type: ignore[misc]
        task.first = 3 if resumed else 0
        made.append(task)
        return task

    monkeypatch.setattr(loop, "build_task", build)
    return made


def read_best(folder: Path) -> tuple[str, str]:
    header = read_header(folder / "run" / BEST_FILE)
    return header["step"], header["validation"]


def test_the_best_validation_keeps_its_averaged_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = script(monkeypatch, 3.0, 1.5, float("nan"), 1.5, 2.0, 4.0)
    with caplog.at_level("INFO"):
        last = run(make_line_config(tmp_path, validate_every=1, ema_decay=0.5))
    assert read_best(tmp_path) == ("2", '{"error": 1.5}')
    best = load_file(tmp_path / "run" / BEST_FILE)
    assert all(torch.equal(best[name], value) for name, value in made[0].seen[1].items())
    assert not torch.equal(best["network.weight"], load_file(last)["network.weight"])
    assert read_header(last)["step"] == "6" and "validation" not in read_header(last)
    assert f"best on the validation data: error 1.5, in {tmp_path / 'run' / BEST_FILE}" in caplog.text


def test_more_can_be_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, 0.5, 0.9, 0.9, 0.2, 0.1, 0.0, chooses=Criterion(("other", "error"), higher=True))
    run(make_line_config(tmp_path, validate_every=1))
    assert read_best(tmp_path) == ("2", '{"error": 0.9}')


def test_nothing_is_kept_without_a_criterion_or_its_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, chooses in (("a", None), ("b", Criterion(("unknown",)))):
        script(monkeypatch, *range(6), chooses=chooses)
        caplog.clear()
        with caplog.at_level("INFO"):
            run(make_line_config(tmp_path / name, validate_every=1))
        assert not (tmp_path / name / "run" / BEST_FILE).exists()
        assert ("the validation data are a test set, which chooses nothing" in caplog.text) == (chooses is None)


@pytest.mark.parametrize(("later", "kept"), [((5.0, 2.0, 9.0), "3"), ((5.0, 0.5, 9.0), "5")])
def test_a_run_that_goes_on_remembers_its_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: tuple[float, ...], kept: str
) -> None:
    """Killed at step 4, before that step's checkpoint: it goes on at step 3, whose score was the best."""
    script(monkeypatch, 3.0, 2.0, 1.0, *later)
    config = make_line_config(tmp_path, validate_every=1, checkpoint_every=3)
    run_until(config, 4, monkeypatch)
    assert read_best(tmp_path) == ("3", '{"error": 1.0}')
    run(config, resume=True)
    assert read_best(tmp_path)[0] == kept


def test_a_damaged_best_model_stops_a_run_before_it_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, *range(6))
    config = make_line_config(tmp_path, validate_every=1)
    path = run(config).with_name(BEST_FILE)
    longer = config.model_copy(update={"train": config.train.model_copy(update={"steps": 8})})
    for header in (None, {"validation": "{}"}, {"validation": '{"error": "low"}'}, {"validation": "[1]"}):
        save_file({"x": torch.zeros(1)}, path, metadata=header)
        with pytest.raises(UserError, match=r"best.safetensors has a damaged header \(validation\).*or delete it"):
            run(longer, resume=True)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="is truncated or no safetensors file"):
        run(longer, resume=True)


def test_a_score_of_another_name_is_no_measure() -> None:
    best = BestSoFar(Path("none"), Criterion(("first", "second")))
    assert best.improved_by({"second": 5.0, "third": 0.0}) and best.header() == {"validation": '{"second": 5.0}'}
    assert not best.improved_by({"second": 6.0})
    assert best.improved_by({"first": 7.0, "second": 1.0})
    assert best.header() == {"validation": '{"first": 7.0}'}


TASKS: list[tuple[str, dict[str, Any], str]] = [
    ("mesh", {"model": {"head": "motionbert"}}, "mode_mpvpe_mm"),
    ("pose3d", {"model": {"head": "lifting"}}, "mpjpe_mm"),
    ("pretrain", {"model": {"head": "lifting"}}, "mpjpe_mm"),
    (
        "action",
        {"model": {"head": "classifier"}, "data": {"activities": ["walk", "wave"], "frames": 6, "test_frames": 6}},
        "top1",
    ),
    (
        "action",
        {"model": {"head": "embedding"}, "data": {"activities": ["walk", "wave"], "frames": 6, "test_frames": 6}},
        "nearest",
    ),
]


@pytest.mark.parametrize(("task", "sections", "name"), TASKS)
def test_every_task_on_clips_has_its_score(
    tmp_path: Path, task: str, sections: dict[str, dict[str, Any]], name: str
) -> None:
    config = make_clip_config(tmp_path, task, **sections, train={"steps": 1, "batch_size": 4})
    run(config)
    assert name in read_best(tmp_path)[1]


def test_people_have_theirs(tmp_path: Path) -> None:
    run(make_config(tmp_path, train={"steps": 1}))
    assert "mode_mpjpe_mm" in read_best(tmp_path)[1]


CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
ON_TEST_SETS = {"diffmesh_ours", "diffmesh_paper", "diffmesh_released", "diffmesh_refine_pw3d", "motionbert_mesh",
                "motionbert_pose3d", "motionbert_pretrain", "motionbert_action",
                "motionbert_action_oneshot"}  # fmt: skip


def test_test_sets_choose_nothing() -> None:
    """The files of MotionBERT have no validation split: their training and test splits are all there is."""
    found = {path.stem for path in CONFIGS if load_config(path).data.validates_on_test}
    assert found == ON_TEST_SETS


@pytest.mark.parametrize(
    ("name", "is_test"),
    [("test", True), ("3dpw_test_crops", True), ("Test-1", True), ("latest", False), ("validation_crops", False)],
)
def test_a_label_file_is_a_test_set_by_the_words_of_its_name(name: str, is_test: bool) -> None:
    source = SourceConfig(name="people", labels=Path(f"{name}.npz"), images=Path("pictures"))
    assert DataConfig(kind="labelled", sources=(source,), validation=source).validates_on_test == is_test


def test_a_task_on_a_test_set_has_no_criterion(tmp_path: Path) -> None:
    config = make_clip_config(tmp_path, model={"head": "motionbert"})
    test = load_config(ROOT / "configs/motionbert_mesh.yaml")
    assert isinstance(test, ClipExperimentConfig)
    task = build_task(config, ALONE)
    assert isinstance(task, ClipTask) and task.criterion is not None
    validation = test.data.validation
    task.config = config.model_copy(update={"data": config.data.model_copy(update={"validation": validation})})
    assert task.criterion is None
