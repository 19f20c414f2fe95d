"""Which modules of a skill a fork server imports: one that is told to be safe, and many that try to have code of theirs run.

Prints the names of those about which vetting.py decides wrongly.
"""

import os
import sys
import tempfile

GOOD = {
    "definitions": '''import re
from dataclasses import dataclass
WORDS = re.compile("[a-z]+", re.I | re.M)
NAMES = frozenset(["a"])
@dataclass(frozen=True)
class Point:
    x: int = 0
class Problem(Exception): pass
class Kept:
    __slots__ = ("a",)
    def first(self, a: int = 3) -> str: return a
    @property
    def second(self): return 1
def words(text, *, key=None): return WORDS.findall(text)
if __name__ == '__main__': words(1)''',
    "constants": 'A = 1\nB = ["x", (2, {"y": None})]',
}

BAD = {
    "call": "X = print()",
    "default": "def f(a=print()): pass",
    "annotation": "def f(a: print(1)): pass",
    "returns": "def f() -> print(1): pass",
    "decorator": "def d(f): print()\n@d\ndef g(): pass",
    "own_builtin": "def frozenset(x): print()\nA = frozenset(())",
    "own_dataclass": "def dataclass(c): print()\n@dataclass\nclass A: pass",
    "other_dataclass": "from dataclasses import dataclass\nfrom json import loads as dataclass\n@dataclass\nclass A: pass",
    "other_re": "import json as re\nA = re.compile('x')",
    "other_name": "import json as frozenset\nA = frozenset(())",
    "other_member": "import re\nre.compile = print\nA = re.compile('x')",
    "own_exception": "class Exception:\n  def __init_subclass__(c): print()\nclass X(Exception): pass",
    "subclass": "class A:\n  def __init_subclass__(c): print()\nclass B(A): pass",
    "metaclass": "class M(type): pass\nclass A(metaclass=M): pass",
    "class_body": "class A:\n  print()",
    "class_field": "class A:\n  x: print() = 1",
    "class_name": "class A:\n  frozenset = None\nB = frozenset(())",
    "nested_class": "class A:\n  class B: pass",
    "field": "x: print(1) = 3",
    "key": "A = sorted([1], key=lambda x: print(x))",
    "star": "from json import *",
    "walrus": "A = (frozenset := print)",
    "condition": "if True: print()",
    "loop": "for i in [1]: pass",
    "with_file": "with open('x') as f: pass",
    "try": "try: pass\nexcept: pass",
    "assertion": "assert print()",
    "unpacked": "A, B = print, 1",
    "augmented": "A = 1\nA += print()",
    "package": "import antigravity",
    "later": "from os import environ2",
    "f_string": "A = f'{print(1)}'",
    "merged": "A = {**print()}",
    "starred": "A = [*print()]",
    "comprehension": "A = [print(1) for _ in [1]]",
    "global_name": "global frozenset\nfrozenset = print",
    "asynchronous": "async def f(a=print()): pass",
    "removed": "del x",
}


def harmless(source, beside=()):
    folder = tempfile.mkdtemp()
    name = f"vetted_{os.path.basename(folder).replace('-', '_')}"
    with open(os.path.join(folder, f"{name}.py"), "w") as file:
        file.write(source + "\n")
    for suffix in beside:
        os.mkdir(os.path.join(folder, name + suffix))
    return name in space["harmless"](folder, "run.py")


import dataclasses, json, re  # noqa: E401, what the interpreter has imported by then

space = {"known": dict(sys.modules)}
with open(sys.argv[1]) as file:
    exec(file.read(), space)
wrong = [name for name, source in GOOD.items() if not harmless(source)]
wrong += [name for name, source in BAD.items() if harmless(source)]
wrong += [f"beside {suffix}" for suffix in ("", ".so", ".pyc") if harmless("A = 1", [suffix])]
print(" ".join(wrong))
