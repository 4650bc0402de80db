"""Every error that Headrace raises on purpose.

    HeadraceError                exit 1   something failed and the message says what
    ├── UsageError               exit 2   the command line or a configuration value is wrong
    │   └── ContractError        exit 2   a contract.yaml is wrong
    ├── DataError                exit 3   the data breaks the contract, or is not there
    ├── Unavailable              exit 4   an outside system (MLflow, Traefik, an index, a disk) does not answer
    ├── Conflict                 exit 5   somebody else holds the lock, the port or the newer state
    └── IntegrityError           exit 6   a file is not the one that was recorded

A rejected model is not an error: it is a `Verdict`, and exit 0 (`headrace run --require-promotion` makes it 7).
Ctrl-C is exit 130. A message says what happened, with which value, and what to do next.
"""

import errno


class HeadraceError(Exception):
    """Base of every error raised on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(HeadraceError):
    """A command, option or configuration value is wrong; nothing was started."""

    exit_code = 2


class ContractError(UsageError):
    """A model's contract.yaml is wrong."""


class DataError(HeadraceError):
    """Data is missing, outside the requested window, or breaks the contract."""

    exit_code = 3


class Unavailable(HeadraceError):
    """An outside system does not answer or has no room; trying again later may work."""

    exit_code = 4


class Conflict(HeadraceError):
    """Another writer holds what this command needs; nothing was changed."""

    exit_code = 5


class IntegrityError(HeadraceError):
    """A file's digest is not the recorded one, or two records contradict each other."""

    exit_code = 6


def no_room(failed: OSError) -> Unavailable | None:
    """What a full disk or an exhausted quota is to the user; None when the failure is something else."""
    if failed.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return Unavailable(
        f"no room left on the disk for {failed.filename or 'what had to be written'}: free some and run again"
    )
