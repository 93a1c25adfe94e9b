// Attention of some rows of a batch to parts of a paged KV cache, each part turned by its own angle.
//
// A layer's cache is [blocks][kv heads] of keys [DIM][block] and then values [block][DIM], float32,
// as vLLM's vector kernels on a CPU keep it.  Rows are independent of each other, and each one's
// sums have a fixed order, so that its result does not depend on the batch.

#include <cmath>
#include <cstdint>

namespace {

constexpr int TILE = 32;

struct Tables {
    int32_t count;            // rows
    int32_t heads, kv_heads;
    int32_t block;            // tokens of a block
    int32_t half;             // pairs that are rotated
    int32_t neox;
    float scale;
    int64_t query_stride, output_stride;  // floats from one token to the next
    int64_t block_stride, head_stride;    // floats within the cache
    const float *cache;
    const float *query;
    float *output;
    const float *turns;       // [turn][2][half]
    const int32_t *rows, *starts, *parts, *tables;
};

struct State {
    float top, sum;
    float value[DIM];
};

void turn(const Tables &t, const float *query, int32_t by, float *out) {
    for (int d = 0; d < DIM; d++) out[d] = query[d] * t.scale;
    if (by == 0) return;
    const float *cosine = t.turns + int64_t(by < 0 ? -by : by) * 2 * t.half, *sine = cosine + t.half;
    const float sign = by < 0 ? -1.f : 1.f;
    for (int i = 0; i < t.half; i++) {
        const int low = t.neox ? i : 2 * i, high = t.neox ? i + t.half : 2 * i + 1;
        const float a = out[low], b = out[high], c = cosine[i], s = sign * sine[i];
        out[low] = a * c - b * s;
        out[high] = b * c + a * s;
    }
}

// Adds tokens [from, to) of one tile, at most TILE of them, to a row's state.
inline void add(const float *keys, const float *values, int block, int from, int to,
                const float *query, State &state) {
    float score[TILE] = {};
    const int count = to - from;
    if (count == TILE) {
        for (int d = 0; d < DIM; d++) {
            const float q = query[d], *k = keys + int64_t(d) * block + from;
            for (int j = 0; j < TILE; j++) score[j] += q * k[j];
        }
    } else {
        for (int d = 0; d < DIM; d++) {
            const float q = query[d], *k = keys + int64_t(d) * block + from;
            for (int j = 0; j < count; j++) score[j] += q * k[j];
        }
    }
    float top = state.top;
    for (int j = 0; j < count; j++) top = score[j] > top ? score[j] : top;
    const float fade = std::exp(state.top - top);
    float sum = 0;
    for (int j = 0; j < count; j++) sum += score[j] = std::exp(score[j] - top);
    float *out = state.value;
    for (int d = 0; d < DIM; d++) out[d] *= fade;
    for (int j = 0; j < count; j++) {
        const float weight = score[j], *v = values + int64_t(from + j) * DIM;
        for (int d = 0; d < DIM; d++) out[d] += weight * v[d];
    }
    state.sum = state.sum * fade + sum;
    state.top = top;
}

void attend(const Tables &t, int row, int head) {
    const int group = t.heads / t.kv_heads;
    const int64_t token = t.rows[row];
    for (int g = 0; g < group; g++) {
        const float *query = t.query + token * t.query_stride + int64_t(head * group + g) * DIM;
        State state = {-1e30f, 0.f, {}};
        float turned[DIM];
        for (int p = t.starts[row]; p < t.starts[row + 1]; p++) {
            const int32_t *part = t.parts + 4 * p, *table = t.tables + part[0];
            turn(t, query, part[3], turned);
            const int end = part[1] + part[2];
            for (int at = part[1]; at < end;) {
                const float *keys = t.cache + table[at / t.block] * t.block_stride + head * t.head_stride;
                const int from = at % t.block, tile = (from / TILE + 1) * TILE;
                const int to = tile - from < end - at ? tile : from + end - at;
                add(keys, keys + int64_t(t.block) * DIM, t.block, from, to, turned, state);
                at += to - from;
            }
        }
        float *out = t.output + token * t.output_stride + int64_t(head * group + g) * DIM;
        for (int d = 0; d < DIM; d++) out[d] = state.value[d] / state.sum;
    }
}

}  // namespace

extern "C" void attend(const Tables *t) {
    const int units = t->count * t->kv_heads;
#pragma omp parallel for schedule(static) if (units > 1)
    for (int unit = 0; unit < units; unit++) attend(*t, unit / t->kv_heads, unit % t->kv_heads);
}
