"""A file with a line of JSON for each thing that has been found: what is stopped goes on from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Log:
    """The lines of a file, each of a `kind`; several processes may add to one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        self.lines: list[Line] = []
        self.read()

    def read(self) -> None:
        """The lines that are there now, those of other processes too."""
        text = self.file.read_text() if self.file.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a process that was stopped may have left half a line
        if whole != text:
            self.file.write_text(whole)
        self.lines = [json.loads(line) for line in whole.splitlines()]

    def add(self, **line: Any) -> None:
        text = json.dumps(line)
        self.lines.append(json.loads(text))
        with self.file.open("a") as stream:  # one write, so that lines of two processes do not mix
            stream.write(text + "\n")

    def of(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line["kind"] == kind]
