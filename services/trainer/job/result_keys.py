"""What a trial writes into Tune's result, and whoever follows the trial reads there."""

RESULT = "steersman"
"""Key of Tune's result under which the iteration lies, as JSON."""

EXPORTED = "steersman_exported"
"""Key of Tune's result that tells whether this iteration was exported, and is to be published."""

RETURN = "steersman_return"
"""Key of Tune's result with the training return, by which schedulers compare the trials of a sweep; there is none while
no episode has ended, and then they leave the trial alone."""

SCORE = "steersman_score"
"""Key of Tune's result by which a trial's own checkpoints are compared, each of which needs one: the training
return, or `WORST`."""

CLAIMED = "steersman_claimed"
"""Key of Tune's result with the iteration as a version claims it that is published on the way, as JSON; there only
where the iteration's own evaluation has decided something."""

NUMBER = "steersman_trial"
"""Key of Tune's result with the number of the trial in a sweep; 0 for a run's only one."""

STEPS = "steersman_steps"
"""Key of Tune's result with the steps of this trial, in which schedulers of sweeps count."""

WORST = -1e30
"""Score of an iteration without a return."""
