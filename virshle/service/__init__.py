"""The verbs of virshle. Each verb looks at the host, makes a plan and applies it. It returns data and raises errors; it
prints nothing.

A `Node` is one host, in this process. Each verb is a function that takes a `Node`.
"""
