"""The Python fork server of one skill script: `zygote.py LIBRARY SCRIPT ROOT`, where ROOT is the skill's folder.

It has the interpreter up, the modules imported that the script imports first of all, and the script compiled. For every run
it forks a child, which becomes the run by the code of LIBRARY (zygote.cc) and then executes the script as `__main__`, with
everything that a program can see as in a cold start. Nothing of a run is left in it: it never executes code of the skill.

What cannot be carried over a fork (threads, open descriptors, what an import prints) makes it give up, and runs start cold.

The rest is in serving.py: a child leaves this file before its script begins, and what the interpreter gives back then, as the
syntax tree of this file, it would have to copy first.
"""


def main():
    import builtins
    import os
    import sys

    # Whatever a script makes of the builtins, what comes after it goes on.
    names = {"__name__": "serving", "__builtins__": dict(vars(builtins))}
    with open(os.path.join(os.path.dirname(sys.argv[0]), "serving.py"), "rb") as file:
        exec(file.read(), names)
    run = names["serve"]()
    if run is not None:
        # The interpreter calls it when all that was on its stack is gone.
        sys.excepthook = run
        raise Exception


main()
