"""The list of protocols: names, defaults and variants."""

from __future__ import annotations

import pytest

from diffhmr.errors import UserError
from diffhmr.evaluation.protocols import EVALUATED_DATASETS, PROTOCOLS, SYNTHETIC, find_protocol, name_of_run


def test_names_are_unique_and_defaults_are_known() -> None:
    assert EVALUATED_DATASETS == ("synthetic", "3dpw", "emdb", "h36m", "mpi_inf_3dhp", "coco")
    defaults = [find_protocol(dataset).full_name for dataset in EVALUATED_DATASETS]
    assert defaults == ["synthetic-v1", "3dpw-spin-v1", "emdb1-24-v1", "h36m-p1-v1", "mpi-inf-3dhp-v1", "coco-pck-v1"]
    assert find_protocol("3dpw", "3dpw-occ-v1") is PROTOCOLS["3dpw-occ"] is find_protocol("3dpw", "3dpw-occ")
    with pytest.raises(UserError, match="3dpw has no protocol 'h36m-p1'; choose one of 3dpw-spin"):
        find_protocol("3dpw", "h36m-p1")
    assert name_of_run("3dpw-spin-v1", 35515, 35515) == "3dpw-spin-v1"
    assert name_of_run("3dpw-spin-v1", 100, 35515) == "3dpw-spin-v1 (first 100 of 35515)"
    assert name_of_run("3dpw-spin-v1", 9, 9, True) == "3dpw-spin-v1 (partial release)"
    assert name_of_run("3dpw-spin-v1", 1, 9, True) == "3dpw-spin-v1 (first 1 of 9, partial release)"


def test_variants_on_the_models_own_body_say_so() -> None:
    variants = [protocol for protocol in PROTOCOLS.values() if protocol.truth_body == "model"]
    for protocol in variants:
        assert protocol is SYNTHETIC or protocol.name.endswith("-free-body")
        assert protocol is SYNTHETIC or "NOT comparable" in protocol.describe()["truth"]
    assert not any(protocol.needs_smpl for protocol in variants)
    assert PROTOCOLS["3dpw-prohmr-free-body"].regressors() == ("J_regressor_extra",)
