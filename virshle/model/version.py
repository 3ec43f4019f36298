"""The version of vm.json's schema, and bounds that also those keep who read it without that."""

from typing import Literal

VERSION: Literal[1] = 1
"""A newer one is refused, never rewritten."""
LARGEST_ID = 2**31 - 1
MOST_VCPUS = 1024
