"""The folders that are the database: where a VM's things are, reading them, and the steps that change them."""

from virshle.store.change import Left, claim, commit, leave, remove, stage, tidy
from virshle.store.layout import Layout
from virshle.store.read import Entry, Problem, Store, Summary

__all__ = [
    "Entry",
    "Layout",
    "Left",
    "Problem",
    "Store",
    "Summary",
    "claim",
    "commit",
    "leave",
    "remove",
    "stage",
    "tidy",
]
