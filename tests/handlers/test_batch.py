"""What the handlers do to a batch, and to the network meanwhile."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import monai
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.engines.utils import PrepareBatchExtraInput, default_prepare_batch
from monai.inferers import SimpleInferer, SlidingWindowInferer, SlidingWindowInfererAdapt
from torch import nn

from vafa_monai.attacks import FGSM, PGD, Identity
from vafa_monai.handlers import AdversarialKeys
from vafa_monai.handlers.batch import attack_batch, joined_batch
from vafa_monai.inferers import InferredNetwork, SlidingWindowNetwork, evaluating


def engine_of(network, batch, **changes):
    """The parts of a MONAI engine that an attack asks for."""
    parts = {
        "state": SimpleNamespace(batch=batch, device=torch.device("cpu")),
        "prepare_batch": default_prepare_batch,
        "non_blocking": False,
        "to_kwargs": {},
        "network": network,
        "inferer": SimpleInferer(),
        "amp": False,
        "amp_kwargs": {},
    }
    return SimpleNamespace(**parts | changes)


@pytest.fixture
def batch(cases):
    more = [{"age": age, "site": site} for age, site in ((3, "a"), (4, "b"), (5, "c"))]
    return list_data_collate([case | one for case, one in zip(cases, more, strict=True)])


# The attack on a batch


def test_batch_is_attacked_through_network_and_inferer(batch, tiny_network):
    inferer = SlidingWindowInferer((4, 3, 5), overlap=0.5)
    clean, adv, *_ = attack_batch(engine_of(tiny_network, batch, inferer=inferer), FGSM())
    assert torch.equal(clean, batch["image"])
    expected = FGSM()(batch["image"], batch["label"], InferredNetwork(tiny_network, inferer))
    assert torch.equal(adv, expected)
    assert not torch.equal(adv, FGSM()(batch["image"], batch["label"], tiny_network))


def whole_of(network, batch, inferer, **settings):
    """Return what the attack is given as its network."""
    seen = []
    engine = engine_of(network, batch, inferer=inferer)
    attack_batch(engine, lambda inputs, targets, whole: seen.append(whole) or inputs, **settings)
    return seen[0]


@pytest.mark.parametrize("kind", [SlidingWindowInferer, SlidingWindowInfererAdapt])
def test_whole_volume_is_attacked_in_the_memory_of_a_batch_of_windows(batch, tiny_network, kind):
    inferer = kind((4, 3, 5), 2, (0.5, 0.1, 0.3), "gaussian", 0.2, "replicate")
    whole = whole_of(tiny_network, batch, inferer)
    assert isinstance(whole, SlidingWindowNetwork)
    assert whole.network is tiny_network
    assert whole.windows_per_gradient is None
    names = ("roi_size", "sw_batch_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval")
    assert [getattr(whole.inferer, name) for name in names] == [getattr(inferer, name) for name in names]


class Flipping(SlidingWindowInferer):
    """A subclass that does something else."""

    def __call__(self, inputs, network, *args, **kwargs):
        return super().__call__(inputs.flip(2), network, *args, **kwargs).flip(2)


@pytest.mark.parametrize(
    "inferer",
    [None, SimpleInferer(), Flipping((4, 3, 5)), SlidingWindowInferer((4, 3, 5), with_coord=True)],
    ids=["none", "simple", "subclass", "coordinates"],
)
def test_other_inferers_are_attacked_as_they_are(batch, tiny_network, inferer):
    given, tiny_network.forward = tiny_network.forward, lambda windows, *_: given(windows)
    whole = whole_of(tiny_network, batch, inferer)
    assert isinstance(whole, InferredNetwork)
    assert whole.inferer is inferer
    with pytest.raises(ValueError, match="windows_per_gradient must be None without a SlidingWindowInferer, got it"):
        whole_of(tiny_network, batch, inferer, windows_per_gradient=1)


def test_cheap_attack_takes_the_gradient_of_a_few_windows(batch, tiny_network):
    inferer = SlidingWindowInferer((4, 3, 5), overlap=0.5)
    adv = attack_batch(engine_of(tiny_network, batch, inferer=inferer), FGSM(), windows_per_gradient=2).adv
    moved = (adv - batch["image"]).as_tensor().count_nonzero((1, 2, 3, 4))
    assert (moved > 0).all()
    assert (moved <= 2 * 4 * 3 * 5).all()


def test_compiled_network_is_attacked_and_compiled_once(batch, tiny_network, monkeypatch):
    """The compiler itself is stood for; ``test_compiled_attack_gives_what_the_plain_one_gives`` has the real one."""
    made = []

    def wrap(network):
        made.append(nn.Sequential(network))
        return made[-1]

    monkeypatch.setattr(torch, "compile", wrap)
    engine = engine_of(tiny_network, batch)
    first, second = (attack_batch(engine, FGSM(), compiled=True) for _ in range(2))
    assert len(made) == 1
    assert torch.equal(first.adv, attack_batch(engine_of(tiny_network, batch), FGSM()).adv)
    assert first.cost == second.cost == {"forward": len(batch["image"]), "backward": len(batch["image"])}


@pytest.mark.slow
def test_compiled_attack_gives_what_the_plain_one_gives(batch, tiny_network):
    inferer = SlidingWindowInferer((4, 3, 5), sw_batch_size=2, overlap=0.5)
    plain, fast = (
        attack_batch(engine_of(tiny_network, batch, inferer=inferer), PGD(eps=0.1, steps=3), compiled=compiled)
        for compiled in (False, True)
    )
    torch.testing.assert_close(fast.adv.as_tensor(), plain.adv.as_tensor(), atol=1e-4, rtol=0)
    assert fast.cost == plain.cost


@pytest.fixture
def one_rank(tmp_path):
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.parallel.DistributedDataParallel])
def test_attack_stays_on_its_rank(batch, tiny_network, one_rank, wrap):
    """The wrapper of distributed training, whose forward waits for the other ranks, is not attacked."""
    whole = whole_of(wrap(tiny_network), batch, SimpleInferer())
    assert whole.network is tiny_network
    adv = attack_batch(engine_of(wrap(tiny_network), batch), FGSM()).adv
    assert torch.equal(adv, FGSM()(batch["image"], batch["label"], tiny_network))


# The network that is attacked is the one that is evaluated


class Around(nn.Module):
    """A wrapper that turns intensities around, and holds the network by a name that other wrappers have."""

    def __init__(self, network, name):
        super().__init__()
        self.name = name
        setattr(self, name, network)

    def forward(self, inputs):
        return getattr(self, self.name)(1 - inputs)


@pytest.mark.parametrize("name", ["module", "_orig_mod", "model", "network", "_forward_module"])
def test_wrapper_of_any_name_is_attacked_with_what_it_does(batch, tiny_network, name):
    wrapper = Around(tiny_network, name)
    adv = attack_batch(engine_of(wrapper, batch), FGSM()).adv
    assert torch.equal(adv, FGSM()(batch["image"], batch["label"], wrapper))
    assert not torch.equal(adv, FGSM()(batch["image"], batch["label"], tiny_network))


def test_average_of_weights_is_attacked_and_not_what_it_was_made_of(batch, tiny_network):
    average = torch.optim.swa_utils.AveragedModel(tiny_network)
    with torch.no_grad():
        tiny_network[0].weight.neg_()
    adv = attack_batch(engine_of(average, batch), FGSM()).adv
    assert torch.equal(adv, FGSM()(batch["image"], batch["label"], average.module))


def test_exported_and_frozen_networks_are_attacked(batch, tiny_network):
    volume = batch["image"].as_tensor()
    expected = FGSM()(batch["image"], batch["label"], tiny_network)
    frozen = torch.jit.freeze(torch.jit.trace(tiny_network, volume))
    exported = torch.export.export(tiny_network, (volume,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    for network in (frozen, exported):
        found = attack_batch(engine_of(network, batch, mode=eval_mode_of_monai), FGSM())
        torch.testing.assert_close(found.adv, expected)
        assert found.cost == {"forward": 3, "backward": 3}


class OnceMore(nn.Module):
    """A network that answers differently every time."""

    def __init__(self, network):
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, inputs):
        self.calls += 1
        return self.network(inputs) * self.calls


class Spoiling(nn.Module):
    """A network that standardizes in place, behind a window that is a view of the volume."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs):
        return self.network(inputs.sub_(0.5))


def train_mode_of_monai(network):
    return monai.networks.utils.train_mode(network)


def eval_mode_of_monai(network):
    return nullcontext() if not hasattr(network, "training") else evaluating(network)


class Doubling(SimpleInferer):
    """An inferer that remembers how often it ran."""

    calls = 0

    def __call__(self, inputs, network, *args, **kwargs):
        self.calls += 1
        return super().__call__(inputs, network) * self.calls


DIFFERENT = r"network must give attack and evaluation the same logits, got a largest difference of [\d.e-]+ on a clean"


@pytest.mark.parametrize(
    ("wrap", "changes"),
    [
        (OnceMore, {}),
        (lambda network: network, {"inferer": Doubling()}),
        (Spoiling, {"inferer": SlidingWindowInferer((4, 3, 5), overlap=0.5)}),
        (lambda network: nn.Sequential(network, nn.BatchNorm3d(3)), {"mode": train_mode_of_monai}),
    ],
    ids=["memory of the network", "memory of the inferer", "windows written into", "train mode"],
)
def test_attack_on_another_network_than_the_evaluated_is_refused(batch, tiny_network, wrap, changes):
    network = wrap(tiny_network)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes, image = [part.training for part in network.modules()], batch["image"].clone()
    with pytest.raises(RuntimeError, match=DIFFERENT):
        attack_batch(engine_of(network, batch, **changes), FGSM())
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
    assert [part.training for part in network.modules()] == modes
    assert torch.equal(batch["image"], image)


@pytest.mark.parametrize("spoil", [lambda logits: logits * (1 + 5e-3), lambda logits: logits[:, :2]], ids=["", "shape"])
def test_compiler_that_changes_the_network_is_refused(batch, tiny_network, monkeypatch, spoil):
    class Compiled(nn.Module):
        def __init__(self, network):
            super().__init__()
            self._orig_mod = network

        def forward(self, inputs):
            return spoil(self._orig_mod(inputs))

    monkeypatch.setattr(torch, "compile", Compiled)
    with pytest.raises(RuntimeError, match="network must give attack and evaluation the same logits, got"):
        attack_batch(engine_of(tiny_network, batch), FGSM(), compiled=True)


def test_rounding_is_no_difference(batch, tiny_network, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: nn.Sequential(network, nn.Threshold(-9.0, -9.0)))
    tiny_network.register_forward_hook(lambda module, inputs, logits: logits * (1 + 1e-5 * torch.rand_like(logits)))
    attack_batch(engine_of(tiny_network, batch), FGSM(), compiled=True)
    with torch.no_grad():
        tiny_network[0].bias[:] = float("inf")
    with pytest.raises(RuntimeError, match="finite"):  # equal, and no network to attack
        attack_batch(engine_of(tiny_network, batch), FGSM())


def test_networks_are_compared_once_and_not_for_a_control(batch, tiny_network):
    calls = []
    tiny_network.register_forward_hook(lambda *_: calls.append(1))
    engine = engine_of(tiny_network, batch)
    for attack, expected in ((Identity(), 0), (FGSM(), 3), (FGSM(), 1), (Identity(), 0)):
        calls.clear()
        attack_batch(engine, attack)
        assert len(calls) == expected


def test_comparison_draws_no_random_number(batch, normalized_network):
    """Training with dropout and batch norm goes on as if nothing had been compared."""
    normalized_network.train()
    before = {name: value.clone() for name, value in normalized_network.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.get_rng_state()
    attack_batch(engine_of(normalized_network, batch), FGSM())
    assert torch.equal(torch.get_rng_state(), expected)
    torch.testing.assert_close(normalized_network.state_dict(), before, rtol=0, atol=0)


def test_further_inputs_of_a_network_are_refused(batch, tiny_network):
    engine = engine_of(tiny_network, batch, prepare_batch=PrepareBatchExtraInput(["age"]))
    with pytest.raises(ValueError, match=r"prepare_batch must give the network volumes alone, .* got \['Tensor'\]"):
        attack_batch(engine, FGSM())


@pytest.mark.parametrize("amp", [False, True], ids=["full precision", "mixed precision"])
def test_network_on_the_cpu_is_attacked_in_full_precision_as_the_engines_run_it(batch, tiny_network, amp):
    dtypes = []
    tiny_network.register_forward_hook(lambda module, inputs, logits: dtypes.append(logits.dtype))
    adv = attack_batch(engine_of(tiny_network, batch, amp=amp, amp_kwargs={"dtype": torch.bfloat16}), FGSM()).adv
    assert set(dtypes) == {torch.float32}  # their autocast is that of CUDA
    assert adv.dtype == torch.float32


@pytest.mark.parametrize(
    ("attack", "match"),
    [
        (lambda inputs, *_: inputs[..., 1:], r"volumes of shape \(3, 1, 11, 9, 6\), got shape \(3, 1, 11, 9, 5\)"),
        (lambda inputs, *_: inputs * float("nan"), "finite volumes, got NaN or infinity"),
        (lambda inputs, *_: inputs.numpy(), r"volumes of shape .*, got ndarray"),
    ],
    ids=["shape", "NaN", "kind"],
)
def test_attack_of_others_that_returns_no_volumes_is_refused(batch, tiny_network, attack, match):
    with pytest.raises(ValueError, match=f"attack must return {match}"):
        attack_batch(engine_of(tiny_network, batch), attack)


def test_attack_of_others_may_write_into_what_it_gets(batch, tiny_network):
    before = batch["image"].clone()
    clean, adv, *_ = attack_batch(engine_of(tiny_network, batch), lambda inputs, *_: inputs.add_(1))
    assert torch.equal(clean, before)
    assert torch.equal(adv, before + 1)


def test_tuple_is_no_batch(batch, tiny_network):
    with pytest.raises(TypeError, match="batch must be a dictionary of volumes and labels, got tuple"):
        attack_batch(engine_of(tiny_network, (batch["image"], batch["label"])), FGSM())


# The doubled batch


def test_doubled_batch_is_clean_then_adversarial_and_all_else_twice(batch):
    adv = 1 - batch["image"]
    doubled = joined_batch(batch, batch, "image", adv)
    assert torch.equal(doubled["image"].as_tensor(), torch.cat([batch["image"].as_tensor(), adv.as_tensor()]))
    assert torch.equal(doubled["label"].as_tensor(), torch.cat([batch["label"].as_tensor()] * 2))
    assert doubled["age"].tolist() == [3, 4, 5] * 2
    assert list(doubled["site"]) == list("abc") * 2


def test_every_case_of_the_doubled_batch_has_its_metadata(batch, affine):
    doubled = joined_batch(batch, batch, "image", 1 - batch["image"])
    samples = decollate_batch(doubled)
    names = [f"folder/case_{index}.nii.gz" for index in range(3)]
    assert [sample["image"].meta["filename_or_obj"] for sample in samples] == names * 2
    assert all(torch.equal(sample[key].affine, affine) for sample in samples for key in ("image", "label"))


def test_doubling_leaves_the_batch_as_it_was(batch):
    keys, image = list(batch), batch["image"].clone()
    joined_batch(batch, batch, "image", 1 - batch["image"])["image"].zero_()
    assert list(batch) == keys
    assert torch.equal(batch["image"], image)
    assert isinstance(batch["image"], MetaTensor)


def test_batch_without_metadata_is_doubled_too(batch):
    plain = {key: batch[key].as_tensor() for key in ("image", "label")}
    doubled = joined_batch(plain, plain, "image", plain["image"] / 2)
    assert torch.equal(doubled["image"], torch.cat([plain["image"], plain["image"] / 2]))


def test_keys_are_plain_texts():
    assert [str(key) for key in AdversarialKeys] == ["clean_image", "grid_pred", "native_label"]
