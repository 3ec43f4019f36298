"""What virshle does: each verb observes, plans and applies. It returns data and raises errors; it prints nothing.

`Node` is one host, in this process; every verb is a function of it.
"""
