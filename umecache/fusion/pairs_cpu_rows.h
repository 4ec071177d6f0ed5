/* Rows of the pair stage: one token i against up to GROUP tokens j, all D numbers of them. Used by pairs_cpu.c, which
 * says what is computed and in which order.
 *
 * p_ij lives in a scratch of GROUP rows per thread; the backward pass makes it again. With S = A_i + B_j + C_i C_j,
 * q = 1 - p^2, G = df:   mean: dS = q G / count;   AWS: dl = a (G.p - G.f) [times 1 - e^2 for tanh logits],
 * dS = q (a G + dl w);   dA_i += dS, dB_j += dS, dC_i += dS C_j, dC_j += dS C_i, dw += dl p.
 *
 * Loops run over d, so that they become vector code; columns come in fours, so that what belongs to i is loaded once. */

#include <math.h>
#include <stdint.h>

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
