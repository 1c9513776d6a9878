"""What is refused before nnU-Net is needed, and what is said where it is missing."""

import json
import sys

import pytest
import torch

from vafa_monai.nnunet import NNUNetAudit, NNUNetModel


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
