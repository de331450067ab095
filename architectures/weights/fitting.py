"""Weights meet a tower or a design in one place: missing and unexpected roles, and those of another
size, are refused unless a pattern allows them by name.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping

from torch import Tensor

from architectures.frozen import SettingError


def fit(
    own: Mapping[str, Tensor],
    offered: Mapping[str, Tensor],
    subject: str,
    allow: Collection[str] = (),
    field: str = "allow",
) -> dict[str, Tensor]:
    """Returns those of `offered` that fill `own`, by role.

    Raises `SettingError` that begins with `subject` and lists roles that are missing, unexpected or
    of another size; those that a pattern of `allow` (as `heads.itc.*`) names are left as they are.
    `field`: the setting that a user allows them by.
    """
    sizes = {
        role: f"{role} {tuple(offered[role].shape)}, here {tuple(own[role].shape)}"
        for role in own.keys() & offered.keys()
        if own[role].shape != offered[role].shape
    }
    wrong = {
        "missing": {role: role for role in own.keys() - offered.keys()},
        "unexpected": {role: role for role in offered.keys() - own.keys()},
        "of another size": sizes,
    }
    lists = {what: _listed(roles, allow) for what, roles in wrong.items()}
    if any(lists.values()):
        listed = "; ".join(f"{what}: {roles}" for what, roles in lists.items() if roles)
        raise SettingError(f"{subject}; {listed}; what may differ is allowed by name in {field}")
    return {role: offered[role] for role in own if role in offered and role not in sizes}


def _listed(roles: Mapping[str, str], allow: Collection[str]) -> str:
    """Lists the roles that no pattern allows, in words."""
    refused = sorted(
        role for role in roles if not any(fnmatch.fnmatchcase(role, each) for each in allow)
    )
    more = f" and {len(refused) - 8} more" if len(refused) > 8 else ""
    return ", ".join(roles[role] for role in refused[:8]) + more
