"""How many steps the operations of a chat template take.

A step takes a few microseconds: 64 parts of a value are read, or 128 bytes
made. Steps are counted from the sizes of an operation's operands, before the
operation makes anything larger than they are.
"""

import contextvars
import dataclasses
import re
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any

import jinja2.utils
from jinja2.exceptions import SecurityError

_VIEWS = (ItemsView, KeysView, ValuesView)
_GATHERED = (list, tuple, dict, set, frozenset)
_TEXTS = (str, bytes, bytearray)
# Filters that look only at the outside of a value, and such methods.
QUICK = {"attr", "count", "d", "default", "first", "last", "length"}
_QUICK_METHODS = {"get", "items", "keys", "values"}
# Filters that call something for each item, or compare each with others.
_EACH = {
  "batch",
  "dictsort",
  "groupby",
  "map",
  "max",
  "min",
  "reject",
  "rejectattr",
  "select",
  "selectattr",
  "slice",
  "sort",
  "unique",
}
# Filters that take more than linear time in their text.
_SLOW = {"pprint", "striptags", "urlize", "wordwrap", "xmlattr"}
_GROWING = (
  _EACH
  | _SLOW
  | {
    "center",
    "format",
    "indent",
    "join",
    "replace",
    "sum",
    "tojson",
  }
)


@dataclasses.dataclass
class Work:
  """What a rendering may still spend, and the sizes of values it has seen.

  Attributes:
    left: steps that are left.
    total: steps that the rendering began with.
    date: "YYYY-MM-DD" for `strftime_now`; "" for today.
    sizes: id of a value -> (the value, which is thereby kept alive; its size).
  """

  left: int
  total: int
  date: str
  sizes: dict[int, tuple[Any, int]] = dataclasses.field(default_factory=dict)


WORK: contextvars.ContextVar[Work] = contextvars.ContextVar("work")


def spend(steps: int) -> None:
  """Counts steps.

  Raises:
    jinja2.exceptions.SecurityError: no steps are left.
  """
  work = WORK.get()
  work.left -= steps
  if work.left < 0:
    raise SecurityError(f"the template takes more than {work.total:,} steps")


def size(x: Any) -> int:
  """The size of a value written out: 1 for each part and each 16 characters.

  A list that holds another list twice counts it twice, as its text does.
  """
  if isinstance(x, _TEXTS):
    return 1 + len(x) // 16
  if isinstance(x, int):
    return 1 + x.bit_length() // 128
  if isinstance(x, range):
    return 1 + len(x)
  if isinstance(x, _GATHERED):
    sizes = WORK.get().sizes
    known = sizes.get(id(x))
    if known is not None:
      return known[1]
    steps, lasts = _parts(x)
    if lasts:
      sizes[id(x)] = x, steps
    return steps
  if isinstance(x, _VIEWS):
    return _parts(x)[0]
  inner = _attributes(x)
  return 1 if inner is None else 1 + _parts(inner)[0]


def _parts(x) -> tuple[int, bool]:
  """(size of a value with parts, whether the size lasts).

  The size doesn't last if the value holds a namespace, which may grow.
  """
  work = WORK.get()
  total, lasts = 1, True
  parts = x
  if isinstance(x, Mapping):
    parts = (part for pair in x.items() for part in pair)
  for part in parts:
    total += size(part)
    if isinstance(part, _GATHERED):
      lasts &= id(part) in work.sizes
    elif _attributes(part) is not None:
      lasts = False
    if total // 64 > work.left:
      spend(total)
  spend(2 + len(x))
  return total, lasts


def _attributes(x) -> Any:
  """The attributes of a Jinja namespace; None for any other value."""
  if isinstance(x, jinja2.utils.Namespace):
    return object.__getattribute__(x, "_Namespace__attrs")
  return None


def made(x: Any) -> int:
  """Steps for the memory of a value that an operation made."""
  if isinstance(x, (*_TEXTS, int)):
    return size(x) // 8
  return len(x) // 2 if isinstance(x, _GATHERED) else 0


def of_filter(name: str, value: Any, args: Any, kwargs: Any) -> int:
  """Steps that a filter or a test takes.

  Args:
    name: its name.
    value: the value that it is applied to.
    args: its other arguments.
    kwargs: its keyword arguments.
  """
  if name in QUICK:
    return 1
  steps = 1 + size(value) // 64 + sum(map(size, args)) // 64
  if name not in _GROWING:
    return steps
  number = _largest((*args, *kwargs.values()))
  longest = _longest((*args, *kwargs.values()))
  if name in _EACH:
    return steps + number + _count(value) // 2 + size(value) // 4
  if name in _SLOW:
    return steps + number + (1 + longest) * size(value) ** 2 // 64
  if name == "sum":
    return steps + _count(value) ** 2 // 64
  if name == "center":
    return steps + number // 128
  if name == "indent":
    return steps + size(value) * (8 + number + longest)
  if name == "tojson":
    return steps + size(value) * (1 + number + longest) // 8
  if name == "replace":
    return steps + _replaced(str(value), args, kwargs)
  if name == "join":
    return steps + _joined(value, longest)
  if name == "format":
    return steps + _formatted(str(value), (*args, *kwargs.values()))
  return steps


def of_method(name: str, owner: Any, args: Any, kwargs: Any) -> int:
  """Steps that a method of `owner` takes; see `of_filter`."""
  if name in _QUICK_METHODS:
    return 1
  steps = 1 + size(owner) // 64 + sum(map(size, args)) // 64
  number = _largest((*args, *kwargs.values()))
  if not isinstance(owner, (*_TEXTS, int)):
    return steps
  if name in ("center", "ljust", "rjust", "zfill", "to_bytes"):
    return steps + number // 128
  if name == "expandtabs":
    return steps + size(owner) * max(number, 8) // 8
  if name == "replace":
    return steps + _replaced(owner, args, kwargs)
  if name == "join" and args:
    return steps + _joined(args[0], _count(owner))
  if name == "translate":
    return steps + size(owner) * (2 + sum(map(size, args)))
  if name in ("format", "format_map"):
    return steps + _formatted(owner, (*args, *kwargs.values()))
  return steps


def of_operator(operator: str, left: Any, right: Any) -> int:
  """Steps that an arithmetic operator takes, also on texts and lists."""
  numbers = isinstance(left, int) and isinstance(right, int)
  if operator == "**" and numbers:
    return 1 + (left.bit_length() * abs(right) // 1024) ** 2
  if operator == "%" and isinstance(left, _TEXTS):
    return 1 + _formatted(left, right if isinstance(right, tuple) else (right,))
  if numbers:
    return 1 + size(left) * size(right) // 64
  if operator == "*":
    times = max(0, left if isinstance(left, int) else _largest((right,)))
    whole = right if isinstance(left, int) else left
    length = size(whole) if isinstance(whole, _TEXTS) else 4 * _count(whole)
    return 1 + length * times // 8
  return 1 + made(left) + made(right)


def of_words(args: Any, kwargs: Any) -> int:
  """Steps of `lipsum`, whose arguments are numbers of paragraphs and words."""
  return max(100, _largest((*args, *kwargs.values()))) ** 2


def _largest(args) -> int:
  """The largest number among some arguments."""
  return max((abs(x) for x in args if isinstance(x, int)), default=0)


def _longest(args) -> int:
  """Length of the longest text among some arguments, or in their lists."""
  flat = [y for x in args for y in _flat(x)]
  return max((len(x) for x in flat if isinstance(x, _TEXTS)), default=0)


def _flat(x):
  if isinstance(x, Mapping):
    return list(x.values())
  return list(x) if isinstance(x, list | tuple) else [x]


def _count(x) -> int:
  return len(x) if isinstance(x, (*_TEXTS, *_GATHERED, *_VIEWS, range)) else 0


def _replaced(text, args, kwargs) -> int:
  old = args[0] if args else kwargs.get("old", "")
  new = args[1] if len(args) > 1 else kwargs.get("new", "")
  if not isinstance(text, str):
    return len(text) * _longest((new,)) // 128
  count = text.count(str(old)) if str(old) else len(text) + 1
  return count * len(str(new)) // 128


def _joined(items, separator: int) -> int:
  return (size(items) + _count(items) * separator // 16) // 8


def _formatted(text, args) -> int:
  """Steps of formatting a text such as "%s and {}" with its arguments.

  A field's width may be any number in the text, or among the arguments.
  """
  if not isinstance(text, str):
    text = bytes(text).decode("latin-1")
  widths = [int(x[:12]) for x in re.findall("[0-9]+", text)]
  widths.append(_largest([y for x in args for y in _flat(x)]))
  length = sum(map(size, args)) + max(widths) // 16
  fields = text.count("%") + text.count("{")
  return (size(text) + fields * length) // 8
