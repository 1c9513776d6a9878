"""Every table that the paper has for a bundle, and the figure, on phantoms with a shrunken network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vafa_monai.data import write_phantom
from vafa_monai.paper import Reproduction, ReproductionSettings
from vafa_monai.paper.row import paper_keys, paper_tables
from vafa_monai.paper.setting import BUNDLES, FIGURE
from vafa_monai.runs import shipped_bundle

pytestmark = [pytest.mark.slow, pytest.mark.bundle]

SHRUNKEN = {
    "unetr": {
        "network_def#feature_size": 4,
        "network_def#hidden_size": 24,
        "network_def#mlp_dim": 48,
        "network_def#num_heads": 2,
    },
    "unetrpp": {
        "network_def#stem_stride": [2, 2, 1],
        "network_def#feature_size": 4,
        "network_def#dims": [4, 4, 8, 8],
        "network_def#depths": [1, 1, 1, 1],
        "network_def#num_heads": 2,
        "network_def#projection_sizes": [8, 8, 8, 8],
    },
}
COARSE = {"synapse": [6.0, 6.0, 9.0], "acdc": [3.0, 3.0, 10.0]}  # mm


@pytest.mark.parametrize("name", BUNDLES)
def test_every_table_of_a_bundle_runs_on_phantoms(name, tmp_path):
    dataset, network = name.split("_")
    classes = {"classes": 9} if name == "synapse_unetrpp" else {}
    write_phantom(dataset, tmp_path / "data", cases=3, layout="prepared", size=0.5, **classes)
    bundle = Path(shutil.copytree(shipped_bundle(f"{name}_segmentation"), tmp_path / f"{name}_segmentation"))
    overrides = {"roi_size": [32, 32, 16], "overlap": 0.25, "pixdim": COARSE[dataset], **SHRUNKEN[network]}
    for table in [*paper_tables(name), FIGURE]:
        settings = ReproductionSettings(
            table=table, bundle=bundle, dataset_dir=tmp_path / "data", quick=True, overrides=overrides
        )
        files = Reproduction(settings, say=lambda line: None).run()
        document = json.loads(files["json"].read_text())
        rows = [row for row in document["rows"] if row["in_paper"]]
        assert len(rows) == len(paper_keys(table, name)) or table == FIGURE
        assert document["failures"] == []
        for row in document["rows"]:
            column = "clean" if table == "table6" else "dsc"
            assert row["cells"][column]["measured"] > 0
        assert "Measured on phantoms" in " ".join(document["cautions"])
