"""What the fork server does (zygote.py): it waits for runs, and becomes them."""


def serve():
    import sys

    before = set(sys.modules)
    import ctypes
    import gc
    import os

    own = set(sys.modules) - before
    library, script, root = sys.argv[1:4]
    lib = ctypes.CDLL(library)
    argc, arg, envc, env = (getattr(lib, f"skillscale_zygote_{name}") for name in ("argc", "arg", "envc", "env"))
    arg.restype = env.restype = ctypes.c_char_p
    python = ctypes.PyDLL(library)
    begin, run, fork, rehearsing = (getattr(python, f"skillscale_zygote_{name}") for name in ("begin", "run", "fork", "rehearsing"))
    begin.argtypes = run.argtypes = [ctypes.py_object] * 3
    begin.restype = run.restype = None
    if lib.skillscale_zygote_open() != 0:
        return None
    said = connect_streams(os)
    descriptors = len(os.listdir("/proc/self/fd"))
    told = look(os, script, root, said)
    if told is None:
        return None
    compiled, expressions, modules, beside, names = told

    # Nothing of the skill's folder is found by these imports, nor by those that they make.
    del sys.path[0]
    read = []
    lookup = type(os.environ).__getitem__
    type(os.environ).__getitem__ = lambda self, key: (read.append(key), lookup(self, key))[1]
    for name in modules:
        try:
            __import__(name)
        except BaseException:
            return None
    import_later()
    compile_expressions(expressions)
    type(os.environ).__getitem__ = lookup
    at_import = {key: os.environ.get(key) for key in read}
    # The script may import these anew, as if nobody had.
    hidden = own - {"os", "gc", *modules}
    if set(names) & {name.partition(".")[0] for name in sys.modules if name not in hidden}:
        # The script may mean its own in the place of what is imported.
        return None
    for name in hidden:
        sys.modules.pop(name, None)
    stamp, code = compiled.get(script, (None, None))
    keep_compiled(os, compiled)
    # What a script finds first in its path is its own folder.
    sys.path.insert(0, os.path.dirname(script))
    find = finder(os.path.dirname(script))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if said() > 0 or len(os.listdir("/proc/self/task")) > 1 or len(os.listdir("/proc/self/fd")) > descriptors:
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
    random = sys.modules.get("random")
    generators = [] if random is None else [item for item in gc.get_objects() if isinstance(item, random.Random)]
    # To free them is to write to what they are made of.
    del before, own, hidden, names, told, expressions, random
    gc.collect()
    gc.freeze()

    def become():
        """What a child can do of a run before it comes."""
        begin(code, prepare(script), ending(lib, loaded))
        renew(generators)
        for name in beside:
            find(name)

    if rehearsing() == 0:
        try:
            become()
            rehearse(lambda: True, script, accept, modules, code, loaded, steps)
        finally:
            lib.skillscale_zygote_rehearsed()
    if lib.skillscale_zygote_ready() != 0:
        return None
    while lib.skillscale_zygote_wait() == 1:
        pid = fork()
        if pid == 0:
            lib.skillscale_zygote_enter()
            become()
            if not lib.skillscale_zygote_owns_memory():
                rehearse(lib.skillscale_zygote_waiting, script, accept, modules, code, loaded, steps)
            lib.skillscale_zygote_take()
            renew_input(os)
            argv = [os.fsdecode(arg(i)) for i in range(argc())]
            accepted = accept(argv, [env(i) for i in range(envc())])
            # What was compiled may have changed since, and modules are read anew.
            if not accepted or code is None or stamp_of(os, script) != stamp:
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
        # Not the method of a subclass, which may do anything.
        sys.modules["random"].Random.seed(generator)
    threading = sys.modules.get("threading")
    if threading is not None:
        threading.main_thread()._set_native_id()
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
        for name in modules:
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


def finder(folder):
    """What finds the modules in a folder. It looks again when the folder has changed."""
    import sys

    for hook in sys.path_hooks:
        try:
            found = sys.path_importer_cache[folder] = hook(folder)
        except ImportError:
            continue
        return found.find_spec
    return lambda name: None


def compile_expressions(expressions):
    """Fills the cache of regular expressions, where the modules of the skill find theirs."""
    import sys

    re = sys.modules.get("re")
    if re is None:
        return
    before = set(sys.modules)
    import warnings

    for pattern, flags in expressions:
        try:
            with warnings.catch_warnings():
                # What is warned of, a run has to be warned of.
                warnings.simplefilter("error")
                re.compile(pattern, flags)
        except BaseException:
            continue
    for name in set(sys.modules) - before:
        del sys.modules[name]


def look(os, script, root, said):
    """What trial.py tells, run by a child. None if it failed, or if runs have to start cold."""
    import marshal
    import sys

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            names = {"__name__": "trial"}
            with open(os.path.join(os.path.dirname(sys.argv[0]), "trial.py"), "rb") as file:
                exec(file.read(), names)
            del sys.path[0]
            with open(writer, "wb") as file:
                file.write(marshal.dumps(names["look"](script, root, said)))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as file:
        told = file.read()
    _, status = os.waitpid(pid, 0)
    said()
    return marshal.loads(told) if status == 0 else None


def stream(descriptor, like):
    """A standard stream, as the interpreter makes it, with the encoding of another one."""
    import io

    reads = descriptor == 0
    binary = open(descriptor, "rb" if reads else "wb", closefd=False)
    binary.raw.name = like.name
    text = io.TextIOWrapper(binary, like.encoding, like.errors, newline="\n", line_buffering=like.line_buffering)
    text.mode = "r" if reads else "w"
    return text


def connect_streams(os):
    """Makes streams for pipes, which cannot be rewound. Returns what tells how much was written to them since it was asked last."""
    import sys

    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    empty = os.dup(0)
    for descriptor, file in ((0, reader), (1, writer), (2, writer)):
        os.dup2(file, descriptor)
    sys.stdin, sys.stdout, sys.stderr = (stream(descriptor, like) for descriptor, like in enumerate((sys.stdin, sys.stdout, sys.stderr)))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    os.dup2(empty, 0)

    def said():
        try:
            return len(os.read(reader, 1 << 16))
        except BlockingIOError:
            return 0

    return said


def renew_input(os):
    """Makes the standard input of a run anew where it is no pipe."""
    import stat
    import sys

    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        sys.stdin = sys.__stdin__ = stream(0, sys.stdin)


def stamp_of(os, path):
    """What another content of a file changes, as trial.py tells it of what it compiled."""
    about = os.stat(path)
    return about.st_mtime_ns, about.st_size


def keep_compiled(os, compiled):
    """Lets imports of these files take the code that is there, as they would take that of a `__pycache__`."""
    from importlib.machinery import SourceFileLoader

    read = SourceFileLoader.get_code

    def get_code(self, name):
        known = compiled.get(self.get_filename(name))
        if known is not None:
            try:
                if stamp_of(os, self.path) == known[0]:
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
    if "__mp_main__" in sys.modules:
        sys.modules["__mp_main__"] = main
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


def ending(lib, loaded):
    """What does what the interpreter does when a script ended: with an exception first, if it ended with one, then with None.

    It trusts nothing that a script may have changed: what it needs is bound before."""
    import _io
    import atexit
    import gc
    import sys
    from _weakref import ref

    modules = sys.modules
    collect, get_objects, run_exit_functions = gc.collect, gc.get_objects, atexit._run_exitfuncs
    texts, buffers = {_io.TextIOWrapper}, {_io.BufferedWriter, _io.BufferedRandom}
    leave, write = lib.skillscale_zygote_leave, lib.skillscale_zygote_show
    status = 0
    interrupted = False

    def is_open(stream):
        try:
            return stream is not None and not stream.closed
        except BaseException:
            # Who does not tell is open.
            return stream is not None

    def unraisable(error, where):
        """What is told of an exception that nobody catches: without this file in its trace."""
        error.__traceback__ = error.__traceback__.tb_next
        return error, where

    def flush_streams():
        """Flushes both, and returns for each that failed what is told of it."""
        failed = []
        for name in ("stdout", "stderr"):
            stream = sys.__dict__.get(name)
            if not is_open(stream):
                continue
            try:
                stream.flush()
            except BaseException as error:
                failed.append(unraisable(error, stream) if name == "stdout" else None)
        return failed

    def flush_files(items):
        files = [item for item in items if type(item) in texts or type(item) in buffers]
        for kinds in (texts, buffers):
            for stream in files:
                if type(stream) in kinds and is_open(stream):
                    try:
                        stream.flush()
                    except BaseException:
                        # Nobody is left to be told.
                        continue

    def finalize(items):
        """Finalizes what modules of the fork server hold of a run."""
        finalizers = dict.fromkeys((type(finishing), *texts, *buffers))
        for item in items:
            kind = type(item)
            if kind not in finalizers:
                finalizers[kind] = getattr(kind, "__del__", None)
            if finalizers[kind] is not None:
                try:
                    finalizers[kind](item)
                except BaseException as error:
                    yield unraisable(error, finalizers[kind])

    def finish():
        """Yields what is told of, and at last whether a stream could not be flushed."""
        threading = modules.get("threading")
        if threading is not None:
            try:
                threading._shutdown()
            except BaseException as error:
                yield unraisable(error, threading)
        try:
            run_exit_functions()
        except BaseException:
            # They were told of.
            pass
        failed = flush_streams()
        yield from filter(None, failed)
        for name in ("path", "argv", "ps1", "ps2", "last_exc", "last_type", "last_value", "last_traceback", "meta_path", "path_hooks"):
            sys.__dict__[name] = None
        for name in ("stdin", "stdout", "stderr"):
            sys.__dict__[name] = sys.__dict__.get(f"__{name}__")
        # A collection may close what a file writes to before the file.
        flush_files(get_objects())
        left = []
        for name in [name for name in modules if name == "__main__" or name not in loaded]:
            try:
                left.append(ref(modules[name]))
            except TypeError:
                # Anything may be in the place of a module.
                pass
            modules[name] = None
        collect()
        # Of a module that somebody holds the names go, one by one.
        for module in left:
            names = getattr(module(), "__dict__", None)
            if type(names) is not dict:
                continue
            for hidden in (True, False):
                for name in list(names):
                    if name != "__builtins__" and (name[:1] == "_" and name[1:2] != "_") is hidden:
                        names[name] = None
        items = get_objects()
        yield from finalize(items)
        flush_files(items)
        flush_streams()
        yield len(failed) > 0

    finishing = finish()

    def proceed():
        """Returns what is to be told of, until it leaves."""
        try:
            told = next(finishing)
        except BaseException:
            # What could not be done is left.
            told = False
        if isinstance(told, tuple):
            return told
        leave(120 if told else status & 0xFF, interrupted)

    def show(code):
        target = sys.__dict__.get("stderr")
        if target is None:
            write(f"{code}\n".encode())
            return
        for text in (lambda: str(code), lambda: "\n"):
            try:
                target.write(text())
            except BaseException:
                # Nobody is left to be told.
                continue

    def end(error):
        """Tells whether the exception is still to be shown. Without one, what to tell of before it is called again."""
        nonlocal interrupted, status

        if error is None:
            return proceed()
        for name in ("stderr", "stdout"):
            try:
                sys.__dict__[name].flush()
            except BaseException:
                pass
        status = 1
        interrupted = isinstance(error, KeyboardInterrupt)
        if not isinstance(error, SystemExit):
            return True
        if error.code is None:
            status = 0
        elif isinstance(error.code, int):
            status = error.code if -(2**63) <= error.code < 2**63 else -1
        else:
            show(error.code)
        return False

    return end
