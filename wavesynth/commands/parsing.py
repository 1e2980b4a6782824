"""How a command's flags are made of a function's arguments."""

from collections.abc import Callable


def run_command(function: Callable, arguments: list[str]) -> None:
    """Calls the function with what the arguments say; its docstring is the help."""
    import tyro

    tyro.cli(function, args=arguments, prog=f"wavesynth {function.__name__}", config=(tyro.conf.FlagCreatePairsOff,))


def peek(flag: str, arguments: list[str]) -> str | None:
    """The value of one flag, before the others can be known; None where it is not given."""
    for index, argument in enumerate(arguments):
        if argument.startswith(flag + "="):
            return argument[len(flag) + 1 :]
        if argument == flag and index + 1 < len(arguments):
            return arguments[index + 1]
    return None
