"""The version of vm.json's schema."""

from typing import Literal

VERSION: Literal[1] = 1
"""A newer one is refused, never rewritten."""
