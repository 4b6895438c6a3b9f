"""Lists of operators as recipes and commands write them: names, shorthands, and changes of a chain."""

from collections.abc import Iterator, Mapping
from typing import Any

from skelpipe.augment.named_chains import CHAINS
from skelpipe.augment.operators import OPERATORS, Chosen, Strength
from skelpipe.errors import UsageError
from skelpipe.settings import is_section
from skelpipe.untrusted import described
from skelpipe.yaml_reader import nearest, unknown_key

__all__ = ["BASE", "check_views", "names_in", "read_ops", "view_ops"]

BASE = "chain"  # the key of a mapping of changes that names what is changed


def read_ops(content: Any, strength: Strength, where: str, at: str) -> tuple[Chosen, ...]:
    """Return the operators that a value means, in order.

    The value is a chain's name, or a list of operators, or a mapping of changes. An operator is its name, which
    means its defaults at this strength, or `{name: value}`; a chain's name in a list stands for its operators.
    A mapping holds what is changed under the key `chain`, and by operator new settings, or false to leave it out.
    Raises UsageError, which begins with the file `where` and the key `at`, for what is unknown or wrong.
    """
    if isinstance(content, str):
        return _chain(content, strength, where, at)
    if isinstance(content, list | tuple):
        return tuple(each for item in content for each in _item(item, strength, where, at))
    if is_section(content):
        return _changed(content, strength, where, at)
    raise UsageError(
        f"{where}: {at} must be a list of operators, the name of a chain, or changes by operator, "
        f"not {described(content)}"
    )


def view_ops(views: Mapping[str, Any], name: str, default: Any) -> Any:
    """Return what a section `views` says of the view `name`, for `read_ops`; without a word it is `default`.

    Changes that do not say of which chain are changes of `default`.
    """
    content = views.get(name, default)
    return {BASE: default, **content} if is_section(content) else content


def check_views(
    views: Mapping[str, Any], defaults: Mapping[str, Any], strength: Strength, where: str
) -> dict[str, tuple[Chosen, ...]]:
    """Return the operators of every view: those that a section `views` names, and of the others the defaults.

    Raises UsageError, which begins with the file `where`, for views without a default, which there are none of,
    and for what `read_ops` refuses.
    """
    for name in views:
        if name not in defaults:
            raise unknown_key(where, f"views.{name}", [f"views.{view}" for view in defaults])
    return {
        name: read_ops(view_ops(views, name, default), strength, where, f"views.{name}")
        for name, default in defaults.items()
    }


def names_in(content: Any, operators: Mapping[str, tuple[Chosen, ...]]) -> list[tuple[str, str]]:
    """Return what a section of views and its operators name: (kind, name) of each operator and chain."""
    texts = list(_texts(content))
    chosen = [("operator", op.name) for ops in operators.values() for op in ops]
    return [*chosen, *(("chain", text) for text in texts)]


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif is_section(content):
        yield from (text for value in content.values() for text in _texts(value))
    elif isinstance(content, list | tuple):
        yield from (text for value in content for text in _texts(value))


def _accept(name: str, paper: Any, released: Any) -> Mapping[str, Any]:
    """Return the chain of a plug-in, after a look at its operators."""
    for ops in (paper, released):
        if not isinstance(ops, list | tuple):
            raise UsageError(f"a list of operators is expected, not {described(ops)}")
        read_ops(list(ops), Strength(), "its list", name)
    return {"paper": paper, "released": released}


CHAINS.accept = _accept


def _chain(name: str, strength: Strength, where: str, at: str) -> tuple[Chosen, ...]:
    if name not in CHAINS:
        raise UsageError(
            f"{where}: {at} is {described(name)}; {nearest(name, CHAINS)}known chains: {', '.join(CHAINS)}"
        )
    variants = CHAINS[name]
    return read_ops(variants["released" if strength.released else "paper"], strength, where, at)


def _item(item: Any, strength: Strength, where: str, at: str) -> tuple[Chosen, ...]:
    """Return the operator, or those of the chain, that an entry of a list names."""
    if isinstance(item, str) and item not in OPERATORS and item in CHAINS:
        return _chain(item, strength, where, at)
    if is_section(item) and len(item) == 1:
        ((name, value),) = item.items()
    else:
        name, value = item, None
    if not isinstance(name, str):
        raise UsageError(
            f"{where}: {at} holds {described(item)}; an entry is an operator's name or {{name: value}}, "
            f"such as shear or {{shear: 0.5}}"
        )
    if name in CHAINS and name not in OPERATORS:
        raise UsageError(
            f"{where}: {at}: {described(name)} is a chain, which has no settings in a list:"
            " name it alone, or its operators"
        )
    if name not in OPERATORS:
        known = [*OPERATORS, *CHAINS]
        raise UsageError(
            f"{where}: {at}: there is no operator {described(name)}; {nearest(name, known)}"
            f"operators: {', '.join(OPERATORS)}; chains: {', '.join(CHAINS)}"
        )
    return (Chosen(name, strength.settings(name), where, f"{at}.{name}").tuned(value),)


def _changed(changes: Mapping[Any, Any], strength: Strength, where: str, at: str) -> tuple[Chosen, ...]:
    """Return the operators of a chain with changes by operator."""
    if BASE not in changes:
        raise UsageError(
            f"{where}: {at} changes operators, and the key {described(BASE)} does not say of which chain"
        )
    ops = read_ops(changes[BASE], strength, where, at)
    for name, value in changes.items():
        if name == BASE:
            continue
        number = sum(op.name == name for op in ops)
        has = list(dict.fromkeys(op.name for op in ops))
        if not number:
            adding = f"; to add it, write the list: [{', '.join([*has, name])}]" if name in OPERATORS else ""
            raise UsageError(
                f"{where}: {at} has no operator {described(str(name))}; {nearest(str(name), has)}it has: "
                f"{', '.join(has) or 'none'}{adding}"
            )
        if value is False:
            ops = tuple(op for op in ops if op.name != name)
        elif number > 1:
            raise UsageError(f"{where}: {at} has {name} {number} times: write the list to say which one is meant")
        else:
            ops = tuple(op.tuned(value) if op.name == name else op for op in ops)
    return ops
