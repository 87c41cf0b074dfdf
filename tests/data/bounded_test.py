"""Templates whose work never ends are refused, and others aren't."""

import datetime
import json
import time

import pytest
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

from jalign import data
from jalign.data import bounded
from jalign.data.rows import BadRow
from jalign.errors import UserError
from tests.data import chat_tokenizer

TALK = [
  {"role": "system", "content": "S"},
  {"role": "user", "content": "a"},
  {"role": "assistant", "content": " bc ", "thinking": "well"},
  {"role": "user", "content": None, "extra": [1, 2.5, {"x": "ü"}]},
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "tools": [{"name": "w"}]}
GROW = "{% set ns = namespace(s='aaaa', n=3) %}{% for i in range(99) %}"
LISTS = "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(99) %}"
ENDLESS = {
  "loops": "{% for a in range(9999) %}{% for b in range(9999) %}"
  "{% endfor %}{% endfor %}",
  "loops that filter": "{% for a in range(9999) %}"
  "{% for b in range(9999) if false %}{% endfor %}{% endfor %}",
  "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
  "{% endmacro %}{{ f(60) }}",
  "recursive loops": "{% for x in [1, 2, 3] recursive %}"
  "{{ loop([1, 2, 3]) if loop.depth < 30 }}{% endfor %}",
  "powers": GROW + "{% set ns.n = ns.n ** 9 %}{% endfor %}",
  "products": GROW + "{% set ns.n = ns.n * ns.n %}{% endfor %}",
  "a long text": "{{ 'a' * 10 ** 12 }}",
  "a long list": "{{ [1] * 10 ** 10 }}",
  "sums of texts": GROW + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
  "joined texts": GROW + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
  "captured texts": GROW + "{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}"
  "{% set ns.s = x %}{% endfor %}",
  "replaced": GROW + "{% set ns.s = ns.s.replace('a', 'aaaa') %}{% endfor %}",
  "filter replace": GROW + "{% set ns.s = ns.s|replace('', 'b') %}{% endfor %}",
  "joins": GROW + "{% set ns.s = ns.s|join(ns.s) %}{% endfor %}",
  "method join": GROW + "{% set ns.s = ns.s.join(ns.s) %}{% endfor %}",
  "lists in lists": LISTS + "{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
  "{{ ns.s }}",
  "json": LISTS + "{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}",
  "compared": LISTS + "{% set ns.s = [ns.s, ns.s] %}"
  "{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
  "a namespace that grows": "{% set a, b, c = namespace(), namespace(),"
  " namespace() %}{% set x, y, z = [b] * 999, [c] * 999, 'x' * 999 %}"
  "{{ x|length }}{{ x }}{% set a.v = x %}{% set b.v = y %}{% set c.v = z %}"
  "{{ a }}",
  "a width": "{{ '%1000000000d' % 1 }}",
  "a width given": "{{ '%*d' % (10 ** 9, 1) }}",
  "a width of format": "{{ '{:1000000000}'.format('') }}",
  "a width given to format": "{{ '{:{}}'.format('', 10 ** 9) }}",
  "the filter format": "{{ '%1000000000d'|format(1) }}",
  "center": "{{ 'a'|center(10 ** 10) }}",
  "ljust": "{{ 'a'.ljust(10 ** 10) }}",
  "expandtabs": "{{ '\t\t'.expandtabs(10 ** 9) }}",
  "indent": "{{ 'a\nb'|indent(10 ** 10) }}",
  "indent of json": "{{ [[1]]|tojson(indent=10 ** 9) }}",
  "bytes": "{{ (1).to_bytes(10 ** 10, 'big') }}",
  "batch": "{{ [1]|batch(10 ** 10, 0)|list }}",
  "lipsum": "{{ lipsum(max=10 ** 9) }}",
  "slices": "{% set b = 'a' * 999999 %}{% for i in range(99999) %}"
  "{% if b[1:] %}{% endif %}{% endfor %}",
  "searches": "{% set b = 'a' * 999999 %}{% for i in range(99999) %}"
  "{% if 'b' in b %}{% endif %}{% endfor %}",
  "sums of lists": "{{ range(9999)|map('string')|map('list')|sum(start=[]) }}",
  "striptags": "{{ ('<!--' * 99999)|striptags }}",
  "a long output": "{% set b = 'a' * 999999 %}{% for i in range(99999) %}"
  "{{ b }}{% endfor %}",
  "a long source": "{% for i in range(99999) %}" + "x" * 99999 + "{% endfor %}",
  "a filter block": "{% filter center(10 ** 10) %}a{% endfilter %}",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_work_is_bounded(kind, monkeypatch):
  monkeypatch.setattr(bounded, "STEPS", 60_000)
  template = data.load_template(ENDLESS[kind])
  started = time.perf_counter()
  with pytest.raises(BadRow, match=r"takes more than [\d,]+ steps"):
    template.render([{"role": "user", "content": "hello"}])
  assert time.perf_counter() - started < 20  # not hours


@pytest.mark.parametrize(
  "text, said",
  [
    ("{{ 1 // 0 }}", "ZeroDivisionError"),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    ("{% include 'x' %}", "no loader"),
    ("{{ 'ü'.encode('ascii') }}", "UnicodeEncodeError"),
    ("{{ [1] + 1 }}", "TypeError"),
    ("{{ raise_exception('no\n turns' ~ 'x' * 9999) }}", "(no turnsxx"),
    ("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", "Recursion"),
    ("{{ ''.__class__.mro() }}", "unsafe"),
  ],
)
def test_whatever_a_template_raises_is_a_bad_row(text, said):
  with pytest.raises(BadRow) as caught:
    data.load_template(text).render(TALK)
  assert said in str(caught.value)
  assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "text",
  [
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "{{" + "a" * bounded.LONGEST + "}}",
    "{{ 1|nothing }}{% for %}",
  ],
)
def test_what_cannot_be_compiled(text):
  with pytest.raises(UserError, match="is not Jinja"):
    data.load_template(text)


# Features of Jinja that templates use, each in another template.
GOOD = (
  "{{ bos_token }}{% for m in messages %}<{{ m.role }}|{{ m['content']|trim }}>"
  "{% if m.content is string and 'b' in m.content %}{{ m.content * 2 }}"
  "{% elif m.content is none %}none{% elif m.content is defined %}x{% endif %}"
  "{{ loop.index0 }}{{ '%s:%5.1f' % (m.role, 2) }}{{ m.thinking }}"
  "{{ m.reasoning_content }}{% endfor %}{{ eos_token if messages|length > 1 }}",
  "{% set ns = namespace(found=false, s='') %}{% for m in messages[::-1] %}"
  "{% if m.role == 'user' and not ns.found %}{% set ns.found = true %}"
  "{% set ns.s = ns.s ~ loop.revindex ~ m.extra|tojson(indent=2) %}{% endif %}"
  "{% endfor %}{{ ns.s }}{{ tools|map(attribute='name')|join(', ') }}",
  "{% macro show(m, n=2) %}[{{ m.role|upper }}{{ caller() if caller }}]"
  "{% endmacro %}{% for m in messages if m.role != 'system' %}"
  "{% call show(m) %}{{ m.extra|default('none')|string|replace('x', 'y') }}"
  "{% endcall %}{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}",
  "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}"
  "{{ (messages|first).role.split('s')|last }}{{ [1, 2]|sum }}{{ 2 ** 10 }}"
  "{{ messages|groupby('role')|map('first')|join }}{{ 'a\nb'|indent }}"
  "{% filter upper %}abc{% endfilter %}{{ {'b': 1, 'a': 2}|dictsort }}"
  "{{ '{:>4}{a}'.format('x', a=1) }}{{ ['b', 'a']|sort|reverse|list }}",
  chat_tokenizer.CHATML.replace("m['content']", "(m.content or '')"),
  "{{ messages }}{{ nothing }}{{ messages[0].items()|list }}{{ range(3) }}",
  "{% for m in messages recursive %}{{ m.role if m.role else m }}"
  "{% if m.extra %}{{ loop(m.extra) }}{% endif %}{% else %}none{% endfor %}",
)


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("text", GOOD)
def test_good_templates_write_what_transformers_does(text, prompt, tmp_path):
  """The texts equal those of `apply_chat_template`, to the character."""
  folder = chat_tokenizer.write(tmp_path, text, bos="<s>")
  theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
  template = data.load_template(folder, tools=SPECIAL["tools"])
  want = theirs.apply_chat_template(
    TALK,
    tools=SPECIAL["tools"],
    tokenize=False,
    add_generation_prompt=prompt,
  )
  assert template.render(TALK, prompt) == want


def test_marked_spans_are_those_of_transformers():
  text = chat_tokenizer.MARKED
  (want,), (spans,) = render_jinja_template(
    [TALK[:3]], chat_template=text, return_assistant_tokens_mask=True
  )
  got, ranges = bounded.render(text, TALK[:3], {}, prompt=False, marked=True)
  assert got == want and ranges == [tuple(x) for x in spans] and ranges


def test_long_conversations_are_not_refused():
  """Work grows with the text that is written, even if a template copies it."""
  talk = [
    {"role": "user" if i % 2 else "assistant", "content": "word " * 50}
    for i in range(400)
  ]
  text = (
    "{% set ns = namespace(all='', seen=[]) %}{% for m in messages %}"
    "{% set ns.all = ns.all + m.content + (messages|length)|string %}"
    "{% set ns.seen = ns.seen + [m] %}"
    "{% if (messages[loop.index:]|selectattr('role', 'equalto', 'user')"
    "|list|length) > 1 %}.{% endif %}{% endfor %}{{ ns.all }}"
  )
  assert len(data.load_template(text).render(talk)) > 400 * 250


def test_a_date_that_is_given():
  template = data.load_template("{{ strftime_now('%d %b %Y %H:%M') }}")
  assert template.dated("2024-02-29").render([]) == "29 Feb 2024 00:00"
  year = str(datetime.date.today().year)
  assert year in template.render([]) and year in template.dated("").render([])
  for wrong in ("29 Feb", "2024-02-30", 3):
    with pytest.raises(UserError, match="no date"):
      template.dated(wrong)


def test_the_world_outside_is_as_before():
  """The limits don't apply to templates that transformers renders itself."""
  text = "{% for i in range(9999) %}{{ i }}{% endfor %}"
  data.load_template(text).render([])
  (output,), _ = render_jinja_template([[]], chat_template=text)
  assert output.endswith("9998") and json.dumps(output)
