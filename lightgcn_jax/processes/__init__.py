"""Several processes that do one piece of work together, each with devices of its own.

Nothing is imported here: a command joins the others before JAX is asked for anything, and the help
of one that is alone imports no JAX.
"""
