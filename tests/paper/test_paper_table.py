"""Tables of the paper measured again: what is taken from a result, what stands beside it, and the files."""

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from vafa_monai.attacks import BIM, FGSM, PGD, VAFA, GaussianNoise, Identity, TiledAttack, UniformQuantization, describe
from vafa_monai.paper import PaperTable, write_paper_table
from vafa_monai.paper.row import (
    METRICS,
    PaperColumn,
    attack_row,
    metric_columns,
    model_row,
    paper_keys,
    paper_row,
    paper_tables,
)
from vafa_monai.paper.table import PaperModel
from vafa_monai.results import load_results
from vafa_monai.results.attack_name import setting_text

VOID = {"meta", "img", "br"}
BUNDLES = ("synapse_unetr", "synapse_unetrpp", "acdc_unetr", "acdc_unetrpp")


# The paper's values


@pytest.mark.parametrize(
    ("table", "bundle", "key", "values"),
    [
        ("table1", "synapse_unetr", "vafa", {"dsc": 52.54, "lpips": 97.84}),
        ("table2", "synapse_unetr", "vafa_q80", {"dsc": 48.76, "lpips": 94.5}),
        ("table3", "synapse_unetr", "vafa_steps60", {"dsc": 52.25, "lpips": 98.52}),
        ("table4", "synapse_unetr", "vafa_block96", {"dsc": 28.08, "lpips": 96.47}),
        ("table5", "synapse_unetr", "bim_eps8", {"dsc": 50.7, "hd95": 65.8, "lpips": 95.3}),
        ("table5", "synapse_unetrpp", "vafa_q30", {"dsc": 39.3, "hd95": 85.2, "lpips": 94.7}),
        (
            "table6",
            "synapse_unetrpp",
            "gn",
            {"clean": 80.05, "pgd": 76.23, "fgsm": 70.96, "bim": 74.51, "vafa": 41.44},
        ),
        ("table6", "acdc_unetr", "vafa_fr", {"clean": 83.44, "pgd": 60.63, "fgsm": 69.33, "bim": 60.61, "vafa": 73.05}),
    ],
)
def test_values_are_those_of_the_paper(table, bundle, key, values):
    assert paper_row(table, bundle, key) == values


def test_tables_have_the_rows_of_the_paper():
    counts = {(table, bundle): len(paper_keys(table, bundle)) for bundle in BUNDLES for table in paper_tables(bundle)}
    synapse = {"table1": 7, "table2": 7, "table3": 7, "table4": 7, "table5": 11, "table6": 6}
    expected = {(table, "synapse_unetr"): count for table, count in synapse.items()}
    expected |= {("table5", "synapse_unetrpp"): 11, ("table6", "synapse_unetrpp"): 6}
    assert counts == expected | {("table6", "acdc_unetr"): 2, ("table6", "acdc_unetrpp"): 2}


def test_drop_under_attack_and_loss_of_similarity_are_as_the_paper_describes_them():
    values = {key: paper_row("table4", "synapse_unetr", key) for key in paper_keys("table4", "synapse_unetr")[1:]}
    for column in ("dsc", "lpips"):  # "decrease when these parameters values are increased"
        assert [row[column] for row in values.values()] == sorted(
            (row[column] for row in values.values()), reverse=True
        )
    settings = (("table2", "vafa_q20"), ("table3", "vafa_steps20"), ("table4", "vafa_block8"))
    assert {paper_row(table, "synapse_unetr", key)["dsc"] for table, key in settings} == {56.24}  # one experiment


# What is taken from a result


@pytest.fixture
def result(write_result, results_dir):
    """Return a function that writes a result and reads it back."""

    def make(attack, dice, /, **overrides):
        write_result("standard", attack, dice, **overrides)
        return next(one for one in load_results(results_dir) if one.attack == attack)

    return make


def measured(name, result):
    return METRICS[name].measure(result)


def test_dice_has_the_background_and_is_in_percent(result):
    one = result("pgd", 0.8)
    assert measured("dsc", one) == pytest.approx(93.0)
    assert measured("dsc_organs", one) == pytest.approx(80.0)


def test_lpips_column_is_that_of_the_paper_and_absent_for_clean_images(result):
    summary = {"dice": 0.8, "dice_with_background": 0.93, "hd95_mm": 2.0, "nsd": 0.9, "ssim": 1, "psnr_db": None}
    summary |= {"rms_grey": 0.0, "linf_grey": 0.0, "lpips": 0.0106, "lost": 3, "invented": 0}
    assert measured("lpips", result("pgd", 0.8, summary=summary)) == pytest.approx(98.94)
    assert measured("lpips", result("identity", 0.8, summary={**summary, "lpips": 0.0})) is None
    assert measured("lpips", result("bim", 0.8)) is None


@pytest.mark.parametrize(
    ("distances", "lost", "invented", "expected"),
    [
        ((5.0, 300.0, None), 1, 0, 5.0),
        ((7.0, 9.0, 300.0), 0, 1, 8.0),
        ((300.0, None, 300.0), 1, 1, None),
        ((4.0, 2.0, 6.0), 0, 0, 4.0),
    ],
    ids=["lost", "invented", "nothing left", "all found"],
)
def test_distance_without_lost_organs_leaves_out_those_at_the_diagonal(result, distances, lost, invented, expected):
    one = result("pgd", 0.8, cases=("one",))
    case = one.cases[0].model_copy(update={"hd95_mm": (None, *distances), "lost": lost, "invented": invented})
    assert measured("hd95_found", one.model_copy(update={"cases": (case,)})) == expected


def test_lost_organs_are_a_mean_over_cases(result):
    one = result("pgd", 0.8)
    cases = tuple(case.model_copy(update={"lost": lost}) for case, lost in zip(one.cases, (3, 0), strict=True))
    assert measured("lost", one.model_copy(update={"cases": cases})) == 1.5


# Settings in words, from what a result recorded


@pytest.mark.parametrize(
    ("attack", "text"),
    [
        (PGD(eps=4 / 255, step_size=0.01, steps=20, random_start=True), "ε 4/255, 20 steps of 0.01, random start"),
        (BIM(eps=8 / 255, step_size=0.01, steps=3), "ε 8/255, 3 steps of 0.01"),
        (FGSM(eps=2 / 255), "ε 2/255, 1 step"),
        (GaussianNoise(std=8 / 255), "\N{GREEK SMALL LETTER SIGMA} 8/255"),
        (
            VAFA.preset("authors", block_size=(8, 8, 8), q_max=30, steps=20),
            "q 5 to 30, block 8x8x8, 20 steps of 1, start at q_max, slices stretched",
        ),
        (UniformQuantization(block_size=(8, 8, 1), q=20), "q 20, block 8x8x1"),
        (Identity(), ""),
        (Identity(output_norm="slice_minmax"), "slices stretched"),
        (TiledAttack(attack=FGSM(eps=2 / 255), roi_size=(4, 4, 4)), "ε 2/255, 1 step, tile by tile"),
    ],
    ids=["pgd", "bim", "fgsm", "noise", "vafa", "uniform", "clean", "stretch", "tiles"],
)
def test_settings_are_told_as_they_were(attack, text):
    assert setting_text(describe(attack)).replace("\N{MULTIPLICATION SIGN}", "x") == text


# Rows


def test_row_has_the_value_of_the_paper_and_the_difference(result):
    columns = metric_columns(["dsc", "lpips", "rms_grey"])
    row = attack_row(result("pgd", 0.8), {"dsc": 62.67, "lpips": 98.94}, title="PGD", columns=columns, in_paper=True)
    assert row.cells["dsc"].difference == pytest.approx(93.0 - 62.67)
    assert (row.cells["lpips"].value, row.cells["lpips"].paper, row.cells["lpips"].difference) == (None, 98.94, None)
    assert (row.cells["rms_grey"].value, row.cells["rms_grey"].paper) == (3.6, None)
    assert row.seconds == 12.3


def test_row_of_a_model_has_one_result_a_column(result):
    columns = [PaperColumn(name=name, title=name, in_paper=True) for name in ("clean", "pgd", "vafa")]
    results = {"clean": result("identity", 0.9), "pgd": result("pgd", 0.8)}
    row = model_row(
        results, {"clean": 73.47, "pgd": 65.53, "vafa": 42.47}, title="M_PGD", columns=columns, setting="on PGD"
    )
    assert [row.cells[name].value is None for name in ("clean", "pgd", "vafa")] == [False, False, True]
    assert [row.cells[name].paper for name in ("clean", "pgd", "vafa")] == [73.47, 65.53, 42.47]
    assert row.seconds == pytest.approx(24.6)


# Files


class Page(HTMLParser):
    """Collect tags, attributes and text; refuse a tag that closes another."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def table(result, tmp_path):
    """A table with a measured row, one that is not in the paper, one that failed, markup in texts, and a picture."""
    columns = metric_columns(["dsc", "lpips", "lost"])
    paper = {"dsc": 62.67, "lpips": 98.94}
    rows = [
        attack_row(result("pgd", 0.8), paper, title="PGD", columns=columns, in_paper=True),
        attack_row(result("odd", 0.7), {}, title="<b>odd</b> | one", columns=columns, in_paper=False),
        attack_row(None, paper, title="BIM", columns=columns, in_paper=True, failure="steps must be <i>more</i>."),
    ]
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG")
    model = PaperModel(title="Standard", path="models/model.pt", sha256="standard0123", origin="given")
    return PaperTable(
        name="table1",
        title="Table 1",
        bundle="synapse_unetr",
        columns=columns,
        rows=rows,
        notes=["Block: chosen."],
        cautions=["Measured on phantoms."],
        data_note="Balls.",
        models=[model],
        commands=["python -m monai.bundle run --x '<y>'"],
        settings={"seed": 0},
        picture=picture,
    )


@pytest.fixture
def files(table, tmp_path):
    return write_paper_table(table, tmp_path / "out")


def test_files_are_written_and_the_same_again(table, files, tmp_path):
    assert {name: path.name for name, path in files.items() if name != "picture"} == {
        "html": "table1.html",
        "json": "table1.json",
        "csv": "table1.csv",
        "markdown": "table1.md",
    }
    again = write_paper_table(table, tmp_path / "again")
    assert [path.read_bytes() for path in again.values()] == [path.read_bytes() for path in files.values()]


def test_json_holds_measured_paper_and_difference(files):
    document = json.loads(files["json"].read_text())
    assert document["schema"] == "vafa_monai.paper_table/1"
    measured, extra, failed = document["rows"]
    assert measured["cells"]["dsc"] == {"measured": 93.0, "paper": 62.67, "difference": pytest.approx(30.33)}
    assert (extra["in_paper"], extra["cells"]["dsc"]["paper"]) == (False, None)
    assert (failed["failure"], failed["cells"]["dsc"]["measured"]) == ("steps must be <i>more</i>.", None)
    assert document["models"][0]["sha256"] == "standard0123"
    assert document["measured_with"]["seed"] == ["0"]
    assert document["seconds"] == pytest.approx(24.6)
    assert len(document["results"]) == 2


def test_csv_has_one_line_for_each_cell(files):
    lines = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert len(lines) == 3 * 3
    line = next(line for line in lines if (line["row"], line["column"]) == ("PGD", "dsc"))
    assert (line["measured"], line["paper"], line["cases"], line["checkpoint_sha256"]) == (
        "93.0",
        "62.67",
        "2",
        "standard0123",
    )
    absent = next(line for line in lines if (line["row"], line["column"]) == ("PGD", "lpips"))
    assert (absent["measured"], absent["paper"], absent["difference"]) == ("", "98.94", "")


def test_markdown_has_the_same_cells_in_every_line(files):
    lines = files["markdown"].read_text().splitlines()
    assert "| PGD | 93.00 | 62.67 | +30.33 | \N{EN DASH} | 98.94 | \N{EN DASH} | 0.0 |  | 12.3 |" in lines
    table = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3
    assert {line.count("|") for line in table} == {11}
    assert "- LPIPS absent: set lpips_weights to a local file." in lines
    assert "> Measured on phantoms." in lines


def test_page_is_closed_loads_nothing_and_escapes_everything(files):
    text = files["html"].read_text()
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "base", "b", "i", "y"} & set(page.tags)
    loads = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert len(loads) == 1
    assert loads[0].startswith("data:image/png;base64,")
    assert "@media print" in text
    assert "url(" not in text


def test_page_shows_the_numbers_the_failure_and_the_conditions(files):
    text = Page(files["html"].read_text()).text
    for words in ("93.00", "62.67", "+30.33", "<b>odd</b> | one", "not in the paper", "Measured on phantoms."):
        assert words in text
    for words in ("failed: steps must be <i>more</i>.", "Incomplete.", "Block: chosen.", "standard0123", "Balls."):
        assert words in text
    assert "LPIPS absent: set lpips_weights to a local file." in text
    assert "vafa_monai 0.1.0" in text


def test_table_without_any_result_is_written(table, tmp_path):
    empty = replace(table, rows=table.rows[2:], models=[], picture=None)
    files = write_paper_table(empty, tmp_path / "empty")
    assert Page(files["html"].read_text()).open == []
    assert "picture" not in files
