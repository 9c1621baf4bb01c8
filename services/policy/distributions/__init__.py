"""Action distributions: greedy actions, draws and log-probabilities, from the parameters that a model gives."""

from services.policy.distributions.action import ACTION_DISTRIBUTION_INPUTS, ActionDistributions

__all__ = ["ACTION_DISTRIBUTION_INPUTS", "ActionDistributions"]
