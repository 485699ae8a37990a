// y = M x for a sparse matrix M in compressed rows, as custom calls of XLA on CPU.
//
// Rows are shared out among XLA's own threads in runs that cost the same. One row of y is summed in
// registers, in the order of its entries, by one thread: the same bits whatever the threads are.
// Ids are not checked here; what makes a matrix has checked them.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

constexpr int64_t kLineBytes = 64;
constexpr int kSmallestRegister = 16;

// A table whose rows are asked for this many bytes ahead leaves room in a cache of 32 KiB.
constexpr int64_t kBytesAhead = 8192;
constexpr int64_t kLeastAhead = 4, kMostAhead = 32;
// From here on a result would push what is read out of the caches: it is written past them.
constexpr int64_t kBytesToStream = int64_t{8} << 20;
constexpr int64_t kBytesToHugePages = int64_t{8} << 20, kBytesToMove = int64_t{32} << 20;
constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
constexpr int kCollapse = 25;  // MADV_COLLAPSE, which older headers do not know
// Multiplications in one task: a tenth of a millisecond. Less in all is not worth a second thread.
// To read a row costs as much as this many of them, however few columns it has.
constexpr int64_t kTaskProducts = int64_t{1} << 20;
constexpr int64_t kLeastColumns = 16;
// Scores that one task looks at.
constexpr int64_t kTaskScores = int64_t{1} << 20;
// Rows that a transposed product adds to at a time: they stay near, and each listed row of the
// matrix is searched once for them. One is asked for some entries before it is added to.
constexpr int64_t kBytesAddedTo = int64_t{4} << 20;
constexpr int64_t kAddedAhead = 4;
constexpr int64_t kTasksAThread = 4;
// Vectors that one task multiplies by a table, and bytes of its rows that it goes over again for the
// next group of them.
constexpr int64_t kQueriesAtOnce = 256;
constexpr int64_t kBytesNear = int64_t{128} << 10, kLeastNear = 12;

// Rows of two tall tables that are multiplied at a time, which stay near; and those that one sum runs
// over, before the sums are added up in their order: the same bits whatever the threads are.
constexpr int64_t kTallRows = 256, kTallPart = 4096;
// Rows of a layer of NGCF that stay near while they are multiplied, whole tiles of them; and those of
// one task, which lays the matrices out for itself.
constexpr int64_t kNgcfRows = 96, kNgcfTask = 2112;

// Rows of scores that stay near while a softmax is made of them, whole tiles; rows of one run, whose
// sums are added up; and bytes that the sums of all runs may take.
constexpr int64_t kSoftmaxRows = 48, kSoftmaxRun = 480;
constexpr int64_t kBytesOfRuns = int64_t{64} << 20;

// What the loops call for every row is compiled into them, for their instruction set: where one
// with wide registers calls code for narrow ones, an Intel processor may wait a hundred cycles.
#define IN_LOOPS inline __attribute__((always_inline))

using Bf16 = uint16_t;

// The type that sums over a table of T run in.
template <class T>
using SumOf = std::conditional_t<std::is_same_v<T, Bf16>, float, T>;

constexpr uint32_t kUpperHalf = 0xffff0000, kJustBelowHalf = 0x7fff, kQuiet = 0x400000;

template <class T>
IN_LOOPS SumOf<T> Widened(T value) {
  if constexpr (std::is_same_v<T, Bf16>) {
    const uint32_t bits = static_cast<uint32_t>(value) << 16;
    float widened;
    std::memcpy(&widened, &bits, sizeof(widened));
    return widened;
  } else {
    return value;
  }
}

// To the nearest, ties to even; what is not a number stays none.
template <class T>
IN_LOOPS T Narrowed(SumOf<T> value) {
  if constexpr (std::is_same_v<T, Bf16>) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    bits = value == value ? bits + kJustBelowHalf + ((bits >> 16) & 1) : (bits | kQuiet);
    return static_cast<Bf16>(bits >> 16);
  } else {
    return value;
  }
}

struct Range {
  int64_t first, last;
};

// Entries [begin, end) of a row; x is asked for ahead of them, up to the entry last_asked.
struct Entries {
  int64_t begin, end, last_asked;
};

// Where rows begin: int32 or int64 numbers.
struct Offsets {
  const void* values;
  bool wide;

  IN_LOOPS int64_t operator[](int64_t row) const {
    return wide ? static_cast<const int64_t*>(values)[row]
                : static_cast<const int32_t*>(values)[row];
  }
};

// y = alpha M x + beta onto, or without onto y = M x; of all rows of M or of those listed.
template <class T>
struct Product {
  Offsets offsets;
  const int32_t* columns;
  const SumOf<T>* weights;  // null: all are 1
  const T* x;
  T* y;
  int64_t matrix_rows, entries, dim;
  const int32_t* listed = nullptr;  // null: all rows in their order
  int64_t num_rows;                 // listed or all
  const T* onto = nullptr;
  SumOf<T> alpha = 1, beta = 0;
  int64_t ahead;
  bool stream = false;

  IN_LOOPS SumOf<T> WeightOf(int64_t entry) const { return weights == nullptr ? 1 : weights[entry]; }

  IN_LOOPS Entries EntriesOf(int64_t row) const {
    if (listed == nullptr) return {offsets[row], offsets[row + 1], entries - 1};
    // As JAX reads tables: an id out of range becomes the nearest one.
    const int64_t from = std::clamp<int64_t>(listed[row], 0, matrix_rows - 1);
    const int64_t end = offsets[from + 1];
    return {offsets[from], end, end - 1};
  }
};

// aᵀ b of two tables that have many more rows than columns.
template <class T>
struct Tall {
  const T* a;
  const T* b;
  int64_t rows, a_width, b_width;
  int64_t filled;  // b_width, rounded up to whole registers
};

// h = LeakyReLU((m + e) W1 + (e ∘ m) W2) of a table's rows: a layer of NGCF, given m = Ã e.
template <class T>
struct NgcfLayer {
  const T* messages;
  const T* own;
  const T* sums;      // W1, width × dim
  const T* products;  // W2
  int64_t rows, width, dim;
  T slope;
  bool stream = false;
};

// What its gradient reads beside that, and writes for each row: h ≥ 0 where z is, the slope being
// positive.
template <class T>
struct NgcfGradient {
  NgcfLayer<T> layer;
  const T* output;
  const T* cotangent;
  T* by_messages;
  T* by_own;
  int64_t filled;  // dim, rounded up to whole registers
};

// log(e^first + Σ_j e^(⟨query, item_j⟩ + added_j)) over the valid j of each query, as the largest
// exponent and the sum of the others beside it; and the gradients of Σ factor · log.
template <class T>
struct Softmax {
  const T* queries;
  const T* items;
  const T* added;
  const T* first;
  const T* factors;
  const uint8_t* valid;
  int64_t rows, count, dim;
  T* largest;
  T* sums;
  T* by_queries;
  T* by_first;
  int64_t width, filled;  // count and dim, rounded up: what lies between rows of terms and of sums

  // Rows of a sum: the table's, and what is added to them in rows of their own.
  int64_t Height() const { return width + (width + filled - 1) / filled; }
};

#include "best.inc"

// The largest entries of each column of scores.
template <class T>
struct Largest {
  const T* scores;
  Found<T> found;
};

// The largest inner products of each vector with the rows of a table.
template <class T>
struct Products {
  const T* table;
  const T* vectors;
  int64_t dim;
};

// The loops once for each instruction set, in one binary.
#define STREAM(to, value) std::memcpy(to, &value, sizeof(value))
#define FENCE()
#define VECTOR_BYTES 16
#define MOST_SUMS 8
namespace baseline {
// The lanes of a vector of scores that are not below their bars, nor equal: what is no number is
// among them. One bit a lane.
template <class T>
inline uint32_t NotBelow(const T* scores, const T* bars) {
  typedef T Vector __attribute__((vector_size(VECTOR_BYTES)));
  typedef uint64_t Words __attribute__((vector_size(VECTOR_BYTES)));
  Vector score, bar;
  std::memcpy(&score, scores, sizeof(score));
  std::memcpy(&bar, bars, sizeof(bar));
  const Words below = (Words)(score <= bar);
  if ((below[0] & below[1]) == ~uint64_t{0}) return 0;
  uint32_t lanes = 0;
  for (int lane = 0; lane < VECTOR_BYTES / static_cast<int>(sizeof(T)); ++lane) {
    lanes |= static_cast<uint32_t>(!(scores[lane] <= bars[lane])) << lane;
  }
  return lanes;
}
#include "rows.inc"
#include "top_k.inc"
#include "products.inc"
#include "tall.inc"
#include "ngcf.inc"
#include "softmax.inc"
}  // namespace baseline
#undef STREAM
#undef FENCE
#undef VECTOR_BYTES
#undef MOST_SUMS

#if defined(__x86_64__)
#define FENCE() _mm_sfence()

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define VECTOR_BYTES 32
#define MOST_SUMS 8
#define STREAM(to, value) Stream(to, value)
namespace avx2 {
inline uint32_t NotBelow(const float* scores, const float* bars) {
  return _mm256_movemask_ps(
      _mm256_cmp_ps(_mm256_loadu_ps(scores), _mm256_loadu_ps(bars), _CMP_NLE_UQ));
}

inline uint32_t NotBelow(const double* scores, const double* bars) {
  return _mm256_movemask_pd(
      _mm256_cmp_pd(_mm256_loadu_pd(scores), _mm256_loadu_pd(bars), _CMP_NLE_UQ));
}

template <class Bits>
inline void Stream(void* to, Bits bits) {
  if constexpr (sizeof(bits) == VECTOR_BYTES) {
    _mm256_stream_si256(static_cast<__m256i*>(to), (__m256i)bits);
  } else {
    std::memcpy(to, &bits, sizeof(bits));
  }
}
#include "rows.inc"
#include "top_k.inc"
#include "products.inc"
#include "tall.inc"
#include "ngcf.inc"
#include "softmax.inc"
}  // namespace avx2
#undef VECTOR_BYTES
#undef MOST_SUMS
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx2,fma")
#endif
#define VECTOR_BYTES 64
#define MOST_SUMS 16
namespace avx512 {
inline uint32_t NotBelow(const float* scores, const float* bars) {
  return _mm512_cmp_ps_mask(_mm512_loadu_ps(scores), _mm512_loadu_ps(bars), _CMP_NLE_UQ);
}

inline uint32_t NotBelow(const double* scores, const double* bars) {
  return _mm512_cmp_pd_mask(_mm512_loadu_pd(scores), _mm512_loadu_pd(bars), _CMP_NLE_UQ);
}

template <class Bits>
inline void Stream(void* to, Bits bits) {
  if constexpr (sizeof(bits) == VECTOR_BYTES) {
    _mm512_stream_si512(static_cast<__m512i*>(to), (__m512i)bits);
  } else {
    std::memcpy(to, &bits, sizeof(bits));
  }
}
#include "rows.inc"
#include "top_k.inc"
#include "products.inc"
#include "tall.inc"
#include "ngcf.inc"
#include "softmax.inc"
}  // namespace avx512
#undef VECTOR_BYTES
#undef MOST_SUMS
#undef STREAM
#undef FENCE
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

enum InstructionSet { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

InstructionSet BestInstructionSet() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    return wide ? kAvx512 : kAvx2;
  }
#endif
  return kBaseline;
}

std::atomic<int> instruction_set{BestInstructionSet()};

template <class T>
using Loop = void (*)(const Product<T>&, Range);

template <class T>
Loop<T> RowLoop() {
#if defined(__x86_64__)
  if (instruction_set == kAvx512) return avx512::Rows<T>;
  if (instruction_set == kAvx2) return avx2::Rows<T>;
#endif
  return baseline::Rows<T>;
}

template <class T>
Loop<T> TransposedLoop() {
#if defined(__x86_64__)
  if (instruction_set == kAvx512) return avx512::TransposedRows<T>;
  if (instruction_set == kAvx2) return avx2::TransposedRows<T>;
#endif
  return baseline::TransposedRows<T>;
}

template <class T>
void (*ColumnLoop())(const Largest<T>&, Range) {
#if defined(__x86_64__)
  if (instruction_set == kAvx512) return avx512::LargestOfColumns<T>;
  if (instruction_set == kAvx2) return avx2::LargestOfColumns<T>;
#endif
  return baseline::LargestOfColumns<T>;
}

template <class T>
void (*ProductLoop())(const Products<T>&, const Found<T>&, Range, Range) {
#if defined(__x86_64__)
  if (instruction_set == kAvx512) return avx512::LargestProducts<T>;
  if (instruction_set == kAvx2) return avx2::LargestProducts<T>;
#endif
  return baseline::LargestProducts<T>;
}

template <class T>
void (*TallLoop())(const Tall<T>&, Range, T*) {
#if defined(__x86_64__)
  if (instruction_set == kAvx512) return avx512::TallPart<T>;
  if (instruction_set == kAvx2) return avx2::TallPart<T>;
#endif
  return baseline::TallPart<T>;
}

template <class T>
void (*NgcfLoop())(const NgcfLayer<T>&, Range, T*) {
#if defined(__x86_64__)
  if (instruction_set == kAvx512) return avx512::NgcfRows<T>;
  if (instruction_set == kAvx2) return avx2::NgcfRows<T>;
#endif
  return baseline::NgcfRows<T>;
}

template <class T>
void (*NgcfGradientLoop())(const NgcfGradient<T>&, Range, T*) {
#if defined(__x86_64__)
  if (instruction_set == kAvx512) return avx512::NgcfGradientPart<T>;
  if (instruction_set == kAvx2) return avx2::NgcfGradientPart<T>;
#endif
  return baseline::NgcfGradientPart<T>;
}

template <class T>
void (*SoftmaxLoop())(const Softmax<T>&, Range, T*) {
#if defined(__x86_64__)
  if (instruction_set == kAvx512) return avx512::SoftmaxPart<T>;
  if (instruction_set == kAvx2) return avx2::SoftmaxPart<T>;
#endif
  return baseline::SoftmaxPart<T>;
}

// Runs work(0) … work(tasks - 1) on XLA's threads and on this one, which may be one of them: it
// takes tasks like the others, so that it waits for nothing but tasks that others are at.
template <class Work>
void Share(ffi::ThreadPool& pool, int64_t tasks, const Work& work) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all_done;
  };
  // A thread that comes late finds no task; this call may have returned, the state is there still.
  auto state = std::make_shared<State>();
  auto help = [state, tasks, &work] {
    int64_t finished = 0;
    for (int64_t task; (task = state->next.fetch_add(1)) < tasks; ++finished) work(task);
    if (finished > 0 && state->done.fetch_add(finished) + finished == tasks) {
      std::lock_guard<std::mutex> lock(state->mutex);
      state->all_done.notify_all();
    }
  };
  const int64_t helpers = std::min(pool.num_threads(), tasks) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(decltype(help)(help));
  help();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all_done.wait(lock, [&] { return state->done == tasks; });
}

int64_t TasksOf(int64_t entries, int64_t dim) {
  return std::max<int64_t>(1, entries * std::max(dim, kLeastColumns) / kTaskProducts);
}

// The first row of a task when all rows, with an entry's work for each one beside its entries, are
// shared out evenly.
int64_t FirstRow(const Offsets& offsets, int64_t rows, int64_t task, int64_t tasks) {
  const int64_t goal = (offsets[rows] + rows) * task / tasks;
  int64_t low = 0, high = rows;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (offsets[middle] + middle < goal) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Whether a result of so many rows is written past the caches.
template <class T>
bool Streams(const T* y, int64_t rows, int64_t dim) {
  const int64_t register_bytes = instruction_set == kAvx512 ? 64 : 32;
  const int64_t row_bytes = dim * sizeof(T);
  return row_bytes % register_bytes == 0 && rows * row_bytes >= kBytesToStream &&
         reinterpret_cast<uintptr_t>(y) % kLineBytes == 0;
}

// Asks Linux for large pages under a table: of small ones a processor does not keep enough addresses
// for rows that are read at random. One that is filled already is moved, for which all processors
// are called upon. Where Linux refuses, the time alone is another.
void UseHugePages(const void* table, int64_t bytes, bool filled) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (bytes < (filled ? kBytesToMove : kBytesToHugePages)) return;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(table), end = begin + bytes;
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  void* const pages = reinterpret_cast<void*>(first);
  const size_t size = end / kHugePage * kHugePage - first;
  madvise(pages, size, MADV_HUGEPAGE);
  if (filled) madvise(pages, size, kCollapse);
#endif
}

template <class T>
void MultiplyAll(ffi::ThreadPool& pool, Product<T>& p, int64_t x_rows) {
  UseHugePages(p.x, x_rows * p.dim * sizeof(T), true);
  UseHugePages(p.y, p.num_rows * p.dim * sizeof(T), false);
  p.stream = Streams(p.y, p.num_rows, p.dim);
  const Loop<T> loop = RowLoop<T>();
  const int64_t tasks = TasksOf(p.entries + p.num_rows, p.dim);
  Share(pool, tasks, [&](int64_t task) {
    loop(p, {FirstRow(p.offsets, p.num_rows, task, tasks),
             FirstRow(p.offsets, p.num_rows, task + 1, tasks)});
  });
}

template <class T>
void MultiplyListed(ffi::ThreadPool& pool, const Product<T>& p) {
  int64_t entries = 0;
  for (int64_t row = 0; row < p.num_rows; ++row) {
    const Entries found = p.EntriesOf(row);
    entries += found.end - found.begin;
  }
  const Loop<T> loop = RowLoop<T>();
  const int64_t tasks = std::clamp<int64_t>(p.num_rows, 1, TasksOf(entries, p.dim));
  Share(pool, tasks, [&](int64_t task) {
    loop(p, {p.num_rows * task / tasks, p.num_rows * (task + 1) / tasks});
  });
}

template <class T>
void MultiplyListedTransposed(ffi::ThreadPool& pool, const Product<T>& p, int64_t columns) {
  const Loop<T> loop = TransposedLoop<T>();
  const int64_t row_bytes = std::max<int64_t>(1, p.dim * sizeof(T));
  const int64_t shared = columns / (kTasksAThread * std::max<int64_t>(1, pool.num_threads()));
  const int64_t rows = std::max<int64_t>(1, std::min(shared, kBytesAddedTo / row_bytes));
  const int64_t tasks = (columns + rows - 1) / rows;
  Share(pool, tasks, [&](int64_t task) {
    loop(p, {task * rows, std::min(columns, (task + 1) * rows)});
  });
}

// The transpose of M in compressed rows, without entries of weight 0. Each of its rows has its
// entries in the order of M's rows, whatever the threads are.
template <class T>
struct Transpose {
  std::unique_ptr<int64_t[]> offsets;
  std::unique_ptr<int32_t[]> columns;
  std::unique_ptr<SumOf<T>[]> weights;

  Transpose(ffi::ThreadPool& pool, const Product<T>& p, int64_t rows)
      : offsets(new int64_t[rows + 1]),
        columns(new int32_t[p.entries]),
        weights(new SumOf<T>[p.entries]) {
    const int64_t parts = std::max<int64_t>(1, std::min(pool.num_threads(), p.entries / rows));
    // How many entries of a part each row gets; then where the next of them goes.
    std::vector<int64_t> places(parts * rows, 0);
    const auto for_entries = [&](int64_t part, const auto& visit) {
      int64_t* const own = places.data() + part * rows;
      const int64_t last = FirstRow(p.offsets, p.matrix_rows, part + 1, parts);
      for (int64_t row = FirstRow(p.offsets, p.matrix_rows, part, parts); row < last; ++row) {
        for (int64_t entry = p.offsets[row]; entry < p.offsets[row + 1]; ++entry) {
          if (p.WeightOf(entry) != 0) visit(own[p.columns[entry]], row, entry);
        }
      }
    };
    Share(pool, parts, [&](int64_t part) {
      for_entries(part, [](int64_t& count, int64_t, int64_t) { ++count; });
    });
    int64_t total = 0;
    for (int64_t row = 0; row < rows; ++row) {
      offsets[row] = total;
      for (int64_t part = 0; part < parts; ++part) {
        total += std::exchange(places[part * rows + row], total);
      }
    }
    offsets[rows] = total;
    Share(pool, parts, [&](int64_t part) {
      for_entries(part, [&](int64_t& place, int64_t row, int64_t entry) {
        columns[place] = static_cast<int32_t>(row);
        weights[place++] = p.WeightOf(entry);
      });
    });
  }
};

template <class T>
void MultiplyTransposed(ffi::ThreadPool& pool, const Product<T>& p, int64_t rows) {
  if (rows == 0) return;
  const Transpose<T> transpose(pool, p, rows);
  Product<T> flipped = p;
  flipped.offsets = {transpose.offsets.get(), true};
  flipped.columns = transpose.columns.get();
  flipped.weights = transpose.weights.get();
  flipped.matrix_rows = flipped.num_rows = rows;
  flipped.entries = transpose.offsets[rows];
  MultiplyAll(pool, flipped, p.num_rows);
}

template <class T>
void FindLargest(ffi::ThreadPool& pool, const Largest<T>& p) {
  const auto loop = ColumnLoop<T>();
  const int64_t columns = p.found.queries;
  const int64_t lines = (columns * sizeof(T) + kLineBytes - 1) / kLineBytes;
  const int64_t tasks = std::clamp<int64_t>(p.found.rows * columns / kTaskScores, 1, lines);
  const int64_t a_line = kLineBytes / sizeof(T);
  Share(pool, tasks, [&](int64_t task) {
    loop(p, {lines * task / tasks * a_line,
             std::min(columns, lines * (task + 1) / tasks * a_line)});
  });
}

// Where the queries alone would leave threads idle, the rows of the table are shared out too, and
// the best of each part are put together.
template <class T>
void FindLargestProducts(ffi::ThreadPool& pool, const Products<T>& p, const Found<T>& found) {
  const auto loop = ProductLoop<T>();
  const int64_t chunks = (found.queries + kQueriesAtOnce - 1) / kQueriesAtOnce;
  if (chunks == 0) return;
  const auto chunk = [&](int64_t at) {
    return Range{at * kQueriesAtOnce, std::min(found.queries, (at + 1) * kQueriesAtOnce)};
  };
  const int64_t products = found.rows * found.queries / chunks * std::max(p.dim, kLeastColumns);
  const int64_t wanted = 2 * std::max<int64_t>(1, pool.num_threads()) / chunks;
  const int64_t parts = std::clamp<int64_t>(products / kTaskProducts, 1, std::max<int64_t>(1, wanted));
  if (parts == 1) {
    Share(pool, chunks, [&](int64_t task) { loop(p, found, chunk(task), {0, found.rows}); });
    return;
  }
  const int64_t kept = std::min(found.k, found.rows / parts + 1), size = found.queries * kept;
  const std::unique_ptr<int32_t[]> items(new int32_t[parts * size]);
  const std::unique_ptr<T[]> values(new T[parts * size]);
  Share(pool, chunks * parts, [&](int64_t task) {
    const int64_t part = task % parts;
    Found<T> of_part = found;
    of_part.k = kept;
    of_part.items = items.get() + part * size;
    of_part.values = values.get() + part * size;
    loop(p, of_part, chunk(task / parts),
         {found.rows * part / parts, found.rows * (part + 1) / parts});
  });
  for (int64_t query = 0; query < found.queries; ++query) {
    Best<T> best(found.k);
    T bar = -std::numeric_limits<T>::infinity();
    for (int64_t part = 0; part < parts; ++part) {
      for (int64_t place = part * size + query * kept, left = kept; left > 0; ++place, --left) {
        if (values[place] <= bar) break;
        bar = best.Add(values[place], items[place]);
      }
    }
    best.Write(found.items + query * found.k, found.values + query * found.k);
  }
}

// A sum over a table's rows in runs of a fixed length, which are added up in their order: the same
// bits whatever the threads are. run(range, sum) writes the sum of a run, a table as large as the
// result but with rows of filled columns.
template <class T>
struct SumOfRuns {
  int64_t parts, size, filled;
  std::unique_ptr<T[]> sums;

  template <class Run>
  SumOfRuns(ffi::ThreadPool& pool, int64_t rows, int64_t length, int64_t height, int64_t filled,
            const Run& run)
      : parts(std::max<int64_t>(1, (rows + length - 1) / length)),
        size(height * filled),
        filled(filled),
        sums(new T[parts * size]) {
    Share(pool, parts, [&](int64_t part) {
      const Range range{part * length, std::min(rows, (part + 1) * length)};
      run(range, sums.get() + part * size);
    });
  }

  // The rows [first, last) of the result, of which so many columns are there.
  void Write(Range rows, int64_t columns, T* y) const {
    for (int64_t row = rows.first; row < rows.last; ++row, y += columns) {
      const T* sum = sums.get() + row * filled;
      std::copy(sum, sum + columns, y);
      for (int64_t part = 1; part < parts; ++part) {
        sum += size;
        for (int64_t column = 0; column < columns; ++column) y[column] += sum[column];
      }
    }
  }
};

// Columns rounded up to registers of any instruction set.
template <class T>
int64_t Filled(int64_t columns) {
  constexpr int64_t kWidest = kLineBytes / sizeof(T);
  return (columns + kWidest - 1) / kWidest * kWidest;
}

template <class T>
void MultiplyTall(ffi::ThreadPool& pool, Tall<T> p, T* y) {
  const auto loop = TallLoop<T>();
  p.filled = Filled<T>(p.b_width);
  const SumOfRuns<T> sum(pool, p.rows, kTallPart, p.a_width, p.filled,
                         [&](Range rows, T* sum) { loop(p, rows, sum); });
  sum.Write({0, p.a_width}, p.b_width, y);
}

template <class T>
void MakeNgcfLayer(ffi::ThreadPool& pool, NgcfLayer<T> p, T* output) {
  p.stream = Streams(output, p.rows, p.dim);
  const auto loop = NgcfLoop<T>();
  Share(pool, (p.rows + kNgcfTask - 1) / kNgcfTask, [&](int64_t task) {
    loop(p, {task * kNgcfTask, std::min(p.rows, (task + 1) * kNgcfTask)}, output);
  });
}

template <class T>
void MakeNgcfGradient(ffi::ThreadPool& pool, NgcfGradient<T> g, T* by_sums, T* by_products) {
  const NgcfLayer<T>& p = g.layer;
  g.layer.stream = Streams(g.by_messages, p.rows, p.width) && Streams(g.by_own, p.rows, p.width);
  g.filled = Filled<T>(p.dim);
  const auto loop = NgcfGradientLoop<T>();
  const SumOfRuns<T> sum(pool, p.rows, kTallPart, 2 * p.width, g.filled,
                         [&](Range rows, T* sum) { loop(g, rows, sum); });
  sum.Write({0, p.width}, p.dim, by_sums);
  sum.Write({p.width, 2 * p.width}, p.dim, by_products);
}

template <class T>
void MakeSoftmax(ffi::ThreadPool& pool, Softmax<T> p, T* by_items, T* by_added) {
  p.filled = Filled<T>(std::max<int64_t>(1, p.dim));
  // A line more: rows a power of two apart would fall on the same places of a cache.
  p.width = Filled<T>(p.count) + kLineBytes / sizeof(T);
  const int64_t size = p.Height() * p.filled * sizeof(T);
  const int64_t most = std::max<int64_t>(1, kBytesOfRuns / std::max<int64_t>(1, size));
  const int64_t length = std::max(kSoftmaxRun, (p.rows + most - 1) / most);
  const auto loop = SoftmaxLoop<T>();
  const SumOfRuns<T> sum(pool, p.rows, length, p.Height(), p.filled,
                         [&](Range rows, T* sum) { loop(p, rows, sum); });
  sum.Write({0, p.count}, p.dim, by_items);
  std::vector<T> added((p.Height() - p.width) * p.filled);
  sum.Write({p.width, p.Height()}, p.filled, added.data());
  std::copy(added.begin(), added.begin() + p.count, by_added);
}

ffi::Error Refused(const char* why) { return ffi::Error(ffi::ErrorCode::kInvalidArgument, why); }

template <class T>
constexpr ffi::DataType kTypeOf = std::is_same_v<T, Bf16>    ? ffi::DataType::BF16
                                  : std::is_same_v<T, float> ? ffi::DataType::F32
                                                             : ffi::DataType::F64;

// The arguments that every call has.
struct Matrix {
  ffi::AnyBuffer offsets, columns, weights;

  template <class T>
  Product<T> TimesTable(const ffi::AnyBuffer& x, const ffi::AnyBuffer& y) const {
    Product<T> p;
    p.offsets = {offsets.untyped_data(), offsets.element_type() == ffi::DataType::S64};
    p.columns = static_cast<const int32_t*>(columns.untyped_data());
    p.weights = weights.element_count() == 0
                    ? nullptr
                    : static_cast<const SumOf<T>*>(weights.untyped_data());
    p.x = static_cast<const T*>(x.untyped_data());
    p.y = static_cast<T*>(y.untyped_data());
    p.matrix_rows = p.num_rows = static_cast<int64_t>(offsets.element_count()) - 1;
    p.entries = columns.element_count();
    p.dim = x.dimensions()[1];
    const int64_t row_bytes = std::max<int64_t>(1, p.dim * sizeof(T));
    p.ahead = std::clamp(kBytesAhead / row_bytes, kLeastAhead, kMostAhead);
    return p;
  }

  // Why the arrays cannot be multiplied, or null.
  const char* Misfit(const ffi::AnyBuffer& x, const ffi::AnyBuffer& y) const {
    const ffi::DataType kind = offsets.element_type(), table = x.element_type();
    const ffi::DataType sums = table == ffi::DataType::BF16 ? ffi::DataType::F32 : table;
    if (kind != ffi::DataType::S32 && kind != ffi::DataType::S64) return "offsets: no integers";
    if (columns.element_type() != ffi::DataType::S32) return "columns: expected int32";
    if (x.dimensions().size() != 2 || y.dimensions().size() != 2) return "tables: expected two axes";
    if (x.dimensions()[1] != y.dimensions()[1]) return "tables: expected equal widths";
    if (y.element_type() != table) return "tables: expected one type";
    if (weights.element_type() != sums) return "weights: expected the type of sums";
    if (weights.element_count() != 0 && weights.element_count() != columns.element_count()) {
      return "weights: expected one for each entry, or none";
    }
    return nullptr;
  }

  // Why its rows cannot be listed so, or null.
  const char* MisfitOf(const ffi::AnyBuffer& rows) const {
    if (rows.element_type() != ffi::DataType::S32) return "rows: expected int32";
    const bool empty = offsets.element_count() < 2;
    return empty && rows.element_count() > 0 ? "rows: the matrix has none" : nullptr;
  }
};

// Calls run with a value of the type of the table, where it is one of Types.
template <class... Types, class Run>
ffi::Error ForTypeOf(const ffi::AnyBuffer& table, const Run& run) {
  const bool known =
      ((table.element_type() == kTypeOf<Types> ? (run(Types{}), true) : false) || ...);
  return known ? ffi::Error::Success() : Refused("table: a type that has no kernel");
}

ffi::Error Multiply(ffi::ThreadPool pool, ffi::AnyBuffer offsets, ffi::AnyBuffer columns,
                    ffi::AnyBuffer weights, ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y) {
  const Matrix matrix{offsets, columns, weights};
  if (const char* why = matrix.Misfit(x, *y)) return Refused(why);
  return ForTypeOf<float, Bf16, double>(x, [&](auto kind) {
    auto p = matrix.TimesTable<decltype(kind)>(x, *y);
    MultiplyAll(pool, p, x.dimensions()[0]);
  });
}

ffi::Error MultiplyAdd(ffi::ThreadPool pool, ffi::AnyBuffer offsets, ffi::AnyBuffer columns,
                       ffi::AnyBuffer weights, ffi::AnyBuffer x, ffi::AnyBuffer onto,
                       ffi::AnyBuffer scales, ffi::Result<ffi::AnyBuffer> y) {
  const Matrix matrix{offsets, columns, weights};
  if (const char* why = matrix.Misfit(x, *y)) return Refused(why);
  if (onto.element_type() != x.element_type() || onto.element_count() != y->element_count()) {
    return Refused("onto: expected the type and the shape of the result");
  }
  if (scales.element_type() != weights.element_type() || scales.element_count() != 2) {
    return Refused("scales: expected two numbers of the type of sums");
  }
  return ForTypeOf<float, Bf16, double>(x, [&](auto kind) {
    using T = decltype(kind);
    auto p = matrix.TimesTable<T>(x, *y);
    p.onto = static_cast<const T*>(onto.untyped_data());
    p.alpha = static_cast<const SumOf<T>*>(scales.untyped_data())[0];
    p.beta = static_cast<const SumOf<T>*>(scales.untyped_data())[1];
    MultiplyAll(pool, p, x.dimensions()[0]);
  });
}

ffi::Error MultiplyRows(ffi::ThreadPool pool, ffi::AnyBuffer offsets, ffi::AnyBuffer columns,
                        ffi::AnyBuffer weights, ffi::AnyBuffer x, ffi::AnyBuffer rows,
                        ffi::Result<ffi::AnyBuffer> y) {
  const Matrix matrix{offsets, columns, weights};
  if (const char* why = matrix.Misfit(x, *y)) return Refused(why);
  if (const char* why = matrix.MisfitOf(rows)) return Refused(why);
  return ForTypeOf<float, Bf16, double>(x, [&](auto kind) {
    auto p = matrix.TimesTable<decltype(kind)>(x, *y);
    p.listed = static_cast<const int32_t*>(rows.untyped_data());
    p.num_rows = rows.element_count();
    MultiplyListed(pool, p);
  });
}

ffi::Error MultiplyRowsTransposed(ffi::ThreadPool pool, ffi::AnyBuffer offsets,
                                  ffi::AnyBuffer columns, ffi::AnyBuffer weights, ffi::AnyBuffer x,
                                  ffi::AnyBuffer rows, ffi::Result<ffi::AnyBuffer> y) {
  const Matrix matrix{offsets, columns, weights};
  if (const char* why = matrix.Misfit(x, *y)) return Refused(why);
  if (const char* why = matrix.MisfitOf(rows)) return Refused(why);
  return ForTypeOf<float, double>(x, [&](auto kind) {
    auto p = matrix.TimesTable<decltype(kind)>(x, *y);
    p.listed = static_cast<const int32_t*>(rows.untyped_data());
    p.num_rows = rows.element_count();
    MultiplyListedTransposed(pool, p, y->dimensions()[0]);
  });
}

ffi::Error MultiplyTransposedTable(ffi::ThreadPool pool, ffi::AnyBuffer offsets,
                                   ffi::AnyBuffer columns, ffi::AnyBuffer weights,
                                   ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y) {
  const Matrix matrix{offsets, columns, weights};
  if (const char* why = matrix.Misfit(x, *y)) return Refused(why);
  return ForTypeOf<float, double>(x, [&](auto kind) {
    const auto p = matrix.TimesTable<decltype(kind)>(x, *y);
    MultiplyTransposed(pool, p, y->dimensions()[0]);
  });
}

ffi::Error MultiplyTallTables(ffi::ThreadPool pool, ffi::AnyBuffer a, ffi::AnyBuffer b,
                              ffi::Result<ffi::AnyBuffer> y) {
  if (a.dimensions().size() != 2 || b.dimensions().size() != 2 || y->dimensions().size() != 2) {
    return Refused("tables: expected two axes");
  }
  if (a.dimensions()[0] != b.dimensions()[0]) return Refused("tables: expected as many rows");
  if (y->dimensions()[0] != a.dimensions()[1] || y->dimensions()[1] != b.dimensions()[1]) {
    return Refused("product: expected a row for each column of a, a column for each one of b");
  }
  if (b.element_type() != a.element_type() || y->element_type() != a.element_type()) {
    return Refused("tables: expected one type");
  }
  return ForTypeOf<float, double>(a, [&](auto kind) {
    using T = decltype(kind);
    MultiplyTall(pool,
                 Tall<T>{static_cast<const T*>(a.untyped_data()),
                         static_cast<const T*>(b.untyped_data()), a.dimensions()[0],
                         a.dimensions()[1], b.dimensions()[1], 0},
                 static_cast<T*>(y->untyped_data()));
  });
}

// The tables and matrices that a layer of NGCF and its gradient read.
struct Ngcf {
  ffi::AnyBuffer messages, own, sums, products;

  // Why they are not those of a layer whose output is such a table, or null.
  const char* Misfit(const ffi::AnyBuffer& output) const {
    for (const ffi::AnyBuffer* table : {&messages, &own, &sums, &products, &output}) {
      if (table->dimensions().size() != 2) return "tables: expected two axes";
      if (table->element_type() != own.element_type()) return "tables: expected one type";
    }
    const int64_t rows = own.dimensions()[0], width = own.dimensions()[1];
    const int64_t dim = output.dimensions()[1];
    if (!Has(messages, rows, width)) return "messages: expected the shape of the nodes' own rows";
    if (!Has(output, rows, dim)) return "output: expected a row for each node";
    if (!Has(sums, width, dim) || !Has(products, width, dim)) {
      return "matrices: expected a row for each column of a node, a column for each one of output";
    }
    return nullptr;
  }

  static bool Has(const ffi::AnyBuffer& table, int64_t rows, int64_t columns) {
    return table.dimensions().size() == 2 && table.dimensions()[0] == rows &&
           table.dimensions()[1] == columns;
  }

  template <class T>
  NgcfLayer<T> Of(int64_t dim, double slope) const {
    return {static_cast<const T*>(messages.untyped_data()),
            static_cast<const T*>(own.untyped_data()),
            static_cast<const T*>(sums.untyped_data()),
            static_cast<const T*>(products.untyped_data()),
            own.dimensions()[0],
            own.dimensions()[1],
            dim,
            static_cast<T>(slope)};
  }
};

ffi::Error MakeNgcfLayerOfTables(ffi::ThreadPool pool, ffi::AnyBuffer messages, ffi::AnyBuffer own,
                                 ffi::AnyBuffer sums, ffi::AnyBuffer products, double slope,
                                 ffi::Result<ffi::AnyBuffer> output) {
  const Ngcf given{messages, own, sums, products};
  if (const char* why = given.Misfit(*output)) return Refused(why);
  return ForTypeOf<float, double>(own, [&](auto kind) {
    using T = decltype(kind);
    MakeNgcfLayer<T>(pool, given.Of<T>(output->dimensions()[1], slope),
                     static_cast<T*>(output->untyped_data()));
  });
}

ffi::Error MakeNgcfGradientOfTables(ffi::ThreadPool pool, ffi::AnyBuffer messages,
                                    ffi::AnyBuffer own, ffi::AnyBuffer sums,
                                    ffi::AnyBuffer products, ffi::AnyBuffer output,
                                    ffi::AnyBuffer cotangent, double slope,
                                    ffi::Result<ffi::AnyBuffer> by_messages,
                                    ffi::Result<ffi::AnyBuffer> by_own,
                                    ffi::Result<ffi::AnyBuffer> by_sums,
                                    ffi::Result<ffi::AnyBuffer> by_products) {
  const Ngcf given{messages, own, sums, products};
  if (const char* why = given.Misfit(output)) return Refused(why);
  if (const char* why = given.Misfit(cotangent)) return Refused(why);
  if (const char* why = Ngcf{*by_messages, *by_own, *by_sums, *by_products}.Misfit(output)) {
    return Refused(why);
  }
  if (by_own->dimensions()[1] != own.dimensions()[1] ||
      by_own->element_type() != own.element_type()) {
    return Refused("gradients: expected the shapes and the type of what they are taken by");
  }
  return ForTypeOf<float, double>(own, [&](auto kind) {
    using T = decltype(kind);
    MakeNgcfGradient<T>(pool,
                        {given.Of<T>(output.dimensions()[1], slope),
                         static_cast<const T*>(output.untyped_data()),
                         static_cast<const T*>(cotangent.untyped_data()),
                         static_cast<T*>(by_messages->untyped_data()),
                         static_cast<T*>(by_own->untyped_data()), 0},
                        static_cast<T*>(by_sums->untyped_data()),
                        static_cast<T*>(by_products->untyped_data()));
  });
}

ffi::Error MakeSoftmaxOfTables(ffi::ThreadPool pool, ffi::AnyBuffer queries, ffi::AnyBuffer items,
                               ffi::AnyBuffer added, ffi::AnyBuffer first, ffi::AnyBuffer factors,
                               ffi::BufferR2<ffi::PRED> valid, ffi::Result<ffi::AnyBuffer> largest,
                               ffi::Result<ffi::AnyBuffer> sums,
                               ffi::Result<ffi::AnyBuffer> by_queries,
                               ffi::Result<ffi::AnyBuffer> by_items,
                               ffi::Result<ffi::AnyBuffer> by_added,
                               ffi::Result<ffi::AnyBuffer> by_first) {
  if (queries.dimensions().size() != 2 || items.dimensions().size() != 2) {
    return Refused("tables: expected two axes");
  }
  const size_t rows = queries.dimensions()[0], count = items.dimensions()[0];
  const size_t dim = queries.dimensions()[1];
  if (items.dimensions()[1] != queries.dimensions()[1]) return Refused("tables: expected equal widths");
  if (valid.dimensions()[0] != queries.dimensions()[0] ||
      valid.dimensions()[1] != items.dimensions()[0]) {
    return Refused("valid: expected a row for each query, a column for each item");
  }
  const auto fits = [&](const ffi::AnyBuffer& buffer, size_t numbers) {
    return buffer.element_type() == queries.element_type() && buffer.element_count() == numbers;
  };
  if (!fits(items, count * dim) || !fits(added, count) || !fits(first, rows) ||
      !fits(factors, rows) || !fits(*largest, rows) || !fits(*sums, rows) ||
      !fits(*by_queries, rows * dim) || !fits(*by_items, count * dim) || !fits(*by_added, count) ||
      !fits(*by_first, rows)) {
    return Refused("numbers: expected one for each query or item, of the type of the tables");
  }
  return ForTypeOf<float, double>(queries, [&](auto kind) {
    using T = decltype(kind);
    const auto from = [](const ffi::AnyBuffer& buffer) {
      return static_cast<const T*>(buffer.untyped_data());
    };
    const auto to = [](ffi::Result<ffi::AnyBuffer>& buffer) {
      return static_cast<T*>(buffer->untyped_data());
    };
    MakeSoftmax<T>(pool,
                   {from(queries), from(items), from(added), from(first), from(factors),
                    reinterpret_cast<const uint8_t*>(valid.typed_data()),
                    static_cast<int64_t>(rows), static_cast<int64_t>(count),
                    static_cast<int64_t>(dim), to(largest), to(sums), to(by_queries),
                    to(by_first), 0, 0},
                   to(by_items), to(by_added));
  });
}

// What rankings are told and give back, beside the scores.
struct Asked {
  ffi::BufferR1<ffi::S32> offsets, hidden, rows_of_hidden;
  ffi::Result<ffi::BufferR2<ffi::S32>> items;
  ffi::Result<ffi::AnyBuffer> values;

  template <class T>
  Found<T> Of(int64_t rows, int64_t queries) {
    return {rows,
            queries,
            items->dimensions()[1],
            items->typed_data(),
            static_cast<T*>(values->untyped_data()),
            {offsets.typed_data(), false},
            hidden.typed_data(),
            offsets.dimensions()[0] - 1,
            rows_of_hidden.typed_data()};
  }
};

ffi::Error TopK(ffi::ThreadPool pool, ffi::AnyBuffer scores, ffi::BufferR1<ffi::S32> offsets,
                ffi::BufferR1<ffi::S32> hidden, ffi::BufferR1<ffi::S32> queries,
                ffi::Result<ffi::BufferR2<ffi::S32>> items, ffi::Result<ffi::AnyBuffer> values) {
  if (scores.dimensions().size() != 2) return Refused("scores: expected two axes");
  Asked asked{offsets, hidden, queries, items, values};
  return ForTypeOf<float, double>(scores, [&](auto kind) {
    using T = decltype(kind);
    FindLargest(pool, Largest<T>{static_cast<const T*>(scores.untyped_data()),
                                 asked.Of<T>(scores.dimensions()[0], scores.dimensions()[1])});
  });
}

ffi::Error TopKProducts(ffi::ThreadPool pool, ffi::AnyBuffer table, ffi::AnyBuffer vectors,
                        ffi::BufferR1<ffi::PRED> allowed, ffi::BufferR1<ffi::S32> offsets,
                        ffi::BufferR1<ffi::S32> hidden, ffi::BufferR1<ffi::S32> queries,
                        ffi::Result<ffi::BufferR2<ffi::S32>> items,
                        ffi::Result<ffi::AnyBuffer> values) {
  if (table.dimensions().size() != 2 || vectors.dimensions().size() != 2) {
    return Refused("tables: expected two axes");
  }
  if (table.dimensions()[1] != vectors.dimensions()[1]) return Refused("tables: expected equal widths");
  if (table.element_type() != vectors.element_type()) return Refused("tables: expected one type");
  const int64_t rows = table.dimensions()[0], count = vectors.dimensions()[0];
  const int64_t numbers = allowed.element_count();
  if (numbers != 0 && numbers != rows && numbers != rows * count) {
    return Refused("allowed: expected none, one for each row, or as many for each vector");
  }
  Asked asked{offsets, hidden, queries, items, values};
  return ForTypeOf<float, double>(table, [&](auto kind) {
    using T = decltype(kind);
    Found<T> found = asked.Of<T>(rows, count);
    if (numbers != 0) found.allowed = allowed.typed_data();
    found.allowed_step = numbers == rows ? 0 : rows;
    FindLargestProducts(pool,
                        Products<T>{static_cast<const T*>(table.untyped_data()),
                                    static_cast<const T*>(vectors.untyped_data()),
                                    table.dimensions()[1]},
                        found);
  });
}

}  // namespace

#define ASKED(bound)               \
  bound.Arg<ffi::BufferR1<ffi::S32>>() \
      .Arg<ffi::BufferR1<ffi::S32>>()  \
      .Arg<ffi::BufferR1<ffi::S32>>()  \
      .Ret<ffi::BufferR2<ffi::S32>>()  \
      .Ret<ffi::AnyBuffer>()

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    top_k, TopK, ASKED(ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<ffi::AnyBuffer>()));
XLA_FFI_DEFINE_HANDLER_SYMBOL(top_k_products, TopKProducts,
                              ASKED(ffi::Ffi::Bind()
                                        .Ctx<ffi::ThreadPool>()
                                        .Arg<ffi::AnyBuffer>()
                                        .Arg<ffi::AnyBuffer>()
                                        .Arg<ffi::BufferR1<ffi::PRED>>()));

XLA_FFI_DEFINE_HANDLER_SYMBOL(softmax, MakeSoftmaxOfTables,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::BufferR2<ffi::PRED>>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(multiply_tall, MultiplyTallTables,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

#define NGCF_LAYER             \
  ffi::Ffi::Bind()             \
      .Ctx<ffi::ThreadPool>()  \
      .Arg<ffi::AnyBuffer>()   \
      .Arg<ffi::AnyBuffer>()   \
      .Arg<ffi::AnyBuffer>()   \
      .Arg<ffi::AnyBuffer>()

XLA_FFI_DEFINE_HANDLER_SYMBOL(ngcf_layer, MakeNgcfLayerOfTables,
                              NGCF_LAYER.Attr<double>("slope").Ret<ffi::AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ngcf_layer_gradient, MakeNgcfGradientOfTables,
                              NGCF_LAYER.Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Attr<double>("slope")
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

#define MATRIX_AND_TABLE         \
  ffi::Ffi::Bind()               \
      .Ctx<ffi::ThreadPool>()    \
      .Arg<ffi::AnyBuffer>()     \
      .Arg<ffi::AnyBuffer>()     \
      .Arg<ffi::AnyBuffer>()     \
      .Arg<ffi::AnyBuffer>()

XLA_FFI_DEFINE_HANDLER_SYMBOL(multiply, Multiply, MATRIX_AND_TABLE.Ret<ffi::AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    multiply_add, MultiplyAdd,
    MATRIX_AND_TABLE.Arg<ffi::AnyBuffer>().Arg<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(multiply_rows, MultiplyRows,
                              MATRIX_AND_TABLE.Arg<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(multiply_transposed, MultiplyTransposedTable,
                              MATRIX_AND_TABLE.Ret<ffi::AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(multiply_rows_transposed, MultiplyRowsTransposed,
                              MATRIX_AND_TABLE.Arg<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>());

// Uses no instruction set above the given one (0 baseline, 1 AVX2, 2 AVX-512) from now on; returns
// which one is used.
extern "C" int limit_instructions(int highest) {
  instruction_set = std::min<int>(highest, BestInstructionSet());
  return instruction_set;
}
