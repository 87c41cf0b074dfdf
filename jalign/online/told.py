"""What an algorithm's own functions do wrongly, told in a paragraph."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from jalign.errors import UserError, code_of, line_of, said
from jalign.online.algorithms import Algorithm
from jalign.online.carry import Carry

# Python asked for the value of a number that a compiled program will compute.
UNKNOWN_YET = (
  jax.errors.ConcretizationTypeError,
  jax.errors.TracerArrayConversionError,
  jax.errors.TracerIntegerConversionError,
)


def told(algorithm: Algorithm) -> Algorithm:
  """The same algorithm, whose functions raise nothing but UserError.

  Draws stay: who is drawn together goes by what they are.
  """
  return algorithm._replace(
    arrange=tell(algorithm.arrange, "arrange"),
    measure=tell(algorithm.measure, "measure"),
    reference=tell(algorithm.reference, "reference"),
    carry=Carry(
      tell(algorithm.carry.init, "carry.init"),
      tell(algorithm.carry.next, "carry.next"),
    ),
  )


def tell(function: Callable[..., Any], name: str) -> Callable[..., Any]:
  """A function whose exceptions become UserErrors with their file and line.

  Args:
    function: of an algorithm.
    name: what the algorithm has it for.
  """
  code = code_of(function)
  path = None if code is None else pathlib.Path(code.co_filename).resolve()

  def call(*args: Any, **kwargs: Any) -> Any:
    try:
      return function(*args, **kwargs)
    except UserError:
      raise
    except Exception as e:
      raise UserError(
        f"{name} raised {said(e)}.",
        where="" if path is None else line_of(e, path),
        remedy="It is compiled, for any numbers: choose with jnp.where."
        if isinstance(e, UNKNOWN_YET)
        else "Mend it, then run the same command again.",
      ) from e

  functools.update_wrapper(call, function)
  return call
