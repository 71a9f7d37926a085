"""TensorFlow Serving's ModelService (model_service.proto): status, and other models."""

from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from kbert.serving.grpc_calls import Call
from kbert.serving.grpc_prediction import check_spec
from kbert.serving.manager import ModelManager
from kbert.serving.status import Code, StatusError

SERVICE = "tensorflow.serving.ModelService"


class ModelService:
    """Answers by the models of a manager, and gives it others."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    def calls(self) -> dict[str, Call]:
        """The methods by name."""
        return {
            "GetModelStatus": Call(
                get_model_status_pb2.GetModelStatusRequest,
                self.get_model_status,
                only_looks=True,
            ),
            "HandleReloadConfigRequest": Call(
                model_management_pb2.ReloadConfigRequest,
                self.handle_reload_config_request,
            ),
        }

    def get_model_status(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        timeout: float | None,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of each version of a model, or of one."""
        check_spec(request)
        spec = request.model_spec
        choice = spec.WhichOneof("version_choice")
        states = self._manager.states(
            spec.name,
            version=spec.version.value if choice == "version" else None,
            label=spec.version_label if choice == "version_label" else None,
        )
        response = get_model_status_pb2.GetModelStatusResponse()
        status_class = get_model_status_pb2.ModelVersionStatus
        for state in states:
            entry = response.model_version_status.add(
                version=state.version, state=status_class.State.Value(state.state)
            )
            entry.status.error_code = state.code
            entry.status.error_message = state.message
        return response

    def handle_reload_config_request(
        self,
        request: model_management_pb2.ReloadConfigRequest,
        timeout: float | None,
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serves the models of another config in place of the present ones."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise StatusError(
                Code.INVALID_ARGUMENT,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported",
            )
        self._manager.set_config(request.config, timeout=timeout)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = Code.OK
        return response
