"""The documentation: every block of every page runs and prints what stands there, links and names hold, the site builds."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import planner
from doctools import blocks, figures, reference
from planner.cli.main import COMMANDS
from planner.cli.plans import plan_command
from planner.common import translation
from planner.common.data import CATALOG
from planner.common.parsed import parsed_toml
from planner.web.text import words

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


def rows_by_field(text: str) -> list[list[str]]:
    """What stands as code in the first cell of each row of a page's tables."""
    cells = re.findall(r"^\|([^|]*)\|", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return [found for cell in cells if (found := re.findall(r"`([^`]+)`", cell))]


@pytest.mark.parametrize(("path", "chinese"), [(path, blocks.translated(path)) for path in PAGES if blocks.translated(path)])
def test_a_table_of_a_chinese_page_has_every_row_of_the_original(path: Path, chinese: Path) -> None:
    assert rows_by_field(chinese.read_text(encoding="utf-8")) == rows_by_field(path.read_text(encoding="utf-8"))


def tools_read(kinds: set[str]) -> set[str]:
    """Names of the tools whose launch files are read, as their tables' titles say them."""
    tables = [parsed_toml(path.read_text(encoding="utf-8")) for path in sorted((CATALOG / "launch").glob("*.toml"))]
    words = {word for table in tables if table["kind"] in kinds for word in re.findall(r"[\w.-]{2,}", table["title"])}
    return words - {"the", "and", "launcher", "arguments", "overrides", "configuration", "JSON", "HF", "LoraConfig"}


def test_every_tool_whose_files_are_read_is_named_where_people_look() -> None:
    for path in (ROOT / "docs" / "guide" / "launch-files.md", ROOT / "docs" / "zh" / "guide" / "launch-files.md"):
        text = path.read_text(encoding="utf-8")
        assert {name for name in tools_read({"train", "serve", "launcher"}) if name not in text} == set(), path
    told = inspect.getdoc(plan_command) or ""
    assert {name for name in tools_read({"train", "serve"}) if name not in told} == {"TrainingArguments", "BitsAndBytesConfig"}


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


REJECTED = re.compile(r"\b(?:cards?|chips?|stacks?)\b", re.IGNORECASE)
REJECTED_IN_CHINESE = re.compile("[放装容][不得]下|没放下|批大小|显卡|芯片|软件栈")


def prose(text: str) -> str:
    """A page without what is printed or typed."""
    return re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|<!--.*?-->", "", text, flags=re.DOTALL)


def texts() -> Iterator[tuple[str, str, str]]:
    """(where, English, Chinese) of messages, help, tables, fields and the page."""
    for name, table in translation.tables().items():
        yield from ((f"{name}: {english}", english, chinese) for english, chinese in table.items())
    for fields in parsed_toml((CATALOG / "fields.toml").read_text(encoding="utf-8")).values():
        for key, entry in fields.items():
            yield f"field {key}", entry.get("meaning", ""), entry.get("zh", entry.get("summary", ""))
    english, chinese = ({key: re.sub(r"\{\w+\}", "", text) for key, text in words(language).items()} for language in ("en", "zh"))
    yield from ((f"page {key}", english[key], chinese[key]) for key in english)


def docstrings() -> Iterator[tuple[str, str]]:
    """(name, text) of what the reference of Python says."""
    for name in (name for names in reference.PYTHON.values() for name in names):
        value = getattr(planner, name)
        members = [function for _, function in reference._methods(value)] if inspect.isclass(value) else []
        yield from ((name, re.sub(r"``.*?``", "", inspect.getdoc(member) or "")) for member in (value, *members))


def test_what_people_read_does_without_the_words_that_the_glossary_rejects() -> None:
    quoting = [ROOT / "docs" / name for name in ("reference/glossary.md", "audit-second-reading.md")]
    english = [*docstrings(), *((where, text) for where, text, _ in texts())]
    english += [(str(path), prose(path.read_text(encoding="utf-8"))) for path in PAGES if path not in quoting]
    chinese = [(where, text) for where, _, text in texts()]
    chinese += [(str(path), prose(path.read_text(encoding="utf-8"))) for path in CHINESE]
    assert [(where, REJECTED.findall(text)) for where, text in english if REJECTED.search(text)] == []
    assert [(where, REJECTED_IN_CHINESE.findall(text)) for where, text in chinese if REJECTED_IN_CHINESE.search(text)] == []


@pytest.mark.parametrize("folder", ["tutorial", "zh/tutorial"])
def test_a_reader_who_follows_the_tutorial_in_one_folder_writes_each_file_once(folder: str) -> None:
    written = re.compile(r'title="([^"]+)"|(?:-o|--out|--write) (\S+)')
    pages = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / folder).glob("*.md"))]
    names = [name for page in pages for name in {a or b for a, b in written.findall(page)}]
    assert sorted(names) == sorted(set(names))
