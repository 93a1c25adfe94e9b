// One whole step of a Llama-like decoder in float32, for the shapes that the macros give.
// Built and called by compiled.py; the torch modules are the reference that it must agree with.
// Each row's arithmetic has a fixed order, so a thread computes the same alone and in any batch.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

// A block keeps two vectors of sums a row in registers, of which there are 32 of 64 bytes or 16 shorter ones.
#if defined(__AVX512F__)
constexpr int WIDTH = 16, MOST = 8;
#elif defined(__AVX__)
constexpr int WIDTH = 8, MOST = 6;
#else
constexpr int WIDTH = 4, MOST = 6;
#endif
constexpr int H = HIDDEN, QKV = (HEADS + 2 * KV_HEADS) * DIM, PANEL = 32, TILE = 64;
typedef float Lane __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t Bits __attribute__((vector_size(4 * WIDTH)));

#if WEIGHT == 0  // bfloat16: the upper half of a float
typedef uint16_t Weight;
#elif WEIGHT == 1
typedef _Float16 Weight;
#else
typedef float Weight;
#endif
typedef Weight Weights __attribute__((vector_size(WIDTH * sizeof(Weight))));

constexpr int padded(int n) { return (n + PANEL - 1) / PANEL * PANEL; }

struct Layer {
    const float *attention_norm, *bias, *q_norm, *k_norm, *mlp_norm;
    const Weight *qkv, *output, *gate_up, *down;
};
struct Model {
    const float *embedding, *norm, *rotations;
    const float *identities;  // [layer][row][keys, values][DIM], or null
    int64_t rows;
    const Weight *head;
    Layer layers[LAYERS];
};
struct Range { int32_t query, limit, turn; };
struct Read { int32_t start, first, end; };
struct Step {
    int32_t tokens, reads, outputs;
    const int32_t *ids, *positions, *slots, *paths, *output;
    const Read *read;
    const Range *range;
    float *store, *logits, *scratch;
    int64_t layer_stride;
};

static inline Lane widen(const Weight *w) {
    Weights read;
    memcpy(&read, w, sizeof read);
#if WEIGHT == 0
    return (Lane)(__builtin_convertvector(read, Bits) << 16);
#else
    return __builtin_convertvector(read, Lane);
#endif
}

// y[ROWS, ldy] = x[ROWS, in] * w for two vectors of columns, where w is packed as panels [out / PANEL][in][PANEL].
template <int ROWS>
static void block(const float *x, int ldx, const Weight *w, int in, float *y, int ldy) {
    Lane low[ROWS] = {}, high[ROWS] = {};
    for (int k = 0; k < in; k++) {
        Lane a = widen(w + k * PANEL), b = widen(w + k * PANEL + WIDTH);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            low[r] += a * x[r * ldx + k];
            high[r] += b * x[r * ldx + k];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        memcpy(y + r * ldy, &low[r], sizeof(Lane));
        memcpy(y + r * ldy + WIDTH, &high[r], sizeof(Lane));
    }
}

template <int ROWS>
static int blocks(const float *x, int ldx, int r, int rows, const Weight *w, int in, float *y, int ldy) {
    for (; r + ROWS <= rows; r += ROWS) block<ROWS>(x + r * ldx, ldx, w, in, y + r * ldy, ldy);
    return r;
}

static void product(const float *x, int ldx, int rows, const Weight *w, int in, int out, float *y, int ldy) {
    for (int n = 0; n < padded(out); n += 2 * WIDTH) {
        const Weight *from = w + (int64_t)(n / PANEL) * in * PANEL + n % PANEL;
        int r = blocks<MOST>(x, ldx, 0, rows, from, in, y + n, ldy);
        r = blocks<4>(x, ldx, r, rows, from, in, y + n, ldy);
        r = blocks<2>(x, ldx, r, rows, from, in, y + n, ldy);
        blocks<1>(x, ldx, r, rows, from, in, y + n, ldy);
    }
}

static void normalise(const float *x, const float *weight, int size, float *y) {
    float sum = 0;
    for (int i = 0; i < size; i++) sum += x[i] * x[i];
    float scale = 1 / std::sqrt(sum / size + EPS);
    for (int i = 0; i < size; i++) y[i] = x[i] * scale * weight[i];
}

static void rotate(const float *x, const float *table, int position, float *y) {
    float sign = position < 0 ? -1 : 1;
    const float *row = table + (int64_t)std::abs(position) * DIM;
    for (int i = 0; i < DIM; i += 2) {
        float cosine = row[i], sine = sign * row[i + 1], a = x[i], b = x[i + 1];
        y[i] = a * cosine - b * sine;
        y[i + 1] = a * sine + b * cosine;
    }
}

struct Partial { float top, total, sum[DIM]; };  // of one query head, over the keys so far

static void attend_tile(const float *q, const float *keys, int count, Partial &state) {
    float score[TILE], top = state.top;
    const int stride = 2 * KV_HEADS * DIM;
    for (int t = 0; t < count; t++) {
        float sum = 0;
        for (int i = 0; i < DIM; i++) sum += q[i] * keys[t * stride + i];
        score[t] = sum;
        top = sum > top ? sum : top;
    }
    float total = 0, fade = std::exp(state.top - top);
    for (int t = 0; t < count; t++) score[t] = std::exp(score[t] - top);
    for (int t = 0; t < count; t++) total += score[t];
    float sum[DIM];
    for (int i = 0; i < DIM; i++) sum[i] = state.sum[i] * fade;
    for (int t = 0; t < count; t++)
        for (int i = 0; i < DIM; i++) sum[i] += score[t] * keys[t * stride + KV_HEADS * DIM + i];
    memcpy(state.sum, sum, sizeof sum);
    state.top = top;
    state.total = state.total * fade + total;
}

// A read is of one segment: each tile of keys is read once for all tokens of the step that see it.
static void attend(const Model &m, const Step &s, const float *store, const float *qkv, Partial *states, float *out) {
    const int shared = HEADS / KV_HEADS, stride = 2 * KV_HEADS * DIM;
    for (int i = 0; i < s.tokens * HEADS; i++) states[i] = Partial{-1e30f, 0, {}};
    for (int g = 0; g < s.reads; g++) {
        Read read = s.read[g];
        int longest = 0;
        for (int i = read.first; i < read.end; i++) longest = std::max(longest, s.range[i].limit);
        for (int h = 0; h < KV_HEADS; h++)
            for (int t = 0; t < longest; t += TILE)
                for (int i = read.first; i < read.end; i++) {
                    Range range = s.range[i];
                    if (range.limit <= t) continue;
                    for (int j = h * shared; j < (h + 1) * shared; j++) {
                        float turned[DIM];
                        const float *q = qkv + (int64_t)range.query * padded(QKV) + j * DIM;
                        if (range.turn) rotate(q, m.rotations, range.turn, turned), q = turned;
                        attend_tile(q, store + (int64_t)(read.start + t) * stride + h * DIM,
                             std::min(TILE, range.limit - t), states[range.query * HEADS + j]);
                    }
                }
    }
    for (int i = 0; i < s.tokens * HEADS; i++)
        for (int d = 0; d < DIM; d++) out[i * DIM + d] = states[i].sum[d] / states[i].total;
}

// ParaThinker's path identity, added to keys (before they are rotated) and to values; row 0 is for no path.
static void identify(const Model &m, const Step &s, int layer, int row, int part, float *y) {
    if (!m.identities) return;
    const float *found = m.identities + ((layer * m.rows + s.paths[row]) * 2 + part) * DIM;
    for (int i = 0; i < DIM; i++) y[i] += found[i];
}

static float *carve(float *&scratch, int64_t count) {
    float *found = scratch;
    scratch += (count + 31) / 32 * 32;
    return found;
}

extern "C" void step(const Model *model, const Step *tables) {
    const Model &m = *model;
    const Step &s = *tables;
    const int n = s.tokens;
    float *scratch = s.scratch;
    float *x = carve(scratch, n * H), *y = carve(scratch, n * H), *z = carve(scratch, n * padded(H));
    float *qkv = carve(scratch, (int64_t)n * padded(QKV)), *wide = carve(scratch, (int64_t)n * padded(2 * INTER));
    float *heads = carve(scratch, (int64_t)n * HEADS * DIM);
    Partial *states = (Partial *)carve(scratch, (int64_t)n * HEADS * (DIM + 2));
    for (int r = 0; r < n; r++) memcpy(x + r * H, m.embedding + (int64_t)s.ids[r] * H, H * 4);
    for (int l = 0; l < LAYERS; l++) {
        const Layer &layer = m.layers[l];
        float *store = s.store + l * s.layer_stride;
        for (int r = 0; r < n; r++) normalise(x + r * H, layer.attention_norm, H, y + r * H);
        product(y, H, n, layer.qkv, H, QKV, qkv, padded(QKV));
        for (int r = 0; r < n; r++) {
            float *row = qkv + (int64_t)r * padded(QKV);
            if (layer.bias)
                for (int i = 0; i < QKV; i++) row[i] += layer.bias[i];
            for (int j = 0; j < HEADS + KV_HEADS; j++) {
                if (layer.q_norm) normalise(row + j * DIM, j < HEADS ? layer.q_norm : layer.k_norm, DIM, row + j * DIM);
                if (j >= HEADS) identify(m, s, l, r, 0, row + j * DIM), identify(m, s, l, r, 1, row + (j + KV_HEADS) * DIM);
                rotate(row + j * DIM, m.rotations, s.positions[r], row + j * DIM);
            }
            memcpy(store + (int64_t)s.slots[r] * 2 * KV_HEADS * DIM, row + HEADS * DIM, 2 * KV_HEADS * DIM * 4);
            for (int i = 0; i < HEADS * DIM; i++) row[i] *= 1 / std::sqrt((float)DIM);
        }
        attend(m, s, store, qkv, states, heads);
        product(heads, HEADS * DIM, n, layer.output, HEADS * DIM, H, z, padded(H));
        for (int r = 0; r < n; r++) {
            for (int i = 0; i < H; i++) x[r * H + i] += z[r * padded(H) + i];
            normalise(x + r * H, layer.mlp_norm, H, y + r * H);
        }
        product(y, H, n, layer.gate_up, H, 2 * INTER, wide, padded(2 * INTER));
        for (int r = 0; r < n; r++) {
            float *row = wide + (int64_t)r * padded(2 * INTER);
            for (int i = 0; i < INTER; i++) row[i] *= row[INTER + i] / (1 + std::exp(-row[i]));
        }
        product(wide, padded(2 * INTER), n, layer.down, INTER, H, z, padded(H));
        for (int r = 0; r < n; r++)
            for (int i = 0; i < H; i++) x[r * H + i] += z[r * padded(H) + i];
    }
    for (int r = 0; r < s.outputs; r++) normalise(x + s.output[r] * H, m.norm, H, y + r * H);
    product(y, H, s.outputs, m.head, H, VOCABULARY, s.logits, padded(VOCABULARY));
}
