"""The files for TensorFlow Serving's flags that travel with an export."""

from tensorflow_serving.config import model_server_config_pb2

from kbert.protos import to_text
from kbert.settings import ExportSettings

BATCHING_FILE_NAME = "batching_parameters.txt"
MODEL_CONFIG_FILE_NAME = "models.config"

# Where the stock image expects models.
_IMAGE_FOLDER = "/models"


def batching_parameters(settings: ExportSettings) -> str:
    """The text for `--batching_parameters_file`.

    `num_batch_threads` is left to the server, which takes its number of cores. Padding
    by the server stays off: it pads with each request's first value, which for token
    ids is [CLS]; kbert pads in the graph.
    """
    return (
        "# For tensorflow_model_server --enable_batching "
        "--batching_parameters_file=THIS_FILE\n"
        f"max_batch_size {{ value: {settings.max_batch_size} }}\n"
        f"batch_timeout_micros {{ value: {settings.batch_timeout_micros} }}\n"
        f"max_enqueued_batches {{ value: {settings.max_enqueued_batches} }}\n"
        "pad_variable_length_inputs: false\n"
    )


def model_config(name: str) -> str:
    """The text for `--model_config_file` in TensorFlow Serving's stock image."""
    message = model_server_config_pb2.ModelServerConfig()
    message.model_config_list.config.add(
        name=name, base_path=f"{_IMAGE_FOLDER}/{name}", model_platform="tensorflow"
    )
    return (
        f"# base_path: where saved_models/{name} lies on the server, from the root.\n"
        f"{to_text(message)}"
    )
