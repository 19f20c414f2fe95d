"""What the fork server does (zygote.py): it waits for runs, and becomes them."""


def serve():
    import sys

    before = set(sys.modules)
    import ctypes
    import gc
    import os

    own = set(sys.modules) - before
    library, script, modules = sys.argv[1:4]
    lib = ctypes.CDLL(library)
    argc, arg, envc, env = (getattr(lib, f"skillscale_zygote_{name}") for name in ("argc", "arg", "envc", "env"))
    arg.restype = env.restype = ctypes.c_char_p
    begin, run = (getattr(ctypes.PyDLL(library), f"skillscale_zygote_{name}") for name in ("begin", "run"))
    begin.argtypes = run.argtypes = [ctypes.py_object] * 3
    begin.restype = run.restype = None
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
    for name in hidden:
        sys.modules.pop(name, None)
    vetted = vet(os, folder, script)
    if vetted is None:
        return None
    compiled, harmless = vetted
    code = compiled.get(script, (None, None))[1]
    keep_compiled(os, compiled)
    # What a script finds first in its path is its own folder.
    sys.path.insert(0, folder)
    for name in harmless:
        try:
            __import__(name)
        except BaseException:
            continue
    if len(os.listdir("/proc/self/task")) > 1 or len(os.listdir("/proc/self/fd")) > descriptors:
        return None

    loaded = set(sys.modules)

    def accept(argv, env):
        """Takes over what a run comes with. False when a module saw another environment at its import."""
        sys.argv[:] = argv[1:]
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[:] = argv
        os.environb.clear()
        for entry in env:
            name, separator, value = entry.partition(b"=")
            if name and separator:
                os.environb[name] = value
        return all(os.environ.get(key) == value for key, value in at_import.items())

    # Code that was run often is kept in a faster form, which the children then need not make, nor copy what it replaces.
    steps = []
    for step in habits():
        try:
            for _ in range(20):
                step()
            steps.append(step)
        except BaseException:
            # A package changed what it uses.
            continue
    kinds = [sys.modules["random"].Random] if "random" in sys.modules else []
    generators = [item for item in gc.get_objects() if type(item) in kinds]
    # To free them is to write to what they are made of.
    del before, own, hidden, beside, vetted, harmless
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
            begin(code, prepare(script), ending(loaded))
            renew(generators)
            rehearse(lib.skillscale_zygote_waiting, script, accept, modules, code, loaded, steps)
            lib.skillscale_zygote_take()
            argv = [os.fsdecode(arg(i)) for i in range(argc())]
            if not accept(argv, [env(i) for i in range(envc())]) or code is None:
                os.execv(sys.executable, argv)
            return run
        if lib.skillscale_zygote_started(pid) != 0:
            return None
    return None


def renew(generators):
    """Makes random in a child what modules made random when they were imported."""
    import os
    import sys

    for generator in generators:
        generator.seed()
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process()._config["authkey"] = process.AuthenticationString(os.urandom(32))
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def habits():
    """What most scripts do, as functions without an effect."""
    import sys

    def arguments():
        import argparse

        parser = argparse.ArgumentParser(prog="", description="")
        parser.add_argument("file", nargs="?", default="-", help="")
        parser.add_argument("--kind", choices=["a", "b"], default="a", help="")
        parser.add_argument("--count", type=int, default=1, metavar="N", help="")
        parser.add_argument("--flag", action="store_true", help="")
        parser.parse_args([])

    def strings():
        "{}{:.2f}{!r}".format("a", 1.5, "b").encode("utf-8", "backslashreplace").partition(b"=")

    def streams():
        import io

        io.TextIOWrapper(io.BytesIO(b"a\n"), encoding="utf-8").read()

    def records():
        import json

        json.loads(json.dumps({"a": [1, 2.5, None, True, "b"]}, indent=2))

    def tables():
        import csv

        list(csv.reader(["a,b"]))

    needs = {"argparse": arguments, "json": records, "csv": tables}
    return [*[step for name, step in needs.items() if name in sys.modules], strings, streams]


def rehearse(waiting, script, accept, modules, code, loaded, steps):
    """Does in the child what the run will do, until it comes: the first write to each page after a fork costs a copy."""
    import os
    import sys

    def touch(code):
        for value in code.co_consts:
            if type(value) is type(code):
                touch(value)

    def imports():
        for name in filter(None, modules.split(",")):
            if name in sys.modules:
                __import__(name)

    def end():
        [module for name, module in list(sys.modules.items()) if name not in loaded]
        sys.stdout.flush()
        sys.stderr.flush()

    def begin():
        accept(["python3", script], [name + b"=" + value for name, value in os.environb.items()])

    for step in [begin, imports, lambda: code is None or touch(code), end, *steps]:
        if waiting():
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
    import encodings.utf_8_sig


def vet(os, folder, script):
    """What vetting.py tells, run by a child: the skill's modules, compiled, and which of them may be imported. None if it failed."""
    import marshal
    import sys

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            names = {"__name__": "vetting", "known": dict(sys.modules)}
            with open(os.path.join(os.path.dirname(sys.argv[0]), "vetting.py"), "rb") as file:
                exec(file.read(), names)
            found = names["compile_folder"](folder), names["harmless"](folder, os.path.basename(script))
            with open(writer, "wb") as file:
                file.write(marshal.dumps(found))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as file:
        told = file.read()
    _, status = os.waitpid(pid, 0)
    return marshal.loads(told) if status == 0 else None


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


def prepare(script):
    """Makes a `__main__` as it is when the interpreter runs a file."""
    import sys
    from importlib.machinery import SourceFileLoader

    main = sys.modules["__main__"] = type(sys)("__main__")
    names = main.__dict__
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
    import io
    import os
    from _weakref import ref

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
                    what = "on flushing sys.stdout:" if sys.version_info >= (3, 13) else f"in: {stream!r}"
                    print(f"Exception ignored {what}\n{type(error).__name__}: {error}", file=sys.stderr)
        return failed

    def flush_files():
        for kinds in ((io.TextIOWrapper,), (io.BufferedWriter, io.BufferedRandom)):
            for stream in [item for item in gc.get_objects() if type(item) in kinds]:
                try:
                    if not stream.closed:
                        stream.flush()
                except BaseException:
                    # Nobody is left to be told.
                    continue

    failed = flush(True)
    for name in ("path", "argv", "ps1", "ps2", "last_exc", "last_type", "last_value", "last_traceback"):
        sys.__dict__[name] = None
    for name in ("stdin", "stdout", "stderr"):
        sys.__dict__[name] = sys.__dict__.get(f"__{name}__")
    # A collection may close what a file writes to before the file.
    flush_files()
    left = []
    for name in [name for name in sys.modules if name == "__main__" or name not in loaded]:
        try:
            left.append(ref(sys.modules[name]))
        except TypeError:
            # Anything may be in the place of a module.
            pass
        sys.modules[name] = None
    gc.collect()
    # Of a module that somebody holds the names go, one by one.
    for module in left:
        names = getattr(module(), "__dict__", {})
        for hidden in (True, False):
            for name in list(names):
                if name != "__builtins__" and (name[:1] == "_" and name[1:2] != "_") is hidden:
                    names[name] = None
    flush_files()
    flush(False)
    os._exit(120 if failed else code)


def ending(loaded):
    """Does what the interpreter does when a script ended: with an exception first, if it ended with one, then with None."""
    import sys

    status = 0
    interrupted = False

    def end(error):
        """Tells whether the exception is still to be shown."""
        nonlocal interrupted, status

        if error is None:
            if interrupted:
                import os
                import signal

                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGINT)
            finish(loaded, status & 0xFF)
        for stream in (sys.stderr, sys.stdout):
            try:
                stream.flush()
            except BaseException:
                pass
        status = 1
        interrupted = isinstance(error, KeyboardInterrupt)
        if not isinstance(error, SystemExit):
            return True
        if error.code is None:
            status = 0
        elif isinstance(error.code, int):
            status = error.code
        else:
            print(error.code, file=sys.stderr)
        return False

    return end
