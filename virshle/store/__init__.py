"""The folders that are the database: the paths of a VM's files, and reading them.

`change` has the steps that change the folders. It is apart, because a list of VMs needs no plans."""

from virshle.store.layout import Layout
from virshle.store.read import Entry, Problem, Store, Summary, run_folder

__all__ = ["Entry", "Layout", "Problem", "Store", "Summary", "run_folder"]
