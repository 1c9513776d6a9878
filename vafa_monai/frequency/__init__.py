"""Block DCT, its inverse, smooth rounding and quantization: tensors only, torch only."""

from vafa_monai.frequency.block_dct import (
    block_dct,
    block_idct,
    block_matrices,
    contract,
    merge_blocks,
    pad_to_blocks,
    split_blocks,
)
from vafa_monai.frequency.quantization import quantize, round_through, smooth_round

__all__ = [
    "block_dct",
    "block_idct",
    "block_matrices",
    "contract",
    "merge_blocks",
    "pad_to_blocks",
    "quantize",
    "round_through",
    "smooth_round",
    "split_blocks",
]
