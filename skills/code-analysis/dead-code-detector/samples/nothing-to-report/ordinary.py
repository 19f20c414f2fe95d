import contextlib
import importlib.util
import logging
from dataclasses import dataclass, field
from typing import Optional, cast

from flask import Flask

app = Flask(__name__)
log = logging.getLogger(__name__)


@app.route("/")
def index():
    return "ok"


@dataclass
class Node:
    parent: "Optional[Node]" = None
    children: list = field(default_factory=list)

    def visit(self, visitor, depth):
        return visitor(self)


class Handler:
    def on_event(self, event, context):
        return event

    def dispatch(self, name):
        return getattr(self, "_on_" + name)()

    def _on_start(self):
        return 1


def generator():
    return
    yield


def suppressed():
    with contextlib.suppress(ValueError):
        return int("x")
    return None


def counter():
    count = 0

    def step():
        nonlocal count
        count += 1
        return count

    return step


def debug(first, second):
    total = first + second
    return locals()


def load(name):
    import json
    value, rest = name, cast("json.JSONDecoder", name)
    for _ in range(3):
        log.debug("%s", value)
    return importlib.util.find_spec(name) or rest
