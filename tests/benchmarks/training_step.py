"""Time and peak memory of a training step and of a VAFT step of a bundle, against the plain step of its network.

    python tests/benchmarks/training_step.py [--bundle synapse_unetr_segmentation] [--attack_steps 1] [--repeats 3]

The plain step is what no training can do without: forward, loss, backward and update, written as a loop. The others are
MONAI's trainer as the configs of the bundle declare it. One window a batch; each kind runs in a process of its own,
whose peak memory is that of the kind (resident memory, or what CUDA allocated).
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer

from vafa_monai.handlers import AdversarialTrainingHandler

ROOT = Path(__file__).parents[2] / "bundles"
KINDS = {"plain": "plain step", "train": "`train.json`", "vaft": "`train.json` + `vaft_authors`"}


def read(bundle, kind, attack_steps):
    """Return the configs of a bundle."""
    parser = ConfigParser()
    chain = ["train", "harden", "hardening/vaft_authors"] if kind == "vaft" else ["train"]
    parser.read_config([str(ROOT / bundle / "configs" / f"{name}.json") for name in chain])
    if kind == "vaft":
        parser["attack_steps"] = attack_steps
    return parser


def random_batch(parser, device):
    """Return one window of noise with random labels."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 1, *parser.get_parsed_content("roi_size"))
    image = torch.rand(shape, generator=generator)
    label = torch.randint(0, parser.get_parsed_content("num_classes"), shape, generator=generator)
    return {"image": image.to(device), "label": label.to(device).float()}


def plain_steps(network, loss, optimizer, batch, count):
    """Yield after every step of a loop without an engine."""
    network.train()
    for _ in range(count):
        optimizer.zero_grad(set_to_none=True)
        loss(network(batch["image"]), batch["label"]).backward()
        optimizer.step()
        yield


def measure(bundle, kind, repeats, attack_steps):
    """Return the seconds of each step but the first, and the peak memory in MB."""
    parser = read(bundle, kind, attack_steps)
    device = parser.get_parsed_content("device")
    torch.manual_seed(0)
    network, loss, optimizer = (parser.get_parsed_content(name) for name in ("network", "loss", "optimizer"))
    batch, times = random_batch(parser, device), [time.perf_counter()]

    def note(_=None):
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    if kind == "plain":
        for _ in plain_steps(network, loss, optimizer, batch, repeats + 1):
            note()
    else:
        handlers = [AdversarialTrainingHandler(parser.get_parsed_content("attack"))] if kind == "vaft" else []
        trainer = SupervisedTrainer(
            device=device,
            max_epochs=1,
            train_data_loader=[batch] * (repeats + 1),
            network=network,
            optimizer=optimizer,
            loss_function=loss,
            inferer=parser.get_parsed_content("train#inferer"),
            train_handlers=handlers,
            decollate=parser.config["train"]["trainer"].get("decollate", True),
        )
        trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
        trainer.run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return {"seconds": [after - before for before, after in pairwise(times[1:])], "peak": peak, "device": name}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="synapse_unetr_segmentation")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)  # what a process of its own measures
    parser.add_argument("--attack_steps", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.kind:
        print(json.dumps(measure(options.bundle, options.kind, options.repeats, options.attack_steps)))
        return
    found = {}
    for kind in KINDS:
        settings = (f"--{key}={value}" for key, value in {**vars(options), "kind": kind}.items())
        finished = subprocess.run([sys.executable, __file__, *settings], check=True, capture_output=True, text=True)
        found[kind] = json.loads(finished.stdout.splitlines()[-1])
    plain = found["plain"]
    print(f"{options.bundle}, one window, {options.attack_steps} attack step(s), {plain['device']},")
    print(f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}, Python {platform.python_version()}\n")
    print("| step | seconds, median (min - max) | / plain | peak memory, GB | / plain |\n|---|---|---|---|---|")
    for kind, title in KINDS.items():
        seconds, peak = found[kind]["seconds"], found[kind]["peak"]
        middle = statistics.median(seconds)
        spread = f"{middle:.2f} ({min(seconds):.2f} - {max(seconds):.2f})"
        ratio, memory = middle / statistics.median(plain["seconds"]), peak / plain["peak"]
        print(f"| {title} | {spread} | {ratio:.2f} | {peak / 1024:.2f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
