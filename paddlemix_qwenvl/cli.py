"""`paddlemix-qwenvl`: the commands, a module of `commands` each, and their list."""

import typer

from paddlemix_qwenvl.commands.chat import chat
from paddlemix_qwenvl.commands.doctor import doctor
from paddlemix_qwenvl.commands.export import export
from paddlemix_qwenvl.commands.infer import infer
from paddlemix_qwenvl.commands.plan import plan
from paddlemix_qwenvl.commands.predict import predict
from paddlemix_qwenvl.commands.quantize import quantize
from paddlemix_qwenvl.commands.serve import serve

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
for command in (infer, chat, export, predict, quantize, serve, plan, doctor):
    app.command()(command)

if __name__ == "__main__":
    app()
