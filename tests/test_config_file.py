"""Configuration files: what is read, what is refused, and in which words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from diffhmr.config import ExperimentConfig
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.config_file import (
    AnyExperiment,
    config_from_dict,
    config_to_dict,
    differing_keys,
    dump_config,
    load_config,
    require_kind,
)
from diffhmr.errors import ConfigError, UserError


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def _write(text: str) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def load_people(path: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    return require_kind(load_config(path, overrides), ExperimentConfig, path)


def problems_of(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_values_of_all_kinds_are_read(write: Any) -> None:
    config = load_people(
        write(
            "name: a.b-1\n"
            "output: somewhere/else\n"
            "model: {state: [pose], denoiser: {mults: [1, 2], condition_on_estimate: false}}\n"
            "train: {lr: 1e-4, steps: 1_000, warmup_steps: 010, grad_clip: 1, amp: off}\n"
        )
    )
    assert config.name == "a.b-1"
    assert config.output == Path("somewhere/else")
    assert config.model.state == ("pose",)
    assert config.model.denoiser.mults == (1, 2)
    assert config.train.lr == 1e-4
    assert (config.train.steps, config.train.warmup_steps) == (1000, 10)
    assert config.train.grad_clip == 1.0 and isinstance(config.train.grad_clip, float)
    assert config.train.amp == "off"


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.e-4", "1.0e-4", ".0001", "+1e-4", "0.0001"])
def test_every_spelling_of_a_float(write: Any, text: str) -> None:
    assert load_config(write(f"name: a\ntrain: {{lr: {text}}}\n")).train.lr == pytest.approx(1e-4, rel=1e-12)


@pytest.mark.parametrize(("word", "value"), [("true", True), ("on", True), ("No", False), ("off", False)])
def test_yaml_words_in_bool_fields(write: Any, word: str, value: bool) -> None:
    config = load_people(write(f"name: a\nmodel: {{encoder: {{kind: keypoints}}}}\ndata: {{images: {word}}}\n"))
    assert config.data.images is value


@pytest.mark.parametrize("word", ["off", "no", "on", "y", "2024-01-01", "1:30"])
def test_yaml_words_stay_text_in_text_fields(write: Any, word: str) -> None:
    if word == "1:30":  # would be the number 90 in YAML 1.1; a colon is not allowed in a name
        assert "'1:30'" in problems_of(write("name: 1:30\n"))
    else:
        assert load_config(write(f"name: {word}\n")).name == word


def test_overrides_win_in_their_order(write: Any) -> None:
    path = write("name: a\ntrain: {lr: 1.0, steps: 5}\n")
    overrides = [
        "train.lr=3e-4",
        "model.state=[pose]",
        "init=x/y.safetensors",
        "train.lr=2e-4",
        "model.encoder.width=8",
    ]
    config = load_people(path, overrides)
    assert (config.train.lr, config.train.steps) == (2e-4, 5)
    assert config.model.state == ("pose",)
    assert config.init == Path("x/y.safetensors")
    assert config.model.encoder.width == 8
    assert load_config(path, ["init="]).init is None


def test_all_problems_are_listed_at_once(write: Any) -> None:
    message = problems_of(
        write(
            "name: a\nseed: 1.5\ntrain:\n  lrr: 4\n  steps: 5\n  steps: 6\n  grad_clip: .nan\nmodel: {kind: diffhrm}\n"
        ),
        "train.batch_size=-1",
        "nonsense",
        "data.seed=[1",
    )
    for part in (
        "experiment.yaml: 8 problems: ",
        "line 6: steps is given a second time",
        "train.lrr: unknown key, did you mean train.lr?",
        "train.grad_clip: expected a finite number, got nan",
        "seed should be an integer, got 1.5",
        "model.kind should be 'diffhmr' or 'spin', got 'diffhrm'",
        "train.batch_size should be greater than 0, got -1",
        "override 'nonsense': expected key.sub=value",
        "override 'data.seed=[1': not valid YAML",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name: a\nmodle: {}\n", "modle: unknown key, did you mean model?"),
        ("name: a\nlr: 1\n", "lr: unknown key, did you mean train.lr?"),
        ("name: a\nmodel: {encoder: {bakbone: resnet18}}\n", "model.encoder.bakbone: unknown key, did you mean "),
        ("name: a\ntrain: {zzz: 1}\n", "train.zzz: unknown key (train has steps, batch_size, lr"),
        ("name: a\ntrain: 5\n", "train should be a section with keys, got 5"),
        ("name: a\nmodel: {state: pose}\n", "model.state should be a list, got 'pose'"),
        ("name: a\nmodel: {state: [shape]}\n", "state must be [pose] or [pose, shape, camera]"),
        ("name: a\ntrain: {lr: fast}\n", "train.lr should be a number, got 'fast'"),
        ("name: a\ntrain: {lr: '1e-4'}\n", "train.lr should be a number, got '1e-4'"),
        ("name: a\ntrain: {steps: true}\n", "train.steps should be an integer, got True"),
        ("name: a\nseed: " + "9" * 5000 + "\n", "not valid YAML: Exceeds the limit"),
        ("name: a\nseed: 9223372036854775808\n", "seed should be less than 9223372036854775808"),
        ("name: a\ndata: {seed: -1}\n", "data.seed should be greater than or equal to 0, got -1"),
        ("name: a\ntrain: {lr: .inf}\n", "train.lr: expected a finite number, got inf"),
        ("name: a\ndata: {images: 1}\n", "data.images should be a boolean, got 1"),
        ("name: a\ndata: {images: off}\n", "model.encoder.kind is image but data.images is off"),
        ("name: a\nsampler: {steps: 2000}\n", "sampler.steps is 2000, more than the 1000 of model.diffusion.steps"),
        ("name: a\nsampler: {eta: 1}\n", "sampler.eta is 1.0, but it belongs to ddim"),
        ("name: 5\n", "name should be a string, got 5"),
        ("name: ..\n", "name: String should match pattern"),
        ("seed: 1\n", "name is required"),
        ("# nothing yet\n", "name is required"),
        ("- a\n", "expected 'key: value' lines, found ['a']"),
        ("name: [a\n", "line 2: not valid YAML"),
        ("name: a\n\tseed: 1\n", "line 2: not valid YAML"),
        ("a: &x 1\nb: *x\n", "line 2: not valid YAML: aliases"),
        ("name: !!python/object/apply:os.getcwd []\n", "not valid YAML: could not determine a constructor"),
        ("name: a\x00\n", "not valid YAML"),
        ("? [a]\n: b\n", "a key must be a word"),
        ("name: a\n---\nname: b\n", "not valid YAML"),
    ],
)
def test_messages(write: Any, text: str, part: str) -> None:
    assert part in problems_of(write(text))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="configuration not found"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="is empty"):
        (tmp_path / "empty.yaml").write_bytes(b"")
        load_config(tmp_path / "empty.yaml")
    with pytest.raises(ConfigError, match="UTF-8"):
        (tmp_path / "binary.yaml").write_bytes(b"name: \xff\xfe")
        load_config(tmp_path / "binary.yaml")


def test_dump_reads_back_equal(write: Any) -> None:
    overrides = ["train.amp=off", "train.lr=1e-5", "model.denoiser.mults=[1,2]", "init=a/b", "model.state=[pose]"]
    config = load_config(write("name: off\n"), overrides)
    assert load_config(write(dump_config(config))) == config
    assert config_from_dict(config_to_dict(config)) == config


def test_the_network_behind_detected_keypoints_is_an_mlp(write: Any) -> None:
    """The transformer is the default, of keypoints: nobody should think that a picture's points go through one."""
    text = "name: a\nmodel: {encoder: {kind: image, pooling: joints, width: 64}}\n"
    assert "model.encoder: network is transformer, but behind detected keypoints" in problems_of(write(text))
    assert load_people(write(text), ["model.encoder.network=mlp"]).model.encoder.width == 64
    keypoints = ["data.images=off", "model.encoder.kind=keypoints", "model.encoder.pooling=average"]
    assert load_people(write(text), keypoints).model.encoder.network == "transformer"


def test_from_dict_names_its_source() -> None:
    with pytest.raises(ConfigError, match=r"^old checkpoint: train\.lrr: unknown key"):
        config_from_dict({"name": "a", "train": {"lrr": 1}}, "old checkpoint")


def test_differing_keys_are_dotted_names() -> None:
    first = config_from_dict({"name": "a"})
    second = config_from_dict({"name": "a", "train": {"lr": 0.5}, "model": {"state": ["pose"]}, "seed": 3})
    assert differing_keys(first, first) == []
    assert differing_keys(first, second) == ["seed", "train.lr", "model.state"]


@pytest.mark.parametrize("config", [ExperimentConfig(name="a"), ClipExperimentConfig(name="a", task="mesh")])
def test_every_setting_can_be_overridden(write: Any, config: AnyExperiment) -> None:
    """An override with the default value of each leaf changes nothing, whatever its type."""

    def leaves(section: BaseModel, prefix: str) -> list[tuple[str, Any]]:
        found = []
        for key in type(section).model_fields:
            value = getattr(section, key)
            found += leaves(value, f"{prefix}{key}.") if isinstance(value, BaseModel) else [(prefix + key, value)]
        return found

    overrides = []
    for name, value in leaves(config, ""):
        text = "" if value is None else f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
        overrides.append(f"{name}={text}")
    assert len(overrides) > 60
    assert load_config(write("name: b\n"), overrides) == config


# Experiments on clips

EMBEDDING = "task: action\nmodel: {head: embedding}\n"


def test_the_key_task_makes_an_experiment_on_clips(write: Any) -> None:
    text = "name: a\ntask: mesh\nmodel: {head: paper, window: 8}\ndata: {activities: [walk, sit], fps: 25}\n"
    config = load_config(write(text), ["train.backbone_lr=1e-5", "data.augment.noise=off"])
    assert isinstance(config, ClipExperimentConfig)
    assert (config.task, config.model.head, config.model.window, config.train.backbone_lr) == ("mesh", "paper", 8, 1e-5)
    assert (config.data.activities, config.data.fps, config.data.augment.noise) == (("walk", "sit"), 25.0, False)
    assert config.train.batch_size == 16
    assert load_config(write(dump_config(config))) == config
    assert config_from_dict(config_to_dict(config)) == config
    # The key may come from the command line too.
    assert isinstance(load_config(write("name: a\n"), ["task=mesh"]), ClipExperimentConfig)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("task: msh\n", "task should be 'pretrain', 'pose3d', 'mesh' or 'action', got 'msh'"),
        ("task:\n", "task should be 'pretrain', 'pose3d', 'mesh' or 'action', got nothing"),
        ("task: mesh\nmodel: {windw: 5}\n", "model.windw: unknown key, did you mean model.window?"),
        ("task: mesh\nbackbone_lr: 5\n", "backbone_lr: unknown key, did you mean train.backbone_lr?"),
        ("task: mesh\nfitting: {}\n", "fitting: unknown key (the file has name, seed, output, body, train, task, "),
        ("task: mesh\nmodel: {encoder: {kind: keypoints}}\n", "model.encoder: unknown key (model has head, backbone"),
        ("task: mesh\nmodel: {head: lifting}\n", "model.head is lifting, but task mesh has motionbert or released or"),
        ("task: mesh\nmodel: {window: 4}\n", "model: overlap is 4, more than half a window of 4 frames"),
        (f"{EMBEDDING}train: {{batch_size: 31}}\n", "train.batch_size is 31, but the head embedding compares pairs"),
        (f"{EMBEDDING}train: {{batch_size: 2}}\n", "set it to an even number from 4 on"),
        (f"{EMBEDDING}data: {{train_items: 99}}\n", "data.train_items is 99, but the head embedding takes pairs"),
        (
            f"{EMBEDDING}data: {{kind: files, sources: [{{name: ntu, format: pyskl, path: x, weight: 0.5}}]}}\n",
            "the source ntu has a weight, but the head embedding takes all classes equally often",
        ),
        ("task: mesh\ntrain: {batch_size: 0}\n", "train.batch_size should be greater than 0, got 0"),
        (
            "task: mesh\ndata: {activities: [walk], motions: recorded}\n",
            "data: data.activities chooses procedural motion, but data.motions has recorded motion, of which nobody",
        ),
        (
            "task: mesh\ndata: {kind: files, sources: [{name: b, format: mesh_det, path: c, ground_truth_2d: true}]}\n",
            "the source b has ground_truth_2d, but only the format motion3d takes it",
        ),
        (
            "task: pretrain\nmodel: {head: lifting}\ndata:\n  kind: files\n"
            "  sources: [{name: b, format: motion3d, path: c}]\n"
            "  validation: {name: d, format: motion3d, path: c, ground_truth_2d: true}\n",
            "the source d has ground_truth_2d, but it belongs to task pose3d: leave it out",
        ),
        (
            "task: pretrain\nmodel: {head: lifting}\ndata: {augment: {noise_file: a.pth}}\n",
            "data.augment: noise_file and confidence_file are of one detector and in one unit: give both or neither",
        ),
        (
            "task: pretrain\nmodel: {head: lifting}\n"
            "data: {augment: {noise: false, noise_file: a.pth, confidence_file: b.pkl}}\n",
            "noise_file says how points are moved, but noise is off",
        ),
        (
            "task: mesh\ndata: {augment: {noise_file: a.pth, confidence_file: b.pkl}}\n",
            "data.augment.noise_file belongs to task pretrain, not to mesh: leave it out",
        ),
        ("taks: mesh\n", "taks: unknown key, did you mean task?"),
        ("task: mesh\nmodel: {window: 1.5}\ntrain: {lrr: 1}\n", "2 problems: train.lrr: unknown key, did you mean"),
    ],
)
def test_messages_about_clips(write: Any, text: str, part: str) -> None:
    assert part in problems_of(write("name: a\n" + text))


def test_the_wrong_kind_of_experiment_is_named() -> None:
    people, clips = config_from_dict({"name": "a"}), config_from_dict({"name": "a", "task": "mesh"})
    assert require_kind(people, ExperimentConfig, "a.yaml") is people
    assert require_kind(clips, ClipExperimentConfig, "a.yaml") is clips
    with pytest.raises(UserError) as caught:
        require_kind(clips, ExperimentConfig, "a.yaml")
    assert str(caught.value) == (
        "a.yaml is an experiment on clips (task: mesh), but one on people in pictures is needed"
    )
    with pytest.raises(UserError) as caught:
        require_kind(people, ClipExperimentConfig, "a.yaml")
    assert str(caught.value) == (
        "a.yaml is an experiment on people in pictures, but one on clips, with the key task, is needed"
    )


def test_differing_keys_of_different_kinds() -> None:
    people, clips = config_from_dict({"name": "a"}), config_from_dict({"name": "a", "task": "mesh", "seed": 1})
    there, back = differing_keys(people, clips), differing_keys(clips, people)
    assert set(there) == set(back)
    for name in ("seed", "task", "fitting.fits", "train.backbone_lr", "train.batch_size"):
        assert name in there
    assert "name" not in there and "train.lr" not in there
