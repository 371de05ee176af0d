"""Every code block of README.md and docs/ runs, page by page, and prints what the page says that it prints.

The ```python blocks of a page run in order in one namespace. A ```text block right after one is its output,
with `...` for whatever depends on the machine. Code is compiled under the page's own name and line numbers,
so that an error message which names a line names the line of the page. ```python no-run blocks are skipped.
"""

import contextlib
import doctest
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
EVERY = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """Code that runs, the line of its page that it follows, and what it should print, if that is said."""

    code: str
    line: int
    expected: str | None


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    fences = list(FENCED.finditer(text))
    for fence, after in zip(fences, [*fences[1:], None], strict=False):
        if fence[1] != "python" or "no-run" in fence[2]:
            continue
        adjacent = after is not None and not text[fence.end() : after.start()].strip()
        expected = after[3] if after is not None and adjacent and after[1] == "text" else None
        yield Block(fence[3], text.count("\n", 0, fence.start(3)), expected)


PAGES = [page for page in EVERY if any(blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        output = io.StringIO()
        code = compile("\n" * block.line + block.code, str(page), "exec")
        with contextlib.redirect_stdout(output):
            exec(code, namespace)
        if block.expected is not None:
            found = output.getvalue()
            assert doctest.OutputChecker().check_output(block.expected, found, FLAGS), (
                f"{page.name}:{block.line} prints\n{found}\nand not\n{block.expected}"
            )


def test_pages_hold_code():
    """The pattern above finds the blocks at all, and few of them are exempt."""
    every = [fence for page in EVERY for fence in FENCED.finditer(page.read_text()) if fence[1] == "python"]
    exempt = [fence for fence in every if "no-run" in fence[2]]
    assert len(every) > 20
    assert len(exempt) <= 2
