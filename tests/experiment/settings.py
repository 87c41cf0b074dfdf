"""The keys that every config of these tests sets."""


def config_of(**changes):
  """A config with some keys changed."""
  config = {
    "data": {"path": "d.jsonl"},
    "loss": {"name": "dpo", "beta": 0.1},
    "optimizer": {"learning_rate": 1e-3},
  }
  return config | changes
