"""The average of the weights: its formula, where it begins, what validates it."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from torch import nn

from vafa_monai.handlers import WeightAverage
from vafa_monai.losses import dice_ce


def copies(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_average_is_the_formula_written_out(trainer, probe, normalized_network):
    average = WeightAverage(normalized_network, decay=0.3)
    load = probe(Events.STARTED, lambda engine: nn.init.constant_(engine.network[0].weight, 0.1))
    weights = probe(Events.ITERATION_COMPLETED, lambda engine: copies(engine.network))
    begin = copies(normalized_network)
    begin["0.weight"] = torch.full_like(begin["0.weight"], 0.1)  # what another handler loaded
    trainer(normalized_network, [load, average, weights], dice_ce(), max_epochs=3).run()
    expected = begin
    for number, now in enumerate(weights.found, start=1):
        decay = min(0.3, (1 + number) / (10 + number))
        for name, value in now.items():
            expected[name] = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
    assert len(weights.found) == 6
    torch.testing.assert_close(copies(average.network_average), expected)
    assert not torch.allclose(average.network_average[0].weight, normalized_network[0].weight)


def test_first_batches_forget_soon(tiny_network):
    average = WeightAverage(tiny_network, decay=0.999)
    shares = []
    average.update = shares.append
    for number in (1, 10, 1000, 10**6):
        average(type("Engine", (), {"state": type("State", (), {"iteration": number})}))
    assert shares == pytest.approx([2 / 11, 11 / 20, 1001 / 1010, 0.999])


def test_average_shares_no_memory_and_wants_no_gradient(trainer, normalized_network):
    average = WeightAverage(normalized_network, decay=0.9)
    trainer(normalized_network, [average], dice_ce()).run()
    own = {value.data_ptr() for value in normalized_network.state_dict().values()}
    assert own.isdisjoint(value.data_ptr() for value in average.network_average.state_dict().values())
    assert not any(weight.requires_grad for weight in average.network_average.parameters())
    assert not average.network_average.training


def test_without_decay_it_is_the_network_itself(trainer, tiny_network):
    average = WeightAverage(tiny_network, decay=0)
    engine = trainer(tiny_network, [average], dice_ce())
    engine.run()
    assert average.network_average is tiny_network
    wrapped = nn.DataParallel(tiny_network)
    assert WeightAverage(wrapped, decay=0).network_average is wrapped
    assert isinstance(WeightAverage(wrapped, decay=0.5).network_average, nn.Sequential)


@pytest.mark.parametrize(("decay", "rule"), [(-0.1, "at least 0 and finite"), (1, "below 1"), (1.5, "below 1")])
def test_impossible_decay_is_refused(decay, rule, tiny_network):
    with pytest.raises(ValueError, match=f"decay must be {rule}, got {decay}"):
        WeightAverage(tiny_network, decay=decay)


def test_it_can_be_built_from_json(tiny_network):
    config = {"_target_": "vafa_monai.handlers.WeightAverage", "network": "@network", "decay": 0.5}
    parser = ConfigParser({"network": "$None", "average": config})
    parser["network"] = tiny_network
    assert parser.get_parsed_content("average").decay == 0.5
