"""Collect what each scope of a module binds, and resolve every use of a name to its binding."""

import ast

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
TRIES = tuple(getattr(ast, name) for name in ("Try", "TryStar") if hasattr(ast, name))
TYPE_ALIAS = getattr(ast, "TypeAlias", ())

# Calls that read or run names which the syntax tree does not show.
DYNAMIC = frozenset(["locals", "vars", "eval", "exec", "dir"])
TYPE_CALLS = frozenset(["cast", "TypeVar", "NewType", "ForwardRef", "NamedTuple", "TypedDict", "ParamSpec"])


class Binding:
    def __init__(self, kind, name, node, scope, **details):
        self.kind = kind
        self.name = name
        self.node = node
        self.scope = scope
        self.used = False
        self.details = details


class Scope:
    def __init__(self, kind, node, parent):
        self.kind = kind
        self.node = node
        self.parent = parent
        self.bindings = {}
        self.uses = set()
        self.outer = {}
        self.dynamic = False
        self.children = []
        if parent is not None:
            parent.children.append(self)

    def inside(self, node):
        scope = self
        while scope is not None:
            if scope.node is node:
                return True
            scope = scope.parent
        return False


class Module(ast.NodeVisitor):
    """The scopes, strings, attributes and exports of one source file."""

    def __init__(self, tree, name, executable):
        self.name = name
        self.tree = tree
        self.root = Scope("module", tree, None)
        self.scopes = [self.root]
        self.scope = self.root
        self.exported = None
        self.attributes = set()
        self.strings = set()
        self.words = set()
        self.called = set()
        self.values = set()
        self.imported_names = set()
        self.has_main_guard = False
        self.optional = 0
        self.type_checking = 0
        self.seen_code = False
        for statement in tree.body:
            self.visit(statement)
            if not is_preamble(statement):
                self.seen_code = True
        self.is_script = executable and self.has_main_guard
        self.resolve()

    def bind(self, kind, name, node, **details):
        scope = self.scope
        while scope.kind == "comprehension":
            scope = scope.parent
        target = scope.outer.get(name)
        if target == "global":
            scope, kind = self.root, "shared"
        elif target == "nonlocal":
            kind = "shared"
            scope = scope.parent
            while scope is not None and (scope.kind == "class" or name not in scope.bindings):
                scope = scope.parent
            scope = scope or self.root
        scope.bindings.setdefault(name, []).append(Binding(kind, name, node, scope, **details))

    def within(self, kind, node, visit):
        outer, self.scope = self.scope, Scope(kind, node, self.scope)
        self.scopes.append(self.scope)
        visit()
        self.scope = outer

    def visit_all(self, nodes):
        for node in nodes:
            if node is not None:
                self.visit(node)

    def resolve(self):
        for scope in self.scopes:
            for name in scope.uses:
                self.mark(scope, name)
            if scope.dynamic:
                while scope is not None:
                    for bindings in scope.bindings.values():
                        for binding in bindings:
                            binding.used = True
                    scope = scope.parent

    def mark(self, start, name):
        scope = self.root if start.outer.get(name) == "global" else start
        while scope is not None:
            found = scope.bindings.get(name) if scope is start or scope.kind != "class" else None
            if found and not (scope is start and scope.outer.get(name)):
                for binding in found:
                    recursive = isinstance(binding.node, FUNCTIONS + (ast.ClassDef,)) and start.inside(binding.node)
                    if not recursive or len(found) > 1:
                        binding.used = True
                if scope.kind != "class":
                    return
            scope = scope.parent

    def type_text(self, node):
        """Count the names inside a quoted annotation as used."""
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                try:
                    parsed = ast.parse(part.value.strip(), mode="eval")
                except (SyntaxError, ValueError, RecursionError, MemoryError):
                    continue
                for name in ast.walk(parsed):
                    if isinstance(name, ast.Name):
                        self.scope.uses.add(name.id)
                    elif isinstance(name, ast.Attribute):
                        self.attributes.add(name.attr)

    def annotation(self, node):
        if node is not None:
            self.visit(node)
            self.type_text(node)

    def visit_Import(self, node):
        for alias in node.names:
            self.bind_import(node, alias, alias.asname or alias.name.split(".")[0], "")

    def visit_ImportFrom(self, node):
        origin = "." * node.level + (node.module or "")
        for alias in node.names:
            self.imported_names.add(alias.name)
            if node.module != "__future__" and alias.name != "*":
                self.bind_import(node, alias, alias.asname or alias.name, origin)

    def bind_import(self, node, alias, name, origin):
        self.bind(
            "import",
            name,
            alias if hasattr(alias, "lineno") else node,
            statement=node,
            alias=alias,
            origin=origin,
            optional=self.optional > 0,
            type_checking=self.type_checking > 0,
            late=self.seen_code and self.scope is self.root,
        )

    def visit_FunctionDef(self, node):
        self.visit_all(node.decorator_list)
        self.visit_all(node.args.defaults + node.args.kw_defaults)
        kind = "method" if self.scope.kind == "class" else "function"
        self.bind(kind, node.name, node)

        def visit():
            self.visit_all(getattr(node, "type_params", []))
            arguments = node.args
            every = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
            for argument in every:
                self.bind("argument", argument.arg, argument, function=node, owner=kind)
            for argument in (arguments.vararg, arguments.kwarg):
                if argument is not None:
                    self.bind("rest", argument.arg, argument)
            for argument in every + [arguments.vararg, arguments.kwarg]:
                if argument is not None:
                    self.annotation(argument.annotation)
            self.annotation(node.returns)
            self.visit_all(node.body)

        self.within("function", node, visit)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node):
        self.visit_all(node.args.defaults + node.args.kw_defaults)

        def visit():
            arguments = node.args
            for argument in arguments.posonlyargs + arguments.args + arguments.kwonlyargs:
                self.bind("rest", argument.arg, argument)
            for argument in (arguments.vararg, arguments.kwarg):
                if argument is not None:
                    self.bind("rest", argument.arg, argument)
            self.visit(node.body)

        self.within("function", node, visit)

    def visit_ClassDef(self, node):
        self.visit_all(node.decorator_list)
        self.bind("class", node.name, node)

        def visit():
            self.visit_all(getattr(node, "type_params", []))
            for base in node.bases:
                self.visit(base)
                self.type_text(base)
            self.visit_all([keyword.value for keyword in node.keywords])
            self.visit_all(node.body)

        self.within("class", node, visit)

    def visit_comprehension_scope(self, node):
        first = node.generators[0]
        self.visit(first.iter)

        def visit():
            for generator in node.generators:
                if generator is not first:
                    self.visit(generator.iter)
                for name in ast.walk(generator.target):
                    if isinstance(name, ast.Name):
                        self.scope.bindings.setdefault(name.id, []).append(
                            Binding("rest", name.id, name, self.scope)
                        )
                    elif isinstance(name, (ast.Attribute, ast.Subscript)):
                        self.visit(name)
                self.visit_all(generator.ifs)
            if isinstance(node, ast.DictComp):
                self.visit_all([node.key, node.value])
            else:
                self.visit(node.elt)

        self.within("comprehension", node, visit)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_comprehension_scope

    def visit_Global(self, node):
        self.scope.outer.update((name, "global") for name in node.names)

    def visit_Nonlocal(self, node):
        self.scope.outer.update((name, "nonlocal") for name in node.names)

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Store):
            self.bind("other", node.id, node)
        else:
            self.scope.uses.add(node.id)
            self.values.add(node.id)

    def visit_Attribute(self, node):
        self.attributes.add(node.attr)
        self.visit(node.value)

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.strings.add(node.value)
            if len(node.value) < 10000:
                self.words.update(node.value.replace(".", " ").replace("[", " ").replace("]", " ").split())

    def visit_Call(self, node):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if isinstance(node.func, ast.Name):
            self.scope.uses.add(name)
            self.called.add(name)
            if name in DYNAMIC and not (name in ("vars", "dir") and node.args):
                self.scope.dynamic = True
        else:
            self.visit(node.func)
        if name in TYPE_CALLS:
            self.type_text(node)
        self.visit_all(node.args)
        self.visit_all([keyword.value for keyword in node.keywords])

    def visit_Subscript(self, node):
        self.visit(node.value)
        self.visit(node.slice)
        self.type_text(node.slice)

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if isinstance(node.op, ast.BitOr):
            self.type_text(node)

    def visit_Assign(self, node):
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name):
                if target.id == "__all__":
                    self.export(node.value)
                self.bind("variable", target.id, target)
            else:
                self.visit(target)

    def visit_AnnAssign(self, node):
        self.annotation(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            if is_type_alias(node.annotation):
                self.type_text(node.value)
        if isinstance(node.target, ast.Name):
            if node.target.id == "__all__" and node.value is not None:
                self.export(node.value)
            self.bind("variable" if node.value is not None else "other", node.target.id, node.target)
        else:
            self.visit(node.target)

    def visit_AugAssign(self, node):
        self.visit(node.value)
        if isinstance(node.target, ast.Name):
            if node.target.id == "__all__":
                self.export(node.value)
            self.scope.uses.add(node.target.id)
            self.bind("other", node.target.id, node.target)
        else:
            self.visit(node.target)

    def visit_Expr(self, node):
        call = node.value
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id == "__all__"
        ):
            for argument in call.args:
                self.export(argument)
        self.visit(call)

    def visit_NamedExpr(self, node):
        self.visit(node.value)
        self.bind("variable", node.target.id, node.target)

    def visit_ExceptHandler(self, node):
        if node.type is not None:
            self.visit(node.type)
        if node.name is not None:
            self.bind("exception", node.name, node)
        self.visit_all(node.body)

    def visit_try(self, node):
        guarded = any(handles_import_error(handler) for handler in node.handlers)
        self.optional += guarded
        self.visit_all(node.body)
        self.visit_all(node.handlers)
        self.visit_all(node.orelse + node.finalbody)
        self.optional -= guarded

    visit_Try = visit_TryStar = visit_try

    def visit_If(self, node):
        self.visit(node.test)
        names = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(node.test)}
        if "__name__" in names and self.scope is self.root:
            self.has_main_guard = True
        typing_only = "TYPE_CHECKING" in names
        self.type_checking += typing_only
        self.visit_all(node.body)
        self.type_checking -= typing_only
        self.visit_all(node.orelse)

    def visit_MatchAs(self, node):
        if node.pattern is not None:
            self.visit(node.pattern)
        if node.name is not None:
            self.bind("other", node.name, node)

    def visit_MatchStar(self, node):
        if node.name is not None:
            self.bind("other", node.name, node)

    def visit_MatchMapping(self, node):
        self.generic_visit(node)
        if node.rest is not None:
            self.bind("other", node.rest, node)

    def export(self, value):
        """Collect the strings of an `__all__`; other parts of it are taken as unknown."""
        self.exported = self.exported or set()
        for part in ast.walk(value):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                self.exported.add(part.value)


def is_type_alias(annotation):
    return getattr(annotation, "id", getattr(annotation, "attr", "")) == "TypeAlias"


def handles_import_error(handler):
    if handler.type is None:
        return True
    names = {getattr(part, "id", getattr(part, "attr", "")) for part in ast.walk(handler.type)}
    return bool(names & {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


def is_preamble(statement):
    """Tell whether imports usually still follow this statement of a module."""
    if isinstance(statement, (ast.Import, ast.ImportFrom, ast.If, ast.Expr) + TRIES):
        return True
    if isinstance(statement, ast.Assign):
        return not isinstance(statement.value, ast.Call)
    return isinstance(statement, ast.AnnAssign)
