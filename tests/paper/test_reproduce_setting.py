"""The declarations of the tables: every row of the paper, with the settings that it names, bundle by bundle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from vafa_monai.attacks import VAFA
from vafa_monai.paper.outcome import paper_cautions, paper_notes
from vafa_monai.paper.row import paper_keys, paper_tables
from vafa_monai.paper.run import PaperRuns, ReproductionSettings
from vafa_monai.paper.setting import BUNDLES, FIGURE, bundle_name_of, paper_setting
from vafa_monai.runs import BundleRun, shipped_bundle

TABLES = [(table, bundle) for bundle in BUNDLES for table in paper_tables(bundle)]
every_table = pytest.mark.parametrize(("table", "bundle"), TABLES, ids=["-".join(pair) for pair in TABLES])
every_page = pytest.mark.parametrize(
    ("table", "bundle"), [*TABLES, *((FIGURE, bundle) for bundle in BUNDLES)], ids=lambda value: value
)


def rows(table, bundle="synapse_unetr"):
    return {one.name: one for one in paper_setting(table, bundle).measurements}


# Every row of the paper, and what is beside it


@every_table
def test_every_row_of_the_paper_is_declared_once_and_in_its_order(table, bundle):
    setting = paper_setting(table, bundle)
    declared = setting.hardenings or setting.measurements
    assert [one.key for one in declared if one.key is not None] == paper_keys(table, bundle)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_columns_of_table_6_are_those_of_the_paper(bundle):
    setting = paper_setting("table6", bundle)
    columns = [one.key for one in setting.measurements if one.key is not None]
    assert columns == ["clean", "pgd", "fgsm", "bim", "vafa"]


@every_page
def test_results_of_a_table_have_names_of_their_own(table, bundle):
    setting = paper_setting(table, bundle)
    for names in ([one.name for one in setting.measurements], [one.key for one in setting.hardenings]):
        assert len(set(names)) == len(names)


@every_table
def test_every_table_has_a_clean_run_and_the_three_controls(table, bundle):
    overlays = {one.overlay for one in paper_setting(table, bundle).measurements}
    assert {"identity", "identity_stretch", "uniform_quantization", "gaussian_noise"} <= overlays


@every_table
def test_what_a_table_is_about_differs_between_its_rows(table, bundle):
    setting = paper_setting(table, bundle)
    in_paper = [one.overrides for one in setting.hardenings or setting.measurements if one.key not in (None, "clean")]
    for name in setting.varied:
        assert len({str(overrides[name]) for overrides in in_paper if name in overrides}) > 1


@every_page
def test_every_overlay_and_config_id_is_in_the_bundle(table, bundle):
    folder = shipped_bundle(f"{bundle}_segmentation")
    runs = PaperRuns(ReproductionSettings(table=table, bundle=folder, dataset_dir="data"))
    standard, *hardened = runs.models()
    chains = [runs.evaluation(standard, one, Path("results")) for one in runs.setting.measurements]
    for run in [*chains, *map(runs.training, hardened)]:
        parser = BundleRun(bundle=run.bundle, overlays=run.overlays).workflow().parser
        assert [name for name in run.overrides if name not in parser] == []


# The settings that a row names


@pytest.mark.parametrize("q_max", [10, 20, 30, 40, 60, 80])
def test_table_2_varies_q_max_at_block_8_and_20_steps(q_max):
    row = rows("table2")[f"vafa_q{q_max}"]
    assert row.overlay == "vafa_authors"
    assert row.overrides == {"q_max": q_max, "block_size": [8, 8, 8], "attack_steps": 20}
    control = rows("table2")[f"uniform_quantization_q{q_max}"]
    assert control.overrides == {"q_max": q_max, "block_size": [8, 8, 8]}


@pytest.mark.parametrize("steps", [10, 20, 30, 40, 50, 60])
def test_table_3_varies_the_steps(steps):
    row = rows("table3")[f"vafa_steps{steps}"]
    assert row.overrides == {"q_max": 20, "block_size": [8, 8, 8], "attack_steps": steps}
    assert row.gradients == steps


@pytest.mark.parametrize("edge", [4, 8, 16, 32, 48, 96])
def test_table_4_varies_the_block(edge):
    assert rows("table4")[f"vafa_block{edge}"].overrides == {
        "q_max": 20,
        "block_size": [edge] * 3,
        "attack_steps": 20,
    }


def test_voxel_attacks_are_the_published_ones():
    table = rows("table5")
    published = {"attack_steps": 20, "attack#step_size": 0.01}
    assert table["pgd_eps8"].overrides == {"eps": "$8 / 255", **published, "attack#random_start": False}
    assert table["bim_eps4"].overrides == {"eps": "$4 / 255", **published}
    assert table["fgsm_eps4"].overrides == {"eps": "$4 / 255"}
    assert table["gn_std8"].overrides == {"eps": "$8 / 255"}
    assert table["vafa_q30"].overrides == {"q_max": 30, "block_size": [32, 32, 32], "attack_steps": 20}


def test_vafa_2d_has_the_steps_of_the_code_and_beside_it_those_of_the_text():
    table = rows("table1")
    assert (table["vafa_2d"].key, table["vafa_2d"].overrides["attack_steps"]) == ("vafa_2d", 10)
    assert (table["vafa_2d_steps20"].key, table["vafa_2d_steps20"].overrides["attack_steps"]) == (None, 20)


@pytest.mark.parametrize(("bundle", "levels", "q_max"), [("synapse_unetrpp", 4, 20), ("acdc_unetr", 2, 10)])
def test_table_6_trains_and_attacks_with_the_budgets_of_the_dataset(bundle, levels, q_max):
    setting = paper_setting("table6", bundle)
    overrides = [one.overrides for one in (*setting.measurements, *setting.hardenings)]
    assert {one["eps"] for one in overrides if "eps" in one} == {f"${levels} / 255"}
    assert {one["q_max"] for one in overrides if "q_max" in one} == {q_max}
    assert {str(one["block_size"]) for one in overrides if "block_size" in one} == {"[32, 32, 32]"}


def test_only_the_model_with_frequency_consistency_sees_clean_windows():
    models = {one.key: one for one in paper_setting("table6", "synapse_unetr").hardenings}
    names = ("clean_weight", "adversarial_weight", "consistency_weight")
    weights = {key: tuple(one.overrides[name] for name in names) for key, one in models.items()}
    assert weights.pop("vafa_fr") == (1, 1, 1)
    assert set(weights.values()) == {(0, 1, 0)}
    assert [list(one.overlays[2:]) for one in models.values()] == [
        ["attacks/pgd"],
        ["attacks/fgsm"],
        ["attacks/bim"],
        ["attacks/gaussian_noise"],
        [],
        [],
    ]


def test_acdc_has_the_two_models_of_the_paper():
    assert [one.title for one in paper_setting("table6", "acdc_unetrpp").hardenings] == ["M_VAFA", "M_VAFA-FR"]


# What the notes claim


def test_rows_of_table_2_would_be_equal_by_algorithm_1_and_are_not_by_the_code(volume, label, tiny_network):
    def attacked(preset, q_max):
        attack = VAFA.preset(preset, block_size=(4, 4, 4), q_max=q_max, steps=20, ssim_weight=0)
        return attack(volume, label, tiny_network)

    torch.testing.assert_close(attacked("paper", 20), attacked("paper", 80), rtol=0, atol=0)
    assert not torch.allclose(attacked("authors", 20), attacked("authors", 80), atol=0.01)


@every_page
def test_notes_name_the_preset_and_leave_no_gap(table, bundle):
    notes = paper_notes(paper_setting(table, bundle), whole_volume=False, quick={}, changed={})
    assert any("preset authors" in note for note in notes)
    assert not re.search(r"[{}]|None", " ".join(notes))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("table1", "the paper does not state it"),
        ("table2", "The block is inferred"),
        ("table5", "dropped lost organs"),
        ("table6", "drops the clean loss, too"),
        (FIGURE, "does not state its settings"),
    ],
)
def test_notes_say_what_was_chosen(table, words):
    notes = paper_notes(paper_setting(table, "synapse_unetr"), whole_volume=False, quick={}, changed={})
    assert any(words in note for note in notes)


def test_budgets_that_the_paper_does_not_state_are_said_to_be_chosen():
    notes = paper_notes(paper_setting("table6", "acdc_unetr"), whole_volume=False, quick={}, changed={})
    assert any("ε = 2/255, q_max 10" in note and "chosen: those of the training" in note for note in notes)
    assert any("On ACDC a step of 0.01 is longer" in note for note in notes)


def test_notes_tell_tiles_overrides_and_a_smoke_run():
    setting = paper_setting("table1", "synapse_unetr")
    notes = paper_notes(setting, whole_volume=True, quick={"num_cases": 1}, changed={"overlap": 0.25})
    assert any("through the sliding window" in note for note in notes)
    assert "Changed for the smoke run: num_cases 1." in notes
    assert "Changed by the caller: overlap 0.25." in notes
    assert not any("window by window, without overlap, as published" in note for note in notes)


def test_cautions_name_phantoms_few_cases_and_a_smoke_run():
    setting = paper_setting("table1", "synapse_unetr")
    cautions = paper_cautions(setting, cases=1, synthetic=True, quick=True)
    assert [caution.partition(" ")[0] for caution in cautions] == ["A", "Measured", "The", "Measured"]
    assert cautions[-1] == "Measured on 1 case; the paper's test split has 12."
    assert len(paper_cautions(setting, cases=12, synthetic=False, quick=False)) == 1


# What is refused


def test_table_that_the_bundle_does_not_have_is_refused_with_those_that_it_has():
    with pytest.raises(
        ValueError, match=r"table must be one of \['table6', 'figure2'\] for acdc_unetr, got 'table2'\."
    ):
        paper_setting("table2", "acdc_unetr")


def test_name_of_a_bundle_is_that_of_its_folder_or_given(tmp_path, monkeypatch):
    folder = tmp_path / "acdc_unetrpp_segmentation"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert bundle_name_of(Path()) == "acdc_unetrpp"
    assert bundle_name_of(tmp_path, "synapse_unetr") == "synapse_unetr"
    with pytest.raises(
        ValueError, match=r"bundle_name must be one of \['synapse_unetr', .*\], got 'mine'; name it with"
    ):
        bundle_name_of(tmp_path / "mine")


@pytest.mark.parametrize(
    ("table", "overrides", "sentence"),
    [
        ("table2", {"q_max": 5}, r"overrides must leave q_max to table2, got q_max\."),
        ("table3", {"attack_steps": 5}, r"overrides must leave attack_steps to table3, got attack_steps\."),
        ("table6", {"clean_weight": 1}, r"overrides must leave clean_weight, .* to table6, got clean_weight\."),
        ("table1", {"results_dir": "x", "model_name": "y"}, "to the command, got model_name, results_dir"),
    ],
)
def test_overrides_that_would_spoil_a_table_are_refused(table, overrides, sentence):
    folder = shipped_bundle("synapse_unetr_segmentation")
    with pytest.raises(ValueError, match=sentence):
        PaperRuns(ReproductionSettings(table=table, bundle=folder, dataset_dir="data", overrides=overrides))


def test_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"bundle must be a folder with configs/train\.json"):
        PaperRuns(ReproductionSettings(table="table1", bundle=tmp_path, dataset_dir="data"))


# The runs


def runs_of(table, **settings):
    folder = shipped_bundle("synapse_unetr_segmentation")
    return PaperRuns(ReproductionSettings(table=table, bundle=folder, dataset_dir="data", **settings))


def test_attacks_are_tile_by_tile_unless_the_whole_volume_is_asked_for_and_clean_is_neither():
    def overlays(runs):
        return {one.name: runs.evaluation(runs.standard, one, Path("r")).overlays for one in runs.setting.measurements}

    tiled, whole = overlays(runs_of("table1")), overlays(runs_of("table1", whole_volume=True))
    assert {name for name, chain in tiled.items() if "tiles" not in chain} == {"identity"}
    assert not any("tiles" in chain for chain in whole.values())


def test_overrides_go_to_every_run_and_win_over_a_smoke_run():
    runs = runs_of("table6", quick=True, overrides={"roi_size": [16, 16, 16], "attack_steps": 1})
    model = runs.models()[1]
    chains = [runs.evaluation(model, runs.setting.measurements[1], Path("r")), runs.training(model)]
    assert all(one.overrides["roi_size"] == [16, 16, 16] and one.overrides["attack_steps"] == 1 for one in chains)
    assert chains[0].overrides["num_cases"] == 1
    assert chains[1].overrides["epochs"] == 1


def test_smoke_run_keeps_its_models_and_results_to_itself(tmp_path):
    quick, full = runs_of("table6", quick=True, output=tmp_path), runs_of("table6", output=tmp_path)
    assert all(model.file.is_relative_to(tmp_path) for model in quick.models())
    assert all(model.file.parent == full.bundle / "models" for model in full.models())
    assert quick.resume_dir(quick.models()[1], "x") != full.resume_dir(full.models()[1], "x")


def test_another_checkpoint_is_taken_as_the_standard_model(tmp_path):
    (tmp_path / "mine.pt").touch()
    runs = runs_of("table6", overrides={"ckpt_path": str(tmp_path / "mine.pt")})
    assert runs.standard.file == tmp_path / "mine.pt"
    assert runs.training(runs.models()[1]).overrides["pretrained_file"] == str(tmp_path / "mine.pt")
    assert "ckpt_path" not in runs.overrides
