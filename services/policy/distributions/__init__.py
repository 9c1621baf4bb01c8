"""Action distributions: greedy actions, draws and log-probabilities, from the parameters that a model gives."""

from services.policy.distributions.action import ActionDistributions

__all__ = ["ActionDistributions"]
