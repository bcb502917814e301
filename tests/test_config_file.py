"""Configuration files: what is read, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from diffhmr.config import ExperimentConfig
from diffhmr.config_file import config_from_dict, config_to_dict, differing_keys, dump_config, load_config
from diffhmr.errors import ConfigError, UserError


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def _write(text: str) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def problems_of(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_values_of_all_kinds_are_read(write: Any) -> None:
    config = load_config(
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
    config = load_config(write(f"name: a\nmodel: {{encoder: {{kind: keypoints}}}}\ndata: {{images: {word}}}\n"))
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
    config = load_config(path, overrides)
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
    assert load_config(write(text), ["model.encoder.network=mlp"]).model.encoder.width == 64
    keypoints = ["data.images=off", "model.encoder.kind=keypoints", "model.encoder.pooling=average"]
    assert load_config(write(text), keypoints).model.encoder.network == "transformer"


def test_from_dict_names_its_source() -> None:
    with pytest.raises(ConfigError, match=r"^old checkpoint: train\.lrr: unknown key"):
        config_from_dict({"name": "a", "train": {"lrr": 1}}, "old checkpoint")


def test_differing_keys_are_dotted_names() -> None:
    first = config_from_dict({"name": "a"})
    second = config_from_dict({"name": "a", "train": {"lr": 0.5}, "model": {"state": ["pose"]}, "seed": 3})
    assert differing_keys(first, first) == []
    assert differing_keys(first, second) == ["seed", "train.lr", "model.state"]


def test_every_setting_can_be_overridden(write: Any) -> None:
    """An override with the default value of each leaf changes nothing, whatever its type."""

    def leaves(section: BaseModel, prefix: str) -> list[tuple[str, Any]]:
        found = []
        for key in type(section).model_fields:
            value = getattr(section, key)
            found += leaves(value, f"{prefix}{key}.") if isinstance(value, BaseModel) else [(prefix + key, value)]
        return found

    config = ExperimentConfig(name="a")
    overrides = []
    for name, value in leaves(config, ""):
        text = "" if value is None else f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
        overrides.append(f"{name}={text}")
    assert len(overrides) > 60
    assert load_config(write("name: b\n"), overrides) == config
