"""Points that saved_model.pb alone decides, each on a graph that is wrong there."""

import pytest
import tensorflow as tf

OP = "FastWordpieceTokenizeWithOffsets"


def nodes(meta_graph):
    yield from meta_graph.graph_def.node
    for function in meta_graph.graph_def.library.function:
        yield from function.node_def


def add(op: str, **attributes):
    """Adds a node that nothing depends on."""

    def change(meta_graph):
        node = meta_graph.graph_def.node.add(name="added", op=op)
        for name, value in attributes.items():
            node.attr[name].s = value

    return change


def edit_first(op: str, edit):
    def change(meta_graph):
        edit(next(node for node in nodes(meta_graph) if node.op == op))

    return change


def set_op(node, op: str):
    node.op = op


def compile_function(meta_graph):
    function = meta_graph.graph_def.library.function[0]
    function.attr["_XlaMustCompile"].b = True


def compile_node(node):
    node.attr["_XlaCompile"].b = True


def normalize_to(form: bytes):
    def edit(node):
        node.attr["normalization_form"].s = form

    return edit_first("NormalizeUTF8", edit)


def hold(text: bytes):
    """Adds a constant string."""

    def change(meta_graph):
        node = meta_graph.graph_def.node.add(name="held", op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))

    return change


def bind(device: str):
    def change(meta_graph):
        meta_graph.graph_def.node[0].device = device

    return change


def name_asset(name: str):
    return lambda meta_graph: meta_graph.asset_file_def.add(filename=name)


def add_unfilled_table(meta_graph):
    meta_graph.graph_def.node.add(name="table", op="HashTableV2")
    del meta_graph.signature_def["__saved_model_init_op"]
    meta_graph.collection_def.clear()


def duplicate(checked):
    file = checked.folder / "saved_model.pb"
    file.write_bytes(file.read_bytes() * 2)  # repeated fields append


BROKEN = {
    "two tags": (lambda m: m.meta_info_def.tags.append("gpu"), {3}, "gpu"),
    "default attributes": (
        lambda m: m.meta_info_def.ClearField("stripped_default_attrs"),
        {3},
        "strip_default_attrs",
    ),
    "an op of somebody": (add("MyOp"), {4}, "MyOp"),
    "an internal op": (add("_Arg"), {4}, "_Arg"),
    "an op of tensorflow-text": (add("WhitespaceTokenizeWithOffsets"), {5}, "White"),
    "case folding": (add("CaseFoldUTF8"), {5, 6}, "CaseFoldUTF8"),
    "NFKC": (normalize_to(b"NFKC"), {6}, "NFKC"),
    "trimming": (add("TFText>RoundRobinTrim"), {5, 7}, "RoundRobinTrim"),
    "BERT normalizer": (add("FastBertNormalize"), {5, 8}, "FastBertNormalize"),
    "Python": (add("PyFunc"), {9}, "PyFunc"),
    "printing to a file": (add("PrintV2", output_stream=b"file:///x"), {9}, "file"),
    "an XLA op": (add("XlaLaunch"), {10}, "XlaLaunch"),
    "a function for XLA": (compile_function, {10}, "jit_compile"),
    "a node for XLA": (edit_first("MatMul", compile_node), {10}, "jit_compile"),
    "quantised": (add("QuantizeV2"), {11}, "QuantizeV2"),
    "a mutable table": (add("MutableHashTableV2"), {11}, "MutableHashTable"),
    "a file": (hold(b"/home/me/vocab.txt"), {12}, "/home/me/vocab.txt"),
    "a GPU": (bind("/device:GPU:0"), {12}, "GPU"),
    "a worker": (bind("/job:worker/task:1/device:CPU:0"), {12}, "worker"),
    "an asset elsewhere": (name_asset("../vocab.txt"), {13}, "vocab.txt"),
    "an asset that is lost": (name_asset("vocab.txt"), {13}, "lacks vocab.txt"),
    "an empty table": (add_unfilled_table, {13}, "HashTableV2"),
    "a later TensorFlow": (
        lambda m: setattr(m.graph_def.versions, "min_consumer", 5000),
        {37},
        "5000",
    ),
    "chance": (
        edit_first("Softmax", lambda node: set_op(node, "RandomUniform")),
        {39},
        "RandomUniform",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_graph_with(checked, what: str):
    change, numbers, message = BROKEN[what]
    checked.edit_graph(change)
    failing = checked.failing()
    assert set(failing) == numbers
    assert all(message in detail for detail in failing.values())


def test_two_graphs(checked):
    duplicate(checked)
    assert set(checked.failing()) == {3}


HARMLESS = {
    "a call of a function": lambda m: m.graph_def.node.add(
        name="call", op=m.graph_def.library.function[0].signature.name
    ),
    "not for XLA": lambda m: m.graph_def.node[0].attr["_XlaMustCompile"].b,
    "chance that nothing asks for": add("RandomUniform"),
    "printing": add("PrintV2", output_stream=b"stderr"),
    "a server's own device": bind("/job:localhost/replica:0/task:0/device:CPU:0"),
    "a path in a word": hold(b"him/home/garden"),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_graph_may_have(checked, what: str):
    checked.edit_graph(HARMLESS[what])
    assert checked.failing() == {}


def test_the_card_may_ask_for_a_later_server(checked):
    from tests.exporting.toy_export import edit_json

    checked.edit_graph(add("TFText>RoundRobinTrim"))
    serving = {"minimum": "2.20", "recommended": "2.21"}
    file = checked.extra / "kbert.json"
    edit_json(file, lambda card: card.update(tensorflow_serving=serving))
    assert checked.failing() == {}


def test_working_folder_is_found(checked, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.chdir("/usr/share")
    checked.edit_graph(hold(b"/usr/share/words"))
    assert set(checked.failing()) == {12}


def test_tokenizer_that_splits_texts_itself(checked):
    import tensorflow_text as tf_text

    from tests.exporting.toy_export import VOCABULARY

    model = tf_text.FastWordpieceTokenizer(list(VOCABULARY))._model

    def swap(meta_graph):
        for node in nodes(meta_graph):
            value = node.attr["value"].tensor
            if node.op == "Const" and value.dtype == tf.uint8.as_datatype_enum:
                value.CopyFrom(tf.make_tensor_proto(model))

    checked.edit_graph(swap)
    failing = checked.failing()
    # [CLS] and its like fall apart too.
    assert set(failing) == {8, 38}
    assert "no_pretokenization" in failing[8]


def test_tokenizer_with_another_vocabulary(checked):
    file = checked.extra / "vocab.txt"
    words = file.read_text("utf-8").replace("film\ngood", "good\nfilm")
    file.write_text(words, "utf-8")
    failing = checked.failing()
    assert set(failing) == {38}
    assert "good is [6] in place of [5]" in failing[38]


def test_without_a_vocabulary_there_is_nothing_to_compare(checked):
    (checked.extra / "vocab.txt").unlink()
    assert checked.points()[38].status == "skip"


def test_tokenizer_that_is_no_constant(checked):
    def drop(meta_graph):
        for node in nodes(meta_graph):
            if node.attr["value"].tensor.dtype == tf.uint8.as_datatype_enum:
                set_op(node, "Placeholder")

    checked.edit_graph(drop)
    assert set(checked.failing()) == {8, 38}


def test_optimizer_slots(checked):
    prefix = str(checked.folder / "variables" / "variables")
    for part in ("variables.index", "variables.data-00000-of-00001"):
        (checked.folder / "variables" / part).unlink()
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=["kernel", "optimizer/momentum"],
        shape_and_slices=["", ""],
        tensors=[tf.zeros(2), tf.zeros(2)],
    )
    failing = checked.failing()
    assert set(failing) == {39}
    assert "optimizer/momentum" in failing[39]


@pytest.mark.parametrize(
    "name", ["adam/kernel_momentum", "seed_generator_3/seed_generator_state"]
)
def test_variables_of_training_that_only_the_graph_names(checked, name):
    def rename(meta_graph):
        (node, *_) = (n for n in nodes(meta_graph) if n.op == "VarHandleOp")
        node.attr["shared_name"].s = name.encode()

    checked.edit_graph(rename)
    failing = checked.failing()
    assert set(failing) == {39}
    assert name in failing[39]
