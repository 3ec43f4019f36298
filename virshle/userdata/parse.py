"""Reads the files that `-u` gives to a VM.

Either a file in the format of the first virshle: `[[user]]` sections with keys, and an `[account]` that selects VMs.
Or a cloud-config, which virshle passes on to the guest's cloud-init."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, ValidationError

from virshle.config.problems import TEXT, explain, problems_error, unused_keys
from virshle.errors import ConfigError, NotFoundError, UsageError
from virshle.fs import read_given
from virshle.model.public_key import check_public_key
from virshle.model.strict import Strict
from virshle.model.version import LONGEST_CLOUD_CONFIG
from virshle.model.vm import Login, User

CLOUD_CONFIG = "#cloud-config"
"""The first line of a cloud-config (cloud-init: User-data formats)."""


class _Ssh(Strict):
    authorized_keys: tuple[Annotated[str, AfterValidator(check_public_key)], ...] = ()


class _User(Strict):
    name: Login
    ssh: _Ssh = _Ssh()


class _Account(Strict):
    uuid: UUID
    id: int | None = Field(default=None, json_schema_extra={"unused": "an account is its uuid"})


class _File(Strict):
    user: tuple[_User, ...] = ()
    account: _Account | None = None


@dataclass(frozen=True)
class UserData:
    users: tuple[User, ...] = ()
    account: UUID | None = None
    cloud_config: str | None = None
    """The unchanged text. Only the guest interprets it."""


def read_user_data(paths: Sequence[Path]) -> tuple[UserData, list[str]]:
    """The data of all files, and a warning for each key that has no effect.

    Raises ConfigError with every problem, NotFoundError, and UsageError for two files of the same kind."""
    data, warnings, kinds = UserData(), list[str](), set[bool]()
    for path in paths:
        text = _read(path)
        is_cloud_config = text.partition("\n")[0].rstrip() == CLOUD_CONFIG
        if is_cloud_config in kinds:
            what = "a cloud-config" if is_cloud_config else "a file of users"
            raise UsageError(f"-u gives {what} twice: the second is {path}", hint="put both into one file")
        kinds.add(is_cloud_config)
        if is_cloud_config:
            data = replace(data, cloud_config=_cloud_config(path, text))
        else:
            file = _users(path, text)
            users = tuple(User(name=user.name, authorized_keys=user.ssh.authorized_keys) for user in file.user)
            data = replace(data, users=users, account=file.account.uuid if file.account else None)
            warnings += [f"{path}: {line}" for line in unused_keys(file)]
    return data, warnings


def _read(path: Path) -> str:
    try:
        return read_given(path).decode(TEXT)
    except FileNotFoundError:
        raise NotFoundError(f"there is no user data file {path}", hint="give an existing file with -u") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="give a readable file with -u") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML or cloud-config: it is not UTF-8", hint=_KINDS) from error


_KINDS = f"users are written in TOML; a cloud-config begins with the line {CLOUD_CONFIG}"


def _users(path: Path, text: str) -> _File:
    try:
        return _File.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise problems_error(str(path), list(explain(error, _File, secret=True))) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint=f"fix that line of {path}; {_KINDS}") from error


def _cloud_config(path: Path, text: str) -> str:
    """The YAML is not checked: only the guest's cloud-init knows which keys are valid."""
    if (size := len(text.encode())) > LONGEST_CLOUD_CONFIG:
        raise ConfigError(
            f"{path} is too long: it has {size} bytes, and a cloud-config may have {LONGEST_CLOUD_CONFIG}",
            hint="make it smaller: let the guest download large files",
        )
    if "\0" in text:
        raise ConfigError(f"{path} is not a cloud-config: it has a NUL character", hint="cat -A shows where it is")
    if not any(line.strip() and not line.startswith("#") for line in text.splitlines()):
        raise ConfigError(f"{path} is empty: it has only comments", hint="leave the file out")
    return text if text.endswith("\n") else f"{text}\n"
