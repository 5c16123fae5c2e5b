# The tests of kernels without GoogleTest, for MemorySanitizer: those that every backend shares, the wrappers' and the
# engine's. Not of matrix products, which BLIS computes, cuDNN, and what the dynamic linker says: these are not
# instrumented.
file(GLOB sources CONFIGURE_DEPENDS tests/kernels/*_test.cpp)
list(FILTER sources EXCLUDE REGEX "/(cores|cudnn_attention_graph|matmul|matmul_int8|shared_library|thread_pool)_test.cpp$")
add_executable(kernels_tests ${sources} tests/support/plain/main.cpp)
target_include_directories(kernels_tests BEFORE PRIVATE tests/support/plain)
target_compile_options(kernels_tests PRIVATE -O1)
target_link_libraries(kernels_tests PRIVATE unfurl_kernels)
unfurl_execute_on_host(kernels_tests tests/kernels/host/engine_test.cu tests/kernels/ptx_conformance.cu)
include(tests/kernels/host/planted_bugs.cmake)
foreach(part 1 2 3 4)
  math(EXPR index "${part} - 1")
  add_test(NAME kernels/part_${part}_of_4 COMMAND kernels_tests)
  set_tests_properties(kernels/part_${part}_of_4 PROPERTIES TIMEOUT 1800
    ENVIRONMENT "GTEST_TOTAL_SHARDS=4;GTEST_SHARD_INDEX=${index}")
endforeach()
