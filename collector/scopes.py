"""Which power scopes two groups share, and which of unlike ones come nearest to each other. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from collector.comparison import UnlikeScopes
from collector.pairing import Group, PairedWork
from phasewatt.fields import Scope

# What a server has that comes nearest to a Jetson's module is its derived compute; parts of a machine come after both.
NEAREST = (Scope.MODULE, Scope.COMPUTE, Scope.GPU_BOARD, Scope.CPU_PACKAGE, Scope.BOARD_INPUT, Scope.WALL)

COVERS: Mapping[Scope, str] = {
    Scope.GPU_BOARD: "GPU boards with their memory",
    Scope.CPU_PACKAGE: "CPU packages",
    Scope.DRAM: "the memory of the CPUs",
    Scope.MODULE: "the rails of a module, which hold its GPU, CPU and memory",
    Scope.BOARD_INPUT: "what enters the board",
    Scope.WALL: "the whole machine at its socket",
    Scope.COMPUTE: "GPU boards, CPU packages and the memory of both",
    Scope.UNKNOWN: "nobody knows what",
}


def unlike(work: PairedWork, groups: Sequence[Group], compare_nearest: bool) -> tuple[UnlikeScopes, ...]:
    """The groups that were metered on `work`, but on no scope of the baseline, which is the first group."""
    if not groups:
        return ()
    base = groups[0]
    mine = _metered(work, base)
    found = []
    for group in groups[1:]:
        theirs = _metered(work, group)
        if mine and theirs and not set(mine) & set(theirs):
            nearest = (_nearest(work, base), _nearest(work, group)) if compare_nearest else None
            told = _compared(base, group, *nearest) if nearest else _refused(base, group, mine, theirs)
            found.append(
                UnlikeScopes(group=group.label, baseline_scopes=mine, scopes=theirs, compared=nearest, told=told)
            )
    return tuple(found)


def scopes_told(scope: Scope | None, beside: Scope | None = None) -> str:
    """What a row's figures cover, such as "module beside compute"."""
    return " beside ".join(each.value for each in (scope, beside) if each is not None)


def _metered(work: PairedWork, group: Group, with_value: bool = False) -> tuple[Scope, ...]:
    energies = [energy for stored in work.members.get(group.key, ()) for energy in stored.trial.energy]
    scopes = {energy.scope for energy in energies if energy.energy_j is not None or not with_value}
    return tuple(scope for scope in NEAREST if scope in scopes)


def _nearest(work: PairedWork, group: Group) -> Scope:
    return (_metered(work, group, with_value=True) or _metered(work, group))[0]


def _refused(base: Group, group: Group, mine: Sequence[Scope], theirs: Sequence[Scope]) -> str:
    return (
        f"{base.label}: {_named(mine)}; {group.label}: {_named(theirs)}: unlike scopes are not compared; "
        "--unlike-scopes compares the nearest ones, and says so"
    )


def _compared(base: Group, group: Group, mine: Scope, theirs: Scope) -> str:
    return (
        f"{base.label}: {mine.value} ({COVERS[mine]}); {group.label}: {theirs.value} ({COVERS[theirs]}): "
        "unlike scopes, compared as asked; they cover different parts, so there is a ratio and no verdict"
    )


def _named(scopes: Sequence[Scope]) -> str:
    return ", ".join(scope.value for scope in scopes)
