"""The house: which package may import which, what the package offers by name, and that every floor has its tests."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import planner

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "planner"


def modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.name not in ("__main__.py", "app.py")]


def dotted(path: Path) -> str:
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


def test_no_modules_import_each_other_in_a_circle() -> None:
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("planner", cache_dir=None)
    left = {name: set(graph.find_modules_directly_imported_by(name)) - {"planner"} for name in graph.modules - {"planner"}}
    while leaves := [name for name, imported in left.items() if not imported & left.keys()]:
        for name in leaves:
            del left[name]
    assert not left, f"these import each other, or something that does: {sorted(left)}"


def test_the_top_holds_packages_and_three_files() -> None:
    assert sorted(path.name for path in PACKAGE.iterdir() if path.is_file()) == ["__init__.py", "__main__.py", "py.typed"]


def test_type_checkers_see_the_names_that_are_loaded_on_first_use() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == planner._WHERE


@pytest.mark.parametrize("name", [name for name in planner.__all__ if name != "__version__"])
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(planner, name) is getattr(importlib.import_module(planner._WHERE[name]), name)


def test_no_submodule_bears_the_name_of_something_public() -> None:
    """Importing planner/search/ would put the package in the place of the function ``planner.search``."""
    for package in (planner, importlib.import_module("planner.serving")):
        folder = Path(str(package.__file__)).parent
        submodules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
        assert not submodules & set(package.__all__)


def test_a_floor_does_not_hide_an_import_in_a_function() -> None:
    """Heavy libraries may be loaded late; our own modules are imported at the top, but for the doors' lazy tables."""
    hidden = [
        f"{dotted(path)} line {node.lineno}: {node.module}"
        for path in modules()
        if path.relative_to(PACKAGE).parts[0] not in ("cli", "web")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("planner.")
    ]
    assert not hidden, hidden


def test_annotations_of_specs_are_values() -> None:
    """Of text pydantic would compile and evaluate each field's, a third of what a class costs where it is imported."""
    as_text = [
        dotted(path)
        for path in modules()
        for tree in [ast.parse(path.read_text(encoding="utf-8"))]
        if any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
        and any(
            isinstance(node, ast.ClassDef) and any(ast.unparse(base) in ("Spec", "BaseModel") for base in node.bases)
            for node in tree.body
        )
    ]
    assert not as_text, as_text


def test_every_floor_has_its_tests() -> None:
    """A folder of tests for each package; the reports are tested by the commands that print them."""
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    tests = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert packages - {"reports", "catalog"} <= tests
    assert tests <= packages | {"kernels"}


def test_every_numeric_module_has_its_tests() -> None:
    """A file of tests named for it, or one that imports it: a sum that nothing looks at may have any sign."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*/test_*.py")}
    untested = [
        dotted(path)
        for package in ("performance", "operators", "lifecycle", "uncertainty", "serving")
        for path in (PACKAGE / package).glob("*.py")
        if path.stem != "__init__"
        and not any(test.stem.startswith(f"test_{path.stem}") or f"{dotted(path)} import" in text for test, text in texts.items())
    ]
    assert not untested, untested


def test_import_is_light() -> None:
    heavy = ("numpy", "pandas", "torch", "scipy", "pydantic", "rich")
    code = f"import sys, planner; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_whole_run_loads_no_library_that_it_does_not_use() -> None:
    """Each of these takes a tenth to a third of a second: a cold ``planner plan`` takes 0.6 (CPU)."""
    heavy = ("scipy", "pandas", "pyarrow", "matplotlib", "torch", "numpy.testing")
    code = f"""
import sys
from planner.cli.main import main
try:
    main(["run", "llama-3-8b", "--on", "8xh100", "--tokens", "1B"])
except SystemExit as end:
    assert not end.code, end.code
print([m for m in {heavy} if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_plan_loads_no_tables_and_no_masked_arrays() -> None:
    """Its eight lines need neither, nor serving; together they take a tenth of a cold answer."""
    heavy = ("rich.table", "rich.console", "numpy.ma", "planner.serving")
    code = f"""
import sys
from planner.cli.main import main
try:
    main(["plan", "llama-3-8b", "--on", "8xh100", "--tokens", "1B"])
except SystemExit as end:
    assert not end.code, end.code
print([m for m in {heavy} if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_nothing_is_gone_through_in_the_order_of_a_set() -> None:
    """That order of words differs from one process to the next, and with it the last digit of a sum: sort it first."""
    bad = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            through = node.iter if isinstance(node, (ast.For, ast.comprehension)) else None
            for one in ast.walk(through) if isinstance(through, ast.IfExp) else [through]:
                named = getattr(getattr(one, "func", None), "id", "")
                if isinstance(one, (ast.Set, ast.SetComp)) or named in ("set", "frozenset"):
                    bad.append(f"{path.relative_to(ROOT)}:{through.lineno}")
    assert not bad, "for x in sorted(...): " + ", ".join(bad)


def test_no_two_files_of_tests_have_one_name() -> None:
    """Nor would pytest collect both: the folders of tests are no packages."""
    names = sorted(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert len(names) == len(set(names)), [name for name in set(names) if names.count(name) > 1]
