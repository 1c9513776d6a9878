"""What is refused before nnU-Net is needed, and what is said where it is missing."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from vafa_monai.nnunet import NNUNetAudit, NNUNetModel
from vafa_monai.nnunet.plan import require_plain


def write_model(folder, content):
    (folder / "fold_0").mkdir()
    for name in ("plans", "dataset"):
        (folder / f"{name}.json").write_text(json.dumps({}))
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")


def test_a_folder_without_plans_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"folder must be one that nnUNetv2_train wrote, with plans\.json"):
        NNUNetModel.load(tmp_path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    write_model(tmp_path, {"model": torch.zeros(1)})
    with pytest.raises(ValueError, match="checkpoint must be one of nnU-Net v2"):
        NNUNetModel.load(tmp_path)


def test_a_missing_nnunet_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    write_model(tmp_path, {"network_weights": {}, "init_args": {"configuration": "3d_fullres"}, "trainer_name": "any"})
    with pytest.raises(ValueError, match=r"pip install 'vafa-monai\[nnunet\]'"):
        NNUNetModel.load(tmp_path)


def test_a_document_is_not_written_over(tmp_path):
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(ValueError, match="output must not exist yet"):
        NNUNetAudit(model=tmp_path, images=tmp_path, labels=tmp_path, output=tmp_path / "audit.json")


@pytest.mark.parametrize(
    ("patch", "regions", "ignored", "message"),
    [
        ((64, 64), False, False, "configuration must be 3D, got '2d'"),
        ((8, 8, 8), True, False, "labels must be plain classes, got regions"),
        ((8, 8, 8), False, True, "labels must be plain classes, got an ignore label"),
    ],
    ids=["2D", "regions", "ignored"],
)
def test_plans_that_no_trainer_or_attack_takes_are_refused(patch, regions, ignored, message):
    labels = SimpleNamespace(has_regions=regions, has_ignore_label=ignored)
    with pytest.raises(ValueError, match=message):
        require_plain("2d", SimpleNamespace(patch_size=patch), labels)


def test_plain_plans_are_taken():
    labels = SimpleNamespace(has_regions=False, has_ignore_label=False)
    require_plain("3d", SimpleNamespace(patch_size=(8, 8, 8)), labels)
