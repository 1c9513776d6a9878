"""The section of a README: the verdict first, then figures, data and limits."""

import pytest

from vafa_monai.reports.build import model_card
from vafa_monai.reports.evidence import gather
from vafa_monai.results import load_results
from vafa_monai.results.audit import load_audits


@pytest.fixture
def card(results_dir):
    def build(**about):
        return model_card(gather(load_results(results_dir), load_audits(results_dir)), **about)

    return build


def test_verdict_stands_above_every_number(two_models, write_audit, card):
    write_audit("hardened", "WARN", ("WARN",))
    text = card(data_note="Synthetic.")
    assert text.startswith("## Adversarial robustness\n\n**standard: NOT AUDITED.** Nothing has checked")
    assert "**hardened: WARN.** The attack ensemble (VolAA) was not run" in text
    assert "The attacks may be weaker" in text
    assert text.index("**hardened: WARN.**") < text.index("| model | verdict |") < text.index("### Limits")
    assert "Synthetic. Measured on 2 cases; organs: gray matter, white matter." in text
    assert "no claim about a population follows from them" in text


def test_figures_are_those_of_the_results(two_models, card):
    (line,) = (line for line in card().splitlines() if line.startswith("| hardened | NOT AUDITED"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:5] == ["0.895 [0.885, 0.905]", "not run", "-"]
    assert cells[5:] == ["gray matter (0.895 to 0.745 under PGD)", "hardened0123"]


def test_threat_models_stand_apart_by_name(write_result, card):
    stretch = {"_target_": "x.VAFA", "q_max": 20, "output_norm": "slice_minmax"}
    write_result(
        "standard",
        "pgd",
        0.8,
        attack={"name": "pgd", "role": "attack", "settings": {"_target_": "x.PGD", "eps": 4 / 255}},
    )
    write_result("standard", "vafa_2d", 0.4, attack={"name": "vafa_2d", "role": "attack", "settings": stretch})
    text = card()
    assert "| voxels within 4/255 (L-inf) | attack | standard | 0.800 [0.790, 0.810] | PGD | 3.6 |" in text
    assert (
        "| quantization up to q 20, then slice stretch | attack | standard | 0.400 [0.390, 0.410] | VAFA-2D |" in text
    )
    assert "Numbers of different threat models do not compare" in text


def test_model_without_an_attack_has_nothing_known(write_result, card):
    write_result("standard", "identity", 0.9, role="control")
    assert "| standard | NOT AUDITED | 0.900 [0.890, 0.910] | not run | - | not known | standard0123 |" in card()


def test_every_table_has_the_same_cells_in_every_line(write_result, card):
    write_result("odd | name", "pgd", 0.8)
    tables = [block.splitlines() for block in card().replace("\\|", "").split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)
