// RUDOLPH's decoder on a CPU: any tokens of any sequences through all layers in one call, products, norms, attention
// and cache included; and a draw from logits. native.py describes what goes in and chooses the library for
// the processor; native_build.py makes one for each instruction set. PyTorch's own path, in decoder.py, is what it is
// compared with.
//
// A row's result does not depend on the rows beside it, to the last bit: each sum has an order of its own. All sums are
// in float32. Weights are float32 or bfloat16 (then what is multiplied with them is rounded to bfloat16, as the
// processor's instruction wants it), keys and values float32.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16, VECTORS = 4;  // of 32 registers, 24 are sums
#else
constexpr int LANES = 8, VECTORS = 2;  // of 16 registers, 12 are sums
#endif
constexpr int TILE = 6;                  // rows of a product at a time
constexpr int PANEL = LANES * VECTORS;   // columns of a product at a time
constexpr int CHUNK = 16 * TILE;         // rows whose sums a thread keeps while it goes through a panel
constexpr int DEPTH = 512;               // inputs that a panel's piece has: it stays in the second level cache
constexpr int LINE = 64;                 // bytes that memory is read by
constexpr int QUERIES = 4;               // that read the same left text at a time
constexpr int UNITS = 4;                 // pieces of work a thread, where there are enough rows
constexpr float EPS = 1e-5f;             // of torch.nn.LayerNorm

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t IntVec __attribute__((vector_size(LANES * 4)));
typedef float UnalignedVec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline Vec load(const float* from) { return *reinterpret_cast<const UnalignedVec*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<UnalignedVec*>(to) = value; }
inline Vec splat(float value) { return value - Vec{}; }
inline long up(long value, long unit) { return (value + unit - 1) / unit * unit; }

typedef uint16_t Bfloat;

inline float widen(float value) { return value; }
inline float widen(Bfloat value) {
    uint32_t bits = uint32_t(value) << 16;
    float wide;
    std::memcpy(&wide, &bits, 4);
    return wide;
}
inline void narrow(float value, float& to) { to = value; }
inline void narrow(float value, Bfloat& to) {  // to the nearest, ties to even; what is no number stays none
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    to = value == value ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0;
}

// exp, to some 2 units in the last place (Cephes' polynomial); below -87 nearly 0.
inline Vec exponential(Vec x) {
    const Vec low = splat(-87.3f), high = splat(88.3f), magic = splat(12582912.f);  // 1.5 * 2**23: rounds what is added
    x = x > low ? x : low;  // what is no number becomes the bound
    x = x < high ? x : high;
    const Vec shifted = x * 1.44269504088896341f + magic;
    const Vec whole = shifted - magic;
    const Vec rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vec sum = splat(1.9875691500e-4f);
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.f;
    const IntVec power = (__builtin_convertvector(whole, IntVec) + 127) << 23;
    Vec scale;
    std::memcpy(&scale, &power, sizeof scale);
    return sum * scale;
}

// The tanh approximation, as x times a sigmoid.
inline Vec gelu(Vec x) {
    return x / (1.f + exponential(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
}

inline float sum_of(Vec value) {
#ifdef __AVX512F__
    return _mm512_reduce_add_ps((__m512)value);
#else
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) value[lane] += value[lane + half];
    return value[0];
#endif
}

}  // namespace

extern "C" {

struct Linear {  // out = x w^T + bias, w packed
    const void* weight;
    const float* bias;
    int64_t outputs, inputs;
};

struct Norm {  // weight null: there is none
    const float *weight, *bias;
};

struct Layer {
    Linear qkv, dense, up, down;
    Norm before_attention, after_attention, before_mlp, after_mlp;
    int64_t kind;
};

struct Model {
    int64_t layers, width, heads, left, image, right;  // the last three: positions
    int64_t bfloat, text_rows, image_rows, most_near;
    const Layer* layer;
    Norm last;
    const void *text, *images;   // embeddings of ids
    const float* places;         // of positions [left + image + right, width]
    const int32_t *near, *near_count;  // image tokens that an image token sees: [4, image, most_near], [4, image]
};

struct Cache {  // by layer; see NativeCache
    float **left_keys, **left_values;            // [R, heads, head, left'], [R, heads, left, head']
    float **image_keys, **own_keys, **own_values;  // [S, heads, image, head'], [S, heads, head, own'], [S, heads, own, head']
    int64_t own;                                 // positions after the left text that it holds
    int64_t readable;                            // whether own_keys are there: for right texts
};

}  // extern "C"

namespace {

// ---------------------------------------------------------------------------------------------------------- products

template <int ROWS>
inline void tile(const float* x, long stride, const float* panel, const float* ahead, long depth, float* sums,
                 bool first) {
    Vec sum[ROWS][VECTORS];
    for (int row = 0; row < ROWS; ++row)
        for (int v = 0; v < VECTORS; ++v) sum[row][v] = first ? Vec{} : load(sums + row * PANEL + v * LANES);
    for (long k = 0; k < depth; ++k) {
        Vec weight[VECTORS];
        for (int v = 0; v < VECTORS; ++v) weight[v] = load(panel + k * PANEL + v * LANES);
        __builtin_prefetch(ahead + k * LINE / 4, 0, 2);
        for (int row = 0; row < ROWS; ++row) {
            const Vec input = splat(x[row * stride + k]);
            for (int v = 0; v < VECTORS; ++v) sum[row][v] += weight[v] * input;
        }
    }
    for (int row = 0; row < ROWS; ++row)
        for (int v = 0; v < VECTORS; ++v) store(sums + row * PANEL + v * LANES, sum[row][v]);
}

#ifdef __AVX512BF16__
template <int ROWS>
inline void tile(const Bfloat* x, long stride, const Bfloat* panel, const Bfloat* ahead, long depth, float* sums,
                 bool first) {
    __m512 sum[ROWS][VECTORS];
    for (int row = 0; row < ROWS; ++row)
        for (int v = 0; v < VECTORS; ++v)
            sum[row][v] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + row * PANEL + v * LANES);
    for (long k = 0; k < depth; k += 2) {
        __m512bh weight[VECTORS];
        for (int v = 0; v < VECTORS; ++v)
            weight[v] = (__m512bh)_mm512_loadu_si512(panel + k * PANEL + v * 2 * LANES);
        __builtin_prefetch(ahead + k * LINE / 4, 0, 2);
        for (int row = 0; row < ROWS; ++row) {
            int32_t pair;
            std::memcpy(&pair, x + row * stride + k, 4);
            const __m512bh input = (__m512bh)_mm512_set1_epi32(pair);
            for (int v = 0; v < VECTORS; ++v) sum[row][v] = _mm512_dpbf16_ps(sum[row][v], weight[v], input);
        }
    }
    for (int row = 0; row < ROWS; ++row)
        for (int v = 0; v < VECTORS; ++v) _mm512_storeu_ps(sums + row * PANEL + v * LANES, sum[row][v]);
}
#else
template <int ROWS>
inline void tile(const Bfloat*, long, const Bfloat*, const Bfloat*, long, float*, bool) {}  // never asked for: see can_bfloat
#endif

// Weights follow each other in memory as they are wanted, so each tile asks for some of what comes after this piece,
// a line for each 4 bytes of a row's inputs: with many rows that is all of it.
template <class T>
inline void tiles(const T* x, long rows, long stride, const T* panel, long depth, float* sums, bool first) {
    const T* ahead = panel + depth * PANEL;
    const long lines = depth * LINE / 4;
    for (; rows >= TILE; rows -= TILE, x += TILE * stride, sums += TILE * PANEL, ahead += lines)
        tile<TILE>(x, stride, panel, ahead, depth, sums, first);
    switch (rows) {
        case 5: tile<5>(x, stride, panel, ahead, depth, sums, first); break;
        case 4: tile<4>(x, stride, panel, ahead, depth, sums, first); break;
        case 3: tile<3>(x, stride, panel, ahead, depth, sums, first); break;
        case 2: tile<2>(x, stride, panel, ahead, depth, sums, first); break;
        case 1: tile<1>(x, stride, panel, ahead, depth, sums, first); break;
    }
}

// out [rows, stop - start] = x [rows, inputs] w^T + bias for outputs start to stop. Called by every thread of a team;
// the caller puts a barrier behind it. Out: float32, or what the next product takes.
template <bool GELU, class T, class Out>
void product(const Linear& linear, const T* x, long rows, Out* out, long start, long stop) {
    const long depth = linear.inputs, width = stop - start, threads = omp_get_num_threads();
    const long first_panel = start / PANEL, panels = (stop + PANEL - 1) / PANEL - first_panel;
    long chunk = CHUNK;
    while (chunk > TILE && panels * ((rows + chunk - 1) / chunk) < UNITS * threads) chunk = up(chunk / 2, TILE);
    const long chunks = (rows + chunk - 1) / chunk, units = panels * chunks;
    const long thread = omp_get_thread_num();
    alignas(64) float sums[CHUNK * PANEL];
    for (long unit = units * thread / threads; unit < units * (thread + 1) / threads; ++unit) {
        const long panel = first_panel + unit / chunks, row = unit % chunks * chunk, some = std::min(chunk, rows - row);
        const T* weight = static_cast<const T*>(linear.weight) + panel * PANEL * depth;
        for (long k = 0; k < depth; k += DEPTH)
            tiles(x + row * depth + k, some, depth, weight + k * PANEL, std::min<long>(DEPTH, depth - k), sums, k == 0);
        const long column = panel * PANEL, from = std::max(start, column), to = std::min(stop, column + PANEL);
        for (long r = 0; r < some; ++r) {
            float* sum = sums + r * PANEL;
            Out* target = out + (row + r) * width - start;
            if (GELU)
                for (int v = 0; v < VECTORS && column + v * LANES < linear.outputs; ++v) {
                    alignas(64) float bias[LANES] = {};
                    const long there = std::min<long>(LANES, linear.outputs - column - v * LANES);
                    std::copy_n(linear.bias + column + v * LANES, there, bias);
                    store(sum + v * LANES, gelu(load(sum + v * LANES) + load(bias)));
                }
            for (long c = from; c < to; ++c) narrow(sum[c - column] + (GELU ? 0.f : linear.bias[c]), target[c]);
        }
    }
}

// ------------------------------------------------------------------------------------------------------------- norms

inline void moments(const float* x, long width, float& mean, float& scale) {
    float total = 0, squares = 0;
#pragma omp simd reduction(+ : total)
    for (long i = 0; i < width; ++i) total += x[i];
    mean = total / width;
    const float middle = mean;
#pragma omp simd reduction(+ : squares)
    for (long i = 0; i < width; ++i) squares += (x[i] - middle) * (x[i] - middle);
    scale = 1 / std::sqrt(squares / width + EPS);
}

template <class T>
inline void normalize(const Norm& norm, const float* x, long width, T* out) {
    float mean, scale;
    moments(x, width, mean, scale);
    for (long i = 0; i < width; ++i) narrow((x[i] - mean) * scale * norm.weight[i] + norm.bias[i], out[i]);
}

// x += norm(branch), or x += branch.
inline void add(const Norm& norm, const float* branch, long width, float* x) {
    float mean = 0, scale = 1;
    if (norm.weight == nullptr) {
        for (long i = 0; i < width; ++i) x[i] += branch[i];
        return;
    }
    moments(branch, width, mean, scale);
    for (long i = 0; i < width; ++i) x[i] += (branch[i] - mean) * scale * norm.weight[i] + norm.bias[i];
}

// --------------------------------------------------------------------------------------------------------- attention

struct Sizes {
    long head, padded_head, padded_left, padded_own, image, own, left, heads;
    Sizes(const Model& model, const Cache& cache)
        : head(model.width / model.heads), padded_head(up(head, LANES)), padded_left(up(model.left, LANES)),
          padded_own(up(cache.own, LANES)), image(model.image), own(cache.own), left(model.left), heads(model.heads) {}
};

void keep(const Sizes& size, const Cache& cache, long layer, long sequence, long left_row, long position,
          const float* key, const float* value) {
    for (long head = 0; head < size.heads; ++head, key += size.head, value += size.head) {
        if (position < size.left) {
            const long place = left_row * size.heads + head;
            float* keys = cache.left_keys[layer] + place * size.head * size.padded_left + position;
            for (long d = 0; d < size.head; ++d) keys[d * size.padded_left] = key[d];
            std::copy_n(value, size.head,
                        cache.left_values[layer] + (place * size.left + position) * size.padded_head);
            continue;
        }
        const long place = sequence * size.heads + head, own = position - size.left;
        if (own < size.image) {
            float* target = cache.image_keys[layer] + (place * size.image + own) * size.padded_head;
            std::fill(std::copy_n(key, size.head, target), target + size.padded_head, 0.f);  // all of it is multiplied
        }
        if (cache.readable) {
            float* keys = cache.own_keys[layer] + place * size.head * size.padded_own + own;
            for (long d = 0; d < size.head; ++d) keys[d * size.padded_own] = key[d];
        }
        std::copy_n(value, size.head, cache.own_values[layer] + (place * size.own + own) * size.padded_head);
    }
}

// scores[q][i] = query q . key i for keys of one piece that lie by coordinate, [head, stride].
template <int N>
inline void scores_of(const float* const* queries, const float* keys, long stride, long head, long count, float* scores,
                      long score_stride) {
    long i = 0;
    for (; i + LANES < count; i += 2 * LANES) {
        Vec sum[N][2] = {};
        for (long d = 0; d < head; ++d) {
            const Vec first = load(keys + d * stride + i), second = load(keys + d * stride + i + LANES);
            for (int q = 0; q < N; ++q) {
                const Vec part = splat(queries[q][d]);
                sum[q][0] += first * part;
                sum[q][1] += second * part;
            }
        }
        for (int q = 0; q < N; ++q)
            for (int v = 0; v < 2; ++v) store(scores + q * score_stride + i + v * LANES, sum[q][v]);
    }
    if (i < count) {
        Vec sum[N] = {};
        for (long d = 0; d < head; ++d) {
            const Vec key = load(keys + d * stride + i);
            for (int q = 0; q < N; ++q) sum[q] += key * splat(queries[q][d]);
        }
        for (int q = 0; q < N; ++q) store(scores + q * score_stride + i, sum[q]);
    }
}

// mixed[q] += sum of shares[q][i] * value i, for values that lie one after another; `head` a multiple of LANES.
template <int N, int WIDE>
inline void mix_some(const float* values, long head, long count, const float* shares, long share_stride, float* mixed) {
    Vec sum[N][WIDE];
    for (int q = 0; q < N; ++q)
        for (int v = 0; v < WIDE; ++v) sum[q][v] = load(mixed + q * head + v * LANES);
    for (long i = 0; i < count; ++i) {
        Vec value[WIDE];
        for (int v = 0; v < WIDE; ++v) value[v] = load(values + i * head + v * LANES);
        for (int q = 0; q < N; ++q) {
            const Vec share = splat(shares[q * share_stride + i]);
            for (int v = 0; v < WIDE; ++v) sum[q][v] += value[v] * share;
        }
    }
    for (int q = 0; q < N; ++q)
        for (int v = 0; v < WIDE; ++v) store(mixed + q * head + v * LANES, sum[q][v]);
}

template <int N>
inline void mix(const float* values, long head, long count, const float* shares, long share_stride, float* mixed) {
    long d = 0;
    for (; d + 2 * LANES <= head; d += 2 * LANES)
        mix_some<N, 2>(values + d, head, count, shares, share_stride, mixed + d);
    if (d < head) mix_some<N, 1>(values + d, head, count, shares, share_stride, mixed + d);
}

// scores[i] = query . key near[i], and mixed += sum of shares[i] * value near[i], for rows of WIDE vectors.
template <int WIDE>
inline void scores_of_near(const float* query, const float* keys, const int32_t* near, long count, float* scores) {
    Vec part[WIDE];
    for (int v = 0; v < WIDE; ++v) part[v] = load(query + v * LANES);
    for (long i = 0; i < count; ++i) {
        const float* key = keys + near[i] * (WIDE * LANES);
        Vec sum = load(key) * part[0];
        for (int v = 1; v < WIDE; ++v) sum += load(key + v * LANES) * part[v];
        scores[i] = sum_of(sum);
    }
}

template <int WIDE>
inline void mix_near(const float* values, const int32_t* near, long count, const float* shares, float* mixed) {
    Vec even[WIDE] = {}, odd[WIDE] = {};  // two sums, so that an addition need not wait for the one before
    long i = 0;
    for (; i + 1 < count; i += 2) {
        const float *first = values + near[i] * (WIDE * LANES), *second = values + near[i + 1] * (WIDE * LANES);
        for (int v = 0; v < WIDE; ++v) {
            even[v] += load(first + v * LANES) * splat(shares[i]);
            odd[v] += load(second + v * LANES) * splat(shares[i + 1]);
        }
    }
    if (i < count)
        for (int v = 0; v < WIDE; ++v) even[v] += load(values + near[i] * (WIDE * LANES) + v * LANES) * splat(shares[i]);
    for (int v = 0; v < WIDE; ++v) store(mixed + v * LANES, even[v] + odd[v]);
}

// Calls `work` with the number of vectors that a head takes, as a constant.
template <class Work>
inline void by_width(long padded_head, const Work& work) {
    switch (padded_head / LANES) {
#define CASE(WIDE) \
    case WIDE: work(std::integral_constant<int, WIDE>()); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10)
        CASE(11) CASE(12) CASE(13) CASE(14) CASE(15) CASE(16)
#undef CASE
    }
}

struct Token {
    long sequence, left_row, position;
};

// One head of N tokens that read the same left text; `most` scores fit for each.
template <int N, class T>
void attend(const Model& model, const Sizes& size, const Cache& cache, long layer, long head, const Token* tokens,
            const float* const* qkv, T* const* out, float* scores, long most, float* mixed, float* query) {
    const float factor = 1 / std::sqrt(float(size.head));
    const float* queries[N];
    long left_count[N], most_left = 0;
    float shares_sum[N];
    for (int q = 0; q < N; ++q) {
        for (long d = 0; d < size.padded_head; ++d)
            query[q * size.padded_head + d] = d < size.head ? qkv[q][head * size.head + d] * factor : 0;
        queries[q] = query + q * size.padded_head;
        left_count[q] = std::min(size.left, tokens[q].position + 1);
        most_left = std::max(most_left, left_count[q]);
    }
    const long left_place = tokens[0].left_row * size.heads + head;
    scores_of<N>(queries, cache.left_keys[layer] + left_place * size.head * size.padded_left, size.padded_left,
                 size.head, most_left, scores, most);
    // Those of one sequence's right text read its own keys together, too.
    bool together = true;
    long most_own = 0;
    for (int q = 0; q < N; ++q) {
        const long number = tokens[q].position - size.left;
        together = together && number >= size.image && tokens[q].sequence == tokens[0].sequence;
        most_own = std::max(most_own, number + 1);
    }
    const long first_place = tokens[0].sequence * size.heads + head;
    if (together)
        scores_of<N>(queries, cache.own_keys[layer] + first_place * size.head * size.padded_own, size.padded_own,
                     size.head, most_own, scores + size.padded_left, most);
    for (int q = 0; q < N; ++q) {
        // Those of the own part follow where the left ones end, at a multiple of LANES.
        float *left = scores + q * most, *own = left + size.padded_left;
        const long number = tokens[q].position - size.left, place = tokens[q].sequence * size.heads + head;
        long own_count = 0;
        const int32_t* near = nullptr;
        if (number >= size.image) {
            own_count = number + 1;
            if (!together) scores_of<1>(queries + q, cache.own_keys[layer] + place * size.head * size.padded_own, size.padded_own,
                         size.head, own_count, own, most);
        } else if (number >= 0) {
            const long row = model.layer[layer].kind * size.image + number;
            own_count = model.near_count[row];
            near = model.near + row * model.most_near;
            const float* keys = cache.image_keys[layer] + place * size.image * size.padded_head;
            by_width(size.padded_head, [&](auto wide) {
                scores_of_near<decltype(wide)::value>(queries[q], keys, near, own_count, own);
            });
        }
        float largest = -INFINITY;
        for (long i = 0; i < left_count[q]; ++i) largest = std::max(largest, left[i]);
        for (long i = 0; i < own_count; ++i) largest = std::max(largest, own[i]);
        // What lies behind the last score of a piece counts nothing.
        for (long i = left_count[q]; i < size.padded_left; ++i) left[i] = -INFINITY;
        const long own_end = up(together ? most_own : own_count, LANES);
        for (long i = own_count; i < own_end; ++i) own[i] = -INFINITY;
        Vec sum = {};
        for (float* piece : {left, own}) {
            const long count = piece == left ? size.padded_left : own_end;
            for (long i = 0; i < count; i += LANES) {
                const Vec score = load(piece + i), share = exponential(score - largest);
                const Vec counted = score > -INFINITY ? share : Vec{};
                store(piece + i, counted);
                sum += counted;
            }
        }
        shares_sum[q] = sum_of(sum);
        float* target = mixed + q * size.padded_head;
        std::fill_n(target, size.padded_head, 0.f);
        const float* values = cache.own_values[layer] + place * size.own * size.padded_head;
        if (together)
            continue;
        if (near == nullptr)
            mix<1>(values, size.padded_head, own_count, own, most, target);
        else
            by_width(size.padded_head, [&](auto wide) {
                mix_near<decltype(wide)::value>(values, near, own_count, own, target);
            });
    }
    if (together)
        mix<N>(cache.own_values[layer] + first_place * size.own * size.padded_head, size.padded_head, most_own,
               scores + size.padded_left, most, mixed);
    mix<N>(cache.left_values[layer] + left_place * size.left * size.padded_head, size.padded_head, most_left, scores,
           most, mixed);
    for (int q = 0; q < N; ++q) {
        const float weight = 1 / shares_sum[q];
        for (long d = 0; d < size.head; ++d)
            narrow(mixed[q * size.padded_head + d] * weight, out[q][head * size.head + d]);
    }
}

template <class T>
void attend_all(const Model& model, const Sizes& size, const Cache& cache, long layer, const Token* tokens, long count,
                const float* qkv, long qkv_stride, T* out, float* scratch) {
    const long most = size.padded_left + std::max(size.padded_own, up(model.most_near, LANES)) + LANES;
    float* mixed = scratch + QUERIES * most;
    float* query = mixed + QUERIES * size.padded_head;
    const long blocks = (count + QUERIES - 1) / QUERIES, units = blocks * size.heads;
    const long thread = omp_get_thread_num(), threads = omp_get_num_threads();
    for (long unit = units * thread / threads; unit < units * (thread + 1) / threads; ++unit) {
        const long first = unit / size.heads * QUERIES, end = std::min(first + QUERIES, count), head = unit % size.heads;
        for (long row = first; row < end;) {
            // Those that follow each other and read one left text go together; each one's sums stay in their order.
            long some = 1;
            while (row + some < end && tokens[row + some].left_row == tokens[row].left_row) ++some;
            const float* given[QUERIES];
            T* to[QUERIES];
            for (long q = 0; q < some; ++q) {
                given[q] = qkv + (row + q) * qkv_stride;
                to[q] = out + (row + q) * model.width;
            }
            const auto call = [&](auto number) {
                attend<decltype(number)::value>(model, size, cache, layer, head, tokens + row, given, to, scratch, most,
                                                mixed, query);
            };
            switch (some) {
                case 1: call(std::integral_constant<int, 1>()); break;
                case 2: call(std::integral_constant<int, 2>()); break;
                case 3: call(std::integral_constant<int, 3>()); break;
                case 4: call(std::integral_constant<int, 4>()); break;
            }
            row += some;
        }
    }
}

// ------------------------------------------------------------------------------------------------------- the decoder

// Memory for a pass: floats, in this order.
struct Workspace {
    long x, normed, qkv, mixed, branch, hidden, scratch, total;
    Workspace(const Model& model, const Cache& cache, long tokens, long threads) {
        const Sizes size(model, cache);
        const long width = up(model.width, 16);
        long end = 0;
        const auto take = [&](long floats) {
            const long start = end;
            end += up(floats, 16);
            return start;
        };
        x = take(tokens * width);
        normed = take(tokens * width);
        qkv = take(tokens * 3 * width);
        mixed = take(tokens * width);
        branch = take(tokens * width);
        hidden = take(tokens * 4 * width);
        scratch = take(threads * scratch_floats(model, size));
        total = end;
    }
    static long scratch_floats(const Model& model, const Sizes& size) {
        const long most = size.padded_left + std::max(size.padded_own, up(model.most_near, LANES)) + LANES;
        return up(QUERIES * (most + 2 * size.padded_head), 16);
    }
};

template <class T>
void embed(const Model& model, int64_t id, long position, float* x) {
    const bool image = position >= model.left && position < model.left + model.image;
    if (position < model.left && id == 0) id = model.text_rows - model.left + position;  // padding of its position
    const T* token = static_cast<const T*>(image ? model.images : model.text) + id * model.width;
    const float* place = model.places + position * model.width;
    for (long i = 0; i < model.width; ++i) x[i] = widen(token[i]) + place[i];
}

template <class T>
void run(const Model& model, const Cache& cache, const int64_t* ids, const Token* tokens, long count,
         const int64_t* wanted, long wanted_count, float* out, float* memory, int threads) {
    const Workspace at(model, cache, count, threads);
    const Sizes size(model, cache);
    const long width = model.width;
    float *x = memory + at.x, *qkv = memory + at.qkv, *branch = memory + at.branch;
    T* normed = reinterpret_cast<T*>(memory + at.normed);
    T* mixed = reinterpret_cast<T*>(memory + at.mixed);
    T* hidden = reinterpret_cast<T*>(memory + at.hidden);
    Token* kept = new Token[wanted_count];
#pragma omp parallel num_threads(threads)
    {
        const long thread = omp_get_thread_num(), team = omp_get_num_threads();
        float* scratch = memory + at.scratch + thread * Workspace::scratch_floats(model, size);
        const Token* now = tokens;
        long rows = count;
        const auto each = [&](auto work) {
            for (long row = rows * thread / team; row < rows * (thread + 1) / team; ++row) work(row);
#pragma omp barrier
        };
        each([&](long row) {
            embed<T>(model, ids[row], tokens[row].position, x + row * width);
            normalize(model.layer[0].before_attention, x + row * width, width, normed + row * width);
        });
        for (long number = 0; number < model.layers; ++number) {
            const Layer& layer = model.layer[number];
            product<false>(layer.qkv, normed, rows, qkv, 0, 3 * width);
#pragma omp barrier
            each([&](long row) {
                const float* key = qkv + row * 3 * width + width;
                keep(size, cache, number, now[row].sequence, now[row].left_row, now[row].position, key, key + width);
            });
            if (number == model.layers - 1) {  // from here on only those whose result is asked for
#pragma omp single
                for (long row = 0; row < wanted_count; ++row) {  // rising, so nothing is overwritten before it is read
                    std::memmove(qkv + row * 3 * width, qkv + wanted[row] * 3 * width, width * sizeof(float));
                    std::memmove(x + row * width, x + wanted[row] * width, width * sizeof(float));
                    kept[row] = tokens[wanted[row]];
                }
                now = kept;
                rows = wanted_count;
            }
            attend_all(model, size, cache, number, now, rows, qkv, 3 * width, mixed, scratch);
#pragma omp barrier
            product<false>(layer.dense, mixed, rows, branch, 0, width);
#pragma omp barrier
            each([&](long row) {
                add(layer.after_attention, branch + row * width, width, x + row * width);
                normalize(layer.before_mlp, x + row * width, width, normed + row * width);
            });
            product<true>(layer.up, normed, rows, hidden, 0, 4 * width);
#pragma omp barrier
            product<false>(layer.down, hidden, rows, branch, 0, width);
#pragma omp barrier
            const bool last = number == model.layers - 1;
            each([&](long row) {
                add(layer.after_mlp, branch + row * width, width, x + row * width);
                if (last)
                    normalize(model.last, x + row * width, width, out + row * width);
                else
                    normalize(model.layer[number + 1].before_attention, x + row * width, width, normed + row * width);
            });
        }
    }
    delete[] kept;
}

template <class T>
void pack_weights(const T* weight, long outputs, long inputs, T* packed) {
    constexpr long group = std::is_same<T, Bfloat>::value ? 2 : 1;  // inputs that one instruction takes together
#pragma omp parallel for
    for (long panel = 0; panel < up(outputs, PANEL) / PANEL; ++panel)
        for (long k = 0; k < inputs; ++k)
            for (long c = 0; c < PANEL; ++c) {
                const long output = panel * PANEL + c;
                packed[panel * PANEL * inputs + k / group * group * PANEL + c * group + k % group] =
                    output < outputs ? weight[output * inputs + k] : T(0);
            }
}

// ------------------------------------------------------------------------------------------------------------- draws

inline float of_bits(int32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// What `least` and more weigh together: their sum, or their number. `count` a multiple of LANES.
template <bool NUMBER>
inline double weight_from(const float* shares, long count, float least) {
    Vec sum = {};
    const Vec bound = splat(least);
    for (long i = 0; i < count; i += LANES) {
        const Vec share = load(shares + i);
        sum += share >= bound ? (NUMBER ? splat(1) : share) : Vec{};
    }
    double total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += sum[lane];
    return total;
}

// The largest of the shares with which those that are as large or larger weigh more than `target`: found by its bits,
// which have the order of numbers from 0 on. The smallest share above 0 where all do not weigh so much.
template <bool NUMBER>
float reach(const float* shares, long count, double target, float largest) {
    int32_t low = 1, high;  // all from `low` on weigh more, or low is 1; from `high` on they do not
    std::memcpy(&high, &largest, 4);
    ++high;
    while (high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        (weight_from<NUMBER>(shares, count, of_bits(middle)) > target ? low : high) = middle;
    }
    return of_bits(low);
}

// Of shares in falling order, and by their place where they are equal: the place of the first one with which their sum
// is above `target`, else of the last; and the sum with it.
long place_of(const float* shares, long count, double target, float largest, double& sum) {
    const float least = reach<false>(shares, count, target, largest);
    const float next = std::nextafter(least, INFINITY);
    sum = weight_from<false>(shares, count, next);
    long last = 0;
    for (long i = 0; i < count; ++i)
        if (shares[i] == least) {
            last = i;
            sum += least;
            if (sum > target) break;
        }
    return last;
}

}  // namespace

extern "C" {

int can_bfloat() {
#ifdef __AVX512BF16__
    return 1;
#else
    return 0;
#endif
}

int64_t lanes() { return LANES; }

int64_t packed_weights(int64_t outputs, int64_t inputs) { return up(outputs, PANEL) * inputs; }

void pack(const void* weight, int64_t outputs, int64_t inputs, int bfloat, void* packed) {
    if (bfloat)
        pack_weights(static_cast<const Bfloat*>(weight), outputs, inputs, static_cast<Bfloat*>(packed));
    else
        pack_weights(static_cast<const float*>(weight), outputs, inputs, static_cast<float*>(packed));
}

// out float32 [rows, stop - start].
void linear(const Linear* weights, int bfloat, const void* x, int64_t rows, int64_t start, int64_t stop, float* out,
            int threads) {
#pragma omp parallel num_threads(threads)
    if (bfloat)
        product<false>(*weights, static_cast<const Bfloat*>(x), rows, out, start, stop);
    else
        product<false>(*weights, static_cast<const float*>(x), rows, out, start, stop);
}

int64_t workspace_floats(const Model* model, const Cache* cache, int64_t tokens, int threads) {
    return Workspace(*model, *cache, tokens, threads).total;
}

// tokens [count, 3]: place of the sequence in the cache, place of its left text, position. wanted: rows of `tokens`,
// rising, whose final hidden states are written to out [wanted_count, width]. Returns -1, or the first token whose id or
// position does not exist, and then has done nothing.
int64_t forward(const Model* model, const Cache* cache, const int64_t* ids, const int64_t* tokens, int64_t count,
             const int64_t* wanted, int64_t wanted_count, float* out, float* memory, int threads) {
    static_assert(sizeof(Token) == 3 * sizeof(int64_t), "tokens are read as they come");
    const Token* given = reinterpret_cast<const Token*>(tokens);
    for (int64_t row = 0; row < count; ++row) {
        const int64_t position = given[row].position, own = position - model->left;
        const int64_t ids_there = own >= 0 && own < model->image ? model->image_rows : model->text_rows;
        if (position < 0 || own >= std::min(cache->own, model->image + model->right) || ids[row] < 0 || ids[row] >= ids_there) return row;
    }
    if (model->bfloat)
        run<Bfloat>(*model, *cache, ids, given, count, wanted, wanted_count, out, memory, threads);
    else
        run<float>(*model, *cache, ids, given, count, wanted, wanted_count, out, memory, threads);
    return -1;
}

// As sampling.sample_by_sorting: logits float32 [rows, width], uniform [rows], memory `width` floats, rounded up to
// whole vectors, a thread.
void draw(const float* logits, int64_t rows, int64_t width, int64_t top_k, double top_p, float temperature,
          const float* uniform, int64_t* ids, float* memory, int threads) {
    const int64_t count = up(width, LANES);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
        float* shares = memory + omp_get_thread_num() * count;
        const float* given = logits + row * width;
        float largest = -INFINITY;
        for (int64_t i = 0; i < width; ++i) largest = given[i] > largest ? given[i] : largest;
        ids[row] = 0;
        if (!(largest > -INFINITY)) continue;  // of a model that gives no numbers
        for (int64_t i = 0; i < count; ++i) shares[i] = i < width ? (given[i] - largest) / temperature : -INFINITY;
        for (int64_t i = 0; i < count; i += LANES) {
            const Vec score = load(shares + i);
            store(shares + i, score > -INFINITY ? exponential(score) : Vec{});
        }
        double sum = 0;
        if (top_k > 0 && top_k < width) {  // of those that are as large as the last, the first ones stay
            const float least = reach<true>(shares, count, top_k - 1, 1);
            int64_t left = top_k;
            for (int64_t i = 0; i < width; ++i) left -= shares[i] > least;
            for (int64_t i = 0; i < width; ++i)
                if (shares[i] < least || (shares[i] == least && left-- <= 0)) shares[i] = 0;
        }
        double total = weight_from<false>(shares, count, of_bits(1));
        // Kept is what has at most `top_p` before it.
        if (top_p < 1) place_of(shares, count, top_p * total, 1, total);
        ids[row] = place_of(shares, count, uniform[row] * total, 1, sum);
    }
}

}  // extern "C"
