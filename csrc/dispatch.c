/* dispatch.c: which tables exist, and checks of integer arguments; compiled once. */
#include "dnnext.h"
#ifdef _OPENMP
#include <omp.h>
#endif

extern const dnn_table dnn_f64_baseline, dnn_f32_baseline;
#ifdef DNN_X86_LEVELS
extern const dnn_table dnn_f64_v3, dnn_f32_v3, dnn_f64_v4, dnn_f32_v4;

static int supported(int level)
{
    __builtin_cpu_init();
    int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    if (level == DNN_V3) return v3;
    return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
           && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
           && __builtin_cpu_supports("avx512cd");
}
#endif

const dnn_table *dnn_kernels(int precision, int level)
{
    if (level == DNN_BASELINE) return precision == DNN_F64 ? &dnn_f64_baseline : &dnn_f32_baseline;
#ifdef DNN_X86_LEVELS
    if (level == DNN_V3 && supported(level)) return precision == DNN_F64 ? &dnn_f64_v3 : &dnn_f32_v3;
    if (level == DNN_V4 && supported(level)) return precision == DNN_F64 ? &dnn_f64_v4 : &dnn_f32_v4;
#endif
    return NULL;
}

int dnn_has_openmp(void)
{
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

int dnn_max_threads(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

const char *dnn_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

int64_t dnn_check_cuts(const int64_t *cuts, int64_t n, int64_t end)
{
    if (n < 1 || cuts[0] != 0) return 0;
    for (int64_t k = 1; k < n; k++)
        if (cuts[k] < cuts[k - 1]) return k;
    return cuts[n - 1] == end ? -1 : n - 1;
}

int64_t dnn_check_groups(const int64_t *groups, int64_t n, int64_t params)
{
    int64_t end = 0;
    for (int64_t g = 0; g < n; g++) {
        if (groups[2 * g] < end || groups[2 * g + 1] <= groups[2 * g] || groups[2 * g + 1] > params) return g;
        end = groups[2 * g + 1];
    }
    return -1;
}

int64_t dnn_check_nested(const int64_t *groups, int64_t n, const int64_t *blocks, int64_t n_blocks)
{
    int64_t b = 0;
    for (int64_t g = 0; g < n; g++) {
        while (b < n_blocks && blocks[b + 1] <= groups[2 * g]) b++;
        if (b == n_blocks || groups[2 * g + 1] > blocks[b + 1]) return g;
    }
    return -1;
}

int64_t dnn_check_csr(const dnn_csr *csr, int64_t n_columns, int64_t n_stored)
{
    int64_t before = 0, stop = 0;
    for (int64_t i = 0; i <= csr->n_rows; i++) {
        stop = csr->indptr64 ? csr->indptr64[i] : csr->indptr32[i];
        if (stop < before || stop > n_stored || (i == 0 && stop != 0)) return i;
        before = stop;
    }
    uint64_t most = 0; /* of the columns; negative ones are the largest */
    if (csr->indices64)
        for (int64_t k = 0; k < stop; k++)
            most = (uint64_t)csr->indices64[k] > most ? (uint64_t)csr->indices64[k] : most;
    else
        for (int64_t k = 0; k < stop; k++)
            most = (uint64_t)csr->indices32[k] > most ? (uint64_t)csr->indices32[k] : most;
    for (int64_t k = 0; k < stop && most >= (uint64_t)n_columns; k++) {
        int64_t column = csr->indices64 ? csr->indices64[k] : csr->indices32[k];
        if (column < 0 || column >= n_columns) return csr->n_rows + 1 + k;
    }
    return -1;
}

int64_t dnn_packed_size(const int64_t *blocks, int64_t n_blocks)
{
    int64_t total = 0;
    for (int64_t b = 0; b < n_blocks; b++) total += (blocks[b + 1] - blocks[b]) * (blocks[b + 1] - blocks[b]);
    return total;
}

/* Numbers behind a layer in shape, or 0 if it does not fit its own input. */
static int shape_behind(const dnn_layer *l, int64_t shape[3])
{
    const int64_t most = 1 << 20, before[2] = {l->height, l->width};
    shape[0] = l->filters;
    for (int i = 0; i < 2; i++) {
        if (l->size[i] < 1 || l->stride[i] < 1 || l->dilation[i] < 1 || l->padding[i] < 0 || before[i] < 1) return 0;
        if (l->size[i] > most || l->stride[i] > most || l->dilation[i] > most || l->padding[i] > most) return 0;
        if (before[i] > most) return 0;
        if (l->kind != DNN_CONV && (l->padding[i] != 0 || l->dilation[i] != 1)) return 0;
        int64_t reach = l->dilation[i] * (l->size[i] - 1) + 1, extent = before[i] + 2 * l->padding[i];
        if (reach > extent) return 0;
        shape[i + 1] = (extent - reach) / l->stride[i] + 1;
    }
    int keeps = l->kind == DNN_AVERAGE || l->kind == DNN_MAX || l->kind == DNN_ADD;
    if (l->filters < 1 || l->channels < 1 || l->channels > INT32_MAX || l->filters > INT32_MAX) return 0;
    if (keeps && l->filters != l->channels) return 0;
    if (l->kind == DNN_DENSE || l->kind == DNN_ADD)
        for (int i = 0; i < 2; i++)
            if (l->size[i] != 1 || l->stride[i] != 1) return 0;
    return l->kind != DNN_DENSE || (l->height == 1 && l->width == 1);
}

int64_t dnn_check_layers(const dnn_layer *layers, int64_t n, int64_t *params)
{
    int64_t sizes[DNN_MAX_LAYERS + 1], shape[3] = {0, 0, 0};
    *params = 0;
    if (n < 1 || n > DNN_MAX_LAYERS) return 0;
    for (int64_t k = 0; k < n; k++) {
        const dnn_layer *l = layers + k;
        int64_t behind[3];
        if (l->kind < 0 || l->kind >= DNN_LAYER_KINDS || l->activation < 0 || l->activation > DNN_SOFTPLUS) return k;
        if (!shape_behind(l, behind)) return k;
        double before = (double)l->channels * (double)l->height * (double)l->width;
        double after = (double)behind[0] * (double)behind[1] * (double)behind[2];
        double area = (double)(l->channels) * (double)l->size[0] * (double)l->size[1];
        if (before > INT32_MAX || after > INT32_MAX || area > INT32_MAX) return k;
        if (k == 0) sizes[0] = (int64_t)before;
        if ((int64_t)before != sizes[k]) return k;
        int whole = l->channels == shape[0] && l->height == shape[1] && l->width == shape[2];
        if (k && !whole && l->kind != DNN_DENSE && l->kind != DNN_ADD) return k;
        sizes[k + 1] = (int64_t)after;
        for (int i = 0; i < 3; i++) shape[i] = behind[i];
        if (l->kind == DNN_ADD && (l->from < 0 || l->from > k || sizes[l->from] != sizes[k])) return k;
        if (l->kind != DNN_DENSE && l->kind != DNN_CONV) continue;
        if ((area + 1) * (double)l->filters + (double)*params > INT32_MAX) return k;
        *params += ((int64_t)area + 1) * l->filters;
    }
    return -1;
}
