# UNFURL_HOST_CUDA: every .cu of kernels/ is compiled as C++ and executed by the engine of kernels/host/. No CUDA
# toolkit takes part.

# The engine is never instrumented by a sanitizer, which would follow its switches of stacks, and always optimised.
file(GLOB engine_sources CONFIGURE_DEPENDS kernels/host/*.cpp)
add_library(unfurl_host_engine OBJECT ${engine_sources})
target_compile_options(unfurl_host_engine PRIVATE -Wall -Wextra -Wshadow -Wno-psabi -O3)
if(UNFURL_WERROR)
  target_compile_options(unfurl_host_engine PRIVATE -Werror)
endif()
target_include_directories(unfurl_host_engine PRIVATE ${PROJECT_SOURCE_DIR})
if(UNFURL_SANITIZE)
  set(sanitizer_macros address UNFURL_HOST_ASAN thread UNFURL_HOST_TSAN memory UNFURL_HOST_MSAN)
  list(FIND sanitizer_macros ${UNFURL_SANITIZE} index)
  math(EXPR index "${index} + 1")
  list(GET sanitizer_macros ${index} macro)
  target_compile_definitions(unfurl_host_engine PRIVATE ${macro})
endif()
file(GLOB sources CONFIGURE_DEPENDS kernels/device/host_cuda_*.cpp)
target_sources(unfurl_kernels PRIVATE $<TARGET_OBJECTS:unfurl_host_engine> ${sources} kernels/device/tile_map.cpp)
target_compile_definitions(unfurl_kernels PUBLIC UNFURL_HOST_CUDA)

# Compiles CUDA sources (paths from the root) as C++ into `target`, through one line of C++ each: the .cu itself may be
# compiled by nvcc in the same tree. A large frame touches every page of its stack, or it would step over the guard page.
function(unfurl_execute_on_host target)
  foreach(source ${ARGN})
    set(wrapper ${PROJECT_BINARY_DIR}/host_cuda/${source}.cpp)
    file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"${PROJECT_SOURCE_DIR}/${source}\"\n" @ONLY)
    target_sources(${target} PRIVATE ${wrapper})
    set_source_files_properties(${wrapper} PROPERTIES
      COMPILE_OPTIONS "-fno-strict-aliasing;-fstack-clash-protection;-ffp-contract=off;-Wno-unknown-pragmas;-Wno-pass-failed;-Wno-psabi"
      SKIP_PRECOMPILE_HEADERS ON)
  endforeach()
endfunction()
unfurl_execute_on_host(unfurl_kernels ${cuda_sources})

# A program of one CUDA source with a main(), without GoogleTest: MemorySanitizer would misread that.
function(unfurl_add_host_program name source)
  add_executable(${name})
  unfurl_execute_on_host(${name} ${source})
  target_link_libraries(${name} PRIVATE unfurl_kernels)
endfunction()
