"""The command line: a door to the library. Every command prints tables for people, or JSON with ``--json``."""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import re
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from planner.cli.help import Spoken, first_sentence, said
from planner.cli.options import UNREAD
from planner.common.errors import PlannerError, near, one_of
from planner.common.message import Message, join_messages
from planner.common.spellings import places
from planner.common.translation import LANGUAGES, speak, spoken, spoken_language, spoken_word
from planner.common.version import VERSION

GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Ask": {
        "plan": ("plans:plan_command", "Memory, step time, days and dollars of one configuration."),
        "compare": ("plans:compare_command", "The same for several configurations, side by side."),
        "run": ("runs:run_command", "A whole run: failures, checkpoints, energy, the bill."),
        "tune": ("tuning:tune_command", "Full fine-tuning, LoRA and QLoRA side by side."),
        "trace": ("trace:trace_command", "One step as a timeline for Perfetto, with its memory."),
        "init": ("schema:init_command", "A commented scenario to edit."),
        "operators": ("plans:operators_command", "The table of operators behind a plan."),
    },
    "Search": {
        "search": ("search:search_command", "The best of all layouts, clusters and frameworks."),
        "sweep": ("search:sweep_command", "Answers over a grid of values."),
        "limit": ("search:limit_command", "The largest value of a field that still fits."),
        "size": ("serving:size_command", "The fewest GPUs of each type that hold a model."),
    },
    "Serve": {"serve": ("serving:serve_command", "Latency, throughput, queues and cost of serving.")},
    "Launch": {"export": ("search:export_command", "A plan or a deployment as launch files of your tools.")},
    "Money": {
        "own": ("holding:own_command", "Rent, reserve, spot or own, over years."),
        "prices": ("runs:prices_app", "Dated quotes: list, show, import, refresh."),
    },
    "Evidence": {
        "audit": ("runs:audit_command", "Published claims, checked."),
        "validate": ("measured:validate_command", "Predictions against measured runs."),
        "debug": ("debug:debug_command", "Versions, question and answer, to report a mistake."),
        "fit": ("measured:fit_command", "Refit the fitted constants to measured runs."),
    },
    "Measure": {
        "measure": ("measure:measure_command", "Measure this machine: kernels, training steps, links."),
        "calibrate": ("measured:calibrate_command", "Profiles fitted to records of your own machine."),
    },
    "Catalog": {
        "models": ("catalog:models_app", "Models: list, show, families, import, derive."),
        "hardware": ("catalog:hardware_app", "Accelerators and nodes: list, show."),
        "frameworks": ("catalog:frameworks_app", "Training software: list, show."),
        "engines": ("catalog:engines_app", "Serving software: list, show."),
        "scenarios": ("catalog:scenarios_app", "Shipped questions: list, show."),
        "schema": ("schema:schema_command", "Every table and field that a file may hold."),
    },
    "Page": {"app": ("page:app_command", "The same in a browser, on this machine.")},
}
"""Every command: group -> name -> (module of this package and what it holds, its line in ``planner --help``)."""
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
HELP = {"help_option_names": ["-h", "--help"]}
LONG = ("app", "fit", "measure", "calibrate")
"""Commands that are no short answer: of minutes, or open until they are closed."""


def takes_list(option: Any) -> bool:
    """Whether the value of an option is a list with commas, as its declaration says: ``metavar="NAME,..."``."""
    return str(option.metavar).endswith(",...")


class Command(Spoken, TyperCommand):
    """A command whose usage line names its arguments as they are typed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the parser does; an option that takes one value and is given two is refused, since one would change nothing, and one
        whose value would be another option."""
        options = [one for one in self.get_params(ctx) if one.param_type_name == "option"]
        spellings = {spelled for one in options for spelled in one.opts}
        for one in (one for one in options if not getattr(one, "is_flag", False)):
            values = [value for spelled in one.opts for value in _all_given_to(spelled, args)]
            said: dict[str, Any] = {"code": "usage", "field": one.opts[0]}
            if len(values) > 1 and not one.multiple:
                if takes_list(one) and None not in values:
                    raise PlannerError(
                        "{0}: is given twice; a list stands in one word: {0} {1}.",
                        one.opts[0],
                        ",".join(map(str, values)),
                        **said,
                        value=values[1],
                    )
                raise PlannerError(
                    "{0}: is given twice, {1!r} and {2!r}; give it once.", one.opts[0], *values[:2], **said, value=values[1]
                )
            if "--set" in one.opts and one.multiple:
                _refuse_blank(args)
            swallowed = next((value for value in values if value in spellings), None)
            if swallowed is not None:
                raise PlannerError(
                    "{0}: takes a value, and what follows is the option {1}; give {0} {2}.",
                    one.opts[0],
                    swallowed,
                    one.metavar or "VALUE",
                    **said,
                    value=swallowed,
                )
        found: list[str] = super().parse_args(ctx, args)
        return found

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """[OPTIONS] SCENARIO..., in brackets what may be left out."""
        pieces = ["[OPTIONS]"]
        for one in self.get_params(ctx):
            if one.param_type_name != "argument" or getattr(one, "hidden", False):
                continue
            name = one.metavar or (one.name or "").upper()
            name += "..." if one.nargs == -1 and "..." not in name else ""
            pieces.append(name if one.required or name.startswith("[") else f"[{name}]")
        return pieces


class Commands(Spoken, TyperGroup):
    """Commands of a command, each with its first sentence, whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Name and sentence."""
        rows = []
        for name in self.list_commands(ctx):
            text = getattr(self.get_command(ctx, name), "help", None) or ""
            rows.append((name, first_sentence(text)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@lru_cache(maxsize=64)
def _parser_of(name: str, found: Any) -> Any:
    """The parser of a command, a function or an application of several; built once, however many questions a process asks."""
    if not isinstance(found, typer.Typer):
        one = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=HELP)
        one.command(name)(found)
        found = one
    found.info.cls = Commands
    for registered in found.registered_commands:
        registered.cls = Command
    found.rich_markup_mode, found._add_completion, found.pretty_exceptions_enable = None, False, False
    found.info.context_settings = HELP
    command = typer.main.get_command(found)
    command.name = name
    return command


class Doors(Spoken, TyperGroup):
    """Commands that are imported when they are asked for, and listed by what people want."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the groups."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        return _parser_of(cmd_name, getattr(importlib.import_module(f"planner.cli.{module}"), name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As the parser does; an unknown command is answered with the nearest ones."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            options = [one for one in ("--help", "--version") if one.lstrip("-") == args[0].lower()]
            meant = Message("did you mean {0}?", "planner " + options[0]) if options else near(args[0], COMMANDS)
            raise PlannerError("unknown command {0!r}; {1}.", args[0], meant, code="usage", value=args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A section for each group; each command's own line, whole."""
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()], col_max=12)


app = typer.Typer(
    name="planner",
    cls=Doors,
    help="Memory, time and money to train, fine-tune or serve a language model on given GPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=HELP,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"planner {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    lang: Annotated[
        str | None,
        typer.Option("--lang", metavar="en|zh", help="Language of answers and errors; PLANNER_LANG or the locale when left out."),
    ] = None,
) -> None:
    """Options of planner itself."""  # --lang may stand anywhere: spoken_in has read it


USAGE: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""What the parser raises on unknown options and bad values; typer does not export it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; bad input ends with one paragraph on standard error, or JSON with --json, and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and not set(LONG) & set(given[:1]):
        hurry()
    try:
        given = spoken_in(given)
        given = typed_in_ascii(given)
        code = app(given, prog_name="planner", standalone_mode=False)
        sys.stdout.flush()
    except PlannerError as error:
        refuse(error, "--json" in given, as_typed(given))
    except USAGE as error:
        refuse(_of_usage(error, given), "--json" in given, as_typed(given))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        sys.exit(0)
    except (KeyboardInterrupt, typer.Abort):
        print(spoken_word("stopped"), file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        refuse(
            PlannerError("standard output: cannot be written ({0}).", error.strerror or error, code="output"), "--json" in given
        )
    sys.exit(code if isinstance(code, int) else 0)


def hurry() -> None:
    """Set this process up for one short answer, a third sooner: modules and catalogs are live until its end.

    Garbage is looked for after 100,000 new objects, not after each 700, and at the end not at all: the process's memory goes
    with it. Pydantic asks every installed package whether it brings a plugin: not here, where none is of use. Idle threads of
    OpenBLAS spin for 2^4 clock ticks, its least, and not for 2^26, before they sleep. A variable that is set already is left.
    """
    gc.set_threshold(100_000, 20, 20)
    atexit.register(gc.freeze)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


FULLWIDTH = {**{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}, 0x3000: 0x20}


def typed_in_ascii(given: list[str]) -> list[str]:
    """The words of a command line with letters, digits and marks of Chinese keyboards as ASCII has them; paths as they are."""
    plain = [word.translate(FULLWIDTH) for word in given]
    if plain == given:
        return given
    paths = path_options(next((word for word in plain if word in COMMANDS), ""))
    return [halfwidth(word, before, paths) for before, word in zip(["", *plain], given, strict=False)]


def path_options(name: str) -> frozenset[str]:
    """The options of a command, and of the commands of it, whose value is a path."""
    paths = (one for one in options_of(name) if str(one.metavar).startswith(("FILE", "FOLDER")))
    return frozenset(spelled for one in paths for spelled in one.opts)


def options_of(name: str) -> list[Any]:
    """The options of a command, and of the commands of it."""
    commands = [Doors(name="planner").get_command(None, name)] if name in COMMANDS else []
    found = []
    while commands:
        one = commands.pop()
        commands += getattr(one, "commands", {}).values()
        found += [param for param in one.params if param.param_type_name == "option"]
    return found


def as_typed(given: Sequence[str]) -> dict[str, str]:
    """Spellings of options -> the one that stands on the command line, where another one does not: --budget-usd -> --budget."""
    found: dict[str, str] = {}
    for one in options_of(next((word for word in given if word in COMMANDS), "")):
        typed = [spelled for spelled in one.opts if _all_given_to(spelled, given)]
        if len(typed) == 1:
            found |= dict.fromkeys((spelled for spelled in one.opts if spelled not in typed), typed[0])
    return found


def halfwidth(word: str, before: str = "", paths: Collection[str] = ()) -> str:
    """A word with the letters, digits and marks of Chinese keyboards as ASCII has them; a path stays as it is: one that exists
    and the value of one of the options ``paths``, which may be the word ``before``.

    >>> halfwidth("８×Ｈ１００"), halfwidth("－－tokens＝１００Ｂ")
    ('8×H100', '--tokens=100B')
    >>> halfwidth("－－write＝（一）.toml", "", ["--write"]), halfwidth("（一）.toml", "--write", ["--write"])
    ('--write=（一）.toml', '（一）.toml')
    """

    def is_path(option: str, value: str) -> bool:
        return option in paths or value.endswith(".toml") or os.path.exists(value)

    found = word.translate(FULLWIDTH)
    if found == word or (is_path(before, word) and not found.startswith("--")):
        return word
    name, mark, _ = found.partition("=")
    value = word[len(name) + 1 :]  # each letter of Chinese keyboards is one of ASCII
    return f"{name}={value}" if mark and is_path(name, value) else found


def spoken_in(given: list[str]) -> list[str]:
    """Speak the language of --lang, else of PLANNER_LANG, else of the locale; the arguments without --lang."""
    speak("en")
    rest, named, source = list(given), os.environ.get("PLANNER_LANG", ""), "PLANNER_LANG"
    ends = rest.index("--") if "--" in rest else len(rest)
    for place in range(ends - 1, -1, -1):
        option, mark, value = rest[place].partition("=")
        if option == "--lang":
            named, source = value if mark else "".join(rest[place + 1 : place + 2]), "--lang"
            del rest[place : place + (1 if mark else 2)]
            break
    if not named and source == "PLANNER_LANG":
        locale = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
        named = "zh" if locale.lower().startswith("zh") else "en"
    if named not in LANGUAGES:
        raise PlannerError("{0} = {1!r}: {2}.", source, named, one_of(named, LANGUAGES), code="usage")
    speak(named)
    return rest


NUMBERS = {
    "valid number": Message("must be a number"),
    "valid float": Message("must be a number"),
    "valid integer": Message("must be a whole number"),
}
"""Words of the parser's complaint, in its releases, and what the option takes."""

PARSER = {
    r"Missing argument '(.+)'": Message("Missing argument {0!r}"),
    r"Missing option '(.+)'": Message("Missing option {0!r}"),
    r"No such option: (\S+)": Message("No such option: {0}"),
    r"No such option: (\S+) \(Possible options: (.+)\)": Message("No such option: {0} (Possible options: {1})"),
    r"No such command '(.+)'": Message("No such command {0!r}"),
    r"Option '(.+)' requires an argument": Message("Option {0!r} requires an argument"),
    r"Option '(.+)' does not take a value": Message("Option {0!r} does not take a value"),
    r"Got unexpected extra argument\(s\) \((.+)\)": Message("Got unexpected extra argument(s) ({0})"),
}
"""The parser's complaints, whole, and the template of each, which can be said in another language."""


def _told(text: str) -> str:
    """A complaint of the parser as a message; one that is not known stays as it is."""
    found = ((re.fullmatch(words, text), told) for words, told in PARSER.items())
    groups = ((told.key, match.groups()) for match, told in found if match is not None)
    return next((Message(key, *(part.replace("' / '", " / ") for part in parts)) for key, parts in groups), text)


def _of_usage(error: Any, given: Sequence[str]) -> PlannerError:
    """The parser's complaint as one of ours, with the command whose --help tells more; help where nothing was given."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        sys.exit(2)
    text = _told(error.format_message().strip().rstrip("."))
    context = getattr(error, "ctx", None)
    command = (
        context.command_path if context is not None else " ".join(["planner", *(name for name in given[:1] if name in COMMANDS)])
    )
    remedy: str = Message("`{0} --help` lists what it takes", command)
    param = getattr(error, "param", None)
    needed = next((said for words, said in NUMBERS.items() if words in text), None)
    for spelled in getattr(param, "opts", ()) if needed is not None else ():
        value = _given_to(spelled, given)
        if value is not None:
            if spelled == "--gpus":
                remedy = Message("types of GPU stand after {0}; {1}", "--on", remedy)
            return PlannerError("{0} = {1!r}: {2}; {3}.", spelled, value, needed, remedy, code="type", field=spelled)
    meaning = str(getattr(param, "help", None) or "")
    if type(error).__name__ == "MissingParameter" and meaning:
        text = Message("{0}: {1}", text, said(meaning).rstrip(".。"))
    option = str(getattr(error, "option_name", None) or "")
    if type(error).__name__ == "NoSuchOption":
        text, remedy = _no_such_option(option, context, command, given, remedy)
    elif "unexpected extra argument" in str(error.message) and context is not None:
        remedy = _further_words(context, str(error.message).partition("(s) (")[2].rstrip(")").split(), given, remedy)
    return PlannerError(join_messages("; ", [part for part in (text, remedy) if part]) + ".", code="usage", remedy=remedy)


def _no_such_option(option: str, context: Any, command: str, given: Sequence[str], remedy: str) -> tuple[str, str]:
    """(what is wrong, what would be right) of an option that a command lacks."""
    from planner.cli.guesses import alike, instead

    params = [] if context is None else context.command.params
    taken = [spelled for one in params for spelled in one.opts]
    sets = any("--set" in one.opts and str(one.metavar).startswith("TABLE") for one in params)
    text = Message("No such option: {0}", option)
    place = _place(option, command, given)
    on = _given_to("--on", given)

    def right(asked: str) -> str:
        return instead(asked, taken, command, _value_of(option, given), on)

    if named := right(place):
        if on is not None and named == f"--on {on}":
            return text, Message("{0} says it; leave {1} out; {2}", named, option, remedy)
        return text, Message("write {0}; {1}", named, remedy)
    if place and sets:
        return text, Message("{0}, or write --set {1}={2}", remedy, place, _value_of(option, given) or "VALUE")
    named, others = right(option), _takers(option)
    if named and not (named.startswith("`") and others):
        return text, Message("write {0}; {1}", named, remedy)
    if elsewhere := _stands_elsewhere(option, params, command, given, remedy):
        return text, elsewhere
    near_ones = alike(option, [one for one in taken if one.startswith("--")])
    if near_ones:
        return Message("No such option: {0} (Possible options: {1})", option, ", ".join(near_ones)), remedy
    if others:
        return text, Message("{0}; {1} belongs to planner {2}", remedy, option, ", ".join(others[:MOST_NAMED]))
    return text, remedy


def _stands_elsewhere(option: str, params: Sequence[Any], command: str, given: Sequence[str], remedy: str) -> str:
    """Where what an option gives elsewhere stands in this command; empty where it stands nowhere."""
    on, value = _given_to("--on", given), _value_of(option, given)
    if option == "--model":
        return Message("{0}; the model stands without an option: {1} MODEL", remedy, command)
    if option == "--on" and any(str(one.metavar).startswith("GPUS") for one in params):
        return Message("the GPUs stand without an option: {0} {1}; {2}", command, on or "8xh100", remedy)
    if option == "--from" and any(one.name == "target" for one in params):
        file = " ".join(["--from", shlex.quote(value or "launch.sh"), *([] if on is None else ["--on", on])])
        return Message("`planner plan {0} --write mine.toml` writes the question, and {1} takes mine.toml", file, command)
    return ""


def _further_words(context: Any, words: Sequence[str], given: Sequence[str], remedy: str) -> str:
    """What to do with words that a command does not take: the option of a field, the list they belong to, look for them, or ask
    about each."""
    from planner.cli.guesses import of_field
    from planner.hardware.asked import several_gpus

    params = context.command.params
    names = {one.name for one in params}
    if named := next(filter(None, (of_field(word, [spelled for one in params for spelled in one.opts]) for word in words)), ""):
        return Message("write {0}; {1}", named, remedy)
    takes = next((one for one in params if "--on" in one.opts and takes_list(one)), None)
    on = _given_to("--on", given)
    if takes is not None and on and several_gpus(whole := ",".join([on, *words])):
        return Message("a list stands in one word: {0} {1}; {2}", "--on", shlex.quote(whole), remedy)
    if "search" in names:
        return Message("words to look for stand after {0}; {1}", "--search", remedy)
    if "target" in names:
        return Message("one question is answered at a time, and `planner compare` answers several side by side; {0}", remedy)
    return remedy


def _place(option: str, command: str, given: Sequence[str]) -> str:
    """The field of a scenario that an option of another tool sets and that the command reads; empty where there is none."""
    from planner.export.servers import SERVERS

    name = command.rpartition(" ")[2]
    serves = name == "serve" or (name == "export" and _given_to("--to", given) in SERVERS)
    found = next((place for place in places(option) if serves or not place.startswith("serving.")), "")
    if serves and found:
        from planner.serving.spec import Serving

        field = found.partition(".")[2]
        return f"serving.{field}" if field in Serving.model_fields else found if found.startswith(("model.", "cluster.")) else ""
    return "" if {found, found.partition(".")[0]} & set(UNREAD.get(name, ())) else found


MOST_NAMED = 4
"""Commands that the error of an option of others names at most."""


def _takers(option: str) -> list[str]:
    """The commands, of those without commands of their own, that take an option."""
    commands = {name: Doors(name="planner").get_command(None, name) for name in COMMANDS}
    return [name for name, command in commands.items() if any(option in one.opts for one in command.params)]


def _refuse_blank(given: Sequence[str]) -> None:
    """PlannerError for ``--set FIELD VALUE``, whose value would be a word of its own."""
    for option, name, value in zip(given, given[1:], given[2:], strict=False):
        if option == "--set" and "=" not in name and not value.startswith("--"):
            raise PlannerError(
                "--set {0} {1}: field and value stand in one word: --set {0}={1}.",
                name,
                value,
                code="usage",
                field="--set",
                value=value,
            )


def _given_to(option: str, given: Sequence[str]) -> str | None:
    """What the command line gives an option."""
    return next(iter(_all_given_to(option, given)), None)


def _value_of(option: str, given: Sequence[str]) -> str | None:
    """The value that follows an option; None where another option does, or nothing."""
    value = _given_to(option, given)
    return None if not value or value.startswith("-") else value


def _all_given_to(option: str, given: Sequence[str]) -> list[str | None]:
    """What the command line gives an option, each time."""
    ends = given.index("--") if "--" in given else len(given)
    found: list[str | None] = []
    for place, word in enumerate(given[:ends]):
        if word == option:
            found.append(given[place + 1] if place + 1 < len(given) else None)
        elif word.startswith(f"{option}=") and option.startswith("--"):
            found.append(word.partition("=")[2])
    return found


def refuse(error: PlannerError, as_json: bool, typed: Mapping[str, str] | None = None) -> None:
    """Print the error on standard error and exit with 2; ``typed``: options by another spelling of them (``as_typed``)."""

    def named(text: str) -> str:
        return OPTION.sub(lambda found: (typed or {}).get(found[0], found[0]), text)

    if as_json:
        from planner.cli.output import SCHEMA_VERSION, plain

        told = error.to_dict()
        told |= {part: named(told[part]) for part in ("message", "field", "remedy")}
        print(json.dumps(plain({"schema_version": SCHEMA_VERSION, "error": told}), ensure_ascii=False), file=sys.stderr)
    else:
        colon = "：" if spoken_language() == "zh" else ": "
        print(_paragraph(f"{spoken_word('error')}{colon}{named(spoken(str(error)))}"), file=sys.stderr)
    sys.exit(2)


OPTION = re.compile(r"(?<![\w-])--?[a-z](?:[\w-]*\w)?", re.ASCII)
"""An option in a text."""


def _paragraph(text: str) -> str:
    """Broken into lines as wide as the terminal, or ``COLUMNS``; one line, which can be searched, into a file or a pipe."""
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else 0
    except (OSError, ValueError, AttributeError):  # no file of the system behind it, or none at all
        return text
    if not width:
        return text
    from planner.reports.text import folded

    asked = os.environ.get("COLUMNS", "")
    return "\n".join(folded(text, max(int(asked) if asked.isdecimal() else width, 40), "", "  "))
