"""The report: one page that parses, loads nothing and escapes everything; its numbers as JSON, CSV and Markdown."""

import base64
import hashlib
import json
import re
from functools import partial
from html.parser import HTMLParser

import pytest

from vafa_monai.reports import build_report

VOID = {"meta", "img", "br", "input"}
DRAWN = {"line", "polyline", "circle", "rect"}  # of a picture, closed by themselves


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

    def handle_startendtag(self, tag, attrs):
        assert tag in DRAWN
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        """All texts of the page."""
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("all") / "results"


@pytest.fixture(scope="module")
def page(writers, results):
    """A report with all that could go wrong in a page: markup in names, undefined values, a model without a result."""
    write_result, write_audit, write_two_models = writers[0](results), writers[1](results), writers[2]
    evil = "<script>alert(1)</script>"
    write_two_models(partial(write_result, cases=(evil, "two")))
    write_result("standard", "identity", 0.9, role="control", slices=True, cases=(evil, "two"))
    write_result("standard", "pgd", 0.8, slices=True, cases=(evil, "two"))
    write_result("third", "my & attack $\\x$", 0.5, model="<b>third</b>", notes=["odd <i>note</i>"])
    write_audit("standard", "FAIL", ("PASS", "FAIL", "SKIP"), command="vafa-monai audit '<z>'", cases=["two"])
    files = build_report(
        results,
        results.parent / "report",
        title="A <em>title</em>",
        trained_on="vafa_authors",
        commands=["vafa-monai attack --x '<y>'"],
        settings={"path": results, "seed": 0},
        data_note="Synthetic.",
    )
    return files, Page(files["html"].read_text())


def test_all_files_are_written_and_nothing_else(page):
    files, _ = page
    assert set(files) == {"html", "json", "csv", "markdown", "model_card", "chart", "figure"}
    assert sorted(path.name for path in files["html"].parent.iterdir()) == [
        "chart.png",
        "figure.png",
        "model_card.md",
        "report.html",
        "report.json",
        "results.csv",
        "results.md",
    ]


def test_page_is_closed_and_loads_nothing(page):
    files, parsed = page
    assert parsed.open == []
    assert not {"link", "iframe", "object", "base", "form"} & set(parsed.tags)
    loads = [value for _, name, value in parsed.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in loads)
    assert sum(value.startswith("data:") for value in loads) == 2
    text = files["html"].read_text()
    assert "@import" not in text
    assert "url(" not in text


def test_only_scripts_of_the_package_may_run(page):
    text = page[0]["html"].read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert policy.endswith("script-src " + " ".join(f"'sha256-{one}'" for one in hashes))
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; ")
    assert len(scripts) == 2
    assert not [name for _, name, _ in page[1].attributes if name.startswith("on")]


def test_every_picture_has_a_text(page):
    parsed = page[1]
    for tag, attribute in (("img", "alt"), ("canvas", "aria-label"), ("svg", "aria-label")):
        texts = [value for name, key, value in parsed.attributes if (name, key) == (tag, attribute)]
        assert len(texts) == parsed.tags.count(tag) > 0
        assert all(texts)


def test_names_are_escaped(page):
    files, parsed = page
    for name in (
        "<script>alert(1)</script>",
        "<b>third</b>",
        "A <em>title</em>",
        "odd <i>note</i>",
        "'<y>'",
        "'<z>'",
        "my & attack",
    ):
        assert name in parsed.text
    assert not {"em", "y", "z"} & set(parsed.tags)
    assert "<script>alert" not in files["html"].read_text()


def test_page_shows_the_numbers_and_where_they_come_from(page):
    text = page[1].text
    for words in (
        "Target met",
        "0.835",
        "30 %",
        "hardened0123",
        "models/hardened.pt",
        "vafa_monai 0.1.0",
        "scipy 1.17",
    ):
        assert words in text
    assert "absent *" in text
    assert "LPIPS absent: set lpips_weights to a local file." in text


def test_verdict_stands_above_every_number(page):
    text = page[1].text
    failed = text.index("standard: FAIL Do not use the numbers under attack as evidence")
    missing = text.index("hardened: NOT AUDITED Nothing has checked")
    assert failed < missing < text.index("In short A robust model") < text.index("All numbers Foreground DSC")
    assert text.index("Found in 1.") < text.index("Found in 0.")  # the failed check comes first


def test_json_holds_results_rows_findings_and_commands(page, results):
    document = json.loads(page[0]["json"].read_text())
    assert document["schema"] == "vafa_monai.report/2"
    assert document["reference"] == "standard"
    assert document["commands"] == ["vafa-monai attack --x '<y>'", "vafa-monai audit '<z>'"]
    assert document["settings"]["seed"] == 0
    assert json.loads((results / "hardened" / "pgd.json").read_text()) in document["results"]
    assert document["audits"] == [json.loads((results / "standard" / "audit.json").read_text())]
    (row,) = (row for row in document["rows"] if (row["model"], row["attack"]) == ("hardened", "vafa_authors"))
    assert row["share"] == pytest.approx(0.3)
    assert [one["met"] for one in document["findings"] if one["kind"] == "target"] == [True, None]


def test_one_model_without_slices_controls_and_audit(write_result, results_dir, tmp_path):
    write_result("standard", "pgd", 0.8)
    files = build_report(results_dir, tmp_path / "report", title="One")
    text = Page(files["html"].read_text()).text
    assert "figure" not in files
    for words in (
        "standard: NOT AUDITED",
        "No slices were saved",
        "so there is no slice viewer",
        "The results hold no spectra",
        "No controls were run",
        "Not audited: no check was run on these weights.",
        "1 model (standard), 1 attack, 0 controls.",
    ):
        assert words in text


def test_only_a_clean_run_says_that_no_attack_was_run(write_result, results_dir, tmp_path):
    write_result("standard", "identity", 0.9, role="control")
    files = build_report(results_dir, tmp_path / "report", title="One")
    assert "No attack was run on this model" in Page(files["html"].read_text()).text


def test_cost_volumes_and_members_are_shown_where_a_result_has_them(write_result, results_dir, tmp_path):
    path = write_result("standard", "ensemble", 0.8, cost={"forward": 12345, "backward": 678})
    document = json.loads(path.read_text())
    details = {
        "members": {"apgd_js": {"dice": [0.9, 0.4, 0.6]}},
        "worst_member": "apgd_js",
        "worst_dice": [0.9, 0.4, 0.6],
    }
    for case in document["cases"]:
        case |= {"attack_details": details, "volume_ml": {"pred": [1, 90, 100], "truth": [1, 100, 80]}}
    path.write_text(json.dumps(document))
    text = Page(build_report(results_dir, tmp_path / "report", title="One")["html"].read_text()).text
    assert "12 345 / 678" in text
    assert "Ensemble Model Member" in text.replace(" \u2195", "")
    assert "apgd_js 0.500 2 2" in text
    assert "18 %" in text  # of |90 - 100| / 100 and |100 - 80| / 80


def test_second_report_equals_the_first(write_result, results_dir, tmp_path):
    write_result("standard", "pgd", 0.8)
    first, second = (build_report(results_dir, tmp_path / name, title="One") for name in ("a", "b"))
    assert [path.read_bytes() for path in first.values()] == [path.read_bytes() for path in second.values()]


def test_empty_title_is_refused(results_dir, tmp_path):
    with pytest.raises(ValueError, match="title must be a text, got ' '"):
        build_report(results_dir, tmp_path, title=" ")


def test_one_text_for_commands_is_refused(results_dir, tmp_path):
    with pytest.raises(ValueError, match="commands must be a list of commands, got 'make'"):
        build_report(results_dir, tmp_path, title="One", commands="make")


# What stands above all numbers


def test_failed_cases_stand_first_on_the_page_in_markdown_and_in_the_card(write_result, results_dir, tmp_path):
    write_result("standard", "pgd", 0.8, failed=[{"case": "three", "error": "image must be readable, got none."}])
    files = build_report(results_dir, tmp_path / "report", title="One", warnings=["BIM failed on every case."])
    told = "1 of 3 cases failed on standard under PGD and are in none of its figures: three (image must be readable"
    for name in ("html", "markdown", "model_card"):
        text = files[name].read_text()
        assert text.index("BIM failed on every case.") < text.index(told) < text.index("0.800")
    kinds = [one["kind"] for one in json.loads(files["json"].read_text())["findings"]]
    assert kinds[:2] == ["warning", "warning"]


def test_results_that_do_not_tell_their_data_are_marked(write_result, results_dir, tmp_path):
    for attack in ("identity", "pgd"):
        path = write_result("standard", attack, 0.8)
        document = json.loads(path.read_text())
        document["cases"] = [{k: v for k, v in case.items() if k != "files"} for case in document["cases"]]
        path.write_text(json.dumps(document))
    files = build_report(results_dir, tmp_path / "report", title="One")
    told = "These results do not say of which data and evaluation they are, so these may differ: standard/id"
    assert told in files["html"].read_text()
    assert told in files["model_card"].read_text()


def test_report_that_cannot_be_written_is_refused_before_it_is_made(write_result, results_dir, tmp_path, monkeypatch):
    write_result("standard", "pgd", 0.8)
    (tmp_path / "report").write_text("in the way")
    monkeypatch.setattr("vafa_monai.reports.build.dice_chart", None)
    with pytest.raises(ValueError, match="output must be a place that can be written to"):
        build_report(results_dir, tmp_path / "report", title="One")


@pytest.mark.parametrize("name", ["nosuch", "identity", "PGD"])
def test_attack_trained_on_must_be_one_of_the_results(name, write_result, results_dir, tmp_path):
    write_result("standard", "pgd", 0.8)
    with pytest.raises(ValueError, match=rf"trained_on must be one of \['pgd'\], got '{name}'"):
        build_report(results_dir, tmp_path / "report", title="One", trained_on=name)
