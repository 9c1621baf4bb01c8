"""A boat in a wind that shifts: importing this package registers `Boat-v0`."""

import gymnasium

from boat.environment import Boat

gymnasium.register("Boat-v0", entry_point=Boat, max_episode_steps=50)
