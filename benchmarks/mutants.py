"""Would the tests notice? Single mutations of the numeric packages, each run against the tests of its own package.

    python benchmarks/mutants.py [PACKAGE ...] [--mutants 200] [--seed 0] [--budget 60] [--workers 1] [--out mutants.json]

Cosmic Ray's operators make the mutants: another sign or operator, another comparison, a number one off, a condition turned
round, a loop that is left out. Replacements that end in a TypeError wherever they stand (shifts and bits of floats) are left out:
any test kills them. The sample is drawn evenly over all mutants of the packages, by the seed.

A first run of the tests, under coverage, tells which of them pass each line and how long they take. A mutant meets those that
pass its line, the shortest first, then the others of its package, until the budget of CPU seconds is spent; it is killed by the
first that fails. What survives is listed; what computes the same is in ``equivalent_mutants.toml``, with the reason, and does
not count. `--again mutants.json` runs the survivors of that file once more, after new tests.
Needs the extra ``mutants``: ``make mutants``.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("performance", "operators", "lifecycle", "uncertainty", "serving", "model", "prices", "training", "layout_search"),
    *("hardware", "workload", "calibration"),
)
ONLY = {
    "model": ("parameters.py",),
    "hardware": ("cluster.py", "custom_nodes.py", "measured_kernels.py"),
    "workload": (
        "adapters.py",
        "attention.py",
        "dispatch.py",
        "fp8_recipe.py",
        "job.py",
        "layout.py",
        "precision.py",
        "tuning.py",
    ),
}
"""Of a package that mostly reads files: its numeric modules."""
OPERATORS = re.compile(
    r"core/(ReplaceBinaryOperator_(Add_Sub|Add_Mul|Sub_Add|Sub_Mul|Mul_Div|Mul_Add|Div_Mul|Div_FloorDiv|FloorDiv_Div|FloorDiv_Mul|Mod_Mul|Pow_Mul)"
    r"|ReplaceComparisonOperator_(Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt|Eq_NotEq|NotEq_Eq|Is_IsNot|IsNot_Is)"
    r"|ReplaceUnaryOperator_(Delete_Not|Delete_USub|USub_UAdd)|NumberReplacer|AddNot|ReplaceAndWithOr|ReplaceOrWithAnd"
    r"|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ZeroIterationForLoop|ReplaceBreakWithContinue|ReplaceContinueWithBreak)"
)
EQUIVALENT = ROOT / "benchmarks" / "equivalent_mutants.toml"
"""Mutants that compute the same, or nothing that anyone could ask for, each with the reason."""
LONGEST_S = 900
"""Of the clock, for one mutant: it waits for something that never comes."""


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    operator: str
    occurrence: int
    line: int

    @property
    def package(self) -> str:
        """Whose tests it meets."""
        return Path(self.module).parts[1]

    def text(self, tree: Path = ROOT) -> str:
        """The module of a tree with the change in it."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        made = mutate_code((tree / self.module).read_text(encoding="utf-8"), get_operator(self.operator)(), self.occurrence)
        return str(made)

    def change(self, tree: Path = ROOT) -> str:
        """The lines before and after."""
        before, after = (tree / self.module).read_text(encoding="utf-8").splitlines(), self.text(tree).splitlines()
        lines = [
            x for x in difflib.unified_diff(before, after, n=0, lineterm="") if x[:1] in "-+" and x[:3] not in ("---", "+++")
        ]
        return "  ".join(f"{x[0]} {x[1:].strip()}" for x in lines)


def all_mutants(package: str) -> list[Mutant]:
    """Every mutant of the package that changes what is computed."""
    import parso.python.tree  # noqa: F401 - Cosmic Ray's operators find it half imported otherwise
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    names = sorted(name for name in operator_names() if OPERATORS.fullmatch(name))
    found = []
    for path in sorted((ROOT / "planner" / package).glob("*.py")):
        if path.name == "__init__.py" or path.name not in ONLY.get(package, (path.name,)):
            continue
        text = path.read_text(encoding="utf-8")
        nodes, quiet = list(ast_nodes(get_ast(text))), silent(text)
        for name in names:
            operator = get_operator(name)()
            places = [place for node in nodes for place in operator.mutation_positions(node)]
            module = str(path.relative_to(ROOT))
            made = [
                Mutant(module, name, n, start[0])
                for n, (start, _) in enumerate(places)
                if not any(first <= start < last for first, last in quiet) and not bare_star(text, start)
            ]
            found += [mutant for mutant in made if name != "core/ReplaceBinaryOperator_Pow_Mul" or parses(mutant.text())]
    return found


def equivalents() -> dict[tuple[str, str], str]:
    """Module and change to the reason why no test can notice it."""
    rows = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["mutant"]
    return {(row["module"], f"- {row['before']}  + {row['after']}"): row["why"] for row in rows}


def bare_star(text: str, place: tuple[int, int]) -> bool:
    """Whether a ``*`` stands alone among parameters, which is no product."""
    line = text.splitlines()[place[0] - 1][place[1] :]
    return line[:1] == "*" and line[1:].lstrip()[:1] == ","


def parses(text: str) -> bool:
    """Whether it is Python: ``**`` before a table of arguments is no power."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def silent(text: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """From and to where nothing is computed: errors and sentences for people, what Python checks of itself, caches' sizes."""
    calls = ("PlannerError", "Message", "lru_cache", "dataclass")
    found = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Raise | ast.JoinedStr)
        or (isinstance(node, ast.Call) and getattr(node.func, "id", "") in calls)
        or (isinstance(node, ast.keyword) and node.arg == "strict")
        or (isinstance(node, ast.IfExp) and sentence(node.body) and sentence(node.orelse))
    ]
    return [((n.lineno, n.col_offset), (n.end_lineno or n.lineno, n.end_col_offset or 0)) for n in found]


def sentence(node: ast.AST) -> bool:
    """Words for people: names of rows and of columns are shorter."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 2


class Chosen:
    """A pytest plugin: these tests alone, in this order."""

    def __init__(self, names: list[str]) -> None:
        self.place = {name: i for i, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """After the order of conftest."""
        items[:] = sorted((item for item in items if item.nodeid in self.place), key=lambda item: self.place[item.nodeid])


class First:
    """A pytest plugin: writes the first test that failed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of any phase."""
        if report.failed and not self.path.exists():
            self.path.write_text(report.nodeid, encoding="utf-8")

    def pytest_collectreport(self, report: Any) -> None:
        """A module that cannot be imported any more."""
        if report.failed and not self.path.exists():
            self.path.write_text(f"import of {report.nodeid}", encoding="utf-8")


class Covering:
    """A pytest plugin: which lines of the package each test passes, and its CPU seconds."""

    def __init__(self, package: str, path: Path) -> None:
        import coverage

        self.path, self.taken, self.began = path, {}, 0.0
        self.coverage = coverage.Coverage(data_file=None, include=[f"*/planner/{package}/*"], config_file=False)
        self.coverage.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Lines are this test's from here."""
        self.coverage.switch_context(nodeid)
        self.began = time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """To here."""
        self.taken[nodeid] = time.process_time() - self.began

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write what was found, where every test passed: what is kept of half of them would let mutants live."""
        self.coverage.stop()
        if exitstatus:
            return
        data, lines = self.coverage.get_data(), {}
        for name in data.measured_files():
            module = name[name.rindex("/planner/") + 1 :]
            lines[module] = {line: [c for c in contexts if c] for line, contexts in data.contexts_by_lineno(name).items()}
        self.path.write_text(json.dumps({"seconds": self.taken, "lines": lines}), encoding="utf-8")


def copied(folder: Path) -> Path:
    """A copy of this tree, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    subprocess.run([sys.executable, "-m", "compileall", "-q", "planner", "kernels"], cwd=folder, check=True)
    return folder


def warm() -> None:
    """Import what takes long and is not ours, once for all children."""
    for name in ("numpy", "scipy.stats", "pandas", "torch", "transformers", "hypothesis", "pydantic", "pytest", "coverage"):
        with contextlib.suppress(ImportError):
            __import__(name)


def child(tree: Path, tests: list[str], plugin: Any) -> int:
    """Start pytest on a copy of the tree in a process of its own; its number. ``plugin``: makes the plugins, in there."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        os.setsid()
        os.chdir(tree)
        sink = os.open(tree / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.environ["PYTHONPATH"], sys.dont_write_bytecode = str(tree), True
        sys.path[:] = [str(tree), *(p for p in sys.path if Path(p or ".").resolve() not in (ROOT, ROOT / "benchmarks"))]
        import pytest

        code = int(
            pytest.main(
                [
                    "-x",
                    "-p",
                    "no:cacheprovider",
                    "-W",
                    "ignore::pytest.PytestAssertRewriteWarning",
                    "--rootdir",
                    str(tree),
                    "--basetemp",
                    f"{tree}-tmp",
                    *tests,
                ],
                plugins=plugin(),
            )
        )
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(number: int, since: float, limit_s: float) -> int | None:
    """Its exit code; negative where it was stopped, a minute of CPU beyond its limit; None while it runs.

    Watched from outside: a limit that the kernel keeps (RLIMIT_CPU) makes a process's own clock coarse, and the harness reads it.
    """
    done, status = os.waitpid(number, os.WNOHANG)
    spent = 0.0 if done else sum(psutil.Process(number).cpu_times()[:2])
    if not done and (spent > limit_s + 60.0 or time.monotonic() - since > LONGEST_S):
        os.killpg(number, 9)
        done, status = os.waitpid(number, 0)
    return os.waitstatus_to_exitcode(status) if done else None


def tests_of(package: str) -> list[str]:
    """The mirrored folder, or the mirrored files of its numeric modules, and the modules' own doctests."""
    if package in ONLY:
        modules = ONLY[package]
        mirrored = [f"tests/{package}/test_{name}" for name in modules]
        mirrored = mirrored if all((ROOT / name).exists() for name in mirrored) else [f"tests/{package}"]
        return [*mirrored, *(f"planner/{package}/{name}" for name in modules)]
    return [f"tests/{package}", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "planner" / package).glob("*.py")))]


def passing(package: str, tree: Path, kept: Path) -> dict[str, Any]:
    """Which tests pass each line, kept in a folder; ends where one of them fails without any mutant."""
    path = kept.resolve() / f"{package}.json"
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    path.parent.mkdir(parents=True, exist_ok=True)
    number, since = child(tree, tests_of(package), lambda: [Covering(package, path)]), time.monotonic() + 3600.0
    while (code := ended(number, since, 3600.0)) is None:
        time.sleep(0.5)
    if code:
        sys.exit(f"mutants: the tests of {package} fail as they are:\n{(tree / 'pytest.log').read_text()[-2000:]}")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def chosen(mutant: Mutant, known: dict[str, Any], budget_s: float) -> list[str]:
    """Tests that pass the mutant's line, the shortest first, then the others, within the budget."""
    covering = set(known["lines"].get(mutant.module, {}).get(str(mutant.line), ()))
    order = sorted(known["seconds"], key=lambda name: (name not in covering, known["seconds"][name]))
    names, spent = [], 0.0
    for name in order:
        spent += known["seconds"][name]
        if spent > budget_s and names:
            break
        names.append(name)
    return names


def outcomes(
    mutants: list[Mutant], known: dict[str, dict[str, Any]], trees: list[Path], budget_s: float
) -> Iterator[dict[str, Any]]:
    """Each mutant's fate, as it becomes known; one child in each tree, which stays as it was copied."""
    waiting, free, running = list(reversed(mutants)), list(trees), {}
    while waiting or running:
        while waiting and free:
            mutant, tree = waiting.pop(), free.pop()
            whole, change = (tree / mutant.module).read_text(encoding="utf-8"), mutant.change(tree)
            (tree / mutant.module).write_text(mutant.text(tree), encoding="utf-8")
            (tree / "first").unlink(missing_ok=True)
            names = chosen(mutant, known[mutant.package], budget_s)
            # nothing outside of the loop may change under the child's feet
            plugins = lambda names=names, tree=tree: [Chosen(names), First(tree / "first")]  # noqa: E731
            files = sorted({name.partition("::")[0] for name in names})
            running[child(tree, files, plugins)] = (mutant, tree, whole, change, time.monotonic())
        time.sleep(0.1)
        for number, (mutant, tree, whole, change, since) in list(running.items()):
            code = ended(number, since, budget_s)
            if code is None:
                continue
            del running[number]
            (tree / mutant.module).write_text(whole, encoding="utf-8")
            free.append(tree)
            first = (tree / "first").read_text(encoding="utf-8") if (tree / "first").exists() else ""
            if code in (3, 5):  # of pytest's own: an error in it, no tests
                sys.exit(f"mutants: {mutant}: pytest ended with {code}:\n{(tree / 'pytest.log').read_text()[-2000:]}")
            fate = "survived" if code == 0 else "killed" if code > 0 else "timeout"
            yield {**asdict(mutant), "fate": fate, "by": first, "change": change, "s": time.monotonic() - since}


def main() -> None:
    """Print each mutant's fate, then the share killed by package and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", default=PACKAGES, metavar="PACKAGE")
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=60.0, help="CPU seconds of tests that a mutant meets at most")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("mutants.json"))
    parser.add_argument("--keep", type=Path, help="a folder for what the first runs found: the next ones begin with the mutants")
    parser.add_argument("--again", type=Path, help="only the survivors of this file")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = [mutant for package in options.packages for mutant in all_mutants(package)]
    if options.again:
        rows = json.loads(options.again.read_text(encoding="utf-8"))
        keys = {(row["module"], row["operator"], row["occurrence"]) for row in rows if row["fate"] == "survived"}
        sample = [mutant for mutant in found if (mutant.module, mutant.operator, mutant.occurrence) in keys]
    else:
        sample = random.Random(options.seed).sample(found, min(options.mutants, len(found)))
    print(f"{len(sample)} of {len(found):,} mutants, seed {options.seed}", flush=True)
    known_same = equivalents()
    same = [mutant for mutant in sample if (mutant.module, mutant.change()) in known_same]
    sample = [mutant for mutant in sample if mutant not in same]
    warm()
    rows = []
    with tempfile.TemporaryDirectory(prefix="mutants") as folder:
        trees = [copied(Path(folder) / str(number)) for number in range(options.workers)]
        known = {
            package: passing(package, trees[0], options.keep or Path(folder))
            for package in sorted({mutant.package for mutant in sample})
        }
        for row in outcomes(sorted(sample, key=lambda m: m.package), known, trees, options.budget):
            rows.append(row)
            print(f"{row['fate']:9}{row['module']}:{row['line']}  {row['change']}  [{row['by']}] {row['s']:.0f} s", flush=True)
            options.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    for package in sorted({mutant.package for mutant in sample}):
        fates = Counter(row["fate"] for row in rows if Path(row["module"]).parts[1] == package)
        print(f"{package:14}{1 - fates['survived'] / fates.total():8.1%} of {fates.total()} killed")
    fates = Counter(row["fate"] for row in rows)
    print(f"{'all':14}{1 - fates['survived'] / max(1, fates.total()):8.1%} of {fates.total()} killed; survivors:")
    for row in rows:
        if row["fate"] == "survived":
            print(f"  {row['module']}:{row['line']}  {row['change']}")
    print(f"{len(same)} equivalent, not counted:" if same else "none of them is known as equivalent")
    for mutant in same:
        print(f"  {mutant.module}:{mutant.line}  {mutant.change()}  # {known_same[mutant.module, mutant.change()]}")


if __name__ == "__main__":
    main()
