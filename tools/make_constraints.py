"""constraints.txt: the versions of this environment, which the shown numbers were made with.

`make constraints` refreshes it. A package that does not support the lowest Python of this project is pinned only for
the Pythons that it supports; local parts of versions, as in 2.13.0+cpu, are left out, so that pip finds them anywhere.
"""

import re
from configparser import ConfigParser
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """# The versions that the numbers of this repository were made with; `make demo` and `make test` install them.
# `make constraints` refreshes them. Without `-c constraints.txt` pip takes the newest within the bounds.
"""


def settings() -> dict[str, str]:
    "Fields of settings.ini."
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(parser["DEFAULT"])


def normal(name: str) -> str:
    "Name of a package as PyPI compares it (PEP 503)."
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(requirements: list[str], installed: dict[str, Distribution]) -> list[str]:
    "Names of the installed packages that requirements need, directly or through others."
    done, waiting = set(), list(requirements)
    while waiting:
        name, extras = re.match(r"([\w.-]+)\s*(?:\[([^]]*)\])?", waiting.pop()).groups()
        name, wanted = normal(name), {extra.strip() for extra in (extras or "").split(",")}
        if name not in installed or (name, *sorted(wanted)) in done:
            continue
        done.add((name, *sorted(wanted)))
        for child in installed[name].requires or []:
            extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", child)
            if extra is None or extra.group(1) in wanted:
                waiting.append(child)
    return sorted({name for name, *_ in done})


def lowest_python(distribution: Distribution) -> tuple[int, int]:
    "The lowest Python that a package supports, (3, 0) where it does not say."
    bounds = re.findall(r">=\s*(\d+)\.(\d+)", distribution.metadata.get("Requires-Python") or "")
    return max([(int(major), int(minor)) for major, minor in bounds], default=(3, 0))


def pin(distribution: Distribution, min_python: tuple[int, int]) -> str:
    "One line of the file."
    lowest, version = lowest_python(distribution), distribution.version.partition("+")[0]
    marker = f' ; python_version >= "{lowest[0]}.{lowest[1]}"' if lowest > min_python else ""
    return f"{normal(distribution.metadata['Name'])}=={version}{marker}"


def constraints() -> str:
    "The content of the file, for the environment that runs this."
    config = settings()
    installed = {normal(d.metadata["Name"]): d for d in distributions() if d.metadata["Name"]}
    major, minor = map(int, config["min_python"].split("."))
    names = needed(f"{config['requirements']} {config['dev_requirements']}".split(), installed)
    return HEAD + "".join(pin(installed[name], (major, minor)) + "\n" for name in names)


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(constraints(), encoding="utf-8")
