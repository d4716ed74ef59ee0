"""``dataclass`` for records whose methods are shared, not compiled class by class.

The standard library writes six methods of a frozen class as text and compiles them, 0.6 ms a class; a short question needs a
hundred such classes, a seventh of what it costs. Here the methods are functions that know the names of the fields; all else
(fields, ``replace``, ``asdict``, pickles, signature, errors) is the standard library's, and so is any other kind of dataclass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses
    import inspect
    from operator import attrgetter

    RECORD = {"frozen": True, "kw_only": True}

    def dataclass(cls=None, /, **options):
        """``dataclasses.dataclass``."""
        if options != RECORD:
            return dataclasses.dataclass(cls, **options)
        return _record if cls is None else _record(cls)

    def _record(cls):
        if any(dataclasses.is_dataclass(base) and "__signature__" not in vars(base) for base in cls.__mro__[1:]):
            return dataclasses.dataclass(cls, **RECORD)  # of a base that is none
        own = set(vars(cls))
        cls.__doc__ = cls.__doc__ or cls.__name__  # else the signature is looked for, to describe it
        dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=True)(cls)
        fields = dataclasses.fields(cls)
        methods = {
            "__init__": _init(cls, [f for f in fields if f.init], hasattr(cls, "__post_init__")),
            "__repr__": _repr([f.name for f in fields if f.repr]),
            **_compared([f.name for f in fields if f.compare]),
            **_frozen(cls, frozenset(f.name for f in fields)),
            "__signature__": SIGNATURE,
        }
        if "__eq__" in own and vars(cls).get("__hash__") is None:
            own.discard("__hash__")  # Python set it to None, beside the class's own __eq__
        for name, method in methods.items():
            if name not in own:
                setattr(cls, name, method)
        return cls

    def _init(cls, fields, finished_by_class):
        template = {f.name: f.default for f in fields}
        required = {f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING}
        factories = [(f.name, f.default_factory) for f in fields if f.default_factory is not dataclasses.MISSING]
        put = object.__setattr__

        def refused(given):
            unknown = [repr(name) for name in given if name not in template]
            missing = [repr(name) for name in template if name in required and name not in given]
            said = f"got an unexpected keyword argument {unknown[0]}" if unknown else f"missing {', '.join(missing)}"
            return TypeError(f"{cls.__qualname__}.__init__() {said}")

        def __init__(self, **given):
            values = template.copy()
            values.update(given)
            if len(values) != len(template) or not given.keys() >= required:
                raise refused(given)
            for name, factory in factories:
                if name not in given:
                    values[name] = factory()
            put(self, "__dict__", values)  # in the order of the fields, at once
            if finished_by_class:
                self.__post_init__()

        return __init__

    def _repr(names):
        def __repr__(self):
            return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

        return __repr__

    def _compared(names):
        one, several = len(names) == 1, attrgetter(*names) if names else None

        def values(self):
            return () if several is None else (several(self),) if one else several(self)

        def __eq__(self, other):
            return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

        def __hash__(self):
            return hash(values(self))

        return {"__eq__": __eq__, "__hash__": __hash__}

    def _frozen(cls, names):
        def __setattr__(self, name, value):
            if type(self) is cls or name in names:
                raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
            super(cls, self).__setattr__(name, value)

        def __delattr__(self, name):
            if type(self) is cls or name in names:
                raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
            super(cls, self).__delattr__(name)

        return {"__setattr__": __setattr__, "__delattr__": __delattr__}

    class _Signature:
        """The signature of a record, made when it is asked for."""

        def __get__(self, record, cls):
            parameters = [
                inspect.Parameter(
                    f.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=f.type,
                    default=next(
                        (d for d in (f.default_factory, f.default) if d is not dataclasses.MISSING), inspect.Parameter.empty
                    ),
                )
                for f in dataclasses.fields(cls)
                if f.init
            ]
            return inspect.Signature(parameters, return_annotation=None)

    SIGNATURE = _Signature()
