"""The base of everything that is read from a file: frozen, and unknown keys are refused."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    # Built when first read: of the models inside another, and of those that a command has no use for, none ever is.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
