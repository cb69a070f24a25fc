"""Chat templates: from messages to the text that a model was trained on.

A template comes with the weights and is a program in Jinja's language. It runs in Jinja's sandbox, and its loops, calls
and texts are counted: one that would not end, or would fill the memory, is stopped. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from shared.wire.outcomes import MODEL_ERROR, RequestError, invalid

MOST_ROUNDS = 200_000
MOST_CHARACTERS = 8 << 20
MOST_MESSAGES = 4096
_BUDGET = "headrace_budget"
_MEMBERS = frozenset({"role", "content", "name"})


class _TooMuch(Exception):
    pass


class _Budget:
    """Counts what one rendering does."""

    def __init__(self) -> None:
        self._rounds = 0

    def tick(self) -> None:
        self._rounds += 1
        if self._rounds > MOST_ROUNDS:
            raise _TooMuch

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.tick()
            yield item

    def joined(self, *pieces: object) -> str:
        texts = [str(piece) for piece in pieces]
        if sum(map(len, texts)) > MOST_CHARACTERS:
            raise _TooMuch
        return "".join(texts)


class _Counting(NodeTransformer):
    """Has every loop and every ``~`` go through the budget."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _called("counted", [node.iter], node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Call:
        self.generic_visit(node)
        return _called("joined", node.nodes, node.lineno)


def _called(method: str, arguments: list[Any], line: int) -> nodes.Call:
    budget = nodes.Getattr(nodes.Name(_BUDGET, "load"), method, "load")
    call = nodes.Call(budget, arguments, [], None, None)
    call.set_lineno(line)
    return call


class _Generation(Extension):
    """``{% generation %}`` marks what a model has said, for training; here it changes nothing."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "+"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed: nodes.Template = _Counting().visit(super()._parse(source, name, filename))
        return parsed

    def call(self, context: Any, called: Any, *arguments: Any, **named: Any) -> Any:
        budget = context.get(_BUDGET)
        if budget is not None:
            budget.tick()
        return super().call(context, called, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        for one, other in ((left, right), (right, left)):
            size = len(one) if isinstance(one, str | list | tuple) else 0
            times = other if operator == "*" and isinstance(other, int) else 1
            more = len(other) if operator == "+" and isinstance(other, str | list | tuple) else 0
            if size * times + more > MOST_CHARACTERS:
                raise _TooMuch
        if operator in ("*", "**") and any(abs(one) > 1 << 32 for one in (left, right) if isinstance(one, int)):
            raise _TooMuch
        if operator == "**" and isinstance(right, int) and right > 64:
            raise _TooMuch
        return super().call_binop(context, operator, left, right)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _as_json(value: Any, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, **options)


class ChatTemplate:
    """A template as transformers has them.

    Args:
        source: the template.
        tokens: names that it may use for special tokens, such as ``bos_token``, and their texts.

    Raises:
        ValueError: it is not in Jinja's language.
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        sandbox.filters["tojson"] = _as_json
        sandbox.globals |= {"raise_exception": _raise, "strftime_now": lambda form: datetime.now().strftime(form)}
        try:
            self._template = sandbox.from_string(source)
        except (TemplateSyntaxError, RecursionError) as error:
            raise ValueError(f"the chat template cannot be read: {error}.") from error
        self._tokens = dict(tokens)

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Return the text up to where the model is to answer.

        Args:
            messages: as :func:`read_messages` returns them.

        Raises:
            RequestError: the template refuses them, or does not end.
        """
        given = {**self._tokens, "messages": messages, "add_generation_prompt": True, _BUDGET: _Budget()}
        pieces, size = [], 0
        try:
            for piece in self._template.generate(**given):
                size += len(piece)
                if size > MOST_CHARACTERS:
                    raise _TooMuch
                pieces.append(piece)
        except (_TooMuch, RecursionError, MemoryError):
            raise RequestError(MODEL_ERROR, "The model's chat template does too much for these messages.") from None
        except Exception as error:  # a template can fail in any way
            raise invalid(f"The model's chat template refuses these messages: {_text(error)}", "messages") from error
        return "".join(pieces)


def _text(error: Exception) -> str:
    text = str(error)[:300] or type(error).__name__
    return text if text.endswith(".") else f"{text}."


def read_messages(messages: object) -> list[dict[str, str]]:
    """Check messages of a chat: each a map with ``role`` and ``content``, a text or a list of parts of type ``text``.

    Raises:
        RequestError: one sentence that names the part that is wrong.
    """
    if not isinstance(messages, list) or not messages:
        raise invalid("messages must be a list of at least one message.", "messages")
    if len(messages) > MOST_MESSAGES:
        raise invalid(f"messages must be at most {MOST_MESSAGES}, not {len(messages)}.", "messages")
    return [_message(message, f"messages[{number}]") for number, message in enumerate(messages)]


def _message(message: object, where: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise invalid("A message must be a map with role and content.", where)
    unknown = next((key for key in message if key not in _MEMBERS), None)
    if unknown is not None:
        raise invalid(
            f"A message may have {', '.join(sorted(_MEMBERS))}, but not {str(unknown)[:80]!r}.",
            f"{where}.{str(unknown)[:80]}",
        )
    read = {}
    for name in ("role", "name"):
        value = message.get(name)
        if value is None and name != "role":
            continue
        if not isinstance(value, str) or not 1 <= len(value) <= 64:
            raise invalid(f"{name} must be a text of 1 to 64 characters.", f"{where}.{name}")
        read[name] = value
    read["content"] = _content(message.get("content"), f"{where}.content")
    return read


def _content(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid("content must be a text or a list of parts.", where)
    texts = []
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise invalid("A part of content must be {type: text, text: …}.", f"{where}[{number}]")
        texts.append(part["text"])
    return "".join(texts)
