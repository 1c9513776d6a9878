"""What runs and trainings leave on disk beside their results, so that only the same work goes on or is used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from vafa_monai.results.case import Case
from vafa_monai.results.document import (
    Amount,
    As,
    Checkpoint,
    Cost,
    Count,
    Document,
    Name,
    Stored,
    Text,
    Whole,
    fault,
)
from vafa_monai.results.result import ABSENT, AttackSetup, Result

__all__ = [
    "MANIFEST_SCHEMA",
    "MODEL_SCHEMA",
    "MODEL_TRAINING_SCHEMA",
    "TRAINING_SCHEMA",
    "AttackedVolume",
    "BenchmarkFailure",
    "BenchmarkRecord",
    "DemoState",
    "Manifest",
    "ModelTraining",
    "PaperModel",
    "TrainingState",
    "WeightsOrigin",
]

MANIFEST_SCHEMA = "vafa_monai.manifest/1"
MODEL_SCHEMA = "vafa_monai.model/1"
MODEL_TRAINING_SCHEMA = "vafa_monai.model_training/1"
TRAINING_SCHEMA = "vafa_monai.training/1"
Hash = Annotated[str, Strict(), Field(pattern="^[0-9a-f]{64}$")]
Facts = dict[str, Any]
Truth = Annotated[bool, Strict()]


class KnownWeights(Document):
    """The file of the weights, and its SHA-256."""

    path: Text
    sha256: Text


class CountedCost(Cost):
    """Windows that passed the network forward and backward."""

    forward: Count
    backward: Count


class BenchmarkRecord(Result):
    """The result of one case of a benchmark; ``made_of`` is the hash of the content that decided it."""

    made_of: Name
    checkpoint: Annotated[dict[str, Any], As(KnownWeights)]
    cost: CountedCost = ABSENT
    cases: Annotated[tuple[Case, ...], Field(min_length=1, max_length=1)]


class BenchmarkFailure(Document):
    """Why a case of a benchmark could not be measured."""

    model: Text
    attack: Text
    case: Text
    error: Text


class DemoState(Document):
    """How far a demo has come: its settings, and what is done."""

    settings: Facts
    done: Facts


class PaperModel(Stored):
    """A model that was trained for a table, or whose training has begun: with which settings, and how it ended."""

    schema_: Literal["vafa_monai.model/1"] = Field(alias="schema")
    finished: Truth
    settings: Facts
    sha256: Hash | None = None
    seconds: Amount | None = None

    @model_validator(mode="after")
    def _check_end(self) -> PaperModel:
        for name in ("sha256", "seconds") if self.finished else ():
            if getattr(self, name) is None:
                raise fault(name, "be known of a training that has finished", None)
        return self


class TrainingState(Stored):
    """Whose the states of a training are, and the hashes of the models that it wrote or is about to write."""

    schema_: Literal["vafa_monai.training/1"] = Field(alias="schema")
    models: tuple[Hash | None, ...]
    facts: Facts
    versions: dict[str, Text]


class ModelTraining(Document):
    """What made a model, and by what it was selected; lies beside it."""

    schema_: Literal["vafa_monai.model_training/1"] = Field(alias="schema")
    model: Name
    sha256: Hash | None
    statement: Facts
    selection: Facts
    facts: Facts
    versions: dict[str, Text]


class AttackedVolume(Document):
    """Which attack, weights and seed an attacked volume is of, and how large its change is in gray levels."""

    case: Name
    attack: AttackSetup
    seed: Whole
    checkpoint: Checkpoint
    rms_grey: Amount
    linf_grey: Amount
    versions: dict[str, Text]


class PackagedFile(Document):
    """A file of a package: its size in bytes, and its SHA-256."""

    size: Count
    sha256: Hash


class Manifest(Stored):
    """What a package holds: every file by its path, but the manifest."""

    schema_: Literal["vafa_monai.manifest/1"] = Field(alias="schema")
    name: Text
    version: Text
    smoke: Any = None
    files: dict[str, PackagedFile]


class FileHash(Document):
    """A file by name and SHA-256."""

    file: Text
    sha256: Hash


class WeightsForm(Document):
    """Which form of weights was recognized, in a word and in words."""

    form: Text
    description: Text


class WeightsNeed(Document):
    """What converted weights expect: the input in words, and the classes."""

    input: Text
    classes: tuple[Text, ...] | None


class WeightsOrigin(Document):
    """From which checkpoint converted weights are, what was taken, dropped, added and renamed; lies beside them."""

    source: FileHash
    result: FileHash
    recognized: WeightsForm
    expects: WeightsNeed
    entry: Text
    not_taken: tuple[Text, ...] = Field(alias="entries not taken")
    dropped: tuple[Text, ...]
    added: tuple[Text, ...]
    renamed: dict[str, Text]
    versions: dict[str, Text]
