"""Which papers there are: the name of each, and the module that holds its `PAPER`."""

PAPERS: dict[str, str] = {"funbat": "models.processes.funbat.paper"}
