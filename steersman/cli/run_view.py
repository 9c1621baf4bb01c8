"""The live view of a training run: how far it is, and a sparkline of its return."""

from __future__ import annotations

from collections import Counter

from rich.console import Group, RenderableType
from rich.spinner import Spinner
from rich.text import Text

from steersman.cli.output import enum_name
from steersman.cli.sparkline import sparkline
from steersman.v1 import trainer_pb2


class RunView:
    """What is shown of a run while it is followed.

    Args:
        run: The run as far as it is known.
    """

    def __init__(self, run: trainer_pb2.Run) -> None:
        self._run = run
        self._returns: list[float] = []
        self._evaluated: float | None = None
        self._spinner = Spinner("dots")

    def update(self, run: trainer_pb2.Run, iteration: trainer_pb2.Iteration | None = None) -> None:
        """Takes note of news.

        Args:
            run: The run as it stands.
            iteration: A new iteration, if it is that.
        """
        self._run = run
        if iteration is None:
            return
        if iteration.HasField("training_return"):
            self._returns.append(iteration.training_return)
        if iteration.HasField("evaluated_return"):
            self._evaluated = iteration.evaluated_return

    def __rich__(self) -> RenderableType:
        """Draws it."""
        self._spinner.update(text=Text(describe(self._run)))
        lines: list[RenderableType] = [self._spinner]
        if len(self._returns) > 1:
            low, high = min(self._returns), max(self._returns)
            lines.append(Text(f"  return {low:.1f} {sparkline(self._returns)} {high:.1f} in training"))
        if self._evaluated is not None:
            lines.append(Text(f"  last evaluated return: {self._evaluated:.1f}"))
        if self._run.trials:
            lines.append(Text(f"  {describe_trials(self._run)}"))
        return Group(*lines)


def describe(run: trainer_pb2.Run) -> str:
    """Says in one line how far a run is."""
    state = state_name(run)
    latest = run.latest
    if run.queue_position:
        return f"run {run.id}: {state}, number {run.queue_position} in the queue: {run.queue_reason}"
    if not latest.iteration:
        return f"run {run.id}: {state}"
    return (
        f"{state}: iteration {latest.iteration}, {latest.steps:,} steps, "
        f"{latest.steps_per_second:,.0f} steps/s, return {describe_return(latest) or 'not known yet'}"
    )


def describe_trials(run: trainer_pb2.Run) -> str:
    """Says in one line how many trials of a sweep are in which state."""
    states = Counter(state_name(trial) for trial in run.trials)
    return "trials: " + ", ".join(f"{count} {name}" for name, count in states.items())


def state_name(run: trainer_pb2.Run | trainer_pb2.Trial) -> str:
    """Names the state of a run, or of a trial, in lower case."""
    return enum_name(run.DESCRIPTOR.fields_by_name["state"].enum_type, run.state)


def describe_return(iteration: trainer_pb2.Iteration) -> str:
    """Writes an iteration's returns, each under its own name."""
    parts = []
    if iteration.HasField("training_return"):
        parts.append(f"{iteration.training_return:.1f} in training")
    if iteration.HasField("evaluated_return"):
        cut = f" ({iteration.cut_episodes} episodes cut)" if iteration.cut_episodes else ""
        parts.append(f"{iteration.evaluated_return:.1f} evaluated{cut}")
    return ", ".join(parts)
