"""Inferers, and the network that an inferer and a network make together."""

from vafa_monai.inferers.inferred_network import InferredNetwork, PassCounter, checkpointed, evaluating
from vafa_monai.inferers.nnunet_inferer import NNUNetInferer
from vafa_monai.inferers.output_adapter import OutputAdapter
from vafa_monai.inferers.sliding_window_network import SlidingWindowNetwork
from vafa_monai.inferers.two_pass import TwoPassInferer
from vafa_monai.inferers.whole_network import whole_network

__all__ = [
    "InferredNetwork",
    "NNUNetInferer",
    "OutputAdapter",
    "PassCounter",
    "SlidingWindowNetwork",
    "TwoPassInferer",
    "checkpointed",
    "evaluating",
    "whole_network",
]
