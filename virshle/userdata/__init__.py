"""What a guest gets at boot: its name, its users and the keys that may log in."""

from virshle.userdata.keys import key_file, make_key, personal_key_files, personal_keys, read_key
from virshle.userdata.parse import UserData, read_user_data
from virshle.userdata.seed import seed_steps

__all__ = [
    "UserData",
    "key_file",
    "make_key",
    "personal_key_files",
    "personal_keys",
    "read_key",
    "read_user_data",
    "seed_steps",
]
