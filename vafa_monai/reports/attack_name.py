"""What the names of attacks mean to a reader: title, description, order, and which control belongs to which attack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = ["CLEAN", "FREQUENCY_CONTROLS", "attack_description", "attack_order", "attack_title"]

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
