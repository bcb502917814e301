"""The doctor: finds files by every accepted name, checks them, and says where to get the missing ones."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffhmr.body.files import SMPL_NUM_VERTICES
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import read_metadata, save_model
from diffhmr.command_line import run_command
from diffhmr.config import ExperimentConfig
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.motion_checkpoint import save_motion_model
from scripts import doctor
from scripts.doctor_wanted import Finding, examine
from tests.body.test_files import smpl_sized_fields, write_npz, write_official_pickle
from tests.toy_body import make_fields


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("body", "checkpoints", "datasets"):
        (tmp_path / "data" / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    return tmp_path / "hub"


def find(root: Path, hub: Path, name: str) -> Finding:
    return next(finding for finding in doctor.diagnose(root, hub) if finding.name == name)


def test_on_an_empty_machine_everything_has_a_remedy_with_a_place(root: Path, hub: Path) -> None:
    findings = [finding for finding in doctor.diagnose(root, hub) if finding.group != "optional packages"]
    assert {finding.group for finding in findings} == {
        "bodies", "regressors", "pose priors", "checkpoints", "torchvision weights", "data sets", "prepared data",
        "static fits", "clips",
    }  # fmt: skip
    for finding in findings:
        assert finding.status == "missing" and finding.path is None and finding.purpose
        assert finding.remedy is not None and str(root) in finding.remedy
        assert re.search(r"https?://|git checkout|put any pictures", finding.remedy)
    assert "smplify.is.tue.mpg.de" in str(find(root, hub, "SMPL neutral").remedy)
    assert "smpl.is.tue.mpg.de" in str(find(root, hub, "SMPL female").remedy)


def test_the_real_project_has_its_free_body(hub: Path) -> None:
    finding = find(doctor.ROOT, hub, "free body (not SMPL)")
    assert finding.status == "found" and finding.remedy is None
    assert re.fullmatch("[0-9a-f]{12}", str(finding.details["sha256"])) and finding.details["betas"] == 10


@pytest.mark.parametrize(
    ("gender", "file_name"),
    [
        ("neutral", "SMPL_NEUTRAL.npz"),
        ("neutral", "basicModel_neutral_lbs_10_207_0_v1.0.0.npz"),
        ("male", "basicmodel_m_lbs_10_207_0_v1.1.0.npz"),
        ("male", "SMPL_MALE.npz"),
        ("female", "basicModel_f_lbs_10_207_0_v1.0.0.npz"),
    ],
)
def test_smpl_is_found_under_its_names(root: Path, hub: Path, gender: str, file_name: str) -> None:
    path = write_npz(root / "data" / "body" / file_name, **smpl_sized_fields())
    finding = find(root, hub, f"SMPL {gender}")
    assert finding.status == "found" and finding.path == str(path)
    assert finding.details["gender"] == gender and finding.details["version"] == "v1.0.0"
    assert finding.details["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    others = [f for f in doctor.diagnose(root, hub) if f.name.startswith("SMPL ") and f.name != finding.name]
    assert [other.status for other in others] == ["missing", "missing"]


def test_version_follows_the_number_of_shape_directions(root: Path, hub: Path) -> None:
    fields = smpl_sized_fields()
    fields["shapedirs"] = np.zeros((SMPL_NUM_VERTICES, 3, 300), np.float16)
    write_npz(root / "data" / "body" / "SMPL_MALE.npz", **fields)
    assert find(root, hub, "SMPL male").details["version"] == "v1.1.0"


def test_an_official_pickle_is_read_without_chumpy(root: Path, hub: Path) -> None:
    write_official_pickle(root / "data" / "body" / "SMPL_FEMALE.pkl", make_fields())
    finding = find(root, hub, "SMPL female")
    assert finding.status == "found" and finding.details["vertices"] == 192


def test_damaged_files_are_unusable_and_say_why(root: Path, hub: Path) -> None:
    body = root / "data" / "body"
    (body / "SMPL_NEUTRAL.pkl").write_bytes(b"broken")
    np.save(body / "J_regressor_h36m.npy", np.ones((3, 3)))
    (body / "SMPL_to_J19.pkl").write_bytes(b"broken")
    np.savez(body / "gmm_08.npz", means=np.zeros((8, 3)))
    (body / "gmm_08.npz").rename(body / "gmm_08.pkl")
    np.savez(body / "smpl_mean_params.npz", pose=np.zeros(72), shape=np.zeros(10), cam=np.zeros(3))
    (root / "data" / "checkpoints" / "diffhmr_synthetic.safetensors").write_bytes(b"broken")
    (root / "data" / "datasets" / "amass").mkdir()
    for name, reason in (
        ("SMPL neutral", "no readable pickle"),
        ("J_regressor_h36m.npy", "not a usable joint regressor"),
        ("SMPL_to_J19.pkl", "SMPL_to_J19.pkl"),
        ("gmm_08.pkl", "gmm_08.pkl"),
        ("smpl_mean_params.npz", "expected pose"),
        ("diffhmr_synthetic.safetensors", "diffhmr_synthetic.safetensors"),
        ("AMASS motion archive", "holds no .npz files"),
    ):
        finding = find(root, hub, name)
        assert finding.status == "unusable" and reason in str(finding.remedy) and finding.path is not None


@pytest.mark.parametrize("config", ["{", "5", "{}", '{"name": "a", "modle": {}}'])
def test_damaged_headers_do_not_stop_the_doctor(root: Path, hub: Path, toy_body: BodyModel, config: str) -> None:
    path = root / "data" / "checkpoints" / "mine.safetensors"
    save_model(path, torch.nn.Linear(2, 2), ExperimentConfig(name="mine"), toy_body, step=1)
    save_file({"a": torch.zeros(1)}, path, metadata=read_metadata(path) | {"config": config})
    assert find(root, hub, "mine.safetensors").status == "unusable"
    np.save(root / "data" / "body" / "array.npy", np.zeros(3))
    (root / "data" / "body" / "array.npy").rename(root / "data" / "body" / "smpl_mean_params.npz")
    assert find(root, hub, "smpl_mean_params.npz").status == "unusable"


def test_wrong_options_are_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["doctor", "--jsn"])
    assert run_command(doctor.main) == 2
    assert capsys.readouterr().err == "error: unknown option --jsn, did you mean --json?\n"


def test_regressors_and_mean_parameters(root: Path, hub: Path) -> None:
    body = root / "data" / "body"
    np.save(body / "J_regressor_extra.npy", np.full((9, 4), 0.25))
    np.savez(body / "smpl_mean_params.npz", pose=np.zeros(144), shape=np.zeros(10), cam=np.zeros(3))
    assert find(root, hub, "J_regressor_extra.npy").details["shape"] == "9 x 4"
    assert find(root, hub, "smpl_mean_params.npz").status == "found"
    (body / "SMPL_to_J19.pkl").write_bytes(pickle.dumps(np.full((19, 4), 0.25)))
    assert find(root, hub, "SMPL_to_J19.pkl").details["shape"] == "19 x 4"


def test_pose_priors(root: Path, hub: Path) -> None:
    assert find(doctor.ROOT, hub, "pose_prior.npz").details["Gaussians"] == 8
    mixture = {"means": np.zeros((2, 69)), "covars": np.stack([np.eye(69)] * 2), "weights": np.full(2, 0.5)}
    (root / "data" / "body" / "gmm_08.pkl").write_bytes(pickle.dumps(mixture))
    assert find(root, hub, "gmm_08.pkl").details["Gaussians"] == 2


def test_smpl_and_regressors_say_which_protocols_need_them(root: Path, hub: Path) -> None:
    neutral = ["3dpw-video-neutral17", "3dpw-video-neutral17-labels", "h36m-video-neutral17"]
    wanted = {
        "male": ["3dpw-spin", "3dpw-prohmr", "3dpw-occ", "emdb1-24", "3dpw-video-gendered14"],
        "neutral": ["3dpw-neutral17", *(name for one in neutral for name in (one, f"{one}-clips16"))],
    }
    for gender, protocols in wanted.items():
        named = find(root, hub, f"SMPL {gender}").purpose.partition("the truth of the protocols ")[2]
        assert sorted(named.split(", ")) == sorted(protocols)
    assert "3dpw-prohmr" in find(root, hub, "SMPL_to_J19.pkl").purpose


def test_imported_checkpoints(root: Path, hub: Path, toy_body: BodyModel) -> None:
    folder = root / "data" / "checkpoints"
    remedy = find(root, hub, "spin_imported.safetensors").remedy
    assert f"import_checkpoint --from spin model_checkpoint.pt --out {folder}/spin_imported.safetensors" in str(remedy)
    path = folder / "prohmr_imported.safetensors"
    save_model(path, torch.nn.Linear(2, 2), ExperimentConfig(name="mine"), toy_body, step=1)
    header = read_metadata(path) | {"imported_from": "prohmr", "body_name": "none"}
    for name in ("spin", "prohmr"):
        save_file({"a": torch.zeros(1)}, folder / f"{name}_imported.safetensors", metadata=header)
    names = [finding.name for finding in doctor.diagnose(root, hub)]
    assert len(names) == len(set(names))
    finding = find(root, hub, "prohmr_imported.safetensors")
    assert finding.status == "found" and finding.details["model"] == "encoder only, imported from prohmr"
    assert "init=" in finding.purpose
    assert find(root, hub, "spin_imported.safetensors").status == "found"


def test_every_shipped_checkpoint_is_missed_when_it_is_gone(root: Path, hub: Path) -> None:
    for path in (doctor.ROOT / "data" / "checkpoints").glob("*_synthetic.safetensors"):
        assert find(doctor.ROOT, hub, path.name).status == "found"
        finding = find(root, hub, path.name)
        assert finding.status == "missing" and f"configs/{path.stem}.yaml" in str(finding.remedy), path.name


def test_a_network_of_clips(root: Path, hub: Path) -> None:
    network = DSTformer(DSTformerSize(width=8, hidden=8, depth=1, heads=2, features=8))
    header = {"body_name": "none", "body_sha256": "unknown", "imported_from": "motionbert"}
    save_motion_model(root / "data" / "checkpoints" / "lifter_imported.safetensors", network, header)
    finding = find(root, hub, "lifter_imported.safetensors")
    assert finding.status == "found" and finding.details["model"] == "dstformer, imported from motionbert"
    assert "load_motion_model" in finding.purpose and "init=" not in finding.purpose


def test_checkpoints_shipped_and_others(root: Path, hub: Path, toy_body: BodyModel) -> None:
    config = ExperimentConfig(name="mine")
    save_model(root / "data" / "checkpoints" / "mine.safetensors", torch.nn.Linear(2, 2), config, toy_body, step=123)
    finding = find(root, hub, "mine.safetensors")
    assert finding.status == "found" and finding.details["step"] == 123
    assert toy_body.name in str(finding.details["body"])
    assert find(root, hub, "diffhmr_keypoints.safetensors").status == "missing"


def test_network_weights_are_checked_against_their_name(root: Path, hub: Path) -> None:
    hub.mkdir()
    content = b"weights"
    good = hub / f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    good.write_bytes(content)
    assert doctor.inspect_hashed_weights(good) == {"sha256": hashlib.sha256(content).hexdigest()[:12]}
    wanted = next(w for w in doctor.wanted_files(root, hub) if w.name == "person and keypoint detector")
    wanted.candidates[0].write_bytes(content)
    finding = examine(wanted)
    assert finding.status == "unusable" and "is damaged" in str(finding.remedy)


def test_folders_count_what_they_hold(root: Path, hub: Path) -> None:
    folder = root / "data" / "datasets" / "backgrounds" / "street"
    folder.mkdir(parents=True)
    for name in ("a.jpg", "b.PNG", "notes.txt"):
        (folder / name).write_bytes(b"x")
    assert find(root, hub, "background pictures").details == {"pictures": 2}


def test_table_and_json_tell_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["doctor", "--json"])
    assert doctor.main() == 0
    report = json.loads(capsys.readouterr().out)
    assert report["environment"]["torch"].startswith(torch.__version__.split("+")[0])
    monkeypatch.setattr("sys.argv", ["doctor"])
    assert doctor.main() == 0
    table = capsys.readouterr().out
    for finding in report["findings"]:
        assert re.search(rf"{finding['status']}\s+{re.escape(finding['name'])}", table)
        assert finding["purpose"] in table and (finding["remedy"] or "") in table
