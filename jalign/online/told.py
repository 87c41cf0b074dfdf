"""Turns exceptions of an algorithm's own functions into UserErrors."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from jalign.errors import UserError, code_of, line_of, said
from jalign.online.algorithm import Algorithm
from jalign.online.carry import Carry, as_it_is

# What JAX raises where Python code asks for the value of a traced number, which
# only the compiled program will compute.
UNKNOWN_YET = (
  jax.errors.ConcretizationTypeError,
  jax.errors.TracerArrayConversionError,
  jax.errors.TracerIntegerConversionError,
)


def told(algorithm: Algorithm) -> Algorithm:
  """The same algorithm, with functions that raise only UserError.

  The draws aren't wrapped, because draws with the same function are drawn
  together.
  """
  return algorithm._replace(
    arrange=tell(algorithm.arrange, "arrange"),
    measure=tell(algorithm.measure, "measure"),
    reference=tell(algorithm.reference, "reference"),
    restart=algorithm.restart
    if algorithm.restart is as_it_is
    else tell(algorithm.restart, "restart"),
    carry=Carry(
      tell(algorithm.carry.init, "carry.init"),
      tell(algorithm.carry.next, "carry.next"),
    ),
  )


def tell(function: Callable[..., Any], name: str) -> Callable[..., Any]:
  """Wraps a function so that its exceptions become UserErrors.

  The errors give the file and the line.

  Args:
    function: a function of an algorithm.
    name: name of the function's role in the algorithm, such as "arrange".
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
        remedy=_remedy(e),
      ) from e

  functools.update_wrapper(call, function)
  return call


def _remedy(error: Exception) -> str:
  if isinstance(error, UNKNOWN_YET):
    return (
      "The function is compiled before numbers are known: choose with"
      " jnp.where, not with if."
    )
  if "non-addressable" in str(error):  # JAX has no class for this error
    return (
      "The array lies on the devices of several processes: copy it to the host"
      " with jalign.sharding.fetch(array)."
    )
  return "Mend it, then run the same command again."
