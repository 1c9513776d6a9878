"""How much harm the attacks do to a model of the demo, and whether the stronger of two does more.

    vafa-monai demo --output vafa_demo
    python tests/benchmarks/harm.py vafa_demo [--model model.pt] [--steps 20] [--queries 200] [--cases 7]

The first table has the foreground DSC that each attack leaves, the others what must not rise with a budget, a number of
steps, or from one attack to a stronger one, case by case. Attack tile by tile and attack through the sliding window are
compared on the whole held-out lobe, 64 mm on a side.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import torch
from monai.data import list_data_collate

from vafa_monai.attacks import APGD, PGD, VAFA, AttackEnsemble, CosPGD, FrequencyPGD, Identity, SquareAttack
from vafa_monai.attacks.tiled import TiledAttack
from vafa_monai.audit import AuditCase, AuditedModel, mean_dice
from vafa_monai.data import write_json, write_volume
from vafa_monai.data.mni152 import TEST, _load_tissue
from vafa_monai.losses import MaskedCrossEntropyLoss
from vafa_monai.runs import BundleRun

EPS = 4 / 255
SLACK = 0.002  # DSC; two attacks that find the same maximum differ by less
BLOCK = (32, 32, 32)


def load(bundle, dataset_dir, model, most=None):
    """Return the model, its pipeline and its cases, as the evaluation of the bundle has them."""
    overrides = {"dataset_dir": str(dataset_dir), "model_file": model}
    parser = BundleRun(bundle=bundle, overlays=["evaluate"], overrides=overrides).workflow().parser
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(parser.get_parsed_content("ckpt_path"), weights_only=True))
    cases = []
    for number, case in enumerate(list(parser.get_parsed_content("validate#dataset"))[:most]):
        batch = list_data_collate([case])
        volumes = {name: batch[name].as_tensor() for name in ("image", "label")}
        cases.append(AuditCase(name=f"case {number}", **volumes))
    inferer, classes = parser.get_parsed_content("validate#inferer"), parser.get_parsed_content("classes")
    return AuditedModel(
        network, cases, classes, inferer=inferer, batch_size=4, progress=lambda line: print(f"- {line}", flush=True)
    )


def write_lobe(folder):
    """Write the whole held-out lobe as one case of a dataset."""
    image, label, affine = _load_tissue()
    start = [first - round(edge) for (first, _), edge in zip(TEST, affine[:3, 3], strict=True)]
    part = tuple(slice(a, a + last - first) for a, (first, last) in zip(start, TEST, strict=True))
    for name, volume in (("image", image), ("label", label)):
        write_volume(folder / f"{name}.nii.gz", volume[part], affine)
    case = {"image": "image.nii.gz", "label": "label.nii.gz"}
    write_json(folder / "dataset.json", {"training": [case], "validation": [case], "test": [case]})


def share(weaker, stronger, slack=SLACK):
    """Say in how many cases the stronger attack leaves no more, and by how much at most it leaves more."""
    rises = [strong.foreground - weak.foreground for weak, strong in zip(weaker, stronger, strict=True)]
    held = sum(rise <= slack for rise in rises)
    return f"{mean_dice(weaker):.4f} | {mean_dice(stronger):.4f} | {held} of {len(rises)} | {max(rises):+.4f}"


def table(title, columns, rows):
    """Print a table."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def curve(title, subject, name, values, build):
    """Print the DSC over a budget, and how often a case got better with more of it."""
    found = [subject.outcomes(build(value)) for value in values]
    rises = [
        after.foreground - before.foreground
        for less, more in itertools.pairwise(found)
        for before, after in zip(less, more, strict=True)
    ]
    worst = f"{sum(rise > SLACK for rise in rises)} of {len(rises)}, at most {max(rises):+.4f}"
    columns = [name, *[f"{value * 255:g}/255" if name == "eps" else f"{value:g}" for value in values], "rises"]
    table(title, columns, [["DSC", *[f"{mean_dice(outcomes):.4f}" for outcomes in found], worst]])


def measure(subject, steps, queries):
    """Print what the attacks do to the cases."""
    masked = MaskedCrossEntropyLoss(balanced=True)
    ensemble = AttackEnsemble(eps=EPS, block_size=BLOCK, steps=steps, queries=queries)
    attacks = {
        "none": Identity(),
        "PGD": PGD(eps=EPS, steps=steps),
        "APGD": APGD(eps=EPS, steps=steps),
        "APGD, three runs": APGD(eps=EPS, steps=steps, restarts=3),
        "CosPGD": CosPGD(eps=EPS, steps=steps, iterate="best"),
        "FrequencyPGD": FrequencyPGD(q_max=20, block_size=BLOCK, steps=steps, loss_function=masked),
        "VAFA audit": VAFA.preset("audit", q_max=20, block_size=BLOCK, steps=steps),
        "Square": SquareAttack(eps=EPS, queries=queries),
        ensemble.name: ensemble,
        "APGD without a bound": APGD(eps=1, steps=5 * steps, loss_function=masked),
    }
    found = {name: subject.outcomes(attack) for name, attack in attacks.items()}
    losses = {name: sum(outcome.loss for outcome in outcomes) / len(outcomes) for name, outcomes in found.items()}
    rows = [[name, f"{mean_dice(outcomes):.4f}", f"{losses[name]:.3f}"] for name, outcomes in found.items()]
    table("Harm", ["attack", "foreground DSC", "Dice + CE"], rows)

    pairs = [("PGD", "APGD"), ("PGD", "APGD, three runs"), ("Square", "APGD"), ("none", "APGD without a bound")]
    rows = [[weak, strong, share(found[weak], found[strong])] for weak, strong in pairs]
    members = found[ensemble.name][0].details["members"]
    kept = [
        max(outcome.foreground - mean(outcome.details["members"][name]["dice"][1:]) for outcome in found[ensemble.name])
        for name in members
    ]
    columns = ["weaker", "stronger", "DSC", "DSC", f"cases that hold (slack {SLACK})", "most that is lost"]
    table("Pairs", columns, rows)
    rows = [[name, f"{most:+.4f}"] for name, most in zip(members, kept, strict=True)]
    table("The ensemble against its members, case by case", ["member", "most that the ensemble leaves more"], rows)

    budgets = [n / 255 for n in (1, 2, 4, 8, 16, 32)]
    curve("Budget of voxels, APGD", subject, "eps", budgets, lambda n: APGD(eps=n, steps=steps))
    curve("Steps, PGD", subject, "steps", [1, 5, 10, 20, 40], lambda n: PGD(eps=EPS, steps=n, iterate="best"))
    blocks = {"block_size": BLOCK, "steps": steps}
    budgets = [5, 10, 20, 40, 80]
    curve("Coefficients, FrequencyPGD", subject, "q_max", budgets, lambda n: FrequencyPGD(q_max=n, **blocks))
    curve("Quantization, VAFA", subject, "q_max", budgets, lambda n: VAFA.preset("audit", q_max=n, **blocks))


def mean(values):
    """Return the mean of the DSC that are defined; nothing was asked of a member after a case was broken."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("inf")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--model", default="model.pt")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--cases", type=int)
    options = parser.parse_args()
    start = time.perf_counter()
    bundle = options.demo / "mni152_unetr_segmentation"
    measure(load(bundle, options.demo / "data", options.model, options.cases), options.steps, options.queries)
    with tempfile.TemporaryDirectory() as folder:
        write_lobe(Path(folder))
        lobe = load(bundle, folder, options.model)
        case, edges, rows = lobe.cases[0], tuple(lobe.inferer.roi_size), []
        for attack in (PGD(eps=EPS, steps=options.steps), APGD(eps=EPS, steps=options.steps)):
            tiled = TiledAttack(attack=attack, roi_size=edges)(case.image, case.label, lobe.network.eval())
            pair = share(lobe.judged([case], [tiled]), lobe.outcomes(attack))
            rows.append([type(attack).__name__, f"{mean_dice(lobe.clean):.4f}", pair])
        columns = ["attack", "clean", "tile by tile", "whole", f"cases that hold (slack {SLACK})", "most that is lost"]
        table("The lobe, tile by tile and whole", columns, rows)
    print(f"\n{time.perf_counter() - start:.0f} s, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
