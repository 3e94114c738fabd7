/* test_kernels.c: the kernels without Python, for the sanitizers. test_kernels [threads]: exit code 1 if one fails. */
#include "harness.h"

/* One iteration by its parts and as one call: the same bits. */
static void test_iterations(const dnn_table *f64, const dnn_table *f32, int threads)
{
    static const int64_t layers[3][4] = {{7, 5}, {6, 9, 2}, {3, 40, 30, 3}},
                         shares[3][3] = {{1, 0, 5}, {900, 3, 8}, {9, 9, 9}};
    for (int k = 0; k < 3; k++) {
        inputs_f64 *in64 = make_inputs_f64(make_net_f64(layers[k], 1 + k, shares[k], 3, DNN_TANH), k, DNN_HUBER);
        inputs_f32 *in32 = make_inputs_f32(make_net_f32(layers[k], 1 + k, shares[k], 3, DNN_TANH), k, DNN_HUBER);
        run_every_f64(f64, in64, threads, 1);
        run_every_f32(f32, in32, threads, 1);
        free_inputs_f64(in64), free_inputs_f32(in32);
    }
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    for (int level = 0; level < DNN_LEVELS; level++) {
        const dnn_table *f64 = dnn_kernels(DNN_F64, level), *f32 = dnn_kernels(DNN_F32, level);
        if (!f64 || !f32) continue;
        test_level_f64(f64, threads);
        test_level_f32(f32, threads);
        test_iterations(f64, f32, threads);
        test_wide_f64(f64, threads);
        test_wide_f32(f32, threads);
        printf("%s, %d threads: %d checks, %d failures\n", f64->level, threads, checks, failures);
    }
    return failures > 0;
}
