// ldmatrix and mma.sync as a lane of a kernel performs them. These lines are compiled, and instrumented, with the
// kernel; tensor_core.cpp computes.
#pragma once
#include <cstring>

#include "kernels/host/engine.h"

namespace unfurl::kernels::host {

/// `row` holds what the lane read at shared address `address`.
void exchange_matrices(std::uint32_t (&fragment)[4], const std::uint32_t (&row)[4], std::uint32_t address,
                       bool transposed, CallSite site);
/// Operands come by reference: what MemorySanitizer knows of a value gets lost on the way into the engine.
void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], CallSite site);

inline void load_matrices(std::uint32_t (&fragment)[4], std::uint32_t address, bool transposed, CallSite site) {
  std::uint32_t row[4];
  std::memcpy(row, shared_pointer(address, 16, 16, "ldmatrix", site), sizeof row);
  exchange_matrices(fragment, row, address, transposed, site);
}

}  // namespace unfurl::kernels::host
