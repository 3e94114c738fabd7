/* test_kernels.c: the kernels without Python, for the sanitizers. test_kernels [threads]: exit code 1 if one fails. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../dnnext.h"

static uint64_t state = 1;
static int failures = 0, checks = 0;

static double random_unit(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) / 9007199254740992.0;
}

static void check(const char *what, double mine, double want, double tolerance)
{
    checks++;
    if (fabs(mine - want) <= tolerance * (1 + fabs(want))) return;
    failures++;
    printf("%s: %.17g, but %.17g was expected\n", what, mine, want);
}

#define real double
#define NAME(x) x##_f64
#define TOLERANCE 1e-11
#include "blas.h"
#include "cases.h"
#undef real
#undef NAME
#undef TOLERANCE

#define real float
#define NAME(x) x##_f32
#define TOLERANCE 1e-3
#include "blas.h"
#include "cases.h"

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    for (int level = 0; level < DNN_LEVELS; level++) {
        const dnn_table *f64 = dnn_kernels(DNN_F64, level), *f32 = dnn_kernels(DNN_F32, level);
        if (!f64 || !f32) continue;
        test_level_f64(f64, threads);
        test_level_f32(f32, threads);
        printf("%s, %d threads: %d checks, %d failures\n", f64->level, threads, checks, failures);
    }
    return failures > 0;
}
