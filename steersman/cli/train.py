"""`steersman train`: start a training run and follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf import json_format

from steersman.arguments import set_kwargs
from steersman.cli import panels
from steersman.cli.connection import call_seconds, configured, connect, numbers_that_fit
from steersman.cli.connectors import (
    ActionConnectorOption,
    CallbackOption,
    ClipActionsOption,
    ConnectorOption,
    FrameStackOption,
    NormalizeOption,
    PreviousActionOption,
    PreviousRewardOption,
    parse_connector,
    with_arguments,
)
from steersman.cli.output import JsonOption, note, plain, print_json, progress, say
from steersman.cli.runs import print_run, watch_run
from steersman.cli.sweep import Scheduler, parse_sweep
from steersman.errors import InvalidArgumentError
from steersman.policy_names import policy_name
from steersman.v1 import trainer_pb2, trainer_pb2_grpc


def train(
    environment: Annotated[str, typer.Argument(help="Gymnasium id, such as CartPole-v1.")],
    policy: Annotated[
        str, typer.Option(help="Policy whose next version this makes. Default: from the environment's name.")
    ] = "",
    algorithm: Annotated[str, typer.Option(help="RLlib algorithm.")] = "PPO",
    stop_return: Annotated[
        float | None,
        typer.Option(help="Stop at this mean return, confirmed by a greedy evaluation.", rich_help_panel=panels.STOP),
    ] = None,
    stop_iterations: Annotated[
        int, typer.Option(min=0, help="Stop after so many iterations; 0: no limit.", rich_help_panel=panels.STOP)
    ] = 0,
    stop_steps: Annotated[
        int, typer.Option(min=0, help="Stop after so many environment steps; 0: no limit.", rich_help_panel=panels.STOP)
    ] = 0,
    stop_seconds: Annotated[
        float, typer.Option(min=0, help="Stop after so much training; 0: no limit.", rich_help_panel=panels.STOP)
    ] = 0,
    lr: Annotated[float | None, typer.Option(min=0, help="Learning rate.", rich_help_panel=panels.ALGORITHM)] = None,
    gamma: Annotated[
        float | None, typer.Option(min=0, max=1, help="Discount factor.", rich_help_panel=panels.ALGORITHM)
    ] = None,
    train_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Steps in a training batch.", rich_help_panel=panels.ALGORITHM)
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Algorithm setting; may be repeated.", rich_help_panel=panels.ALGORITHM
        ),
    ] = None,
    module: Annotated[
        str,
        typer.Option(
            metavar="PACKAGE.MODULE:CLASS",
            help="An RLModule of your own instead of RLlib's network.",
            rich_help_panel=panels.ALGORITHM,
        ),
    ] = "",
    normalize: NormalizeOption = False,
    frame_stack: FrameStackOption = 0,
    previous_action: PreviousActionOption = False,
    previous_reward: PreviousRewardOption = False,
    clip_actions: ClipActionsOption = False,
    connector: ConnectorOption = None,
    action_connector: ActionConnectorOption = None,
    callback: CallbackOption = None,
    environment_setting: Annotated[
        list[str] | None,
        typer.Option(
            "--environment-set",
            metavar="NAME=VALUE",
            help="Argument of the environment, as JSON where it can be: 10.0 is a float, 10 a whole number; may be "
            "repeated.",
            rich_help_panel=panels.ENVIRONMENT,
        ),
    ] = None,
    wrapper: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE.MODULE:NAME[{...}]",
            help="Wrapper around the environment, the innermost first, with its arguments as JSON; may be repeated.",
            rich_help_panel=panels.ENVIRONMENT,
        ),
    ] = None,
    working_dir: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            help="Code of your own: a folder or .zip on the trainer's machine, or a URI.",
            rich_help_panel=panels.ENVIRONMENT,
        ),
    ] = "",
    py_module: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            help="A Python package of your own, likewise; may be repeated.",
            rich_help_panel=panels.ENVIRONMENT,
        ),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Recorded episodes for BC, MARWIL, CQL and IQL: a path or URI.",
            rich_help_panel=panels.ALGORITHM,
        ),
    ] = "",
    num_env_runners: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that sample; 0 samples where it learns. Default: 0.",
            rich_help_panel=panels.RESOURCES,
        ),
    ] = None,
    num_envs_per_env_runner: Annotated[
        int,
        typer.Option(
            min=0,
            help="Environments that each of them steps at once; 0: as suits the algorithm.",
            rich_help_panel=panels.RESOURCES,
        ),
    ] = 0,
    num_learners: Annotated[
        int,
        typer.Option(
            min=0, help="Processes that learn; 0 learns in the trial itself.", rich_help_panel=panels.RESOURCES
        ),
    ] = 0,
    use_gpu: Annotated[
        bool, typer.Option("--use-gpu", help="Give each learner a GPU.", rich_help_panel=panels.RESOURCES)
    ] = False,
    resource: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=AMOUNT",
            help="What Ray sets aside: cpus, cpus_per_env_runner, gpus_per_env_runner, cpus_per_learner or "
            "gpus_per_learner; fractions are fine; may be repeated.",
            rich_help_panel=panels.RESOURCES,
        ),
    ] = None,
    publish_every: Annotated[
        int,
        typer.Option(
            min=0,
            help="Register a version every so many iterations; 0: only at the end.",
            rich_help_panel=panels.VERSIONS,
        ),
    ] = 0,
    deploy_as: Annotated[
        str,
        typer.Option(
            metavar="ALIAS",
            help="Serve each version under this alias, such as candidate.",
            rich_help_panel=panels.VERSIONS,
        ),
    ] = "",
    promote_if_better_than: Annotated[
        str,
        typer.Option(
            metavar="ALIAS|VERSION",
            help="Move all traffic to the run's version if it proves to be better than this one.",
            rich_help_panel=panels.VERSIONS,
        ),
    ] = "",
    warm_start: Annotated[
        str,
        typer.Option(
            metavar="POLICY:VERSION",
            help="Start with the weights of a version; or of a checkpoint's folder.",
            rich_help_panel=panels.ALGORITHM,
        ),
    ] = "",
    with_optimizer: Annotated[
        bool,
        typer.Option(
            "--with-optimizer",
            help="Go on with that training: take over the optimisers' state too.",
            rich_help_panel=panels.ALGORITHM,
        ),
    ] = False,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SPACE",
            help="Search a setting: choice(A, B), grid(A, B), uniform(LOW, HIGH) or loguniform(LOW, HIGH); may be "
            "repeated.",
            rich_help_panel=panels.SWEEP,
        ),
    ] = None,
    num_samples: Annotated[
        int,
        typer.Option(
            min=0,
            help="How often a sweep's spaces are drawn from, and its grids gone through; 0: once.",
            rich_help_panel=panels.SWEEP,
        ),
    ] = 0,
    max_concurrent_trials: Annotated[
        int,
        typer.Option(
            min=0,
            help="Trials of a sweep at once; 0: as many as the cluster has room for.",
            rich_help_panel=panels.SWEEP,
        ),
    ] = 0,
    scheduler: Annotated[
        Scheduler | None,
        typer.Option(
            help="Ends trials of a sweep early (asha), or has them learn from each other (pbt).",
            rich_help_panel=panels.SWEEP,
        ),
    ] = None,
    evaluation_episodes: Annotated[
        int,
        typer.Option(
            min=0,
            help="Greedy episodes whose mean return the run stops on and claims; 0: 20.",
            rich_help_panel=panels.EVALUATION,
        ),
    ] = 0,
    evaluation_environments: Annotated[
        int,
        typer.Option(
            min=0,
            help="Environments that these are played in, side by side; 0: one for each, at most 64.",
            rich_help_panel=panels.EVALUATION,
        ),
    ] = 0,
    longest_episode: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="STEPS",
            help="Steps after which one of them that has not ended is cut; 0: 30,000.",
            rich_help_panel=panels.EVALUATION,
        ),
    ] = 0,
    longest_evaluation: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Seconds after which all of them are cut; 0: 900.",
            rich_help_panel=panels.EVALUATION,
        ),
    ] = 0,
    evaluate_every: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="ITERATIONS",
            help="Evaluate every so many iterations, without publishing; 0: only where it decides something.",
            rich_help_panel=panels.EVALUATION,
        ),
    ] = 0,
    checkpoints: Annotated[
        int, typer.Option(min=0, help="Keep the best so many checkpoints; 0: 3.", rich_help_panel=panels.VERSIONS)
    ] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Only submit the run, do not follow it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Trains a policy and registers it as a new version.

    The run is a Ray Job: it goes on if this command or the trainer is stopped.

    Examples:
        steersman train CartPole-v1 --stop-return 450

        steersman train Pendulum-v1 --algorithm SAC --stop-return -200 --stop-steps 20000 --lr 0.001

        steersman train CliffWalking-v1 --stop-steps 50000 --evaluate-every 5 --longest-episode 1000

        steersman train CartPole-v1 --algorithm BC --dataset var/datasets/cartpole --stop-iterations 10

        steersman train boat:Boat-v0 --working-dir examples/boat --stop-return 8

        steersman train Acrobot-v1 --normalize --previous-action --stop-return -100

        steersman train CartPole-v1 --search 'lr=loguniform(1e-4, 1e-2)' --num-samples 8 --stop-steps 50000
    """
    with numbers_that_fit():
        spec = trainer_pb2.RunSpec(
            policy=policy or policy_name(environment),
            environment=trainer_pb2.Environment(id=environment),
            algorithm=algorithm,
            module_class=module,
            num_env_runners=num_env_runners,
            num_envs_per_env_runner=num_envs_per_env_runner,
            num_learners=num_learners,
            use_gpu=use_gpu,
            seed=seed,
            dataset=dataset,
            evaluation=trainer_pb2.RunEvaluation(
                episodes=evaluation_episodes or None,
                num_environments=evaluation_environments,
                longest_episode_steps=longest_episode,
                longest_seconds=longest_evaluation,
                every_iterations=evaluate_every,
            ),
            training=trainer_pb2.TrainingSettings(lr=lr, gamma=gamma, train_batch_size=train_batch_size),
            stop=trainer_pb2.StopCriteria(
                iterations=stop_iterations, episode_return=stop_return, steps=stop_steps, seconds=stop_seconds
            ),
        )
    json_format.ParseDict(parse_settings(setting or []), spec.settings)
    set_kwargs(spec.environment, parse_settings(environment_setting or []))
    spec.environment.wrappers.extend(map(parse_wrapper, wrapper or []))
    chosen = trainer_pb2.Connectors(
        normalize=normalize,
        frame_stack=frame_stack,
        previous_action=previous_action,
        previous_reward=previous_reward,
        clip_actions=clip_actions,
        env_to_module=map(parse_connector, connector or []),
        module_to_env=map(parse_connector, action_connector or []),
    )
    if chosen.ListFields():
        spec.connectors.CopyFrom(chosen)
    spec.callbacks.extend(callback or [])
    if working_dir or py_module:
        spec.code.working_dir = here_or_uri(working_dir)
        spec.code.py_modules.extend(map(here_or_uri, py_module or []))
    spec.dataset = here_or_uri(dataset)
    spec.checkpoints_kept = checkpoints
    if search:
        spec.sweep.CopyFrom(parse_sweep(search, num_samples, max_concurrent_trials, scheduler))
    elif num_samples or max_concurrent_trials or scheduler:
        raise InvalidArgumentError(
            "expected --search with what the trials differ in, got other options of a sweep only"
        )
    if publish_every or deploy_as or promote_if_better_than:
        spec.publishing.every_iterations, spec.publishing.deploy_as = publish_every, deploy_as
        spec.publishing.promote_if_better_than = promote_if_better_than
    if warm_start:
        spec.warm_start.CopyFrom(parse_start(warm_start, with_optimizer=with_optimizer))
    try:
        json_format.ParseDict(parse_settings(resource or []), spec.resources)
    except json_format.ParseError as error:
        raise InvalidArgumentError(
            f"expected an amount of a resource of a run, got {' '.join(resource or [])}: {error}"
        ) from None
    with connect("trainer", configured().trainer_address) as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        run = _submit(stub, spec)
        if not detach:
            run = watch_run(stub, run)
    if detach:
        _print_submitted(run, as_json)
    else:
        print_run(run, as_json)


def _submit(stub: trainer_pb2_grpc.TrainerServiceStub, spec: trainer_pb2.RunSpec) -> trainer_pb2.Run:
    try:
        with progress() as view:
            view.add_task("submitting the run", total=None)
            return stub.StartRun(trainer_pb2.StartRunRequest(spec=spec), timeout=call_seconds()).run
    except KeyboardInterrupt:
        note("The run may have been submitted all the same. See with: steersman runs")
        raise


def _print_submitted(run: trainer_pb2.Run, as_json: bool) -> None:
    if as_json:
        print_json(plain(run))
    else:
        say(f"Run {run.id} is submitted. Follow it with: steersman runs watch {run.id}")


def parse_wrapper(text: str) -> trainer_pb2.EnvironmentWrapper:
    """Reads PACKAGE.MODULE:NAME, with JSON of arguments behind it where there are any.

    Raises:
        InvalidArgumentError: If what is behind the name is no JSON object.
    """
    return with_arguments(text, trainer_pb2.EnvironmentWrapper(), "a wrapper like module:Name")


def parse_start(text: str, *, with_optimizer: bool) -> trainer_pb2.WarmStart:
    """Reads POLICY, POLICY:VERSION, or the path of a checkpoint, which has a slash."""
    if "/" in text:
        return trainer_pb2.WarmStart(checkpoint=str(Path(text).absolute()), with_optimizer=with_optimizer)
    policy, separator, version = text.partition(":")
    if separator and not version.isdigit():
        raise InvalidArgumentError(f"expected POLICY:VERSION or the folder of a checkpoint, got {text!r}")
    return trainer_pb2.WarmStart(policy=policy, version=int(version or 0), with_optimizer=with_optimizer)


def here_or_uri(path: str) -> str:
    """Makes a path absolute, since the trainer's working folder is another one; URIs stay, and so does nothing."""
    return path if not path or "://" in path or path.startswith("file:") else str(Path(path).absolute())


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Reads NAME=VALUE pairs; values are JSON where they can be, else text.

    Raises:
        InvalidArgumentError: If a pair has no name or no value.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not name or not separator:
            raise InvalidArgumentError(f"expected NAME=VALUE, such as lr=0.0003, got {pair!r}")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values
