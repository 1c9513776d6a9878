"""Memory and time of the gradient of a whole volume, against its windows.

    python tests/benchmarks/sliding_window.py [--window 96] [--time_window 64] [--overlap 0.5] [--repeats 3]

Memory: the peak of a forward and a backward pass, above what the process had before; each volume in a process of its
own (resident memory, or what CUDA allocated). What is left without the volumes themselves (image, its gradient, the sum
of the weights, and the logits, whose own values are their gradient) is to be the same for every volume. MONAI's
function under autograd stands beside it, on volumes that fit. The C library is told to hand freed blocks back at once
(MALLOC_MMAP_THRESHOLD_), or its own leftovers would be measured.

Time: a whole step of PGD, loss included, against two forward passes and one backward pass to the input of every window,
timed in turn in one process; the table has medians of the ratios.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn

from vafa_monai.attacks import PGD
from vafa_monai.inferers import InferredNetwork, SlidingWindowNetwork
from vafa_monai.inferers.sliding_window_network import WindowGrid

CLASSES = 3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PIPELINES = {"ours": "`SlidingWindowNetwork`", "monai": "autograd through MONAI"}


def small_network():
    """Return three layers of eight channels, whose activations outweigh their weights by far."""
    layers = [nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.LeakyReLU(), nn.Conv3d(8, CLASSES, 3, padding=1)]
    return nn.Sequential(*layers)


def unet():
    """Return a network of the usual kind."""
    return UNet(3, 1, CLASSES, channels=(16, 32, 64), strides=(2, 2), num_res_units=1)


def prepared(build):
    """Return a network with random weights, ready to be attacked."""
    torch.manual_seed(0)
    return build().eval().requires_grad_(False).to(DEVICE)


def random_volume(*size):
    return torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0)).to(DEVICE)


def peak():
    """Return the highest memory so far, in MB."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_gradient(pipeline, network, window, edge, overlap):
    """Run a forward and a backward pass; return the volume and the inferer."""
    volume = random_volume(edge, edge, edge).requires_grad_()
    inferer = SlidingWindowInferer((window,) * 3, overlap=overlap)
    build = SlidingWindowNetwork.from_inferer if pipeline == "ours" else InferredNetwork
    logits = build(network, inferer)(volume)
    torch.autograd.grad(logits, volume, logits.detach())
    return volume, inferer


def measure_memory(pipeline, window, edge, overlap):
    """Return the number of windows, the peak above the start, and what the volumes take, in MB."""
    network = prepared(small_network)
    one_gradient(pipeline, network, 8, 12, overlap)  # libraries load
    before = peak()
    volume, inferer = one_gradient(pipeline, network, window, edge, overlap)
    volumes = (3 + CLASSES) * volume.numel() * volume.element_size() / 2**20
    return {"peak": peak() - before, "windows": len(WindowGrid.of(volume, inferer).places), "volumes": volumes}


def in_a_process(**settings):
    """Measure memory in a process of its own."""
    arguments = [f"--{key}={value}" for key, value in settings.items()]
    command, environment = [sys.executable, __file__, *arguments], {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    finished = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(finished.stdout.splitlines()[-1])


def report_memory(options):
    """Print the table of memory."""
    window = options.window
    runs = [("ours", window), ("ours", 3 * window // 2), ("ours", 2 * window)]
    runs += [("monai", window), ("monai", 4 * window // 3)]
    print("| pipeline | volume | windows | peak, MB | image and logit volumes, MB | the rest, MB | / one window |")
    print("|---|---|---|---|---|---|---|")
    one = {}
    for pipeline, edge in runs:
        found = in_a_process(pipeline=pipeline, window=window, edge=edge, overlap=options.overlap)
        rest = found["peak"] - found["volumes"]
        ratio = rest / one.setdefault(pipeline, rest)
        numbers = f"{found['peak']:.0f} | {found['volumes']:.0f} | {rest:.0f} | {ratio:.2f}"
        print(f"| {PIPELINES[pipeline]} | {edge}^3 | {found['windows']} | {numbers} |", flush=True)


def seconds(run):
    """Time a call to its end."""
    start = time.perf_counter()
    run()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def report_time(options):
    """Print the table of time."""
    window = options.time_window
    network, volume = prepared(unet), random_volume(2 * window, 3 * window // 2, 3 * window // 2)
    inferer = SlidingWindowInferer((window,) * 3, overlap=options.overlap)
    grid = WindowGrid.of(volume, inferer)
    label = (volume * CLASSES).long().clamp_max(CLASSES - 1)
    windows = [volume[place].contiguous() for place in grid.places]
    shares = torch.rand(1, CLASSES, *[window] * 3, device=DEVICE)

    def floor():
        for one in windows:
            with torch.no_grad():
                network(one)
            inputs = one.detach().requires_grad_()
            torch.autograd.grad(network(inputs), inputs, shares)

    build = partial(SlidingWindowNetwork.from_inferer, network, inferer)
    count = max(len(windows) // 4, 1)
    pipelines = {"all windows": build(), f"gradient of {count} windows": build(windows_per_gradient=count)}
    floors, ratios = [], {name: [] for name in pipelines}
    for repeat in range(options.repeats + 1):
        for name, whole in pipelines.items():
            base = seconds(floor)
            ratio = seconds(partial(PGD(steps=1), volume, label, whole)) / base
            if repeat:  # the first is the warm-up
                floors.append(base)
                ratios[name].append(ratio)
    each = statistics.median(floors) / len(windows)
    print(f"\nUNet, {len(windows)} windows of {window}^3; 2 forward and 1 backward pass: {each:.3f} s a window\n")
    print("| step of PGD | / (2 forward + 1 backward) of all windows, median (min - max) |\n|---|---|")
    for name, values in ratios.items():
        print(f"| {name} | {statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f}) |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--time_window", type=int, default=64)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pipeline", choices=PIPELINES, help=argparse.SUPPRESS)  # what a process of its own measures
    parser.add_argument("--edge", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pipeline:
        print(json.dumps(measure_memory(options.pipeline, options.window, options.edge, options.overlap)))
        return
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{name}, torch {torch.__version__}, Python {platform.python_version()}; overlap {options.overlap}")
    print(f"\nThree layers of 8 channels, windows of {options.window}^3\n")
    report_memory(options)
    report_time(options)


if __name__ == "__main__":
    main()
