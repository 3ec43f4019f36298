"""The folders that are the database: where a VM's things are, reading them, and the steps that change them."""

from virshle.store.change import claim, commit, remove, tidy
from virshle.store.layout import Layout
from virshle.store.read import Entry, Problem, Store, Summary

__all__ = ["Entry", "Layout", "Problem", "Store", "Summary", "claim", "commit", "remove", "tidy"]
