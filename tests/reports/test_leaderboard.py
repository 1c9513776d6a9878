"""Many reports in one table: the order of its rows, and which of them can be compared."""

import shutil

import pytest

from vafa_monai.reports.compare import leaderboard_rows, write_leaderboard

SCORES = {"passed": 0.5, "failed": 0.9, "warned": 0.6, "unknown": 0.7, "better": 0.8}

ENSEMBLE = {"name": "ensemble", "role": "attack", "settings": {"_target_": "x.AttackEnsemble", "name": "VolAA 1"}}


@pytest.fixture
def folder(write_result, write_audit, write_report, results_dir, tmp_path):
    """A report for each verdict; two models have none."""
    for model, dice in SCORES.items():
        shutil.rmtree(results_dir, ignore_errors=True)
        write_result(model, "identity", 0.95, role="control", cost={"forward": 7, "backward": 0})
        write_result(model, "ensemble", dice, cost={"forward": 100, "backward": 50}, attack=ENSEMBLE)
        if model in ("passed", "failed", "warned"):
            status = {"passed": "PASS", "failed": "FAIL", "warned": "WARN"}[model]
            write_audit(model, status, (status,))
        write_report(tmp_path / "all" / model, title=f"Report of {model}")
    return tmp_path / "all"


def test_verdict_decides_before_the_dsc(folder):
    rows = leaderboard_rows(folder)
    assert [row.summary.model for row in rows] == ["passed", "warned", "better", "unknown", "failed"]
    assert rows[0].source == "passed/report.json"
    assert (rows[0].summary.forward, rows[0].summary.backward) == (107, 50)


def test_same_cases_and_attacks_are_the_same_protocol(folder, write_result, write_report, results_dir, tmp_path):
    assert len({row.protocol for row in leaderboard_rows(folder)}) == 1
    shutil.rmtree(results_dir)
    write_result("longer", "pgd", 0.8, attack={"name": "pgd", "role": "attack", "settings": {"steps": 100}})
    write_report(folder / "longer")
    rows = leaderboard_rows(folder)
    assert len({row.protocol for row in rows}) == 2
    page = write_leaderboard(rows, tmp_path / "board.html").read_text()
    assert "These rows are of 2 protocols" in page


def test_page_shows_verdict_worst_and_clean_dsc_cost_and_hash(folder, tmp_path):
    page = write_leaderboard(leaderboard_rows(folder), tmp_path / "board.html").read_text()
    first = page[page.index("<tbody>") :].split("</tr>")[0]
    for words in ("PASS", "0.500", "0.950", "107 / 50", "passed0123", "Report of passed"):
        assert words in first
    assert "protocols. Only rows" not in page


def test_model_without_the_ensemble_has_another_protocol(folder, write_result, write_report, results_dir):
    shutil.rmtree(results_dir)
    write_result("clean", "identity", 0.99, role="control")
    write_result("clean", "pgd", 0.98)  # one attack is no ensemble
    write_report(folder / "clean")
    assert [row.summary.model for row in leaderboard_rows(folder)][2:] == ["better", "unknown", "failed", "clean"]


def test_folder_without_a_report_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"folder must hold a report.json, got"):
        leaderboard_rows(tmp_path)
    with pytest.raises(ValueError, match=r"folder must be an existing folder, got '.*nowhere'"):
        leaderboard_rows(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation": {"inferer": {"overlap": 0.5}}},
        {"intensity": {"value_range": [-1, 1]}},
        {"versions": {"vafa_monai": "0.2.0"}},
        {"cases": ("one",)},
        {"attack": {"name": "pgd", "role": "attack", "settings": {"eps": 0.5}}},
    ],
    ids=["evaluation", "range", "version", "cases", "settings"],
)
def test_other_protocol_has_a_table_of_its_own(changes, folder, write_result, write_report, results_dir, tmp_path):
    shutil.rmtree(results_dir)
    write_result("other", "pgd", 0.99, **changes)
    write_report(folder / "other")
    rows = leaderboard_rows(folder)
    assert rows[-1].summary.model == "other"
    page = write_leaderboard(rows, tmp_path / "board.html").read_text()
    assert page.count("<tbody>") == 2
    assert "other0123" in page[page.rindex("<tbody>") :]


def test_two_seeds_are_one_protocol(folder, write_result, write_report, results_dir):
    for seed in (0, 1):
        shutil.rmtree(results_dir)
        settings = {"settings": {"attack": {"seed": seed, "eps": 0.1}}}
        write_result(f"seed {seed}", "pgd", 0.8, attack={"name": "pgd", "role": "attack", **settings})
        write_report(folder / f"seed{seed}")
    protocols = {row.summary.model: row.protocol for row in leaderboard_rows(folder)}
    assert protocols["seed 0"] == protocols["seed 1"] != protocols["passed"]
