"""The published schemas: made from the shapes that are read; ``python -m tests.results.test_schema`` writes them."""

import json
from pathlib import Path

import jsonschema
import pytest

import vafa_monai
from vafa_monai.reports.evidence import ReportDocument
from vafa_monai.results.audit import AUDIT_SCHEMA, Audit
from vafa_monai.results.document import schema_text
from vafa_monai.results.record import (
    MANIFEST_SCHEMA,
    MODEL_SCHEMA,
    MODEL_TRAINING_SCHEMA,
    TRAINING_SCHEMA,
    AttackedVolume,
    BenchmarkFailure,
    BenchmarkRecord,
    Manifest,
    ModelTraining,
    PaperModel,
    TrainingState,
    WeightsOrigin,
)
from vafa_monai.results.result import REPORT_SCHEMA, RESULT_SCHEMA, Result

FOLDER = Path(vafa_monai.__file__).parent / "results" / "schemas"
SHAPES = {
    "attacked_volume": (AttackedVolume, "vafa_monai.attacked_volume"),
    "audit": (Audit, AUDIT_SCHEMA),
    "benchmark_failure": (BenchmarkFailure, "vafa_monai.benchmark_failure"),
    "benchmark_record": (BenchmarkRecord, RESULT_SCHEMA),
    "manifest": (Manifest, MANIFEST_SCHEMA),
    "model": (PaperModel, MODEL_SCHEMA),
    "model_training": (ModelTraining, MODEL_TRAINING_SCHEMA),
    "report": (ReportDocument, REPORT_SCHEMA),
    "result": (Result, RESULT_SCHEMA),
    "training": (TrainingState, TRAINING_SCHEMA),
    "weights_origin": (WeightsOrigin, "vafa_monai.weights_origin"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_published_schema_is_that_of_the_shape(name):
    text = schema_text(*SHAPES[name])
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    assert (FOLDER / f"{name}.schema.json").read_text(encoding="utf-8") == text


def test_no_schema_is_left_over():
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.schema.json" for name in SHAPES}


if __name__ == "__main__":
    for name, shape in SHAPES.items():
        (FOLDER / f"{name}.schema.json").write_text(schema_text(*shape), encoding="utf-8")
