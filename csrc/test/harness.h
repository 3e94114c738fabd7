/* harness.h: what the programs of this folder share: numbers, checks, and the cases of both precisions. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../dnnext.h"

#pragma GCC diagnostic ignored "-Wunused-function" /* no program takes all that is here */

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
#include "every.h"
#include "strips.h"
#ifdef FUZZ
#include "fuzz.h"
#endif
#undef real
#undef NAME
#undef TOLERANCE

#define real float
#define NAME(x) x##_f32
#define TOLERANCE 1e-3
#include "blas.h"
#include "cases.h"
#include "every.h"
#include "strips.h"
#ifdef FUZZ
#include "fuzz.h"
#endif
#undef real
#undef NAME
#undef TOLERANCE
