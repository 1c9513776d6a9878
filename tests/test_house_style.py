"""The architecture as a test: who may import whom, how long a file may be, what no file may hold."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vafa_monai

ROOT = Path(vafa_monai.__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
ORDER = ["frequency", "losses", "attacks", "inferers", "transforms", "metrics", "data", "results", "audit"]
ORDER += ["handlers", "reports", "runs", "paper", "sharing", "nnunet", "label", "cli"]
ONLY = {  # packages that import nothing else, beside themselves and the standard library
    "frequency": ("torch",),
    "networks": ("torch", "monai.networks"),
}
NEVER = {"attacks": re.compile(r"monai\.(networks|engines|bundle)\b|monai\.data\..*Dataset")}
LONGEST, LONGEST_BODY = 450, 40  # lines
LONGEST_CHAIN = 16  # modules, each of which imports the next


def package_of(name: str) -> str:
    """``attacks`` for ``attacks/pgd.py``, ``cli`` for ``cli/say.py``, ``""`` for ``__init__.py``."""
    first = name.partition("/")[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports_of(source: str) -> Iterator[str]:
    """Yield every imported module or name with its full path; a relative one begins with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def may_import(package: str, imported: str) -> bool:
    """Tell whether a file of ``package`` may import the module or name ``imported``."""
    if imported.startswith("."):
        return False
    if inside(imported, "vafa_monai"):
        return may_import_package(package, imported.split(".")[1] if "." in imported else "")
    if NEVER.get(package, re.compile("(?!)")).match(imported):
        return False
    standard = imported.partition(".")[0] in sys.stdlib_module_names
    return standard or package not in ONLY or any(inside(imported, module) for module in ONLY[package])


def may_import_package(package: str, other: str) -> bool:
    """Tell whether one part of ``vafa_monai`` may import another: itself, or one that comes before it."""
    if other in (package, "", "__version__"):  # the root package holds its version only
        return True
    if other == "networks":
        return package in ("runs", "paper", "sharing", "cli")
    return package in ORDER and other in ORDER[: ORDER.index(package)]


def forbidden_of(name: str, source: str) -> Iterator[str]:
    """Yield what a file must not hold."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            yield "assert"
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            yield "star import"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield from () if name == "cli/say.py" else ("print",)
        if isinstance(node, ast.Attribute) and node.attr == "cuda" and not is_torch(node.value):
            yield ".cuda("
        if isinstance(node, ast.Attribute) and node.attr == "backward" and package_of(name) == "attacks":
            yield ".backward("


def is_torch(node: ast.expr) -> bool:
    """``torch.cuda`` is a module; ``tensor.cuda`` is a method that chooses a device for the user."""
    return isinstance(node, ast.Name) and node.id == "torch"


def bodies_of(source: str) -> Iterator[tuple[str, int]]:
    """Yield every function with the lines of its body, the docstring left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
            yield node.name, (node.end_lineno or 0) - first.lineno + 1


def edges_of(files: dict[str, str]) -> dict[str, set[str]]:
    """Map every module to those that it imports; a package is one only where nothing of a module in it is named."""
    names = {
        f"vafa_monai/{name}".removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in files
    }
    return {
        module: {part for path in imports_of(files[name]) if (part := nearest(path, names)) not in (None, module)}
        for module, name in names.items()
        if not name.endswith("__init__.py")
    }


def nearest(path: str, names: dict[str, str]) -> str | None:
    """Return the module that holds an imported name."""
    return path if path in names else path.rpartition(".")[0] if path.rpartition(".")[0] in names else None


def longest_chain(edges: dict[str, set[str]]) -> list[str]:
    """Return the longest path of imports; one that runs in a circle has no end and is refused."""
    chains: dict[str, list[str]] = {}

    def chain(name: str, above: tuple[str, ...] = ()) -> list[str]:
        if name in above:
            raise ValueError(f"imports run in a circle: {above[above.index(name) :]}")
        if name not in chains:
            tails = [chain(other, (*above, name)) for other in sorted(edges.get(name, ()))]
            chains[name] = [name, *max(tails, key=len, default=[])]
        return chains[name]

    return max((chain(name) for name in sorted(edges)), key=len)


def test_files_belong_to_known_packages():
    assert [name for name in FILES if package_of(name) not in {"", "networks", *ORDER}] == []


def bound_names(source: str) -> list[str]:
    """Return every name that a module binds at its top level, as often as it does."""
    nodes = [node for node in ast.parse(source).body if not isinstance(node, ast.ImportFrom | ast.Import)]
    targets = [
        target
        for node in nodes
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
        if target is not None and not isinstance(node, ast.AugAssign)
    ]
    names = [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
    return [*names, *(node.name for node in nodes if hasattr(node, "name"))]


def test_no_module_binds_a_name_twice():
    """The second silently takes the place of the first, for all functions of the file."""
    names = {name: bound_names(source) for name, source in FILES.items()}
    twice = {name: sorted({one for one in found if found.count(one) > 1}) for name, found in names.items()}
    assert {name: found for name, found in twice.items() if found} == {}


def test_imports_point_the_right_way():
    wrong = {
        name: imported
        for name, source in FILES.items()
        for imported in imports_of(source)
        if not may_import(package_of(name), imported)
    }
    assert wrong == {}


def test_files_are_chapters():
    lengths = {name: len(source.splitlines()) for name, source in FILES.items()}
    assert {name: length for name, length in lengths.items() if length >= LONGEST} == {}


def test_functions_fit_in_a_head():
    bodies = {(name, *body) for name, source in FILES.items() for body in bodies_of(source)}
    assert {body for body in bodies if body[-1] >= LONGEST_BODY} == set()


def test_chain_of_imports_is_short_and_has_no_circle():
    chain = longest_chain(edges_of(FILES))
    assert len(chain) <= LONGEST_CHAIN, chain


def test_modules_import_from_modules_not_from_the_package_above():
    modules = {f"vafa_monai/{name}".removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in FILES}
    packages = {f"vafa_monai.{name.removesuffix('/__init__.py')}" for name in FILES if name.count("/") == 1}
    found = {
        (name, path)
        for name, source in FILES.items()
        for path in imports_of(source)
        if path.rpartition(".")[0] in packages and path not in modules
    }
    assert {one for one in found if not one[0].startswith("cli/__")} == set()


def test_files_hold_nothing_forbidden():
    found = {name: list(forbidden_of(name, source)) for name, source in FILES.items()}
    assert {name: forbidden for name, forbidden in found.items() if forbidden} == {}


def test_files_are_named_after_a_concept():
    vague = {"utils", "util", "misc", "common", "helpers"}
    assert [name for name in FILES if vague & set(name.removesuffix(".py").split("/"))] == []


# The checks themselves


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("frequency", "from vafa_monai.losses import dice_ce"),
        ("frequency", "import monai"),
        ("frequency", "import numpy as np"),
        ("losses", "import vafa_monai.attacks.pgd"),
        ("attacks", "from vafa_monai.handlers import AttackHandler"),
        ("attacks", "from vafa_monai.networks import UNETRPP"),
        ("attacks", "from monai.networks.nets import UNETR"),
        ("attacks", "from monai.data import CacheDataset"),
        ("attacks", "from monai import bundle"),
        ("attacks", "def f():\n    import monai.engines"),
        ("attacks", "from .pgd import PGD"),
        ("networks", "from monai.data import MetaTensor"),
        ("networks", "from vafa_monai.losses import dice_ce"),
        ("handlers", "from vafa_monai.reports import table"),
        ("handlers", "from vafa_monai.networks import UNETRPP"),
        ("", "from vafa_monai.attacks import PGD"),
    ],
)
def test_an_arrow_that_points_the_wrong_way_is_found(package, source):
    assert not all(may_import(package, imported) for imported in imports_of(source))


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("frequency", "import math\nimport torch.nn.functional as F\nfrom vafa_monai.frequency import quantize"),
        ("losses", "from monai.losses import DiceCELoss\nfrom vafa_monai.frequency import block_dct"),
        ("attacks", "from monai.data import MetaTensor\nfrom vafa_monai.losses import dice_ce"),
        ("networks", "from monai.networks.blocks import UnetResBlock\nimport torch"),
        ("sharing", "from vafa_monai.networks import UNETRPP"),
        ("cli", "from vafa_monai import __version__\nfrom vafa_monai.reports import table\nimport fire"),
    ],
)
def test_an_arrow_that_points_the_right_way_is_let_through(package, source):
    assert all(may_import(package, imported) for imported in imports_of(source))


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("attacks/a.py", "assert x", ["assert"]),
        ("attacks/a.py", "from math import *", ["star import"]),
        ("attacks/a.py", "print(x)", ["print"]),
        ("cli/say.py", "print(x)", []),
        ("data/a.py", "x.cuda()", [".cuda("]),
        ("data/a.py", "torch.cuda.is_available()", []),
        ("attacks/a.py", "loss.backward()", [".backward("]),
        ("handlers/a.py", "loss.backward()", []),
    ],
)
def test_what_is_forbidden_is_found(name, source, expected):
    assert list(forbidden_of(name, source)) == expected


def test_a_circle_of_imports_is_found_and_the_longest_chain_is():
    with pytest.raises(ValueError, match="circle"):
        longest_chain({"a": {"b"}, "b": {"a"}})
    assert longest_chain({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == ["a", "b", "c"]


def test_the_body_of_a_function_is_measured_without_its_docstring():
    source = (
        'def f(\n    x,\n):\n    """One.\n\n    Two.\n    """\n    y = x\n    return y\n\n\ndef g():\n    """One."""\n'
    )
    assert dict(bodies_of(source)) == {"f": 2, "g": 1}
