"""What a step and an answer are made of: what must not grow, whatever a clock says.

Each bound is what was counted when it was written. One that is exceeded wants a look at
what was added to every step, or to every answer; one that has become too large is to be
lowered.
"""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.data.batching import Batching, choose_widths, padding_share
from kbert.tasks import TextClassification
from kbert.training.compiling import compile_to_train
from kbert.training.optimizer import AdamW
from tests.tiny import build_model
from tests.training.steps_of_widths import batch

TASK = TextClassification(labels=("no", "yes"))
ROWS, WIDTH = 4, 16
NUM_HEADS = 2  # of `build_model`
NOT_COMPUTED = ("Const", "ReadVariableOp", "Placeholder")
VIEWS = ("Reshape", "Identity", "IdentityN")

MOST_OPERATIONS = 335  # of an encoder layer, its weights' updates included
MOST_BYTES = 181_040  # of an encoder layer at 4 x 16 tokens, 8 wide
MOST_KEPT_BYTES = 29_696  # of an encoder layer, from the forward to the backward pass
MOST_KERNELS = 180  # of an answer of two layers


def training_step(num_layers: int) -> list[tf.Operation]:
    """The operations of a traced training step, before TensorFlow optimizes them."""
    model = build_model(TASK, num_layers=num_layers, dropout=0.1)
    compile_to_train(
        model,
        AdamW(1e-3, global_clipnorm=1.0),
        loss=TASK.loss(),
        precision="float32",
        jit_compile=False,
    )
    fed = batch(ROWS, WIDTH)
    model.train_on_batch(fed.features, fed.targets, sample_weight=fed.weights)
    step = tf.function(model.train_step, autograph=False)
    data = keras.tree.map_structure(
        tf.convert_to_tensor, (fed.features, fed.targets, fed.weights)
    )
    return step.get_concrete_function(data).graph.get_operations()


def of_one_layer(count) -> int:
    """What another encoder layer adds to `count` of a step's operations."""
    return count(training_step(3)) - count(training_step(2))


def test_operations_of_a_training_step():
    def kinds(operations):
        return collections.Counter(operation.type for operation in operations)

    two, three = kinds(training_step(2)), kinds(training_step(3))
    added = three - two
    # Four products forward, and two for each backward; four biases' gradients.
    assert added["MatMul"] == 12 + 4
    assert added["BatchMatMulV2"] + added["BatchMatMulV3"] == 6
    # The heads taken apart and joined, each way, and the key for its product.
    assert added["Transpose"] <= 4
    # Dropout draws no numbers, and keeps no mask.
    assert not any("Random" in kind for kind in three)
    # Clipping makes no array of squares.
    assert added["L2Loss"] == 12
    assert added["Square"] == 0
    assert sum(added.values()) <= MOST_OPERATIONS


def test_the_last_layer_computes_little_but_keys_and_values_for_all_tokens():
    products = collections.Counter(
        operation.outputs[0].shape[0]
        for operation in training_step(2)
        if operation.type == "MatMul"
    )
    # Forward and backward each: four of the first layer and one of the last, not eight.
    assert products[ROWS * WIDTH] == 2 * (4 + 1)


def test_bytes_that_a_training_step_writes():
    def written(operations):
        outputs = [
            output
            for operation in operations
            if operation.type not in (*NOT_COMPUTED, *VIEWS)
            for output in operation.outputs
            if output.dtype.is_floating and output.shape.is_fully_defined()
        ]
        return sum(map(num_bytes, outputs))

    assert of_one_layer(written) <= MOST_BYTES


def test_bytes_that_wait_for_the_backward_pass():
    assert of_one_layer(lambda step: sum(map(num_bytes, kept(step)))) <= MOST_KEPT_BYTES


def test_of_attention_only_the_probabilities_wait():
    def squares(operations):
        shape = (ROWS, NUM_HEADS, WIDTH, WIDTH)
        return [x for x in kept(operations) if x.shape == shape]

    assert of_one_layer(lambda step: len(squares(step))) == 1


def kept(operations: list[tf.Operation]) -> list[tf.Tensor]:
    """What the operations after the logits read of those before."""
    (loss,) = (
        operation
        for operation in operations
        if operation.type == "SparseSoftmaxCrossEntropyWithLogits"
    )
    after, waiting = set(), [loss]
    while waiting:
        operation = waiting.pop()
        if operation not in after:
            after.add(operation)
            waiting += [x for y in operation.outputs for x in y.consumers()]
    waiting_tensors = {
        in_memory(output).ref()
        for operation in operations
        if operation not in after and operation.type not in NOT_COMPUTED
        for output in operation.outputs
        if output.dtype.is_floating and after.intersection(output.consumers())
    }
    return [reference.deref() for reference in waiting_tensors]


def in_memory(tensor: tf.Tensor) -> tf.Tensor:
    """The array of which a tensor is another view."""
    while tensor.op.type in VIEWS:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def num_bytes(tensor: tf.Tensor) -> int:
    return tensor.shape.num_elements() * tensor.dtype.size


def test_kernels_of_an_answer(tmp_path):
    module = tf.Module()
    model = build_model(TASK, num_layers=2)
    module.kept_variables = [weight.value for weight in model.weights]
    specs = {
        name: tf.TensorSpec([None, None], tf.int32, name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    answer = tf.function(
        lambda **features: {"logits": model(features, training=False)}, autograph=False
    ).get_concrete_function(**specs)
    tf.saved_model.save(module, tmp_path, signatures={"serving_default": answer})
    kinds = kernels_of_served_model(str(tmp_path))
    if not any("Mkl" in kind for kind in kinds):
        pytest.skip("this TensorFlow joins no operations with oneDNN")
    # GELU and the pooler's tanh are part of a product: alone GELU would be a tanh and
    # eight more.
    assert kinds["Tanh"] == 0
    # The last layer's query is a product of its own.
    assert kinds["_MklNativeFusedMatMul"] == 2 * 4 + 1 + 2
    assert sum(kinds.values()) <= MOST_KERNELS


def kernels_of_served_model(folder: str) -> collections.Counter:
    """What TensorFlow runs of a SavedModel, as a server loads and optimizes it."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)
        signature = meta_graph.signature_def["serving_default"]
        ran = tf.compat.v1.RunMetadata()
        session.run(
            signature.outputs["logits"].name,
            {spec.name: np.ones((1, WIDTH)) for spec in signature.inputs.values()},
            tf.compat.v1.RunOptions(output_partition_graphs=True),
            ran,
        )
    nodes = [node for graph in ran.partition_graphs for node in graph.node]
    functions = [
        node
        for graph in ran.partition_graphs
        for function in graph.library.function
        for node in function.node_def
    ]
    idle = ("Const", "_Arg", "_Retval", "NoOp", "VarHandleOp", "ReadVariableOp")
    return collections.Counter(
        node.op for node in [*nodes, *functions] if node.op not in idle
    )


def test_padding_and_widths_of_texts_like_imdb():
    # Log-normal as IMDB's lengths are, with a median of 233 tokens.
    lengths = np.random.default_rng(0).lognormal(np.log(233), 0.68, 25_000)
    for max_length, most_widths in ((128, 2), (256, 8), (512, 16)):
        cut = np.clip(lengths.astype(int), 12, max_length)
        widths = choose_widths(cut, max_length)
        assert len(widths) <= most_widths
        batching = Batching(max_length, batch_size=32, chosen_widths=widths)
        groups = batching.groups(cut, seed=0)
        assert len({group.width for group in groups}) <= most_widths
        assert padding_share(cut, groups) <= 0.05
