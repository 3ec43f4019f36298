"""The base class of all data that is read from a file. Its objects are frozen, and unknown keys are refused."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    # Pydantic builds a model at its first use. Models that a command does not use, or only inside another, are never
    # built.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
