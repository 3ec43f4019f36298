"""How fast virshle is, beside what a person would use instead, in the same minutes on the same machine.

A benchmark is a module with one function, `run(options)`, that gives rows; `__main__` knows them by name.
"""
