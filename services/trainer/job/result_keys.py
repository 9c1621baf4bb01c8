"""What a trial writes into Tune's result, and whoever follows the trial reads there."""

RESULT = "steersman"
"""Key of Tune's result under which the iteration lies, as JSON."""

EXPORTED = "steersman_exported"
"""Key of Tune's result that tells whether this iteration was exported, and is to be published."""

SCORE = "steersman_score"
"""Key of Tune's result by which checkpoints, and the trials of a sweep, are compared: the training return."""

NUMBER = "steersman_trial"
"""Key of Tune's result with the number of the trial in a sweep; 0 for a run's only one."""

STEPS = "steersman_steps"
"""Key of Tune's result with the steps of this trial, in which schedulers of sweeps count."""

WORST = -1e30
"""Score of an iteration without a return."""
