"""The messages of TensorFlow Serving over gRPC, as tables.

Sources: the service definitions of TensorFlow Serving and the descriptions of TensorFlow's tensors. Names and
numbers are theirs; a field that means nothing here is left out, and a message that holds it is still read.
"""

from functools import cache

from google.protobuf import (  # type: ignore[import-untyped]
    any_pb2,
    descriptor_pb2,
    wrappers_pb2,
)

from servable.protocols.messages import Messages, Method, file_of

PACKAGE = "tensorflow.serving"
PREDICTION_SERVICE, MODEL_SERVICE = "PredictionService", "ModelService"
_TENSORS = """
enum DataType | DT_INVALID 0 | DT_FLOAT 1 | DT_DOUBLE 2 | DT_INT32 3 | DT_UINT8 4 | DT_INT16 5
    | DT_INT8 6 | DT_STRING 7 | DT_INT64 9 | DT_BOOL 10 | DT_BFLOAT16 14 | DT_UINT16 17 | DT_HALF 19
    | DT_UINT32 22 | DT_UINT64 23
TensorShapeProto | dim 2 *TensorShapeProto.Dim | unknown_rank 3 bool
TensorShapeProto.Dim | size 1 int64 | name 2 string
TensorProto | dtype 1 DataType | tensor_shape 2 TensorShapeProto | version_number 3 int32
    | tensor_content 4 bytes | float_val 5 *float | double_val 6 *double | int_val 7 *int32
    | string_val 8 *bytes | int64_val 10 *int64 | bool_val 11 *bool | half_val 13 *int32
    | uint32_val 16 *uint32 | uint64_val 17 *uint64
TensorInfo | name 1 string ?encoding | dtype 2 DataType | tensor_shape 3 TensorShapeProto
SignatureDef | inputs 1 map:TensorInfo | outputs 2 map:TensorInfo | method_name 3 string
Example | features 1 Features
Features | feature 1 map:Feature
Feature | bytes_list 1 BytesList ?kind | float_list 2 FloatList ?kind | int64_list 3 Int64List ?kind
BytesList | value 1 *bytes
FloatList | value 1 *float
Int64List | value 1 *int64
"""
_ERRORS = """
enum Code | OK 0 | UNKNOWN 2
"""
_PREDICTION = """
ModelSpec | name 1 string | version 2 .google.protobuf.Int64Value ?version_choice
    | signature_name 3 string | version_label 4 string ?version_choice
PredictRequest | model_spec 1 ModelSpec | inputs 2 map:.tensorflow.TensorProto | output_filter 3 *string
PredictResponse | outputs 1 map:.tensorflow.TensorProto | model_spec 2 ModelSpec
GetModelMetadataRequest | model_spec 1 ModelSpec | metadata_field 2 *string
GetModelMetadataResponse | model_spec 1 ModelSpec | metadata 2 map:.google.protobuf.Any
SignatureDefMap | signature_def 1 map:.tensorflow.SignatureDef
ExampleList | examples 1 *.tensorflow.Example
ExampleListWithContext | examples 1 *.tensorflow.Example | context 2 .tensorflow.Example
Input | example_list 1 ExampleList ?kind | example_list_with_context 2 ExampleListWithContext ?kind
Class | label 1 string | score 2 float
Classifications | classes 1 *Class
ClassificationResult | classifications 1 *Classifications
ClassificationRequest | model_spec 1 ModelSpec | input 2 Input
ClassificationResponse | result 1 ClassificationResult | model_spec 2 ModelSpec
Regression | value 1 float
RegressionResult | regressions 1 *Regression
RegressionRequest | model_spec 1 ModelSpec | input 2 Input
RegressionResponse | result 1 RegressionResult | model_spec 2 ModelSpec
InferenceTask | model_spec 1 ModelSpec | method_name 2 string
InferenceResult | model_spec 1 ModelSpec | classification_result 2 ClassificationResult ?result
    | regression_result 3 RegressionResult ?result
MultiInferenceRequest | tasks 1 *InferenceTask | input 2 Input
MultiInferenceResponse | results 1 *InferenceResult
"""
#: The methods of predictions, and how their messages begin.
_METHODS = {
    "Classify": "Classification",
    "Regress": "Regression",
    "Predict": "Predict",
    "MultiInference": "MultiInference",
    "GetModelMetadata": "GetModelMetadata",
}
_STATUS = """
StatusProto | error_code 1 .tensorflow.error.Code | error_message 2 string
GetModelStatusRequest | model_spec 1 .tensorflow.serving.ModelSpec
ModelVersionStatus | version 1 int64 | state 2 ModelVersionStatus.State | status 3 StatusProto
enum ModelVersionStatus.State | UNKNOWN 0 | START 10 | LOADING 20 | AVAILABLE 30 | UNLOADING 40 | END 50
GetModelStatusResponse | model_version_status 1 *ModelVersionStatus
"""


@cache
def messages() -> Messages:
    """All of them; made when first asked for, in a few milliseconds."""
    values, anything = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(values)
    any_pb2.DESCRIPTOR.CopyToProto(anything)
    tensors = file_of("tensorflow.proto", "tensorflow", _TENSORS)
    errors = file_of("tensorflow_error.proto", "tensorflow.error", _ERRORS)
    prediction = file_of(
        "prediction_service.proto",
        PACKAGE,
        _PREDICTION,
        PREDICTION_SERVICE,
        [Method(name, f"{said}Request", f"{said}Response") for name, said in _METHODS.items()],
        [values, anything, tensors],
    )
    status = file_of(
        "model_service.proto",
        PACKAGE,
        _STATUS,
        MODEL_SERVICE,
        [Method("GetModelStatus", "GetModelStatusRequest", "GetModelStatusResponse")],
        [errors, prediction],
    )
    return Messages(values, anything, tensors, errors, prediction, status)
