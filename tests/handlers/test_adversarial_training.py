"""MONAI's own trainer on [clean; adversarial] batches."""

from __future__ import annotations

import copy

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.data import list_data_collate
from monai.engines import IterationEvents
from monai.handlers import MeanDice, from_engine
from monai.inferers import SimpleInferer
from torch import nn

from vafa_monai.attacks import FGSM, PGD, Attack, Curriculum, Identity
from vafa_monai.handlers import AdversarialTrainingHandler
from vafa_monai.inferers import TwoPassInferer
from vafa_monai.losses import AdversarialConsistencyLoss, KLDivergenceLoss, dice_ce

LOSS = AdversarialConsistencyLoss()
STARTED, FORWARD = Events.ITERATION_STARTED, IterationEvents.FORWARD_COMPLETED


def weights_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_trainer_sees_clean_then_adversarial_volumes_with_the_labels_twice(cases, trainer, probe, normalized_network):
    seen = probe(FORWARD, lambda engine: {key: engine.state.output[key].clone() for key in ("image", "label")})
    attacked = probe(STARTED, lambda engine: copy.deepcopy(engine.network).eval())
    trainer(normalized_network, [attacked, AdversarialTrainingHandler(FGSM()), seen], LOSS).run()
    assert [len(batch["image"]) for batch in seen.found] == [4, 2]
    for batch, network, part in zip(seen.found, attacked.found, (cases[:2], cases[2:]), strict=True):
        clean = list_data_collate(part)
        adv = FGSM()(clean["image"].as_tensor(), clean["label"].as_tensor(), network)
        assert torch.equal(batch["image"].as_tensor(), torch.cat([clean["image"].as_tensor(), adv]))
        assert torch.equal(batch["label"].as_tensor(), torch.cat([clean["label"].as_tensor()] * 2))


def test_metadata_of_every_case_is_there_twice(affine, trainer, probe, tiny_network):
    cases = probe(Events.ITERATION_COMPLETED, lambda engine: engine.state.batch)
    trainer(tiny_network, [AdversarialTrainingHandler(FGSM()), cases], LOSS).run()
    names = [[case["image"].meta["filename_or_obj"] for case in batch] for batch in cases.found]
    first, second, third = (f"folder/case_{index}.nii.gz" for index in range(3))
    assert names == [[first, second] * 2, [third] * 2]
    assert all(torch.equal(case["label"].affine, affine) for batch in cases.found for case in batch)


def test_attack_that_returns_a_plain_tensor_can_train(trainer, probe, tiny_network):
    sizes = probe(FORWARD, lambda engine: len(engine.state.output["image"]))
    attack = AdversarialTrainingHandler(lambda inputs, targets, network: 1 - inputs.as_tensor())
    trainer(tiny_network, [attack, sizes], LOSS).run()
    assert sizes.found == [4, 2]


def test_one_epoch_equals_the_algorithm_written_out(cases, trainer, normalized_network):
    """Hanif et al., Algorithm 2: attack the current network in eval mode, then one step on both halves."""
    reference = copy.deepcopy(normalized_network)
    normalized_network[3].p = reference[3].p = 0.0  # no dropout
    trainer(normalized_network, [AdversarialTrainingHandler(PGD(steps=2))], LOSS).run()
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    for part in (cases[:2], cases[2:]):
        batch = {key: value.as_tensor() for key, value in list_data_collate(part).items()}
        adv = PGD(steps=2)(batch["image"], batch["label"], reference.eval())
        optimizer.zero_grad()
        logits = reference.train()(torch.cat([batch["image"], adv]))
        LOSS(logits, torch.cat([batch["label"]] * 2)).backward()
        optimizer.step()
    torch.testing.assert_close(normalized_network.state_dict(), reference.state_dict())


class Spy:
    """Attack that notes the modes of the network's parts, and calls another."""

    def __init__(self, attack: Attack) -> None:
        self.attack, self.modes = attack, []

    def __call__(self, inputs, targets, network):
        self.modes.append([part.training for part in network.modules()])
        return self.attack(inputs, targets, network)


def test_network_is_attacked_in_eval_mode_and_every_part_returns_to_its_own(trainer, probe, normalized_network):
    freeze = probe(STARTED, lambda engine: engine.network.train()[1].eval() and None)
    modes = probe(STARTED, lambda engine: [part.training for part in engine.network.modules()])
    attack = Spy(FGSM())
    trainer(normalized_network, [freeze, AdversarialTrainingHandler(attack), modes], LOSS).run()
    assert len(attack.modes) == 2
    assert not any(mode for call in attack.modes for mode in call)
    assert modes.found == [[True, True, False, True, True, True]] * 2


def test_attack_fills_no_gradient_and_moves_no_weight_and_no_running_statistic(trainer, probe, normalized_network):
    normalized_network.train()
    for parameter in normalized_network.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    state = [probe(STARTED, lambda engine: weights_of(engine.network)) for _ in range(2)]
    gradients = probe(STARTED, lambda engine: [p.grad.clone() for p in engine.network.parameters()])
    handlers = [state[0], AdversarialTrainingHandler(PGD(steps=2)), state[1], gradients]
    trainer(normalized_network, handlers, LOSS, epoch_length=1).run()
    torch.testing.assert_close(state[1].found[0], state[0].found[0], rtol=0, atol=0)
    assert all(torch.equal(gradient, torch.full_like(gradient, 7.0)) for gradient in gradients.found[0])


def test_training_without_a_change_of_the_image_is_plain_training(trainer, tiny_network):
    plain = copy.deepcopy(tiny_network)
    mean = AdversarialConsistencyLoss(clean_weight=0.5, adversarial_weight=0.5, consistency_weight=0.0)
    trainer(tiny_network, [AdversarialTrainingHandler(Identity())], mean).run()
    trainer(plain, [], dice_ce()).run()
    torch.testing.assert_close(tiny_network.state_dict(), plain.state_dict())


def test_two_passes_keep_the_halves_and_their_metadata_apart(trainer, probe, normalized_network):
    cases = probe(Events.ITERATION_COMPLETED, lambda engine: engine.state.output)
    handlers = [AdversarialTrainingHandler(FGSM()), cases]
    trainer(normalized_network, handlers, LOSS, inferer=TwoPassInferer()).run()
    assert normalized_network[1].num_batches_tracked == 3 + 2 * 2  # the fixture's, then two passes a batch
    assert [len(batch) for batch in cases.found] == [4, 2]
    assert all(case["pred"].shape == (3, 11, 9, 6) for batch in cases.found for case in batch)


def test_validation_metric_is_the_mean_over_clean_and_attacked_cases(evaluator, threshold_network):
    dice = {"dice": MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))}
    attack = FGSM(eps=0.03)
    scores = []
    for handlers in ([], [AdversarialTrainingHandler(attack)]):
        engine = evaluator(threshold_network, handlers, key_val_metric=dice)
        engine.run()
        scores.append((engine.state.metrics["dice"], engine.state.metric_details["dice"]))
    (clean, _), (both, details) = scores
    assert clean == 1  # the thresholds are the true ones
    attacked = torch.cat([details[2:4], details[5:]]).nanmean(1).mean()
    assert both == pytest.approx((1 + attacked.item()) / 2)
    assert both < 0.99


def test_images_under_another_key_are_attacked(loader, cases, trainer, probe, tiny_network):
    batches = probe(STARTED, lambda engine: engine.state.batch["mri"].shape)
    for case in cases:
        case["mri"] = case.pop("image")

    def prepare(batch, device=None, non_blocking=False, **kwargs):
        return batch["mri"], batch["label"]

    handlers = [AdversarialTrainingHandler(FGSM(), image_key="mri"), batches]
    trainer(tiny_network, handlers, LOSS, prepare_batch=prepare).run()
    assert batches.found == [(4, 1, 11, 9, 6), (2, 1, 11, 9, 6)]


def test_curriculum_gives_every_batch_the_attack_of_its_number(trainer, probe, normalized_network, monkeypatch):
    used = []
    run = PGD.run
    monkeypatch.setattr(PGD, "run", lambda attack, *arguments: used.append(attack) or run(attack, *arguments))
    curriculum = Curriculum(attacks=[PGD(steps=1, random_start=True), PGD(steps=2, random_start=True)], seed=4)
    trainer(normalized_network, [AdversarialTrainingHandler(curriculum)], LOSS, max_epochs=3).run()
    assert used == [curriculum.at(batch) for batch in range(6)]
    assert len({attack.seed for attack in used}) == 6


def test_attack_away_from_the_prediction_needs_no_labels(cases, trainer, probe, normalized_network):
    """TRADES: what is climbed is the divergence from the logits of the clean volumes, in eval mode."""
    attack = PGD(steps=2, random_start=True, loss_function=KLDivergenceLoss())
    seen = probe(FORWARD, lambda engine: engine.state.output["image"].as_tensor().clone())
    start = copy.deepcopy(normalized_network)
    trainer(normalized_network, [AdversarialTrainingHandler(attack, target="prediction"), seen], LOSS).run()
    clean = list_data_collate(cases[:2])["image"].as_tensor()
    with torch.no_grad():
        logits = start.eval()(clean)
    assert torch.equal(seen.found[0][2:], attack(clean, logits, start))


def test_prediction_of_one_channel_is_no_target(trainer):
    handler = AdversarialTrainingHandler(PGD(steps=1), target="prediction")
    engine = trainer(nn.Conv3d(1, 1, 1), [handler], nn.MSELoss())
    with pytest.raises(ValueError, match="network must return one channel for each class, background first, got 1"):
        engine.run()


ONLY = AdversarialConsistencyLoss(consistency_weight=0, clean_weight=0)
APART = AdversarialConsistencyLoss(consistency_weight=0)


@pytest.mark.parametrize(
    ("settings", "loss", "clean", "attacked"),
    [
        ({"clean_windows": 0}, ONLY, [], [0, 1]),
        ({"clean_windows": 1}, APART, [1], [0, 1]),
        ({"clean_windows": 1, "attacked_windows": 1}, APART, [1], [0]),
        ({"attacked_windows": 1}, APART, [0, 1], [0]),
        ({"clean_windows": 5, "attacked_windows": 7}, LOSS, [0, 1], [0, 1]),
    ],
    ids=["adversarial-only", "one clean", "one of each", "one attacked", "more than there are"],
)
def test_fewer_windows_stay_clean_or_are_attacked(
    settings, loss, clean, attacked, cases, trainer, probe, normalized_network
):
    """Clean ones are the last of the batch, attacked ones the first; the step is that of the loss written out."""
    normalized_network[3].p = 0.0  # no dropout
    reference = copy.deepcopy(normalized_network)
    seen = probe(FORWARD, lambda engine: engine.state.output["image"].as_tensor().clone())
    handlers = [AdversarialTrainingHandler(FGSM(), **settings), seen]
    trainer(normalized_network, handlers, loss, epoch_length=1).run()
    images, labels = (torch.stack([case[key].as_tensor() for case in cases[:2]]) for key in ("image", "label"))
    adv = FGSM()(images[attacked], labels[attacked], reference.eval())
    assert torch.equal(seen.found[0], torch.cat([images[clean], adv]))
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    pairs = len(clean) + len(attacked) - 2
    order = torch.cat([labels[clean], labels[attacked]])
    loss(reference.train()(seen.found[0]), order, clean=len(clean), pairs=pairs).backward()
    optimizer.step()
    torch.testing.assert_close(normalized_network.state_dict(), reference.state_dict())


def test_batches_between_are_plain_training(trainer, probe, tiny_network):
    sizes = probe(FORWARD, lambda engine: len(engine.state.output["image"]))
    losses = probe(Events.ITERATION_COMPLETED, lambda engine: engine.state.output[0]["loss"])
    plain = probe(FORWARD, lambda engine: dice_ce()(engine.state.output["pred"], engine.state.output["label"]))
    handlers = [AdversarialTrainingHandler(FGSM(), every=3), sizes, plain, losses]
    trainer(tiny_network, handlers, LOSS, max_epochs=2).run()
    assert sizes.found == [4, 1, 2, 2]  # batches of 2, 1, 2 and 1 cases, of which the first and the fourth are attacked
    torch.testing.assert_close(losses.found[1:3], [one.item() for one in plain.found[1:3]])


def test_two_passes_are_told_how_many_are_clean(trainer, probe, normalized_network):
    sizes = []
    inner = SimpleInferer()
    inferer = TwoPassInferer(lambda part, network: sizes.append((network.training, len(part))) or inner(part, network))
    handlers = [AdversarialTrainingHandler(FGSM(), clean_windows=0, every=2)]
    trainer(normalized_network, handlers, ONLY, max_epochs=2, inferer=inferer).run()
    assert [size for training, size in sizes if training] == [2, 1, 2, 1]


def test_another_loss_takes_nothing_but_doubled_batches(trainer, tiny_network):
    engine = trainer(tiny_network, [AdversarialTrainingHandler(FGSM(), clean_windows=0)], dice_ce())
    with pytest.raises(ValueError, match=r"loss_function must be an AdversarialConsistencyLoss .*, got DiceCELoss\."):
        engine.run()


def test_loss_and_inferer_are_back_after_the_run(trainer, tiny_network):
    inferer = TwoPassInferer()
    engine = trainer(tiny_network, [AdversarialTrainingHandler(FGSM(), every=2)], LOSS, inferer=inferer)
    engine.run()
    assert (engine.loss_function, engine.inferer) == (LOSS, inferer)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"clean_windows": -1}, "clean_windows must be at least 0, got -1"),
        ({"attacked_windows": 0}, "attacked_windows must be at least 1, got 0"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"target": "labl"}, "did you mean 'label'"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        AdversarialTrainingHandler(FGSM(), **settings)


def test_handler_can_be_built_from_json():
    attack = {"_target_": "vafa_monai.attacks.PGD", "steps": 3}
    config = {"_target_": "vafa_monai.handlers.AdversarialTrainingHandler", "attack": attack, "image_key": "mri"}
    handler = ConfigParser({"handler": config}).get_parsed_content("handler")
    assert (handler.attack.steps, handler.image_key) == (3, "mri")
