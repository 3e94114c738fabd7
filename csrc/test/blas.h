/* blas.h: naive stand-ins for BLAS and LAPACK in Fortran's convention, for one precision: `real`, NAME(x). */

static real NAME(at)(const real *a, int lda, char t, int i, int j)
{
    return t == 'N' ? a[i + (size_t)j * lda] : a[j + (size_t)i * lda];
}

static void NAME(gemm)(char *ta, char *tb, int *m, int *n, int *k, real *alpha, real *a, int *lda, real *b, int *ldb,
    real *beta, real *c, int *ldc)
{
    for (int j = 0; j < *n; j++)
        for (int i = 0; i < *m; i++) {
            real sum = 0, *place = c + i + (size_t)j * *ldc;
            for (int p = 0; p < *k; p++) sum += NAME(at)(a, *lda, *ta, i, p) * NAME(at)(b, *ldb, *tb, p, j);
            *place = *alpha * sum + (*beta == 0 ? 0 : *beta * *place);
        }
}

static void NAME(syrk)(
    char *uplo, char *t, int *n, int *k, real *alpha, real *a, int *lda, real *beta, real *c, int *ldc)
{
    if (*uplo != 'L' || *t != 'N') abort();
    for (int j = 0; j < *n; j++)
        for (int i = j; i < *n; i++) {
            real sum = 0, *place = c + i + (size_t)j * *ldc;
            for (int p = 0; p < *k; p++) sum += a[i + (size_t)p * *lda] * a[j + (size_t)p * *lda];
            *place = *alpha * sum + (*beta == 0 ? 0 : *beta * *place);
        }
}

static void NAME(trsm)(
    char *side, char *uplo, char *t, char *diag, int *m, int *n, real *alpha, real *a, int *lda, real *b, int *ldb)
{
    if (*side != 'R' || *uplo != 'L' || *t != 'T' || *diag != 'N' || *alpha != 1) abort();
    for (int j = 0; j < *n; j++)
        for (int i = 0; i < *m; i++) {
            real sum = b[i + (size_t)j * *ldb];
            for (int p = 0; p < j; p++) sum -= b[i + (size_t)p * *ldb] * a[j + (size_t)p * *lda];
            b[i + (size_t)j * *ldb] = sum / a[j + (size_t)j * *lda];
        }
}

static void NAME(potrf)(char *uplo, int *n, real *a, int *lda, int *info)
{
    if (*uplo != 'L') abort();
    *info = 0;
    for (int j = 0; j < *n; j++) {
        real d = a[j + (size_t)j * *lda];
        for (int p = 0; p < j; p++) d -= a[j + (size_t)p * *lda] * a[j + (size_t)p * *lda];
        if (!(d > 0)) {
            *info = j + 1;
            return;
        }
        d = a[j + (size_t)j * *lda] = (real)sqrt((double)d);
        for (int i = j + 1; i < *n; i++) {
            real sum = a[i + (size_t)j * *lda];
            for (int p = 0; p < j; p++) sum -= a[i + (size_t)p * *lda] * a[j + (size_t)p * *lda];
            a[i + (size_t)j * *lda] = sum / d;
        }
    }
}

static void NAME(potrs)(char *uplo, int *n, int *nrhs, real *a, int *lda, real *b, int *ldb, int *info)
{
    if (*uplo != 'L' || *nrhs != 1) abort();
    (void)ldb;
    *info = 0;
    for (int i = 0; i < *n; i++) {
        for (int p = 0; p < i; p++) b[i] -= a[i + (size_t)p * *lda] * b[p];
        b[i] /= a[i + (size_t)i * *lda];
    }
    for (int i = *n - 1; i >= 0; i--) {
        for (int p = i + 1; p < *n; p++) b[i] -= a[p + (size_t)i * *lda] * b[p];
        b[i] /= a[i + (size_t)i * *lda];
    }
}

static const dnn_blas NAME(blas) = {(dnn_function)NAME(gemm), (dnn_function)NAME(syrk), (dnn_function)NAME(trsm),
    (dnn_function)NAME(potrf), (dnn_function)NAME(potrs)};
