"""Renders chat templates with a bound on their work.

A template is a program that came with a checkpoint. Transformers' sandbox keeps
it from files and code; this module also counts its steps, so that endless
loops, huge powers and endless strings stop. The text is exactly what
transformers writes: its own function renders, with a template that counts.

Each pass through the body of a loop, macro or block counts; so do calls,
filters, operators and written text: see jalign.data.work.
"""

import datetime
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import nodes

from jalign.data.work import (
  WORK,
  Work,
  made,
  of_filter,
  of_method,
  of_operator,
  of_words,
  size,
  spend,
)

# Steps that a template may take, and further ones for each unit of its input's
# `size`. Templates of published models take some hundred steps per message.
STEPS, STEPS_OF_INPUT = 1_000_000, 256
LONGEST = 2**20  # characters of a template

# Jinja's tests that read a whole value.
_COMPARING = (
  "lower",
  "upper",
  "divisibleby",
  "in",
  "==",
  "eq",
  "equalto",
  "!=",
  "ne",
  ">",
  "gt",
  "greaterthan",
  ">=",
  "ge",
  "<",
  "lt",
  "lessthan",
  "<=",
  "le",
)
_BODIES = nodes.For | nodes.Macro | nodes.CallBlock | nodes.Block
# Filters that `_rewritten` puts into a template.
_READ, _MADE, _STEP = "jalign.read", "jalign.made", "jalign.step"


def render(
  text: str,
  messages: list[dict[str, Any]],
  variables: Mapping[str, Any],
  *,
  prompt: bool,
  marked: bool,
  date: str = "",
) -> tuple[str, list[tuple[int, int]]]:
  """Writes what `apply_chat_template` writes, if that takes bounded work.

  Args:
    text: the template's Jinja source.
    messages: a conversation.
    variables: what the template reads beside the messages, by name.
    prompt: whether to open the assistant's turn (`add_generation_prompt`).
    marked: whether to find the `{% generation %}` blocks.
    date: the day that `strftime_now` tells, "YYYY-MM-DD", at midnight; "" for
      the clock's time.

  Returns:
    (text, [(start, end), ...] of the blocks in characters); no blocks unless
    `marked`.

  Raises:
    Exception: of any kind, since a template is anybody's program.
  """
  # `apply_chat_template` drops None, too: templates would write it as "None".
  messages = [
    {key: x for key, x in message.items() if x is not None}
    for message in messages
  ]
  work = Work(2**62, 0, date)
  token = WORK.set(work)
  try:
    given = size(messages) + size(dict(variables))
    work.left = work.total = STEPS + STEPS_OF_INPUT * given
    texts, spans = _renderer()(
      conversations=[messages],
      chat_template=text,
      return_assistant_tokens_mask=marked,
      add_generation_prompt=prompt,
      **variables,
    )
  finally:
    WORK.reset(token)
  return texts[0], [(a, b) for a, b in spans[0]] if marked else []


def said(error: Exception) -> str:
  """The message of a template's error, on one line."""
  line = " ".join(str(error).split())
  line = line if len(line) <= 200 else line[:200] + "…"
  if isinstance(error, jinja2.TemplateError):
    return line
  return f"{type(error).__name__}: {line}"


@functools.cache
def _renderer():
  """Transformers' `render_jinja_template`, made to compile with `compiled`."""
  from transformers.utils import chat_template_utils

  theirs = chat_template_utils.render_jinja_template
  name = "_compile_jinja_template"
  if name not in theirs.__code__.co_names:
    raise AssertionError("this version of transformers compiles elsewhere")
  return types.FunctionType(
    theirs.__code__,
    {**theirs.__globals__, name: compiled},
    theirs.__name__,
    theirs.__defaults__,
    theirs.__closure__,
  )


@functools.lru_cache
def compiled(text: str) -> jinja2.Template:
  """Compiles a text into a template that counts its steps.

  Raises:
    jinja2.TemplateError: the text is not Jinja, or is too long.
    Exception: of any kind, say for a text nested too deeply for Python.
  """
  from transformers.utils import chat_template_utils

  if len(text) > LONGEST:
    raise jinja2.TemplateError(
      f"it has {len(text):,} characters, and at most {LONGEST:,} are read"
    )
  # A new environment each time, with transformers' own filters and globals.
  make: Any = chat_template_utils._compile_jinja_template
  env: Any = make.__wrapped__("").environment
  env.optimized = False  # or constants are computed while compiling
  env.intercepted_binops = frozenset(env.binop_table)
  env.finalize = _written
  env.call = functools.partial(_call, env.call)
  env.call_binop = functools.partial(_operate, env.call_binop)
  env.globals["strftime_now"] = _strftime_now
  for name, function in env.filters.items():
    env.filters[name] = _counted(name, function)
  for name in _COMPARING:
    env.tests[name] = _counted(name, env.tests[name])
  env.filters |= {_READ: _read, _MADE: _made, _STEP: _step}
  tree = _rewritten(env.parse(text))
  tree.set_environment(env)
  return env.from_string(tree)


def _rewritten(node):
  """The syntax tree with counters in its bodies and around its operands."""
  for name, value in list(node.iter_fields()):
    if isinstance(value, nodes.Node):
      setattr(node, name, _rewritten(value))
    elif isinstance(value, list):
      fresh = [_rewritten(x) if isinstance(x, nodes.Node) else x for x in value]
      setattr(node, name, fresh)
  if isinstance(node, _BODIES):
    inside = list(node.find_all(nodes.Node))
    data = [x.data for x in inside if isinstance(x, nodes.TemplateData)]
    steps = 1 + len(inside) // 16 + sum(map(len, data)) // 128
    count = nodes.ExprStmt(_counting(steps, node), lineno=node.lineno)
    node.body.insert(0, count)
  if isinstance(node, nodes.For) and node.test is not None:
    node.test = nodes.And(_counting(1, node), node.test, lineno=node.lineno)
  elif isinstance(node, nodes.Concat):
    node.nodes = [_through(_MADE, x) for x in node.nodes]
  elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
    return _through(_MADE, node)
  elif isinstance(node, nodes.Compare) and not any(
    isinstance(operand.expr, nodes.Const) for operand in node.ops
  ):
    node.expr = _through(_READ, node.expr)
    for operand in node.ops:
      operand.expr = _through(_READ, operand.expr)
  return node


def _through(name, node):
  return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _counting(steps, node):
  return _through(_STEP, nodes.Const(steps, lineno=node.lineno))


@jinja2.pass_context  # or it would be computed while compiling
def _step(context, steps):
  spend(steps)
  return True


@jinja2.pass_context
def _written(context, x):
  spend(1 + size(x) // 8)
  return x


def _made(x):
  spend(1 + (made(x) if isinstance(x, list | tuple) else size(x) // 8))
  return x


def _read(x):
  spend(size(x) // 64)
  return x


def _strftime_now(format):
  date = WORK.get().date
  now = datetime.datetime.now()
  return (datetime.datetime.fromisoformat(date) if date else now).strftime(
    format
  )


def _counted(name, function):
  """A filter or a test that counts its work before it runs."""
  first = int(hasattr(function, "jinja_pass_arg"))

  @functools.wraps(function)
  def counted(*args, **kwargs):
    before, value, after = args[:first], args[first], args[first + 1 :]
    if name in ("join", "sum") and isinstance(value, Iterator):
      value = list(value)
    spend(of_filter(name, value, after, kwargs))
    return _result(function(*before, value, *after, **kwargs))

  return counted


def _call(theirs, context, function, *args, **kwargs):
  """Counts a call of a function, a method or a macro, and makes the call."""
  # The sandbox wraps methods that format strings.
  inner = getattr(function, "__wrapped__", function)
  name = getattr(inner, "__name__", "")
  if isinstance(inner, types.BuiltinMethodType | types.MethodType):
    if name == "join" and args and isinstance(args[0], Iterator):
      args = (list(args[0]), *args[1:])
    if name == "_generation_support":  # reads all text written so far
      work = WORK.get()
      spend((work.total - work.left) // 32)
    spend(of_method(name, inner.__self__, args, kwargs))
  else:
    spend(8 + (of_words(args, kwargs) if "lorem" in name else 0))
  return _result(theirs(context, function, *args, **kwargs))


def _operate(theirs, context, operator, left, right):
  spend(of_operator(operator, left, right))
  return theirs(context, operator, left, right)


def _result(x):
  if isinstance(x, types.GeneratorType):
    return _one_by_one(x)
  spend(made(x))
  return x


def _one_by_one(items):
  for item in items:
    spend(1)
    yield item
