"""Find statements that control flow cannot reach."""

import ast

TRIES = tuple(getattr(ast, name) for name in ("Try", "TryStar") if hasattr(ast, name))
MATCH = getattr(ast, "Match", ())
LOOPS = (ast.For, ast.AsyncFor, ast.While)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
JUMPS = {ast.Return: "return", ast.Raise: "raise", ast.Continue: "continue", ast.Break: "break"}


def constant(test):
    """Return the truth of a literal condition, or None."""
    if isinstance(test, ast.Constant) and (test.value is None or isinstance(test.value, (bool, int, float))):
        return bool(test.value)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        value = constant(test.operand)
        return None if value is None else not value
    return None


def has_break(body):
    """Tell whether a `break` in these statements leaves the loop they belong to."""
    for node in body:
        if isinstance(node, ast.Break):
            return True
        if isinstance(node, SCOPES):
            continue
        nested = node.orelse if isinstance(node, LOOPS) else list(ast.iter_child_nodes(node))
        if has_break(nested):
            return True
    return False


def ending(body):
    """Return why control never leaves these statements at their end, or None."""
    for statement in body:
        reason = leaves(statement)
        if reason:
            return reason
    return None


def leaves(node):
    """Return why control never continues after this statement, or None.

    A `with` may swallow an exception that its body raises, so nothing is known after it.
    """
    if type(node) in JUMPS:
        return "`{}`".format(JUMPS[type(node)])
    if isinstance(node, ast.If):
        truth = constant(node.test)
        if truth is not None:
            return ending(node.body if truth else node.orelse)
        if node.orelse and ending(node.body) and ending(node.orelse):
            return "an `if` whose branches all leave"
    elif isinstance(node, ast.While):
        if constant(node.test) is True and not has_break(node.body):
            return "an endless loop"
    elif isinstance(node, TRIES):
        if ending(node.finalbody):
            return ending(node.finalbody)
        if ending(node.body + node.orelse) and all(ending(handler.body) for handler in node.handlers):
            return "a `try` whose branches all leave"
    elif MATCH and isinstance(node, MATCH):
        last = node.cases[-1]
        catches_all = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None and last.guard is None
        if catches_all and all(ending(case.body) for case in node.cases):
            return "a `match` whose cases all leave"
    return None


def only_makes_generator(statements):
    """Tell whether the statements are the idiom of an unreachable `yield`."""
    return all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, (ast.Yield, ast.YieldFrom, ast.Constant)))
        or (isinstance(node, LOOPS + (ast.If,)) and only_makes_generator(node.body))
        for node in statements
    )


def blocks(node):
    for field in ("body", "orelse", "finalbody"):
        value = getattr(node, field, None)
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            yield value


def unreachable(tree):
    """Yield (first statement, last statement, reason) for every unreachable run."""
    pending = [tree]
    while pending:
        node = pending.pop()
        dead = None
        if isinstance(node, (ast.If, ast.While)):
            truth = constant(node.test)
            if truth is False:
                dead = node.body, "the condition is always false"
            elif truth is True and node.orelse:
                dead = node.orelse, "the condition is always true"
        if dead and (isinstance(node, ast.If) or dead[0] is node.body):
            statements, reason = dead
            if not only_makes_generator(statements):
                yield statements[0], statements[-1], reason
        for body in blocks(node):
            for index, statement in enumerate(body[:-1]):
                reason = leaves(statement)
                if reason:
                    rest = body[index + 1:]
                    if not only_makes_generator(rest):
                        yield rest[0], rest[-1], "it follows " + reason
                    break
        pending.extend(ast.iter_child_nodes(node))
