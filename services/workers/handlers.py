"""The code of a job type, found by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from shared.contracts import JobContract
from shared.errors import ContractError


def load_handler(contract: JobContract) -> Callable[..., Any]:
    """Import a job type's code.

    Raises:
        ContractError: when it is not there or cannot be called.
    """
    return load_function(contract.handler, of=contract.type)


def load_function(path: str, *, of: str) -> Callable[..., Any]:
    """Import ``package.module:function``.

    Args:
        path: where it is.
        of: the job type that names it, for the message.

    Raises:
        ContractError: when it is not there or cannot be called.
    """
    module_name, _, function = path.partition(":")
    try:
        handler = getattr(importlib.import_module(module_name), function)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ContractError(f"{of}: there is no module {module_name!r}, correct 'handler'.") from None
    except AttributeError:
        raise ContractError(f"{of}: {module_name} has no {function!r}, correct 'handler'.") from None
    if not callable(handler):
        raise ContractError(f"{of}: {path} is not a function, correct 'handler'.")
    return handler  # type: ignore[no-any-return]
