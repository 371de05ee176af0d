"""Rules of distribution functions, by kind of family."""
