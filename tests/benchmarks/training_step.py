"""Time and peak memory of a training step and of hardening steps of a bundle, against the plain step of its network.

    python tests/benchmarks/training_step.py [--bundle synapse_unetr_segmentation] [--windows 1] [--repeats 3]
        [--recipes vaft_authors:attack_steps=1,mixed:attack_every=2]

The plain step is what no training can do without: forward, loss, backward and update, written as a loop. The others are
MONAI's trainer as the configs of the bundle declare it; a recipe can be followed by config ids and their values. Each
kind runs in a process of its own, whose peak memory is that of the kind (resident memory, or what CUDA allocated).
Seconds are of the clock; on a CPU those of the processor stand beside them, which other work disturbs less.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from ast import literal_eval
from itertools import pairwise
from pathlib import Path

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer

from vafa_monai.handlers import AdversarialTrainingHandler

ROOT = Path(__file__).parents[2] / "bundles"
KINDS = {"plain": "plain step", "train": "`train.json`"}


def read(bundle, kind):
    """Return the configs of a bundle, with those of a recipe and what follows its name."""
    parser, (name, *changes) = ConfigParser(), kind.split(":")
    chain = ["train"] if name in KINDS else ["train", "harden", f"hardening/{name}"]
    parser.read_config([str(ROOT / bundle / "configs" / f"{one}.json") for one in chain])
    for change in changes:
        key, _, value = change.partition("=")
        parser[key] = value if value.startswith("$") else literal_eval(value)
    return parser


def random_batch(parser, device, windows):
    """Return windows of noise with random labels."""
    generator = torch.Generator().manual_seed(0)
    shape = (windows, 1, *parser.get_parsed_content("roi_size"))
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


def measure(bundle, kind, repeats, windows):
    """Return the seconds of each step but the first, those of the processor, and the peak memory in MB."""
    parser = read(bundle, kind)
    device = parser.get_parsed_content("device")
    torch.manual_seed(0)
    network, loss, optimizer = (parser.get_parsed_content(name) for name in ("network", "loss", "optimizer"))
    batch, times, busy = random_batch(parser, device, windows), [time.perf_counter()], [time.process_time()]

    def note(_=None):
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        busy.append(time.process_time())

    if kind == "plain":
        for _ in plain_steps(network, loss, optimizer, batch, repeats + 1):
            note()
    else:
        handlers = [] if kind in KINDS else [handler(parser)]
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
            amp=parser.get_parsed_content("amp"),
        )
        trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
        trainer.run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    seconds, used = ([after - before for before, after in pairwise(one[1:])] for one in (times, busy))
    return {"seconds": seconds, "processor": used, "peak": peak, "device": name}


def handler(parser):
    """Return what attacks the batch, as harden.json declares it."""
    names = {"attack": "curriculum", "target": "attack_target", "every": "attack_every"}
    names |= {name: name for name in ("clean_windows", "attacked_windows")}
    return AdversarialTrainingHandler(**{key: parser.get_parsed_content(name) for key, name in names.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="synapse_unetr_segmentation")
    parser.add_argument("--kind", help=argparse.SUPPRESS)  # what a process of its own measures
    parser.add_argument("--recipes", default="vaft_authors:attack_steps=1")
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.kind:
        print(json.dumps(measure(options.bundle, options.kind, options.repeats, options.windows)))
        return
    found, kinds = (
        {},
        KINDS | {one: f"`train.json` + `{one.replace(':', '` `')}`" for one in options.recipes.split(",")},
    )
    for kind in kinds:
        settings = (f"--{key}={value}" for key, value in {**vars(options), "kind": kind}.items())
        finished = subprocess.run([sys.executable, __file__, *settings], check=True, capture_output=True, text=True)
        found[kind] = json.loads(finished.stdout.splitlines()[-1])
    plain = found["plain"]
    print(f"{options.bundle}, {options.windows} window(s), {plain['device']},")
    print(f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}, Python {platform.python_version()}\n")
    print("| step | seconds, median (min - max) | / plain | processor | / plain | peak memory, GB | / plain |")
    print("|---|---|---|---|---|---|---|")
    for kind, title in kinds.items():
        seconds, peak = found[kind]["seconds"], found[kind]["peak"]
        middle = statistics.median(seconds)
        spread = f"{middle:.2f} ({min(seconds):.2f} - {max(seconds):.2f})"
        ratio, memory = middle / statistics.median(plain["seconds"]), peak / plain["peak"]
        busy, floor = (statistics.median(one["processor"]) for one in (found[kind], plain))
        processor = f"{busy:.2f} | {busy / floor:.2f}"
        print(f"| {title} | {spread} | {ratio:.2f} | {processor} | {peak / 1024:.2f} | {memory:.2f} |")


if __name__ == "__main__":
    main()
