"""Functional alignment algorithms for language models in JAX."""

import os

# transformers would advise to install PyTorch, which jalign doesn't use.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

__version__ = "0.1.0"
