# Arrays of one call: taken through the buffer protocol, checked in one sentence, given back at the end.
#
# Plain Py_buffer structs instead of typed memoryviews: one text serves float64 and float32, an error names the
# argument, and a call with ten arrays is about a microsecond cheaper.
from libc.stdint cimport int64_t

cdef enum:
    MAX_ARRAYS = 40
    ANY = -1

cdef enum Kind:
    REAL      # float64 or float32, all of one call alike
    DOUBLE    # float64 always
    INT64
    INDEX     # int64 or int32

cdef struct Arrays:
    Py_buffer views[MAX_ARRAYS]
    int n
    char real          # b"d" or b"f", 0 before the first real array

cdef Py_buffer *take(
    Arrays *a, object array, str name, Kind kind, bint write, int ndim, int64_t n0=*, int64_t n1=*, int64_t n2=*
) except NULL
cdef void give_back(Arrays *a) noexcept
cdef char letter(const Py_buffer *view) noexcept
cdef bint overlap(const Py_buffer *u, const Py_buffer *v) noexcept
