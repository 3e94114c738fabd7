#define DNN_DOUBLE 1
#define DNN_LEVEL 2
#define DNN_NAME dnn_f64_v4
#include "../kernels.c"
