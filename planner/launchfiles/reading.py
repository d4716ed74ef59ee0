"""Launch files to options: which tool a file or command is of, and what it is given."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from planner.common.errors import PlannerError
from planner.common.files import read_text
from planner.common.message import Message
from planner.common.spec import require_sane
from planner.launchfiles.containers import MOST_CONTAINERS, container_gpus, container_script, containers, replicas
from planner.launchfiles.formats import Format, formats, load_format, plain_name
from planner.launchfiles.interpolation import interpolated
from planner.launchfiles.models import recipe_model
from planner.launchfiles.shell import UNSET, Script, read_script

MOST_BYTES = 2**20
MOST_OPTIONS = 20_000
MOST_LOOPS = 3
"""Loops that notes name; more would tell nothing new."""
MOST_LEVELS = 16
"""Levels of tables within tables: no tool's configuration has more than five."""
MARK = re.compile(r"^#+\s*planner:\s*([\w.]+)\s*=\s*(.+?)\s*$")
"""A comment with a field of the scenario that the tool's own options cannot express."""
SBATCH = re.compile(r"^#SBATCH\s+(.*)$")
OPTION = re.compile(r"--?[A-Za-z][\w.-]*")
SEVERAL = re.compile(r"\$\{?\w*(option|opt|arg|flag|extra|param)s?(_\w*)?(\[[@*]\])?\}?", re.IGNORECASE)
"""An unset variable that, by its name, stands for options rather than for a value."""
PAIR = re.compile(r"\+{0,2}([A-Za-z_][\w.]*)[=](.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Given:
    """One option as it stands in a file: its tool, its name as written, its value, and the file."""

    form: Format
    name: str
    value: Any
    where: str


@dataclass
class Collected:
    """All that was found: options, ``# planner:`` comments, notes, and the files read."""

    given: list[Given] = field(default_factory=list)
    carried: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)
    waiting: list[tuple[Path, Mapping[str, Any]]] = field(default_factory=list)
    """Configurations without a mark of their own, such as GPT-NeoX's local_setup.yml: they are of the other files' tool."""
    written: dict[str, str] = field(default_factory=dict)
    """Text of files that the scripts write, by name."""
    started: set[str] = field(default_factory=set)
    """Names of the formats whose programs the scripts start, with options or without."""


def collect(paths: Sequence[Path]) -> Collected:
    """The options of all files, further files that they name included; later ones override earlier ones.

    Raises PlannerError for a file that cannot be read, or in which no tool is known.
    """
    found = Collected()
    tables = [path for path in paths if path.suffix.lower() in (".json", ".toml", ".yaml", ".yml")]
    for path in [*tables, *(path for path in paths if path not in tables)]:  # a command's own options override its file's
        _read(path, found, None)
    for path, data in found.waiting:
        main = next((one.form for one in found.given if one.form.kind != "launcher"), None)
        if main is None:
            raise _of_no_tool(path, data)
        _configuration(path, data, found, main)
    if not found.given:
        named = ", ".join(str(path) for path in paths)
        raise PlannerError(
            "--from {0}: no supported tool is started in it; give the launch script or configuration of one of: {1}.",
            named,
            ", ".join(one.title for one in formats()),
        )
    return found


def _read(path: Path, found: Collected, named: Format | None) -> None:
    if (place := Path(os.path.realpath(path))) in found.files:
        return
    found.files.add(place)
    text = read_text(path, "a launch script or its configuration file", MOST_BYTES)
    _carried(text.splitlines(), found)
    kind = path.suffix.lower()
    if kind in (".json", ".toml", ".yaml", ".yml"):
        _configuration(path, _parsed(path, text, kind), found, named)
    else:
        _script(path, text, found)


def _carried(lines: Sequence[str], found: Collected) -> None:
    for line in lines:
        match = MARK.match(line.strip())
        if match is None:
            continue
        try:
            value = tomllib.loads(f"value = {match[2]}")["value"]
        except (ValueError, RecursionError):
            raise PlannerError("{0}: the value must be as in TOML, text in quotes.", line.strip()[:80]) from None
        found.carried[match[1]] = value


def _parsed(path: Path, text: str, kind: str) -> Mapping[str, Any]:
    """The table of a configuration file."""
    try:
        if kind in (".yaml", ".yml"):
            import yaml

            documents = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
            data = documents[0] if len(documents) == 1 else {"documents": documents}
            data = interpolated(data, path.absolute().parent.parts) if isinstance(data, Mapping) else data
        else:
            require_sane(text, str(path))
            data = json.loads(text) if kind == ".json" else tomllib.loads(text)
    except PlannerError:
        raise
    except (ValueError, RecursionError, OverflowError, TypeError, LookupError, AttributeError) as error:
        raise PlannerError("{0}: not valid {1}: {2}{3}.", path, kind[1:].upper(), _first_line(error), "") from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "yaml":
            raise
        raise PlannerError("{0}: not valid YAML: {1}.", path, _first_line(error)) from None
    if not isinstance(data, Mapping):
        raise PlannerError("{0}: holds no table of options; give a launch script or its configuration file.", path)
    return data


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _flat(table: Mapping[Any, Any], prefix: str, level: int = 0) -> Iterator[tuple[str, Any]]:
    """Options of nested tables, joined with dots."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and level < MOST_LEVELS and value:
            yield name, value
            yield from _flat(value, f"{name}.", level + 1)
        else:
            yield name, value


def _configuration(path: Path, data: Mapping[str, Any], found: Collected, named: Format | None) -> None:
    data = _unwrapped(data)
    pairs = list(islice(_flat(data, ""), MOST_OPTIONS + 1))
    if len(pairs) > MOST_OPTIONS:
        raise PlannerError(
            "{0}: holds over {1:,} options, more than are read; give a launch configuration, which has a few hundred.",
            path,
            MOST_OPTIONS,
        )
    keys = {plain_name(name) for name, _ in pairs}
    form = _form_of(keys) or named
    if form is not None and form.name != "containers":
        _keys(path, form, pairs, found)
    elif not _containers(path, data, found):
        found.waiting.append((path, data))


def _unwrapped(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration that a larger file holds under a key of its own, beside that file's other keys."""
    for form in formats():
        inner = data.get(form.unwraps) if form.unwraps else None
        if isinstance(inner, Mapping):
            return {**{key: value for key, value in data.items() if key != form.unwraps}, **interpolated(inner, (form.unwraps,))}
    return data


def _keys(path: Path, form: Format, pairs: Sequence[tuple[str, Any]], found: Collected) -> None:
    keys = {plain_name(name) for name, _ in pairs}
    stage = next((stage for key, stage in form.marked.items() if key in keys), None)
    if stage is not None and "stage" not in keys:
        found.given.append(Given(form=form, name="stage", value=stage, where=path.name))
    further: list[tuple[str, Any]] = []
    for name, value in pairs:
        plain = plain_name(name)
        if isinstance(value, Mapping):
            option = form.options.get(plain)
            if plain in form.unmodelled or (option is not None and option.values is None and option.on is None):
                found.given.append(Given(form=form, name=name, value=value, where=path.name))
            continue
        if plain not in form.options and any(above in form.unmodelled for above in _above(plain)):
            continue  # the table that it stands in is told of as a whole
        if plain in form.files:
            further.append((name, value))
        found.given.append(Given(form=form, name=name, value=value, where=path.name))
    for name, value in further:
        _further(path, form, name, value, found)


def _above(name: str) -> Iterator[str]:
    """The tables that an option stands in, such as "a.b" and "a" of "a.b.c"."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _containers(path: Path, data: Mapping[str, Any], found: Collected) -> bool:
    """Whether the file starts containers; what they start is read as a script."""
    several = list(islice(containers(data), MOST_CONTAINERS + 1))
    if len(several) > MOST_CONTAINERS:
        raise PlannerError("{0}: holds over {1:,} containers; give a file of the one that you ask about.", path, MOST_CONTAINERS)
    if not several:
        return False
    before = len(found.given)
    _script(path, "\n".join(map(container_script, several)), found)
    if len(found.given) > before:  # the options of what is started override these
        form, gpus = load_format("containers"), [pair for one in several for pair in container_gpus(one)]
        found.given[before:before] = [Given(form=form, name=name, value=value, where=path.name) for name, value in gpus]
    copies = replicas(data)
    if copies > 1:
        found.notes.append(Message("{0}: replicas = {1}: the answer is for one of them", path.name, copies))
    return True


def _of_no_tool(path: Path, data: Mapping[str, Any]) -> PlannerError:
    """The error for a configuration of no supported tool."""
    if not data or data == {"documents": []}:  # YAML of no document
        return PlannerError("{0}: is empty; give the configuration of a launch, or its script.", path)
    if {"model", "cluster"} <= set(data):
        command = "serve" if "serving" in data else "plan"
        return PlannerError("{0}: is a scenario, not a launch file; `planner {1} {0}` answers it.", path, command)
    tools = ", ".join(one.title for one in formats() if one.marks)
    return PlannerError("{0}: no supported tool has these keys; --from reads {1}.", path, tools)


def _form_of(keys: set[str]) -> Format | None:
    """The format whose marks are among the keys; of several, the one with the most marks."""
    hits = [(len(marks), form) for form in formats() for marks in form.marks if set(marks) <= keys]
    return max(hits, key=lambda hit: hit[0])[1] if hits else None


def _further(path: Path, form: Format, name: str, value: Any, found: Collected) -> None:
    """Read a file that an option names, where it lies beside the one that names it."""
    if not isinstance(value, str) or not value.lower().endswith((".json", ".toml", ".yaml", ".yml")):
        return
    if (text := found.written.get(value)) is not None and value.endswith(".json"):
        held, found.given[:] = list(found.given), []
        _configuration(Path(value), _parsed(Path(value), text, ".json"), found, None)
        found.given[:] = [*found.given, *held]
        return
    beside = [Path(value), path.parent / value, path.parent / Path(value).name]
    there = next((one for one in beside if "$" not in value and _is_file(one)), None)
    if there is None:
        if any(one.name == Path(value).name for one in found.files):
            return
        ships = next((one for one in formats() if Path(value).name.lower() in one.shipped), form)
        shipped = ships.shipped.get(Path(value).name.lower(), {})
        found.given[:0] = [Given(form=ships, name=key, value=one, where=value) for key, one in shipped.items()]
        text = (
            "{0}: {1} {2} was not found beside it; the file that the tools ship under that name is used; to "
            "use your own, give it with --from"
            if shipped
            else "{0}: {1} {2} was not found beside it; give it with --from"
        )
        found.notes.append(Message(text, path.name, name, value))
        return
    held = list(found.given)
    found.given.clear()
    _read(there, found, load_format(form.name) if form.kind != "launcher" else None)
    found.given[:] = [*found.given, *held]  # options beside the file's name override the file


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


# --- scripts ----------------------------------------------------------------------------------------------------------


UNREAD = {
    "verl.trainer": ("verl", ""), "openrlhf.cli": ("OpenRLHF", "deepspeed-zero"), "nemo_rl": ("NeMo RL", ""),
    "swift.cli.rlhf": ("ms-swift", "ms-swift"), "swift rlhf": ("ms-swift", "ms-swift"),
    "megatron sft": ("Megatron-SWIFT", "megatron-core"), "megatron pt": ("Megatron-SWIFT", "megatron-core"),
    "megatron rlhf": ("Megatron-SWIFT", "megatron-core"),
}  # fmt: skip
"""Beginning of a program -> (a tool whose options are not read, the framework that updates its weights)."""
IMAGE = "CONTAINER_IMAGE"
"""The variable that holds the image of a container whose command starts a program of its own (``container_script``)."""
GENERATES = re.compile(r"ppo|grpo|gspo|rloo|dapo|reinforce", re.IGNORECASE)
"""Words of methods that generate answers before they learn from them."""


def _script(path: Path, text: str, found: Collected) -> None:
    variables = {IMAGE, *(name for form in formats() for name in form.environment)}
    script = read_script(text, lambda name: _beside(path, name, found), variables)
    for command in script.commands:
        _refuse_unread(path, command)
    _undecided(path, script, found)
    found.written |= script.written
    _batch_lines(path, script, found)
    known = [(parts, around) for words, around in zip(script.commands, script.around, strict=True) if (parts := _parts(words))]
    tools = [(parts, around) for parts, around in known if any(form.kind != "launcher" for form, _ in parts)]
    for form in {id(form): form for parts, _ in tools for form, _ in parts if form.kind != "launcher"}.values():
        if sum(any(one is form for one, _ in parts) for parts, _ in tools) > 1:
            found.notes.append(
                Message("{0}: starts {1} more than once; the options of the last start hold", path.name, form.title)
            )
    for parts, around in tools or known:
        for form, words in parts:
            found.started.add(form.name)
            options = _around(form, script, around)
            found.given += (Given(form=form, name=name, value=value, where=path.name) for name, value in options)
            _options(path, form, words, found)


def _around(form: Format, script: Script, around: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Options that stand around a command: the release in the tag of its container, and the variables around it."""
    images = [around.get(IMAGE, ""), *(word for command in script.commands for word in command)]
    for release in (form.release_of(image) for image in images):
        if release is not None:
            yield "image-release", release
    for name in form.environment:
        if name in around:
            yield name, around[name]


def _refuse_unread(path: Path, command: Sequence[str]) -> None:
    """PlannerError for a command of a tool whose options are not read, with the commands that answer in its place."""
    if any(word.endswith("launcher_scripts/main.py") for word in command):
        found = (re.fullmatch(r"(training|fine_tuning|peft)=(?!none$)(\w[\w./-]*)", word) for word in command)
        conf = next((f"{one[1]}/{one[2]}" for one in found if one is not None), "training/MODEL/SIZE")
        raise PlannerError(
            "{0}: starts NeMo-Framework-Launcher, whose model is in a file of its conf folder; read that "
            "file, --from conf/{1}.yaml, and give what this script changes with --set.",
            path,
            conf,
        )
    heard = [f"{word.rpartition('/')[2]} {after}" for word, after in zip(command, [*command[1:], ""], strict=True)]
    title, framework = next((tool for text in heard for name, tool in UNREAD.items() if _begins(text, name)), ("", ""))
    if not title:
        return
    by = f" --framework {framework}" if framework else ""
    if any(GENERATES.search(word) for word in command):
        update = Message("`planner plan MODEL --finetune{0} --on 8xh100` for an update of the weights", by)
        answers = Message("`planner serve MODEL --on 8xh100` for the answers that are generated")
        raise PlannerError(
            "{0}: starts {1}, whose options are not read; ask about each part: {2}, {3}.", path, title, update, answers
        )
    plan = Message("`planner plan MODEL --finetune{0} --on 8xh100` (--lora for adapters)", by)
    raise PlannerError("{0}: starts {1}, whose options are not read; use {2}.", path, title, plan)


def _beside(path: Path, name: str, found: Collected) -> str | None:
    """The text of a further script that a script names, where it lies beside it."""
    there = next((one for one in (path.parent / name, path.parent / Path(name).name) if "$" not in name and _is_file(one)), None)
    if there is None:
        return None
    found.files.add(Path(os.path.realpath(there)))
    return read_text(there, "a launch script", MOST_BYTES)


def _undecided(path: Path, script: Script, found: Collected) -> None:
    """Notes on conditions that depend on the script's arguments, and on loops."""
    asked = list(dict.fromkeys(script.undecided))
    if asked:
        found.notes.append(
            Message(
                "{0}: it is not known whether {1}; every branch is read, and the last one counts. To settle it, "
                "give a one-line script that runs this one with its arguments, such as bash {0} 8B 1",
                path.name,
                "; ".join(asked),
            )
        )
    for name, value in list(script.loops.items())[:MOST_LOOPS]:
        found.notes.append(Message("{0}: a loop gives {1} several values; the last one is taken: {2}", path.name, name, value))


def _begins(text: str, name: str) -> bool:
    return f"{text} ".startswith(f"{name} ") if " " in name else text.startswith(name)


def _batch_lines(path: Path, script: Script, found: Collected) -> None:
    """``#SBATCH`` comments: nodes and GPUs."""
    form = load_format("srun")
    for line in script.comments:
        match = SBATCH.match(line)
        if match:
            _options(path, form, match[1].split("#")[0].replace("=", " ", 1).split(), found)


def _parts(words: Sequence[str]) -> list[tuple[Format, list[str]]]:
    """A command cut at the programs that it starts: launchers and the tool, each with the words after it."""
    starts: list[tuple[int, int, Format]] = []
    at = 0
    while at < len(words):
        hit = _program_at(words, at)
        if hit is not None:
            starts.append((at, hit[0], hit[1]))
            at += hit[0]
        else:
            at += 1
    keys = {plain_name(word.partition("=")[0]) for word in words if OPTION.match(word)}
    tool = next((form for _, _, form in starts if form.kind != "launcher"), None)
    if tool is None:
        script = _trainer_at(words, starts[-1][0] + starts[-1][1] if starts else 1)
        own = _form_of(keys) if script is not None else None
        own = own or (load_format("transformers") if starts else None)
        if script is not None and own is not None:
            starts.append((script, 1, own))
    starts = [(at, length, _told(form, keys)) for at, length, form in starts]
    if not starts:
        return []
    ends = [start for start, _, _ in starts[1:]] + [len(words)]
    return [
        (form, [*_stage(form, words[start : start + length]), *words[start + length : end]])
        for (start, length, form), end in zip(starts, ends, strict=True)
    ]


def _told(form: Format, keys: set[str]) -> Format:
    """The format that the options point to (``told_by``), of those that have the same programs; else this one."""
    return next((one for one in formats() if form.name in one.takes and one.told_by & keys), form)


def _stage(form: Format, program: Sequence[str]) -> list[str]:
    """The options --stage and --recipe that the words of a program stand for."""
    heard = (stage for words, stage in form.stages.items() if all(map(_same, program, words.split())))
    return [*[f"--stage={stage}" for stage in heard][:1], *(f"--recipe={recipe}" for recipe in _recipe(form, program[0]))]


def _recipe(form: Format, program: str) -> list[str]:
    """The recipe that a program is named after: llama3_8b_pretrain of pretrain_llama3_8b.py; none where it is no model's."""
    found = re.fullmatch(form.named, program.rpartition("/")[2]) if form.named else None
    return [f"{found[2]}_{found[1]}"] if found is not None and recipe_model(found[2]) is not None else []


def _program_at(words: Sequence[str], at: int) -> tuple[int, Format] | None:
    """(number of words, format) of the program that begins at a word."""
    if words[at].startswith("-"):
        return None
    best: tuple[int, Format] | None = None
    for form in formats():
        for program in form.programs:
            parts = program.split()
            heard = list(words[at : at + len(parts)])
            if len(heard) == len(parts) and all(map(_same, heard, parts)) and (best is None or len(parts) > best[0]):
                best = (len(parts), form)
    if best is None and "/recipes/" in f"/{words[at]}":  # where the tool keeps them; elsewhere its keys tell that it is one
        best = next(((1, form) for form in formats() if _recipe(form, words[at])), None)
    return best


def _same(word: str, part: str) -> bool:
    return word == part or word.rpartition("/")[2].partition(":")[0] == part or word.endswith(f"/{part}")


def _trainer_at(words: Sequence[str], start: int) -> int | None:
    """Where the user's own training script stands after a launcher."""
    for at in range(start, len(words)):
        if words[at].endswith(".py") or (words[at - 1] in ("-m", "--module") and not words[at].startswith("-")):
            return at
    return None


def _options(path: Path, form: Format, words: Sequence[str], found: Collected) -> None:
    further: list[tuple[str, Any]] = []
    pairs = (one for name, value in _pairs(form, words) for one in _unfolded(form, name, value))
    for name, value in pairs:
        if plain_name(name) in form.files:
            further += [(name, one) for one in (value if isinstance(value, list) else [value])]
        found.given.append(Given(form=form, name=name, value=value, where=path.name))
    for name, value in further:
        _further(path, form, name, value, found)


def _unfolded(form: Format, name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The options of a table given as JSON, where the tool takes them one by one as well: ``--a '{"b": 1}'`` is ``--a.b 1``."""
    above = f"{plain_name(name)}."
    if isinstance(value, str) and value.startswith("{") and any(option.startswith(above) for option in form.options):
        try:
            require_sane(value, name)
            table = json.loads(value)
        except (PlannerError, ValueError, RecursionError):
            table = None
        if isinstance(table, dict):
            yield from ((one, inner) for one, inner in _flat(table, f"{name}.") if not isinstance(inner, Mapping))
            return
    yield name, value


def _pairs(form: Format, words: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Options with their values: True for a bare flag, a list for several words."""
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word in ("$@", "--", "\\") or not word:
            continue
        if UNSET.fullmatch(word):
            yield word, True
            continue
        if not OPTION.match(word):
            yield from _loose(form, word)
            continue
        name, equals, value = word.partition("=")
        if equals:
            yield name, value
            continue
        values: list[str] = []
        while at < len(words) and not _ends_values(form, words[at], values):
            values.append(words[at])
            at += 1
            while values and at < len(words) and UNSET.fullmatch(words[at]):  # the shell leaves out what is not set
                yield words[at], True
                at += 1
        yield name, True if not values else values[0] if len(values) == 1 else values


def _ends_values(form: Format, word: str, values: Sequence[str]) -> bool:
    """Whether a word is no further value of an option: the next option, a pair, or what stands alone after a number."""
    if OPTION.match(word) or word == "$@" or SEVERAL.fullmatch(word):
        return True
    if not values:
        return False
    alone = form.kind == "launcher" or (bool(form.positional) and values[-1].isdigit())
    return alone or PAIR.fullmatch(word) is not None or re.fullmatch(r"[a-z_]+:[a-z]+", word) is not None


def _loose(form: Format, word: str) -> Iterator[tuple[str, Any]]:
    """A word that is no option: ``key=value``, torchtitan's ``activation_checkpoint:full``, or what stands alone."""
    pair = PAIR.fullmatch(word)
    if pair:
        yield pair[1], pair[2]
    elif re.fullmatch(r"[a-z_]+:[a-z]+", word):
        name, _, value = word.partition(":")
        yield name, value
    elif word.lower().endswith((".json", ".yaml", ".yml", ".toml")):
        yield "config", word
    elif form.positional:
        yield form.positional, word
