"""BlackJAX, which is imported where it is used."""

from __future__ import annotations

import importlib
from typing import Any


def blackjax(*names: str) -> Any:
    """BlackJAX, or a module of it, imported on first use.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module(".".join(("blackjax", *names)))
    except ImportError as error:
        raise ImportError("this needs BlackJAX: pip install 'ppl[mcmc]'") from error
