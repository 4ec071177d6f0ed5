/* The pair stage on CPUs, forward and backward: p_ij = tanh(A_i + B_j + C_i * C_j) pooled over a set of pairs.
 *
 * pairs_cpu.py compiles this file on first use and calls its two entry points. Arrays are float32, rows of D numbers,
 * D a multiple of 16 (the caller pads with zeros: they add nothing). A padded token is never read.
 *
 * How the work is cut. The real tokens of a sample, in order, are cut into blocks of ROWS. A tile is a pair of blocks;
 * the tiles are played as a tournament: in each round every block meets one other, so the tiles of one round touch
 * different rows and can run side by side without locks. Rounds follow each other in a fixed order, and sums over all
 * pairs are kept per table ("slot") of the tournament, so every number is added in the same order whatever the number
 * of threads and however much padding there is: results are the same bit for bit.
 *
 * p_ij lives in a scratch of GROUP rows per thread. The backward pass makes it again. With S = A_i + B_j + C_i C_j,
 * q = 1 - p^2, G = df:   mean: dS = q G / count;   AWS: dl = a (G.p - G.f) [times 1 - e^2 for tanh logits],
 * dS = q (a G + dl w);   dA_i += dS, dB_j += dS, dC_i += dS C_j, dC_j += dS C_i, dw += dl p.
 *
 * No -ffast-math: it hides NaN, and in a shared library it switches off denormals for the whole process. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { ROWS = 8, GROUP = 8 };
enum { UPPER = 0, ALL = 1, CROSS = 2 };

#define SIMD _Pragma("omp simd")

/* tanh(x) = x P(x^2) / Q(x^2) on [-8, 8], fitted to the largest absolute error, 2.2e-7; with rounding 5e-7. Outside,
 * tanh is 1 to within 2.3e-7. The comparisons are written so that NaN stays NaN. */
static inline float fast_tanh(float x) {
    x = x > 8.0f ? 8.0f : x;
    x = x < -8.0f ? -8.0f : x;
    const float y = x * x;
    float p = -6.14138340e-9f;
    p = p * y + 7.16191335e-6f;
    p = p * y + 2.69632158e-3f;
    p = p * y + 1.27122194e-1f;
    p = p * y + 9.99999762e-1f;
    float q = 1.96734487e-4f;
    q = q * y + 2.28499100e-2f;
    q = q * y + 4.60453779e-1f;
    q = q * y + 1.0f;
    return x * p / q;
}

typedef struct {
    const float *a, *b, *c; /* [N, D] of one sample */
    const int32_t *token;   /* real tokens, in order */
    const int32_t *group;   /* modality of each token, or NULL */
    const float *w;         /* [D], or NULL for the mean */
    float bias;
    int64_t n, d; /* real tokens, width */
    int set, linear;
    /* backward only */
    const float *grad; /* [D] */
    float grad_f;      /* G.f */
    float log_total, correction;
    float *da, *db, *dc;
} Sample;

/* What one table of the tournament adds up. */
typedef struct {
    float *sum; /* [D]: forward sum of g p; backward dw */
    double total;
    float top;
    double dbias;
} Slot;

/* ---- one row i against some columns j ---------------------------------------------------------------------------- */

/* p of four pairs into scratch, with their products with w (forward) or with w and G (backward). */
static inline void make4(const Sample *s, int64_t i, const int64_t *j, float *restrict p, float *dot, float *dot_g) {
    const int64_t D = s->d;
    const float *A = s->a + i * D, *C = s->c + i * D, *W = s->w, *G = s->grad;
    const float *B0 = s->b + j[0] * D, *B1 = s->b + j[1] * D, *B2 = s->b + j[2] * D, *B3 = s->b + j[3] * D;
    const float *C0 = s->c + j[0] * D, *C1 = s->c + j[1] * D, *C2 = s->c + j[2] * D, *C3 = s->c + j[3] * D;
    float *P0_ = p, *P1_ = p + D, *P2_ = p + 2 * D, *P3_ = p + 3 * D;
    float e0 = 0, e1 = 0, e2 = 0, e3 = 0;
    if (!dot_g) {
#pragma omp simd reduction(+ : e0, e1, e2, e3)
        for (int64_t d = 0; d < D; d++) {
            const float a = A[d], c = C[d], w = W[d];
            const float p0 = fast_tanh(a + B0[d] + c * C0[d]), p1 = fast_tanh(a + B1[d] + c * C1[d]);
            const float p2 = fast_tanh(a + B2[d] + c * C2[d]), p3 = fast_tanh(a + B3[d] + c * C3[d]);
            P0_[d] = p0, P1_[d] = p1, P2_[d] = p2, P3_[d] = p3;
            e0 += w * p0, e1 += w * p1, e2 += w * p2, e3 += w * p3;
        }
    } else {
        float g0 = 0, g1 = 0, g2 = 0, g3 = 0;
#pragma omp simd reduction(+ : e0, e1, e2, e3, g0, g1, g2, g3)
        for (int64_t d = 0; d < D; d++) {
            const float a = A[d], c = C[d], w = W[d], g = G[d];
            const float p0 = fast_tanh(a + B0[d] + c * C0[d]), p1 = fast_tanh(a + B1[d] + c * C1[d]);
            const float p2 = fast_tanh(a + B2[d] + c * C2[d]), p3 = fast_tanh(a + B3[d] + c * C3[d]);
            P0_[d] = p0, P1_[d] = p1, P2_[d] = p2, P3_[d] = p3;
            e0 += w * p0, e1 += w * p1, e2 += w * p2, e3 += w * p3;
            g0 += g * p0, g1 += g * p1, g2 += g * p2, g3 += g * p3;
        }
        dot_g[0] = g0, dot_g[1] = g1, dot_g[2] = g2, dot_g[3] = g3;
    }
    dot[0] = e0, dot[1] = e1, dot[2] = e2, dot[3] = e3;
}

static inline void make1(const Sample *s, int64_t i, int64_t j, float *restrict p, float *dot, float *dot_g) {
    const int64_t D = s->d;
    const float *A = s->a + i * D, *B = s->b + j * D, *C = s->c + i * D, *Cj = s->c + j * D, *W = s->w;
    const float *G = s->grad ? s->grad : W;
    float e = 0, g = 0;
#pragma omp simd reduction(+ : e, g)
    for (int64_t d = 0; d < D; d++) {
        const float v = fast_tanh(A[d] + B[d] + C[d] * Cj[d]);
        p[d] = v;
        e += W[d] * v;
        g += G[d] * v;
    }
    *dot = e;
    if (dot_g) *dot_g = g;
}

static inline void mean4(const Sample *s, int64_t i, const int64_t *j, float *restrict sum) {
    const int64_t D = s->d;
    const float *A = s->a + i * D, *C = s->c + i * D;
    const float *B0 = s->b + j[0] * D, *B1 = s->b + j[1] * D, *B2 = s->b + j[2] * D, *B3 = s->b + j[3] * D;
    const float *C0 = s->c + j[0] * D, *C1 = s->c + j[1] * D, *C2 = s->c + j[2] * D, *C3 = s->c + j[3] * D;
    SIMD for (int64_t d = 0; d < D; d++) {
        const float a = A[d], c = C[d];
        const float p0 = fast_tanh(a + B0[d] + c * C0[d]), p1 = fast_tanh(a + B1[d] + c * C1[d]);
        const float p2 = fast_tanh(a + B2[d] + c * C2[d]), p3 = fast_tanh(a + B3[d] + c * C3[d]);
        sum[d] += (p0 + p1) + (p2 + p3);
    }
}

static inline void mean1(const Sample *s, int64_t i, int64_t j, float *restrict sum) {
    const int64_t D = s->d;
    const float *A = s->a + i * D, *B = s->b + j * D, *C = s->c + i * D, *Cj = s->c + j * D;
    SIMD for (int64_t d = 0; d < D; d++) sum[d] += fast_tanh(A[d] + B[d] + C[d] * Cj[d]);
}

/* Gradients of four pairs whose columns differ from i and from each other. */
static inline void mean_back4(const Sample *s, int64_t i, const int64_t *j) {
    const int64_t D = s->d;
    const float *A = s->a + i * D, *C = s->c + i * D;
    const float *B0 = s->b + j[0] * D, *B1 = s->b + j[1] * D, *B2 = s->b + j[2] * D, *B3 = s->b + j[3] * D;
    const float *C0 = s->c + j[0] * D, *C1 = s->c + j[1] * D, *C2 = s->c + j[2] * D, *C3 = s->c + j[3] * D;
    float *restrict dA = s->da + i * D, *restrict dC = s->dc + i * D;
    float *restrict dB0 = s->db + j[0] * D, *restrict dB1 = s->db + j[1] * D;
    float *restrict dB2 = s->db + j[2] * D, *restrict dB3 = s->db + j[3] * D;
    float *restrict dC0 = s->dc + j[0] * D, *restrict dC1 = s->dc + j[1] * D;
    float *restrict dC2 = s->dc + j[2] * D, *restrict dC3 = s->dc + j[3] * D;
    SIMD for (int64_t d = 0; d < D; d++) {
        const float a = A[d], c = C[d], c0 = C0[d], c1 = C1[d], c2 = C2[d], c3 = C3[d];
        const float p0 = fast_tanh(a + B0[d] + c * c0), p1 = fast_tanh(a + B1[d] + c * c1);
        const float p2 = fast_tanh(a + B2[d] + c * c2), p3 = fast_tanh(a + B3[d] + c * c3);
        const float q0 = 1 - p0 * p0, q1 = 1 - p1 * p1, q2 = 1 - p2 * p2, q3 = 1 - p3 * p3;
        dB0[d] += q0, dB1[d] += q1, dB2[d] += q2, dB3[d] += q3;
        dC0[d] += q0 * c, dC1[d] += q1 * c, dC2[d] += q2 * c, dC3[d] += q3 * c;
        dA[d] += (q0 + q1) + (q2 + q3);
        dC[d] += (q0 * c0 + q1 * c1) + (q2 * c2 + q3 * c3);
    }
}

static inline void aws_back4(const Sample *s, int64_t i, const int64_t *j, const float *restrict p, const float *share,
                             const float *dl, float *restrict dw) {
    const int64_t D = s->d;
    const float *C = s->c + i * D, *W = s->w, *G = s->grad;
    const float *C0 = s->c + j[0] * D, *C1 = s->c + j[1] * D, *C2 = s->c + j[2] * D, *C3 = s->c + j[3] * D;
    const float *P0_ = p, *P1_ = p + D, *P2_ = p + 2 * D, *P3_ = p + 3 * D;
    float *restrict dA = s->da + i * D, *restrict dC = s->dc + i * D;
    float *restrict dB0 = s->db + j[0] * D, *restrict dB1 = s->db + j[1] * D;
    float *restrict dB2 = s->db + j[2] * D, *restrict dB3 = s->db + j[3] * D;
    float *restrict dC0 = s->dc + j[0] * D, *restrict dC1 = s->dc + j[1] * D;
    float *restrict dC2 = s->dc + j[2] * D, *restrict dC3 = s->dc + j[3] * D;
    const float a0 = share[0], a1 = share[1], a2 = share[2], a3 = share[3];
    const float l0 = dl[0], l1 = dl[1], l2 = dl[2], l3 = dl[3];
    SIMD for (int64_t d = 0; d < D; d++) {
        const float c = C[d], w = W[d], g = G[d];
        const float p0 = P0_[d], p1 = P1_[d], p2 = P2_[d], p3 = P3_[d];
        const float q0 = (1 - p0 * p0) * (a0 * g + l0 * w), q1 = (1 - p1 * p1) * (a1 * g + l1 * w);
        const float q2 = (1 - p2 * p2) * (a2 * g + l2 * w), q3 = (1 - p3 * p3) * (a3 * g + l3 * w);
        dB0[d] += q0, dB1[d] += q1, dB2[d] += q2, dB3[d] += q3;
        dC0[d] += q0 * c, dC1[d] += q1 * c, dC2[d] += q2 * c, dC3[d] += q3 * c;
        dA[d] += (q0 + q1) + (q2 + q3);
        dC[d] += (q0 * C0[d] + q1 * C1[d]) + (q2 * C2[d] + q3 * C3[d]);
        dw[d] += (l0 * p0 + l1 * p1) + (l2 * p2 + l3 * p3);
    }
}

/* Gradients of one pair; i may be j, so each array is done with before the next one starts. p becomes dS. */
static inline void spread1(const Sample *s, int64_t i, int64_t j, float *restrict ds) {
    const int64_t D = s->d;
    const float *C = s->c + i * D, *Cj = s->c + j * D;
    float *dA = s->da + i * D, *dB = s->db + j * D, *dC = s->dc + i * D, *dCj = s->dc + j * D;
    SIMD for (int64_t d = 0; d < D; d++) dA[d] += ds[d];
    SIMD for (int64_t d = 0; d < D; d++) dB[d] += ds[d];
    SIMD for (int64_t d = 0; d < D; d++) dC[d] += ds[d] * Cj[d];
    SIMD for (int64_t d = 0; d < D; d++) dCj[d] += ds[d] * C[d];
}

static inline void mean_back1(const Sample *s, int64_t i, int64_t j, float *restrict ds) {
    const int64_t D = s->d;
    const float *A = s->a + i * D, *B = s->b + j * D, *C = s->c + i * D, *Cj = s->c + j * D;
    SIMD for (int64_t d = 0; d < D; d++) {
        const float v = fast_tanh(A[d] + B[d] + C[d] * Cj[d]);
        ds[d] = 1 - v * v;
    }
    spread1(s, i, j, ds);
}

static inline void aws_back1(const Sample *s, int64_t i, int64_t j, float *restrict p, float share, float dl,
                             float *restrict dw) {
    const int64_t D = s->d;
    const float *W = s->w, *G = s->grad;
    SIMD for (int64_t d = 0; d < D; d++) {
        const float v = p[d];
        dw[d] += dl * v;
        p[d] = (1 - v * v) * (share * G[d] + dl * W[d]);
    }
    spread1(s, i, j, p);
}

/* Up to GROUP columns of row i; a column that is i itself comes alone. */
static void group_forward(const Sample *s, int64_t i, const int64_t *j, int count, Slot *slot, float *p) {
    const int64_t D = s->d;
    if (!s->w) {
        int k = 0;
        for (; k + 4 <= count; k += 4) mean4(s, i, j + k, slot->sum);
        for (; k < count; k++) mean1(s, i, j[k], slot->sum);
        return;
    }
    float e[GROUP] = {0}, g[GROUP] = {0};
    int k = 0;
    for (; k + 4 <= count; k += 4) make4(s, i, j + k, p + k * D, e + k, NULL);
    for (; k < count; k++) make1(s, i, j[k], p + k * D, e + k, NULL);
    if (s->linear) {
        float top = slot->top;
        for (k = 0; k < count; k++) {
            e[k] += s->bias;
            if (!(e[k] <= top)) top = e[k]; /* NaN comes through */
        }
        if (!(top <= slot->top)) {
            const float shrink = expf(slot->top - top);
            slot->total *= shrink;
            SIMD for (int64_t d = 0; d < D; d++) slot->sum[d] *= shrink;
            slot->top = top;
        }
        for (k = 0; k < count; k++) g[k] = expf(e[k] - top);
    } else {
        /* Bounded logits need no running maximum: exp(e) lies in [1/e, e]. */
        SIMD for (int m = 0; m < GROUP; m++) e[m] = fast_tanh(e[m] + s->bias);
        for (k = 0; k < count; k++) g[k] = expf(e[k]);
    }
    for (k = 0; k < count; k++) slot->total += g[k];
    float *restrict sum = slot->sum;
    k = 0;
    for (; k + 4 <= count; k += 4) {
        const float *p0 = p + k * D, *p1 = p0 + D, *p2 = p1 + D, *p3 = p2 + D;
        const float g0 = g[k], g1 = g[k + 1], g2 = g[k + 2], g3 = g[k + 3];
        SIMD for (int64_t d = 0; d < D; d++) sum[d] += (g0 * p0[d] + g1 * p1[d]) + (g2 * p2[d] + g3 * p3[d]);
    }
    for (; k < count; k++) {
        const float *p0 = p + k * D;
        const float g0 = g[k];
        SIMD for (int64_t d = 0; d < D; d++) sum[d] += g0 * p0[d];
    }
}

static void group_backward(const Sample *s, int64_t i, const int64_t *j, int count, Slot *slot, float *p) {
    const int64_t D = s->d;
    int k = 0;
    if (!s->w) {
        for (; k + 4 <= count; k += 4) mean_back4(s, i, j + k);
        for (; k < count; k++) mean_back1(s, i, j[k], p);
        return;
    }
    float e[GROUP] = {0}, gp[GROUP] = {0}, share[GROUP] = {0}, dl[GROUP];
    for (; k + 4 <= count; k += 4) make4(s, i, j + k, p + k * D, e + k, gp + k);
    for (; k < count; k++) make1(s, i, j[k], p + k * D, e + k, gp + k);
    SIMD for (int m = 0; m < GROUP; m++) {
        e[m] += s->bias;
        if (!s->linear) e[m] = fast_tanh(e[m]);
    }
    for (k = 0; k < count; k++) share[k] = expf(e[k] - s->log_total) * s->correction;
    for (k = 0; k < GROUP; k++) {
        dl[k] = share[k] * (gp[k] - s->grad_f);
        if (!s->linear) dl[k] *= 1 - e[k] * e[k];
    }
    for (k = 0; k < count; k++) slot->dbias += dl[k];
    for (k = 0; k + 4 <= count; k += 4) aws_back4(s, i, j + k, p + k * D, share + k, dl + k, slot->sum);
    for (; k < count; k++) aws_back1(s, i, j[k], p + k * D, share[k], dl[k], slot->sum);
}

/* ---- tiles and the tournament ------------------------------------------------------------------------------------ */

static inline int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }

/* Rows of block I against columns of block J, I != J: no pair is (i, i). */
static void tile(const Sample *s, int64_t I, int64_t J, Slot *slot, float *p, int back) {
    const int64_t i1 = least((I + 1) * ROWS, s->n), j1 = least((J + 1) * ROWS, s->n);
    for (int64_t x = I * ROWS; x < i1; x++) {
        int64_t j[ROWS];
        int count = 0;
        for (int64_t y = J * ROWS; y < j1; y++)
            if (s->set != CROSS || s->group[s->token[x]] != s->group[s->token[y]]) j[count++] = s->token[y];
        if (count) (back ? group_backward : group_forward)(s, s->token[x], j, count, slot, p);
    }
}

/* Pairs within block I. */
static void diagonal(const Sample *s, int64_t I, Slot *slot, float *p, int back) {
    const int64_t i1 = least((I + 1) * ROWS, s->n);
    for (int64_t x = I * ROWS; x < i1; x++) {
        int64_t j[ROWS];
        int count = 0;
        for (int64_t y = s->set == ALL ? I * ROWS : x + 1; y < i1; y++) {
            if (y == x) continue;
            if (s->set != CROSS || s->group[s->token[x]] != s->group[s->token[y]]) j[count++] = s->token[y];
        }
        if (count) (back ? group_backward : group_forward)(s, s->token[x], j, count, slot, p);
        const int64_t self = s->token[x]; /* alone: the gradients of its two factors C meet in one row */
        if (s->set != CROSS) (back ? group_backward : group_forward)(s, self, &self, 1, slot, p);
    }
}

/* Number of blocks, made even (one may be empty), so that every block has a partner in every round. */
static int64_t blocks_of(int64_t n) {
    const int64_t blocks = (n + ROWS - 1) / ROWS;
    return blocks + (blocks & 1);
}

/* One table of one round; the last round is the diagonals, two per table. */
static void play(const Sample *s, int64_t blocks, int64_t round, int64_t table, Slot *slot, float *p, int back) {
    if (round == blocks - 1) {
        diagonal(s, 2 * table, slot, p, back);
        diagonal(s, 2 * table + 1, slot, p, back);
        return;
    }
    const int64_t ring = blocks - 1;
    const int64_t one = table ? (round + table) % ring : ring, two = (round - table + ring) % ring;
    const int64_t I = least(one, two), J = one + two - I;
    tile(s, I, J, slot, p, back);
    if (s->set == ALL) tile(s, J, I, slot, p, back);
}

typedef struct {
    const float *a, *b, *c, *w, *bias;
    const uint8_t *mask;
    const int32_t *group;
    int64_t B, N, D;
    int set, linear, back;
    float *f;          /* [B, D]: written forward, read backward */
    double *log_total; /* [B]: likewise */
    const float *grad;
    float *da, *db, *dc, *dw, *dbias;
} Job;

static void open_sample(const Job *job, int64_t sample, int32_t *token, Sample *s) {
    const int64_t step = job->N * job->D, D = job->D;
    memset(s, 0, sizeof *s);
    s->a = job->a + sample * step, s->b = job->b + sample * step, s->c = job->c + sample * step;
    s->token = token, s->group = job->group, s->d = D, s->set = job->set, s->linear = job->linear;
    for (int64_t t = 0; t < job->N; t++)
        if (job->mask[sample * job->N + t]) token[s->n++] = (int32_t)t;
    if (job->w) s->w = job->w + sample * D, s->bias = job->bias[sample];
    if (!job->back) return;
    s->grad = job->grad + sample * D;
    s->da = job->da + sample * step, s->db = job->db + sample * step, s->dc = job->dc + sample * step;
    const float *f = job->f + sample * D;
    double dot = 0;
    for (int64_t d = 0; d < D; d++) dot += (double)s->grad[d] * f[d];
    s->grad_f = (float)dot;
    s->log_total = (float)job->log_total[sample];
    s->correction = (float)exp((double)s->log_total - job->log_total[sample]);
}

static void open_slots(Slot *slot, float *sums, int64_t count, int64_t D, int linear) {
    memset(sums, 0, (size_t)(count * D) * sizeof(float));
    for (int64_t k = 0; k < count; k++)
        slot[k] = (Slot){.sum = sums + k * D, .total = 0, .top = linear ? -1e30f : 0, .dbias = 0};
}

/* Slots to results. In the mean, log_total arrives as the log of the pair count. */
static void close_sample(const Job *job, int64_t sample, const Sample *s, Slot *slot, int64_t count) {
    const int64_t D = job->D;
    if (job->back && job->w) {
        float *dw = job->dw + sample * D;
        double dbias = 0;
        for (int64_t k = 0; k < count; k++) {
            for (int64_t d = 0; d < D; d++) dw[d] += slot[k].sum[d];
            dbias += slot[k].dbias;
        }
        job->dbias[sample] = (float)dbias;
    } else if (job->back) {
        const float share = (float)exp(-job->log_total[sample]); /* the same factor for every pair: once per token */
        for (int64_t t = 0; t < s->n; t++) {
            const int64_t row = s->token[t] * D;
            for (int64_t d = 0; d < D; d++) {
                const float factor = share * s->grad[d];
                s->da[row + d] *= factor, s->db[row + d] *= factor, s->dc[row + d] *= factor;
            }
        }
    } else {
        float *f = job->f + sample * D, top = slot[0].top;
        double total = 0;
        for (int64_t k = 1; k < count; k++)
            if (!(slot[k].top <= top)) top = slot[k].top;
        for (int64_t k = 0; k < count; k++) {
            const float shrink = job->w ? expf(slot[k].top - top) : 1;
            total += slot[k].total * shrink;
            for (int64_t d = 0; d < D; d++) f[d] += slot[k].sum[d] * shrink;
        }
        if (job->w) job->log_total[sample] = total == 0 ? 0 : log(total) + top;
        const double scale = job->w ? (total == 0 ? 0 : 1 / total) : exp(-job->log_total[sample]);
        for (int64_t d = 0; d < D; d++) f[d] = (float)(f[d] * scale);
    }
}

static int run(const Job *job, int threads) {
    const int64_t most = blocks_of(job->N) / 2, D = job->D;
    if (most == 0) return 0; /* not one token; and malloc(0) may be NULL */
    int failed = 0;
#ifndef _OPENMP
    threads = 1;
#endif
    if (threads == 1 || job->B >= 4 * (int64_t)threads) { /* a sample per thread */
#pragma omp parallel num_threads(threads)
        {
            float *p = malloc((size_t)(GROUP * D) * sizeof(float)), *sums = malloc((size_t)(most * D) * sizeof(float));
            Slot *slot = malloc((size_t)most * sizeof(Slot));
            int32_t *token = malloc((size_t)job->N * sizeof(int32_t));
            const int ready = p && sums && slot && token;
            if (!ready) {
#pragma omp atomic write
                failed = 1;
            }
#pragma omp for schedule(dynamic, 1)
            for (int64_t sample = 0; sample < job->B; sample++) {
                if (!ready) continue;
                Sample s;
                open_sample(job, sample, token, &s);
                const int64_t blocks = blocks_of(s.n);
                if (blocks == 0) continue;
                open_slots(slot, sums, blocks / 2, D, s.linear);
                for (int64_t round = 0; round < blocks; round++)
                    for (int64_t table = 0; table < blocks / 2; table++)
                        play(&s, blocks, round, table, slot + table, p, job->back);
                close_sample(job, sample, &s, slot, blocks / 2);
            }
            free(p), free(sums), free(slot), free(token);
        }
        return failed;
    }
    /* few samples: the tables of one round side by side */
    float *p = malloc((size_t)(GROUP * D * threads) * sizeof(float)), *sums = malloc((size_t)(most * D) * sizeof(float));
    Slot *slot = malloc((size_t)most * sizeof(Slot));
    int32_t *token = malloc((size_t)job->N * sizeof(int32_t));
    failed = !(p && sums && slot && token);
    for (int64_t sample = 0; !failed && sample < job->B; sample++) {
        Sample s;
        open_sample(job, sample, token, &s);
        const int64_t blocks = blocks_of(s.n);
        if (blocks == 0) continue;
        open_slots(slot, sums, blocks / 2, D, s.linear);
#pragma omp parallel num_threads(threads)
        {
#ifdef _OPENMP
            float *mine = p + (int64_t)omp_get_thread_num() * GROUP * D;
#else
            float *mine = p;
#endif
            for (int64_t round = 0; round < blocks; round++) {
#pragma omp for schedule(dynamic, 1)
                for (int64_t table = 0; table < blocks / 2; table++)
                    play(&s, blocks, round, table, slot + table, mine, job->back);
            }
        }
        close_sample(job, sample, &s, slot, blocks / 2);
    }
    free(p), free(sums), free(slot), free(token);
    return failed;
}

/* Both return 0, or 1 if memory ran out. Outputs arrive zeroed; without w, log_total arrives filled. */

int umecache_pairs_forward(const float *a, const float *b, const float *c, const uint8_t *mask, const float *w,
                           const float *bias, const int32_t *group, int64_t B, int64_t N, int64_t D, int set,
                           int linear, int threads, float *f, double *log_total) {
    const Job job = {.a = a, .b = b, .c = c, .w = w, .bias = bias, .mask = mask, .group = group, .B = B, .N = N,
                     .D = D, .set = set, .linear = linear, .f = f, .log_total = log_total};
    return run(&job, threads);
}

int umecache_pairs_backward(const float *grad, const float *a, const float *b, const float *c, const uint8_t *mask,
                            const float *w, const float *bias, const int32_t *group, float *f, double *log_total,
                            int64_t B, int64_t N, int64_t D, int set, int linear, int threads, float *da, float *db,
                            float *dc, float *dw, float *dbias) {
    const Job job = {.a = a, .b = b, .c = c, .w = w, .bias = bias, .mask = mask, .group = group, .B = B, .N = N,
                     .D = D, .set = set, .linear = linear, .back = 1, .f = f, .log_total = log_total, .grad = grad,
                     .da = da, .db = db, .dc = dc, .dw = dw, .dbias = dbias};
    return run(&job, threads);
}
