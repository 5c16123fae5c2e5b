# The tests of kernels without GoogleTest, for MemorySanitizer: those that every backend shares, the wrappers' and the
# engine's. Not of matrix products, which BLIS computes, and cuDNN: these are not instrumented.
file(GLOB sources CONFIGURE_DEPENDS tests/kernels/*_test.cpp)
list(FILTER sources EXCLUDE REGEX "/(cores|cudnn_attention_graph|matmul|matmul_int8|thread_pool)_test.cpp$")
add_executable(kernels_tests ${sources} tests/support/plain/main.cpp)
target_include_directories(kernels_tests BEFORE PRIVATE tests/support/plain)
target_compile_options(kernels_tests PRIVATE -O1)
target_link_libraries(kernels_tests PRIVATE unfurl_kernels)
unfurl_execute_on_host(kernels_tests tests/kernels/host/engine_test.cu tests/kernels/ptx_conformance.cu)
include(tests/kernels/host/planted_bugs.cmake)
add_test(NAME kernels/all COMMAND kernels_tests)
set_tests_properties(kernels/all PROPERTIES TIMEOUT 1800)
