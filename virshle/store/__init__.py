"""The folders that are the database: where a VM's things are and reading them; `change` has the steps that change them,
apart because a list needs no plans."""

from virshle.store.layout import Layout
from virshle.store.read import Entry, Problem, Store, Summary, run_folder

__all__ = ["Entry", "Layout", "Problem", "Store", "Summary", "run_folder"]
