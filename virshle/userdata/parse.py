"""User data of the first virshle: `[[user]]` with their keys, and an `[account]` to select VMs by."""

from __future__ import annotations

import tomllib
from pathlib import Path
from uuid import UUID

from pydantic import Field, ValidationError

from virshle.config.problems import TEXT, explain, problems_error, unused_keys
from virshle.errors import ConfigError, NotFoundError
from virshle.fs import read_given
from virshle.model.strict import Strict
from virshle.model.vm import Login, PublicKey, User


class _Ssh(Strict):
    authorized_keys: tuple[PublicKey, ...] = ()


class _User(Strict):
    name: Login
    ssh: _Ssh = _Ssh()


class _Account(Strict):
    uuid: UUID
    id: int | None = Field(default=None, json_schema_extra={"unused": "an account is its uuid"})


class UserData(Strict):
    user: tuple[_User, ...] = ()
    account: _Account | None = None

    def users(self) -> tuple[User, ...]:
        return tuple(User(name=user.name, authorized_keys=user.ssh.authorized_keys) for user in self.user)


def read_user_data(path: Path) -> tuple[UserData, list[str]]:
    """With a warning for each key that has no effect. Raises ConfigError with every problem, NotFoundError."""
    try:
        data = tomllib.loads(read_given(path).decode(TEXT))
        read = UserData.model_validate(data)
    except FileNotFoundError:
        raise NotFoundError(f"there is no user data file {path}", hint="give an existing one with -u") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="give a readable file with -u") from error
    except ValidationError as error:
        raise problems_error(str(path), list(explain(error, UserData, secret=True))) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}", hint=f"mend that line of {path}") from error
    return read, [f"{path}: {line}" for line in unused_keys(read)]
