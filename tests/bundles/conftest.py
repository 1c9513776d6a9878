"""A tiny dataset on disk, a copy of the bundle, and processes that run it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

BUNDLE = Path(__file__).parents[2] / "bundles" / "mni152_unetr_segmentation"
SMALL = {
    "epochs": 2,
    "windows_per_epoch": 4,
    "val_interval": 1,
    "roi_size": "[16,16,16]",
    "network_def#feature_size": 4,
    "network_def#hidden_size": 24,
    "network_def#mlp_dim": 48,
    "network_def#num_heads": 2,
}
TINY = {  # networks small enough for a run of seconds, by the name in the bundle's
    "unetr": {key: value for key, value in SMALL.items() if key.startswith(("network_def", "roi_size"))},
    "unetrpp": {
        "roi_size": "[32,32,16]",  # batch norm needs more than one voxel in the last stage
        "network_def#stem_stride": "[2,2,1]",
        "network_def#feature_size": 4,
        "network_def#dims": "[4,4,8,8]",
        "network_def#depths": "[1,1,1,1]",
        "network_def#num_heads": 2,
        "network_def#projection_sizes": "[8,8,8,8]",
    },
}
SHAPE = (18, 16, 20)  # four windows


def write_case(folder, kind, number, affine):
    """Write a noisy ball inside a ball, 1 mm, in the given orientation."""
    rng = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij"), -1)
    distance = np.linalg.norm(grid - np.array(SHAPE) / 2 - rng.uniform(-2, 2, 3), axis=-1)
    label = (distance < 8).astype(np.uint8) + (distance < 4).astype(np.uint8)
    image = (np.array([20, 120, 200])[label] + rng.normal(0, 8, SHAPE)).clip(0, 255).astype(np.uint8)
    case = {name: f"{name}s{kind}/case_{number:02d}.nii.gz" for name in ("image", "label")}
    for name, volume in (("image", image), ("label", label)):
        (folder / case[name]).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(volume, affine), folder / case[name])
    return case


def make_dataset(folder):
    """Write one training, two validation and three test cases; the last case is stored in LPS."""
    ras, lps = np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])
    numbers = {"training": [0], "validation": [1, 2], "test": [3, 4, 5]}
    kinds = {"training": "Tr", "validation": "Val", "test": "Ts"}
    cases = {
        split: [write_case(folder, kinds[split], number, lps if number == 5 else ras) for number in numbers[split]]
        for split in numbers
    }
    (folder / "dataset.json").write_text(json.dumps(cases))
    return folder


def flags(values):
    return [word for key, value in values.items() for word in (f"--{key}", str(value))]


def environment():
    """Import the package under test from wherever this process has it, on one thread a process."""
    import vafa_monai

    root = str(Path(vafa_monai.__file__).parents[1])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def start(arguments, cwd):
    """Start a process; its output is one text."""
    return subprocess.Popen(
        [str(word) for word in arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, timeout=300):
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def bundle_words(overlays, overrides, folder=None):
    """Return what follows ``python -m`` for a chain; with ``folder`` by absolute paths, to be run from elsewhere."""
    names = [f"configs/{name}.json" for name in overlays]
    root = {} if folder is None else {"bundle_root": folder}
    files = names if folder is None else [str(folder / name) for name in names]
    return ["monai.bundle", "run", "--config_file", str(files), *flags(root | overrides)]


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def window_dir(dataset_dir, tmp_path_factory):
    """The dataset cut to volumes of one window."""
    folder = Path(shutil.copytree(dataset_dir, tmp_path_factory.mktemp("window") / "data"))
    for path in folder.rglob("*.nii.gz"):
        nib.save(nib.load(path).slicer[1:17, :, 2:18], path)
    return folder


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory):
    """Return a function that copies the bundle into a folder of its own."""

    def copy(name="bundle"):
        return Path(shutil.copytree(BUNDLE, tmp_path_factory.mktemp(name) / BUNDLE.name))

    return copy


@pytest.fixture(scope="session")
def small(dataset_dir):
    """Return overrides that make a run of seconds."""
    return {"dataset_dir": str(dataset_dir), **SMALL}


@pytest.fixture(scope="session")
def tiny():
    """Return overrides that shrink a network, by its name in the bundle's."""
    return TINY


@pytest.fixture(scope="session")
def start_process():
    """Return what starts a process of words in a folder."""
    return start


@pytest.fixture(scope="session")
def start_chain(fork_python):
    """Return a function that starts a chain of configs, from the bundle's folder or elsewhere.

    It is a copy of this process, which has imported everything, or with a ``launcher`` a real process.
    """

    def begin(overlays, overrides, folder, elsewhere=None, launcher=()):
        words = bundle_words(overlays, overrides, None if elsewhere is None else folder)
        place = folder if elsewhere is None else elsewhere
        return start([*launcher, "-m", *words], place) if launcher else fork_python(words, place)

    return begin


@pytest.fixture(scope="session")
def run_chain(start_chain):
    """Return a function that runs a chain of configs and returns its exit code and its output."""

    def run(*arguments, **options):
        return finish(start_chain(*arguments, **options))

    return run


@pytest.fixture(scope="session")
def run_chain_in_ranks(fork_ranks):
    """Return a function that runs a chain as two processes that know each other; it returns a code and their output."""
    return lambda overlays, overrides, folder: fork_ranks(bundle_words(overlays, overrides), folder)


@pytest.fixture(scope="session")
def trained(make_bundle, small, run_chain, tmp_path_factory):
    """A bundle whose standard model was trained from its own folder and hardened from elsewhere."""
    folder = make_bundle("trained")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for chain, place in ((["train"], None), (["train", "harden", "hardening/vaft"], elsewhere)):
        code, output = run_chain(chain, small | ({"attack_steps": 1} if place else {}), folder, elsewhere=place)
        assert code == 0, output[-3000:]
    return folder


@pytest.fixture
def copy_trained(trained, tmp_path):
    """A copy of the trained bundle to be written to."""
    return Path(shutil.copytree(trained, tmp_path / trained.name))
