"""Pyro in a process and an environment of its own, which waits while others run, as they wait for it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

PYRO = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
"""What `make bench-peers` makes."""

# From a question to its answer, both a line of JSON.
Ask = Callable[[dict[str, Any]], Any]


@contextmanager
def answering(python: Path, script: str, *words: str, **arrays: Any) -> Iterator[tuple[Any, Ask]]:
    """What a script of this folder says first, and how to ask it.

    Args:
        python: has Pyro.
        script: is called with the words and a file of the arrays, by their paths; answers line by line.
        arrays: trees of arrays.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(arrays)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problem.npz"
        np.savez(file, **{"/".join(map(_word, path)): np.asarray(leaf) for path, leaf in flat})
        command = [str(python), "-W", "ignore", str(Path(__file__).parent / script), *words, str(file)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as child:
            assert child.stdin is not None and child.stdout is not None
            asked, answers = child.stdin, child.stdout

            def ask(question: dict[str, Any]) -> Any:
                print(json.dumps(question), file=asked, flush=True)
                return json.loads(answers.readline())

            yield json.loads(answers.readline()), ask
            asked.close()


def _word(part: Any) -> str:
    return str(getattr(part, "key", getattr(part, "idx", part)))
