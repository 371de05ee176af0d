"""MkDocs hook: the README is the front page, so its links are made to hold from inside docs/."""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#|mailto:)([^)]+)\)")


def relink(match: re.Match[str]) -> str:
    """A link of the repository's root, as one of docs/; a file outside docs/ keeps its text only."""
    text, target = match.groups()
    return f"[{text}]({target.removeprefix('docs/')})" if target.startswith("docs/") else text


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Puts README.md in the place of its snippet marker on the front page."""
    if page.file.src_uri != "index.md":
        return markdown
    return markdown.replace('--8<-- "README.md"', LINK.sub(relink, Path("README.md").read_text()))
