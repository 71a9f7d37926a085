"""README, CONTRIBUTING, docs/ and recipes say what the command line really takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kbert.config import load_config
from kbert.pretrain_settings import PretrainConfig, VocabConfig
from kbert.settings import ExportConfig, FinetuneConfig, describe_settings
from kbert_cli.main import cli
from kbert_cli.serve import as_flag

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
CONFIG_CLASSES = {
    "export": ExportConfig,
    "pretrain": PretrainConfig,
    "vocab": VocabConfig,
}
RECIPES = sorted((ROOT / "configs").rglob("*.toml"))


def section(title: str) -> str:
    """The text of README's section `## title`."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.M | re.S)
    return str(text)


def fenced_blocks(text: str) -> list[str]:
    return re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.M | re.S)


def kbert_calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of kbert in a line of shell: pipes, `&&` and all."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set("|&;<>"):
            words.append(word)
            continue
        while words and re.fullmatch(r"\$|[A-Z_]+=.*", words[0]):
            del words[0]
        if words and words[0] in ("kbert", ".venv/bin/kbert"):
            yield words[1:]
        words = []


def document_lines() -> Iterator[tuple[str, str]]:
    """Name and shell line of the documents' blocks and of the recipes' heads."""
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        blocks = [*fenced_blocks(text), *re.findall(r"^    (.*\n)", text, re.M)]
        for block in blocks:
            for line in block.replace("\\\n", " ").splitlines():
                yield path.name, line
    for path in RECIPES:
        head = "".join(
            line.removeprefix("#")
            for line in path.read_text("utf-8").splitlines(keepends=True)
            if line.startswith("#")
        )
        for line in head.replace("\\\n", " ").splitlines():
            yield path.name, line


DOCUMENTED = [
    pytest.param(arguments, id=f"{name}: kbert {' '.join(arguments)}"[:100])
    for name, line in document_lines()
    if re.search(r"^\s*(\$ |[A-Z_]+=\S+ )*(\S*/)?kbert |[|&] *(\S*/)?kbert ", line)
    for arguments in kbert_calls(line.strip())
]


def resolve(arguments: list[str]) -> tuple[click.Context, list[str]]:
    """The command that the arguments name, and what is left for it."""
    context, rest = click.Context(cli, info_name="kbert"), arguments
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, rest)
        assert command is not None, name
        context = click.Context(command, info_name=name, parent=context)
    return context, rest


def commands(
    command: click.Command, name: str = "kbert"
) -> Iterator[tuple[str, click.Command]]:
    """Full name and command of every command, groups left out."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for child in command.list_commands(context):
        found = command.get_command(context, child)
        assert found is not None, child
        yield from commands(found, f"{name} {child}")


def test_documents_show_commands():
    assert len(DOCUMENTED) >= 8


@pytest.mark.parametrize("arguments", DOCUMENTED)
def test_documented_command_line_parses(arguments: list[str]):
    # The parser alone: it knows options and their number of values, but neither
    # looks for the files that an example names nor runs anything.
    context, rest = resolve(arguments)
    parser = context.command.make_parser(context)
    if context.command is cli.commands["serve"]:
        rest = [as_flag(argument) for argument in rest]
    values, left_over, _ = parser.parse_args(rest)
    assert left_over == []
    for parameter in context.command.params:
        value = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            parameter.type.convert(value, parameter, context)
        if "--set" in parameter.opts and value:
            config_class = CONFIG_CLASSES.get(str(context.info_name), FinetuneConfig)
            load_config(config_class, file=None, assignments=value, options={})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "--epocs", "1"], "--epocs"),
        (["finetunee"], "finetunee"),
        (["config", "shows"], "shows"),
    ],
)
def test_a_wrong_command_line_would_be_found(arguments: list[str], message: str):
    with pytest.raises(click.UsageError, match=message):
        context, rest = resolve(arguments)
        context.command.make_parser(context).parse_args(rest)


@pytest.mark.parametrize(("name", "command"), commands(cli))
def test_command_has_help_and_is_in_the_readme(name: str, command: click.Command):
    assert command.help, f"{name} has no help text"
    assert f"`{name}`" in section("Commands"), f"README's table lacks {name}"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]} has no help text"


def test_readme_names_no_command_that_does_not_exist():
    named = re.findall(r"^\| `(kbert [a-z ]+)` \|", section("Commands"), re.M)
    assert sorted(named) == sorted(name for name, _ in commands(cli))


def test_set_up_takes_exactly_two_commands():
    blocks = fenced_blocks(section("Set-up"))
    assert len(blocks) == 2
    for block in blocks:
        assert len(block.splitlines()) == 1
        assert block.startswith("python3 -m venv .venv && ")
        assert "-c constraints.txt" in block
    assert blocks[0].endswith("kbert finetune\n")
    assert "pytest" in blocks[1]


def test_readme_names_only_settings_that_exist():
    named = set(re.findall(r"`((?:model|data|train|export)\.[a-z]\w+)`", README))
    known = {
        setting.key
        for config_class in (FinetuneConfig, *CONFIG_CLASSES.values())
        for setting in describe_settings(config_class)
    }
    assert named
    assert named <= known, named - known


def test_file_tree_of_the_readme_is_that_of_the_package():
    tree = section("The house")
    kept = {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "kbert").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    listed = set(re.findall(r"^  (\w+(?:\.py|/)) ", tree, re.M))
    assert listed == kept


def test_links_in_the_documents_lead_somewhere():
    for path in (*DOCUMENTS, ROOT / "CHANGELOG.md"):
        text = path.read_text("utf-8")
        targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
        targets += re.findall(r"\b(configs/[\w/]+\.toml)", text)
        places = (path.parent, ROOT)
        missing = [
            target
            for target in targets
            if not any((place / target).exists() for place in places)
        ]
        assert missing == [], path.name
