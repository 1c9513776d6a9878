"""Time a step of UNETR++, forward and backward to input and weights, against the same graph written plainly.

    python tests/benchmarks/unetrpp_step.py [--variant synapse|acdc] [--edge 64] [--batch 1] [--repeats 5]

The plain network has the same convolutions and weights, takes volumes in its own axis order and computes attention by
matrix products, softmax and dropout as they are written in the paper. Both run in turn in one process; the table has
medians of the ratios. ``--edge`` makes volumes cubic instead of the published size.
"""

import argparse
import platform
import statistics
import time

import torch
import torch.nn.functional as F

from vafa_monai.networks import UNETRPP
from vafa_monai.networks.unetrpp_block import PairedAttention, PairedAttentionBlock

REVERSED = (0, 1, 4, 3, 2)


class PlainAttention(PairedAttention):
    """Every product, norm, softmax and dropout by itself."""

    def forward(self, tokens):
        heads = self.qkvv(tokens).unflatten(2, (4, self.num_heads, -1)).permute(2, 0, 3, 4, 1)
        query, key, channel_value, spatial_value = heads  # -> (B, heads, C/heads, N)
        mixed_key, mixed_value = self.E(key), self.F(spatial_value)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        channel = self.dropout((query @ key.transpose(-2, -1) * self.temperature).softmax(-1))
        by_channel = (channel @ channel_value).permute(0, 3, 1, 2).reshape(tokens.shape)
        spatial = self.dropout((query.transpose(-2, -1) @ mixed_key * self.temperature2).softmax(-1))
        by_token = (spatial @ mixed_value.transpose(-2, -1)).permute(0, 3, 1, 2).reshape(tokens.shape)
        return torch.cat((self.out_proj(by_token), self.out_proj2(by_channel)), dim=-1)


class PlainBlock(PairedAttentionBlock):
    """Tokens in, tokens out, volume in, volume out."""

    def forward(self, volume):
        tokens = volume.flatten(2).permute(0, 2, 1) + self.pos_embed
        tokens = tokens + self.gamma * self.epa_block(self.norm(tokens))
        attended = tokens.reshape(len(volume), *volume.shape[2:], -1).permute(0, 4, 1, 2, 3)
        return attended + self.conv8(self.conv52(self.conv51(attended)))


def build(options, device):
    """Return our network in MONAI's axis order and the plain one in the published order, of equal weights."""
    torch.manual_seed(0)
    sizes = {"img_size": (options.edge,) * 3} if options.edge else {}
    ours, plain = (UNETRPP.preset(options.variant, axes, **sizes).to(device) for axes in ("xyz", "zyx"))
    for name, weight in ours.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.ones_(weight)  # new networks hardly attend
    plain.load_state_dict(ours.state_dict())
    for module in plain.modules():
        if isinstance(module, PairedAttention):
            module.__class__ = PlainAttention
        elif isinstance(module, PairedAttentionBlock):
            module.__class__ = PlainBlock
    return ours, plain


def step(network, volume):
    """Run forward and backward to the input and every weight."""
    network.zero_grad()
    inputs = volume.clone().requires_grad_()
    sum(logits.square().mean() for logits in network.deep_outputs(inputs)).backward()


def seconds(network, volume):
    """Time a step to its end."""
    start = time.perf_counter()
    step(network, volume)
    if volume.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(ours, plain, volume, repeats):
    """Return the seconds of every plain step, and the ratios of our step beside it; the first of both alternates."""
    pair, plains, ratios = [(ours, volume), (plain, volume.permute(REVERSED))], [], []
    for run in pair:
        step(*run)
    for repeat in range(repeats):
        order = (0, 1) if repeat % 2 else (1, 0)
        elapsed = {place: seconds(*pair[place]) for place in order}
        plains.append(elapsed[1])
        ratios.append(elapsed[0] / elapsed[1])
    return plains, ratios


def peak(network, volume):
    """Return the GPU memory that a step holds at most, in bytes."""
    torch.cuda.reset_peak_memory_stats()
    step(network, volume)
    return torch.cuda.max_memory_allocated()


def difference(ours, plain, volume):
    """Return the largest difference of the logits in eval mode, in their standard deviations."""
    with torch.no_grad():
        expected = plain.eval()(volume.permute(REVERSED)).permute(REVERSED)
        return ((ours.eval()(volume) - expected).abs().max() / expected.std()).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=["synapse", "acdc"], default="synapse")
    parser.add_argument("--edge", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    ours, plain = build(options, device)
    volume = torch.rand(options.batch, 1, *ours.img_size, generator=torch.Generator().manual_seed(0)).to(device)
    print(f"UNETR++ {options.variant}, {options.batch} x {'x'.join(map(str, ours.img_size))} voxels, {name},")
    print(f"torch {torch.__version__}, Python {platform.python_version()}; largest difference of the logits")
    print(f"{difference(ours, plain, volume):.1e} standard deviations\n")
    print("| mode | plain step, seconds | ours / plain, median (min - max) | GPU memory, ours / plain |")
    print("|---|---|---|---|")
    for mode in ("eval", "train"):
        for network in (ours, plain):
            network.train(mode == "train")
        plains, ratios = measure(ours, plain, volume, options.repeats)
        memory = "-"
        if device.type == "cuda":
            memory = f"{peak(ours, volume) / peak(plain, volume.permute(REVERSED)):.2f}"
        middle = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
        print(f"| {mode} | {statistics.median(plains):.2f} | {middle} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
