"""What a SavedModel would do besides computing, found out from its graph before anything of it is run.

Graphs may read and write files and call back into Python. An operation that has effects must be one of those
that models are made of; one that opens files is refused outside of the functions that save and restore.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from servable.artifact.audit import Audit, refusal
from servable.errors import ArtifactUnreadable, converted
from servable.frameworks.quiet import imported

saved_model_pb2 = imported("tensorflow.core.protobuf.saved_model_pb2")
op_def_registry = imported("tensorflow.python.framework.op_def_registry")

FILE = "saved_model.pb"
#: Operations without effects of their own by the registry's account that open files all the same.
_OPENS_FILES = frozenset({"MatchingFiles", "ReadFile", "WriteFile", "MergeV2Checkpoints", "ImmutableConst"})
#: Operations that call a function of the Python that runs them; for the registry not all are stateful.
_CALLS_PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
#: Operations with effects that stay inside the model: variables, tables, random numbers, control.
# fmt: off
_INSIDE = frozenset(
    {
        "AnonymousHashTable", "AnonymousMutableHashTable", "Assert", "AssignAddVariableOp",
        "AssignSubVariableOp", "AssignVariableOp", "Case", "DestroyResourceOp",
        "DisableCopyOnRead", "For", "HashTable", "HashTableV2", "If", "InitializeTable",
          "InitializeTableV2",
        "IsVariableInitialized", "LookupTableExport", "LookupTableExportV2", "LookupTableFind",
        "LookupTableFindV2", "LookupTableImport", "LookupTableImportV2", "LookupTableInsertV2",
        "LookupTableSize", "LookupTableSizeV2", "Multinomial", "MutableDenseHashTableV2",
        "MutableHashTableV2", "ParameterizedTruncatedNormal", "PartitionedCall", "RandomGamma",
        "RandomPoissonV2", "RandomShuffle", "RandomStandardNormal", "RandomUniform",
        "RandomUniformInt", "ReadVariableOp", "ResourceGather", "ResourceGatherNd",
        "ResourceScatterAdd", "ResourceScatterUpdate", "RngReadAndSkip", "RngSkip",
        "StatefulPartitionedCall", "StatefulStandardNormalV2", "StatefulUniform",
        "StatefulUniformInt", "TruncatedNormal", "VarHandleOp", "VarIsInitializedOp",
        "VariableShape", "VariableV2", "While", "XlaCallModule",
    }
)
# fmt: on
#: What only the functions that save or restore variables may do.
_RESTORES = frozenset({"RestoreV2", "RestoreSlice", "Restore"})


#: What fills a table from a file: one of the folder's own, when its name is handed in from outside the graph.
_READS_TABLES = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
_STRING = 7


def check(folder: Path, *, trust: bool) -> tuple[str, ...]:
    """Look through a SavedModel.

    Returns:
        The operations that reach outside of it; empty without trust.

    Raises:
        ArtifactUntrusted: there are some, and ``trust`` is false.
        ArtifactUnreadable: damaged.
    """
    path = folder / FILE
    with converted({OSError: ArtifactUnreadable}, f"{path.name} cannot be read: {{}}."):
        data = path.read_bytes()
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(data)
    except Exception as foreign:  # Whatever the library raises becomes one sentence.
        raise ArtifactUnreadable(
            f"{path.name} is truncated, damaged or no SavedModel; save or copy the folder again."
        ) from foreign
    if not saved.meta_graphs:
        raise ArtifactUnreadable(f"{path.name} holds no graph; save or copy the folder again.")
    names = tuple(sorted({name for graph in saved.meta_graphs for name in _reaching(graph)}))
    if names and not trust:
        raise refusal(folder, Audit("tensorflow", names, True))
    return names


def names_of(folder: Path) -> tuple[str, ...]:
    """The operations of a SavedModel that reach outside of it, sorted.

    Raises:
        ArtifactUnreadable: damaged.
    """
    return check(folder, trust=True)


def _reaching(graph: Any) -> Iterator[str]:
    """The operations of a graph that reach outside."""
    library = {function.signature.name: function for function in graph.graph_def.library.function}
    saver = graph.saver_def
    save, restore = saver.save_tensor_name.partition(":")[0], saver.restore_op_name
    # In the older form the saver's nodes lie in the graph itself and are named after it.
    prefix = save.partition("/")[0] + "/" if "/" in save else None
    roots = [node for node in graph.graph_def.node if node.name not in (save, restore)]
    bare = [node for node in roots if prefix is None or not node.name.startswith(prefix)]
    saving = _closure(library, [node for node in graph.graph_def.node if node.name == save])
    restoring = _closure(library, [node for node in graph.graph_def.node if node.name == restore])
    every = set(library)
    elsewhere = _closure(library, bare)
    for name in every - saving - restoring:
        elsewhere |= {name} | _closure(library, library[name].node_def)
    if _holds_texts(graph):
        # A text that the model keeps for itself may be handed in as the name of a file.
        nodes = (node for function in library.values() for node in function.node_def)
        yield from (f"{node.op} of a file named in the model" for node in nodes if node.op in _READS_TABLES)
    yield from _outside(bare, every)
    for name in every:
        # What saves is never run here; what restores runs once, and reads the model's own variables.
        if name in elsewhere:
            yield from _outside(library[name].node_def, every)
        elif name in restoring:
            yield from (op for op in _outside(library[name].node_def, every) if op not in _RESTORES)


def _closure(library: dict[str, Any], nodes: Iterable[Any]) -> set[str]:
    """The functions that nodes call, and those that these call."""
    found: set[str] = set()
    waiting = [name for node in nodes for name in _called(node)]
    while waiting:
        name = waiting.pop()
        if name in library and name not in found:
            found.add(name)
            waiting += [inner for node in library[name].node_def for inner in _called(node)]
    return found


def _called(node: Any) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _holds_texts(graph: Any) -> bool:
    """Whether the model keeps constants that are texts beside its variables and files."""
    kept = {entry.constant.operation for entry in graph.object_graph_def.nodes if entry.HasField("constant")}
    return any(node.name in kept and node.attr["dtype"].type == _STRING for node in graph.graph_def.node)


def _outside(nodes: Iterable[Any], functions: set[str]) -> Iterator[str]:
    """The operations among nodes that are neither free of effects nor known to stay inside.

    Args:
        nodes: of a graph or a function.
        functions: what the graph itself defines.
    """
    nodes = list(nodes)
    made = {node.name for node in nodes}
    for node in nodes:
        if node.op in _READS_TABLES:
            # An argument of the function is no node of it.
            if node.input[1].partition(":")[0] in made:
                yield f"{node.op} of a file named in the graph"
        elif node.op in _OPENS_FILES or node.op in _CALLS_PYTHON:
            yield node.op
        elif node.op not in _INSIDE:
            definition = op_def_registry.get(node.op)
            if definition is None and node.op not in functions:
                yield f"{node.op} of a library that is not TensorFlow's"
            elif definition is not None and definition.is_stateful:
                yield node.op
