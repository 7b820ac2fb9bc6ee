"""What the files of PyTorch hold, found out without PyTorch: exported programs, TorchScript, plain pickles.

An exported program is a graph in JSON beside its tensors, and TorchScript is a program in a language of its
own; both are data as long as they keep to arithmetic. PyTorch itself takes more than that from such a file:
it opens pickles in it, evaluates its size expressions as Python, resolves any name below ``torch`` as an
operator, imports modules that its structures name, and loads compiled libraries. Here only what is known to
be arithmetic passes; all else is named, and needs somebody's trust.
"""

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from servable.errors import ArtifactUnreadable

Holds = Literal["program", "script", "pickle"]

#: A graph, or the code of a script, beyond this many bytes is refused.
LARGEST_GRAPH = 512 * 1024 * 1024
#: Namespaces of operators that only compute.
_NAMESPACES = frozenset({"aten", "prims", "quantized_decomposed", "torchvision"})
#: Operators among them that do more: they read or write files, or print.
_BEYOND = frozenset({"save", "from_file", "_print", "warn", "set_data"})
_HIGHER = frozenset(
    {"cond", "map_impl", "while_loop", "scan", "wrap_with_set_grad_enabled", "wrap_with_autocast"}
)
# fmt: off
_ARITHMETIC = frozenset(
    {
        "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos", "abs", "eq", "ne", "lt", "le",
        "gt", "ge", "and_", "or_", "xor", "not_", "invert", "lshift", "rshift", "getitem", "index",
        "is_", "is_not", "contains",
    }
)
_SIZES = frozenset(
    {
        "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs", "Eq", "Ne",
        "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Xor", "Piecewise", "ExprCondPair", "floor", "ceiling",
        "sqrt", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilDiv", "CeilToInt",
        "FloorToInt", "RoundToInt", "RoundDecimal", "TruncToInt", "TruncToFloat", "ToFloat", "IntTrueDiv",
        "FloatTrueDiv", "FloatPow", "PowByNatural", "Identity", "LShift", "RShift", "BitwiseFn_bitwise_and",
        "BitwiseFn_bitwise_or", "positive", "integer", "nonnegative", "true", "false", "True", "False", "oo",
        "int_oo",
    }
)
# fmt: on
_STRUCTURES = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_SYMBOL = re.compile(r"[A-Za-z_]\w{0,63}")
#: In the code of a script: an operator of a namespace that does more than compute, whatever stands between.
_FOREIGN = re.compile(r"\bops\b(?!\.(?:aten|prim|prims|quantized)\.)\s*\.?\s*\w*")
_WRITES = re.compile(r"\b(?:save|from_file|_print)\b")
_NATIVE = re.compile(r"\btorch\s*\.\s*classes\s*\.\s*\w*")


class TorchFile(NamedTuple):
    """What a file of PyTorch is.

    Attributes:
        holds: an exported program, TorchScript, or a pickle of anything.
        beyond: what it asks for besides arithmetic, sorted; empty for data. Says nothing of pickles.
        pickles: the members that PyTorch would open as pickles.
    """

    holds: Holds
    beyond: tuple[str, ...]
    pickles: tuple[str, ...]


def look(name: str, archive: zipfile.ZipFile) -> TorchFile | None:
    """What an archive is; None when PyTorch did not write it.

    Args:
        name: of the file, for sentences.
        archive: open for reading.

    Raises:
        ArtifactUnreadable: it is damaged, or too large to be looked through.
    """
    members = [info.filename for info in archive.infolist()]
    inner = [_inner(member) for member in members]
    if "archive_format" in inner or any(part.startswith("models/") for part in inner):
        return _program(name, archive, members)
    if any(part.startswith("code/") for part in inner) and "constants.pkl" in inner:
        return _script(name, archive, members)
    if "data.pkl" in inner:
        return TorchFile("pickle", (), tuple(m for m in members if _inner(m) == "data.pkl"))
    return None


def _inner(member: str) -> str:
    """A member's name without the folder that PyTorch puts around everything."""
    return member.partition("/")[2] if "/" in member else member


def _program(name: str, archive: zipfile.ZipFile, members: list[str]) -> TorchFile:
    _check_one_way_to_read(name, members)
    beyond: set[str] = set()
    pickles: set[str] = set()
    graphs = 0
    for member in members:
        part = _inner(member)
        folder, _, file = part.rpartition("/")
        if part.startswith("data/aotinductor/"):
            beyond.add(f"the compiled library {file[:60]}")
        elif part.startswith("data/constants/") and file.startswith(("custom_obj", "opaque_obj")):
            beyond.add(f"the pickled object {file[:60]}")
        elif part.startswith("data/") and file.endswith(".pt"):
            pickles.add(member)
        elif part.startswith("models/"):
            graphs += 1
            beyond.update(_asked(_json(name, archive, member)))
        elif folder.startswith("data") and file.endswith("_config.json"):
            entries = _json(name, archive, member)
            for entry in _objects(entries):
                if entry.get("use_pickle"):
                    pickles.add(member[: -len(file)] + str(entry.get("path_name")))
    if graphs != 1:
        raise ArtifactUnreadable(
            f"{name} holds {graphs} exported programs instead of one; save it again with torch.export.save."
        )
    missing = pickles - set(members)
    if missing:
        raise ArtifactUnreadable(f"{name} names tensors that are not in it; copy or save it again.")
    return TorchFile("program", tuple(sorted(beyond)), tuple(sorted(pickles)))


def _check_one_way_to_read(name: str, members: list[str]) -> None:
    """Whether PyTorch's reader of archives must see what Python's sees.

    Raises:
        ArtifactUnreadable: a member is there twice, or there is more than one outermost folder.
    """
    if len(set(members)) != len(members) or len({member.partition("/")[0] for member in members}) != 1:
        raise ArtifactUnreadable(f"{name} is no archive that PyTorch writes; save it again.")


def _json(name: str, archive: zipfile.ZipFile, member: str) -> Any:
    try:
        return json.loads(_content(name, archive, member))
    except (ValueError, RecursionError) as error:
        raise ArtifactUnreadable(f"{name} is damaged: {_inner(member)} is no JSON; copy it again.") from error


def _content(name: str, archive: zipfile.ZipFile, member: str) -> bytes:
    with archive.open(member) as file:
        data = file.read(LARGEST_GRAPH + 1)
    if len(data) > LARGEST_GRAPH:
        raise ArtifactUnreadable(f"{_inner(member)} in {name} is too large to be the graph of a model.")
    return data


def _objects(held: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value, at any depth."""
    waiting = [held]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _asked(graph: Any) -> Iterator[str]:
    """What a graph asks for besides arithmetic."""
    for entry in _objects(graph):
        for key in ("target", "as_operator"):
            target = entry.get(key)
            # Elsewhere a target is the name of a buffer, which nobody calls.
            called = key == "as_operator" or "inputs" in entry
            if isinstance(target, str) and called and not _computes(target):
                yield target[:80]
        expression = entry.get("expr_str")
        if expression is not None and not (isinstance(expression, str) and _is_size(expression)):
            yield f"the expression {str(expression)[:60]!r}"
        for key in ("in_spec", "out_spec"):
            if key in entry:
                yield from _imported(entry[key])
        if "as_custom_obj" in entry and entry["as_custom_obj"] is not None:
            yield "an object of a custom class"


def _computes(target: str) -> bool:
    parts = target.split(".")
    if parts[:2] == ["torch", "ops"] and len(parts) in (4, 5):
        space, operator = parts[2:4]
        return operator in _HIGHER if space == "higher_order" else _plain(space, operator)
    if parts[0] in ("_operator", "math") and len(parts) == 2:
        return parts[0] == "math" or parts[1] in _ARITHMETIC
    return len(parts) == 2 and parts[0] == "torch" and parts[1].startswith(("sym_", "_sym_"))


def _plain(space: str, operator: str) -> bool:
    return space in _NAMESPACES and operator not in _BEYOND


def _is_size(text: str) -> bool:
    """Whether an expression is one of sizes: numbers, symbols and known functions of them."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return len(text) < 100_000 and all(_is_part(node) for node in ast.walk(tree))


def _is_part(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _SIZES or re.fullmatch(r"[a-z]{1,3}\d+", node.id) is not None
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _SIZES
    if isinstance(node, ast.Constant):
        # The name of a symbol is a text; sympy makes a symbol of it and nothing else.
        return isinstance(node.value, bool | int | float) or (
            isinstance(node.value, str) and _SYMBOL.fullmatch(node.value) is not None
        )
    plain = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Tuple, ast.keyword)
    return isinstance(node, (*plain, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context))


def _imported(spec: Any) -> Iterator[str]:
    """The types of a structure that PyTorch would import for it."""
    try:
        held = json.loads(spec)
    except (TypeError, ValueError, RecursionError):
        yield "a structure that cannot be read"
        return
    for entry in _objects(held):
        kind = entry.get("type")
        if kind is not None and kind not in _STRUCTURES:
            yield str(kind)[:80]
        if "__enum__" in entry or "__enum__" in str(entry.get("context")):
            yield "an enumeration of a module"


def _script(name: str, archive: zipfile.ZipFile, members: list[str]) -> TorchFile:
    _check_one_way_to_read(name, members)
    beyond: set[str] = set()
    for member in members:
        if _inner(member).startswith("code/") and member.endswith(".py"):
            code = _content(name, archive, member).decode("utf-8", "replace")
            for pattern in (_FOREIGN, _WRITES, _NATIVE):
                beyond.update(found.group()[:80].strip() for found in pattern.finditer(code))
    return TorchFile("script", tuple(sorted(beyond)), ())
