"""The laws of gradient estimation, over the registries of families, estimators and control flows."""
