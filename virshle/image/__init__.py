"""Images: what disks are cloned from. Built by Nix into the store, or a file that is there."""

from virshle.image.found import Built, Record, built, link, read_record
from virshle.image.plan import build_steps, record_step, tiny_steps

__all__ = ["Built", "Record", "build_steps", "built", "link", "read_record", "record_step", "tiny_steps"]
