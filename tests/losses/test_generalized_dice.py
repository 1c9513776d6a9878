"""The generalized Dice loss of the attacks against its formula."""

from __future__ import annotations

import torch

from vafa_monai.losses import generalized_dice


def test_classes_weigh_as_the_inverse_square_of_their_size():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 5, 4, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (1, 1, 5, 4, 3), generator=generator)
    truth = torch.stack([(labels[0, 0] == label).double() for label in range(3)]).flatten(1)
    predicted = logits.softmax(1)[0].flatten(1)
    weights = 1 / truth.sum(1) ** 2
    overlap, size = (predicted * truth).sum(1), (predicted + truth).sum(1)
    expected = 1 - 2 * (weights * overlap).sum() / (weights * size).sum()
    torch.testing.assert_close(generalized_dice()(logits, labels), expected, rtol=0, atol=1e-3)  # smoothed by 1e-5
