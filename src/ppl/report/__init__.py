"""Where a gradient's variance comes from, and which estimators would have less: measured, not guessed."""
