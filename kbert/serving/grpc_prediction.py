"""TensorFlow Serving's PredictionService (prediction_service.proto)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.any_pb2 import Any as AnyMessage
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from kbert.serving import prediction
from kbert.serving.grpc_calls import Call
from kbert.serving.input_examples import serialized_examples
from kbert.serving.manager import ModelManager
from kbert.serving.metrics import Metrics
from kbert.serving.prediction import DEFAULT_SIGNATURE
from kbert.serving.servable import Servable
from kbert.serving.status import Code, StatusError
from kbert.serving.tensor_protos import array_from_proto, proto_from_array

SERVICE = "tensorflow.serving.PredictionService"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"


class PredictionService:
    """Answers by the models of a manager.

    Args:
        manager: the models.
        metrics: counts what they do.
        as_content: whether outputs travel as bytes (`tensor_content`).
    """

    def __init__(
        self, manager: ModelManager, metrics: Metrics, *, as_content: bool
    ) -> None:
        self._manager, self._metrics = manager, metrics
        self._as_content = as_content

    def calls(self) -> dict[str, Call]:
        """The methods by name."""
        return {
            "Predict": Call(predict_pb2.PredictRequest, self.predict, _model_of),
            "Classify": Call(
                classification_pb2.ClassificationRequest, self.classify, _model_of
            ),
            "Regress": Call(regression_pb2.RegressionRequest, self.regress, _model_of),
            "MultiInference": Call(
                inference_pb2.MultiInferenceRequest,
                self.multi_inference,
                _model_of_tasks,
            ),
            "GetModelMetadata": Call(
                get_model_metadata_pb2.GetModelMetadataRequest,
                self.get_model_metadata,
                only_looks=True,
            ),
        }

    def predict(
        self, request: predict_pb2.PredictRequest, timeout: float | None
    ) -> predict_pb2.PredictResponse:
        """Outputs of a signature for tensors."""
        with self._use(request) as servable:
            inputs = {
                alias: _tensor(alias, proto) for alias, proto in request.inputs.items()
            }
            signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            outputs = prediction.predict(
                servable,
                signature_name,
                inputs,
                request.output_filter,
                timeout,
                self._metrics,
            )
            response = predict_pb2.PredictResponse(
                model_spec=_answered_spec(servable, signature_name)
            )
        for alias, array in outputs.items():
            response.outputs[alias].CopyFrom(
                proto_from_array(array, as_content=self._as_content)
            )
        return response

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout: float | None
    ) -> classification_pb2.ClassificationResponse:
        """Classes and scores for tf.Examples."""
        with self._use(request) as servable:
            signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            examples = serialized_examples(request.input)
            result = self._classify(servable, signature_name, examples, timeout)
            spec = _answered_spec(servable, signature_name)
        return classification_pb2.ClassificationResponse(model_spec=spec, result=result)

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout: float | None
    ) -> regression_pb2.RegressionResponse:
        """A value for each tf.Example."""
        with self._use(request) as servable:
            signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            examples = serialized_examples(request.input)
            result = self._regress(servable, signature_name, examples, timeout)
            spec = _answered_spec(servable, signature_name)
        return regression_pb2.RegressionResponse(model_spec=spec, result=result)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout: float | None
    ) -> inference_pb2.MultiInferenceResponse:
        """Several classifications and regressions of one model, on the same input."""
        _check_tasks(request.tasks)
        response = inference_pb2.MultiInferenceResponse()
        with self._use(request.tasks[0]) as servable:
            examples = serialized_examples(request.input)
            for task in request.tasks:
                name = task.model_spec.signature_name or DEFAULT_SIGNATURE
                result = response.results.add(model_spec=_answered_spec(servable, name))
                if task.method_name == CLASSIFY_METHOD:
                    result.classification_result.CopyFrom(
                        self._classify(servable, name, examples, timeout)
                    )
                else:
                    result.regression_result.CopyFrom(
                        self._regress(servable, name, examples, timeout)
                    )
        return response

    def get_model_metadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        timeout: float | None,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a model."""
        check_spec(request)
        if not request.metadata_field:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                "GetModelMetadataRequest must specify at least one metadata_field",
            )
        for field in request.metadata_field:
            if field != "signature_def":
                raise StatusError(
                    Code.INVALID_ARGUMENT, f"Metadata field {field} is not supported"
                )
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._use(request) as servable:
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            response = get_model_metadata_pb2.GetModelMetadataResponse(
                model_spec=_answered_spec(servable, "")
            )
        packed = AnyMessage()
        packed.Pack(signatures)
        response.metadata["signature_def"].CopyFrom(packed)
        return response

    def _classify(
        self,
        servable: Servable,
        signature_name: str,
        examples: list[bytes],
        timeout: float | None,
    ) -> classification_pb2.ClassificationResult:
        rows = prediction.classify(
            servable, signature_name, examples, timeout, self._metrics
        )
        result = classification_pb2.ClassificationResult()
        for row in rows:
            classes = result.classifications.add().classes
            for label, score in row:
                classes.add(label=label, score=score)
        return result

    def _regress(
        self,
        servable: Servable,
        signature_name: str,
        examples: list[bytes],
        timeout: float | None,
    ) -> regression_pb2.RegressionResult:
        values = prediction.regress(
            servable, signature_name, examples, timeout, self._metrics
        )
        result = regression_pb2.RegressionResult()
        for value in values:
            result.regressions.add(value=value)
        return result

    def _use(self, request: Any) -> Any:
        check_spec(request)
        spec = request.model_spec
        choice = spec.WhichOneof("version_choice")
        return self._manager.use(
            spec.name,
            version=spec.version.value if choice == "version" else None,
            label=spec.version_label if choice == "version_label" else None,
        )


def check_spec(request: Any) -> None:
    """Checks that a request says which model it is for.

    Raises:
        StatusError: INVALID_ARGUMENT, it does not.
    """
    if not request.HasField("model_spec"):
        raise StatusError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
    if not request.model_spec.name:
        raise StatusError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")


def _check_tasks(tasks: Sequence[inference_pb2.InferenceTask]) -> None:
    if not tasks:
        raise StatusError(Code.INVALID_ARGUMENT, "Missing ModelSpec")
    specs = [task.model_spec for task in tasks]
    for task in tasks:
        check_spec(task)
        if task.method_name not in (CLASSIFY_METHOD, REGRESS_METHOD):
            raise StatusError(
                Code.UNIMPLEMENTED,
                f"Unsupported signature method_name: {task.method_name}",
            )
    if len({(s.name, s.version.value, s.version_label) for s in specs}) > 1:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            "All ModelSpecs in a MultiInferenceRequest must access the same model "
            "name.",
        )
    names = [spec.signature_name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise StatusError(
                Code.INVALID_ARGUMENT, f"Duplicate evaluation of signature: {name}"
            )


def _tensor(alias: str, proto: Any) -> np.ndarray:
    try:
        return array_from_proto(proto)
    except StatusError as error:
        raise StatusError(error.code, f"{error.message} (input {alias})") from None


def _answered_spec(servable: Servable, signature_name: str) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=servable.name, signature_name=signature_name)
    spec.version.value = servable.version
    return spec


def _model_of(request: Any) -> str:
    return request.model_spec.name


def _model_of_tasks(request: inference_pb2.MultiInferenceRequest) -> str:
    return request.tasks[0].model_spec.name if request.tasks else ""
