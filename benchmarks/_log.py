"""A file with a line of JSON for each thing that has been found: what is stopped goes on from there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Log:
    """The lines of a file, each of a `kind`; several processes may add to one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        self.read()

    def read(self) -> None:
        """The lines that are there now, those of other processes too."""
        self.lines = [line for text in self.file.read_text().splitlines() if (line := _parsed(text))]

    def add(self, **line: Any) -> None:
        text = json.dumps(line)
        self.lines.append(json.loads(text))
        with self.file.open("ab+") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
            cut = stream.read() not in (b"", b"\n")
            # In one write, so that lines of two processes do not mix.
            stream.write(b"\n" * cut + text.encode() + b"\n")

    def of(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line["kind"] == kind]


def _parsed(text: str) -> Line | None:
    """A line; none of what a process that was stopped has left of one."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None
