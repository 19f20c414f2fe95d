"""Meets the bounds of zygote/trial.py. Run by trial.test.ts."""

import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "zygote"))

import trial  # noqa: E402


def write(folder, name, text=""):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def imported_ahead(root, script):
    """In a process of its own, as the fork server does it: imports change the process."""

    def told():
        found = trial.look(script, root, lambda: 0)
        return None if found is None else " ".join(found[2])

    return trial.in_child(told)


class Bounds(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def test_compiles_64_files(self):
        for index in range(64):
            write(self.folder, f"one{index}.py")
        self.assertEqual(len(trial.compile_folder(self.folder)), 64)
        for index in range(6):
            write(self.folder, f"more{index}.py")
        self.assertEqual(len(trial.compile_folder(self.folder)), 64)

    def test_reads_64_files_for_imports(self):
        for index in range(70):
            write(self.folder, f"chain{index}.py", f"import chain{index + 1}")
        found, beside = trial.imports(self.folder, os.path.join(self.folder, "chain0.py"))
        self.assertEqual((found, beside), ([], [f"chain{index}" for index in range(1, 65)]))

    def test_imports_64_modules_ahead(self):
        script = write(self.folder, "run.py", "\n".join(f"import some{index}" for index in range(70)))
        self.assertEqual(trial.imports(self.folder, script), ([f"some{index}" for index in range(64)], []))

    def test_compiles_200_expressions(self):
        script = write(self.folder, "run.py", "import re\n" + "\n".join(f"re.compile('a{index}')" for index in range(210)))
        self.assertEqual(len(trial.expressions([script])), 200)

    def test_tells_the_names_of_20000_files(self):
        for index in range(20_000):
            write(self.folder, f"data{index}")
        self.assertEqual(trial.own_names(self.folder), set())
        write(self.folder, "last")
        self.assertIsNone(trial.own_names(self.folder))

    def test_leaves_out_seven_imports_and_gives_up_at_the_eighth(self):
        bad = [f"nowhere{index}" for index in range(8)]
        script = write(self.folder, "run.py", "\n".join(f"import {name}" for name in [*bad[:7], "colorsys"]))
        self.assertEqual(imported_ahead(self.folder, script), "colorsys")
        write(self.folder, "run.py", "\n".join(f"import {name}" for name in [*bad, "colorsys"]))
        self.assertIsNone(imported_ahead(self.folder, script))


if __name__ == "__main__":
    unittest.main()
