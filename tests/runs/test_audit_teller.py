"""The time left of an audit: of the order of what is to come, whatever is slow; weights that change meanwhile."""

from __future__ import annotations

import json
import re

import pytest

from vafa_monai.audit import AuditCase, AuditedModel, AuditRun, AuditSettings, run_audit
from vafa_monai.data import sha256
from vafa_monai.runs import AuditProgress
from vafa_monai.runs.audit import write_audit

UNITS = {"s": 1, "min": 60, "h": 3600}
LATE = 0.05  # of the whole: a remainder below it may be off by more
SECONDS = 30  # a pass forward; one back takes twice as long


@pytest.fixture
def subject(trained_network, other_network, session_cases):
    def build(cases=2, surrogate=True, **settings):
        named = [
            AuditCase(name=f"case_{number}", image=image[None], label=label[None])
            for number, (image, label) in enumerate(zip(*session_cases, strict=True))
        ]
        about = AuditSettings(**{"block_size": (6, 6, 6), "steps": 3, "queries": 10} | settings)
        return AuditedModel(
            trained_network,
            named[:cases],
            ["background", "gray", "bright"],
            settings=about,
            surrogate=other_network if surrogate else None,
        )

    return build


SHAPES = {
    "one case": {"cases": 1},
    "long curve of steps": {"steps_curve": (1, 40)},
    "many queries, no second model": {"queries": 60, "surrogate": False},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_time_left_is_of_the_order_of_what_is_to_come(shape, subject, monkeypatch):
    one, lines, times = subject(**shape), [], []
    monkeypatch.setattr(
        "vafa_monai.runs.audit.time.perf_counter",
        lambda: SECONDS * (one.cost["forward"] + 2 * one.cost["backward"]),
    )
    teller = AuditProgress(one, lines.append)

    def told(check, finding):
        teller(check, finding)
        times.append(SECONDS * (one.cost["forward"] + 2 * one.cost["backward"]))

    run_audit(one, told=told)
    end = SECONDS * (one.cost["forward"] + 2 * one.cost["backward"])
    for line, now in zip(lines, times, strict=True):
        number, unit = re.search(r"\(about (\d+) (s|min|h) left\)", line).groups()
        left, estimate = end - now, int(number) * UNITS[unit]
        if left > LATE * end:
            assert 0.5 <= estimate / left <= 2, (line, left, end)


def test_check_of_flat_volumes_counts_them(subject):
    few, many = (AuditProgress(subject(cases=count), print).costs for count in (1, 6))
    assert few["S1"] == pytest.approx(3 * many["S1"] / (1 + 2 / 6))
    assert few["S2"] == many["S2"]


def test_audit_of_weights_that_changed_meanwhile_is_refused(subject, tmp_path, monkeypatch):
    one, weights, document = subject(), tmp_path / "model.pt", tmp_path / "audit.json"
    weights.write_bytes(b"before")
    one.checkpoint = {"path": str(weights), "sha256": sha256(weights)}
    monkeypatch.setattr("vafa_monai.runs.audit.run_audit", lambda *_, **__: AuditRun(()))
    write_audit(one, document, say=print)
    assert json.loads(document.read_text())["checkpoint"] == one.checkpoint
    document.unlink()
    weights.write_bytes(b"after")
    with pytest.raises(ValueError, match=r"checkpoint changed while it was audited: .*model\.pt"):
        write_audit(one, document, say=print)
    assert not document.exists()
