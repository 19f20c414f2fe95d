"""What the fork server (zygote.py) wants to know of a skill's folder. A child of it runs this file and tells the result, so
that what it takes to find out is not in the memory of every run.

Which modules run no code of the skill when they are imported is told by what they are made of, never by trying: imports of
what is imported already or of this kind, definitions without anything that is called, and values made of constants, frozen
sets and compiled expressions among them. `known` has what is imported already, by name.
"""

import ast
import builtins
import os


def compile_folder(folder, most=64):
    """The modules of the skill beside the script, compiled, with what tells whether a file is still the same."""
    compiled = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__")) and name != "node_modules"]
        for name in names:
            path = os.path.join(parent, name)
            if not name.endswith(".py") or len(compiled) >= most:
                continue
            try:
                about = os.stat(path)
                with open(path, "rb") as file:
                    code = compile(file.read(), path, "exec", dont_inherit=True)
            except BaseException:
                continue
            compiled[path] = ((about.st_mtime_ns, about.st_size), code)
    return compiled


def harmless(folder, script):
    """The modules of the skill beside the script that run no code of the skill when they are imported."""
    values = (ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.UnaryOp, ast.unaryop, ast.expr_context)
    makers = {"frozenset", "set", "tuple", "list", "dict"}
    marks = {"staticmethod", "classmethod", "property"}
    bases = {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)}
    found = {}
    names = sorted(os.listdir(folder))
    stems = [name.partition(".")[0] for name in names]
    for name, stem in zip(names, stems):
        # A folder or a library of the same name would be imported in its place.
        alone = name == f"{stem}.py" and stems.count(stem) == 1 and stem.isidentifier()
        if alone and name not in (script, "__init__.py"):
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    found[name[:-3]] = ast.parse(file.read())
            except (OSError, SyntaxError, ValueError, RecursionError):
                continue

    def bound(body):
        """The names that statements bind, but those inside of functions, and from where they are imported."""
        for node in body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.asname or alias.name.partition(".")[0], alias.name if alias.asname else None
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield alias.asname or alias.name, f"{node.module}.{alias.name}"
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield node.name, "here"
                if isinstance(node, ast.ClassDef):
                    yield from bound(node.body)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    yield target.id if isinstance(target, ast.Name) else "*", "here"

    class Module:
        def __init__(self, tree):
            self.body = tree.body
            self.names = {}
            self.lazy = False
            for name, origin in bound(tree.body):
                # A name that is bound twice is none that can be relied on.
                self.names[name] = "here" if name in self.names and self.names[name] != origin else origin

        def is_builtin(self, node, allowed):
            return isinstance(node, ast.Name) and node.id in allowed and node.id not in self.names

        def is_compile(self, node):
            return (
                isinstance(node, ast.Attribute)
                and node.attr == "compile"
                and isinstance(node.value, ast.Name)
                and node.value.id == "re"
                and self.names.get("re", "") is None
            )

        def is_flag(self, node):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
                return self.is_flag(node.left) and self.is_flag(node.right)
            return isinstance(node, ast.Attribute) and node.attr.isupper() and self.is_compile(
                ast.Attribute(value=node.value, attr="compile")
            )

        def is_value(self, node):
            if node is None:
                return True
            if isinstance(node, ast.Call):
                if self.is_compile(node.func):
                    flags = [*node.args[1:], *[keyword.value for keyword in node.keywords]]
                    return len(node.args) > 0 and isinstance(node.args[0], ast.Constant) and all(map(self.is_flag, flags))
                return self.is_builtin(node.func, makers) and not node.keywords and all(map(self.is_value, node.args))
            return isinstance(node, values) and all(map(self.is_value, ast.iter_child_nodes(node)))

        def is_annotation(self, node):
            return node is None or self.lazy or isinstance(node, (ast.Constant, ast.Name))

        def is_function(self, node):
            given = node.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            return (
                all(map(self.is_value, [*given.defaults, *given.kw_defaults]))
                and all(self.is_annotation(argument.annotation) for argument in arguments if argument is not None)
                and self.is_annotation(node.returns)
                and all(self.is_builtin(mark, marks) for mark in node.decorator_list)
            )

        def is_data_class(self, mark):
            head = mark.func if isinstance(mark, ast.Call) else mark
            given = [*mark.args, *[keyword.value for keyword in mark.keywords]] if isinstance(mark, ast.Call) else []
            return (
                isinstance(head, ast.Name)
                and head.id == "dataclass"
                and self.names.get("dataclass") == "dataclasses.dataclass"
                and all(isinstance(value, ast.Constant) for value in given)
            )

        def is_class(self, node):
            return (
                not node.keywords
                and all(self.is_builtin(base, bases) for base in node.bases)
                and all(map(self.is_data_class, node.decorator_list))
                and all(self.is_statement(inner, frozenset(), False) for inner in node.body)
            )

        def is_statement(self, node, trail, outside=True):
            if isinstance(node, ast.FunctionDef):
                return not getattr(node, "type_params", None) and self.is_function(node)
            if isinstance(node, ast.ClassDef):
                return outside and not getattr(node, "type_params", None) and self.is_class(node)
            if isinstance(node, ast.Import):
                return outside and all(is_importable(alias.name, trail) for alias in node.names)
            if isinstance(node, ast.ImportFrom):
                self.lazy = self.lazy or (node.module == "__future__" and node.names[0].name == "annotations")
                names = [alias.name for alias in node.names]
                return outside and node.level == 0 and "*" not in names and is_importable(node.module or "", trail, names)
            if isinstance(node, ast.Assign):
                return all(isinstance(target, ast.Name) for target in node.targets) and self.is_value(node.value)
            if isinstance(node, ast.AnnAssign):
                return isinstance(node.target, ast.Name) and self.is_annotation(node.annotation) and self.is_value(node.value)
            if isinstance(node, ast.Expr):
                return isinstance(node.value, ast.Constant)
            if isinstance(node, ast.If):
                return ast.unparse(node.test) == "__name__ == '__main__'" and not node.orelse
            return isinstance(node, ast.Pass)

    def is_importable(name, trail, members=()):
        if name in found:
            return is_fixed(name, trail)
        # Getting a member may import a module, or run code of a package, when it is not there yet.
        module = known.get(name)
        return name == "__future__" or (module is not None and all(member in vars(module) for member in members))

    def is_fixed(name, trail):
        if name in trail:
            return True
        module = Module(found[name])
        return all(module.is_statement(node, trail | {name}) for node in module.body)

    names = []
    for name in found:
        try:
            if name not in known and is_fixed(name, frozenset()):
                names.append(name)
        except RecursionError:
            continue
    return names
