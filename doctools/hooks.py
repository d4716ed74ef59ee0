"""What mkdocs runs: pages and pictures made by code, equations as MathML, no public name without a docstring."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # mkdocs loads this file by its path

from doctools import pictures, reference  # noqa: E402

FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
DISPLAY = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$`([^`\n]+)`\$")


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages and pictures, the changelog and the guide for contributors."""
    undocumented = reference.undocumented()
    if undocumented:
        raise PluginError("public names without a docstring: " + ", ".join(undocumented))
    for name, text in reference.pages().items():
        files.append(File.generated(config, name, content=text))
    for name, content in pictures.pictures().items():
        files.append(File.generated(config, name, content=content))
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name.lower(), content=re.sub(r"\]\(docs/", "](", text)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Equations of a page as MathML, which browsers draw without a script; code stays as it is."""
    parts = FENCED.split(markdown)
    return "".join(part if part.startswith("```") else _equations(part) for part in parts)


def _equations(text: str) -> str:
    text = DISPLAY.sub(lambda m: f'<div class="equation">{convert(m[1], display="block")}</div>', text)
    return INLINE.sub(lambda m: convert(m[1]), text)
