"""What a program computes: rows, tokens and models, without a mesh."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Update:
  """One update, of all microbatches.

  Attributes:
    rows: sequences of the batch; a pair is two.
    tokens: T, tokens of a row.
    microbatches: parts of the batch, computed one after another.
    counted: share of the tokens whose log-probs the loss counts: the head is
      computed for these.
    reference: whether the reference's forward pass is part of the update.
    kept: whether the parameters that the stage started from lie in memory, too,
      although the update doesn't read them.
    moments: dtype of the optimiser's two moments.
    trained: paths of the trained parameters; None for all of them.
    rank: rank of low-rank changes; 0 for none. The parameters are then frozen.
    changed: names in `blocks` of the weights with a low-rank change.
  """

  rows: int
  tokens: int
  microbatches: int = 1
  counted: float = 1.0
  reference: bool = False
  kept: bool = False
  moments: str = "float32"
  trained: frozenset[str] | None = None
  rank: int = 0
  changed: tuple[str, ...] = ()

  def trains(self, path: str) -> bool:
    """Whether the parameter at that path has a gradient."""
    if self.rank:
      return False
    return self.trained is None or path in self.trained


@dataclasses.dataclass(frozen=True)
class Score:
  """Log-probs of given rows, without gradients.

  Attributes:
    rows: sequences.
    tokens: T, tokens of a row.
    counted: share of the tokens whose log-probs count.
    passes: models that read the rows, one after another.
  """

  rows: int
  tokens: int
  counted: float = 1.0
  passes: int = 1


@dataclasses.dataclass(frozen=True)
class Rollout:
  """Sampled responses, all decoded at once.

  Attributes:
    prompts: prompts, each of which is read once.
    samples: responses to a prompt.
    width: tokens of a prompt.
    new: tokens of a response.
    models: models that read every token: 2 for a mixture.
    slots: responses that are decoded at a time; 0 for all.
  """

  prompts: int
  samples: int
  width: int
  new: int
  models: int = 1
  slots: int = 0

  @property
  def rows(self) -> int:
    """Responses."""
    return self.prompts * self.samples

  @property
  def capacity(self) -> int:
    """Tokens of a row of the cache."""
    return self.width + self.new


@dataclasses.dataclass(frozen=True)
class Step:
  """One token for every row, with a full cache.

  Attributes:
    rows: rows that are decoded.
    capacity: tokens of a row of the cache.
    models: models that read every token.
  """

  rows: int
  capacity: int
  models: int = 1


Work = Update | Score | Rollout
