"""The campaign: `scripts/faults`."""

from __future__ import annotations

import random
import sys
from collections import Counter

import click

from tests.faults.lab import lab
from tests.faults.operations import KINDS, OPERATIONS, Case, cases
from virshle import log


@click.command()
@click.option("--sample", type=click.IntRange(1), help="Only so many, chosen at random.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--hypervisor", type=click.Choice(["qemu", "cloud-hypervisor"]), default="qemu", show_default=True)
@click.option("--operation", "chosen", multiple=True, type=click.Choice([one.name for one in OPERATIONS]))
@click.option("--fault", "kinds", multiple=True, type=click.Choice(KINDS))
def main(sample: int | None, seed: int, hypervisor: str, chosen: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    """Make a fault at every step of every operation, and look what became of the VMs. Exits with 1 where one of them,
    or anything else, was lost or left."""
    wrong: list[tuple[Case, list[str]]] = []
    counts: Counter[tuple[str, str]] = Counter()
    ends: Counter[tuple[str, int]] = Counter()
    with lab(hypervisor) as here:
        todo = [case for one in OPERATIONS if not chosen or one.name in chosen for case in cases(one, here.steps(one))]
        todo = [case for case in todo if not kinds or case.kind in kinds]
        if sample is not None:
            todo = random.Random(seed).sample(todo, min(sample, len(todo)))
        for number, case in enumerate(todo, 1):
            line = f"{number}/{len(todo)} {case}"
            drawn = log.drawn(sys.stderr)
            click.echo(f"\r{line}\033[K" if drawn else line, nl=not drawn, err=True)
            code, found = here.run(case)
            if code is not None:
                ends[case.kind, code] += 1
                counts[case.operation.name, case.kind] += 1
            if found:
                wrong.append((case, found))
                click.echo(f"\n{case}\n  " + "\n  ".join(found), err=True)
    click.echo(err=True)
    click.echo(table(counts))
    for kind in KINDS:
        codes = ", ".join(f"{count} with {code}" for (one, code), count in sorted(ends.items()) if one == kind)
        click.echo(f"{kind}: the command ended {codes or 'never'}")
    made = counts.total()
    click.echo(f"\n{made} faults, {len(wrong)} with violations; {len(todo) - made} had no occasion at their step")
    sys.exit(1 if wrong else 0)


def table(counts: Counter[tuple[str, str]]) -> str:
    head = ("operation", *KINDS)
    rows = [(one.name, *(str(counts[one.name, kind] or "") for kind in KINDS)) for one in OPERATIONS]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


if __name__ == "__main__":
    main()
