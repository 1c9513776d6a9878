"""What all documents share: a shape that is stated once, checks what is read, and gives the JSON schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Strict,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from vafa_monai.data.files import read_json

__all__ = [
    "ROUNDING",
    "Amount",
    "As",
    "Checkpoint",
    "Cost",
    "Count",
    "Document",
    "Look",
    "Name",
    "Number",
    "Role",
    "Share",
    "Stored",
    "Text",
    "Whole",
    "fault",
    "parse",
    "read_document",
    "require",
    "schema_text",
]

SHOWN = 400  # characters of a value in an error; a path is to be whole
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ROUNDING = 1e-4  # of a mean of float32: an SSIM of 1.000015 is 1
RULES: Mapping[str, str] = {  # by the kind of a fault, in the words of every error here
    "literal_error": "be {expected}",
    "string_too_short": "be a text with a character",
    "string_pattern_mismatch": "match {pattern}",
    "too_short": "have at least {fewest}",
    "too_long": "have at most {longest}",
    "finite_number": "be a finite number",
    "int_from_float": "be a whole number",
    "extra_forbidden": "be a key that such a document has",
    "recursion_loop": "be nested less deep",
    "greater_than": "be more than {least}",
    "greater_than_equal": "be at least {least}",
    "less_than_equal": "be at most {most}",
    **dict.fromkeys(("string_type", "string_unicode", "enum"), "be a text"),
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size"), "be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "be true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "be a list"),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"), "be an object"
    ),
}


def fault(at: str, rule: str, value: object) -> PydanticCustomError:
    """Return what a validator raises: ``at`` is the place below the validated part, empty for the part itself."""
    return PydanticCustomError("rule", "{rule}", {"at": at, "rule": rule, "value": value})


def _require_text(text: str) -> str:
    if not text.strip():
        raise fault("", "be a text with a character", text)
    return text


Text = Annotated[str, Strict()]
Name = Annotated[str, Strict(), Field(min_length=1), AfterValidator(_require_text)]
Whole = Annotated[int, Strict()]
Count = Annotated[int, Strict(), Field(ge=0)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Amount = Annotated[float, Strict(), Field(allow_inf_nan=False, ge=-ROUNDING)]
Role = Annotated[str, Strict(), Field(pattern="^(attack|control)$")]
Share = Annotated[float, Strict(), Field(allow_inf_nan=False, ge=-ROUNDING, le=1 + ROUNDING)]


@dataclass(frozen=True)
class As:
    """In ``Annotated``: the value is checked to be of ``shape``, and stays what was read; null becomes an empty object.

    Args:
        shape: a type, such as a model.
    """

    shape: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Give pydantic the shape, wrapped."""
        return core_schema.no_info_wrap_validator_function(_as_read, handler.generate_schema(self.shape))


def _as_read(value: Any, check: Callable[[Any], Any]) -> Any:
    check(value)
    return {} if value is None else value


class Document(BaseModel):
    """A document or a part of it; keys that no field has are passed over, so that later versions can add some."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


Kept = TypeVar("Kept", bound="Stored")


class Stored(Document):
    """A document that can be written again as it was read."""

    _document: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, content: Any, check: ModelWrapValidatorHandler[Kept]) -> Kept:
        found = check(content)
        found._document = content if isinstance(content, Mapping) else content.document
        return found

    @property
    def document(self) -> Mapping[str, Any]:
        """The JSON document as it was read, with what no field is for."""
        return self._document


class Checkpoint(Document):
    """The file of the weights, and its SHA-256; ``None`` where it is not known."""

    path: Text | None = None
    sha256: Text | None = None


class Cost(Document):
    """Windows that passed the network forward and backward; ``None`` if they were not counted."""

    forward: Count | None
    backward: Count | None


class Look(Document):
    """What tells apart how an image was prepared: shape ``(C, H, W, D)``, mean and deviation of its intensities."""

    shape: tuple[Annotated[Count, Field(gt=0)], ...]
    mean: Number
    std: Number


Shape = TypeVar("Shape")


def parse(shape: type[Shape], content: Any, name: str) -> Shape:
    """Return content as what its shape says.

    Args:
        shape: a :class:`Document`, or any type that pydantic knows.
        content: JSON, as Python has it.
        name: the file, which is said in errors.

    Raises:
        ValueError: in one sentence that names file, field, rule and value of the first fault.

    Example:
        >>> class Size(Document):
        ...     voxels: Count
        >>> parse(Size, {"voxels": 8}, "a.json")
        Size(voxels=8)
    """
    try:
        return _validator(shape)(content)
    except ValidationError as error:
        raise ValueError(_sentence(error.errors(include_url=False)[0], content, name)) from error


def _validator(shape: Any) -> Callable[[Any], Any]:
    model = isinstance(shape, type) and issubclass(shape, BaseModel)
    return shape.model_validate if model else TypeAdapter(shape).validate_python


def _sentence(found: ErrorDetails, content: Any, name: str) -> str:
    """Say what is wrong and where, such as cases[0].dice[1] of pgd.json must be a number, got None."""
    kind, place, context = found["type"], [step for step in found["loc"] if _is_step(step)], found.get("ctx", {})
    if kind == "missing":
        place, above = place[:-1], found["input"]
        keys = sorted(map(str, above)) if isinstance(above, Mapping) else above
        return _said(_field(place, name), f"have the value {found['loc'][-1]!r}", keys)
    if kind == "rule":
        field = _field([*place, *([context["at"]] if context["at"] else [])], name)
        return _said(field, context["rule"], context["value"])
    limits = {"least": context.get("ge", context.get("gt")), "most": context.get("le")}
    shown = {key: f"{round(value, 3) + 0.0:g}" for key, value in limits.items() if value is not None}
    for key, limit in (("fewest", context.get("min_length")), ("longest", context.get("max_length"))):
        shown[key] = "one value" if limit == 1 else f"{limit} values"
    rule = RULES[kind].format(**context, **shown) if kind in RULES else f"pass ({found['msg']})"
    return _said(_field(place, name), rule, found["input"])


def _is_step(step: int | str) -> bool:
    """Tell a key or a position from what pydantic says of the branch of a union."""
    return isinstance(step, int) or not step.endswith("]")


def _field(place: Sequence[int | str], name: str) -> str:
    """Write a place as programs for JSON do."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
    return f"{text} of {name}" if text else name


def _said(argument: str, rule: str, value: object) -> str:
    text = repr(value)
    return f"{argument} must {rule}, got {text if len(text) <= SHOWN else text[:SHOWN] + '…'}."


def require(condition: bool, argument: str, rule: str, value: object) -> None:
    """Raise ``ValueError`` in the words of every error here, unless ``condition`` holds."""
    if not condition:
        raise ValueError(_said(argument, rule, value))


def read_document(path: Path, root: Path) -> dict[str, Any]:
    """Return the JSON object of a file, which must lie inside ``root``.

    Raises:
        ValueError: if it does not, or is no JSON object; NaN and infinity are no JSON.
    """
    name = path.relative_to(root).as_posix()
    inside = path.resolve().is_relative_to(root.resolve())
    require(inside, name, "lie inside the folder it is read from", str(path.resolve()))
    document: dict[str, Any] = read_json(path, name)
    return document


class _PlainSchema(GenerateJsonSchema):
    """Leaves out the titles that repeat the names of the fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Set none."""
        return False


def schema_text(shape: Any, identifier: str) -> str:
    """Return the JSON schema of a shape as text; it says what :func:`parse` asks of one value at a time.

    Args:
        shape: what :func:`parse` takes.
        identifier: name and version of the kind of document.
    """
    schema = TypeAdapter(shape).json_schema(mode="validation", schema_generator=_PlainSchema)
    return json.dumps({"$schema": DIALECT, "$id": identifier, **schema}, indent=2) + "\n"
