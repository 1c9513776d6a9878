"""The report: one page that parses, loads nothing and escapes everything; its numbers as JSON, CSV and Markdown."""

import json
from html.parser import HTMLParser

import pytest

from vafa_monai.reports import build_report

VOID = {"meta", "img", "br"}


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
def page(two_models, write_result, results_dir, tmp_path):
    """A report with all that could go wrong in a page: markup in names, undefined values, a model without a result."""
    write_result("standard", "identity", 0.9, role="control", slices=True, cases=("<script>alert(1)</script>", "two"))
    write_result("third", "my & attack $\\x$", 0.5, model="<b>third</b>", notes=["odd <i>note</i>"])
    files = build_report(
        results_dir,
        tmp_path / "report",
        title="A <em>title</em>",
        trained_on="vafa_authors",
        commands=["vafa-monai attack --x '<y>'"],
        settings={"path": tmp_path, "seed": 0},
        data_note="Synthetic.",
    )
    return files, Page(files["html"].read_text())


def test_all_files_are_written_and_nothing_else(page):
    files, _ = page
    assert set(files) == {"html", "json", "csv", "markdown", "chart", "figure"}
    assert sorted(path.name for path in files["html"].parent.iterdir()) == [
        "chart.png",
        "figure.png",
        "report.html",
        "report.json",
        "results.csv",
        "results.md",
    ]


def test_page_is_closed_and_loads_nothing(page):
    files, parsed = page
    assert parsed.open == []
    assert not {"script", "link", "iframe", "object", "base"} & set(parsed.tags)
    loads = [value for _, name, value in parsed.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert len(loads) == 2
    assert all(value.startswith("data:image/png;base64,") for value in loads)
    text = files["html"].read_text()
    assert "@import" not in text
    assert "url(" not in text


def test_every_picture_has_a_text(page):
    assert all(value for tag, name, value in page[1].attributes if tag == "img" and name == "alt")
    assert page[1].tags.count("img") == sum(tag == "img" and name == "alt" for tag, name, _ in page[1].attributes)


def test_names_are_escaped(page):
    files, parsed = page
    for name in (
        "<script>alert(1)</script>",
        "<b>third</b>",
        "A <em>title</em>",
        "odd <i>note</i>",
        "'<y>'",
        "my & attack",
    ):
        assert name in parsed.text
    assert not {"b", "em", "i", "y"} & set(parsed.tags)
    assert "<script" not in files["html"].read_text()


def test_page_shows_the_numbers_and_where_they_come_from(page):
    text = page[1].text
    for words in ("Target met", "0.835", "30 %", "hardened0123", "models/hardened.pt", "vafa_monai 0.1.0"):
        assert words in text
    assert "absent *" in text
    assert "LPIPS absent: set lpips_weights to a local file." in text
    assert "not run" in text


def test_json_holds_results_rows_findings_and_commands(page, results_dir):
    document = json.loads(page[0]["json"].read_text())
    assert document["schema"] == "vafa_monai.report/1"
    assert document["reference"] == "standard"
    assert document["commands"] == ["vafa-monai attack --x '<y>'"]
    assert document["settings"]["seed"] == 0
    assert json.loads((results_dir / "hardened" / "pgd.json").read_text()) in document["results"]
    (row,) = (row for row in document["rows"] if (row["model"], row["attack"]) == ("hardened", "vafa_authors"))
    assert row["share"] == pytest.approx(0.3)
    assert [one["met"] for one in document["findings"] if one["kind"] == "target"] == [True, None]


def test_one_model_without_slices_and_controls(write_result, results_dir, tmp_path):
    write_result("standard", "pgd", 0.8)
    files = build_report(results_dir, tmp_path / "report", title="One")
    text = Page(files["html"].read_text()).text
    assert "figure" not in files
    assert "No slices were saved" in text
    assert "No controls were run" in text
    assert "1 model (standard), 1 attack, 0 controls." in text


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
