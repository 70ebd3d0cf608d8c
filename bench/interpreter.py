"""Which interpreter runs the server, and how it was built: python bench/interpreter.py, as JSON.

It is run as a file by the interpreter in question, with the environment of the server that it is
about, so it needs nothing but the standard library.
"""

import importlib.util
import json
import platform
import sys
import sysconfig
from collections.abc import Mapping
from typing import Any


def build_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What the build's own record says (sysconfig). Pip-installed or not does not matter to it.

    A distribution may have edited the record: Debian's says nothing of either optimization. So
    False means "not recorded"; an interpreter that somebody built here was built without it then.
    """
    arguments = str(variables.get("CONFIG_ARGS") or "")
    flags = " ".join(str(variables.get(name) or "") for name in ("PY_CFLAGS", "PY_CORE_CFLAGS"))
    return {
        "pgo": "--enable-optimizations" in arguments
        or "-fprofile-use" in flags
        or "-fprofile-instr-use" in flags,
        "lto": "--with-lto" in arguments or "-flto" in flags,
        "jit": "--enable-experimental-jit" in arguments,
        "debug": bool(variables.get("Py_DEBUG")),
        "free_threaded": bool(variables.get("Py_GIL_DISABLED")),
    }


def facts() -> dict[str, Any]:
    """This interpreter, its build, and the server's code that it finds."""
    server = importlib.util.find_spec("mediagate_server")
    return {
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
        "compiler": platform.python_compiler(),
        "executable": sys.executable,
        **build_of(sysconfig.get_config_vars()),
        "server": server.origin if server else None,
    }


def describe(build: Mapping[str, Any]) -> str:
    """One line for people."""
    optimized = ", ".join(
        f"{name.upper()} {'yes' if build[name] else 'not in its build record'}"
        for name in ("pgo", "lto")
    )
    others = "".join(f", {name}" for name in ("jit", "debug", "free_threaded") if build[name])
    name = f"{build['implementation']} {build['version']} ({build['compiler']})"
    return f"{name}, {optimized}{others}"


if __name__ == "__main__":
    print(json.dumps(facts()))
