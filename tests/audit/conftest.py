"""A model that passes its audit: small, trained, deployed with a sliding window, attacked on five unseen cases."""

from __future__ import annotations

import pytest
from monai.inferers import SlidingWindowInferer

from vafa_monai.audit import AuditCase, AuditedModel, AuditSettings

CLASSES = ("background", "gray", "bright")
SPLITS = {"training": ["a", "b"], "test": ["c", "d"]}
SETTINGS = AuditSettings(
    eps=12 / 255,
    q_max=40,
    block_size=(4, 3, 5),
    steps=12,
    queries=40,
    restarts=2,
    eps_curve=(0, 4 / 255, 12 / 255, 36 / 255, 1),
    steps_curve=(1, 3, 6, 12, 24),
)


@pytest.fixture(scope="session")
def build_subject(trained_network, other_network, session_cases):
    """Return what makes a subject of another network, settings or splits."""

    def build(network=None, **changes):
        cases = [
            AuditCase(name=f"case_{number}", image=image[None], label=label[None])
            for number, (image, label) in enumerate(zip(*session_cases, strict=True))
        ]
        about = {
            "inferer": SlidingWindowInferer((8, 9, 6), sw_batch_size=4, overlap=0.25),
            "settings": SETTINGS,
            "surrogate": other_network,
            "splits": SPLITS,
            "batch_size": 4,
            "name": "plain",
            "checkpoint": {"path": "m.pt", "sha256": "0" * 64},
        }
        cases, classes = changes.pop("cases", cases), changes.pop("classes", CLASSES)
        return AuditedModel(network or trained_network, cases, classes, **about | changes)

    return build


@pytest.fixture(scope="session")
def plain(build_subject):
    """The model that passes; what was run for one check serves the others."""
    return build_subject()
