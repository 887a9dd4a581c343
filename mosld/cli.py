"""The command line: `python -m mosld COMMAND`.

- `train`: a run, with a progress bar and a table of accuracies at the end.
- `compare`: several methods on the same batches over seeds, as a table (`mosld.studies.compare`).
- `merge`: adapters of single tasks merged into one model, beside training on the mixture (`mosld.studies.merge`).
- `claims`: the claims of the paper with their verdicts; runs and report of the study (`mosld.studies.claims`).
- `site`: lessons, recorded runs and claims as a static site (`mosld.site`).
- `export`: the adapters of a run in PEFT's format.
- `params`: trainable parameters of a method on a model's shape, counted without weights.
- `tasks`: every task with an example question, licence and source. `look`: what is understood of a file of your own.
- `knobs`: every setting of runs and of merging with its default, bounds and link key.

Flags come from the schema alone. A setting that cannot be used is one sentence on stderr and exit status 2. torch is imported by the commands
that train, not before.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
import textwrap
from pathlib import Path

from mosld.config import AdapterConfig, ConfigError, Knob, RunConfig, Strict, knobs, to_text, whole
from mosld.counting import duration
from mosld.files import trial
from mosld.merging.config import MERGES, MergeConfig
from mosld.registry import METHODS
from mosld.texts import choose, table

BAR = 30
WIDTH = 110  # columns of a listing
_said: list[str | int] = [""]  # the last sentence, or tenth of the work, told where stderr is no terminal


class Help(argparse.HelpFormatter):
    """Help as wide as a listing, with no value broken in mid-word."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=WIDTH)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """A parser that takes whole flags only: an abbreviation would change its meaning with the next flag that is added."""

    def __init__(self, **settings):
        super().__init__(**{"allow_abbrev": False, "formatter_class": Help, **settings})


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 2 a setting cannot be used, 130 stopped by the user."""
    parser = Parser(prog="python -m mosld", description="Train small mixtures of LoRA experts and measure them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _train_parser(commands)
    _compare_parser(commands)
    _merge_parser(commands)
    _claims_parser(commands)
    _params_parser(commands)
    commands.add_parser("tasks", help="list every task with an example, its licence and source").set_defaults(run=_tasks)
    _look_parser(commands)
    _export_parser(commands)
    _site_parser(commands)
    commands.add_parser("knobs", help="list every setting").set_defaults(run=_knobs)
    asked = (sys.argv[1:] if argv is None else argv)[:1]
    if asked and not asked[0].startswith("-") and asked[0] not in commands.choices:
        print(f"command: '{asked[0][:40]}' is not known; {choose(asked[0], commands.choices)}.", file=sys.stderr)
        return 2
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        known = [flag for action in commands.choices[args.command]._actions for flag in action.option_strings]
        close = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"'python -m mosld {args.command} --help' lists the flags."
        print(f"{unknown[0][:80]}: this is not a flag of '{args.command}'; {hint}", file=sys.stderr)
        return 2
    try:
        return args.run(args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a table left
        return 0
    except KeyboardInterrupt:  # while something was loaded: nothing is half made
        print("\nStopped.", file=sys.stderr)
        return 130


def add_knobs(parser: argparse.ArgumentParser, model: type[Strict] = RunConfig) -> None:
    """One flag for each knob of the schema, grouped as the schema groups them. Values stay texts until the schema reads them."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for knob in knobs(model):
        group = groups.setdefault(knob.group, parser.add_argument_group(knob.group))
        group.add_argument(f"--{knob.name.replace('_', '-')}", dest=knob.name, metavar=_metavar(knob), help=_help(knob))


def given(args: argparse.Namespace, model: type[Strict] = RunConfig) -> dict[str, str | None]:
    """The knobs that were set on the command line, as texts."""
    values = {k.name: getattr(args, k.name) for k in knobs(model) if getattr(args, k.name, None) is not None}
    return {k: None if k == "balance" and v == "own" else v for k, v in values.items()}


def show_progress(sentence: str, fraction: float | None = None, mark: bool = False) -> None:
    """A sentence, with a bar where the share done is known, on one line of stderr.

    Where stderr is no terminal, lines of their own: those without a share, one for each tenth done and those that are a `mark`.
    """
    if not sys.stderr.isatty():
        news = sentence if fraction is None else int(10 * fraction)  # a wait is told once, however often it is reported
        if mark or news != _said[0]:
            print(sentence, file=sys.stderr, flush=True)
            _said[0] = news
        return
    bar = "" if fraction is None else f"[{'#' * int(fraction * BAR):<{BAR}}] "
    end = "\n" if fraction is not None and fraction >= 1 else ""
    print(f"\r\033[K{bar}{sentence}", end=end, file=sys.stderr, flush=True)


def _metavar(knob: Knob) -> str:
    return "|".join(knob.choices) if knob.choices and len(knob.choices) < 6 else knob.kind.upper()


def _help(knob: Knob) -> str:
    bounds = f" {knob.low:.12g} to {knob.high:.12g}." if knob.low is not None and knob.high is not None else ""
    return f"{knob.help}{bounds} Default: {_default(knob)}.".replace("%", "%%")


def _train_parser(commands) -> None:
    p = commands.add_parser("train", help="train the arms of a run side by side", description="Train the arms of a run in lockstep.")
    p.add_argument("--out", metavar="DIR", help="directory for the run: config, frames and the adapters of every arm")
    p.add_argument("--resume", metavar="DIR", help="go on with the run in DIR, bit for bit; no other flag is read")
    p.add_argument("--config", metavar="FILE", help="a configuration in JSON; further flags overrule it")
    add_knobs(p)
    p.set_defaults(run=_train)


def _train(args) -> int:
    if args.resume:
        if (Path(args.resume) / "run.json").is_file():
            show_progress(f"Going on with the run in {args.resume}.")
        from mosld.training import Trainer

        trainer = Trainer.resume(args.resume, show_progress)
    else:
        values = {}
        if args.config:
            try:
                values = RunConfig.from_json(Path(args.config).read_text(encoding="utf-8")).model_dump()
            except ConfigError:
                raise
            except (OSError, ValueError) as error:  # ValueError: no text, or a name that no file can have
                raise ConfigError(f"config: '{args.config}' cannot be read ({getattr(error, 'strerror', None) or error}).") from None
        config = RunConfig(**{**values, **given(args)})
        if args.out is not None:
            trial(args.out)
        for sentence in config.ignored():
            print(f"Note: {sentence}", file=sys.stderr)
        from mosld import tasks

        config = tasks.settled(config)
        arms = f", {len(config.arms)} arms side by side" if len(config.arms) > 1 else ""
        what = f"{config.steps} steps{arms}, tasks {', '.join(config.tasks)}"
        show_progress(f"{what}: {duration(config)} on two cores.")
        from mosld.training import Trainer

        trainer = Trainer(config, out=args.out, progress=show_progress)
    return follow(trainer)


def follow(trainer) -> int:
    """Run a trainer to its end with a progress bar, then print the table. Ctrl-C and SIGTERM end it after its step, saved; a second one at once."""
    from mosld.studies.runs import stopping

    config, last = trainer.config, None
    counts = ", ".join(f"{n} {c:,}" for n, c in zip(trainer.log.arms, trainer.log.parameters, strict=True))
    if not trainer.main:  # one of several processes of `accelerate launch`
        with stopping(trainer.pause):
            for _ in trainer.frames():
                pass
        return 0
    several = trainer.accelerator.num_processes
    over = f" over {several} processes" if several > 1 else ""
    print(f"{config.label} on {trainer.backbone.name}{over}; trainable parameters: {counts}.", file=sys.stderr)
    with stopping(trainer.pause) as told:
        for last in trainer.frames():
            scored = last.arms[0].accuracy is not None
            losses = " ".join(f"{a.loss:.3f}" for a in last.arms if a.loss is not None)
            show_progress(f"step {last.step}/{config.steps}  {last.seconds:.0f} s  loss {losses or '-'}", last.step / config.steps, scored)
            if last.event == "change":
                print(f"\n{last.note}", file=sys.stderr)
    if told and not trainer.done:
        where = f"; go on with: python -m mosld train --resume {trainer.out}" if trainer.out else ""
        print(f"\nStopped at step {trainer.step}{where}", file=sys.stderr)
    if last is not None and last.event == "diverged":
        print(f"\n{last.note}", file=sys.stderr)
    print(summary(trainer.log))
    if trainer.out:
        print(f"Run directory: {trainer.out}")
    return 130 if told and not trainer.done else 1 if last is not None and last.event == "diverged" else 0


def summary(log) -> str:
    """What the run came to, as text: `mosld.studies.summary` with its table in Markdown."""
    from mosld.studies.summary import advice
    from mosld.studies.summary import summary as last_scores

    sentence, rows = last_scores(log)
    return "\n\n".join(filter(None, [sentence, table(rows) if rows else "", advice(log)]))


def _compare_parser(commands) -> None:
    from mosld.studies import compare

    p = commands.add_parser("compare", help="train several methods on the same batches and compare them", description=compare.DESCRIPTION)
    compare.add_arguments(p)
    add_knobs(p)
    p.set_defaults(run=lambda args: compare.main(args, given(args), show_progress))


def _merge_parser(commands) -> None:
    from mosld.studies import merge

    p = commands.add_parser("merge", help="merge adapters of single tasks and compare with training on the mixture", description=merge.DESCRIPTION)
    merge.add_arguments(p)
    add_knobs(p, MergeConfig)
    add_knobs(p)
    p.set_defaults(run=lambda args: merge.main(args, given(args), given(args, MergeConfig), show_progress))


def _claims_parser(commands) -> None:
    from mosld.studies.claims import command

    command.add_parser(commands)


def _params_parser(commands) -> None:
    from mosld.counting import SHAPES

    p = commands.add_parser("params", help="count trainable parameters without weights")
    p.add_argument("--shape", default="llama2-7b", metavar="|".join(SHAPES), help="the model's shape (default: llama2-7b)")
    p.add_argument("--tasks", default="1", metavar="INT", help="tasks of the mixture, for methods that keep something per task (default: 1)")
    add_knobs(p, AdapterConfig)
    p.set_defaults(run=_params)


def _params(args) -> int:
    from mosld.counting import SHAPES, count

    if args.shape not in SHAPES:
        raise ConfigError(f"shape: '{args.shape}' is not known; choose one of {', '.join(SHAPES)}.")
    tasks = whole("tasks", args.tasks, 1, 1000)
    print(count(AdapterConfig(**given(args, AdapterConfig)), SHAPES[args.shape], tasks))
    return 0


def _tasks(args) -> int:
    from mosld import tasks

    print(_filled("A task is a question with options: 'labels', the same ones every time; 'options', each question has its own."), "\n")
    for t in tasks.catalogue():
        print(_filled(f"{t.name}  ({t.kind})  {t.summary}"))
        for line in (tasks.example(t.name), f"licence: {t.licence}; source: {t.source}"):
            print(_filled(line, "    "))
    return 0


def _look_parser(commands) -> None:
    p = commands.add_parser("look", help="show what is understood of a file of your own", description="Show what is understood of a file.")
    p.add_argument("file", metavar="FILE", help="a .csv, .tsv, .jsonl, .json or .parquet file, also .gz")
    p.add_argument("--instruction", default="", metavar="TEXT", help="put before each question, as `train --instruction` does")
    p.set_defaults(run=_look)


def _look(args) -> int:
    from mosld.tasks import own

    if not own.is_path(args.file):
        raise ConfigError(
            f"file: '{args.file[-80:]}' is not of a kind that is read; give one that ends in {', '.join(own.SUFFIXES)}, or that with .gz."
        )
    print(own.look(args.file, RunConfig(instruction=args.instruction).instruction).text())
    return 0


def _export_parser(commands) -> None:
    text = "Write the adapters of a finished run in PEFT's format, a folder an arm and, for methods with an update a task, one a task."
    p = commands.add_parser("export", help="write a run's LoRA and MTL-LoRA adapters in PEFT's format", description=text)
    p.add_argument("folder", metavar="DIR", help="the run's directory, as given to train --out")
    p.add_argument("--out", required=True, metavar="DIR", help="directory for the adapters")
    p.set_defaults(run=_export)


def _export(args) -> int:
    from mosld.merging.sources import export_peft

    for folder in export_peft(args.folder, args.out):
        print(folder)
    return 0


def _site_parser(commands) -> None:
    text = "Write lessons, recorded runs and claims as a folder of plain files that needs no server. It takes seconds; nothing is trained."
    p = commands.add_parser("site", help="write the lab's recorded part as a static site", description=text)
    p.add_argument("--out", required=True, metavar="DIR", help="directory of the site; its files are written anew")
    p.add_argument("--lab", default="", metavar="ADDRESS", help="address of a running lab, to be linked where one can train")
    p.set_defaults(run=_site)


def _site(args) -> int:
    print("Writing lessons, recorded runs and claims, a few seconds.", file=sys.stderr, flush=True)
    from mosld import site

    files = site.write(args.out, args.lab)
    total = sum(f.stat().st_size for f in files)
    print(f"{len(files)} files, {total / 1e6:.1f} MB; open {Path(args.out) / 'index.html'} in a browser.")
    return 0


def _default(knob: Knob) -> str:
    """A knob's default as typed; 'none' where there is none."""
    if knob.default is None and knob.name != "balance":  # balance alone can be told 'own'
        return "none"
    return "all" if knob.default == tuple(MERGES) else to_text(knob.name, knob.default) or "none"


def _listing(model: type[Strict]) -> str:
    """Each knob on a line of its own, what it means below; links hold runs only."""
    lines = []
    for k in knobs(model):
        allowed = ", ".join(k.choices) if k.choices else f"{k.low:.12g} to {k.high:.12g}" if k.low is not None and k.high is not None else k.kind
        key = f"; link key {k.key}" if model is RunConfig else ""
        lines += [_filled(f"{k.name}  (default {_default(k)}; {allowed}{key})"), _filled(k.help, "    ")]
    return "\n".join(lines)


def _filled(text: str, before: str = "") -> str:
    """A paragraph of a listing, as wide as the terminal and never wider than WIDTH."""
    wide = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    hanging = f"{before}  " if before else "      "
    return textwrap.fill(text, wide, initial_indent=before, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)


def _knobs(args) -> int:
    print(_listing(RunConfig), "\n\nSettings of merging, for `python -m mosld merge`:\n")
    print(_listing(MergeConfig), "\n\nSettings of one method alone, given as --options name=value,name=value:\n")
    for method, entry in METHODS.items():
        for name, o in entry.options.items():
            allowed = ", ".join(map(str, o.choices)) if o.choices else f"{o.low:.12g} to {o.high:.12g}"
            print(_filled(f"{method}: {name}  (default {o.default}; {allowed})"), _filled(o.help, "    "), sep="\n")
    return 0
