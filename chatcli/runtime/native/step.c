/* One token through a model of the Llama shape, from its embedding to the logits.

   A single row reads every weight once, so all that counts is how near the reading comes to the memory's rate. The
   whole step is one parallel region: threads take the rows of each product in small parts, so that one that was
   interrupted holds nobody up, and meet where the next product needs all of the last. Sums are in float32.

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
enum { UNIT = 64, GROUP = 32, POSITIONS = 64, AHEAD = 8, SPINS = 4000 };

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

/* Where a layer keeps keys and values, and how many numbers lie between two heads and two tokens. */
typedef struct {
    void *keys, *values;
    int64_t key_head, key_token, value_head, value_token;
} Held;

typedef struct {
    const Layer *layers;
    Matrix logits;
    const float *last_norm;
    float *stream, *queries, *keys, *values, *attended, *inner;
    int64_t depth, hidden, heads, shared_heads, width, inner_width, kind;
    float epsilon, scaling;
} Model;

typedef struct {
    atomic_long arrived;
    atomic_long *taken;
    long threads;
} Together;

typedef float Floats __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(32)));
typedef int32_t Numbers __attribute__((vector_size(32)));
typedef float FloatsAt __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint32_t WordsAt __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint16_t HalvesAt __attribute__((vector_size(16), aligned(2), may_alias));
typedef int8_t CodesAt __attribute__((vector_size(8), aligned(1), may_alias));
typedef uint8_t BytesAt __attribute__((vector_size(8), aligned(1), may_alias));

#define INLINE static inline __attribute__((always_inline))

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

/* Products of up to UNIT rows from `first` on, with the bias. */
static void unit_of(const Matrix *m, int64_t first, int64_t count, const float *x, float *out) {
    switch (m->kind) {
    case FLOAT32: plain_unit(FLOAT32, m, first, count, x, out); break;
    case BFLOAT16: plain_unit(BFLOAT16, m, first, count, x, out); break;
    case INT8: plain_unit(INT8, m, first, count, x, out); break;
    default: packed_unit(m, first, count, x, out);
    }
    if (m->bias)
        for (int64_t row = 0; row < count; row++) out[row] += m->bias[first + row];
}

INLINE int64_t units(const Matrix *m) { return (m->rows + UNIT - 1) / UNIT; }

INLINE int64_t in_unit(const Matrix *m, int64_t first) { return m->rows - first < UNIT ? m->rows - first : UNIT; }

static void normalize(const float *x, const float *weight, int64_t size, float epsilon, float *out) {
    float sum = 0;
    for (int64_t at = 0; at < size; at++) sum += x[at] * x[at];
    float scale = 1 / sqrtf(sum / size + epsilon);
    for (int64_t at = 0; at < size; at++) out[at] = x[at] * scale * weight[at];
}

/* Rotary positions of one head (Su et al., arXiv 2104.09864), its pairs half a head apart. */
static void rotate(float *head, int64_t width, const float *cosines, const float *sines) {
    for (int64_t at = 0; at < width / 2; at++) {
        float left = head[at], right = head[at + width / 2];
        head[at] = left * cosines[at] - right * sines[at];
        head[at + width / 2] = right * cosines[at + width / 2] + left * sines[at + width / 2];
    }
}

static void store(int64_t kind, const float *from, int64_t size, void *to, int64_t at) {
    if (kind == FLOAT32) memcpy((float *)to + at, from, size * sizeof *from);
    else
        for (int64_t each = 0; each < size; each++) ((uint16_t *)to)[at + each] = narrowed(from[each]);
}

/* Attention of one head over all tokens, some at a time, with a softmax that is corrected as it goes on
   (Milakov and Gimelshein, arXiv 1805.02867). */
INLINE void attend(int kind, const Model *m, const Held *held, int64_t head, int64_t tokens, float *out) {
    int64_t width = m->width, shared = head / (m->heads / m->shared_heads);
    const float *query = m->queries + head * width;
    int64_t key = shared * held->key_head, value = shared * held->value_head;
    float most = -INFINITY, sum = 0;
    memset(out, 0, width * sizeof *out);
    for (int64_t begin = 0; begin < tokens; begin += POSITIONS) {
        int64_t count = tokens - begin < POSITIONS ? tokens - begin : POSITIONS;
        float scores[POSITIONS], before = most;
        for (int64_t each = 0; each < count; each++) {
            Floats products = {0};
            for (int64_t at = 0; at < width; at += 8)
                products += eight(kind, held->keys, key + (begin + each) * held->key_token + at) * *(const FloatsAt *)(query + at);
            scores[each] = total(products) * m->scaling;
            most = scores[each] > most ? scores[each] : most;
        }
        float kept = expf(before - most);
        sum *= kept;
        for (int64_t at = 0; at < width; at += 8) *(FloatsAt *)(out + at) *= kept;
        for (int64_t each = 0; each < count; each++) {
            float share = expf(scores[each] - most);
            sum += share;
            for (int64_t at = 0; at < width; at += 8)
                *(FloatsAt *)(out + at) += eight(kind, held->values, value + (begin + each) * held->value_token + at) * share;
        }
    }
    for (int64_t at = 0; at < width; at++) out[at] /= sum;
}

/* The next part of a piece of work that all threads share. */
INLINE int64_t take(Together *all, int64_t work) {
    return atomic_fetch_add_explicit(&all->taken[work], 1, memory_order_relaxed);
}

/* Wait until all threads have come here for the `meeting`th time; one that waits for long lets others compute. */
static void meet(Together *all, long meeting) {
    atomic_fetch_add_explicit(&all->arrived, 1, memory_order_acq_rel);
    for (long spins = 0; atomic_load_explicit(&all->arrived, memory_order_acquire) < meeting * all->threads; spins++)
        if (spins > SPINS) sched_yield();
}

static void attention(const Model *m, const Layer *layer, const Held *held, const float *cosines, const float *sines,
                      int64_t tokens, Together *all, long *meetings, int64_t *work, float *normal) {
    const Matrix *products[] = {&layer->query, &layer->key, &layer->value};
    float *into[] = {m->queries, m->keys, m->values};
    normalize(m->stream, layer->before_attention, m->hidden, m->epsilon, normal);
    for (int which = 0; which < 3; which++, ++*work)
        for (int64_t unit; (unit = take(all, *work)) < units(products[which]);)
            unit_of(products[which], unit * UNIT, in_unit(products[which], unit * UNIT), normal, into[which] + unit * UNIT);
    meet(all, ++*meetings);
    for (int64_t head; (head = take(all, *work)) < m->heads + m->shared_heads;) {
        int is_key = head >= m->heads;
        int64_t number = is_key ? head - m->heads : head, last = tokens - 1;
        float *turned = (is_key ? m->keys : m->queries) + number * m->width;
        const float *norm = is_key ? layer->key_norm : layer->query_norm;
        if (norm) normalize(turned, norm, m->width, m->epsilon, turned);
        rotate(turned, m->width, cosines, sines);
        if (is_key) {
            store(m->kind, turned, m->width, held->keys, number * held->key_head + last * held->key_token);
            store(m->kind, m->values + number * m->width, m->width, held->values,
                  number * held->value_head + last * held->value_token);
        }
    }
    ++*work;
    meet(all, ++*meetings);
    for (int64_t head; (head = take(all, *work)) < m->heads;) {
        float *out = m->attended + head * m->width;
        if (m->kind == FLOAT32) attend(FLOAT32, m, held, head, tokens, out);
        else attend(BFLOAT16, m, held, head, tokens, out);
    }
    ++*work;
    meet(all, ++*meetings);
    for (int64_t unit; (unit = take(all, *work)) < units(&layer->output);) {
        float some[UNIT];
        int64_t first = unit * UNIT, count = in_unit(&layer->output, first);
        unit_of(&layer->output, first, count, m->attended, some);
        for (int64_t row = 0; row < count; row++) m->stream[first + row] += some[row];
    }
    ++*work;
    meet(all, ++*meetings);
}

static void mlp(const Model *m, const Layer *layer, Together *all, long *meetings, int64_t *work, float *normal) {
    normalize(m->stream, layer->before_mlp, m->hidden, m->epsilon, normal);
    for (int64_t unit; (unit = take(all, *work)) < units(&layer->gate);) {
        float gates[UNIT], *into = m->inner + unit * UNIT;
        int64_t first = unit * UNIT, count = in_unit(&layer->gate, first);
        unit_of(&layer->gate, first, count, normal, gates);
        unit_of(&layer->up, first, count, normal, into);
        for (int64_t row = 0; row < count; row++) into[row] *= gates[row] / (1 + expf(-gates[row]));
    }
    ++*work;
    meet(all, ++*meetings);
    for (int64_t unit; (unit = take(all, *work)) < units(&layer->down);) {
        float some[UNIT];
        int64_t first = unit * UNIT, count = in_unit(&layer->down, first);
        unit_of(&layer->down, first, count, m->inner, some);
        for (int64_t row = 0; row < count; row++) m->stream[first + row] += some[row];
    }
    ++*work;
    meet(all, ++*meetings);
}

/* Parts that the threads of a step share the work of: so many counters `one_token` is given, all 0. */
int64_t pieces_of_work(const Model *m) { return 8 * m->depth + 1; }

/* Feed the token whose embedding is in `m->stream`; the last of the `tokens` in `held` are to be its keys and values. */
void one_token(const Model *m, const Held *held, const float *cosines, const float *sines, int64_t tokens,
               int64_t threads, atomic_long *taken, float *logits) {
    Together all = {0, taken, threads};
#pragma omp parallel num_threads(threads)
    {
        long meetings = 0;
        int64_t work = 0;
        float normal[m->hidden];
#pragma omp single
        all.threads = omp_get_num_threads();
        for (int64_t at = 0; at < m->depth; at++) {
            attention(m, &m->layers[at], &held[at], cosines, sines, tokens, &all, &meetings, &work, normal);
            mlp(m, &m->layers[at], &all, &meetings, &work, normal);
        }
        normalize(m->stream, m->last_norm, m->hidden, m->epsilon, normal);
        for (int64_t unit; (unit = take(&all, work)) < units(&m->logits);)
            unit_of(&m->logits, unit * UNIT, in_unit(&m->logits, unit * UNIT), normal, logits + unit * UNIT);
    }
}
