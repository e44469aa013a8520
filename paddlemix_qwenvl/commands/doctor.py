"""`paddlemix-qwenvl doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddlemix_qwenvl.commands import options, terminal


def doctor(
    model_path: Annotated[
        str | None, typer.Option("--model_path", help="also look at the files and weights in this folder")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what this machine offers and what is wrong; exit 1 if inference would fail."""
    from paddlemix_qwenvl.commands.machine_doctor import diagnose

    findings = diagnose()
    if model_path is not None:
        terminal.quiet()
        from paddlemix_qwenvl.commands.model_doctor import examine

        findings += examine(model_path)
    fatal = sum(finding.fatal for finding in findings)
    if as_json:
        terminal.print_json({"ok": not fatal, "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            typer.echo(finding)
        warned = sum(bool(finding.remedy) for finding in findings) - fatal
        typer.echo(f"inference {'would fail' if fatal else 'can run'}: {fatal} failures, {warned} warnings")
    raise typer.Exit(1 if fatal else 0)
