"""The data report: complete, self-contained, escaped, and honest about what is missing."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data import prepare_acdc, prepare_synapse
from vafa_monai.data.acdc import ACDC
from vafa_monai.data.data_report import CaseFacts, DataReport, write_report

VOID = {"meta", "br", "img"}
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"  # between thousands


class Page(HTMLParser):
    """Collects pictures, table rows and text, and checks that every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[dict] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module", params=["synapse", "acdc"])
def folder(request, tmp_path_factory) -> Path:
    prepare = prepare_synapse if request.param == "synapse" else prepare_acdc
    raw = request.getfixturevalue(f"{request.param}_raw")
    return prepare(raw, tmp_path_factory.mktemp("report") / request.param, allow_missing=True).parent


def page_of(folder: Path) -> Page:
    return Page((folder / "data_report.html").read_text(encoding="utf-8"))


def row(name: str, volumes: tuple[float, ...] = (1.0, 2.0, 3.0), **changes: object) -> CaseFacts:
    facts = CaseFacts(
        name=name,
        unit=name,
        shape=(4, 5, 6),
        spacing=(1.5, 1.5, 10.0),
        orientation="LPS",
        dtype="int16",
        intensity=(-1024.0, 0.78125, 98.0, 65535.0),
        volumes_ml=volumes,
        notes={"phase": "ED", "group": "DCM"},
        remarks=(),
        voxels="0",
    )
    return replace(facts, **changes)


def number(cell: str) -> float:
    """Read a number as pages write it."""
    return float(cell.replace(NARROW_SPACE, "").replace("\N{MINUS SIGN}", "-"))


def report_of(*training: CaseFacts, **changes: object) -> DataReport:
    rows = {"training": list(training), "validation": [row("v")], "test": [row("t")]}
    return replace(DataReport(recipe=ACDC, rows=rows, missing=[], unused=[], settings={}), **changes)


def test_page_needs_nothing_from_elsewhere(folder):
    html = (folder / "data_report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "<script" not in html
    assert "default-src 'none'" in html
    [picture] = page.pictures
    assert base64.b64decode(picture["src"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_picture_has_a_text_that_names_its_cases(folder):
    content = json.loads((folder / "data_report.json").read_text())
    [picture] = page_of(folder).pictures
    for part, rows in content["cases"].items():
        assert f"{rows[0]['name']} ({part})" in picture["alt"]


def test_every_case_has_its_row_with_true_values(folder):
    page = page_of(folder)
    listed = json.loads((folder / "dataset.json").read_text())
    for part in ("training", "validation", "test"):
        for case in listed[part]:
            image, label = (nib.load(folder / case[kind]) for kind in ("image", "label"))
            name = Path(case["image"]).name.removesuffix(".nii.gz")
            [volumes] = [cells for cells in page.rows if cells[:2] == [part, name]]
            assert " \N{MULTIPLICATION SIGN} ".join(map(str, image.shape)) in volumes
            assert "".join(nib.aff2axcodes(image.affine)) in volumes
            assert number(volumes[-1]) == pytest.approx(float(np.asarray(image.dataobj).max()), rel=1e-3)
            [classes] = [cells for cells in page.rows if cells[0] == name]
            counts = np.bincount(np.asarray(label.dataobj).ravel(), minlength=len(listed["labels"]))[1:]
            ml = counts * abs(np.linalg.det(image.affine[:3, :3])) / 1000
            assert [number(cell) for cell in classes[1:]] == pytest.approx(ml, rel=1e-3)


def test_split_table_counts_and_names(folder):
    content = json.loads((folder / "data_report.json").read_text())
    for part, rows in content["cases"].items():
        units = list(dict.fromkeys(one["unit"] for one in rows))
        assert [part, str(len(units)), str(len(rows)), ", ".join(units)] in page_of(folder).rows


def test_phantoms_are_told_to_be_phantoms(folder):
    assert "The image is a synthetic phantom, not a patient." in page_of(folder).text


# Warnings


def test_good_data_have_no_warning():
    assert report_of(row("a")).warnings() == []


def test_class_that_a_part_lacks_is_told_once_beside_the_cases():
    remark = "The label has no left ventricle."
    report = report_of(row("a", (1, 2, 0), remarks=(remark,)), row("b", (1, 2, 0), remarks=(remark,)))
    assert report.warnings() == [("No label of the training part has the left ventricle.", []), (remark, ["a", "b"])]


@pytest.mark.parametrize(("systole", "told"), [(2.9, []), (3.0, ["a", "b"]), (4.0, ["a", "b"])], ids=str)
def test_heart_that_does_not_shrink_is_told(systole, told):
    late = row("b", (1, 2, systole), unit="p", notes={"phase": "ES", "group": "NOR"})
    warnings = dict(report_of(row("a", unit="p"), late).warnings())
    assert warnings.get("The left ventricle is not larger at end-diastole than at end-systole.", []) == told


def test_missing_entries_are_told_by_name():
    report = report_of(row("a"), missing=["p1", "p2"])
    assert report.warnings() == [("2 entries of the split are not in the source and were left out: p1, p2.", [])]


# What is written


@pytest.fixture
def written(tmp_path, request) -> Page:
    """A report of four training cases with names that are not to be taken as HTML, shown by one small volume."""
    volume = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    for name, array in (("image", volume), ("label", (volume % 4).astype(np.uint8))):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    rows = [row(f"<b>{number}</b>", (1.0, 0.0, 3.0), remarks=("A & B.",)) for number in range(8)]
    report = report_of(*rows, unused=["x/<i>.nii"], settings={"split": "<s>"})
    case = {"image": "image.nii.gz", "label": "label.nii.gz"}
    write_report(report, tmp_path, {part: [case] * len(cases) for part, cases in report.rows.items()})
    return page_of(tmp_path)


def test_names_are_shown_as_they_are(written):
    for text in ("<b>0</b>", "A & B.", "x/<i>.nii", '"split": "<s>"'):
        assert text in written.text


def test_numbers_have_the_form_of_all_pages(written):
    [cells] = [cells for cells in written.rows if cells[:2] == ["training", "<b>0</b>"]]
    lowest = f"\N{MINUS SIGN}1{NARROW_SPACE}024"
    assert cells[-4:] == [lowest, "0.7812", "98", f"65{NARROW_SPACE}535"]


def test_absent_class_is_marked_and_long_lists_are_folded(written):
    assert ["<b>3</b>", "1", "absent", "3"] in written.rows
    assert "8 of 10 volumes" in written.text
