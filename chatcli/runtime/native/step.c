/* Some tokens through a model of the Llama shape, from their embeddings to the logits: one, or as many as there are
   texts in a batch, or a part of a prompt.

   Every weight is read once for all of them. With one, all that counts is how near the reading comes to the memory's
   rate; with more, how many products a weight serves once it is here. The whole step is one parallel region: threads
   take the rows of each product in small parts, so that one that was interrupted holds nobody up, and meet where the
   next product needs all of the last. Sums are in float32.

   Numbers of several tokens lie side by side, (numbers, lanes), where a lane is a token: what a product gives is laid
   out as the next one reads it.

   It knows addresses and sizes, which `step.py` sees to; it checks nothing and allocates nothing but on the stack. */

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

enum { FLOAT32, BFLOAT16, INT8, INT4 };
enum { UNIT = 64, GROUP = 32, POSITIONS = 64, TOGETHER = 32, AHEAD = 8, SPINS = 4000 };
enum { MOST_SIDE = 8, MOST_SETS = 3, PART = 32, CHUNK = 128, PACKED_CHUNK = 64, LINE = 64, FEW = 6, MOST_LANES = 64 };

/* `weight` is (rows, columns), but for INT4: codes of `block` rows side by side, as torch lays them out for its own
   kernel.
   `scale` is a bfloat16 for each row of INT8, and a pair, scale and zero, for each group and row of INT4. */
typedef struct {
    const void *weight;
    const uint16_t *scale;
    const float *bias;
    int64_t rows, columns, kind, block;
} Matrix;

typedef struct {
    Matrix query, key, value, output, gate, up, down;
    const float *before_attention, *before_mlp, *query_norm, *key_norm;
} Layer;

/* Where a layer of a cache keeps keys and values, and how many numbers lie between two texts, two heads, two tokens. */
typedef struct {
    void *keys, *values;
    int64_t key_text, key_head, key_token, value_text, value_head, value_token;
} Held;

/* A token that is fed: the cache and the text there that it belongs to, where in `Held` that begins, and how many of its
   tokens this one sees, itself the last. */
typedef struct {
    int64_t cache, text, first, tokens;
} Fed;

typedef struct {
    const Layer *layers;
    Matrix logits;
    const float *last_norm;
    float *stream, *normal, *last, *queries, *keys, *values, *attended, *inner;
    int64_t depth, hidden, heads, shared_heads, width, inner_width, kind;
    float epsilon, scaling;
} Model;

/* What is to be computed: `count` tokens in so many lanes, with (width, lanes) rotary factors and keys and values in
   (layers, caches) of `held`; and (wanted, vocabulary) logits of some lanes, in `wanted_lanes`. Before each layer
   `given_up`, if there is one, says whether nobody wants them any more. */
typedef struct {
    const Held *held;
    const Fed *fed;
    const float *cosines, *sines;
    const int64_t *which;
    float *logits;
    int64_t count, lanes, caches, wanted, wanted_lanes;
    int (*given_up)(int64_t layer);
} Call;

typedef struct {
    atomic_long arrived;
    atomic_long *taken;
    atomic_int given_up;
    long threads;
} Together;

/* A thread's place in the work that all of them go through. */
typedef struct {
    Together *all;
    long meetings;
    int64_t work;
} Thread;

typedef float Floats __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(32)));
typedef int32_t Numbers __attribute__((vector_size(32)));
typedef float FloatsAt __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint32_t WordsAt __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint16_t HalvesAt __attribute__((vector_size(16), aligned(2), may_alias));
typedef int8_t CodesAt __attribute__((vector_size(8), aligned(1), may_alias));
typedef uint8_t BytesAt __attribute__((vector_size(8), aligned(1), may_alias));

#define INLINE static inline __attribute__((always_inline))

/* Have a number in a register: compilers read it from memory again with each product, which is what these wait for. */
#ifdef __AVX2__
#define KEEP(number) __asm__("" : "+x"(number))
#else
#define KEEP(number)
#endif

INLINE float widened(uint16_t half) {
    uint32_t word = (uint32_t)half << 16;
    float number;
    memcpy(&number, &word, sizeof number);
    return number;
}

INLINE uint16_t narrowed(float number) {
    uint32_t word;
    memcpy(&word, &number, sizeof word);
    if (number != number) return 0x7fc0;
    return (uint16_t)((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

/* Eight numbers from memory, each in a word of its own. Compilers know how, but some take them apart one by one. */
#ifdef __AVX2__
INLINE Words eight_halves(const void *from) { return (Words)_mm256_cvtepu16_epi32(_mm_loadu_si128(from)); }
INLINE Numbers eight_codes(const void *from) { return (Numbers)_mm256_cvtepi8_epi32(_mm_loadl_epi64(from)); }
INLINE Numbers eight_bytes(const void *from) { return (Numbers)_mm256_cvtepu8_epi32(_mm_loadl_epi64(from)); }
#else
INLINE Words eight_halves(const void *from) { return __builtin_convertvector(*(const HalvesAt *)from, Words); }
INLINE Numbers eight_codes(const void *from) { return __builtin_convertvector(*(const CodesAt *)from, Numbers); }
INLINE Numbers eight_bytes(const void *from) { return __builtin_convertvector(*(const BytesAt *)from, Numbers); }
#endif

INLINE Floats eight(int kind, const void *from, int64_t at) {
    if (kind == FLOAT32) return *(const FloatsAt *)((const float *)from + at);
    if (kind == BFLOAT16) return (Floats)(eight_halves((const uint16_t *)from + at) << 16);
    return __builtin_convertvector(eight_codes((const int8_t *)from + at), Floats);
}

INLINE float one(int kind, const void *from, int64_t at) {
    if (kind == FLOAT32) return ((const float *)from)[at];
    if (kind == BFLOAT16) return widened(((const uint16_t *)from)[at]);
    return ((const int8_t *)from)[at];
}

INLINE float total(Floats sum) {
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

INLINE Floats either(Numbers which, Floats these, Floats those) {
    return (Floats)(((Numbers)these & which) | ((Numbers)those & ~which));
}

/* e to the power of eight numbers, to the last bits of a float: of the power of two the whole part is an exponent, and the
   rest, within half of one, a sum of seven terms (1 + r + r^2 / 2 + ...). */
INLINE Floats exponential(Floats x) {
    Floats least = {-87, -87, -87, -87, -87, -87, -87, -87}, most = {88, 88, 88, 88, 88, 88, 88, 88};
    x = either(x < least, least, either(x > most, most, x));
    Floats half = (Floats)(((Words)x & 0x80000000u) | 0x3f000000u);
    Numbers power = __builtin_convertvector(x * 1.44269504f + half, Numbers);
    Floats whole = __builtin_convertvector(power, Floats), rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Floats sum = 1 + rest * (1 + rest * (0.5f + rest * (1 / 6.0f + rest * (1 / 24.0f + rest * (1 / 120.0f + rest * (1 / 720.0f))))));
    return (Floats)((Numbers)sum + (power << 23));
}

/* The product of a row with `x`. Rows follow each other in memory, and one at a time is the stream that it likes. */
INLINE float row_of(int kind, const Matrix *m, int64_t row, const float *x) {
    int64_t columns = m->columns, begin = row * columns, at = 0;
    Floats sums[4] = {0};
    for (; at + 32 <= columns; at += 32)
        for (int part = 0; part < 4; part++)
            sums[part] += eight(kind, m->weight, begin + at + 8 * part) * *(const FloatsAt *)(x + at + 8 * part);
    float sum = total((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; at < columns; at++) sum += one(kind, m->weight, begin + at) * x[at];
    return kind == INT8 ? sum * widened(m->scale[row]) : sum;
}

INLINE void plain_unit(int kind, const Matrix *m, int64_t first, int64_t count, const float *x, float *out) {
    for (int64_t row = 0; row < count; row++) out[row] = row_of(kind, m, first + row, x);
}

/* Products of 32 rows of a block with `x`: a byte holds a column of one row in its low half, and of the row half a
   block later in its high half. These are 16 rows from `first` on and the 16 that share their bytes. */
static void packed_rows(const Matrix *m, int64_t first, const float *x, float *out) {
    int64_t half = m->block / 2, in_block = first % m->block;
    const uint8_t *codes = (const uint8_t *)m->weight + (first - in_block) / 2 * m->columns + in_block;
    const uint16_t *pairs = m->scale + first * 2;
    int64_t groups = m->columns / GROUP;
    Floats sums[4] = {0};
    for (int64_t group = 0; group < groups; group++, pairs += m->rows * 2) {
        /* Pairs of the next group lie far off, which no processor foresees; those of the next rows lie beside these. */
        int64_t next = group + AHEAD, beyond = next < groups ? 0 : 1;
        const uint16_t *soon = pairs + (AHEAD - beyond * groups) * m->rows * 2 + beyond * m->block * 2;
        __builtin_prefetch(soon);
        __builtin_prefetch(soon + half * 2);
        Floats part[4] = {0};
        float weight = 0;
        for (int64_t at = group * GROUP; at < (group + 1) * GROUP; at++, codes += half) {
            weight += x[at];
            for (int lane = 0; lane < 2; lane++) {
                Numbers both = eight_bytes(codes + 8 * lane);
                part[lane] += __builtin_convertvector(both & 15, Floats) * x[at];
                part[lane + 2] += __builtin_convertvector(both >> 4, Floats) * x[at];
            }
        }
        for (int lane = 0; lane < 4; lane++) {
            Words pair = *(const WordsAt *)(pairs + (lane / 2 * half + lane % 2 * 8) * 2);
            Floats scale = (Floats)(pair << 16), zero = (Floats)(pair & 0xffff0000u);
            sums[lane] += scale * (part[lane] - 8 * weight) + zero * weight;
        }
    }
    memcpy(out, sums, sizeof sums / 2);
    memcpy(out + half, sums + 2, sizeof sums / 2);
}

static void packed_unit(const Matrix *m, int64_t first, int64_t count, const float *x, float *out) {
    for (int64_t block = 0; block < count; block += m->block)
        for (int64_t row = block; row < block + m->block / 2; row += 16) packed_rows(m, first + row, x, out + row);
}

/* Products of up to UNIT rows from `first` on with one token. */
static void unit_of_one(const Matrix *m, int64_t first, int64_t count, const float *x, float *out) {
    switch (m->kind) {
    case FLOAT32: plain_unit(FLOAT32, m, first, count, x, out); break;
    case BFLOAT16: plain_unit(BFLOAT16, m, first, count, x, out); break;
    case INT8: plain_unit(INT8, m, first, count, x, out); break;
    default: packed_unit(m, first, count, x, out);
    }
}

/* Weights of `count` rows and some columns as floats, (rows, CHUNK), of INT8 without their scales. */
INLINE void widen(int kind, const Matrix *m, int64_t first, int64_t count, int64_t begin, int64_t columns, float *wide) {
    for (int64_t row = 0; row < count; row++) {
        int64_t from = (first + row) * m->columns + begin, at = 0;
        float *to = wide + row * CHUNK;
        for (; at + 8 <= columns; at += 8) *(FloatsAt *)(to + at) = eight(kind, m->weight, from + at);
        for (; at < columns; at++) to[at] = one(kind, m->weight, from + at);
    }
}

/* The same of all rows of an INT4 block and some whole groups of columns: (columns, block). */
static void unpack(const Matrix *m, int64_t first, int64_t begin, int64_t columns, float *wide) {
    int64_t block = m->block, half = block / 2;
    const uint8_t *codes = (const uint8_t *)m->weight + first / 2 * m->columns + begin * half;
    for (int64_t group = 0; group < columns / GROUP; group++) {
        const uint16_t *pairs = m->scale + ((begin / GROUP + group) * m->rows + first) * 2;
        for (int64_t row = 0; row < half; row += 8) {
            Words low = *(const WordsAt *)(pairs + row * 2), high = *(const WordsAt *)(pairs + (half + row) * 2);
            Floats scales[] = {(Floats)(low << 16), (Floats)(high << 16)};
            Floats zeros[] = {(Floats)(low & 0xffff0000u) - 8 * scales[0], (Floats)(high & 0xffff0000u) - 8 * scales[1]};
            for (int64_t at = group * GROUP; at < (group + 1) * GROUP; at++) {
                Numbers both = eight_bytes(codes + at * half + row);
                float *to = wide + at * block + row;
                *(FloatsAt *)to = __builtin_convertvector(both & 15, Floats) * scales[0] + zeros[0];
                *(FloatsAt *)(to + half) = __builtin_convertvector(both >> 4, Floats) * scales[1] + zeros[1];
            }
        }
    }
}

/* Where weights lie that come next: so many bytes between two rows, and so many columns in a line of a cache. */
typedef struct {
    const char *at;
    int64_t row, columns;
} Soon;

/* Weights as floats, and how far two rows and two columns lie apart. */
typedef struct {
    const float *at;
    int64_t row, column;
} Wide;

/* Add to (rows, lanes) of `out` the products of a few rows of weights with 8 lanes a set. */
INLINE void multiply(int rows, int sets, Wide weight, int64_t columns, const float *x, int64_t lanes, float *out, Soon soon) {
    Floats sums[MOST_SIDE][MOST_SETS];
    for (int row = 0; row < rows; row++)
        for (int set = 0; set < sets; set++) sums[row][set] = *(const FloatsAt *)(out + row * lanes + 8 * set);
    for (int64_t begin = 0; begin < columns; begin += soon.columns, soon.at += LINE) {
        int64_t end = begin + soon.columns < columns ? begin + soon.columns : columns;
        for (int row = 0; row < rows; row++) __builtin_prefetch(soon.at + row * soon.row);
        for (int64_t at = begin; at < end; at++, x += lanes, weight.at += weight.column) {
            Floats of[MOST_SETS];
            for (int set = 0; set < sets; set++) {
                of[set] = *(const FloatsAt *)(x + 8 * set);
                KEEP(of[set]);
            }
            for (int row = 0; row < rows; row++)
                for (int set = 0; set < sets; set++) sums[row][set] += weight.at[row * weight.row] * of[set];
        }
    }
    for (int row = 0; row < rows; row++)
        for (int set = 0; set < sets; set++) *(FloatsAt *)(out + row * lanes + 8 * set) = sums[row][set];
}

/* The same of any number of rows with all lanes: as many at a time as 16 registers hold the sums of. */
INLINE void multiply_all(int64_t rows, Wide weight, int64_t columns, const float *x, int64_t lanes, float *out, Soon soon) {
    int64_t side, width;
    for (int64_t lane = 0; lane < lanes; lane += width) {
        int64_t ahead = lanes - lane, sets = ahead == 8 ? 1 : ahead % 16 ? 3 : 2;
        width = 8 * sets;
        for (int64_t row = 0; row < rows; row += side) {
            int64_t left = rows - row;
            side = sets == 1 ? (left < 8 ? 1 : 8) : left < 4 ? 1 : sets == 2 && left > 5 && left != 8 ? 6 : 4;
            Wide from = {weight.at + row * weight.row, weight.row, weight.column};
            Soon then = {soon.at + row * soon.row, soon.row, soon.columns};
            const float *of = x + lane;
            float *to = out + row * lanes + lane;
            switch (width + side) {
            case 9: multiply(1, 1, from, columns, of, lanes, to, then); break;
            case 16: multiply(8, 1, from, columns, of, lanes, to, then); break;
            case 17: multiply(1, 2, from, columns, of, lanes, to, then); break;
            case 20: multiply(4, 2, from, columns, of, lanes, to, then); break;
            case 22: multiply(6, 2, from, columns, of, lanes, to, then); break;
            case 25: multiply(1, 3, from, columns, of, lanes, to, then); break;
            case 28: multiply(4, 3, from, columns, of, lanes, to, then); break;
            }
        }
    }
}

/* Products of up to UNIT rows with all lanes of `x`, a part of the weights at a time: (rows, lanes). */
INLINE void plain_units(int kind, const Matrix *m, int64_t first, int64_t count, const float *x, int64_t lanes, float *out) {
    const int64_t size = kind == FLOAT32 ? 4 : kind == BFLOAT16 ? 2 : 1;
    float wide[PART * CHUNK];
    for (int64_t row = 0; row < count; row += PART) {
        int64_t rows = count - row < PART ? count - row : PART;
        for (int64_t begin = 0; begin < m->columns; begin += CHUNK) {
            int64_t columns = m->columns - begin < CHUNK ? m->columns - begin : CHUNK, at = (first + row) * m->columns + begin;
            int64_t then = begin + CHUNK < m->columns ? at + CHUNK : (first + row + PART) * m->columns;
            Soon soon = {(const char *)m->weight + then * size, m->columns * size, LINE / size};
            Wide from = {(const float *)m->weight + at, m->columns, 1}, widened_here = {wide, CHUNK, 1};
            if (kind != FLOAT32) widen(kind, m, first + row, rows, begin, columns, wide);
            multiply_all(rows, kind == FLOAT32 ? from : widened_here, columns, x + begin * lanes, lanes, out + row * lanes, soon);
        }
    }
}

/* The same of INT4, a block at a time. */
static void packed_units(const Matrix *m, int64_t first, int64_t count, const float *x, int64_t lanes, float *out) {
    float wide[UNIT * PACKED_CHUNK];
    Wide from = {wide, 1, m->block};
    Soon none = {(const char *)wide, 0, PACKED_CHUNK};
    for (int64_t row = 0; row < count; row += m->block)
        for (int64_t begin = 0; begin < m->columns; begin += PACKED_CHUNK) {
            int64_t columns = m->columns - begin < PACKED_CHUNK ? m->columns - begin : PACKED_CHUNK;
            unpack(m, first + row, begin, columns, wide);
            multiply_all(m->block, from, columns, x + begin * lanes, lanes, out + row * lanes, none);
        }
}

static void unit_of_many(const Matrix *m, int64_t first, int64_t count, const float *x, int64_t lanes, float *out) {
    memset(out, 0, count * lanes * sizeof *out);
    switch (m->kind) {
    case FLOAT32: plain_units(FLOAT32, m, first, count, x, lanes, out); break;
    case BFLOAT16: plain_units(BFLOAT16, m, first, count, x, lanes, out); break;
    case INT8: plain_units(INT8, m, first, count, x, lanes, out); break;
    default: packed_units(m, first, count, x, lanes, out);
    }
    if (m->kind == INT8)
        for (int64_t row = 0; row < count; row++)
            for (int64_t lane = 0; lane < lanes; lane++) out[row * lanes + lane] *= widened(m->scale[first + row]);
}

/* The same, one lane after the other: the weights are near by from the first to the last. */
static void unit_of_few(const Matrix *m, int64_t first, int64_t count, const float *x, int64_t lanes, float *out) {
    float of[m->columns], some[UNIT];
    for (int64_t lane = 0; lane < lanes; lane++) {
        for (int64_t at = 0; at < m->columns; at++) of[at] = x[at * lanes + lane];
        unit_of_one(m, first, count, of, some);
        for (int64_t row = 0; row < count; row++) out[row * lanes + lane] = some[row];
    }
}

/* Products of up to UNIT rows from `first` on, with the bias: (rows, lanes). */
static void unit_of(const Matrix *m, int64_t first, int64_t count, const float *x, int64_t lanes, float *out) {
    if (lanes == 1) unit_of_one(m, first, count, x, out);
    else if (lanes < FEW) unit_of_few(m, first, count, x, lanes, out);
    else unit_of_many(m, first, count, x, lanes, out);
    if (m->bias)
        for (int64_t row = 0; row < count; row++)
            for (int64_t lane = 0; lane < lanes; lane++) out[row * lanes + lane] += m->bias[first + row];
}

INLINE int64_t units(const Matrix *m) { return (m->rows + UNIT - 1) / UNIT; }

INLINE int64_t in_unit(const Matrix *m, int64_t first) { return m->rows - first < UNIT ? m->rows - first : UNIT; }

/* What each lane of (size, lanes) is to be multiplied by, that the mean of its squares is 1 (Zhang and Sennrich,
   arXiv 1910.07467). */
static void norms(const float *x, int64_t size, int64_t lanes, float epsilon, float *scales) {
    float sum = 0;
    memset(scales, 0, lanes * sizeof *scales);
    if (lanes == 1)
        for (int64_t at = 0; at < size; at++) sum += x[at] * x[at];
    else
        for (int64_t at = 0; at < size; at++, x += lanes)
            for (int64_t lane = 0; lane < lanes; lane++) scales[lane] += x[lane] * x[lane];
    scales[0] += sum;
    for (int64_t lane = 0; lane < lanes; lane++) scales[lane] = 1 / sqrtf(scales[lane] / size + epsilon);
}

static void scale(const float *x, const float *weight, const float *scales, int64_t size, int64_t lanes, float *out) {
    for (int64_t at = 0; at < size; at++)
        for (int64_t lane = 0; lane < lanes; lane++) out[at * lanes + lane] = x[at * lanes + lane] * scales[lane] * weight[at];
}

/* Rotary positions of one head (Su et al., arXiv 2104.09864), its pairs half a head apart. */
static void rotate(float *head, int64_t width, int64_t lanes, const float *cosines, const float *sines) {
    int64_t half = width / 2 * lanes;
    for (int64_t at = 0; at < half; at++) {
        float left = head[at], right = head[at + half];
        head[at] = left * cosines[at] - right * sines[at];
        head[at + half] = right * cosines[at + half] + left * sines[at + half];
    }
}

/* One lane of (size, lanes), as keys and values are kept. */
static void store(int64_t kind, const float *from, int64_t size, int64_t lanes, void *to, int64_t at) {
    for (int64_t each = 0; each < size; each++)
        if (kind == FLOAT32) ((float *)to)[at + each] = from[each * lanes];
        else ((uint16_t *)to)[at + each] = narrowed(from[each * lanes]);
}

/* Attention of one head of one token over all that it sees, some at a time, with a softmax that is corrected as it goes
   on (Milakov and Gimelshein, arXiv 1805.02867). */
INLINE void attend(int kind, const Model *m, const Held *caches, int64_t head, Fed fed, int64_t lanes, int64_t lane) {
    const Held *held = &caches[fed.cache];
    int64_t width = m->width, shared = head / (m->heads / m->shared_heads);
    int64_t key = fed.text * held->key_text + shared * held->key_head + fed.first * held->key_token;
    int64_t value = fed.text * held->value_text + shared * held->value_head + fed.first * held->value_token;
    float most = -INFINITY, sum = 0, query[width], out[width], *to = m->attended + head * width * lanes + lane;
    for (int64_t at = 0; at < width; at++) query[at] = m->queries[(head * width + at) * lanes + lane];
    memset(out, 0, sizeof out);
    for (int64_t begin = 0; begin < fed.tokens; begin += POSITIONS) {
        int64_t count = fed.tokens - begin < POSITIONS ? fed.tokens - begin : POSITIONS;
        float scores[POSITIONS], before = most;
        for (int64_t each = 0; each < count; each++) {
            Floats products = {0};
            for (int64_t at = 0; at < width; at += 8)
                products += eight(kind, held->keys, key + (begin + each) * held->key_token + at) * *(const FloatsAt *)(query + at);
            scores[each] = total(products) * m->scaling;
            most = scores[each] > most ? scores[each] : most;
        }
        for (int64_t each = count; each < POSITIONS; each++) scores[each] = -INFINITY;
        for (int64_t each = 0; each < count; each += 8)
            *(FloatsAt *)(scores + each) = exponential(*(const FloatsAt *)(scores + each) - most);
        float kept = expf(before - most);
        sum *= kept;
        for (int64_t at = 0; at < width; at += 8) *(FloatsAt *)(out + at) *= kept;
        for (int64_t each = 0; each < count; each++) {
            float share = scores[each];
            sum += share;
            for (int64_t at = 0; at < width; at += 8)
                *(FloatsAt *)(out + at) += eight(kind, held->values, value + (begin + each) * held->value_token + at) * share;
        }
    }
    for (int64_t at = 0; at < width; at++) to[at * lanes] = out[at] / sum;
}

/* Rows of keys or values as floats, so far apart: where they are if they are floats, else in `wide`, (rows, width). */
INLINE Wide rows_of(int kind, const void *from, int64_t first, int64_t next, int64_t rows, int64_t width, float *wide) {
    if (kind == FLOAT32) return (Wide){(const float *)from + first, next, 1};
    for (int64_t row = 0; row < rows; row++)
        for (int64_t at = 0; at < width; at += 8)
            *(FloatsAt *)(wide + row * width + at) = eight(kind, from, first + row * next + at);
    return (Wide){wide, width, 1};
}

/* The same of eight tokens that follow each other in a text, the lanes of a vector: a key or value serves all of them.
   Of the eight so many are there; the others see what the last one does. */
INLINE void attend_together(int kind, const Model *m, const Held *caches, int64_t head, const Fed *fed, int64_t there,
                            int64_t lanes, int64_t lane) {
    const Held *held = &caches[fed->cache];
    int64_t width = m->width, shared = head / (m->heads / m->shared_heads), tokens = fed[there - 1].tokens;
    int64_t key = fed->text * held->key_text + shared * held->key_head + fed->first * held->key_token;
    int64_t value = fed->text * held->value_text + shared * held->value_head + fed->first * held->value_token;
    const float *query = m->queries + head * width * lanes + lane;
    float wide[TOGETHER * width];
    Floats none = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY};
    Floats most = none, sum = {0}, out[width];
    Numbers sees;
    for (int64_t each = 0; each < 8; each++) sees[each] = each < there ? fed[each].tokens : tokens;
    memset(out, 0, sizeof out);
    for (int64_t begin = 0; begin < tokens; begin += TOGETHER) {
        int64_t count = tokens - begin < TOGETHER ? tokens - begin : TOGETHER;
        Floats scores[TOGETHER], before = most;
        Wide keys = rows_of(kind, held->keys, key + begin * held->key_token, held->key_token, count, width, wide);
        for (int64_t each = 0; each < count; each += 4) {
            Floats products[4] = {0};
            int64_t rows[4];
            for (int64_t row = 0; row < 4; row++) rows[row] = (each + row < count ? each + row : count - 1) * keys.row;
            for (int64_t at = 0; at < width; at++) {
                Floats of = *(const FloatsAt *)(query + at * lanes);
                KEEP(of);
                for (int row = 0; row < 4; row++) products[row] += keys.at[rows[row] + at] * of;
            }
            for (int row = 0; row < 4; row++) {
                Numbers position = sees * 0 + (int32_t)(begin + each + row);
                scores[each + row] = either(position < sees, products[row] * m->scaling, none);
                most = either(scores[each + row] > most, scores[each + row], most);
            }
        }
        Floats kept = exponential(before - most);
        sum *= kept;
        for (int64_t at = 0; at < width; at++) out[at] *= kept;
        for (int64_t each = 0; each < count; each++) sum += scores[each] = exponential(scores[each] - most);
        Wide values = rows_of(kind, held->values, value + begin * held->value_token, held->value_token, count, width, wide);
        for (int64_t at = 0; at < width; at += 8) {
            Floats sums[8];
            memcpy(sums, out + at, sizeof sums);
            for (int64_t each = 0; each < count; each++) {
                Floats share = scores[each];
                KEEP(share);
                for (int part = 0; part < 8; part++) sums[part] += values.at[each * values.row + at + part] * share;
            }
            memcpy(out + at, sums, sizeof sums);
        }
    }
    for (int64_t at = 0; at < width; at++) *(FloatsAt *)(m->attended + (head * width + at) * lanes + lane) = out[at] / sum;
}

/* Whether tokens follow each other in one text. */
static int are_together(const Fed *fed, int64_t count) {
    for (int64_t each = 1; each < count; each++)
        if (fed[each].cache != fed->cache || fed[each].text != fed->text || fed[each].tokens != fed->tokens + each) return 0;
    return 1;
}

/* The next part of the piece of work that all threads share now; one that there is not when nobody wants it. */
INLINE int64_t take(Thread *mine) {
    if (atomic_load_explicit(&mine->all->given_up, memory_order_relaxed)) return INT64_MAX / UNIT;
    return atomic_fetch_add_explicit(&mine->all->taken[mine->work], 1, memory_order_relaxed);
}

/* Nobody takes from the piece any more: go on to the next, which needs none of it. */
INLINE void pass(Thread *mine) { mine->work++; }

/* Wait until all threads have done their part of the piece; one that waits for long lets others compute. */
static void meet(Thread *mine) {
    Together *all = mine->all;
    mine->work++;
    mine->meetings++;
    atomic_fetch_add_explicit(&all->arrived, 1, memory_order_acq_rel);
    for (long spins = 0; atomic_load_explicit(&all->arrived, memory_order_acquire) < mine->meetings * all->threads; spins++)
        if (spins > SPINS) sched_yield();
}

/* The stream, normalized: of one token each thread has its own, in `own`, which is cheaper than to meet. */
static const float *normalized(const Model *m, const float *weight, int64_t lanes, Thread *mine, float *own) {
    float scales[MOST_LANES];
    norms(m->stream, m->hidden, lanes, m->epsilon, scales);
    if (lanes == 1) {
        scale(m->stream, weight, scales, m->hidden, 1, own);
        return own;
    }
    for (int64_t first; (first = take(mine) * UNIT) < m->hidden;) {
        int64_t count = m->hidden - first < UNIT ? m->hidden - first : UNIT, at = first * lanes;
        scale(m->stream + at, weight + first, scales, count, lanes, m->normal + at);
    }
    meet(mine);
    return m->normal;
}

/* A product that is added to the stream. */
static void add_to_stream(const Model *m, const Matrix *matrix, const float *x, int64_t lanes, Thread *mine) {
    float some[UNIT * MOST_LANES];
    for (int64_t unit; (unit = take(mine)) < units(matrix);) {
        int64_t first = unit * UNIT, count = in_unit(matrix, first);
        unit_of(matrix, first, count, x, lanes, some);
        for (int64_t at = 0; at < count * lanes; at++) m->stream[first * lanes + at] += some[at];
    }
    meet(mine);
}

static void attention(const Model *m, const Layer *layer, const Held *caches, const Call *call, Thread *mine, float *own) {
    const Matrix *products[] = {&layer->query, &layer->key, &layer->value};
    float *into[] = {m->queries, m->keys, m->values};
    int64_t lanes = call->lanes, width = m->width;
    const float *normal = normalized(m, layer->before_attention, lanes, mine, own);
    for (int which = 0; which < 3; which++) {
        const Matrix *matrix = products[which];
        for (int64_t unit; (unit = take(mine)) < units(matrix);) {
            int64_t first = unit * UNIT;
            unit_of(matrix, first, in_unit(matrix, first), normal, lanes, into[which] + first * lanes);
        }
        if (which < 2) pass(mine);
    }
    meet(mine);
    for (int64_t head; (head = take(mine)) < m->heads + m->shared_heads;) {
        int is_key = head >= m->heads;
        int64_t number = is_key ? head - m->heads : head;
        float *turned = (is_key ? m->keys : m->queries) + number * width * lanes;
        const float *norm = is_key ? layer->key_norm : layer->query_norm;
        if (norm) {
            float scales[MOST_LANES];
            norms(turned, width, lanes, m->epsilon, scales);
            scale(turned, norm, scales, width, lanes, turned);
        }
        rotate(turned, width, lanes, call->cosines, call->sines);
        for (int64_t lane = 0; is_key && lane < call->count; lane++) {
            Fed fed = call->fed[lane];
            const Held *held = &caches[fed.cache];
            int64_t last = fed.first + fed.tokens - 1;
            int64_t key = fed.text * held->key_text + number * held->key_head + last * held->key_token;
            int64_t value = fed.text * held->value_text + number * held->value_head + last * held->value_token;
            store(m->kind, turned + lane, width, lanes, held->keys, key);
            store(m->kind, m->values + number * width * lanes + lane, width, lanes, held->values, value);
        }
    }
    meet(mine);
    int64_t some = lanes < FEW ? 1 : 8, groups = (call->count + some - 1) / some;
    for (int64_t part; (part = take(mine)) < m->heads * groups;) {
        int64_t first = part % groups * some, head = part / groups;
        int64_t there = call->count - first < some ? call->count - first : some;
        const Fed *fed = call->fed + first;
        if (some == 8 && are_together(fed, there)) {
            if (m->kind == FLOAT32) attend_together(FLOAT32, m, caches, head, fed, there, lanes, first);
            else attend_together(BFLOAT16, m, caches, head, fed, there, lanes, first);
            continue;
        }
        for (int64_t each = 0; each < there; each++)
            if (m->kind == FLOAT32) attend(FLOAT32, m, caches, head, fed[each], lanes, first + each);
            else attend(BFLOAT16, m, caches, head, fed[each], lanes, first + each);
    }
    meet(mine);
    add_to_stream(m, &layer->output, m->attended, lanes, mine);
}

static void mlp(const Model *m, const Layer *layer, int64_t lanes, Thread *mine, float *own) {
    const float *normal = normalized(m, layer->before_mlp, lanes, mine, own);
    float gates[UNIT * MOST_LANES];
    for (int64_t unit; (unit = take(mine)) < units(&layer->gate);) {
        int64_t first = unit * UNIT, count = in_unit(&layer->gate, first);
        float *into = m->inner + first * lanes;
        unit_of(&layer->gate, first, count, normal, lanes, gates);
        unit_of(&layer->up, first, count, normal, lanes, into);
        int64_t at = 0, numbers = count * lanes;
        for (; at + 8 <= numbers; at += 8) {
            Floats gate = *(const FloatsAt *)(gates + at);
            *(FloatsAt *)(into + at) *= gate / (1 + exponential(-gate));
        }
        for (; at < numbers; at++) into[at] *= gates[at] / (1 + expf(-gates[at]));
    }
    meet(mine);
    add_to_stream(m, &layer->down, m->inner, lanes, mine);
}

/* The logits of the lanes that are wanted. */
static void last(const Model *m, const Call *call, Thread *mine, float *own) {
    if (!call->wanted) return;
    int64_t lanes = call->wanted_lanes;
    const float *normal = normalized(m, m->last_norm, call->lanes, mine, own);
    if (call->lanes > 1) {
        for (int64_t first; (first = take(mine) * UNIT) < m->hidden;)
            for (int64_t at = first; at < first + UNIT && at < m->hidden; at++)
                for (int64_t lane = 0; lane < lanes; lane++)
                    m->last[at * lanes + lane] = lane < call->wanted ? normal[at * call->lanes + call->which[lane]] : 0;
        meet(mine);
        normal = m->last;
    }
    float some[UNIT * MOST_LANES];
    for (int64_t unit; (unit = take(mine)) < units(&m->logits);) {
        int64_t first = unit * UNIT, count = in_unit(&m->logits, first);
        unit_of(&m->logits, first, count, normal, lanes, some);
        for (int64_t token = 0; token < call->wanted; token++)
            for (int64_t row = 0; row < count; row++)
                call->logits[token * m->logits.rows + first + row] = some[row * lanes + token];
    }
}

/* Pieces of work that the threads of a pass share: so many counters `some_tokens` is given, all 0. */
int64_t pieces_of_work(const Model *m) { return 10 * m->depth + 3; }

/* Feed the tokens whose embeddings are in `m->stream`, and whose keys and values get their places in what is held. */
void some_tokens(const Model *m, const Call *call, int64_t threads, atomic_long *taken) {
    Together all = {0, taken, 0, threads};
#pragma omp parallel num_threads(threads)
    {
        Thread mine = {&all, 0, 0};
        float own[m->hidden];
#pragma omp single
        all.threads = omp_get_num_threads();
        for (int64_t at = 0; at < m->depth; at++) {
            if (call->given_up && omp_get_thread_num() == 0 && !all.given_up) all.given_up = call->given_up(at);
            attention(m, &m->layers[at], &call->held[at * call->caches], call, &mine, own);
            mlp(m, &m->layers[at], call->lanes, &mine, own);
        }
        last(m, call, &mine, own);
    }
}
