"""Turn scopes and control flow into findings, each with a confidence in percent.

A finding at 60 or more should be right in ordinary code. Where a file alone
cannot tell, because an import may run for its effects or a public function may
be used from elsewhere, the confidence stays below.
"""

import ast
import os
import re

import flow

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
EFFECT_MODULES = frozenset(["readline", "rlcompleter", "antigravity", "this", "sitecustomize", "usercustomize"])
PLACEHOLDER = re.compile(r"[%{]")
UNWANTED = ("_", "dummy", "unused", "ignore")
TEST_HOOKS = ("test", "Test", "pytest_", "setup", "teardown", "setUp", "tearDown")


def finding(module, kind, node, name, confidence, message, end=None):
    return {
        "kind": kind,
        "file": module.name,
        "line": node.lineno,
        "end_line": (end or node).end_lineno or node.lineno,
        "name": name,
        "confidence": confidence,
        "message": message,
    }


def analyse(modules):
    project = Project(modules)
    for module in modules:
        yield from unused_imports(module)
        yield from unused_variables(module)
        yield from unused_definitions(module, project)
        yield from unused_arguments(module, project)
        yield from unreachable_code(module)


class Project:
    """What all analysed files together use, for names that cross files."""

    def __init__(self, modules):
        self.attributes = set().union(*(module.attributes for module in modules))
        self.strings = set().union(*(module.strings for module in modules))
        self.values = set().union(*(module.values for module in modules))
        self.called = set().union(*(module.called for module in modules))
        self.imported = set().union(*(module.imported_names for module in modules))
        self.prefixes = {prefix for text in self.strings for prefix in [PLACEHOLDER.split(text, 1)[0]] if name_part(prefix)}

    def mentions(self, name, own):
        """Tell whether a name may be reached from outside its scope, a name built from a prefix included."""
        if name in self.attributes or name in self.strings or name in self.imported or name in own:
            return True
        return any(name[:end] in self.prefixes for end in range(3, len(name)))


def name_part(text):
    """Tell whether a string looks like the beginning of a name that is completed at run time."""
    return len(text) > 2 and text.endswith("_") and text.isidentifier()


def is_dunder(name):
    return name.startswith("__") and name.endswith("__")


def is_stub(body):
    """Tell whether a function body only holds a docstring, `pass`, `...`, a raise or a constant result."""
    for node in body:
        if isinstance(node, (ast.Pass, ast.Raise)):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Return) and (node.value is None or isinstance(node.value, ast.Constant)):
            continue
        return False
    return True


def unused_imports(module):
    if os.path.basename(module.name) == "__init__.py":
        return
    for scope in module.scopes:
        for name, bindings in scope.bindings.items():
            for binding in bindings:
                if binding.kind == "import" and not binding.used:
                    yield from unused_import(module, scope, name, binding)


def unused_import(module, scope, name, binding):
    details = binding.details
    alias, origin = details["alias"], details["origin"]
    if alias.asname == alias.name or details["optional"] or name in ("_", "__"):
        return
    if scope.kind == "class" or (scope is module.root and module.exported and name in module.exported):
        return
    if details["type_checking"] and name in module.words:
        return
    if not origin and alias.name.split(".")[0] in EFFECT_MODULES:
        return
    imports_module = not origin or not origin.strip(".")
    unsure = details["late"] or (imports_module and scope is not module.root)
    confidence = 50 if unsure or name.startswith("_") or origin.startswith("_") else 90
    full = alias.name if not origin else origin + ("" if origin.endswith(".") else ".") + alias.name
    shown = "`{}`".format(full) + (" as `{}`".format(alias.asname) if alias.asname else "")
    result = finding(module, "unused-import", binding.node, name, confidence, "{} is imported but never used".format(shown))
    result["statement_line"] = details["statement"].lineno
    yield result


def unused_variables(module):
    for scope in module.scopes:
        if scope.kind != "function":
            continue
        for name, bindings in scope.bindings.items():
            if name.startswith(UNWANTED) or any(item.used or item.kind not in ("variable", "exception") for item in bindings):
                continue
            first = bindings[0]
            if first.kind == "exception":
                message = "exception `{}` is caught but never used".format(name)
                result = finding(module, "unused-variable", first.node, name, 80, message)
                result["end_line"] = result["line"]
                yield result
            else:
                message = "variable `{}` is assigned but never used".format(name)
                yield finding(module, "unused-variable", first.node, name, 90, message)


def unused_definitions(module, project):
    for scope in module.scopes:
        for name, bindings in scope.bindings.items():
            for binding in bindings:
                if binding.used or binding.kind not in ("function", "method", "class"):
                    continue
                node = binding.node
                if node.decorator_list or is_dunder(name) or name in ("main", "_"):
                    continue
                confidence = definition_confidence(module, project, scope, binding)
                if confidence:
                    kind = "class" if binding.kind == "class" else "function"
                    message = "{} `{}` is never used".format(binding.kind, name)
                    yield finding(module, "unused-" + kind, node, name, confidence, message)


def definition_confidence(module, project, scope, binding):
    """Return how certain it is that a definition is dead, 0 when it may be alive."""
    name, node = binding.name, binding.node
    if binding.kind == "class" and (node.keywords or any(getattr(base, "id", "") != "object" for base in node.bases)):
        return 0
    if scope.kind == "function":
        return 90
    if scope.kind == "class":
        plain = not scope.node.keywords and not scope.node.decorator_list
        plain = plain and all(getattr(base, "id", "") == "object" for base in scope.node.bases)
        private = name.startswith("_") and not name.endswith("_")
        if binding.kind != "method" or not plain or not private or project.mentions(name, project.values):
            return 0
        return 80
    if name.startswith(TEST_HOOKS):
        return 0
    if module.exported is not None and name in module.exported:
        return 0
    elsewhere = set() if binding.scope is module.root and not binding.used else project.values
    if project.mentions(name, elsewhere):
        return 0
    if name.startswith("_"):
        return 80
    if module.is_script:
        return 60
    return 50 if module.exported is not None else 40


def unused_arguments(module, project):
    if os.path.basename(module.name).startswith(("test_", "conftest")):
        return
    for scope in module.scopes:
        if scope.kind != "function" or not isinstance(scope.node, FUNCTIONS):
            continue
        function = scope.node
        known = (
            function.name in project.called
            and function.name not in project.values
            and function.name not in project.attributes
            and function.name not in project.strings
        )
        for name, bindings in scope.bindings.items():
            first = bindings[0]
            if first.kind != "argument" or any(item.used for item in bindings) or name.startswith(UNWANTED):
                continue
            if first.details["owner"] == "method" or function.decorator_list or is_stub(function.body):
                continue
            if function.name.startswith(TEST_HOOKS) or is_dunder(function.name):
                continue
            message = "argument `{}` of `{}` is never used".format(name, function.name)
            yield finding(module, "unused-argument", first.node, name, 70 if known else 40, message)


def unreachable_code(module):
    for first, last, reason in flow.unreachable(module.tree):
        message = "unreachable: {}".format(reason)
        yield finding(module, "unreachable-code", first, "", 100, message, end=last)
