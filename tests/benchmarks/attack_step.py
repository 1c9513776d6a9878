"""Time a step of VAFA against its floor: forward, loss and backward to the input of the same network.

    python tests/benchmarks/attack_step.py [--network pointwise|unetr] [--edge 96] [--steps 20] [--repeats 3]

Floor and attack are timed in turn, repeat by repeat, in one process; the table has medians of the ratios.
"""

import argparse
import platform
import statistics
import time
from functools import partial

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNETR
from torch import nn

from vafa_monai.attacks import PGD, VAFA

CLASSES = 14


def build(name, edge):
    """Return the 1x1 convolution of DESIGN, whose cost is nearly all loss, or the paper's UNETR."""
    torch.manual_seed(0)
    network = nn.Conv3d(1, CLASSES, 1) if name == "pointwise" else UNETR(1, CLASSES, (edge,) * 3, norm_name="instance")
    return network.eval().requires_grad_(False)


def seconds(run, device):
    """Time a call to its end."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def declare(steps):
    """Return the attacks that are timed."""
    attacks = {"PGD": PGD(steps=steps)}
    for preset in ("authors", "audit"):
        for edge in (8, 32):
            attack = VAFA.preset(preset, block_size=(edge,) * 3, steps=steps, ssim_weight=1)
            attacks[f"VAFA {preset}, block {edge}, SSIM"] = attack
    return attacks


def measure(floor, runs, repeats, device):
    """Return the seconds of every floor, and of every run the ratios to the floor timed just before it."""
    for run in (floor, *runs.values()):
        run()
    floors, ratios = [], {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            floors.append(seconds(floor, device))
            ratios[name].append(seconds(run, device) / floors[-1])
    return floors, ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["pointwise", "unetr"], default="pointwise")
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    network = build(options.network, options.edge).to(device)
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(1, 1, *[options.edge] * 3, generator=generator).to(device)
    label = torch.randint(0, CLASSES, volume.shape, generator=generator).to(device)
    loss = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6)

    def floor():
        for _ in range(options.steps):
            inputs = volume.clone().requires_grad_()
            torch.autograd.grad(loss(network(inputs), label), inputs)

    runs = {key: partial(attack, volume, label, network) for key, attack in declare(options.steps).items()}
    floors, ratios = measure(floor, runs, options.repeats, device)
    print(f"{options.network} network, {options.edge}^3, {options.steps} steps, {name}, torch {torch.__version__},")
    print(f"Python {platform.python_version()}; floor of a step {statistics.median(floors) / options.steps:.3f} s\n")
    print("| attack | step / floor, median (min - max) | own cost / floor |\n|---|---|---|")
    for key, values in ratios.items():
        middle = statistics.median(values)
        print(f"| {key} | {middle:.2f} ({min(values):.2f} - {max(values):.2f}) | {middle - 1:.2f} |")


if __name__ == "__main__":
    main()
