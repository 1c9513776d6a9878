"""What only the identity does: nothing, or a change of contrast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vafa_monai.attacks import Identity


def test_volume_comes_back_as_a_copy(volume, label):
    adv = Identity()(volume, label, None)
    assert torch.equal(adv, volume)
    assert adv.data_ptr() != volume.data_ptr()


def test_stretched_slices_equal_numpy(volume, label):
    inputs = 0.3 + 0.4 * volume.double()
    expected = np.stack([(s - s.min()) / np.ptp(s) for s in inputs.numpy().transpose(0, 1, 4, 2, 3).reshape(-1, 11, 9)])
    adv = Identity(output_norm="slice_minmax")(inputs, label, None)
    torch.testing.assert_close(adv.permute(0, 1, 4, 2, 3).flatten(0, 2), torch.from_numpy(expected))


def test_a_constant_slice_is_not_stretched(volume, label):
    volume[..., 1] = 0.3
    adv = Identity(output_norm="slice_minmax")(volume, label, None)
    assert torch.equal(adv[..., 1], volume[..., 1])
    assert not torch.equal(adv[..., 2], volume[..., 2])


def test_unknown_output_norm_is_refused():
    with pytest.raises(ValueError, match="did you mean 'clip'"):
        Identity(output_norm="clp")
