"""The public names of each package, and that faces take the arguments of their functions."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric

import vafa_monai
from vafa_monai import losses
from vafa_monai.attacks import Attack

ROOT = Path(vafa_monai.__file__).parent
MODULES = {  # every module of every package
    path.name: [f"vafa_monai.{path.name}.{file.stem}" for file in sorted(path.glob("*.py")) if file.stem[0] != "_"]
    for path in sorted(ROOT.iterdir())
    if (path / "__init__.py").is_file() and path.name != "cli"
}
NAMES = {package: importlib.import_module(f"vafa_monai.{package}").__all__ for package in MODULES}
FAMILIES = {"attacks": Attack, "metrics": CumulativeIterationMetric, "handlers": IgniteMetricHandler}

FACES = [  # a face, its function, the arguments that the call brings, the arguments that only the face has
    (losses.FrequencyConsistencyLoss, losses.frequency_consistency, {"input", "target"}, set()),
    (losses.BlockSSIMLoss, losses.block_ssim, {"input", "target"}, {"reduction"}),
    (losses.MaskedCrossEntropyLoss, losses.masked_cross_entropy, {"input", "target"}, {"reduction"}),
    (losses.JensenShannonLoss, losses.jensen_shannon, {"input", "target"}, {"reduction"}),
    (losses.KLDivergenceLoss, losses.kl_divergence, {"input", "target"}, {"reduction"}),
    (losses.MarginLoss, losses.margin, {"input", "target"}, {"reduction"}),
    (losses.SegPGDLoss, losses.segpgd_weight, {"input", "target"}, {"reduction"}),
    (losses.CosPGDLoss, losses.cospgd_weight, {"input", "target"}, {"reduction"}),
]


@pytest.mark.parametrize("package", NAMES)
def test_public_names_are_there_once_in_order(package):
    names = NAMES[package]
    assert names
    assert list(names) == sorted(set(names), key=lambda name: (not name.isupper(), name[0].islower(), name))


def test_public_names_are_explained():
    found = [
        (getattr(importlib.import_module(f"vafa_monai.{one}"), name), name) for one in NAMES for name in NAMES[one]
    ]
    assert len(found) > 150
    assert [name for public, name in found if not inspect.getdoc(public)] == []


@pytest.mark.parametrize("package", FAMILIES)
def test_every_class_that_a_config_can_build_is_public(package):
    """None is forgotten: what a module offers and can be built is a name of its package, too."""
    offered = [
        (module, name)
        for path in MODULES[package]
        for module in [importlib.import_module(path)]
        for name in module.__all__
    ]
    kinds = {name: kind for module, name in offered if isinstance(kind := getattr(module, name), type)}
    built = [
        name for name, kind in kinds.items() if issubclass(kind, FAMILIES[package]) and not inspect.isabstract(kind)
    ]
    assert len(built) > 3
    assert set(built) - set(NAMES[package]) == set()


def settings_of(function: Callable, without: set[str]) -> dict[str, object]:
    """Map argument names to defaults."""
    return {p.name: p.default for p in inspect.signature(function).parameters.values() if p.name not in without}


@pytest.mark.parametrize(("face", "function", "called", "own"), FACES, ids=[face.__name__ for face, *_ in FACES])
def test_face_has_the_arguments_and_defaults_of_its_function(face, function, called, own):
    assert settings_of(face, own) == settings_of(function, called)
    assert set(inspect.signature(face.forward).parameters) == {"self", *called}
