// Hopper's instructions as a thread of a kernel performs them; hopper.cpp executes.
#pragma once
#include "kernels/device/tile_map.h"
#include "kernels/host/engine.h"

namespace unfurl::kernels::host {

void barrier_init(std::uint32_t barrier, std::uint32_t arrivals, CallSite site);
/// Arrives; the phase then waits for `bytes` more.
void barrier_arrive(std::uint32_t barrier, std::uint32_t bytes, CallSite site);
void barrier_wait(std::uint32_t barrier, std::uint32_t parity, CallSite site);

/// Poisons the destination now; the copy lands when nobody could run without it, or at a random moment before.
void load_tile(std::uint32_t to, const TileMap& map, int row, int column, std::uint32_t barrier, CallSite site);

/// Queues a product, which is computed, from what shared memory then holds, when it is waited for. Until then `d`
/// (columns / 2 floats) is poisoned.
void product(float* d, int columns, std::uint64_t a, std::uint64_t b, bool add, CallSite site);
void products_commit(CallSite site);
void products_wait(unsigned keep);

}  // namespace unfurl::kernels::host
