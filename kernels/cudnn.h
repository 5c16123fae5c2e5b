// cuDNN through its backend C interface: descriptors with attributes, of which operations, graphs and plans are made.
// The library is loaded when it is first asked for, so that the binary is built without its headers and starts without
// it. What fails throws std::runtime_error with one line.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace unfurl::kernels::cudnn {

/// The library's numbers that are used here, under its names without CUDNN_.
enum Attribute : int {
  ATTR_POINTWISE_MODE = 0,
  ATTR_POINTWISE_MATH_PREC = 1,
  ATTR_POINTWISE_AXIS = 9,
  ATTR_ENGINEHEUR_MODE = 200,
  ATTR_ENGINEHEUR_OPERATION_GRAPH = 201,
  ATTR_ENGINEHEUR_RESULTS = 202,
  ATTR_ENGINEHEUR_DEVICEPROP = 204,
  ATTR_ENGINECFG_ENGINE = 300,
  ATTR_EXECUTION_PLAN_HANDLE = 400,
  ATTR_EXECUTION_PLAN_ENGINE_CONFIG = 401,
  ATTR_EXECUTION_PLAN_WORKSPACE_SIZE = 402,
  ATTR_EXECUTION_PLAN_DEVICEPROP = 407,
  ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR = 750,
  ATTR_OPERATION_POINTWISE_XDESC = 751,
  ATTR_OPERATION_POINTWISE_BDESC = 752,
  ATTR_OPERATION_POINTWISE_YDESC = 753,
  ATTR_OPERATION_POINTWISE_TDESC = 758,
  ATTR_OPERATIONGRAPH_HANDLE = 800,
  ATTR_OPERATIONGRAPH_OPS = 801,
  ATTR_TENSOR_BYTE_ALIGNMENT = 900,
  ATTR_TENSOR_DATA_TYPE = 901,
  ATTR_TENSOR_DIMENSIONS = 902,
  ATTR_TENSOR_STRIDES = 903,
  ATTR_TENSOR_UNIQUE_ID = 906,
  ATTR_TENSOR_IS_VIRTUAL = 907,
  ATTR_TENSOR_IS_BY_VALUE = 908,
  ATTR_TENSOR_RAGGED_OFFSET_DESC = 913,
  ATTR_VARIANT_PACK_UNIQUE_IDS = 1000,
  ATTR_VARIANT_PACK_DATA_POINTERS = 1001,
  ATTR_VARIANT_PACK_WORKSPACE = 1003,
  ATTR_ENGINE_NUMERICAL_NOTE = 1303,
  ATTR_MATMUL_COMP_TYPE = 1500,
  ATTR_OPERATION_MATMUL_ADESC = 1520,
  ATTR_OPERATION_MATMUL_BDESC = 1521,
  ATTR_OPERATION_MATMUL_CDESC = 1522,
  ATTR_OPERATION_MATMUL_DESC = 1523,
  ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC = 1525,
  ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC = 1526,
  ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC = 1527,
  ATTR_REDUCTION_OPERATOR = 1600,
  ATTR_REDUCTION_COMP_TYPE = 1601,
  ATTR_OPERATION_REDUCTION_XDESC = 1610,
  ATTR_OPERATION_REDUCTION_YDESC = 1611,
  ATTR_OPERATION_REDUCTION_DESC = 1612,
  ATTR_OPERATION_RESHAPE_XDESC = 2200,
  ATTR_OPERATION_RESHAPE_YDESC = 2201,
  ATTR_DEVICEPROP_JSON_REPRESENTATION = 2702,
};
enum Type : int {
  TYPE_HANDLE = 0,
  TYPE_DATA_TYPE = 1,
  TYPE_BOOLEAN = 2,
  TYPE_INT64 = 3,
  TYPE_VOID_PTR = 6,
  TYPE_HEUR_MODE = 8,
  TYPE_NUMERICAL_NOTE = 11,
  TYPE_POINTWISE_MODE = 14,
  TYPE_BACKEND_DESCRIPTOR = 15,
  TYPE_REDUCTION_OPERATOR_TYPE = 18,
  TYPE_CHAR = 24,
};
enum Kind : int {
  BACKEND_POINTWISE_DESCRIPTOR = 0,
  BACKEND_ENGINE_DESCRIPTOR = 2,
  BACKEND_ENGINECFG_DESCRIPTOR = 3,
  BACKEND_ENGINEHEUR_DESCRIPTOR = 4,
  BACKEND_EXECUTION_PLAN_DESCRIPTOR = 5,
  BACKEND_OPERATION_POINTWISE_DESCRIPTOR = 13,
  BACKEND_OPERATIONGRAPH_DESCRIPTOR = 15,
  BACKEND_VARIANT_PACK_DESCRIPTOR = 16,
  BACKEND_TENSOR_DESCRIPTOR = 17,
  BACKEND_MATMUL_DESCRIPTOR = 18,
  BACKEND_OPERATION_MATMUL_DESCRIPTOR = 19,
  BACKEND_REDUCTION_DESCRIPTOR = 21,
  BACKEND_OPERATION_REDUCTION_DESCRIPTOR = 22,
  BACKEND_OPERATION_RESHAPE_DESCRIPTOR = 31,
  BACKEND_DEVICEPROP_DESCRIPTOR = 38,
};
enum DataType : int { DATA_FLOAT = 0, DATA_INT32 = 4, DATA_BFLOAT16 = 9, DATA_INT64 = 10, DATA_BOOLEAN = 11 };
enum Pointwise : int {
  POINTWISE_ADD = 0,
  POINTWISE_MUL = 1,
  POINTWISE_DIV = 6,
  POINTWISE_SUB = 9,
  POINTWISE_EXP = 13,
  POINTWISE_LOG = 15,
  POINTWISE_CMP_GE = 303,
  POINTWISE_CMP_LT = 304,
  POINTWISE_LOGICAL_AND = 400,
  POINTWISE_GEN_INDEX = 501,
  POINTWISE_BINARY_SELECT = 601,
};
enum Reduction : int { REDUCE_TENSOR_ADD = 0, REDUCE_TENSOR_MAX = 3 };
enum Heuristic : int { HEUR_MODE_FALLBACK = 2, HEUR_MODE_A = 3 };
constexpr int NUMERICAL_NOTE_NONDETERMINISTIC = 4, NUMERICAL_NOTE_TYPE_COUNT = 10;

/// The library's functions that are used here.
struct Library {
  std::size_t (*version)();
  const char* (*error_string)(int status);
  void (*last_error)(char* message, std::size_t size);
  int (*create)(void** handle);
  int (*set_stream)(void* handle, void* stream);
  int (*create_descriptor)(int kind, void** descriptor);
  int (*destroy_descriptor)(void* descriptor);
  int (*finalize)(void* descriptor);
  int (*set_attribute)(void* descriptor, int name, int type, std::int64_t count, const void* values);
  int (*get_attribute)(const void* descriptor, int name, int type, std::int64_t room, std::int64_t* count,
                       void* values);
  int (*execute)(void* handle, void* plan, void* pack);

  static const Library& get();
};

/// The oldest library that computes attention over packed documents as it is asked for here: 9.10.2 (9.19.0 would be
/// 91900).
constexpr std::size_t kOldestVersion = 91002;

/// Why the library `name` cannot be used, as one line; "" where it can.
std::string why_unusable(const std::string& name = "libcudnn.so.9");

/// Throws where `status` is not success, with what the library has to say.
void check(int status, const std::string& what);

/// One of the library's objects.
class Descriptor {
 public:
  explicit Descriptor(Kind kind);
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;

  void* get() const { return descriptor_; }

  Descriptor& set(Attribute name, Type type, std::int64_t count, const void* values);
  Descriptor& set(Attribute name, std::int64_t value) { return set(name, TYPE_INT64, 1, &value); }
  Descriptor& set(Attribute name, const std::vector<std::int64_t>& values);
  /// A value of one of the library's enumerations, which are ints.
  Descriptor& set(Attribute name, Type type, int value) { return set(name, type, 1, &value); }
  Descriptor& set(Attribute name, bool value) { return set(name, TYPE_BOOLEAN, 1, &value); }
  Descriptor& set(Attribute name, const Descriptor& value);
  Descriptor& finalize(const std::string& what);

  /// Reads up to `room` values; returns how many there are.
  std::int64_t read(Attribute name, Type type, std::int64_t room, void* values) const;

 private:
  void* descriptor_ = nullptr;
};

}  // namespace unfurl::kernels::cudnn
