"""The base of everything that is read from a file: frozen, and unknown keys are refused."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
