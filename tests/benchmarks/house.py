"""How large the house is: files, public names, the longest chain of imports, the files that three calls run through.

    python tests/benchmarks/house.py

A file counts for a call if one of its functions runs in it; what runs at import does not count. The calls are an
evaluation under PGD with its report, one attack by VAFA with one step, and one epoch of hardening.
"""

import ast
import contextlib
import io
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from monai.bundle import ConfigParser

import vafa_monai
from vafa_monai import cli
from vafa_monai.attacks import VAFA
from vafa_monai.data import prepare_mni152
from vafa_monai.runs import shipped_bundle

ROOT = Path(vafa_monai.__file__).parent
SMALL = {"network_def#feature_size": 4, "network_def#hidden_size": 24, "network_def#mlp_dim": 48, "num_workers": 0}
SMALL |= {"network_def#num_heads": 2, "attack_steps": 1}


def sources():
    """Map the dotted name of every module to its tree."""
    trees = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("vafa_monai", *path.relative_to(ROOT).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


def public_names(tree):
    """Return the names of ``__all__``, written out as a list."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def imported(tree, names):
    """Return the modules of the package that a tree imports from, the packages above them left out."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & names
            found |= inside or ({node.module} & names)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & names
    return found


def longest_chain(trees):
    """Return the longest path of imports that passes no module twice; where modules import one another, nearly."""
    edges, chains = {name: imported(tree, set(trees)) - {name} for name, tree in trees.items()}, {}

    def chain(name, above):
        if name not in chains:
            tails = [chain(other, above | {name}) for other in sorted(edges[name] - above)]
            chains[name] = [name, *max(tails, key=len, default=[])]
        return chains[name]

    return max((chain(name, frozenset()) for name in sorted(edges)), key=len)


@contextlib.contextmanager
def traced():
    """Collect the files of the package in which a function runs."""
    files, prefix = set(), str(ROOT) + os.sep

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_filename.startswith(prefix):
            files.add(code.co_filename.removeprefix(prefix))

    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(None)


def call(*words):
    """Run a command as from the command line, unheard."""
    sys.argv = ["vafa-monai", *map(str, words)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        cli.main()


def run(command, bundle, data, overrides):
    """Run a command of one bundle."""
    flags = [word for key, value in overrides.items() for word in (f"--{key}", value)]
    call(command, "--bundle", bundle, "--dataset_dir", data, *flags)


def calls(folder):
    """Return the files that each of the three calls runs through."""
    bundle = shutil.copytree(shipped_bundle("mni152_unetr_segmentation"), folder / "mni152_unetr_segmentation")
    data, short = prepare_mni152(folder / "data").parent, {"epochs": 1, "windows_per_epoch": 2, "val_interval": 1}
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "train.json"))
    parser.update({key: value for key, value in SMALL.items() if key in parser})
    network = parser.get_parsed_content("network_def", instantiate=True).eval()
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    label = torch.randint(0, 3, (1, 1, 32, 32, 32))
    found = {}
    with traced() as found["evaluate --attack pgd, report.html"]:
        run("evaluate", bundle, data, SMALL | {"attack": "pgd", "num_cases": 1})
        call("report", "--results", bundle / "eval" / "results")
    with traced() as found["a step of VAFA"]:
        VAFA(steps=1)(torch.rand(1, 1, 32, 32, 32), label, network)
    with traced() as found["an epoch of hardening"]:
        run("harden", bundle, data, SMALL | short | {"recipe": "pgd"})
    return found


def main():
    """Print the figures."""
    trees = sources()
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")]
    print(f"{len(lengths)} files, {sum(lengths)} lines, median {statistics.median(lengths):.0f}")
    print(f"{sum(len(public_names(tree)) for name, tree in trees.items())} names in all __all__")
    faces = [name for name in trees if name.count(".") == 1]
    shown = set().union(*(public_names(trees[name]) for name in faces))
    print(f"{len(shown)} of them in those of the {len(faces)} packages")
    chain = longest_chain(trees)
    print(f"longest chain of imports {len(chain)}: {' > '.join(name.removeprefix('vafa_monai.') for name in chain)}")
    with tempfile.TemporaryDirectory() as folder:
        for name, files in calls(Path(folder)).items():
            print(f"{name}: {len(files)} files: {' '.join(sorted(files))}")


if __name__ == "__main__":
    main()
