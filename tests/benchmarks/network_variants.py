"""Time forward and backward to the input of a network in other layouts and precisions, beside the plain one.

    python tests/benchmarks/network_variants.py [--network unetr|unet] [--edge 96] [--batch 1] [--repeats 3]

The variants are timed in turn, in one process. Their gradients are compared with that of the plain network in float64,
as is the plain one's in float32: largest difference over largest value, and 1 - cosine. A variant that cannot run on
this machine says so.
"""

import argparse
import statistics
import time

import torch
from monai.networks.nets import UNETR, UNet

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CLASSES = 14


def build(name, edge):
    torch.manual_seed(0)
    if name == "unetr":
        network = UNETR(1, CLASSES, (edge,) * 3, norm_name="instance")
    else:
        network = UNet(3, 1, CLASSES, channels=(16, 32, 64), strides=(2, 2), num_res_units=1)
    return network.eval().requires_grad_(False).to(DEVICE)


def gradient(network, volume, dtype=None):
    """Return the gradient of the logits' mean square to the volume."""
    leaf = volume.clone().requires_grad_()
    with torch.autocast(DEVICE.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        logits = network(leaf)
    return torch.autograd.grad(logits.float().square().mean(), leaf)[0]


def seconds(run):
    start = time.perf_counter()
    run()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["unetr", "unet"], default="unetr")
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    plain, last = build(options.network, options.edge), build(options.network, options.edge)
    last = last.to(memory_format=torch.channels_last_3d)
    volume = torch.rand(options.batch, 1, *[options.edge] * 3, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    wide = volume.to(memory_format=torch.channels_last_3d)
    compiled = torch.compile(build(options.network, options.edge))
    variants = {
        "plain": lambda: gradient(plain, volume),
        "channels last": lambda: gradient(last, wide),
        "bfloat16 autocast": lambda: gradient(plain, volume, torch.bfloat16),
        "torch.compile": lambda: gradient(compiled, volume),
    }
    exact = gradient(build(options.network, options.edge).double(), volume.double())
    found, reasons = {}, {}
    for name, run in variants.items():
        try:
            found[name] = run()
        except Exception as error:
            reasons[name] = str(error).strip().splitlines()[0][:80]
    times = {name: [] for name in found}
    for _ in range(options.repeats):
        for name in found:
            times[name].append(seconds(variants[name]))
    floor = statistics.median(times["plain"])
    machine = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    shape = f"batch {options.batch} of {options.edge}^3"
    print(f"{options.network}, {shape}, {machine}, torch {torch.__version__}; plain {floor:.3f} s\n")
    print("| variant | time / plain, median (min - max) | gradient off by | 1 - cosine |\n|---|---|---|---|")
    for name, values in times.items():
        ratios = [value / floor for value in values]
        off = ((found[name] - exact).abs().max() / exact.abs().max()).item()
        angle = 1 - torch.nn.functional.cosine_similarity(found[name].double().flatten(), exact.flatten(), dim=0).item()
        time_ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
        print(f"| {name} | {time_ratio} | {off:.1e} | {angle:.0e} |")
    for name, reason in reasons.items():
        print(f"| {name} | does not run here: {reason} | | |")


if __name__ == "__main__":
    main()
