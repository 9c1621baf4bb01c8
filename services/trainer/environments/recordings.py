"""Recorded episodes as RLlib's algorithms read them that learn from such.

RLlib's own reader trains on single steps in the order of the file, with values of the network as it was in the
beginning, through worker processes that take longer to start than a small dataset takes to learn. This one keeps the
dataset in memory, draws from all of it, and cuts out pieces of episodes for algorithms that look ahead.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pyarrow.dataset
import torch
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.offline.offline_data import OfflineData
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from services.common.local_path import local_path
from services.trainer.environments.environment_spaces import EnvironmentSpaces
from services.trainer.export.action_fit import unfit_action
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted

COLUMNS = ("eps_id", "obs", "actions", "rewards", "new_obs", "terminateds", "truncateds")
"""RLlib's names for the columns of a dataset: a row is a step, rows of one episode follow each other in order."""

_PIECE_STEPS = 64
"""Steps of the pieces of episodes that an algorithm looks ahead in."""

_NEVER = 1_000_000_000


def offline_settings(
    config: Any,  # noqa: ANN401 - RLlib has no types
    dataset: str,
    spaces: EnvironmentSpaces,
    make_pieces: Callable[[], list[Any]],
    *,
    clip: bool = False,
) -> None:
    """Sets up an algorithm's config to learn from recordings.

    Args:
        config: RLlib's config.
        dataset: Path or URI of a Parquet file, or of a folder of them.
        spaces: The environment's spaces, in which the dataset's observations and actions are.
        make_pieces: Makes the connector pieces before the network.
        clip: Whether the policy's actions are clipped to their space, instead of scaled to it.
    """
    config.environment(observation_space=spaces.observation, action_space=spaces.action)
    config.offline_data(
        input_=[dataset],
        offline_data_class=RecordedEpisodes,
        # What RecordedEpisodes needs to know; RLlib hands on nothing but the config.
        input_config={"spaces": spaces, "make_pieces": make_pieces, "clip": clip},
    )
    if not config.dataset_num_iters_per_learner:
        config.offline_data(dataset_num_iters_per_learner=1)
    # RLlib saves the connectors, without which no policy can be exported, only for runners that evaluate.
    config.evaluation(evaluation_interval=_NEVER, evaluation_num_env_runners=0)


def open_dataset(uri: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Opens a dataset, without reading its rows.

    Raises:
        InvalidArgumentError: If there is none, or it is not one of recorded episodes.
    """
    local = local_path(uri)
    try:
        if local is None:
            filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
        else:
            # Named, since pyarrow reads some paths as URIs.
            filesystem, path = pyarrow.fs.LocalFileSystem(), str(local.absolute())
        found = pyarrow.dataset.dataset(path, format="parquet", filesystem=filesystem)
        names = set(found.schema.names)
    except (OSError, ValueError, pyarrow.ArrowInvalid) as error:
        raise InvalidArgumentError(f"cannot read the dataset {quoted(uri)}: {error}") from error
    if missing := [name for name in COLUMNS if name not in names]:
        raise InvalidArgumentError(
            f"expected a dataset with the columns {', '.join(COLUMNS)}, got {quoted(uri)} without {', '.join(missing)}"
        )
    return found


def read_episodes(uri: str, spaces: EnvironmentSpaces) -> list[SingleAgentEpisode]:
    """Reads recorded episodes.

    Args:
        uri: Path or URI of a dataset.
        spaces: The spaces that its observations and actions are in.

    Returns:
        The episodes, in the order of the dataset; an episode that is not finished counts as cut off there.

    Raises:
        InvalidArgumentError: If the dataset cannot be read, is empty, or is not one of these spaces.
    """
    table = open_dataset(uri).to_table(columns=list(COLUMNS))
    if not table.num_rows:
        raise InvalidArgumentError(f"expected recorded steps, got the empty dataset {quoted(uri)}")
    columns = {name: table.column(name).to_pylist() for name in COLUMNS}
    names = np.asarray(columns["eps_id"])
    starts = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
    try:
        return [_episode(columns, begin, end, spaces) for begin, end in itertools.pairwise(starts)]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"expected observations in {spaces.observation} and actions in {spaces.action}, got others in the dataset "
            f"{quoted(uri)}: {error}"
        ) from error


def _episode(columns: dict[str, list[Any]], begin: int, end: int, spaces: EnvironmentSpaces) -> SingleAgentEpisode:
    observations = [sample_of(spaces.observation, value) for value in columns["obs"][begin:end]]
    observations.append(sample_of(spaces.observation, columns["new_obs"][end - 1]))
    terminated = bool(columns["terminateds"][end - 1])
    return SingleAgentEpisode(
        id_=str(columns["eps_id"][begin]),
        observations=observations,
        actions=[sample_of(spaces.action, value) for value in columns["actions"][begin:end]],
        rewards=columns["rewards"][begin:end],
        infos=[{} for _ in observations],
        terminated=terminated,
        truncated=not terminated,
        len_lookback_buffer=0,
    )


def sample_of(space: gymnasium.Space[Any], value: Any) -> Any:  # noqa: ANN401 - a sample of any space
    """Makes a sample of a space from what Parquet has of it: numbers, lists, and structs for Dicts and Tuples.

    Raises:
        KeyError, TypeError, ValueError: If it is none.
    """
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: sample_of(part, value[key]) for key, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(sample_of(part, value[str(i)]) for i, part in enumerate(space.spaces))
    sample = np.asarray(value, space.dtype).reshape(space.shape or ())
    if isinstance(space, gymnasium.spaces.Discrete):
        if not space.contains(sample[()]):
            raise ValueError(f"{value!r} is not in {space}")
        return sample[()]
    return sample


class RecordedEpisodes(OfflineData):  # type: ignore[misc] # RLlib has no types
    """What RLlib asks for batches: a dataset in memory.

    Args:
        config: RLlib's config, of `offline_settings`.
    """

    def __init__(self, config: Any) -> None:  # noqa: ANN401
        # Not RLlib's own __init__, which would start Ray Data.
        self.config = config
        given = config.input_config
        spaces: EnvironmentSpaces = given["spaces"]
        (uri,) = config.input_
        self._episodes = [
            _for_network(episode, spaces, given["make_pieces"](), clip=given["clip"])
            for episode in read_episodes(uri, spaces)
        ]
        lengths = np.array([len(episode) for episode in self._episodes])
        self._shares = lengths / lengths.sum()
        self._random = np.random.default_rng(config.seed)
        self._steps: dict[str, npt.NDArray[Any]] = {}
        # RLlib hands these on to `iter_torch_batches`, and sets the others.
        self.iter_batches_kwargs: dict[str, Any] = {}
        self.locality_hints = None
        self.learner_handles: list[Any] = []
        self.module_spec: Any = None
        self.spaces: Any = None

    def sample(
        self,
        num_samples: int,
        return_iterator: bool = False,
        num_shards: int = 1,
        module_state: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Gives a batch, or what gives them without end.

        Args:
            num_samples: Steps in a batch.
            return_iterator: Whether an iterator is wanted.
            num_shards: Learners in processes of their own; there are none.
            module_state: Not needed: the network is at hand.
        """
        # CQL takes a batch for an iterator.
        if return_iterator or isinstance(self.config, CQLConfig):
            return [self]
        columns = self._batch(num_samples)
        batch = SampleBatch(columns, _zero_padded=self._module.is_stateful())
        return MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=num_samples)

    def iter_torch_batches(self, batch_size: int, **_: Any) -> Iterator[dict[str, torch.Tensor]]:  # noqa: ANN401
        """Gives batches without end, by RLlib's flat names; a Ray Data iterator's method.

        Args:
            batch_size: Steps in a batch.
        """
        while True:
            yield {
                f"{DEFAULT_MODULE_ID}/{name}": torch.as_tensor(column)
                for name, column in self._batch(batch_size).items()
            }

    @property
    def _learner(self) -> Any:  # noqa: ANN401
        (learner,) = self.learner_handles
        return learner

    @property
    def _module(self) -> Any:  # noqa: ANN401
        return self._learner.module[DEFAULT_MODULE_ID]

    def _batch(self, size: int) -> dict[str, Any]:
        # What looks ahead needs pieces of episodes and the network as it is now; all else needs steps, any steps.
        if self._module.is_stateful() or self.config.algo_class.__name__ == "MARWIL":
            return self._connected(self._pieces(size))
        if not self._steps:
            self._steps = self._connected(self._episodes)
        rows = self._random.integers(0, len(next(iter(self._steps.values()))), size)
        return {name: column[rows] for name, column in self._steps.items()}

    def _pieces(self, size: int) -> list[SingleAgentEpisode]:
        """Cuts pieces with so many steps in all out of random episodes."""
        pieces: list[SingleAgentEpisode] = []
        while size > 0:
            episode = self._episodes[self._random.choice(len(self._episodes), p=self._shares)]
            begin = int(self._random.integers(0, len(episode)))
            piece = episode[begin : begin + min(_PIECE_STEPS, size)]
            # Two pieces of one episode in a batch are two episodes to RLlib.
            piece.id_ = f"{episode.id_}-{len(pieces)}"
            pieces.append(piece)
            size -= len(piece)
        return pieces

    def _connected(self, episodes: list[SingleAgentEpisode]) -> dict[str, Any]:
        """Sends episodes through the learner's connectors, to columns of tensors."""
        learner = self._learner
        batch = learner._learner_connector(  # noqa: SLF001 - RLlib's learners have no other way in
            rl_module=learner.module, batch={}, episodes=episodes, shared_data={}, metrics=learner.metrics
        )
        return dict(batch[DEFAULT_MODULE_ID])


def _for_network(
    episode: SingleAgentEpisode,
    spaces: EnvironmentSpaces,
    pieces: list[Any],
    *,
    clip: bool,
) -> SingleAgentEpisode:
    """Brings an episode to what the network takes and gives, as the connectors around it do when it plays."""
    actions = [unfit_action(spaces.action, action, clip=clip) for action in episode.get_actions()]
    network_space = spaces.observation
    observations = episode.get_observations()
    if pieces:
        for piece in pieces:
            piece.input_action_space, piece.input_observation_space = spaces.action, network_space
            network_space = piece.observation_space
        observations = [_through(pieces, spaces.observation, observation) for observation in observations]
    made = SingleAgentEpisode(
        id_=episode.id_,
        observation_space=network_space,
        observations=observations,
        actions=actions,
        rewards=episode.get_rewards(),
        infos=episode.get_infos(),
        terminated=episode.is_terminated,
        truncated=episode.is_truncated,
        len_lookback_buffer=0,
    )
    made.to_numpy()
    return made


def _through(pieces: list[Any], space: gymnasium.Space[Any], observation: Any) -> Any:  # noqa: ANN401
    """Sends one observation through connector pieces, which work on the latest one of an episode."""
    episode = SingleAgentEpisode(observation_space=space)
    episode.add_env_reset(observation)
    for piece in pieces:
        piece(rl_module=None, batch={}, episodes=[episode], shared_data={})
    return episode.get_observations(-1)
