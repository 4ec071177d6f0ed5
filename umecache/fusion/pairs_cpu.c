/* The pair stage on CPUs, forward and backward: p_ij = tanh(A_i + B_j + C_i * C_j) pooled over a set of pairs.
 *
 * pairs_cpu.py compiles this file on first use and calls its two entry points; the arithmetic of one row is in
 * pairs_cpu_rows.h. Arrays are float32, rows of D numbers, D a multiple of 16 (the caller pads with zeros: they add
 * nothing). A padded token is never read.
 *
 * How the work is cut. The real tokens of a sample, in order, are cut into blocks of ROWS. A tile is a pair of blocks;
 * the tiles are played as a tournament: in each round every block meets one other, so the tiles of one round touch
 * different rows and can run side by side without locks. Rounds follow each other in a fixed order, and sums over all
 * pairs are kept per table ("slot") of the tournament, so every number is added in the same order whatever the number
 * of threads and however much padding there is: results are the same bit for bit.
 *
 * No -ffast-math: it hides NaN, and in a shared library it switches off denormals for the whole process. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "pairs_cpu_rows.h"

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

/* Share of the threads' time that is work, when `units` are dealt out to them. */
static double busy(int64_t units, int threads) {
    return (double)units / (double)((units + threads - 1) / threads * threads);
}

static int run(const Job *job, int threads) {
    const int64_t most = blocks_of(job->N) / 2, D = job->D;
    if (most == 0) return 0; /* not one token; and malloc(0) may be NULL */
    int failed = 0;
#ifndef _OPENMP
    threads = 1;
#endif
    if (busy(job->B, threads) >= 0.8 * busy(most, threads)) { /* a sample per thread; 0.8: rounds wait for each other */
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
    float *p = malloc((size_t)(GROUP * D * threads) * sizeof(float));
    float *sums = malloc((size_t)(most * D) * sizeof(float));
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
