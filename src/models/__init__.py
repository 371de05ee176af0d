"""Papers as programs on the public surface of `ppl`: `python -m models list`, `python -m models run NAME`."""
