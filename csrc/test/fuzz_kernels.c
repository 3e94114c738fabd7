/* fuzz_kernels.c: kernels on shapes, numbers and levels that bytes choose. With clang's -fsanitize=fuzzer the bytes are
 * libFuzzer's; otherwise (-DSEEDED) fuzz_kernels [cases [seed]] draws them. A wrong number or a refused check aborts. */
#include <stdint.h>
#include <stddef.h>

static const uint8_t *bytes;
static size_t left;

/* 0 .. most - 1 from the next byte; 0 when they are used up. */
static int take(int most)
{
    if (left == 0) return 0;
    left--;
    return *bytes++ % most;
}

#define FUZZ
#include "harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int64_t number(void) { return take(8) ? take(20) - 2 : take(2) ? INT64_MAX : INT64_MIN; }

/* What a check of integer arguments lets through must lie inside. */
static void fuzz_checks(void)
{
    int64_t n = 1 + take(6), cuts[8], groups[12], indptr[8], indices[16], end = take(20), stored = take(16);
    int64_t columns = take(6);
    for (int k = 0; k < 8; k++) cuts[k] = number(), indptr[k] = number();
    for (int k = 0; k < 12; k++) groups[k] = number();
    for (int k = 0; k < 16; k++) indices[k] = number();
    if (dnn_check_cuts(cuts, n, end) == -1) {
        for (int64_t k = 0; k < n; k++)
            if (cuts[k] < 0 || cuts[k] > end) abort();
        if (dnn_packed_size(cuts, n - 1) > end * end) abort();
    }
    if (dnn_check_groups(groups, n, end) == -1)
        for (int64_t k = 0; k < 2 * n; k++)
            if (groups[k] < 0 || groups[k] > end) abort();
    dnn_csr csr = {n, indptr, indices, NULL, NULL, NULL};
    if (dnn_check_csr(&csr, columns, stored) == -1)
        for (int64_t i = 0; i < n; i++)
            for (int64_t k = indptr[i]; k < indptr[i + 1]; k++)
                if (k < 0 || k >= stored || indices[k] < 0 || indices[k] >= columns) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bytes = data, left = size, state = 1 + (uint64_t)take(256);
    int level = take(DNN_LEVELS), precision = take(2);
    const dnn_table *t = dnn_kernels(precision, level);
    fuzz_checks();
    if (t && precision == DNN_F64) fuzz_case_f64(t);
    if (t && precision == DNN_F32) fuzz_case_f32(t);
    if (failures) abort();
    return 0;
}

#ifdef SEEDED
int main(int argc, char **argv)
{
    uint64_t cases = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000, seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    uint8_t drawn[160];
    for (uint64_t k = 0; k < cases; k++) {
        uint64_t s = seed * 1000003 + k;
        for (size_t i = 0; i < sizeof drawn; i++) {
            s = s * 6364136223846793005u + 1442695040888963407u;
            drawn[i] = (uint8_t)(s >> 56);
        }
        LLVMFuzzerTestOneInput(drawn, sizeof drawn);
    }
    printf("%llu cases, %d checks\n", (unsigned long long)cases, checks);
    return 0;
}
#endif
