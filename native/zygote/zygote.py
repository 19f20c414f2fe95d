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

    # What a script finds first in its path is its own folder.
    sys.path[0] = os.path.dirname(script)
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
    compiled = compile_folder(os, os.path.dirname(script))
    code = compiled.get(script, (None, None))[1]
    keep_compiled(os, compiled)
    import_own(script, modules.split(","))
    if len(os.listdir("/proc/self/task")) > 1 or len(os.listdir("/proc/self/fd")) > descriptors:
        return None

    # The script may import these anew, as if nobody had.
    for name in own - {"os", "gc"}:
        if name not in modules.split(","):
            sys.modules.pop(name, None)
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
                name, _, value = entry.partition(b"=")
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


def import_own(script, modules):
    """Imports the modules of the skill beside the script whose code, as far as it runs on import, is the same in every run.

    That is told by what it is made of, never by trying: definitions, imports of modules that are imported already or of this
    kind, and values that are computed from constants alone.
    """
    import ast
    import os
    import sys

    pure_calls = {
        "re.compile", "frozenset", "set", "dict", "list", "tuple", "len", "range", "str", "int", "float", "bool",
        "min", "max", "sum", "sorted", "zip", "enumerate", "ord", "chr", "round", "abs", "namedtuple",
        "collections.namedtuple", "collections.OrderedDict", "OrderedDict", "timedelta", "datetime.timedelta",
        "Decimal", "decimal.Decimal", "Fraction", "fractions.Fraction", "TypeVar", "typing.TypeVar", "field",
        "str.maketrans", "bytes", "bytes.fromhex", "struct.Struct", "dataclass", "dataclasses.dataclass",
    }
    pure_decorators = {
        "dataclass", "dataclasses.dataclass", "staticmethod", "classmethod", "property", "functools.lru_cache",
        "lru_cache", "functools.cache", "cache", "functools.wraps", "contextmanager", "contextlib.contextmanager",
        "abstractmethod", "abc.abstractmethod", "functools.total_ordering", "total_ordering",
    }
    pure_nodes = (
        ast.Constant, ast.Name, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare,
        ast.IfExp, ast.JoinedStr, ast.FormattedValue, ast.Subscript, ast.Slice, ast.Starred, ast.Lambda, ast.keyword,
        ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context, ast.ListComp, ast.SetComp, ast.DictComp,
        ast.GeneratorExp, ast.comprehension, ast.Attribute,
    )
    known = set(filter(None, modules)) | set(sys.builtin_module_names)
    found = {}
    folder, own_name = os.path.split(script)
    for name in sorted(os.listdir(folder)):
        if name == own_name:
            continue
        if name.endswith(".py") and name[:-3].isidentifier() and name != "__init__.py":
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    found[name[:-3]] = ast.parse(file.read())
            except (OSError, SyntaxError, ValueError, RecursionError):
                continue

    def dotted(node):
        return ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""

    def is_pure(node):
        if node is None:
            return True
        if isinstance(node, ast.Call):
            arguments = [*node.args, *[keyword.value for keyword in node.keywords]]
            return dotted(node.func) in pure_calls and all(map(is_pure, arguments))
        if isinstance(node, ast.Lambda):
            return all(map(is_pure, [*node.args.defaults, *node.args.kw_defaults]))
        if isinstance(node, ast.Attribute):
            root = dotted(node).split(".")[0]
            return root not in ("os", "sys", "") and is_pure(node.value)
        return isinstance(node, pure_nodes) and all(map(is_pure, ast.iter_child_nodes(node)))

    def is_decorator(node):
        return dotted(node.func if isinstance(node, ast.Call) else node) in pure_decorators

    def is_importable(name, trail):
        top = name.split(".")[0]
        if name in known or top in known or top == "__future__":
            return True
        return top in found and is_fixed(top, trail)

    def is_statement(node, trail):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = [*node.args.defaults, *node.args.kw_defaults]
            return all(map(is_pure, given)) and all(map(is_decorator, node.decorator_list))
        if isinstance(node, ast.ClassDef):
            heads = [*node.bases, *[keyword.value for keyword in node.keywords]]
            return (
                all(dotted(head) != "" or is_pure(head) for head in heads)
                and all(map(is_decorator, node.decorator_list))
                and all(is_statement(inner, trail) for inner in node.body)
            )
        if isinstance(node, ast.Import):
            return all(is_importable(alias.name, trail) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            return node.level == 0 and node.module is not None and is_importable(node.module, trail)
        if isinstance(node, ast.Assign):
            return all(isinstance(target, (ast.Name, ast.Tuple)) for target in node.targets) and is_pure(node.value)
        if isinstance(node, ast.AnnAssign):
            return isinstance(node.target, ast.Name) and is_pure(node.value)
        if isinstance(node, ast.Expr):
            return isinstance(node.value, ast.Constant)
        if isinstance(node, ast.If):
            return ast.unparse(node.test) == "__name__ == '__main__'" and not node.orelse
        return isinstance(node, ast.Pass)

    def is_fixed(name, trail):
        if name in trail:
            return True
        return all(is_statement(node, trail | {name}) for node in found[name].body)

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
