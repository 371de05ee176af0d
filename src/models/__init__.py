"""Papers as programs on the public surface of `ppl`: one package a paper."""
