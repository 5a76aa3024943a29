"""Whether an output folder belongs to the run that is asked for."""

import json
from pathlib import Path
from typing import Any

import yaml

from bert.errors import UserError

FILE = "run.yaml"
_FACTS = "run_facts.json"


def is_finished(output: Path) -> bool:
    """Whether the run in that folder is done."""
    return (output / "metrics.json").is_file()


def claim(output: Path, config: dict[str, Any], facts: dict[str, str], free: tuple[str, ...]) -> bool:
    """Take the folder for a run, or make sure that it is this run's already.

    Args:
        output: the run's folder.
        config: nested options; written to run.yaml, which `--config` takes.
        facts: what the run depends on besides (fingerprints), by name.
        free: prefixes of options that may differ, since they change nothing in the result.

    Returns:
        Whether the folder was this run's already.

    Raises:
        UserError: it belongs to a run with other options or other data; the message names the differences.
    """
    file = output / FILE
    if file.is_file():
        before = flatten(yaml.safe_load(file.read_text(encoding="utf-8")))
        before |= json.loads((output / _FACTS).read_text(encoding="utf-8"))
        now = flatten(config) | facts
        differing = [n for n in sorted(before.keys() | now.keys()) if before.get(n) != now.get(n)]
        differing = [name for name in differing if not name.startswith(free)]
        if differing:
            raise UserError(
                *(
                    f"output: '{output}' was started with {name}={before.get(name)}, and is now asked for with "
                    f"{now.get(name)}. Use another folder."
                    for name in differing
                )
            )
        return True
    _refuse_strangers(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / _FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return False


def _refuse_strangers(output: Path) -> None:
    if output.is_file():
        raise UserError(f"output: '{output}' is a file; a run needs a folder.")
    if (output / "config.json").exists():
        raise UserError(f"output: '{output}' holds a model that is no run's of this project. Use another folder.")


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for name, value in nested.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
