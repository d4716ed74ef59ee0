"""``--help`` in the language that is spoken: headings, sentences and options; English help is left to the parser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from planner.common.translation import spoken_language, tables

BESIDE = re.compile(r"(.*?)(?:\s+(\[[^\[\]]*\]))?", re.DOTALL)
"""The help of an option, and what the parser adds to it: [default: 16], [required]."""
ADDED = {"default: ": "默认：", "required": "必填", "; ": "；"}
"""Words of the parser."""


def said(text: str) -> str:
    """A sentence, a paragraph or a heading of the help in the language that is spoken; what is unknown stays."""
    plain = " ".join(text.split())
    return tables()["help"].get(plain, text) if spoken_language() == "zh" else text


def first_sentence(text: str) -> str:
    """The first sentence of a command's help, or of its part before a colon or a semicolon."""
    chinese = said(text.split("\n\n")[0])
    if chinese != text.split("\n\n")[0]:
        return re.split(r"[。：；]", chinese)[0] + "。"
    return re.split(r"[.;:](?:\s|$)", " ".join(text.split()))[0] + "."


class Spoken:
    """A command whose help is in the language that is spoken."""

    def get_help(self, ctx: Any) -> str:
        """The whole help."""
        if spoken_language() != "en":
            ctx.formatter_class = _chinese(ctx.formatter_class)
        text: str = super().get_help(ctx)  # type: ignore[misc]
        return text


def _chinese(base: Any) -> Any:
    """The parser's formatter with Chinese texts, and lines as wide as they are on a terminal."""
    from rich.cells import cell_len

    from planner.reports.text import folded

    class Chinese(base):  # type: ignore[misc]
        def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
            """The line of usage."""
            super().write_usage(prog, args, prefix or "用法：")

        def write_heading(self, heading: str) -> None:
            """A heading."""
            self.write(f"{'':>{self.current_indent}}{said(heading)}：\n")

        def write_text(self, text: str) -> None:
            """Paragraphs; examples as they are."""
            indent = " " * self.current_indent
            for number, paragraph in enumerate(text.split("\n\n")):
                self.write("\n" if number else "")
                if said(paragraph) == paragraph:
                    super().write_text(paragraph)
                else:
                    self.write("\n".join(folded(said(paragraph), self.width, indent, indent)) + "\n")

        def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
            """Names and what they mean."""
            rows = list(rows)
            wide = min(max(cell_len(name) for name, _ in rows), col_max) + col_spacing
            start = " " * self.current_indent
            for name, text in rows:
                first = f"{start}{name}"
                if cell_len(name) > wide - col_spacing:
                    self.write(f"{first}\n")
                    first = start
                lines = folded(_with_default(text), self.width, first.ljust(len(start) + wide), " " * (len(start) + wide))
                self.write("\n".join(lines or [first.rstrip()]) + "\n")

    return Chinese


def _with_default(text: str) -> str:
    found = BESIDE.fullmatch(text)
    if found is None or found[2] is None:
        return said(text)
    beside = found[2]
    for english, chinese in ADDED.items():
        beside = beside.replace(english, chinese)
    return f"{said(found[1])} {beside}"
