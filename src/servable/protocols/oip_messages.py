"""The messages of the Open Inference Protocol over gRPC, of health and of reflection, as tables.

Sources: the specification of the protocol, the description of Triton's extensions, and the service
definitions of gRPC itself. Names and numbers are theirs; a field that means nothing here is left out, and a
message that holds it is still read.
"""

from functools import cache

from servable.protocols.messages import Messages, Method, file_of

PACKAGE, SERVICE = "inference", "GRPCInferenceService"
_INFERENCE = """
enum DataType | TYPE_INVALID 0 | TYPE_BOOL 1 | TYPE_UINT8 2 | TYPE_UINT16 3 | TYPE_UINT32 4
    | TYPE_UINT64 5 | TYPE_INT8 6 | TYPE_INT16 7 | TYPE_INT32 8 | TYPE_INT64 9 | TYPE_FP16 10
    | TYPE_FP32 11 | TYPE_FP64 12 | TYPE_STRING 13 | TYPE_BF16 14
ServerLiveRequest
ServerLiveResponse | live 1 bool
ServerReadyRequest
ServerReadyResponse | ready 1 bool
ModelReadyRequest | name 1 string | version 2 string
ModelReadyResponse | ready 1 bool
ServerMetadataRequest
ServerMetadataResponse | name 1 string | version 2 string | extensions 3 *string
ModelMetadataRequest | name 1 string | version 2 string
ModelMetadataResponse | name 1 string | versions 2 *string | platform 3 string
    | inputs 4 *ModelMetadataResponse.TensorMetadata | outputs 5 *ModelMetadataResponse.TensorMetadata
    | properties 6 map:string
ModelMetadataResponse.TensorMetadata | name 1 string | datatype 2 string | shape 3 *int64
InferParameter | bool_param 1 bool ?parameter_choice | int64_param 2 int64 ?parameter_choice
    | string_param 3 string ?parameter_choice | double_param 4 double ?parameter_choice
    | uint64_param 5 uint64 ?parameter_choice
InferTensorContents | bool_contents 1 *bool | int_contents 2 *int32 | int64_contents 3 *int64
    | uint_contents 4 *uint32 | uint64_contents 5 *uint64 | fp32_contents 6 *float
    | fp64_contents 7 *double | bytes_contents 8 *bytes
ModelInferRequest | model_name 1 string | model_version 2 string | id 3 string
    | parameters 4 map:InferParameter | inputs 5 *ModelInferRequest.InferInputTensor
    | outputs 6 *ModelInferRequest.InferRequestedOutputTensor | raw_input_contents 7 *bytes
ModelInferRequest.InferInputTensor | name 1 string | datatype 2 string | shape 3 *int64
    | parameters 4 map:InferParameter | contents 5 InferTensorContents
ModelInferRequest.InferRequestedOutputTensor | name 1 string | parameters 2 map:InferParameter
ModelInferResponse | model_name 1 string | model_version 2 string | id 3 string
    | parameters 4 map:InferParameter | outputs 5 *ModelInferResponse.InferOutputTensor
    | raw_output_contents 6 *bytes
ModelInferResponse.InferOutputTensor | name 1 string | datatype 2 string | shape 3 *int64
    | parameters 4 map:InferParameter | contents 5 InferTensorContents
ModelStreamInferResponse | error_message 1 string | infer_response 2 ModelInferResponse
ModelConfigRequest | name 1 string | version 2 string
ModelConfigResponse | config 1 ModelConfig
ModelTensorReshape | shape 1 *int64
ModelInput | name 1 string | data_type 2 DataType | dims 4 *int64 | reshape 5 ModelTensorReshape
    | optional 8 bool
ModelOutput | name 1 string | data_type 2 DataType | dims 3 *int64 | reshape 5 ModelTensorReshape
    | label_filename 4 string
ModelVersionPolicy | latest 1 ModelVersionPolicy.Latest ?policy_choice
ModelVersionPolicy.Latest | num_versions 1 uint32
ModelInstanceGroup | name 1 string | kind 4 ModelInstanceGroup.Kind | count 2 int32
enum ModelInstanceGroup.Kind | KIND_AUTO 0 | KIND_GPU 1 | KIND_CPU 2 | KIND_MODEL 3
ModelDynamicBatching | preferred_batch_size 1 *int32 | max_queue_delay_microseconds 2 uint64
ModelTransactionPolicy | decoupled 1 bool
ModelParameter | string_value 1 string
ModelConfig | name 1 string | platform 2 string | version_policy 3 ModelVersionPolicy
    | max_batch_size 4 int32 | input 5 *ModelInput | output 6 *ModelOutput
    | instance_group 7 *ModelInstanceGroup | default_model_filename 8 string
    | dynamic_batching 11 ModelDynamicBatching ?scheduling_choice | parameters 14 map:ModelParameter
    | backend 17 string | model_transaction_policy 19 ModelTransactionPolicy
ModelStatisticsRequest | name 1 string | version 2 string
StatisticDuration | count 1 uint64 | ns 2 uint64
InferStatistics | success 1 StatisticDuration | fail 2 StatisticDuration | queue 3 StatisticDuration
    | compute_input 4 StatisticDuration | compute_infer 5 StatisticDuration
    | compute_output 6 StatisticDuration | cache_hit 7 StatisticDuration
    | cache_miss 8 StatisticDuration
InferResponseStatistics | compute_infer 1 StatisticDuration | compute_output 2 StatisticDuration
    | success 3 StatisticDuration | fail 4 StatisticDuration | empty_response 5 StatisticDuration
    | cancel 6 StatisticDuration
InferBatchStatistics | batch_size 1 uint64 | compute_input 2 StatisticDuration
    | compute_infer 3 StatisticDuration | compute_output 4 StatisticDuration
MemoryUsage | type 1 string | id 2 int64 | byte_size 3 uint64
ModelStatistics | name 1 string | version 2 string | last_inference 3 uint64 | inference_count 4 uint64
    | execution_count 5 uint64 | inference_stats 6 InferStatistics | batch_stats 7 *InferBatchStatistics
    | memory_usage 8 *MemoryUsage | response_stats 9 map:InferResponseStatistics
ModelStatisticsResponse | model_stats 1 *ModelStatistics
ModelRepositoryParameter | bool_param 1 bool ?parameter_choice | int64_param 2 int64 ?parameter_choice
    | string_param 3 string ?parameter_choice | bytes_param 4 bytes ?parameter_choice
RepositoryIndexRequest | repository_name 1 string | ready 2 bool
RepositoryIndexResponse | models 1 *RepositoryIndexResponse.ModelIndex
RepositoryIndexResponse.ModelIndex | name 1 string | version 2 string | state 3 string | reason 4 string
RepositoryModelLoadRequest | repository_name 1 string | model_name 2 string
    | parameters 3 map:ModelRepositoryParameter
RepositoryModelLoadResponse
RepositoryModelUnloadRequest | repository_name 1 string | model_name 2 string
    | parameters 3 map:ModelRepositoryParameter
RepositoryModelUnloadResponse
"""
#: Methods of Triton's service that are refused politely: what they manage does not exist here.
REFUSED = (
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
)
_METHODS = (
    *(
        Method(name, f"{name}Request", f"{name}Response")
        for name in (
            "ServerLive",
            "ServerReady",
            "ModelReady",
            "ServerMetadata",
            "ModelMetadata",
            "ModelInfer",
        )
    ),
    Method("ModelStreamInfer", "ModelInferRequest", "ModelStreamInferResponse", asks=True, answers=True),
    *(
        Method(name, f"{name}Request", f"{name}Response")
        for name in (
            "ModelConfig",
            "ModelStatistics",
            "RepositoryIndex",
            "RepositoryModelLoad",
            "RepositoryModelUnload",
        )
    ),
)

HEALTH_PACKAGE, HEALTH_SERVICE = "grpc.health.v1", "Health"
_HEALTH = """
HealthCheckRequest | service 1 string
HealthCheckResponse | status 1 HealthCheckResponse.ServingStatus
enum HealthCheckResponse.ServingStatus | UNKNOWN 0 | SERVING 1 | NOT_SERVING 2 | SERVICE_UNKNOWN 3
"""
_HEALTH_METHODS = (
    Method("Check", "HealthCheckRequest", "HealthCheckResponse"),
    Method("Watch", "HealthCheckRequest", "HealthCheckResponse", answers=True),
)

REFLECTION_PACKAGES, REFLECTION_SERVICE = (
    ("grpc.reflection.v1", "grpc.reflection.v1alpha"),
    "ServerReflection",
)
_REFLECTION = """
ServerReflectionRequest | host 1 string | file_by_filename 3 string ?message_request
    | file_containing_symbol 4 string ?message_request
    | file_containing_extension 5 ExtensionRequest ?message_request
    | all_extension_numbers_of_type 6 string ?message_request | list_services 7 string ?message_request
ExtensionRequest | containing_type 1 string | extension_number 2 int32
ServerReflectionResponse | valid_host 1 string | original_request 2 ServerReflectionRequest
    | file_descriptor_response 4 FileDescriptorResponse ?message_response
    | all_extension_numbers_response 5 ExtensionNumberResponse ?message_response
    | list_services_response 6 ListServiceResponse ?message_response
    | error_response 7 ErrorResponse ?message_response
FileDescriptorResponse | file_descriptor_proto 1 *bytes
ExtensionNumberResponse | base_type_name 1 string | extension_number 2 *int32
ListServiceResponse | service 1 *ServiceResponse
ServiceResponse | name 1 string
ErrorResponse | error_code 1 int32 | error_message 2 string
"""
_REFLECTION_METHODS = (
    Method(
        "ServerReflectionInfo", "ServerReflectionRequest", "ServerReflectionResponse", asks=True, answers=True
    ),
)


@cache
def messages() -> Messages:
    """All of them; made when first asked for, in a few milliseconds."""
    return Messages(
        file_of("inference.proto", PACKAGE, _INFERENCE, SERVICE, _METHODS),
        file_of("health.proto", HEALTH_PACKAGE, _HEALTH, HEALTH_SERVICE, _HEALTH_METHODS),
        *(
            file_of(f"{package}.proto", package, _REFLECTION, REFLECTION_SERVICE, _REFLECTION_METHODS)
            for package in REFLECTION_PACKAGES
        ),
    )
