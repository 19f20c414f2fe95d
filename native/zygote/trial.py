"""What the fork server (zygote.py) wants to know of a skill: its modules, compiled, and which imports it may do ahead.

A child of it runs this file, tells the result and ends. It imports what the script imports, and sees whether that is nothing
but code that a later run would find the same. Modules of the skill are never imported, since they are what a run is about.
"""

import ast
import builtins
import os
import posix
import re
import signal
import sys
import warnings

MOST_FILES = 64
MOST_NAMES = 64
MOST_EXPRESSIONS = 200
MOST_ENTRIES = 20_000
MOST_TRIALS = 8

# Events of the interpreter that change something outside of it, or tell where and when it runs.
OUTSIDE = (
    "fcntl.",
    "ftplib.",
    "http.",
    "imaplib.",
    "mmap.",
    "nntplib.",
    "os.add_dll_directory",
    "os.chdir",
    "os.chflags",
    "os.chmod",
    "os.chown",
    "os.exec",
    "os.fork",
    "os.kill",
    "os.link",
    "os.lockf",
    "os.mkdir",
    "os.posix_spawn",
    "os.putenv",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.setxattr",
    "os.spawn",
    "os.startfile",
    "os.symlink",
    "os.system",
    "os.truncate",
    "os.unsetenv",
    "os.utime",
    "poplib.",
    "pty.",
    "resource.",
    "shutil.",
    "signal.",
    "smtplib.",
    "socket.",
    "sqlite3.",
    "subprocess.",
    "sys.setprofile",
    "sys.settrace",
    "telnetlib.",
    "tempfile.",
    "urllib.",
    "webbrowser.",
)


def compile_folder(folder):
    """The modules beside the script, compiled, with what tells whether a file is still the same."""
    compiled = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__")) and name != "node_modules"]
        for name in names:
            path = os.path.join(parent, name)
            if not name.endswith(".py") or len(compiled) >= MOST_FILES:
                continue
            try:
                about = os.stat(path)
                with open(path, "rb") as file, warnings.catch_warnings():
                    # What the interpreter warns of, it does in every run.
                    warnings.simplefilter("error")
                    code = compile(file.read(), path, "exec", dont_inherit=True)
            except BaseException:
                continue
            compiled[path] = ((about.st_mtime_ns, about.st_size), code)
    return compiled


def own_names(root):
    """What modules of the skill could be named, wherever it puts them in the path. None if that cannot be told."""
    found = set()
    entries = 0
    for parent, folders, names in os.walk(root):
        left_out = (".venv", ".git", "node_modules") if parent == root else ("node_modules",)
        folders[:] = [name for name in folders if name not in left_out]
        if "__init__.py" in names:
            found.add(os.path.basename(parent))
        for name in names:
            entries += 1
            stem, dot, ending = name.partition(".")
            if ending.endswith(("py", "so")):
                found.add(stem)
            elif ending in ("pyc", "pth") or ending.endswith(("zip", "egg", "whl")):
                return None
        if entries > MOST_ENTRIES:
            return None
    return found


def imports(folder, script):
    """The modules that a script is sure to import, also by its own modules; and the names of these."""
    found = []
    beside = []
    seen = set()
    waiting = [script]
    while waiting and len(seen) < MOST_FILES:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            with open(path, "rb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                body = ast.parse(file.read()).body
        except BaseException:
            continue
        for node in body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                path = os.path.join(folder, top)
                if os.path.isfile(f"{path}.py"):
                    waiting.append(f"{path}.py")
                    beside.append(top)
                elif not os.path.isdir(path) and name not in found and name not in ("__future__", "__main__"):
                    found.append(name)
    return found[:MOST_NAMES], beside


def expressions(paths):
    """The regular expressions that are written out in these modules, with their flags. To compile them takes longer than all else."""
    flags = {name: int(getattr(re, name)) for name in ("A", "I", "M", "S", "U", "X")}
    flags.update({name: int(getattr(re, name)) for name in ("ASCII", "IGNORECASE", "MULTILINE", "DOTALL", "UNICODE", "VERBOSE")})
    places = {"compile": 1, "match": 2, "fullmatch": 2, "search": 2, "findall": 2, "finditer": 2, "split": 3, "sub": 4, "subn": 4}

    def of_re(node, names):
        named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "re"
        return node.attr if named and node.attr in names else None

    def value(node):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            left, right = value(node.left), value(node.right)
            return None if left is None or right is None else left | right
        return flags.get(of_re(node, flags))

    found = {}
    for path in paths:
        try:
            with open(path, "rb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(file.read())
        except BaseException:
            continue
        for node in ast.walk(tree):
            name = of_re(node.func, places) if isinstance(node, ast.Call) else None
            if name is None or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            given = [keyword.value for keyword in node.keywords if keyword.arg == "flags"] or node.args[places[name] :][:1]
            flag = value(given[0]) if given else 0
            if flag is not None and isinstance(node.args[0].value, (str, bytes)):
                found[node.args[0].value, flag] = None
    return list(found)[:MOST_EXPRESSIONS]


class Watch:
    """Tells whether an import looked at what belongs to a run, or did more than define things."""

    def __init__(self, output):
        self.seen = False
        self.output = output
        self.main = type(sys)("__main__")
        sys.modules["__main__"] = self.main
        for name in ("argv", "orig_argv"):
            setattr(sys, name, self.watched_list(getattr(sys, name, [])))
        for module in (os, posix):
            for name in ("getcwd", "getcwdb", "getpid", "getppid", "getpgid", "getsid", "times"):
                setattr(module, name, self.watched(getattr(module, name)))
        self.watch_chance()
        self.references = sys.getrefcount(self.main)
        self.kept = self.state()
        sys.addaudithook(self.hear)

    def watched(self, function, exempt=()):
        def called(*given, **named):
            self.seen = self.seen or not self.is_within(exempt)
            return function(*given, **named)

        return called

    def is_within(self, modules):
        frame = sys._getframe(2)
        while frame is not None:
            name = frame.f_globals.get("__name__")
            if isinstance(name, str) and any(name == module or name.startswith(f"{module}.") for module in modules):
                return True
            frame = frame.f_back
        return False

    def watch_chance(self):
        """What is random at an import has to be random in every run, unless it is made anew there (`renew` in serving.py)."""
        for module in (os, posix):
            for name in ("urandom", "getrandom"):
                setattr(module, name, self.watched(getattr(module, name), ("multiprocessing.process", "numpy.random")))
        # Only now, so that it finds these.
        import random

        for name in random.__all__:
            function = getattr(random, name)
            if not isinstance(function, type):
                setattr(random, name, self.watched(function))
        watch = self
        seed = random.Random.seed

        def seeded(self, a=None, *given, **named):
            # One without a seed is made anew.
            watch.seen = watch.seen or a is not None
            return seed(self, a, *given, **named)

        random.Random.seed = seeded

    def watched_list(self, items):
        watch = self

        def method(name):
            real = getattr(list, name)

            def called(self, *given):
                watch.seen = True
                return real(self, *given)

            return called

        kept = {"__class__", "__new__", "__init__", "__del__", "__getattribute__", "__init_subclass__", "__subclasshook__"}
        methods = {name: method(name) for name in dir(list) if callable(getattr(list, name)) and name not in kept}
        return type("list", (list,), methods)(items)

    def state(self):
        hooks = ("excepthook", "displayhook", "unraisablehook", "breakpointhook", "stdin", "stdout", "stderr")
        return [
            [id(getattr(sys, name, None)) for name in hooks],
            [list(sys.path), list(map(id, sys.meta_path)), list(map(id, sys.path_hooks)), sys.gettrace(), sys.getprofile()],
            [signal.getitimer(timer) for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
            [id(builtins.__import__), id(builtins.open), id(builtins.print), len(vars(builtins))],
        ]

    def hear(self, event, given):
        if event == "open":
            path, _, flags = given
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) != 0
            self.seen = self.seen or writes or (isinstance(path, str) and not path.startswith("/"))
        elif event in ("os.listdir", "os.scandir", "os.walk"):
            self.seen = self.seen or not str(given[0]).startswith("/")
        elif event.startswith(OUTSIDE):
            self.seen = True

    def noticed(self):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # It is what multiprocessing makes of it.
        sys.modules.pop("__mp_main__", None)
        kept = sys.getrefcount(self.main) > self.references or sys.modules.get("__main__") is not self.main
        return self.seen or kept or self.state() != self.kept or self.output() > 0


def first_bad(names, output):
    """The first of these imports that may not be done ahead, or None."""
    watch = Watch(output)
    for name in names:
        try:
            # As the script does it, for what is warned of in a script alone.
            exec(f"import {name}", {"__name__": "__main__"})
        except BaseException:
            return name
        if watch.noticed():
            return name
    return None


def in_child(function):
    """What a function returns, text or None, in a process of its own. Raises if that ended otherwise."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            told = function()
            os.write(writer, b"" if told is None else told.encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as file:
        told = file.read().decode()
    if os.waitpid(pid, 0)[1] != 0:
        raise ChildProcessError
    return told or None


def look(script, root, output):
    """The compiled modules, their regular expressions, the imports to do ahead, the skill's own modules among the imports, and all that
    modules of the skill are named; None if runs have to start cold."""
    folder = os.path.dirname(script)
    own = own_names(root)
    if own is None:
        return None
    names, beside = imports(folder, script)
    for _ in range(MOST_TRIALS):
        bad = in_child(lambda: first_bad(names, output))
        output()
        if bad is None:
            compiled = compile_folder(folder)
            return compiled, expressions(compiled), names, beside, sorted(own)
        names.remove(bad)
    return None
