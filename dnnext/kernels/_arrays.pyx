"""Arrays of one kernel call: what each must be, and one sentence of error when it is not."""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer


cdef Py_buffer *take(
    Arrays *a, object array, str name, Kind kind, bint write, int ndim,
    int64_t n0=ANY, int64_t n1=ANY, int64_t n2=ANY,
) except NULL:
    """The buffer of one argument: dense, of this kind and shape (ANY fits every length); ValueError if it is not."""
    cdef Py_buffer *view = &a.views[a.n]
    cdef char given
    try:
        PyObject_GetBuffer(array, view, PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES)
    except (TypeError, ValueError, BufferError):
        raise refusal(a, array, name, kind, write, ndim, n0, n1, n2) from None
    a.n += 1
    given = letter(view)
    if kind == REAL and a.real == 0 and (given == b"d" or given == b"f"):
        a.real = given
    if not (
        allowed(a, kind, given) and fits(view, ndim, n0, n1, n2) and not (write and view.readonly)
    ):
        raise refusal(a, array, name, kind, write, ndim, n0, n1, n2)
    return view


cdef void give_back(Arrays *a) noexcept:
    """Release every buffer of the call."""
    for k in range(a.n):
        PyBuffer_Release(&a.views[k])


cdef char letter(const Py_buffer *view) noexcept:
    """b"d", b"f", b"q" (int64), b"i" (int32), or 0 for any other type."""
    cdef const char *text = view.format
    if text == NULL or text[0] == 0 or text[1] != 0:
        return 0
    if text[0] == b"d" or text[0] == b"f":
        return text[0]
    if text[0] == b"l" or text[0] == b"q" or text[0] == b"i":
        return b"q" if view.itemsize == 8 else b"i" if view.itemsize == 4 else 0
    return 0


cdef bint overlap(const Py_buffer *u, const Py_buffer *v) noexcept:
    """Whether two dense buffers share memory."""
    return <char *> u.buf < <char *> v.buf + v.len and <char *> v.buf < <char *> u.buf + u.len


cdef inline bint allowed(const Arrays *a, Kind kind, char given) noexcept:
    if kind == REAL:
        return given != 0 and given == a.real
    if kind == DOUBLE:
        return given == b"d"
    return given == b"q" or (kind == INDEX and given == b"i")


cdef inline bint fits(const Py_buffer *view, int ndim, int64_t n0, int64_t n1, int64_t n2) noexcept:
    cdef Py_ssize_t dense = view.itemsize
    cdef int k
    if (
        view.ndim != ndim
        or (ndim > 0 and n0 != ANY and view.shape[0] != n0)
        or (ndim > 1 and n1 != ANY and view.shape[1] != n1)
        or (ndim > 2 and n2 != ANY and view.shape[2] != n2)
    ):
        return False
    for k in range(ndim - 1, -1, -1):
        if view.len > 0 and view.shape[k] != 1 and view.strides[k] != dense:
            return False
        dense *= view.shape[k]
    return True


cdef object refusal(
    const Arrays *a, object array, str name, Kind kind, bint write, int ndim, int64_t n0, int64_t n1, int64_t n2
):
    """ValueError: the argument, what is allowed, what it was."""
    dtype = "float64" if kind == DOUBLE else "int64" if kind == INT64 else "int64 or int32"
    if kind == REAL:
        dtype = "float64" if a.real == b"d" else "float32" if a.real == b"f" else "float64 or float32"
    lengths = ["any" if n == ANY else str(n) for n in (n0, n1, n2)[:ndim]]
    shape = "(" + ", ".join(lengths) + ("," if ndim == 1 else "") + ")"
    try:
        facts = [str(array.dtype), f"shape {tuple(array.shape)}"]
        if not array.flags["C_CONTIGUOUS"]:
            facts.append("not in C order")
        if write and not array.flags["WRITEABLE"]:
            facts.append("read-only")
        was = ", ".join(facts)
    except (AttributeError, TypeError, KeyError):
        was = f"a {type(array).__name__}"
    kept = "writeable " if write else ""
    like = " like the other arrays of this call" if kind == REAL and a.real != 0 else ""
    return ValueError(f"{name} must be a {kept}C-ordered {dtype} array{like}, of shape {shape}, got {was}.")
