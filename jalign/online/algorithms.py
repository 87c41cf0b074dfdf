"""The table of online algorithms: rows by name."""

from jalign.online.algorithm import Algorithm
from jalign.online.rows import actor_critic, games, iterated, pairs, rewards

ALGORITHMS: dict[str, Algorithm] = {
  **pairs.ROWS,
  **games.ROWS,
  **iterated.ROWS,
  **rewards.ROWS,
  **actor_critic.ROWS,
}
