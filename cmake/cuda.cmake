# UNFURL_CUDA: every .cu of kernels/ is compiled by nvcc, into machine code for sm_80 and sm_90a and PTX for what comes
# after. The CUDA runtime is linked statically; the binary starts without a GPU or driver. nvcc is called as it is:
# CMake's own support for CUDA knows neither its newest versions nor every architecture.

set(nvcc $ENV{CUDACXX})
if(NOT nvcc)
  file(GLOB toolkits /usr/local/cuda /usr/local/cuda-* /opt/cuda /opt/cuda-* /opt/nvidia/cuda*)
  # The toolkit as Python packages (nvidia-cuda-nvcc and its kin).
  execute_process(
    COMMAND python3 -c "import importlib.util as u; print(list(u.find_spec('nvidia.cu13').submodule_search_locations)[0])"
    OUTPUT_VARIABLE wheels OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  find_program(nvcc NAMES nvcc PATHS ${toolkits} ${wheels} PATH_SUFFIXES bin NO_CACHE)
endif()
if(NOT nvcc)
  message(FATAL_ERROR "UNFURL_CUDA needs nvcc of CUDA 12.8 or newer: neither CUDACXX, PATH, /usr/local/cuda*, /opt/cuda* "
                      "nor the Python package nvidia.cu13 has it")
endif()
get_filename_component(CUDAToolkit_ROOT ${nvcc} DIRECTORY)
get_filename_component(CUDAToolkit_ROOT ${CUDAToolkit_ROOT} DIRECTORY)
find_package(CUDAToolkit 12.8 REQUIRED)
message(STATUS "CUDA ${CUDAToolkit_VERSION}: ${nvcc}")

set(UNFURL_CUDA_CODE "arch=compute_80,code=sm_80;arch=compute_90a,code=sm_90a;arch=compute_90,code=compute_90" CACHE STRING
  "What nvcc generates code for (the values of its -gencode options)")
# 554: Matrix<const T> has a conversion to itself, which nobody calls.
set(nvcc_flags -std=c++20 -O3 --expt-relaxed-constexpr --Werror=all-warnings -diag-suppress=554 -DUNFURL_CUDA -I${PROJECT_SOURCE_DIR}
  -Xcompiler=-Wall,-Wextra,-fPIE -ccbin=${CMAKE_CXX_COMPILER})
foreach(code ${UNFURL_CUDA_CODE})
  list(APPEND nvcc_flags -gencode=${code})
endforeach()

# Compiles CUDA sources (paths from the root) by nvcc into `target`.
function(unfurl_compile_for_gpu target)
  foreach(source ${ARGN})
    set(object ${PROJECT_BINARY_DIR}/cuda/${source}.o)
    get_filename_component(folder ${object} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(
      OUTPUT ${object}
      COMMAND ${nvcc} ${nvcc_flags} -MD -MF ${object}.d -c ${PROJECT_SOURCE_DIR}/${source} -o ${object}
      DEPENDS ${PROJECT_SOURCE_DIR}/${source} ${nvcc}
      DEPFILE ${object}.d
      COMMENT "Building CUDA object ${source}.o"
      VERBATIM)
    target_sources(${target} PRIVATE ${object})
    set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  endforeach()
endfunction()
unfurl_compile_for_gpu(unfurl_kernels ${cuda_sources})
file(GLOB sources CONFIGURE_DEPENDS kernels/device/cuda_*.cpp)
target_sources(unfurl_kernels PRIVATE ${sources} kernels/device/tile_map.cpp)
target_compile_definitions(unfurl_kernels PUBLIC UNFURL_CUDA)
target_link_libraries(unfurl_kernels PRIVATE CUDA::cudart_static)
