"""The wheel: built, installed into an empty folder, and used from another one, without the clone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT

from planner.common.version import DISTRIBUTION, VERSION

pytest.importorskip("hatchling", reason="the extra `test` is not installed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True)
    (path,) = folder.iterdir()
    return path


Installed = Callable[..., str]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Run Python in an empty folder with the wheel's content before everything else."""
    target, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    zipfile.ZipFile(wheel).extractall(target)  # what an installer does with a wheel of pure Python

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(target), "PLANNER_PRICES": str(empty / "prices.csv")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(call("-c", "import planner; print(planner.__file__)").strip()).is_relative_to(target)
    return call


def test_only_the_package_lands_in_site_packages_with_licence_and_notice(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    stem = f"{DISTRIBUTION.replace('-', '_')}-{VERSION}"
    assert wheel.name == f"{stem}-py3-none-any.whl"
    assert {name.split("/")[0] for name in names} == {"planner", f"{stem}.dist-info"}
    for needed in (
        "planner/py.typed",
        "planner/web/.streamlit/config.toml",
        "planner/web/style.css",
        "planner/shipped/kernels/__main__.py",
        "planner/shipped/scenarios/chatlaw2-moe.toml",
        f"{stem}.dist-info/licenses/LICENSE",
        f"{stem}.dist-info/licenses/NOTICE",
    ):
        assert needed in names
    tracked = subprocess.run(["git", "ls-files", "planner"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert set(tracked.split()) <= set(names)


def test_the_name_is_stated_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == DISTRIBUTION
    assert "version" in project["dynamic"]


def test_an_installed_planner_answers_by_name_from_an_empty_folder(installed: Installed) -> None:
    answer = json.loads(installed("-m", "planner", "compare", "chatlaw2-moe", "--json"))
    assert [case["label"] for case in answer["cases"]] == ["4x7B MoE", "dense 33B"]
    hardware = json.loads(installed("-m", "planner", "hardware", "list", "--json"))
    assert len(hardware["accelerators"]) == len(list((ROOT / "hardware_profiles" / "accelerators").glob("*.toml")))
    scenarios = json.loads(installed("-m", "planner", "scenarios", "list", "--json"))["scenarios"]
    assert len(scenarios) == len(list((ROOT / "scenarios").rglob("*.toml")))
    assert installed("-m", "planner", "--version").strip() == f"planner {VERSION}"


def test_the_harness_of_an_installed_planner_starts(installed: Installed) -> None:
    """As ``planner measure`` starts it: from where the wheel put it."""
    code = "import os, sys; from planner.common.data import ROOT; os.environ['PYTHONPATH'] = str(ROOT); "
    code += "os.execv(sys.executable, [sys.executable, '-m', 'kernels', 'list'])"
    assert "gemm" in installed("-c", code)
    assert "--budget" in installed("-m", "planner", "measure", "--help")


def test_the_page_of_an_installed_planner_is_drawn_with_its_settings(installed: Installed) -> None:
    pytest.importorskip("streamlit", reason="the extra `app` is not installed")
    code = """
import planner.web.__main__ as page, streamlit.config as config
page.main = lambda: print("served")
page.warm_up = lambda: None
config._main_script_path = str(page.APP)
assert config.get_option("server.address") == "localhost" and config.get_option("client.showErrorDetails") == "none"
from streamlit.testing.v1 import AppTest
app = AppTest.from_file(str(page.APP), default_timeout=300).run()
assert not app.exception and app.session_state["scenario"]["cases"][0]["label"] == "4x7B MoE"
page.serve()
"""
    assert installed("-c", code).strip().endswith("served")
