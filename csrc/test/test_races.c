/* test_races.c: serial kernels called by several POSIX threads at once, on shared inputs and outputs of their own, for
 * the thread sanitizer; compiled without OpenMP, whose runtime it cannot see through. All must get equal bits. */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../dnnext.h"

#define real double
#define NAME(x) x##_f64
#include "blas.h"

enum { THREADS = 4, AGENTS = 3, ROWS = 900, D = 6, H = 9, Q = 2, P = D * H + H + H * Q + Q };

static double w[AGENTS * P], x[AGENTS * ROWS * D], target[AGENTS * ROWS * Q], ones[P], tau[AGENTS], none[1];
static const int64_t layers[3] = {D, H, Q}, offsets[AGENTS + 1] = {0, ROWS, 2 * ROWS, 3 * ROWS}, blocks[2] = {0, P};
static const int64_t indptr[AGENTS + 1] = {0, 2, 4, 6}, indices[6] = {0, 1, 1, 2, 0, 2};
static const double half[6] = {.5, .5, .5, .5, .5, .5};

typedef struct {
    double value[AGENTS], grad[AGENTS * P], curvature[AGENTS * P * P], solution[AGENTS * P], mixed[AGENTS * P];
    double proxed[AGENTS * P], descended[AGENTS * P];
    int64_t status[AGENTS], done[AGENTS];
} results;

static void *run(void *place)
{
    results *r = place;
    for (int level = 0; level < DNN_LEVELS; level++) {
        const dnn_table *t = dnn_kernels(DNN_F64, level);
        if (!t) continue;
        dnn_mlp mlp = {AGENTS, P, offsets, layers, 2, DNN_TANH, P, w, x, &blas_f64};
        dnn_root root = {target, Q, 1};
        dnn_penalty penalty = {ones, ones, blocks, none, 1};
        dnn_csr csr = {AGENTS, indptr, indices, NULL, NULL, half};
        void *work = aligned_alloc(64, t->mlp_work(&mlp, &root, 1) + t->descent_work(blocks, 1, 1));
        t->mlp_loss_grad(r->value, r->grad, &mlp, target, NULL, DNN_SQUARED_ERROR, 0, 1e-3, 1, work);
        t->mlp_gauss_newton(r->curvature, &mlp, &root, blocks, 1, 1, work);
        memset(r->descended, 0, sizeof r->descended);
        t->descent_solve(
            r->descended, r->done, r->curvature, tau, w, r->grad, &penalty, AGENTS, blocks, 1, 3, 0, 1, work);
        for (int i = 0; i < AGENTS; i++) memcpy(r->mixed + i * P, ones, sizeof ones);
        t->spd_solve(r->solution, r->status, r->curvature, r->mixed, r->grad, AGENTS, blocks, 1, &blas_f64, 1);
        t->penalty_prox(r->proxed, w, tau, &penalty, AGENTS, P, 1);
        t->csr_mix(r->mixed, w, &csr, r->proxed, 1, 0.5, 0.25, P, 1);
        free(work);
    }
    return NULL;
}

int main(void)
{
    static results all[THREADS];
    pthread_t threads[THREADS];
    for (int k = 0; k < AGENTS * P; k++) w[k] = sin(k);
    for (int k = 0; k < AGENTS * ROWS * D; k++) x[k] = cos(3 * k);
    for (int k = 0; k < AGENTS * ROWS * Q; k++) target[k] = sin(5 * k);
    for (int k = 0; k < P; k++) ones[k] = 1;
    for (int i = 0; i < AGENTS; i++) tau[i] = 1;
    for (int t = 0; t < THREADS; t++)
        if (pthread_create(&threads[t], NULL, run, &all[t])) return 2;
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    for (int t = 1; t < THREADS; t++)
        if (memcmp(&all[t], &all[0], sizeof all[0])) {
            printf("thread %d computed other bits\n", t);
            return 1;
        }
    printf("%d threads, equal bits\n", THREADS);
    return 0;
}
