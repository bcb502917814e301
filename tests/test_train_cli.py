"""``train.py`` from the command line, and the configurations that come with the project."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import train as train_script
from diffhmr.batch import ImageBatch
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_state, read_metadata, without_downloads
from diffhmr.command_line import run_command
from diffhmr.config import ExperimentConfig
from diffhmr.config_file import AnyExperiment, differing_keys, dump_config, load_config, require_kind
from diffhmr.models import HmrModel, build_model
from diffhmr.models.clip_models import build_clip_model
from diffhmr.models.clip_tasks import build_action_model, build_lifting_model
from diffhmr.training.loop import Trainer
from diffhmr.training.steps import Gradients
from tests.training.runs import make_clip_config

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
# The smoke configuration, cut down: rendered images, ResNet-18, validation and pictures at the end.
SMALL = [
    "train.steps=10",
    "train.batch_size=4",
    "train.checkpoint_every=3",
    "train.log_every=1",
    "train.validate_every=10",
    "train.picture_every=10",
    "train.statistics_items=64",
    "data.image_size=32",
    "data.val_items=4",
    "model.regressor.width=16",
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def train(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, "train.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """``train.py`` with ``arguments`` in this process."""
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    monkeypatch.chdir(ROOT)
    return run_command(train_script.main)


def test_a_mistake_is_one_line_and_exit_code_2() -> None:
    result = train("--config", "configs/none.yaml")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "error: configuration not found: configs/none.yaml; configs/ holds the ones that come with the project\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --config; see --help"),
        (["configs/smoke.yaml"], "the following arguments are required: --config; see --help"),
        (["--config"], "argument --config: expected one argument; see --help"),
        (["--config", "a.yaml", "--resum"], "unknown option --resum, did you mean --resume?"),
        (["--config", "a.yaml", "--steps", "5"], "unknown option --steps, see --help"),
        (["--config", "a.yaml", "-r"], "unrecognized arguments: -r; see --help"),
        (
            ["--config", "configs"],
            "configuration is not a file: configs; configs/ holds the ones that come with the project",
        ),
    ],
)
def test_wrong_options(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "configuration is empty"),
        (b"# nothing\n", "name is required"),
        (b"- a\n- b\n", "expected 'key: value' lines, found ['a', 'b']"),
        (b"name: a\nname: b\n", "line 2: name is given a second time, keep one"),
        (b"name: a\ntrian: {steps: 5}\n", "trian: unknown key, did you mean train?"),
        (b"name: a\ntrain: {steps: many}\n", "train.steps should be an integer, got 'many'"),
        (b"name: [\n", "not valid YAML"),
        (b"\xff\xd8\xff", "not a text file"),
        (b"name: !!python/object/apply:os.abort []\n", "not valid YAML"),
    ],
)
def test_wrong_files(
    content: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    assert call(monkeypatch, "--config", tmp_path / "c.yaml", f"output={tmp_path}/runs") == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ") and reason in message and "c.yaml" in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["train.lrr=1", "data.imags=off"], "data.images?; train.lrr: unknown key, did you mean train.lr?"),
        (["train.lr=fast"], "train.lr should be a number, got 'fast'"),
        (["--dry-run", "--resume"], "--dry-run measures a new run; leave --resume out"),
        (["train.lr"], "override 'train.lr': expected key.sub=value"),
        (["name=../elsewhere"], "name: String should match pattern"),
        (["seed=-1"], "seed should be greater than or equal to 0, got -1"),
        (["sampler.steps=2000"], "sampler.steps is 2000, more than the 1000"),
        (["body.path=nobody.npz"], "body file not found: "),
        (["body.path=train.py"], "train.py is not a body file"),
        (["init=none.safetensors"], "checkpoint not found: none.safetensors"),
        (["init=train.py"], "train.py is truncated or no safetensors file"),
        (["data.archive=nowhere"], "correct data.archive or leave it out"),
        (["output=train.py"], "cannot write to the folder train.py/smoke"),
        (["--resume", "name=notes"], "holds no run that could be resumed"),
        (["name=notes"], "is not empty; continue that run with --resume or choose another name"),
    ],
)
def test_mistakes(
    arguments: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "precious.txt").write_text("text")
    assert call(monkeypatch, "--config", "configs/smoke.yaml", f"output={tmp_path}", *SMALL, *arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert part in message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "notes" / "precious.txt"]


KEYPOINTS = ["model.encoder.kind=keypoints", "model.encoder.width=16", "model.encoder.layers=1",
             "model.encoder.heads=2", "data.images=off", "model.denoiser.width=16", "train.workers=0"]  # fmt: skip


def test_an_interrupted_run_can_be_resumed_as_it_was_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = ["--config", "configs/smoke.yaml", *SMALL, *KEYPOINTS, f"output={tmp_path}"]
    with monkeypatch.context() as patch:
        gradients = Trainer.gradients

        def interrupted(trainer: Trainer[HmrModel, ImageBatch], batch: ImageBatch) -> Gradients:
            if trainer.step == 5:
                raise KeyboardInterrupt
            return gradients(trainer, batch)

        patch.setattr(Trainer, "gradients", interrupted)
        with caplog.at_level("INFO"):
            assert call(patch, *command) == 130
    assert "stopped after step 5; --resume goes on at the last checkpoint in" in caplog.text
    assert capsys.readouterr().err.endswith("interrupted\n")
    folder = tmp_path / "smoke"
    assert load_state(folder / "state.pt").step == 3 and read_metadata(folder / "model.safetensors")["step"] == "3"
    (folder / ".state-abcdefgh.pt").write_text("left by a process that was killed while it wrote")
    for change, reason in (
        ("train.lr=1", "has other settings: train.lr; resume it with"),
        ("model.kind=spin", "has other settings: model.kind; resume it with"),
    ):
        assert call(monkeypatch, *command, "--resume", change) == 2
        assert reason in capsys.readouterr().err
    assert call(monkeypatch, *command) == 2
    assert "is not empty; continue that run with --resume" in capsys.readouterr().err
    assert call(monkeypatch, *command, "--resume") == 0
    assert load_state(folder / "state.pt").step == 10
    files = {"config.yaml", "model.safetensors", "best.safetensors", "state.pt", "tensorboard"}
    assert {path.name for path in folder.iterdir()} == files
    state = (folder / "state.pt").read_bytes()
    (folder / "state.pt").write_bytes(state[:1000])
    assert call(monkeypatch, *command, "--resume") == 2
    assert "state.pt is truncated or no training state" in capsys.readouterr().err
    assert read_metadata(folder / "model.safetensors")["step"] == "10", "nothing is overwritten"


@pytest.mark.slow
def test_ctrl_c_with_a_worker_says_little_and_leaves_whole_files(tmp_path: Path) -> None:
    settings = [*SMALL, "train.steps=1000", f"output={tmp_path}"]
    command = [sys.executable, "train.py", "--config", "configs/smoke.yaml", *settings]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stderr=pipe, text=True, start_new_session=True,
        # Where the tests run in the background of a shell, they ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if "step 4/1000" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "--resume goes on" in rest and rest.endswith("interrupted\n") and "Traceback" not in rest
    assert load_state(tmp_path / "smoke" / "state.pt").step >= 3
    assert not list(tmp_path.rglob(".*"))


def test_overrides_and_options_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train.lr=0.5", "--config", "configs/smoke.yaml", *SMALL, "--dry-run"]
    assert call(monkeypatch, *command, f"output={tmp_path}/runs") == 0
    output = capsys.readouterr().out
    settings = yaml.safe_load(output.split("\n\n")[0])
    assert settings["train"]["lr"] == 0.5 and settings["train"]["steps"] == 10
    assert "remaining time" in output
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """SIGKILL at a random moment of a run that renders images in a worker process."""
    straight, broken = (["--config", "configs/smoke.yaml", *SMALL, f"output={tmp_path}/{name}"] for name in "ab")
    assert train(*straight).returncode == 0
    step = random.randrange(1, 10)
    command = [sys.executable, "train.py", *broken]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if f"step {step}/10" in line:
                break
        time.sleep(random.random() * 0.2)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    result = train(*broken, "--resume")
    assert result.returncode == 0, result.stderr
    first, second = (load_file(tmp_path / name / "smoke" / "model.safetensors") for name in "ab")
    assert set(first) == set(second)
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"{name} differs after SIGKILL at step {step}"
    used = train(*broken)
    assert used.returncode == 2 and "is not empty; continue that run with --resume" in used.stderr


@pytest.mark.slow
def test_torchrun_trains(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    arguments = ["--config", "configs/smoke.yaml", *SMALL, f"output={tmp_path}"]
    result = train(*arguments, "train.steps=3", launcher=launcher)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("model: ") == 1
    assert read_metadata(tmp_path / "smoke" / "model.safetensors")["finished"] == "true"
    assert train(*arguments, "train.steps=5", "--resume", launcher=launcher).returncode == 0
    assert load_state(tmp_path / "smoke" / "state.pt").step == 5
    odd = train("--config", "configs/smoke.yaml", "train.batch_size=3", f"output={tmp_path}/c", launcher=launcher)
    assert odd.returncode != 0 and "cannot be divided by 2 processes" in odd.stderr


def test_a_run_on_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "clips.yaml"
    settings.write_text(dump_config(make_clip_config(tmp_path, train={"validate_every": 9, "picture_every": 9})))
    assert call(monkeypatch, "--config", settings, "--dry-run") == 0
    assert "for 2 clips, without data" in capsys.readouterr().out
    assert call(monkeypatch, "--config", settings, "model.head=paper", "train.steps=2") == 0
    assert capsys.readouterr().out == f"model: {tmp_path / 'run/model.safetensors'}\n"
    assert call(monkeypatch, "--config", settings, "--resume", "model.head=paper", "train.steps=3") == 0
    assert load_state(tmp_path / "run/state.pt").step == 3
    for change, reason in (
        (["--resume"], "has other settings: model.head; resume it with"),
        (["name=other", "model.head=lifting"], "model.head is lifting, but task mesh has motionbert or released or"),
        (["name=other", "data.activities=[flying]"], "there is no activity flying"),
        (["name=other", "init=none.safetensors"], "not found: none.safetensors"),
        (["name=other", "init=data/checkpoints/diffhmr_keypoints.safetensors"], "diffhmr_keypoints.safetensors "),
    ):
        assert call(monkeypatch, "--config", settings, *change) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert message.startswith("error: ") and reason in message
    people = ["--config", "configs/smoke.yaml", f"output={tmp_path}", "name=run", "--resume"]
    assert call(monkeypatch, *people) == 2
    assert "is an experiment on clips (task: mesh), this is an experiment on people" in capsys.readouterr().err


@pytest.mark.slow
def test_smoke_configuration_takes_less_than_a_minute(tmp_path: Path) -> None:
    start = time.perf_counter()
    result = train("--config", "configs/smoke.yaml", f"output={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert time.perf_counter() - start < 60


# The configurations


def load_people(name: str) -> ExperimentConfig:
    path = ROOT / f"configs/{name}.yaml"
    return require_kind(load_config(path), ExperimentConfig, path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_named_as_their_file_and_build(path: Path, free_body: BodyModel) -> None:
    config = load_config(path)
    assert config.name == path.stem
    header = path.read_text(encoding="utf-8").split("\n\nname:")[0]
    assert f"python train.py --config configs/{path.name}" in header
    for part in ("Hardware:", "Time:", "Result:"):
        assert part in header
    # The networks are the same for every body, and SMPL need not be there.
    model = built(config, free_body)
    assert sum(value.numel() for value in model.parameters()) > (1e6 if isinstance(config, ExperimentConfig) else 1e5)


def built(config: AnyExperiment, body: BodyModel) -> nn.Module:
    if isinstance(config, ExperimentConfig):
        return build_model(without_downloads(config.model), body, config.loss)
    if config.task == "mesh":
        return build_clip_model(config.model, body, config.loss)
    if config.task == "action":
        return build_action_model(config.model, config.loss)
    return build_lifting_model(config.model, config.loss)


def test_the_baseline_differs_in_the_model_only() -> None:
    model, baseline = (load_people(f"{name}_synthetic") for name in ("diffhmr", "spin"))
    for name in differing_keys(model, baseline):
        allowed = ("name", "model.kind", "model.state", "model.denoiser.", "model.diffusion.", "loss.", "sampler.")
        assert name.startswith(allowed), f"{name} differs"
    assert (model.model.kind, baseline.model.kind) == ("diffhmr", "spin")


def test_the_paper_configuration(free_body: BodyModel) -> None:
    config = load_people("diffhmr_r50")
    model: dict[str, Any] = config.model.model_dump()
    assert model["state"] == ("pose",)
    assert (model["encoder"]["backbone"], config.data.image_size) == ("resnet50", 224)
    assert (model["denoiser"]["kind"], model["denoiser"]["dim"], model["denoiser"]["mults"]) == (
        "unet",
        64,
        (1, 2, 4, 8),
    )
    assert not model["denoiser"]["condition_on_estimate"]
    diffusion = model["diffusion"]
    assert (diffusion["steps"], diffusion["schedule"], diffusion["target"]) == (1000, "cosine", "noise")
    built = build_model(without_downloads(config.model), free_body, config.loss)
    unet = sum(value.numel() for name, value in built.named_parameters() if name.startswith("denoiser."))
    assert 12e6 < unet < 18e6


def test_the_paper_configuration_with_everything_diffused() -> None:
    paper, card = (load_people(name) for name in ("diffhmr_r50", "diffhmr_r50_card"))
    assert card.model.state == ("pose", "shape", "camera")
    for name in differing_keys(paper, card):
        allowed = ("name", "model.state", "model.denoiser.", "model.diffusion.", "loss.", "sampler.")
        assert name.startswith(allowed), f"{name} differs"


@pytest.mark.parametrize("name", ["diffhmr_r50", "diffhmr_r50_card"])
def test_the_mixture_of_the_paper_configurations(name: str) -> None:
    data = load_people(name).data
    weights = {source.name: source.weight for source in data.sources}
    assert (weights.pop("human36m"), weights.pop("mpi_inf_3dhp")) == (0.3, 0.1)
    assert weights == dict.fromkeys(("lsp-orig", "lspet", "mpii", "coco"))
    files = [source.labels for source in data.sources] + [source.images for source in data.sources]
    assert not any("3dpw" in str(path) for path in files)


def test_the_paper_configuration_without_its_data() -> None:
    path = ROOT / "configs/diffhmr_r50.yaml"
    header = path.read_text(encoding="utf-8").split("\n\nname:")[0]
    command = header[header.index("name=r50_synthetic") :].replace("\\\n#", " ").split()
    config = require_kind(load_config(path, command), ExperimentConfig, path)
    assert (config.name, config.data.kind, config.init) == ("r50_synthetic", "synthetic", None)
    assert (ROOT / config.body.path).is_file()
