/* test_races.c: serial kernels called by several POSIX threads at once, on shared inputs and outputs of their own, for
 * the thread sanitizer; compiled without OpenMP, whose runtime it cannot see through. All must get equal bits. */
#include <pthread.h>

#include "harness.h"

enum { THREADS = 4 };

static inputs_f64 *in_f64[2];
static inputs_f32 *in_f32[2];

static void *run(void *place)
{
    uint64_t *sum = place;
    for (int level = 0; level < DNN_LEVELS; level++)
        for (int k = 0; k < 2; k++) {
            const dnn_table *f64 = dnn_kernels(DNN_F64, level), *f32 = dnn_kernels(DNN_F32, level);
            if (f64) *sum = *sum * 31 + run_every_f64(f64, in_f64[k], 1, 0);
            if (f32) *sum = *sum * 31 + run_every_f32(f32, in_f32[k], 1, 0);
        }
    return NULL;
}

int main(void)
{
    static const int64_t layers[2][4] = {{6, 9, 2}, {4, 5, 6, 3}}, shares[2][3] = {{900, 900, 900}, {70, 0, 9}};
    uint64_t sums[THREADS] = {0};
    pthread_t threads[THREADS];
    for (int k = 0; k < 2; k++) {
        in_f64[k] = make_inputs_f64(make_net_f64(layers[k], 2 + k, shares[k], 3, DNN_TANH), 2 * k, DNN_SOFTMAX);
        in_f32[k] = make_inputs_f32(make_net_f32(layers[k], 2 + k, shares[k], 3, DNN_RELU), 2 * k, DNN_HUBER);
    }
    for (int t = 0; t < THREADS; t++)
        if (pthread_create(&threads[t], NULL, run, &sums[t])) return 2;
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    for (int k = 0; k < 2; k++) free_inputs_f64(in_f64[k]), free_inputs_f32(in_f32[k]);
    for (int t = 1; t < THREADS; t++)
        if (sums[t] != sums[0]) {
            printf("thread %d computed other bits\n", t);
            return 1;
        }
    printf("%d threads, equal bits\n", THREADS);
    return 0;
}
