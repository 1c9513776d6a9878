"""What the names of attacks mean to a reader: title, description, order, and which control belongs to which attack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from vafa_monai.attacks.validation import LEVELS

__all__ = ["CLEAN", "FREQUENCY_CONTROLS", "attack_description", "attack_order", "attack_title", "setting_text"]

CLEAN = "identity"

KNOWN: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        CLEAN: ("Clean", "The volume as it is; what every drop is measured from."),
        "identity_stretch": (
            "Slice stretch only",
            "Every slice stretched to full contrast, as VAFA (authors) ends, with no attack before it.",
        ),
        "uniform_quantization": (
            "Uniform quantization",
            "The same lossy compression as VAFA with one step for all coefficients; the network is not asked.",
        ),
        "random_quantization": (
            "Random quantization",
            "The same lossy compression as VAFA with a random step for every coefficient; the network is not asked.",
        ),
        "gaussian_noise": ("Gaussian noise", "Noise that does not know the network; the baseline GN of the paper."),
        "gaussian_noise_rms": (
            "Gaussian noise, VAFA's rms",
            "Noise that changes the volume as much as VAFA (authors) does, measured by its root mean square.",
        ),
        "fgsm": ("FGSM", "One step along the sign of the gradient (voxels)."),
        "bim": ("BIM", "FGSM in several small steps (voxels)."),
        "pgd": ("PGD", "BIM from a random start (voxels)."),
        "apgd": ("APGD", "PGD that chooses its step sizes and keeps the best of its iterates (voxels)."),
        "seg_pgd": ("SegPGD", "PGD that begins with the voxels that are still right (voxels)."),
        "cos_pgd": ("CosPGD", "PGD that weighs every voxel by how much it looks like the truth (voxels)."),
        "transfer_pgd": (
            "Transfer PGD",
            "PGD with momentum and input diversity, made to fool other networks, too (voxels).",
        ),
        "square": (
            "Square Attack",
            "Random boxes, kept where they do harm; the network's gradient is not asked (voxels).",
        ),
        "vafa_2d": ("VAFA-2D", "VAFA with a 2D transform: every slice by itself (frequencies)."),
        "vafa_paper": (
            "VAFA (paper)",
            "VAFA as Algorithm 1 prints it: steps of 1 at the start, no slice stretch (frequencies).",
        ),
        "vafa_authors": (
            "VAFA (authors)",
            "VAFA as in the published code of its authors, which ends with the slice stretch (frequencies).",
        ),
        "vafa_audit": (
            "VAFA (audit)",
            "VAFA without the stretch, with true rounding and the best of its iterates (frequencies).",
        ),
        "frequency_pgd": (
            "Frequency PGD",
            "PGD on all DCT coefficients that quantization could change as much (frequencies).",
        ),
        "ensemble": (
            "Attack ensemble",
            "Seven attacks of fixed settings, of which the worst of every case counts (voxels and frequencies).",
        ),
        "erase_organ": ("Organ erased", "APGD towards a segmentation without the organ (voxels)."),
        "swap_organs": ("Organs swapped", "APGD towards a segmentation with two organs exchanged (voxels)."),
        "grow_organ": ("Organ grown", "APGD towards a segmentation with a larger organ (voxels)."),
        "shrink_organ": ("Organ shrunk", "APGD towards a segmentation with a smaller organ (voxels)."),
        "move_organ": ("Organ moved", "APGD towards a segmentation with the organ elsewhere (voxels)."),
    }
)

FREQUENCY_CONTROLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "vafa_2d": ("identity_stretch", "uniform_quantization", "gaussian_noise_rms"),
        "vafa_paper": ("uniform_quantization",),  # it stretches nothing, and changes far less than that noise
        "vafa_authors": ("identity_stretch", "uniform_quantization", "gaussian_noise_rms"),
        "vafa_audit": ("uniform_quantization", "gaussian_noise_rms"),  # it stretches nothing
        "frequency_pgd": ("uniform_quantization", "random_quantization"),
    }
)


def attack_title(name: str) -> str:
    """Return what a reader is shown for an attack; an unknown name stands for itself.

    Example:
        >>> attack_title("vafa_2d"), attack_title("my_attack")
        ('VAFA-2D', 'my_attack')
    """
    return KNOWN[name][0] if name in KNOWN else name


def attack_description(name: str) -> str:
    """Return one sentence about an attack, or an empty text for an unknown name."""
    return KNOWN[name][1] if name in KNOWN else ""


def attack_order(names: Iterable[str]) -> list[str]:
    """Return each name once: the known ones in the order of the report, then the others alphabetically.

    Example:
        >>> attack_order(["zeta", "pgd", "alpha", "identity", "pgd"])
        ['identity', 'pgd', 'alpha', 'zeta']
    """
    unique = set(names)
    return [name for name in KNOWN if name in unique] + sorted(unique - KNOWN.keys())


def setting_text(settings: Mapping[str, Any], strength: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """Write what strength, steps and blocks an attack had; an attack inside another is described itself.

    Args:
        settings: what :func:`vafa_monai.attacks.describe` gave, as a result holds it.
        strength: what :func:`vafa_monai.attacks.range_adapter.strengths` gave, for physical units.

    Example:
        >>> setting_text({"eps": 4 / 255, "steps": 20, "step_size": 0.01, "random_start": True})
        'ε 4/255, 20 steps of 0.01, random start'
        >>> setting_text({"eps": 4 / 255}, {"eps": {"fraction": 0.015686, "grey_levels": 4.0, "HU": 6.666667}})
        'ε 4/255 (6.67 HU)'
        >>> setting_text({"name": "VolAA 1", "eps": 4 / 255, "q_max": 20.0, "steps": 100})
        'VolAA 1, ε 4/255, q up to 20, 100 steps'
    """
    inner = settings.get("attack")
    if isinstance(inner, Mapping):
        tiled = str(settings.get("_target_", "")).endswith("TiledAttack")
        parts = (_goal(settings.get("goal")), setting_text(inner, strength), "tile by tile" if tiled else "")
        return ", ".join(text for text in parts if text)
    name = [str(settings["name"])] if "name" in settings else []
    return ", ".join([*name, *_strength(settings, strength or {}), *_search(settings)])


def _goal(goal: Any) -> str:
    """Return an anatomical target: its name, and its own settings."""
    if not isinstance(goal, Mapping):
        return ""
    name = str(goal.get("_target_", "")).rpartition(".")[2]
    return " ".join(
        [name, *(f"{key} {value}" for key, value in goal.items() if key != "_target_" and value is not None)]
    )


def _strength(settings: Mapping[str, Any], strength: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return radius, standard deviation, quantization and blocks."""
    parts = [
        f"{sign} {LEVELS * settings[name]:g}/{LEVELS:g}{_physical(strength.get(name, {}))}"
        for name, sign in (("eps", "\N{GREEK SMALL LETTER EPSILON}"), ("std", "\N{GREEK SMALL LETTER SIGMA}"))
        if name in settings
    ]
    parts += [f"q {settings['q']:g}"] if "q" in settings else []
    lowest = f"{settings['q_min']:g}" if "q_min" in settings else "up"
    parts += [f"q {lowest} to {settings['q_max']:g}"] if "q_max" in settings else []
    parts += (
        ["block " + "\N{MULTIPLICATION SIGN}".join(map(str, settings["block_size"]))]
        if "block_size" in settings
        else []
    )
    return parts


def _physical(units: Mapping[str, float]) -> str:
    """Return a strength in its physical unit, in brackets; nothing without one."""
    found = [f"{value:.3g} {unit}" for unit, value in units.items() if unit not in ("fraction", "grey_levels")]
    return f" ({', '.join(found)})" if found else ""


def _search(settings: Mapping[str, Any]) -> list[str]:
    """Return the steps, where they start and how the image ends."""
    parts = [_steps(settings)] if "steps" in settings else []
    parts += [f"start at q_{settings['q_init']}"] if settings.get("q_init") in ("min", "max") else []
    parts += ["random start"] if settings.get("random_start") else []
    parts += ["no SSIM term"] if settings.get("ssim_weight") == 0 else []
    channels = settings.get("channels")
    parts += [f"channels {', '.join(map(str, channels))}"] if channels else []
    parts += ["slices stretched"] if settings.get("output_norm") == "slice_minmax" else []
    return parts


def _steps(settings: Mapping[str, Any]) -> str:
    count, size = settings["steps"], settings.get("step_size")
    if count == 1:
        return "1 step"
    return f"{count} steps" + ("" if size is None else f" of {size:g}")
