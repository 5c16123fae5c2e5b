// Sums, scalings, copies and conversions of whole matrices.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// y[r,c] = a[r,c] + b[r,c]. Overwrites y, which may be a or b.
template <class Queue, class T>
void add(const Queue& queue, Matrix<T> y, Matrix<const T> a, Matrix<const T> b, Index rows, Index cols);

/// y[r,c] = x[r,c] * factor. Overwrites y, which may be x.
template <class Queue, class T>
void scale(const Queue& queue, Matrix<T> y, Matrix<const T> x, Accumulator<T> factor, Index rows, Index cols);

/// y[i] += x[i] * factor, i in [0, count).
template <class Queue, class T>
void add_scaled(const Queue& queue, T* y, const T* x, T factor, Index count);

/// y[r,c] = value.
template <class Queue, class T>
void fill(const Queue& queue, Matrix<T> y, T value, Index rows, Index cols);

/// y[r,c] = x[r,c], rounded to the nearest where To is narrower. Instantiated for every pair of {float, double, bf16}.
template <class Queue, class To, class From>
void convert(const Queue& queue, Matrix<To> y, Matrix<const From> x, Index rows, Index cols);

/// y[i,:] = x[rows[i],:] of T, i in [0, count): the rows that the head runs on.
template <class Queue, class T>
void gather_rows(const Queue& queue, Matrix<T> y, Matrix<const T> x, const std::int32_t* rows, Index count, Index cols);

/// y[rows[i],:] = x[i,:], and zero in every other of the `total` rows of y. `rows` increases strictly.
template <class Queue, class T>
void scatter_rows(const Queue& queue, Matrix<T> y, Matrix<const T> x, const std::int32_t* rows, Index count,
                  Index total, Index cols);

}  // namespace unfurl::kernels
