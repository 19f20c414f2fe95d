"""Read and parse Python sources, with one sentence for whatever goes wrong."""

import ast
import io
import sys
import tokenize
import warnings


class InputError(Exception):
    """An input cannot be processed; the message is for the user."""


def read(path):
    name = "<stdin>" if path == "-" else path
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as error:
        raise InputError("cannot read {}: {}; check the path".format(name, error.strerror or error)) from error
    if not data.strip():
        raise InputError("{} is empty; pass Python source on standard input or as FILE".format(name))
    if b"\0" in data:
        raise InputError("{} has a NUL byte at offset {}, so it is not Python source".format(name, data.index(b"\0")))
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            "{} is not valid {} (byte 0x{:02x} at offset {}); convert it or declare its encoding".format(
                name, error.encoding, error.object[error.start], error.start
            )
        ) from error
    except (SyntaxError, LookupError) as error:
        raise InputError("{} is not valid UTF-8 or declares an unknown encoding: {}".format(name, error)) from error


def parse(text, name):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        raise InputError(
            "{}:{}:{}: syntax error: {}; fix it, or run a newer Python if the syntax is new".format(
                name, error.lineno or 1, error.offset or 1, error.msg
            )
        ) from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise InputError("{} is nested too deeply to be parsed; split its expressions".format(name)) from error


def silenced_lines(text):
    """Return the numbers of the lines that carry a `noqa` comment."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return set()
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT and "noqa" in token.string.lower()}
