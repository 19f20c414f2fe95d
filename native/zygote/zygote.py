"""The Python fork server of one skill script: `zygote.py LIBRARY SCRIPT MODULES`.

It has the interpreter up, the modules imported that the script imports first of all, and the script compiled. For every run
it forks a child, which becomes the run by the code of LIBRARY (zygote.cc) and then executes the script as `__main__`, with
everything that a program can see as in a cold start. Nothing of a run is left in it: it never executes the script itself.

What cannot be carried over a fork (threads, open descriptors) makes it give up, and runs start cold.
"""


def serve(compile_folder, keep_compiled, import_own, import_later, prepare, rehearse):
    import sys

    before = set(sys.modules)
    import ast
    import ctypes
    import gc
    import os

    own = set(sys.modules) - before
    library, script, modules = sys.argv[1:4]
    lib = ctypes.CDLL(library)
    lib.skillscale_zygote_arg.restype = ctypes.c_char_p
    lib.skillscale_zygote_env.restype = ctypes.c_char_p
    if lib.skillscale_zygote_open() != 0:
        return None
    descriptors = len(os.listdir("/proc/self/fd"))

    # Nothing of the skill's folder is found by these imports, nor by those that they make.
    del sys.path[0]
    read = []
    lookup = type(os.environ).__getitem__
    type(os.environ).__getitem__ = lambda self, key: (read.append(key), lookup(self, key))[1]
    for name in filter(None, modules.split(",")):
        try:
            __import__(name)
        except BaseException:
            # The script itself will tell.
            pass
    import_later()
    type(os.environ).__getitem__ = lookup
    at_import = {key: os.environ.get(key) for key in read}
    # The script may import these anew, as if nobody had.
    hidden = own - {"os", "gc", *modules.split(",")}
    folder = os.path.dirname(script)
    beside = {name.partition(".")[0] for name in os.listdir(folder)}
    if beside & {name.partition(".")[0] for name in sys.modules if name not in hidden}:
        # The script would find its own in the place of what is imported.
        return None
    compiled = compile_folder(os, folder)
    code = compiled.get(script, (None, None))[1]
    keep_compiled(os, compiled)
    # What a script finds first in its path is its own folder.
    sys.path.insert(0, folder)
    import_own(folder, os.path.basename(script))
    for name in hidden:
        sys.modules.pop(name, None)
    if len(os.listdir("/proc/self/task")) > 1 or len(os.listdir("/proc/self/fd")) > descriptors:
        return None

    loaded = set(sys.modules)
    gc.collect()
    gc.freeze()
    if lib.skillscale_zygote_ready() != 0:
        return None
    while lib.skillscale_zygote_wait() == 1:
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 11)
        if pid == 0:
            lib.skillscale_zygote_enter()
            names = prepare(script)
            rehearse(os, lib)
            lib.skillscale_zygote_take()
            argv = [os.fsdecode(lib.skillscale_zygote_arg(i)) for i in range(lib.skillscale_zygote_argc())]
            env = [lib.skillscale_zygote_env(i) for i in range(lib.skillscale_zygote_envc())]
            os.environb.clear()
            for entry in env:
                name, separator, value = entry.partition(b"=")
                if name and separator:
                    os.environb[name] = value
            if any(os.environ.get(key) != value for key, value in at_import.items()):
                # A module saw another environment when it was imported than this run has.
                os.execv(sys.executable, argv)
            return code, argv, loaded, names
        if lib.skillscale_zygote_started(pid) != 0:
            return None
    return None


def rehearse(os, lib):
    """Does in the child what most scripts begin with, until its run comes: what is written to after a fork has to be copied."""
    import sys

    def strings():
        environ = os.environb
        for name, value in list(environ.items()):
            environ[name] = value
        [os.fsdecode(lib.skillscale_zygote_arg(i)) for i in range(lib.skillscale_zygote_argc())]
        "{}{:.2f}{!r}".format("a", 1.5, "b").encode("utf-8", "backslashreplace").partition(b"=")

    def arguments():
        if "argparse" not in sys.modules:
            return
        import argparse

        parser = argparse.ArgumentParser(prog="", description="")
        parser.add_argument("file", nargs="?", default="-", help="")
        parser.add_argument("--kind", choices=["a", "b"], default="a", help="")
        parser.add_argument("--count", type=int, default=1, metavar="N", help="")
        parser.add_argument("--flag", action="store_true", help="")
        parser.parse_args([])

    def formats():
        import io

        io.TextIOWrapper(io.BytesIO(b"a\n"), encoding="utf-8").read()
        if "json" in sys.modules:
            import json

            json.loads(json.dumps({"a": [1, 2.5, None, True, "b"]}, indent=2))
        if "csv" in sys.modules:
            import csv

            list(csv.reader(["a,b"]))

    for step in (strings, arguments, formats):
        if lib.skillscale_zygote_waiting():
            step()


def import_later():
    """Does ahead what modules of the standard library put off to their first use, and every script that uses them pays for."""
    import sys

    if "argparse" in sys.modules:
        import argparse
        import gettext
        import locale
        import shutil

        # Its regular expressions stay compiled.
        argparse.ArgumentParser(prog="").add_argument("file")
    if "io" in sys.modules or "csv" in sys.modules:
        import encodings.utf_8_sig


def compile_folder(os, folder, most=64):
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


def keep_compiled(os, compiled):
    """Lets imports of these files take the code that is there, as they would take that of a `__pycache__`."""
    from importlib.machinery import SourceFileLoader

    read = SourceFileLoader.get_code

    def get_code(self, name):
        known = compiled.get(self.get_filename(name))
        if known is not None:
            try:
                about = os.stat(self.path)
                if (about.st_mtime_ns, about.st_size) == known[0]:
                    return known[1]
            except OSError:
                pass
        return read(self, name)

    SourceFileLoader.get_code = get_code


def import_own(folder, script):
    """Imports the modules of the skill beside the script that run no code of the skill when they are imported.

    That is told by what they are made of, never by trying: imports of what is imported already or of this kind, definitions
    without anything that is called, and values made of constants, frozen sets and compiled expressions among them.
    """
    import ast
    import builtins
    import os
    import sys

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
        module = sys.modules.get(name)
        return name == "__future__" or (module is not None and all(member in vars(module) for member in members))

    def is_fixed(name, trail):
        if name in trail:
            return True
        module = Module(found[name])
        return all(module.is_statement(node, trail | {name}) for node in module.body)

    for name in found:
        try:
            if name not in sys.modules and is_fixed(name, frozenset()):
                __import__(name)
        except BaseException:
            continue


def prepare(script):
    """Makes `__main__` what it is when the interpreter runs a file."""
    import sys
    from importlib.machinery import SourceFileLoader

    main = sys.modules["__main__"]
    names = main.__dict__
    names.clear()
    names.update(
        __name__="__main__",
        __doc__=None,
        __package__=None,
        __loader__=SourceFileLoader("__main__", script),
        __spec__=None,
        __annotations__={},
        __builtins__=__import__("builtins"),
        __file__=script,
        __cached__=None,
    )
    return names


def finish(loaded, code):
    """Does what the interpreter does at its end, without taking down what the fork server shares."""
    import sys

    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    import atexit
    import gc
    import os

    atexit._run_exitfuncs()

    def flush(tell):
        failed = False
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None and not stream.closed:
                    stream.flush()
            except BaseException as error:
                failed = True
                if tell and stream is sys.stdout:
                    print(f"Exception ignored in: {stream!r}\n{type(error).__name__}: {error}", file=sys.stderr)
        return failed

    failed = flush(True)
    fresh = [module for name, module in list(sys.modules.items()) if name not in loaded]
    for module in [sys.modules.get("__main__"), *fresh]:
        names = getattr(module, "__dict__", None)
        if names is None:
            continue
        for hidden in (True, False):
            for name in list(names):
                if name != "__builtins__" and (name[:1] == "_" and name[1:2] != "_") is hidden:
                    names[name] = None
    gc.collect()
    flush(False)
    os._exit(120 if failed and code == 0 else code)


def run(served, finish=finish):
    import os
    import sys

    code, argv, loaded, names = served
    sys.argv[:] = argv[1:]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = argv
    status = 0
    try:
        if code is None:
            os.execv(sys.executable, argv)
        exec(code, names)
    except SystemExit as error:
        status = error.code
        if status is None:
            status = 0
        elif not isinstance(status, int):
            try:
                sys.stdout.flush()
            except BaseException:
                pass
            print(status, file=sys.stderr)
            status = 1
    except BaseException as error:
        try:
            sys.stdout.flush()
        except BaseException:
            pass
        trace = error.__traceback__.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        status = 1
        if isinstance(error, KeyboardInterrupt):
            import signal

            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    finish(loaded, status & 0xFF)


def main(
    serve=serve,
    run=run,
    compile_folder=compile_folder,
    keep_compiled=keep_compiled,
    import_own=import_own,
    import_later=import_later,
    prepare=prepare,
    rehearse=rehearse,
):
    served = serve(compile_folder, keep_compiled, import_own, import_later, prepare, rehearse)
    if served is not None:
        run(served)


# What runs is held by defaults, so that clearing `__main__` takes nothing away from it.
main()
