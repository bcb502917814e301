"""Configuration files: YAML with dotted overrides, checked against the sections of ``diffhmr/config.py``.

A file holds one experiment and inherits from no other. With the key ``task`` it is one on clips, whose sections are in
``diffhmr/config_clips.py``. Every problem of a file and of the overrides is found before anything is reported, so that
one run shows them all. Relative paths are relative to the working directory.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from diffhmr.config import ExperimentConfig
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.errors import ConfigError, UserError
from diffhmr.files import require_file

AnyExperiment: TypeAlias = ExperimentConfig | ClipExperimentConfig
_Kind = TypeVar("_Kind", ExperimentConfig, ClipExperimentConfig)
_TASK = "task"
_BOOL_WORDS = {"on": True, "yes": True, "off": False, "no": False}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> AnyExperiment:
    """Read an experiment from YAML and apply overrides such as ``train.lr=3e-4`` or ``model.state=[pose]``.

    Later overrides win over earlier ones and over the file; a section given as ``key={...}`` is replaced as a whole.
    Who needs one kind of experiment passes the result to :func:`require_kind`.

    Raises:
        UserError: there is no such file.
        ConfigError: unknown, repeated or mistyped keys; the message lists every problem found.
    """
    path = require_file(path, "configuration", "configs/ holds the ones that come with the project")
    problems: list[str] = []
    try:
        data = _parse(path.read_text(encoding="utf-8"), problems)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from error
    except _SyntaxProblem as error:
        raise ConfigError(f"{path}: {error}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, found {_describe(data)}")
    for override in overrides:
        _apply_override(data, override, problems)
    return _validate(data, str(path), problems)


def config_from_dict(data: Mapping[str, Any], source: str = "configuration") -> AnyExperiment:
    """Build an experiment from nested dictionaries, such as those of :func:`config_to_dict`.

    Raises:
        ConfigError: unknown or mistyped keys; the message starts with ``source`` and lists every problem found.
    """
    return _validate(dict(data), source, [])


def require_kind(config: AnyExperiment, kind: type[_Kind], source: str | Path) -> _Kind:
    """``config``, if it is of the kind that is needed.

    Args:
        kind: ``ExperimentConfig``, on people in pictures, or ``ClipExperimentConfig``, on clips.
        source: where the experiment stands, for the message.

    Raises:
        UserError: it is of the other kind.
    """
    if isinstance(config, kind):
        return config
    needed = "on people in pictures" if kind is ExperimentConfig else "on clips, with the key task,"
    raise UserError(f"{source} is {describe_kind(config)}, but one {needed} is needed")


def describe_kind(config: AnyExperiment) -> str:
    """What the experiment is on, in words."""
    if isinstance(config, ClipExperimentConfig):
        return f"an experiment on clips (task: {config.task})"
    return "an experiment on people in pictures"


def config_to_dict(config: AnyExperiment) -> dict[str, Any]:
    """Nested dictionaries of JSON types; :func:`config_from_dict` gives an equal configuration back."""
    return config.model_dump(mode="json")


def dump_config(config: AnyExperiment) -> str:
    """The resolved experiment as YAML; :func:`load_config` reads an equal one back."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)


def differing_keys(first: AnyExperiment, second: AnyExperiment) -> list[str]:
    """Dotted names of all settings in which two experiments differ, in the order of the sections.

    Settings that only one kind of experiment has are among them if the two are of different kinds.
    """
    left, right = _flatten(config_to_dict(first)), _flatten(config_to_dict(second))
    names = [*left, *(name for name in right if name not in left)]
    return [name for name in names if name not in left or name not in right or left[name] != right[name]]


def _flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


# Reading YAML


class _SyntaxProblem(Exception):
    """The text is not YAML; the message says where and why."""


class _Loader(yaml.SafeLoader):
    """YAML with the scalars of version 1.2: ``1e-4`` is a float, ``off`` and ``2024-01-01`` are text, 010 is ten.

    Repeated keys are collected in ``repeated``; aliases are refused, because a configuration is read as it stands.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - name given by PyYAML

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.repeated: list[str] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported, write the value", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: ARG002
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            key = key_node.value
            if key in mapping:
                self.repeated.append(f"line {key_node.start_mark.line + 1}: {key} is given a second time, keep one")
                continue
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    digits = text.lstrip("+-").lower()
    return int(text, 16 if digits.startswith("0x") else 8 if digits.startswith("0o") else 10)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*|[-+]?0o[0-7]+|[-+]?0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+0123456789.")),
)  # fmt: skip
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def _parse(text: str, problems: list[str]) -> Any:
    """The content of a YAML document; repeated keys are added to ``problems``."""
    try:
        # PyYAML checks the characters of the text already when the loader is made.
        loader = _Loader(text)
        data = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise _SyntaxProblem(f"{where}not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise _SyntaxProblem(f"not valid YAML: {str(error).splitlines()[0]}") from error
    problems += loader.repeated
    return data


def _apply_override(data: dict[str, Any], override: str, problems: list[str]) -> None:
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        problems.append(f"override '{override}': expected key.sub=value")
        return
    try:
        value = _parse(text, problems)
    except _SyntaxProblem as error:
        problems.append(f"override '{override}': {str(error).removeprefix('line 1: ')}")
        return
    section = data
    for key in keys[:-1]:
        if not isinstance(section.get(key), dict):
            section[key] = {}
        section = section[key]
    section[keys[-1]] = value


# Checking against the sections


def _validate(data: dict[str, Any], source: str, problems: list[str]) -> AnyExperiment:
    problems = list(problems)
    kind: type[AnyExperiment] = ClipExperimentConfig if _TASK in data else ExperimentConfig
    everything = _all_names(kind, "") + ([] if kind is ClipExperimentConfig else [_TASK])
    known = _known(data, kind, "", problems, everything)
    config = None
    try:
        config = kind.model_validate(known)
    except ValidationError as error:
        problems += [_explain(dict(entry)) for entry in error.errors(include_url=False)]
    if problems or config is None:
        count = "" if len(problems) == 1 else f"{len(problems)} problems: "
        raise ConfigError(f"{source}: {count}{'; '.join(problems)}")
    return config


def _known(
    data: Mapping[str, Any], section: type[BaseModel], prefix: str, problems: list[str], everything: Sequence[str]
) -> dict[str, Any]:
    """``data`` without the keys that ``section`` does not have, which are reported, and with YAML's bool words read.

    ``everything`` are the names of all settings, which may be meant by an unknown key.
    """
    result: dict[str, Any] = {}
    for key, value in data.items():
        field = section.model_fields.get(key)
        if field is None:
            problems.append(f"{prefix}{key}: unknown key{_suggestion(str(key), section, prefix, everything)}")
            continue
        inner = _section_of(field.annotation)
        if inner is not None and isinstance(value, dict):
            value = _known(value, inner, f"{prefix}{key}.", problems, everything)
        elif field.annotation is bool and isinstance(value, str):
            value = _BOOL_WORDS.get(value.lower(), value)
        elif isinstance(value, float) and not math.isfinite(value):
            problems.append(f"{prefix}{key}: expected a finite number, got {value}")
            continue
        result[key] = value
    return result


def _section_of(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _suggestion(key: str, section: type[BaseModel], prefix: str, everything: Sequence[str]) -> str:
    """Names the nearest key of this section, else of the whole configuration, else lists the keys of this section."""
    siblings = difflib.get_close_matches(key, list(section.model_fields), n=1)
    if siblings:
        return f", did you mean {prefix}{siblings[0]}?"
    leaves = {name.rpartition(".")[2]: name for name in reversed(everything)}
    nearest = difflib.get_close_matches(key, list(leaves), n=1)
    if nearest:
        return f", did you mean {leaves[nearest[0]]}?"
    return f" ({prefix.rstrip('.') or 'the file'} has {', '.join(section.model_fields)})"


def _all_names(section: type[BaseModel], prefix: str) -> list[str]:
    names = []
    for key, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        names += [prefix + key] if inner is None else [prefix + key, *_all_names(inner, f"{prefix}{key}.")]
    return names


def _explain(entry: dict[str, Any]) -> str:
    """One problem that pydantic found as "key: what is expected, what was given"."""
    path = ".".join(str(part) for part in entry["loc"])
    message = str(entry["msg"]).removeprefix("Value error, ")
    if entry["type"] == "missing":
        return f"{path} is required"
    if entry["type"] == "value_error":
        return f"{path}: {message}" if path else message
    if entry["type"] in ("model_type", "dict_type"):
        message = "Input should be a section with keys"
    for wording, plain in (("a valid integer", "an integer"), ("a valid ", "a "), ("a tuple", "a list")):
        message = message.replace(wording, plain)
    message = f" {message[6:]}" if message.startswith("Input ") else f": {message}"
    return f"{path}{message}, got {_describe(entry['input'])}"


def _describe(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
