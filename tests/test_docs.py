"""The documentation: every block of every page runs and prints what stands there, links and names hold, the site builds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from doctools import blocks, figures, reference
from planner.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = blocks.pages()
CHINESE = sorted([ROOT / "README.zh.md", *(ROOT / "docs" / "zh").rglob("*.md")])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_shows_is_what_is_printed_today(path: Path) -> None:
    assert blocks.check(write=False, paths=[path]) == [], "python -m doctools.blocks --write"


def test_a_page_that_says_something_else_is_noticed_and_corrected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "```console\n$ planner --version\nplanner 9\n```\n\n```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    today = blocks.run_page(text)
    assert "planner 9" not in today
    assert "```text\n2\n```" in today
    assert blocks.run_page(today) == today
    with pytest.raises(AssertionError, match="no such command"):
        blocks.run_page("```sh\nplanner plna x\n```\n")
    with pytest.raises(Exception, match="--bogus"):
        blocks.run_page("```sh\nplanner plan x --bogus\n```\n")


def test_every_chinese_page_has_an_original() -> None:
    originals = {blocks.translated(path) for path in PAGES}
    assert [path for path in CHINESE if path not in originals] == []


def test_every_command_stands_in_the_documentation() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    missing = [name for name in COMMANDS if f"planner {name}" not in text and f"`{name}`" not in text]
    assert missing == []


def test_every_public_name_is_documented() -> None:
    assert reference.undocumented() == []


FOLDERS = "guide|concepts|reference|tutorial|zh|screenshots"
MOVED = "search|serving|fine-tuning|prices|app|calibrate|validate|glossary|architecture"


def test_every_path_into_the_documentation_that_the_project_names_exists() -> None:
    wrong = []
    form = re.compile(rf"(?<![\w/.-])docs/(?:(?:{FOLDERS})/[\w/-]+|(?:{MOVED}))\.(?:md|png)")
    for folder in ("planner", "kernels", "benchmarks", "docs", "hardware_profiles", "notebooks", "doctools"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".toml", ".md", ".ipynb"}:
                found = form.findall(path.read_text(encoding="utf-8"))
                wrong += [f"{path.relative_to(ROOT)}: {name}" for name in found if not (ROOT / name).is_file()]
    assert sorted(set(wrong)) == []


def test_links_of_the_readmes_lead_to_files() -> None:
    for name in ("README.md", "README.zh.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text(encoding="utf-8")):
            assert (ROOT / target).is_file(), f"{name}: {target}"


def test_the_figures_of_the_readmes_stand_in_them() -> None:
    for name, language in (("README.md", "en"), ("README.zh.md", "zh")):
        text = (ROOT / name).read_text(encoding="utf-8")
        for figure in figures.FIGURES.values():
            assert figure()[language] in text
