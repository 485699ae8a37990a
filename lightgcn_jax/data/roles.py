"""Roles: which column of a table holds users, items, ratings, times and weights."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lightgcn_jax.data.reading import NONE
from lightgcn_jax.errors import InputError, printable

# Names in the order of preference, compared without case, blanks, hyphens and underscores.
COLUMN_NAMES = {
    "user": (
        *("userid", "user", "uid", "username", "reviewerid", "customerid", "visitorid"),
        *("customer", "customerno", "customernumber", "clientid", "client", "memberid", "member"),
        # Where nobody is named, what the items were met in.
        *("sessionid", "session", "boardid", "board", "basketid", "basket", "cartid", "cart"),
        *("playlistid", "playlist", "orderid", "orderno", "ordernumber", "order", "invoiceno"),
        *("contextid", "context"),
    ),
    "item": (
        *("itemid", "item", "iid", "movieid", "artistid", "productid", "parentasin", "asin"),
        *("bookid", "isbn", "businessid", "trackid", "songid", "venueid", "locationid"),
        *("movie", "artist", "product", "track", "song", "book"),
        *("sku", "skuid", "stockcode", "productno", "productcode", "articleid", "article"),
        *("articleno", "articlenumber", "itemno", "itemnumber", "pinid", "pin"),
    ),
    "rating": (
        *("rating", "ratings", "bookrating", "score", "stars", "overall", "weight"),
        *("playcount", "plays", "count", "label", "click", "clicked", "isclick"),
    ),
    "timestamp": ("timestamp", "ts", "time", "datetime", "date", "unixreviewtime"),
    "weight": (),
}
"""Usual names of the columns of each role; weights are only what somebody calls so."""
EVENT_FLAG = "--event-column"
"""The flag that a note names on a column of types of events which is not read."""
WEIGHT_FLAG = "--weight-column"
"""The flag that a note names on a column that could weigh interactions."""
_EVENTS = (
    *("event", "eventtype", "eventname", "action", "actiontype", "interactiontype"),
    *("behavior", "behaviortype", "behaviour", "behaviourtype"),
)
_AMOUNTS = (
    *("amount", "quantity", "qty", "purchases", "listens", "views", "visits", "clicks"),
    *("duration", "minutes", "seconds", "watchtime", "playtime", "hours"),
)
"""Usual names of columns that weights could be taken from."""
_PLACE = re.compile(r"#?[1-9][0-9]{0,5}")


class Roles(NamedTuple):
    """Where the roles stand in a table.

    Attributes:
        places: role -> place of its column, from 0.
        assumed: roles whose column nobody named.
        notes: what else could have been meant, a line each.
    """

    places: dict[str, int]
    assumed: frozenset[str]
    notes: tuple[str, ...] = ()


def usual_column(role: str, names: Sequence[str]) -> int | None:
    """Where a column that is named as usual stands.

    Args:
        role: A key of ``COLUMN_NAMES``.
        names: The columns' names.

    Returns:
        The place of the preferred one; None where no name is usual for the role.
    """
    found = _usual_columns(role, names)
    return found[0] if found else None


def _usual_columns(role: str, names: Sequence[str]) -> list[int]:
    """Where columns with usual names stand, the preferred name first."""
    plain = list(map(_plain, names))
    return [at for usual in COLUMN_NAMES[role] for at, name in enumerate(plain) if name == usual]


def _plain(name: str) -> str:
    return name.lower().translate(str.maketrans("", "", "_- ."))


def is_place(wanted: str) -> bool:
    """Whether a column is asked for by its place.

    Args:
        wanted: What the caller gave for it.
    """
    return _PLACE.fullmatch(wanted) is not None


def roles_by_name(
    path: Path, names: Sequence[str], columns: Mapping[str, str], dates: Sequence[str] = ()
) -> Roles:
    """Where each role stands among named columns.

    Args:
        path: The file, for messages.
        names: The columns' names.
        columns: What the caller wants: role -> name, place or none.
        dates: Names of columns that hold dates, of which an only one is that of the times.

    Raises:
        InputError: A column is not there, is not to be found or could be two.
    """
    places: dict[str, int] = {}
    assumed, notes = set(), []
    for role in COLUMN_NAMES:
        wanted = columns.get(role)
        if wanted is None:
            usual = _usual_columns(role, names)
            if role not in ("user", "item"):
                usual = [at for at in usual if at not in places.values()]
            if not usual:
                continue
            places[role] = usual[0]
            assumed.add(role)
            _refuse_twins(path, names, usual[0], role)
            if others := [names[at] for at in usual[1:]]:
                notes.append(
                    f"{role} is column {names[usual[0]]!r}; it could also be "
                    f"{', '.join(map(repr, others))} (--{role}-column)"
                )
        elif wanted != NONE:
            places[role] = _named_place(path, names, wanted, role)
    if len(names) == 2:
        # Two columns can be meant in one way only, whatever they are called.
        left = [at for at in range(2) if at not in places.values()]
        for role, at in zip(
            [one for one in ("user", "item") if one not in places], left, strict=False
        ):
            places[role] = at
            assumed.add(role)
            _refuse_twins(path, names, at, role)
    if columns.get("timestamp") is None and "timestamp" not in places:
        held = [at for at, name in enumerate(names) if name in dates and at not in places.values()]
        if len(held) == 1:
            places["timestamp"] = held[0]
            assumed.add("timestamp")
        elif held:
            notes.append(
                f"{', '.join(repr(names[at]) for at in held)} hold dates, of which none is read "
                "(--timestamp-column)"
            )
    for role in ("user", "item"):
        if role not in places:
            raise InputError(
                f"{path}: expected a header with a column of {role} ids (such as "
                f"{COLUMN_NAMES[role][0]}), got {_listed(names)}; name it by {role}_column "
                f"(--{role}-column NAME), or give its place (--{role}-column 2) where there is "
                "no header"
            )
    if places["user"] == places["item"]:
        raise InputError(f"{path}: user and item are both column {names[places['user']]!r}")
    for at, name in enumerate(names):
        if _plain(name) in _EVENTS and at not in places.values():
            notes.append(
                f"column {name!r} is not read, so rows of every {name} count ({EVENT_FLAG} {name} "
                "--event TYPE,… keeps those of some types)"
            )
        if _plain(name) in _AMOUNTS and at not in places.values():
            notes.append(
                f"column {name!r} is not used ({WEIGHT_FLAG} {name} weighs interactions by it)"
            )
    return Roles(places, frozenset(assumed), tuple(notes))


def roles_by_place(path: Path, width: int, columns: Mapping[str, str]) -> Roles:
    """Where each role stands in a table without a header.

    Without a word of the caller it is user, item, rating, time. Where a place is given, ratings
    and times are those that were given.

    Args:
        path: The file, for messages.
        width: Fields of a line.
        columns: What the caller wants: role -> place or none.

    Raises:
        InputError: A place is outside, is taken twice, or a column is asked for by a name.
    """
    places: dict[str, int] = {}
    for role, wanted in columns.items():
        if wanted == NONE and role not in ("user", "item"):
            continue
        if not is_place(wanted):
            raise InputError(
                f"{path}: {role}_column={wanted!r}: there is no header, so columns cannot be "
                "named; give the column's place, from 1 on, or --header yes"
            )
        places[role] = _numbered(path, wanted, width, role)
    by_place = bool(places)
    free = [at for at in range(width) if at not in places.values()]
    if not by_place:
        if width not in (2, 3, 4):
            raise InputError(
                f"{path}: expected lines 'user item [rating [timestamp]]', got lines of {width} "
                "fields; say which column is which (--user-column 1 --item-column 2 …)"
            )
        usual = dict(zip(COLUMN_NAMES, range(width), strict=False))
        places = {role: at for role, at in usual.items() if columns.get(role) != NONE}
        return Roles(places, frozenset(places))
    assumed = {role for role in ("user", "item") if role not in places}
    for role in sorted(assumed, key=("user", "item").index):
        usual_place = ("user", "item").index(role)
        if usual_place not in free:
            raise InputError(
                f"{path}: {role}_column: expected its place as well, as the usual one, "
                f"{usual_place + 1}, is given to another"
            )
        places[role] = usual_place
        free.remove(usual_place)
    # What is rated may be weighed by the same column.
    own = [at for role, at in places.items() if (role, at) != ("weight", places.get("rating"))]
    if len(set(own)) < len(own):
        raise InputError(
            f"{path}: expected a column of its own for each role, got "
            + ", ".join(f"{role} in {at + 1}" for role, at in places.items())
        )
    return Roles(
        {role: places[role] for role in COLUMN_NAMES if role in places}, frozenset(assumed)
    )


def _named_place(path: Path, names: Sequence[str], wanted: str, role: str) -> int:
    as_name = [at for at, name in enumerate(names) if name == wanted]
    if wanted.startswith("#") and is_place(wanted) and not as_name:
        return _numbered(path, wanted, len(names), role)
    if is_place(wanted) and not wanted.startswith("#"):
        at = int(wanted) - 1
        if as_name and at < len(names) and as_name != [at]:
            raise InputError(
                f"{path}: {role}_column={wanted!r} can be read in two ways: as column {wanted}, "
                f"{names[at]!r}, or as the column of that name, number {as_name[0] + 1}; "
                f"pass '#{wanted}' or '#{as_name[0] + 1}'"
            )
        if not as_name:
            return _numbered(path, wanted, len(names), role)
    if not as_name:
        raise InputError(
            f"{path}: {role}_column={wanted!r}: no such column; the columns are {_listed(names)}"
        )
    _refuse_twins(path, names, as_name[0], role)
    return as_name[0]


def _refuse_twins(path: Path, names: Sequence[str], place: int, role: str) -> None:
    same = [at for at, name in enumerate(names) if name == names[place]]
    if len(same) > 1:
        numbers = " or ".join(f"'#{at + 1}'" for at in same)
        raise InputError(
            f"{path}: {len(same)} columns are called {names[place]!r}; say which one holds "
            f"{role}s by its place: {role}_column={numbers} (--{role}-column)"
        )


def _numbered(path: Path, wanted: str, width: int, role: str) -> int:
    at = int(wanted.lstrip("#")) - 1
    if at >= width:
        raise InputError(
            f"{path}: {role}_column={wanted!r}: expected a place of 1 to {width}, for lines have "
            f"{width} fields"
        )
    return at


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) or repr(name) for name in names[:20])
    return shown[:300] + (" …" if len(names) > 20 or len(shown) > 300 else "")
