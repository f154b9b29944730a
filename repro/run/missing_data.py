"""Data sets that are missing: `data get` downloads what may be downloaded, a run asks first. Nothing else downloads.

For the others a message says where to get them and where to put them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from repro.data import standing
from repro.data.data_sets import DATA_SETS, Entry, entry_of
from repro.data.download import Download, fetch
from repro.data.origins import lacking
from repro.data.standing import Standing
from repro.errors import UserError, unknown
from repro.plan import data_choice, tracks
from repro.plan.planned import Plan
from repro.settings import Where
from repro.terminal.counter import download_bar
from repro.terminal.question import agrees, can_ask
from repro.terminal.text import size


def get(names: Sequence[str], where: Where) -> int:
    """Fetch data sets, or those of a track; one line each. Returns the exit status: 1 where some are left to the user.

    Raises UserError for an unknown name, and after all others where one could not be downloaded.
    """
    asked = dict.fromkeys(name for given in names for name in _data_sets(given))
    found = [standing.of(name, where) for name in dict.fromkeys(entry_of(name).made_of or name for name in asked)]
    spoilt = {each.entry.name: standing.spoilt(each, where) for each in found}
    left, failures = False, list[UserError]()
    for each in found:
        if each.missing is not None and each.download is None:
            left = True
            print(_by_hand(each, where))
        elif each.missing is None and not spoilt[each.entry.name]:
            print(f"{each.entry.called} is here: {each.place}")
    for each in found:
        name = each.entry.name
        if each.download is None or not (each.missing or spoilt[name]):
            continue
        try:
            if spoilt[name]:
                kept = standing.keep_as_wrong(each, where)
                archive = each.download.target.name
                print(f"{each.place}: {archive} does not have the published md5; it is kept as {kept}")
            _download(each.entry, each.download, where)
        except UserError as error:
            failures.append(error)
    for entry in map(entry_of, asked):
        if entry.made_of:
            print(f"{entry.called} is made of {entry.made_of} on first use")
    for failure in failures[:-1]:
        print(f"repro: {failure}", file=sys.stderr)
    if failures:
        raise failures[-1]
    return 1 if left else 0


def _data_sets(given: str) -> tuple[str, ...]:
    """The data sets that a name stands for. A track's name stands for all of its own, also where a set is called so."""
    if given in tracks.tracks():
        return data_choice.preferred(tracks.find(given))
    if given not in DATA_SETS:
        raise unknown("data set or track", given, {*DATA_SETS, *tracks.tracks()})
    return (given,)


def _by_hand(found: Standing, where: Where) -> str:
    """Where to have a data set that is not ours to download, and where it must go."""
    entry = found.entry
    if not entry.folders:
        return str(found.missing)
    place = f"{where.data_root or 'DATA_ROOT'}/{entry.folders[0]}"
    root = "" if where.data_root else "DATA_ROOT is --data-root, REPRO_DATA or data_root in repro.toml"
    remark = lacking(entry, where) or root
    return (
        f"{entry.called} is not downloaded by repro (licence: {entry.licence}). Get it: {entry.how}; put it at {place}"
        + (f" ({remark})" if remark else "")
    )


def _download(entry: Entry, what: Download, where: Where) -> None:
    root = where.data_root
    if root is not None and root not in what.target.parents:
        print(f"{root} is not writable: downloads go into the workspace")
    print(f"downloading {entry.title} ({size(what.bytes)}) from {what.url} to {what.target}", flush=True)
    try:
        with download_bar(entry.name) as bar:
            fetch(what, bar)
    except KeyboardInterrupt:
        print("\ninterrupted: the part downloaded so far is kept; run the same command again to continue")
        raise
    print(f"{entry.called} is here, and its md5 is correct: {what.target}")


def complete(planned: Plan, where: Where, agreed: bool) -> None:
    """Download what a plan's jobs to do lack, where the user wants that: `agreed` beforehand, or asked on a terminal.

    Raises UserError, one line, where something stays missing.
    """
    names = {job.spec["data"]["name"]: job.missing for job in planned.to_do() if job.missing}
    lost = {entry_of(name).made_of or name: line for name, line in names.items()}
    found = {name: standing.of(name, where) for name in lost}
    if any(each.download is None for each in found.values()):
        raise _all_of(lost, planned, where)
    for name, each in found.items():
        what = each.download
        assert what is not None
        if not agreed:
            if not can_ask():
                raise UserError(f"{lost[name]}, or add --yes to this command")
            question = f"{each.entry.title} ({size(what.bytes)}) is missing. Download it from {what.url}"
            if not agrees(f"{question} to {what.target}?"):
                raise UserError(f"nothing was run: {lost[name]}")
        _download(each.entry, what, where)


def _all_of(lost: dict[str, str], planned: Plan, where: Where) -> UserError:
    """What is missing, where something of it is the user's to fetch, and how to get it."""
    if len(lost) == 1:
        return UserError(next(iter(lost.values())))
    root = "" if where.data_root else "if you have them, set REPRO_DATA or --data-root; "
    own = data_choice.preferred(planned.track)
    wanted = [name for name in lost if name not in own]
    if len(wanted) < len(lost):
        wanted.insert(0, planned.track.name)
    command = f"python -m repro data get {' '.join(wanted)}"
    return UserError(
        f"missing: {', '.join(entry_of(name).called for name in lost)}",
        f"{root}{command} downloads what it can and says where to get the others",
    )
