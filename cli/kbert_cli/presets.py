"""`kbert presets`: the named presets, and which are on this machine."""

import json

import click

from kbert_cli.messages import import_tensorflow_quietly


@click.command("presets")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def presets(as_json: bool) -> None:
    """List the presets that have a name.

    Each with its size, language and case, and whether it is on this machine, where
    it works without a network. For example:
    kbert finetune --preset bert_tiny_en_uncased
    """
    import_tensorflow_quietly()
    from kbert.presets import list_presets

    infos = list_presets()
    if as_json:
        click.echo(json.dumps([info._asdict() for info in infos], indent=2))
        return

    from kbert.display import align_columns

    rows = [("preset", "language", "case", "here", "parameters")]
    rows += [
        (
            info.name,
            info.language,
            "cased" if info.cased else "uncased",
            "yes" if info.on_this_machine else "no",
            f"{info.parameters / 1e6:.1f} M",
        )
        for info in infos
    ]
    descriptions = ["description", *(info.description for info in infos)]
    lines = align_columns(rows, num_left=4)
    width = max(map(len, lines))
    for line, description in zip(lines, descriptions, strict=True):
        click.echo(f"{line:<{width}}  {description}")
