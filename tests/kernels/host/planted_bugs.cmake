# Every planted bug, the order in which it is looked for, and the report that must come: of the engine ("engine:") or in
# the values ("wrong:"), in every build; of a sanitizer in its own.
unfurl_add_host_program(planted_bugs tests/kernels/host/planted_bugs.cu)

function(expect_found bug order report)
  add_test(NAME kernels/PlantedBugs.${bug}_${order} COMMAND planted_bugs ${bug} ${order})
  set_tests_properties(kernels/PlantedBugs.${bug}_${order} PROPERTIES PASS_REGULAR_EXPRESSION "${report}" TIMEOUT 60
    ENVIRONMENT "UBSAN_OPTIONS=print_stacktrace=0;TSAN_OPTIONS=report_bugs=1")
endfunction()

set(at "planted_(hopper_)?bugs.cuh?:[0-9]+")
set(engine "engine: kernel launched at ${at}: ")

expect_found(divergent_barrier in_order
  "${engine}divergent __syncthreads: this thread is at ${at}, others wait at ${at} .block .0,0,0. thread .128,0,0..")
expect_found(skipped_barrier in_order "${engine}thread returns while 7 others wait in __syncthreads at ${at}")
expect_found(skipped_barrier random "${engine}(__syncthreads at ${at} after 1 threads|thread returns while [0-9]+ others)")
expect_found(return_before_barrier in_order "${engine}__syncthreads at ${at} after 56 threads of the block have returned")
expect_found(returned_lane_in_mask in_order "${engine}__shfl_xor_sync at ${at}: lanes 00000001 of the mask have returned")
expect_found(returned_lane_in_syncwarp in_order "${engine}__syncwarp at ${at}: lanes 00000001 of the mask have returned")
expect_found(return_before_syncwarp in_order
  "${engine}thread returns while 31 lanes of its warp wait for it in __syncwarp at ${at} .block .0,0,0. thread .31,0,0..")
expect_found(divergent_shuffle in_order
  "${engine}divergent warp: lane 1 is in __shfl_xor_sync at ${at} with mask ffffffff, others in __shfl_xor_sync at ${at}")
expect_found(lane_outside_its_mask in_order "${engine}__shfl_xor_sync at ${at}: lane 16 is not in its mask 0000ffff")
expect_found(shuffle_from_outside_the_mask in_order
  "${engine}shuffle: lane 8 reads lane 16, which is not in the mask 0000ffff")
expect_found(deadlock in_order
  "${engine}deadlock: 0 threads have returned, the others wait: 1 in __syncwarp at ${at}, 255 in __syncthreads at ${at}")
expect_found(copy_never_waited_for in_order "${engine}thread returns with a cp.async of ${at} that it never waited for")
expect_found(misaligned_copy in_order "${engine}cp.async from global memory at a misaligned address")
expect_found(matrix_outside_shared_memory in_order
  "${engine}ldmatrix at ${at}: shared address [0-9]+ is outside of every array")
expect_found(too_little_dynamic_memory in_order
  "${engine}dynamic shared memory at ${at} needs 2048 bytes, the launch gave 1024")
expect_found(misaligned_vector in_order "${engine}vector load at a misaligned address")
expect_found(mbarrier_not_initialised in_order "${engine}mbarrier.wait at ${at}: the mbarrier is not initialised")
expect_found(mbarrier_overwritten in_order "${engine}mbarrier.arrive at ${at}: the mbarrier of ${at} was overwritten")
expect_found(too_many_arrivals in_order "${engine}mbarrier.arrive at ${at}: the phase has all its 1 arrivals")
expect_found(expects_too_many_bytes in_order
  "${engine}deadlock: 0 threads have returned, the others wait: 256 in mbarrier.wait at ${at}")
expect_found(tile_never_waited_for in_order "${engine}the block ends while a bulk copy of ${at} is in flight")
expect_found(named_barrier_for_too_many in_order
  "${engine}deadlock: 128 threads have returned, the others wait: 128 in bar.sync at ${at}")

if(NOT UNFURL_SANITIZE)
  expect_found(tile_read_before_the_wait in_order "wrong:")
  expect_found(product_read_before_the_wait in_order "wrong:")
  expect_found(product_operand_overwritten in_order "wrong:")
  expect_found(past_static_array in_order "${engine}write 0 bytes past the end of shared array 'buffer' of ${at}")
  expect_found(past_dynamic_array in_order "${engine}write 8 bytes past the end of shared array 'dynamic' of ${at}")
  expect_found(before_static_array in_order
    "${engine}write 4 bytes before the start of shared array 'buffer' of ${at}, 252 bytes past the end of shared array 'other'")
  expect_found(far_past_array in_order
    "${engine}access 158976 bytes past the end of shared array 'buffer' of ${at} .block .0,0,0. thread .17,0,0..")
  expect_found(far_before_array in_order
    "${engine}access 4000 bytes before the start of shared array 'buffer' of ${at} .block .0,0,0. thread .17,0,0..")
  expect_found(through_a_null_pointer in_order "${engine}access through a null pointer")
  expect_found(stack_overflow in_order
    "${engine}stack overflow: a thread has 65536 bytes here .block .0,0,0. thread .200,0,0..")
  expect_found(missing_barrier in_order "wrong:")
  expect_found(missing_barrier_forward reversed "wrong:")
  expect_found(missing_barrier_forward random "wrong:")
  expect_found(missing_second_barrier random "wrong:")
  expect_found(missing_syncwarp in_order "wrong:")
  expect_found(copy_read_before_the_wait in_order "wrong:")
  expect_found(copy_read_without_barrier reversed "wrong:")
  expect_found(copy_waits_for_the_wrong_group in_order "wrong:")
  expect_found(double_buffer_without_second_barrier random "wrong:")
  expect_found(uninitialised in_order "wrong:")
  expect_found(uninitialised_counter in_order "wrong:")
elseif(UNFURL_SANITIZE STREQUAL "address")
  expect_found(past_static_array in_order "use-after-poison")
  expect_found(past_dynamic_array in_order "use-after-poison")
  expect_found(before_static_array in_order "use-after-poison")
  expect_found(far_past_array in_order "use-after-poison")
  expect_found(stack_overflow in_order "stack-overflow on address")
  expect_found(past_array_in_struct in_order "index 256 out of bounds for type")
  expect_found(past_global_array in_order "heap-buffer-overflow")
  expect_found(shift_too_far in_order "shift exponent [0-9]+ is too large")
elseif(UNFURL_SANITIZE STREQUAL "thread")
  foreach(bug missing_barrier missing_barrier_forward missing_second_barrier missing_syncwarp race_between_blocks
      copy_read_without_barrier tile_read_before_the_wait double_buffer_without_second_barrier)
    expect_found(${bug} random "ThreadSanitizer: data race")
  endforeach()
elseif(UNFURL_SANITIZE STREQUAL "memory")
  foreach(bug tile_read_before_the_wait product_read_before_the_wait uninitialised uninitialised_counter
      uninitialised_under_a_maximum uninitialised_in_a_shuffle uninitialised_vote)
    expect_found(${bug} in_order "MemorySanitizer: use-of-uninitialized-value")
  endforeach()
endif()
