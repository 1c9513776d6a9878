"""What a CPU takes for one window of a bundle's network: torch alone, fast convolutions, and freed memory that is kept.

    python tests/benchmarks/one_window.py [--bundles hippocampus_unetr_segmentation,...] [--repeats 10]

Each kind runs in a process of its own, on one thread: a pass forward without gradient, and one forward and backward to
the window, as a step of an attack has it; median seconds of the clock, pages of memory that the system had to clear,
and the peak of resident memory.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from monai.bundle import ConfigParser

from vafa_monai.attacks.cpu import FastConvolutions, keep_freed_memory

ROOT = Path(__file__).parents[2] / "bundles"
BUNDLES = "hippocampus_unetr_segmentation,hippocampus_unetrpp_segmentation,synapse_unetr_segmentation"
KINDS = {"torch alone": (False, False), "kept memory": (False, True), "fast": (True, False), "both": (True, True)}


def median(work, repeats):
    """Return the median seconds of some calls after one, and the pages cleared in a call."""
    work()
    faults, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) // repeats


def measure(bundle, kind, repeats):
    """Return what one kind takes in this process."""
    fast, keep = KINDS[kind]
    torch.set_num_threads(1)
    if keep and not keep_freed_memory():
        raise SystemExit("memory cannot be kept here")
    parser = ConfigParser()
    parser.read_config(str(ROOT / bundle / "configs" / "train.json"))
    network = parser.get_parsed_content("network").eval().requires_grad_(False)
    shape = (1, 1, *parser.get_parsed_content("roi_size"))
    window = torch.rand(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with FastConvolutions() if fast else contextlib.nullcontext():
        both, pages = median(lambda: torch.autograd.grad(network(window).square().mean(), window), repeats)
        with torch.no_grad():
            forward, _ = median(lambda: network(window), repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"forward": forward, "both": both, "pages": pages, "peak": peak}


def main():
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundles", default=BUNDLES)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--one", nargs=2, metavar=("BUNDLE", "KIND"))
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.repeats)))
        return
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    columns = ("network", "kind", "forward, s", "forward and backward, s", "pages cleared", "peak, MB")
    print(f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", sep="\n")
    for bundle in options.bundles.split(","):
        for kind in KINDS:
            command = [sys.executable, __file__, "--repeats", str(options.repeats), "--one", bundle, kind]
            run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            one = json.loads(run.stdout.splitlines()[-1])
            figures = f"{one['forward']:.3f} | {one['both']:.3f} | {one['pages']} | {one['peak']}"
            print(f"| {bundle.removesuffix('_segmentation')} | {kind} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
