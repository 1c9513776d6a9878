"""ACDC: the published split by patient, the official folders, frames by Info.cfg, voxel sizes by pixdim."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data import prepare_acdc
from vafa_monai.data.acdc import acdc_split, find_acdc

TEST = "002 003 008 009 012 014 017 024 042 048 049 053 055 064 067 079 081 088 092 095"


def named(numbers: str) -> list[str]:
    return [f"patient{number}" for number in numbers.split()]


def patients_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def sentences(folder: Path) -> list[str]:
    """Faults that the layout has, for all patients that are there."""
    return find_acdc(folder, patients_of(folder)).faults


# Split


def test_split_is_the_published_one_of_80_and_20_patients():
    split = acdc_split()
    assert split["test"] == named(TEST)
    names = [f"patient{number:03d}" for number in range(1, 101)]
    assert sorted(split["training"] + split["validation"] + split["test"]) == names


def test_default_validation_part_is_fixed_and_has_two_patients_of_every_disease_group():
    """Official numbers 1 to 20, 21 to 40 and so on are one group each."""
    taken = acdc_split()["validation"]
    assert taken == named("007 020 029 037 046 058 068 076 086 097")
    assert Counter((int(name[-3:]) - 1) // 20 for name in taken) == dict.fromkeys(range(5), 2)


@pytest.mark.parametrize("validation", [1, 10, 79])
def test_validation_part_is_taken_from_training_only(validation):
    split = acdc_split(validation)
    assert len(split["validation"]) == validation
    assert split["test"] == named(TEST)


# Layout


@pytest.mark.parametrize("place", [".", "training", "testing", "database/training", "database/testing"])
def test_patients_are_found_in_the_places_of_the_archive(acdc_raw, tmp_path, place):
    shutil.copytree(acdc_raw, tmp_path / place, dirs_exist_ok=True)
    names = patients_of(acdc_raw)
    found = find_acdc(tmp_path, [*names, "patient999"])
    assert (found.faults, found.missing, found.unused) == ([], ["patient999"], [])
    assert [case.unit for case in found.cases] == [name for name in names for _ in range(2)]


def test_patients_may_lie_in_both_places(acdc_raw, tmp_path):
    names = patients_of(acdc_raw)
    for name, place in zip(names, ("training", "testing", "training"), strict=True):
        shutil.copytree(acdc_raw / name, tmp_path / place / name)
    assert len(find_acdc(tmp_path, names).cases) == 6
    shutil.copytree(acdc_raw / names[0], tmp_path / "testing" / names[0])
    [sentence] = find_acdc(tmp_path, names).faults
    assert sentence == f"patient must have one folder, got 'training/{names[0]}' and 'testing/{names[0]}'."


def test_frames_are_those_of_info_cfg_with_phase_and_group(acdc_raw):
    name = patients_of(acdc_raw)[0]
    lines = (acdc_raw / name / "Info.cfg").read_text().splitlines()
    info = dict(line.split(": ") for line in lines)
    diastole, systole = find_acdc(acdc_raw, [name]).cases
    assert diastole.name == f"{name}_frame{int(info['ED']):02d}"
    assert systole.name == f"{name}_frame{int(info['ES']):02d}"
    assert diastole.notes == {"phase": "ED", "group": info["Group"]}
    assert systole.notes == {"phase": "ES", "group": info["Group"]}
    assert systole.label == acdc_raw / name / f"{systole.name}_gt.nii.gz"


def test_whole_cine_and_other_frames_are_not_used(acdc_copy):
    name = patients_of(acdc_copy)[0]
    folder = acdc_copy / name
    frame = nib.load(folder / f"{name}_frame01.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), folder / f"{name}_4d.nii.gz")
    nib.save(frame, folder / f"{name}_frame02.nii.gz")
    found = find_acdc(acdc_copy, [name])
    assert len(found.cases) == 2
    assert f"{name}/{name}_frame02.nii.gz" in found.unused
    assert not any("4d" in path for path in found.unused)


@pytest.mark.parametrize(
    "text", ["ED: 4\r\nES: 11\r\n", "ES:11\nED:4", "Group:\nED : 04 \n ES: 11\nHeight: 1"], ids=repr
)
def test_info_cfg_is_read_however_it_is_spaced(acdc_copy, text):
    name = patients_of(acdc_copy)[0]
    (acdc_copy / name / "Info.cfg").write_bytes(text.encode())
    assert [sentence.split("'")[1] for sentence in sentences(acdc_copy)] == [
        f"{name}_frame{frame}{end}.nii.gz" for frame in ("04", "11") for end in ("", "_gt")
    ]
    assert all("Info.cfg names as E" in sentence for sentence in sentences(acdc_copy))


# Faults of the layout


def test_missing_info_cfg_is_told(acdc_copy):
    name = patients_of(acdc_copy)[0]
    (acdc_copy / name / "Info.cfg").unlink()
    assert sentences(acdc_copy) == [f"Info.cfg must exist for every patient, got none for {name!r}."]


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("Group: DCM", "ED None and ES None"),
        ("ED: 1", "ED '1' and ES None"),
        ("ED: 1\nES: x", "ED '1' and ES 'x'"),
        ("ED: 1\nES: 1.5", "ED '1' and ES '1.5'"),
        ("ED: -1\nES: 2", "ED '-1' and ES '2'"),
        ("ED:\nES: 2", "ED '' and ES '2'"),
    ],
    ids=repr,
)
def test_info_cfg_without_two_frames_is_told(acdc_copy, text, got):
    name = patients_of(acdc_copy)[0]
    (acdc_copy / name / "Info.cfg").write_text(text)
    rule = "Info.cfg must name the frames ED and ES as whole numbers"
    assert sentences(acdc_copy) == [f"{rule}, got {got} for {name!r}."]


def test_info_cfg_with_one_frame_for_both_is_told(acdc_copy):
    name = patients_of(acdc_copy)[0]
    (acdc_copy / name / "Info.cfg").write_text("ED: 1\nES: 01\n")
    assert sentences(acdc_copy) == [f"Info.cfg must name two frames, got 1 for both ED and ES for {name!r}."]


@pytest.mark.parametrize(("ending", "kind"), [("", "image"), ("_gt", "label")])
def test_missing_frame_or_label_is_told(acdc_copy, ending, kind):
    case = find_acdc(acdc_copy, patients_of(acdc_copy)).cases[3]
    file = f"{case.name}{ending}.nii.gz"
    (acdc_copy / case.unit / file).unlink()
    rule = f"{kind} must exist for every case"
    assert sentences(acdc_copy) == [f"{rule}, got no {file!r}, which Info.cfg names as ES."]


def test_frame_that_is_there_twice_is_told(acdc_copy):
    case = find_acdc(acdc_copy, patients_of(acdc_copy)).cases[0]
    nib.save(nib.load(case.image), case.image.with_name(f"{case.name}.nii"))
    rule = "image must exist once for every case"
    assert sentences(acdc_copy) == [
        f"{rule}, got '{case.name}.nii.gz' and '{case.name}.nii', which Info.cfg names as ED."
    ]


# What is written


def test_frames_of_a_patient_stay_in_one_part(acdc_raw, tmp_path):
    content = json.loads(prepare_acdc(acdc_raw, tmp_path / "output", allow_missing=True).read_text())
    patients = [
        {Path(case["image"]).name[:10] for case in content[part]} for part in ("training", "validation", "test")
    ]
    assert [len(names) for names in patients] == [1, 1, 1]
    assert len(set.union(*patients)) == 3
    assert [len(content[part]) for part in ("training", "validation", "test")] == [2, 2, 2]
    assert content["labels"] == {"0": "background", "1": "right ventricle", "2": "myocardium", "3": "left ventricle"}
    assert content["modality"] == {"0": "MRI"}


def test_voxel_sizes_are_those_of_pixdim_where_the_affine_of_the_file_has_others(acdc_raw, tmp_path):
    datalist = prepare_acdc(acdc_raw, tmp_path / "output", allow_missing=True)
    unlike = 0
    for path in datalist.parent.glob("*/*.nii.gz"):
        ending = "_gt" if path.parent.name.startswith("labels") else ""
        source = nib.load(acdc_raw / path.name[:10] / path.name.replace(".nii", f"{ending}.nii"))
        written = nib.load(path)
        spacing = nib.affines.voxel_sizes(written.affine)
        np.testing.assert_allclose(spacing, source.header.get_zooms(), rtol=1e-5)
        np.testing.assert_allclose(written.affine, source.get_qform(), atol=1e-3)
        unlike += not np.allclose(source.affine, written.affine, atol=0.1)
    assert 0 < unlike < 12  # phantoms have both kinds
