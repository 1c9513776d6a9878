"""MONAI's own evaluator on attacked volumes."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.engines import IterationEvents
from monai.handlers import MeanDice, from_engine
from monai.inferers import SlidingWindowInferer

from vafa_monai.attacks import FGSM, PGD, Identity
from vafa_monai.handlers import AttackHandler
from vafa_monai.inferers import InferredNetwork


@pytest.fixture
def cases_after(evaluator, probe):
    """Run an evaluator under an attack; return its batch and output, case by case."""

    def run(network, attack, windows_per_gradient=None, **settings):
        seen = probe(Events.ITERATION_COMPLETED, lambda engine: [engine.state.batch, engine.state.output])
        handler = AttackHandler(attack, windows_per_gradient=windows_per_gradient)
        evaluator(network, [handler, seen], **settings).run()
        return [pair for pairs in seen.found for pair in zip(*pairs, strict=True)]

    return run


def test_evaluator_predicts_the_attacked_volumes_and_keeps_the_clean_ones(cases, cases_after, tiny_network):
    found = cases_after(tiny_network, FGSM(), postprocessing=None)
    assert len(found) == 3
    for case, (batch, output) in zip(cases, found, strict=True):
        adv = FGSM()(case["image"].as_tensor()[None], case["label"].as_tensor()[None], tiny_network)
        assert torch.equal(output["image"].as_tensor(), adv[0])
        assert torch.equal(batch["image"].as_tensor(), adv[0])
        torch.testing.assert_close(output["pred"].as_tensor(), tiny_network(adv)[0].detach())
        assert torch.equal(output["clean_image"].as_tensor(), case["image"].as_tensor())


def test_metadata_goes_with_the_attacked_and_the_clean_volume(affine, cases_after, tiny_network):
    for index, (batch, output) in enumerate(cases_after(tiny_network, FGSM())):
        for volume in (batch["image"], batch["clean_image"], output["image"], output["clean_image"]):
            assert isinstance(volume, MetaTensor)
            assert torch.equal(volume.affine, affine)
            assert volume.meta["filename_or_obj"] == f"folder/case_{index}.nii.gz"


def test_metric_of_the_evaluator_is_that_of_the_attacked_volumes(evaluator, threshold_network):
    scores = []
    for eps in (0.0, 0.02, 0.1):
        dice = {"dice": MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))}
        attack = FGSM(eps=eps) if eps else Identity()
        engine = evaluator(threshold_network, [AttackHandler(attack)], key_val_metric=dice)
        engine.run()
        scores.append(engine.state.metrics["dice"])
    assert scores[0] == 1
    assert scores[0] > scores[1] > scores[2]


def test_attack_meets_the_inferer_of_the_evaluator(cases, cases_after, tiny_network):
    inferer = SlidingWindowInferer((4, 3, 5), overlap=0.5, mode="gaussian")
    _, output = cases_after(tiny_network, PGD(steps=2), inferer=inferer)[0]
    volume, label = (cases[0][key].as_tensor()[None] for key in ("image", "label"))
    expected = PGD(steps=2)(volume, label, InferredNetwork(tiny_network, inferer))
    torch.testing.assert_close(output["image"].as_tensor(), expected[0])
    assert not torch.equal(output["image"].as_tensor(), PGD(steps=2)(volume, label, tiny_network)[0])


def test_cheap_run_attacks_by_the_gradient_of_a_few_windows(cases, cases_after, tiny_network):
    inferer = SlidingWindowInferer((4, 3, 5), overlap=0.5)
    found = cases_after(tiny_network, FGSM(), inferer=inferer, windows_per_gradient=2)
    for case, (_, output) in zip(cases, found, strict=True):
        moved = (output["image"].as_tensor() != case["image"].as_tensor()).sum()
        assert 0 < moved <= 2 * 4 * 3 * 5


def test_network_in_train_mode_is_attacked_in_eval_mode_and_left_as_it_was(evaluator, probe, normalized_network):
    normalized_network.train()[1].eval()
    before = {name: tensor.clone() for name, tensor in normalized_network.state_dict().items()}
    modes = probe(Events.ITERATION_STARTED, lambda engine: [part.training for part in engine.network.modules()])
    during = []
    normalized_network[0].register_forward_hook(lambda module, *_: during.append(module.training))
    evaluator(normalized_network, [AttackHandler(FGSM()), modes]).run()
    assert modes.found[0] == [True, True, False, True, True, True]
    assert during
    assert not any(during)
    torch.testing.assert_close(normalized_network.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in normalized_network.parameters())


def test_clean_volumes_are_there_for_metrics_before_the_batch_is_taken_apart(evaluator, probe, tiny_network):
    shapes = probe(IterationEvents.MODEL_COMPLETED, lambda engine: engine.state.output["clean_image"].shape)
    evaluator(tiny_network, [AttackHandler(FGSM()), shapes], decollate=False, postprocessing=None).run()
    assert shapes.found == [(2, 1, 11, 9, 6), (1, 1, 11, 9, 6)]


def test_metadata_survives_an_attack_that_returns_a_plain_tensor(cases_after, tiny_network):
    for batch, _ in cases_after(tiny_network, lambda inputs, targets, network: 1 - inputs.as_tensor()):
        assert isinstance(batch["image"], MetaTensor)


def test_attack_that_fails_stops_the_evaluation(evaluator, cases, tiny_network):
    cases[2]["image"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"inputs must be finite and lie in value_range \(0\.0, 1\.0\)"):
        evaluator(tiny_network, [AttackHandler(FGSM())]).run()


def test_handler_can_be_built_from_json():
    config = {"_target_": "vafa_monai.handlers.AttackHandler", "attack": {"_target_": "vafa_monai.attacks.Identity"}}
    handler = ConfigParser({"handler": config}).get_parsed_content("handler")
    assert (handler.attack, handler.image_key, handler.windows_per_gradient) == (Identity(), "image", None)
