"""Every recipe as the line that ``vafa-monai harden`` prints, run by MONAI."""

import json
import shlex
import shutil
import sys
from ast import literal_eval
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from vafa_monai.runs import BundleRun

CONFIGS = Path(__file__).parents[2] / "bundles" / "overlays"
RECIPES = sorted(path.stem for path in (CONFIGS / "hardening").glob("*.json"))
STRENGTHS = {"vaft": 1.0, "vaft_authors": 1.0, "frequency_pgd": 1.2, "mixed": 4.0, "plain": 1.0}  # the others 2
ONE_CASE = "$monai.data.load_decathlon_datalist(@datalist, True, 'validation')[:1]"
SHORT = {
    "epochs": 1,
    "validation_steps": 1,
    "block_size": [8, 8, 8],
    "overlap": 0.0,
    "validate#data": ONE_CASE,
}


def literal(value):
    try:
        return literal_eval(str(value))
    except (SyntaxError, ValueError):
        return value


@pytest.fixture(scope="module")
def start(make_bundle, small):
    """A bundle with weights of no training."""
    folder = make_bundle("start")
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "train.json"))
    parser.update({name: literal(value) for name, value in small.items() if name.startswith(("network", "roi"))})
    parser.parse()
    torch.manual_seed(0)
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture
def harden(start, small, fork_python, tmp_path):
    """Return a function that hardens a copy; it returns the exit code, what was said and the bundle."""

    def run(recipe, overlays=(), folder=None, **overrides):
        copy = folder or Path(shutil.copytree(start, tmp_path / start.name, dirs_exist_ok=True))
        values = {name: literal(value) for name, value in {**small, **SHORT, **overrides}.items()}
        own = [*overlays] if recipe is None else ["harden", f"hardening/{recipe}", *overlays]
        python, module, *words = shlex.split(BundleRun(bundle=copy, overlays=own, overrides=values).command())
        assert (python, module) == ("python", "-m")
        process = fork_python(words, copy)
        told, _ = process.communicate()
        return process.returncode, told, copy

    return run


def weights(folder, name):
    return torch.load(folder / "models" / f"{name}.pt", weights_only=True)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_hardens_by_its_line(recipe, harden):
    steps = {} if recipe == "n_fgsm" else {"attack_steps": 1}
    code, told, folder = harden(recipe, **steps)
    assert code == 0, told[-3000:]
    before, after = weights(folder, "model"), weights(folder, f"model_{recipe}")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    record = json.loads((folder / "eval" / "resume" / f"model_{recipe}" / "training.json").read_text())
    assert record["facts"]["strength_factor"] == STRENGTHS.get(recipe, 2.0)


@pytest.mark.parametrize(
    ("recipe", "overrides", "sentence"),
    [
        ("pgd", {"network_def#feature_size": 8}, "checkpoint must hold the weights of this UNETR"),
        ("vaft_authors", {"q_max": 3}, "q_min must be positive and at most q_max=3.0, got 5."),
        ("mixed", {"threat_weights": [1]}, "weights must be one for each of 2 attacks, not all 0, got [1]."),
        ("pgd", {"validate#data": []}, "val_data must hold at least one case, got an empty list."),
        ("pgd", {"pretrained_file": "nowhere.pt"}, "checkpoint must be a file, got 'nowhere.pt'"),
    ],
    ids=["network", "strength", "weights", "validation", "start"],
)
def test_bad_input_ends_with_one_sentence_before_anything_is_written(recipe, overrides, sentence, harden):
    code, told, folder = harden(recipe, **overrides)
    assert code == 1
    assert sentence in told
    assert sorted(path.name for path in (folder / "models").iterdir() if not path.name.startswith(".")) == ["model.pt"]
    assert not (folder / "eval").exists()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_ranks_harden_together_by_every_recipe(recipe, start, small, run_chain, tmp_path):
    """With averaged and perturbed weights; the default suite does it for one recipe without."""
    folder = Path(shutil.copytree(start, tmp_path / start.name))
    more = {"windows_per_epoch": 8, "block_size": "[8,8,8]", "average_decay": 0.9, "perturbation": 0.01}
    more |= {} if recipe == "n_fgsm" else {"attack_steps": 1}
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    chain = ["train", "harden", f"hardening/{recipe}", "multi_gpu_train"]
    code, output = run_chain(chain, small | {"epochs": 1} | more, folder, launcher=launcher)
    assert code == 0, output[-3000:]
    state = torch.load(folder / "eval" / "resume" / f"model_{recipe}" / "checkpoint_epoch=1.pt", weights_only=True)
    assert len(state["random"]) == 2
    torch.testing.assert_close(weights(folder, f"model_{recipe}"), state["validated"], rtol=0, atol=0)
