// What stands between the large matrix products of mosld/adapters/kernel.py on a CPU, for a gate that keeps few experts of each token. See native.py.
//
// T is float or double, EXP its exponential. N tokens, E experts, K kept of each token, r rank, d width of the output; all arrays row by row.
//     s      [N, stride]  hidden rows from column h_at on (r, or E r where every expert has its own), logits from column l_at on (E)
//     chosen [N, K]       experts of each token        z, dz [N, K, r]   scale gate hidden of these, and its gradient over scale gate
//     up     [d, E, r]    rows [E, r, d]: the same, turned

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
#define LANES ((long)(BYTES / sizeof(T)))
#define FEW ((long)(32 / sizeof(T)))  // lanes of vectors that are summed up: to sum up wider ones takes longer than they save
#define WIDE 8                        // vectors of y that are held in registers at once
typedef T Vector __attribute__((vector_size(BYTES)));
typedef T Narrow __attribute__((vector_size(32)));
typedef T LooseVector __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
typedef T LooseNarrow __attribute__((vector_size(32), aligned(sizeof(T)), may_alias));
#define INLINE static inline __attribute__((always_inline))

INLINE Vector get(const T *from) { return *(const LooseVector *)from; }
INLINE Narrow few(const T *from) { return *(const LooseNarrow *)from; }
INLINE void put(T *to, Vector v) { *(LooseVector *)to = v; }

INLINE T sum(Narrow v) {
    for (long half = FEW / 2; half; half /= 2)
        for (long l = 0; l < half; l++) v[l] += v[l + half];
    return v[0];
}

// Softmax over experts, the K largest renormalised (of equal ones the first), z, and where `loss` is given the balance loss with its pull [E].
static void gate(const T *s, long stride, long h_at, long l_at, const T *tokens, long N, long E, long r, long K, int apart, T scale, T balance, T *p,
                 T *g, int32_t *chosen, T *z, T *pull, T *loss) {
    double share[E], mean[E], all = 0, found = 0;
    T q[E], left[E];
    for (long e = 0; e < E; e++) share[e] = mean[e] = 0;
    memset(g, 0, E * N * sizeof(T));
    for (long n = 0; n < N; n++, s += stride, chosen += K) {
        const T *logits = s + l_at, w = tokens ? tokens[n] : (T)1 / N;
        T most = logits[0], total = 0, kept = 0;
        for (long e = 1; e < E; e++) most = logits[e] > most ? logits[e] : most;
        for (long e = 0; e < E; e++) total += q[e] = EXP(logits[e] - most);
        for (long e = 0; e < E; e++) {
            left[e] = q[e] /= total;
            p[e * N + n] = q[e];
            mean[e] += w * q[e];
        }
        for (long k = 0; k < K; k++) {
            long best = 0;
            for (long e = 1; e < E; e++) best = left[e] > left[best] || left[best] < 0 ? e : best;
            left[best] = -1;
            chosen[k] = best;
            kept += q[best];
        }
        for (long k = 0; k < K; k++, z += r) {
            long e = chosen[k];
            T own = g[e * N + n] = q[e] / kept;
            const T *h = s + h_at + (apart ? e * r : 0);
            for (long j = 0; j < r; j++) z[j] = scale * own * h[j];
            share[e] += own > 0 ? w : 0;
            all += own > 0 ? w : 0;
        }
    }
    if (!loss) return;
    for (long e = 0; e < E; e++) {
        pull[e] = balance * E * share[e] / (all > 0 ? all : 1);
        found += pull[e] * mean[e];
    }
    *loss = found;
}

INLINE void columns(const T *z, const int32_t *chosen, const T *rows, const T *bias, long N, long K, long r, long d, T *y, const int wide) {
    for (long n = 0; n < N; n++, y += d) {
        Vector found[WIDE];
        for (int v = 0; v < wide; v++) found[v] = bias ? get(bias + v * LANES) : (Vector){0};
        for (long k = 0; k < K; k++, chosen++) {
            const T *row = rows + *chosen * r * d;
            for (long j = 0; j < r; j++, row += d, z++)
                for (int v = 0; v < wide; v++) found[v] += *z * get(row + v * LANES);
        }
        for (int v = 0; v < wide; v++) put(y + v * LANES, found[v]);
    }
}

// y [N, d] = bias + sum over a token's experts of z rows: some columns at a time, so that their part of `rows` stays at hand.
static void mix(const T *z, const int32_t *chosen, const T *rows, const T *bias, long N, long K, long r, long d, T *y) {
    long c = 0;
    for (; c + WIDE * LANES <= d; c += WIDE * LANES) columns(z, chosen, rows + c, bias ? bias + c : 0, N, K, r, d, y + c, WIDE);
    for (; c + LANES <= d; c += LANES) columns(z, chosen, rows + c, bias ? bias + c : 0, N, K, r, d, y + c, 1);
    for (long n = 0; n < N && c < d; n++)
        for (long i = c; i < d; i++) {
            T all = bias ? bias[i] : 0;
            for (long k = 0; k < K; k++)
                for (long j = 0; j < r; j++) all += z[(n * K + k) * r + j] * rows[(chosen[n * K + k] * r + j) * d + i];
            y[n * d + i] = all;
        }
}

INLINE void dots(const T *dy, const T *rows, long d, T *out, const int many) {
    Narrow found[8];
    long c = 0;
    for (int j = 0; j < many; j++) found[j] = (Narrow){0};
    for (; c + FEW <= d; c += FEW) {
        Narrow own = few(dy + c);
        for (int j = 0; j < many; j++) found[j] += own * few(rows + j * d + c);
    }
    for (int j = 0; j < many; j++) {
        out[j] = sum(found[j]);
        for (long i = c; i < d; i++) out[j] += dy[i] * rows[j * d + i];
    }
}

// dz = dy rows^T, of each token's experts alone.
static void ask(const T *dy, const int32_t *chosen, const T *rows, long N, long K, long r, long d, T *dz) {
    for (long i = 0; i < N * K; i++, dz += r) {
        const T *row = rows + chosen[i] * r * d, *own = dy + i / K * d;
        long j = 0;
        for (; j + 8 <= r; j += 8) dots(own, row + j * d, d, dz + j, 8);
        for (; j + 4 <= r; j += 4) dots(own, row + j * d, d, dz + j, 4);
        for (; j < r; j++) dots(own, row + j * d, d, dz + j, 1);
    }
}

// Gradients of hidden rows and logits into ds, laid out as s. The kept probabilities, renormalised, are the softmax over the kept logits: its
// Jacobian needs the gate alone. With `pull` those of the balance loss too.
static void gate_backward(const T *s, long stride, long h_at, long l_at, const T *tokens, long N, long E, long r, long K, int apart, T scale,
                          const T *p, const T *g, const int32_t *chosen, const T *dz, const T *pull, const T *d_loss, T *ds) {
    for (long n = 0; n < N; n++, s += stride, ds += stride, chosen += K) {
        T *dh = ds + h_at, *dl = ds + l_at, t[K], mean = 0;
        memset(dh, 0, (apart ? E * r : r) * sizeof(T));
        memset(dl, 0, E * sizeof(T));
        for (long k = 0; k < K; k++, dz += r) {
            long e = chosen[k], at = apart ? e * r : 0;
            T own = scale * g[e * N + n], dot = 0;
            for (long j = 0; j < r; j++) dot += dz[j] * s[h_at + at + j];
            for (long j = 0; j < r; j++) dh[at + j] += own * dz[j];
            t[k] = own * dot;
            mean += t[k];
        }
        for (long k = 0; k < K; k++) dl[chosen[k]] = t[k] - g[chosen[k] * N + n] * mean;
        if (!pull) continue;
        T w = *d_loss * (tokens ? tokens[n] : (T)1 / N), middle = 0;
        for (long e = 0; e < E; e++) middle += p[e * N + n] * pull[e] * w;
        for (long e = 0; e < E; e++) dl[e] += p[e * N + n] * (pull[e] * w - middle);
    }
}

INLINE void outer(const T *dy, const T *z, const int32_t *list, long count, long K, long r, long d, long width, T *out, const int many,
                  const int wide) {
    Vector found[4][2];
    for (int j = 0; j < many; j++)
        for (int v = 0; v < wide; v++) found[j][v] = (Vector){0};
    for (long i = 0; i < count; i++) {
        const T *from = dy + list[i] / K * d, *own = z + list[i] * r;
        for (int j = 0; j < many; j++)
            for (int v = 0; v < wide; v++) found[j][v] += own[j] * get(from + v * LANES);
    }
    for (int v = 0; v < wide; v++)
        for (long l = 0; l < LANES; l++)
            for (int j = 0; j < many; j++) out[(v * LANES + l) * width + j] = found[j][v][l];
}

// d_up [d, E, r] = dy^T z: expert by expert over the tokens that chose it, some columns at a time. `list` [N, K] is room for their places.
void by_expert(const T *dy, const T *z, const int32_t *chosen, int32_t *list, T *d_up, long N, long E, long r, long K, long d) {
    long start[E + 1], at[E], width = E * r, c = 0;
    memset(start, 0, sizeof start);
    for (long i = 0; i < N * K; i++) start[chosen[i] + 1]++;
    for (long e = 0; e < E; e++) at[e] = start[e], start[e + 1] += start[e];
    for (long i = 0; i < N * K; i++) list[at[chosen[i]]++] = i;
    for (; c + 2 * LANES <= d; c += 2 * LANES)
        for (long e = 0; e < E; e++) {
            T *to = d_up + c * width + e * r;
            long j = 0;
            for (; j + 4 <= r; j += 4) outer(dy + c, z + j, list + start[e], start[e + 1] - start[e], K, r, d, width, to + j, 4, 2);
            for (; j < r; j++) outer(dy + c, z + j, list + start[e], start[e + 1] - start[e], K, r, d, width, to + j, 1, 2);
        }
    for (; c + LANES <= d; c += LANES)
        for (long j = 0; j < width; j++)
            outer(dy + c, z + j % r, list + start[j / r], start[j / r + 1] - start[j / r], K, r, d, width, d_up + c * width + j, 1, 1);
    for (; c < d; c++)
        for (long j = 0; j < width; j++) {
            T all = 0;
            for (long i = start[j / r]; i < start[j / r + 1]; i++) all += dy[list[i] / K * d + c] * z[list[i] * r + j % r];
            d_up[c * width + j] = all;
        }
}

static void turn(const T *up, T *rows, long d, long width) {
    for (long at = 0; at < d; at += 16)  // a few lines of memory at a time
        for (long j = 0; j < width; j++)
            for (long c = at; c < at + 16 && c < d; c++) rows[j * d + c] = up[c * width + j];
}

void forward(const T *s, const T *up, const T *bias, const T *tokens, T *p, T *g, int32_t *chosen, T *z, T *rows, T *y, T *pull, T *loss, long stride,
             long h_at, long l_at, long N, long E, long r, long K, long d, long apart, double scale, double balance) {
    turn(up, rows, d, E * r);
    gate(s, stride, h_at, l_at, tokens, N, E, r, K, apart, scale, balance, p, g, chosen, z, pull, loss);
    mix(z, chosen, rows, bias, N, K, r, d, y);
}

void backward(const T *s, const T *dy, const T *up, T *rows, const T *tokens, const T *p, const T *g, const int32_t *chosen, const T *z, const T *pull,
              const T *d_loss, T *dz, int32_t *list, T *ds, T *d_up, long stride, long h_at, long l_at, long N, long E, long r, long K, long d,
              long apart, double scale) {
    turn(up, rows, d, E * r);
    ask(dy, chosen, rows, N, K, r, d, dz);
    gate_backward(s, stride, h_at, l_at, tokens, N, E, r, K, apart, scale, p, g, chosen, dz, pull, d_loss, ds);
    by_expert(dy, z, chosen, list, d_up, N, E, r, K, d);
}
