"""Building objects from configuration: names and types are checked, and a mistake is one clear line."""

import dataclasses
import difflib
import functools
import inspect
import sys
import types
import typing
from collections.abc import Mapping

from .printable import printable

T = typing.TypeVar("T")
LARGEST = sys.float_info.max


@dataclasses.dataclass(frozen=True)
class Within:
    """Beside an option's type, `Annotated[int, Within(1, 4096)]`: from where to where its value makes sense.

    The upper end is far above what is wise: it is where a run would end by lack of memory or by NaN, not by a message.
    """

    least: float
    most: float

    def __contains__(self, value: float | None) -> bool:
        return value is None or self.least <= value <= self.most

    def __str__(self) -> str:
        return f"from {self.least:,} to {self.most:,}".replace(",", "_")


MOST_SEED = 2**63 - 1                                  # what every library takes
Seed = typing.Annotated[int, Within(0, MOST_SEED)]


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean 'x'?` for the closest known name, or nothing when none is close."""
    low = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), low, n=1)
    return f"; did you mean {low[found[0]]!r}?" if found else ""


def _fits(value: object, kind: object) -> bool:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(kind))
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if origin is typing.Annotated:
        bare, *marks = typing.get_args(kind)
        return _fits(value, bare) and all(value in one for one in marks if isinstance(one, Within))
    if origin is not None:
        kind = origin
    if kind is type(None) or kind is None:
        return value is None
    if kind in (object, typing.Any) or not isinstance(kind, type):
        return True
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is tuple:
        return isinstance(value, list | tuple)
    return isinstance(value, kind)


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    return printable(repr(value))


def _said(kind: object) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is typing.Annotated:
        bare, *marks = typing.get_args(kind)
        return " ".join([_said(bare), *(str(one) for one in marks if isinstance(one, Within))])
    if kind is type(None):
        return "null"
    if kind is float:
        return "a finite number"
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_said(one) for one in typing.get_args(kind))
    return getattr(kind, "__name__", str(kind))


def _group(kind: object) -> type | None:
    """The dataclass of options that a type asks for, if it does: `Kl` or `Kl | None`."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    return next((one for one in kinds if isinstance(one, type) and dataclasses.is_dataclass(one)), None)


def _nested(kind: type, value: object, where: str) -> object:
    """Options within options: a mapping, or a bare value for the option that the dataclass names in `bare`."""
    if isinstance(value, kind):
        return value
    bare = getattr(kind, "bare", None)
    if bare and not isinstance(value, Mapping):
        value = {bare: value}
    ready = _checked(kind, value, where)
    if bare and value and bare not in value:
        raise ValueError(f"{where}.{bare} must be given beside {where}.{next(iter(value))}, or that does nothing")
    return _made(kind, ready, where)


def _made(make: typing.Callable[..., T], options: dict[str, object], where: str) -> T:
    """The dataclass; what it says of its options is led by where they stand."""
    try:
        return make(**options)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _hints(make: typing.Callable) -> dict[str, object]:
    return typing.get_type_hints(make.__init__ if inspect.isclass(make) else make, include_extras=True)


def _flat(make: typing.Callable) -> dict[str, type]:
    """Parameters whose options stand among those of `make` itself, and their dataclasses."""
    groups = {name: _group(kind) for name, kind in _hints(make).items() if name in inspect.signature(make).parameters}
    return {name: group for name, group in groups.items() if getattr(group, "flat", False)}


def names(make: typing.Callable) -> list[str]:
    """The names of all options that `make` takes from a configuration."""
    flat = _flat(make)
    return [one for name in inspect.signature(make).parameters for one in (names(flat[name]) if name in flat else [name])]


def build(make: typing.Callable[..., T], options: Mapping[str, object], where: str) -> T:
    """Call `make` with options from a configuration; `where` is the config group that an error names.

    An option whose type is a dataclass takes a mapping of its own options, or one bare value for the option that the
    dataclass names in its class variable `bare` (its other options need that one beside them); one that says `flat` lends
    its options to those of `make`.
    Raises ValueError for an unknown option (with the nearest known name), a missing one, one of the wrong type, or
    where one value came instead of options.
    """
    return make(**_checked(make, options, where))


def _checked(make: typing.Callable[..., T], options: Mapping[str, object], where: str) -> dict[str, object]:
    """The options with those within options built; raises as `build`."""
    if not isinstance(options, Mapping):
        raise ValueError(f"{where}={shown(options)} is a group of options, such as {where}.NAME=VALUE")
    signature, hints, known, ready = inspect.signature(make), _hints(make), names(make), {}
    for one, group in _flat(make).items():
        inner = {name: value for name, value in options.items() if name in names(group)}
        if inner:
            default = signature.parameters[one].default
            ready[one] = _made(functools.partial(dataclasses.replace, default), _checked(group, inner, where), where)
        options = {name: value for name, value in options.items() if name not in inner}
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"unknown option {where}.{name}={printable(str(value))}{nearest(str(name), known)}; "
                             f"{where} takes: {', '.join(known)}")
        group = _group(hints.get(name))
        if group and not (value is None and _fits(None, hints[name])):
            value = _nested(group, value, f"{where}.{name}")
        elif name in hints and not _fits(value, hints[name]):
            raise ValueError(f"{where}.{name}={shown(value)} is not {_said(hints[name])}")
        ready[name] = value
    missing = [name for name, one in signature.parameters.items() if one.default is one.empty and name not in options]
    if missing:
        raise ValueError(f"{where}.{missing[0]} must be given; {where} takes: {', '.join(known)}")
    return ready
