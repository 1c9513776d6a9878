"""The score that a hardened model is selected by."""

from __future__ import annotations

import pytest
import torch
from ignite.exceptions import NotComputableError
from monai.bundle import ConfigParser
from monai.handlers import MeanDice, from_engine

from vafa_monai.attacks import FGSM
from vafa_monai.handlers import AdversarialTrainingHandler, AttackHandler, RobustScore


@pytest.mark.parametrize("weight", [0, 0.25, 1])
def test_score_weighs_the_clean_and_the_attacked_evaluation(weight, evaluator, threshold_network):
    alone = []
    for handlers in ([], [AttackHandler(FGSM(eps=0.03))]):
        dice = {"dice": MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))}
        engine = evaluator(threshold_network, handlers, key_val_metric=dice)
        engine.run()
        alone.append(engine.state.metrics["dice"])
    handlers = [AdversarialTrainingHandler(FGSM(eps=0.03))]
    engine = evaluator(threshold_network, handlers, key_val_metric={"score": RobustScore(clean_weight=weight)})
    for _ in range(2):  # a second validation forgets the first
        engine.run()
        found = [engine.state.metrics[name] for name in ("val_mean_dice", "val_mean_dice_adv")]
        assert found == pytest.approx(alone, abs=1e-6)
        assert engine.state.metrics["score"] == pytest.approx(weight * alone[0] + (1 - weight) * alone[1], abs=1e-6)
    assert alone[0] == 1
    assert alone[1] < 0.99
    assert engine.state.best_metric == engine.state.metrics["score"]


def test_batches_that_were_not_doubled_are_refused(evaluator, threshold_network):
    engine = evaluator(threshold_network, [], key_val_metric={"score": RobustScore()})
    with pytest.raises(ValueError, match="batch must hold a clean and an attacked half of equal size, got 1 samples"):
        engine.run()


@pytest.mark.parametrize(("weight", "rule"), [(-0.5, "at least 0 and finite"), (1.5, "at most 1")])
def test_impossible_weight_is_refused(weight, rule):
    with pytest.raises(ValueError, match=f"clean_weight must be {rule}, got {weight}"):
        RobustScore(clean_weight=weight)


def test_it_has_no_value_of_its_own():
    with pytest.raises(NotComputableError, match="RobustScore must be attached to an engine"):
        RobustScore().compute()


def test_it_can_be_built_from_json():
    config = {"_target_": "vafa_monai.handlers.RobustScore", "clean_weight": 0.3}
    assert ConfigParser({"score": config}).get_parsed_content("score").clean_weight == 0.3


def test_background_counts_if_asked(evaluator):
    background = torch.nn.Conv3d(1, 3, 1)
    with torch.no_grad():
        background.weight.zero_()
        background.bias[:] = torch.tensor([1.0, 0.0, 0.0])
    found = []
    for include in (False, True):
        handlers = [AdversarialTrainingHandler(FGSM(eps=0.03))]
        score = {"score": RobustScore(include_background=include)}
        engine = evaluator(background, handlers, key_val_metric=score)
        engine.run()
        found.append(engine.state.metrics["score"])
    assert found[0] == 0
    assert found[1] > 0
