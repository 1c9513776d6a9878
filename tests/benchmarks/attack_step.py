"""Time a step of the attacks against its floor, and their memory: forward, loss and backward to the input alone.

    python tests/benchmarks/attack_step.py [--network pointwise|unetr] [--edge 96] [--steps 20] [--repeats 3]
        [--only PGD "block 32"]

Floor and attack are timed in turn, repeat by repeat, in one process; the table has medians of the ratios. The floor has
the loss of the attack: soft Dice plus cross entropy, or cross entropy beside torchattacks, whose PGD is timed too where
it is installed. Memory is the peak above the loaded network, each in a process of its own (resident memory, or what
CUDA allocated; Linux only otherwise); the C library is told to hand freed blocks back at once.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNETR
from torch import nn

from vafa_monai.attacks import PGD, VAFA

CLASSES = 14
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DICE_CE = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6)
FLOOR, FLOOR_CE = "floor", "floor, cross entropy"


def build(name, edge):
    """Return the 1x1 convolution of DESIGN, whose cost is nearly all loss, or the paper's UNETR."""
    torch.manual_seed(0)
    network = nn.Conv3d(1, CLASSES, 1) if name == "pointwise" else UNETR(1, CLASSES, (edge,) * 3, norm_name="instance")
    return network.eval().requires_grad_(False).to(DEVICE)


def cross_entropy(logits, targets):
    return nn.functional.cross_entropy(logits, targets[:, 0])


def floor_steps(loss, steps, volume, label, network):
    """Do what no attack can do without."""
    for _ in range(steps):
        inputs = volume.clone().requires_grad_()
        torch.autograd.grad(loss(network(inputs), label), inputs)


def torchattacks_pgd(steps, volume, label, network):
    """Attack with torchattacks, which calls the cross entropy itself."""
    import torchattacks

    torchattacks.PGD(network, eps=4 / 255, alpha=1 / 255, steps=steps, random_start=False)(volume, label[:, 0])


def declare(steps):
    """Return what is measured: name, the floor beside it, and the run, called with volume, label and network."""
    runs = {"PGD": (FLOOR, PGD(steps=steps))}
    for preset in ("authors", "audit"):
        for edge in (8, 32):
            attack = VAFA.preset(preset, block_size=(edge,) * 3, steps=steps, ssim_weight=1)
            runs[f"VAFA {preset}, block {edge}, SSIM"] = (FLOOR, attack)
    runs["PGD, cross entropy"] = (FLOOR_CE, PGD(steps=steps, loss_function=cross_entropy))
    if importlib.util.find_spec("torchattacks"):
        runs["torchattacks PGD, cross entropy"] = (FLOOR_CE, partial(torchattacks_pgd, steps))
    floors = {FLOOR: partial(floor_steps, DICE_CE, steps), FLOOR_CE: partial(floor_steps, cross_entropy, steps)}
    return floors, runs


def seconds(run):
    """Time a call to its end."""
    start = time.perf_counter()
    run()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_time(floors, runs, repeats, case):
    """Return the seconds of the floors, and of every run the ratios to the floor timed just before it."""
    warm_floors, warm_runs = declare(1)
    for name in (*floors, *runs):
        (warm_floors.get(name) or warm_runs[name][1])(*case)
    found, ratios = {name: [] for name in floors}, {name: [] for name in runs}
    for _ in range(repeats):
        for name, (floor, run) in runs.items():
            found[floor].append(seconds(partial(floors[floor], *case)))
            ratios[name].append(seconds(partial(run, *case)) / found[floor][-1])
    return found, ratios


def peak():
    """Return the highest memory since the last reset, in MB."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def reset_peak():
    """Make what is in use now the highest memory."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def measure_memory(options):
    """Return the peak of two steps of one run above what it began with: the network and one gradient."""
    floors, runs = declare(2)
    case = prepare(options.network, options.edge)
    floors[FLOOR](*[part[..., :16, :16, :16] for part in case[:2]], build("pointwise", 16))  # libraries load
    reset_peak()
    before = peak()
    run = floors.get(options.memory_of) or runs[options.memory_of][1]
    run(*case)
    return {"peak": peak() - before}


def in_a_process(options, name):
    """Measure memory in a process of its own, in MB."""
    arguments = ["--network", options.network, "--edge", str(options.edge), "--memory_of", name]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])["peak"]


def prepare(network, edge):
    """Return volume, label and network."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(1, 1, *[edge] * 3, generator=generator).to(DEVICE)
    return volume, torch.randint(0, CLASSES, volume.shape, generator=generator).to(DEVICE), build(network, edge)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["pointwise", "unetr"], default="pointwise")
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[""], help="parts of the names of what is measured")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(measure_memory(options)))
        return
    floors, runs = declare(options.steps)
    runs = {name: run for name, run in runs.items() if any(part in name for part in options.only)}
    floors = {name: floor for name, floor in floors.items() if name in {floor for floor, _ in runs.values()}}
    found, ratios = measure_time(floors, runs, options.repeats, prepare(options.network, options.edge))
    memory = {name: in_a_process(options, name) for name in (*floors, *runs)}
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{options.network} network, {options.edge}^3, {options.steps} steps, {name}, torch {torch.__version__},")
    print(f"Python {platform.python_version()}\n")
    for floor, values in found.items():
        print(f"{floor}: {statistics.median(values) / options.steps:.3f} s a step, peak {memory[floor]:.0f} MB")
    print("\n| attack | step / floor, median (min - max) | own cost / floor | peak memory / floor |\n|---|---|---|---|")
    for key, values in ratios.items():
        middle, share = statistics.median(values), memory[key] / memory[runs[key][0]]
        span = f"{middle:.2f} ({min(values):.2f} - {max(values):.2f})"
        print(f"| {key} | {span} | {middle - 1:.2f} | {share:.2f} |")


if __name__ == "__main__":
    main()
