"""Trained weights that come with a bundle: what they are, that they load as data, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from vafa_monai.data.files import sha256
from vafa_monai.runs.shipped import shipped_weights

BUNDLE = Path(__file__).parents[2] / "bundles" / "hippocampus_unetr_segmentation"
MOST_BYTES = 12_000_000
METADATA = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
NAMES = ("model", "model_robust")


def test_bundle_ships_two_models_with_their_records_and_the_license_of_the_data():
    found = sorted(path.name for path in shipped_weights(BUNDLE))
    assert found == sorted([f"{name}.pt" for name in NAMES] + [f"{name}.training.json" for name in NAMES])
    assert sum((BUNDLE / "models" / f"{name}.pt").stat().st_size for name in NAMES) <= MOST_BYTES
    assert "CC BY-SA 4.0" in (BUNDLE / "docs" / "data_license.txt").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_shipped_model_is_the_one_of_its_record_and_fits_the_network(name):
    path = BUNDLE / "models" / f"{name}.pt"
    record = json.loads(path.with_suffix(".training.json").read_text())
    assert record["sha256"] == METADATA["robustness"][name]["sha256"] == sha256(path)
    assert record["model"] == path.name
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "train.json"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(path, weights_only=True))
    volume = torch.rand(1, 1, *parser.get_parsed_content("roi_size"), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert network.eval()(volume).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_card_gives_the_figures_of_the_metadata(name):
    card, stated = (BUNDLE / "docs" / "README.md").read_text(), METADATA["robustness"][name]
    row = next(line for line in card.splitlines() if line.startswith(f"| `{name}.pt` |"))
    for figure in ("dice_clean", "dice_under_attack"):
        if stated.get(figure) is not None:
            assert f"{stated[figure]:.3f}" in row
